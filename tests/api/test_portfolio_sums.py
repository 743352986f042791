"""The transactions of which the sums of portfolios are made, by GraphQL."""

import pytest

from tests.api.asking import codes
from tests.builders import make_owner
from tests.portfolios.making import noon
from tests.portfolios.rows import bought, close, columns, make_asset, make_portfolio, record, sold

pytestmark = pytest.mark.django_db
PARTS = """query ($id: UUID!, $of: PortfolioSum!, $asset: AssetId, $newer: Skip) {
    sumParts(portfolio: $id, of: $of, asset: $asset, newer: $newer) { total totalAfterCosts older parts {
        at base amount currency fees gainAfterCosts quantity boughtAt cost costCurrency baseCost pricePart currencyPart
        rate { rate legs { symbol price isInverse } } transaction { kind asset { symbol } } } } }"""


@pytest.fixture
def savings():
    """Purchases and sales in dollars, of which a euro costs 1.25, and a transfer."""
    ada = make_owner()
    euro, acme = make_asset("EUR-USD", "USD", base_currency="EUR"), make_asset("ACME", "USD")
    close(euro, "2024-01-01", "1.25")
    close(acme, "2024-01-31", "200", at=noon("2024-01-31"))
    portfolio, other = make_portfolio(ada), make_portfolio(ada, "Other")
    record(
        portfolio,
        bought(acme, currency="USD", fee="10"),
        bought(make_asset("BOLT")),
        sold(acme, currency="USD", rate="0.5", fee="4", fee_currency="EUR"),
        columns("2024-02-02", "transfer", asset=acme, quantity="2", to_portfolio=other),
    )
    return portfolio


def parts_of(ask, portfolio, of, user=None, **variables):
    given = {"id": str(portfolio.public_id), "of": of} | variables
    return ask(PARTS, given, user=user or portfolio.owner).json()["data"]["sumParts"]


def test_sales_open_into_lots_costs_and_exchange_rates(ask, savings):
    found = parts_of(ask, savings, "REALISED")
    assert (found["total"], found["totalAfterCosts"], found["older"]) == ("-70", "-77.2", 0)
    assert found["parts"] == [
        {
            **{"at": "2024-02-01T12:00:00Z", "base": "-70", "amount": "500", "currency": "USD", "fees": "7.2"},
            **{"gainAfterCosts": "-77.2", "quantity": "4", "boughtAt": "2024-01-02T12:00:00Z", "cost": "400"},
            **{"costCurrency": "USD", "baseCost": "320", "pricePart": "50", "currencyPart": "-120"},
            "rate": {"rate": "0.5", "legs": []},
            "transaction": {"kind": "SELL", "asset": {"symbol": "ACME"}},
        }
    ]


def test_fees_and_flows_open_into_their_transactions(ask, savings):
    found = parts_of(ask, savings, "FEES")
    legs = [{"symbol": "EUR-USD", "price": "1.25", "isInverse": True}]
    assert [(one["base"], one["amount"], one["currency"], one["rate"]) for one in found["parts"]] == [
        ("4", "4", "EUR", {"rate": "1", "legs": []}),
        ("8", "10", "USD", {"rate": "0.8", "legs": legs}),
    ]
    found = parts_of(ask, savings, "FLOWS")
    kinds = {(one["transaction"]["kind"], one["base"]) for one in found["parts"]}
    assert kinds == {("TRANSFER", "-320"), ("SELL", "-246"), ("BUY", "808"), ("BUY", "1000")}
    assert found["total"] == "1242"


def test_parts_of_one_asset_and_further_pages(ask, savings):
    assert parts_of(ask, savings, "REALISED", asset="BOLT")["parts"] == []
    assert parts_of(ask, savings, "REALISED", asset="NONE") is None
    assert [one["base"] for one in parts_of(ask, savings, "FEES", newer=1)["parts"]] == ["8"]
    assert parts_of(ask, savings, "FEES", newer=9)["parts"] == []
    refused = ask(PARTS, {"id": str(savings.public_id), "of": "FEES", "newer": -1}, user=savings.owner)
    assert codes(refused) == ["BAD_USER_INPUT"]


def test_parts_are_the_owners_and_five_in_a_request(ask, savings):
    assert parts_of(ask, savings, "FEES", user=make_owner("eve")) is None
    one = f'sumParts(portfolio: "{savings.public_id}", of: FEES) {{ total }}'
    refused = ask("{ " + " ".join(f"a{number}: {one}" for number in range(6)) + " }", user=savings.owner)
    assert codes(refused) == ["LIMIT_EXCEEDED"]


def test_a_transfer_says_by_which_price_it_was_valued(ask, savings):
    query = """{ portfolios { edges { node { name
        positions { edges { node { asset { symbol } realisedAfterCosts } } }
        transactions { edges { node { kind usedPrice { price currency at } } } } } } } }"""
    data = ask(query, user=savings.owner).json()["data"]["portfolios"]["edges"]
    [own] = [one["node"] for one in data if one["node"]["name"] == "Savings"]
    prices = {one["node"]["kind"]: one["node"]["usedPrice"] for one in own["transactions"]["edges"]}
    assert prices == {
        "TRANSFER": {"price": "200", "currency": "USD", "at": "2024-01-31T12:00:00Z"},
        **{"SELL": None, "BUY": None},
    }
    after = {one["node"]["asset"]["symbol"]: one["node"]["realisedAfterCosts"] for one in own["positions"]["edges"]}
    assert after == {"ACME": "-77.2", "BOLT": "0"}
