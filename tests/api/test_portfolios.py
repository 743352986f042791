"""Portfolios by GraphQL."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from apps.market.models import Split
from apps.portfolios.queries import positions_of
from apps.portfolios.services import refresh
from apps.portfolios.valuing import performance_of, view_now
from tests.api.asking import NOBODYS, codes
from tests.builders import make_owner
from tests.portfolios.rows import bought, close, columns, make_asset, make_portfolio, quote, record, sold, split_of

pytestmark = pytest.mark.django_db


def test_a_portfolio_with_its_positions_and_transactions(ask):
    ada, acme = make_owner(), make_asset()
    savings = make_portfolio(ada, method="average", tracks_cash=True)
    split = columns("2024-03-01", "event", event="split", asset=acme, numerator=2, denominator=1)
    record(savings, bought(acme, fee="1.50"), sold(acme), split)
    query = """{ portfolios(first: 5) { edges { node {
        name owner baseCurrency method tracksCash
        positions(first: 5) { edges { node { asset { symbol } quantity cost fees realised pricePart costs income } } }
        transactions(first: 2) { edges { node { kind event at hasTime asset { symbol } quantity amount fee numerator } }
            pageInfo { hasNextPage } }
    } } } }"""
    [edge] = ask(query, user=ada).json()["data"]["portfolios"]["edges"]
    assert edge["node"] == {
        "name": "Savings",
        "owner": "ada",
        "baseCurrency": "EUR",
        "method": "AVERAGE",
        "tracksCash": True,
        "positions": {
            "edges": [
                {
                    "node": {
                        "asset": {"symbol": "ACME"},
                        **{"quantity": "12", "cost": "600", "fees": "0.9", "realised": "100", "pricePart": "100"},
                        **{"costs": "0.6", "income": "0"},
                    }
                }
            ]
        },
        "transactions": {
            "edges": [
                {
                    "node": {
                        **{"kind": "EVENT", "event": "SPLIT", "at": "2024-03-01T12:00:00Z", "hasTime": False},
                        **{"asset": {"symbol": "ACME"}, "quantity": None, "amount": None, "fee": "0", "numerator": 2},
                    }
                },
                {
                    "node": {
                        **{"kind": "SELL", "event": None, "at": "2024-02-01T12:00:00Z", "hasTime": False},
                        **{"asset": {"symbol": "ACME"}, "quantity": "4", "amount": "500", "fee": "0"},
                        "numerator": None,
                    }
                },
            ],
            "pageInfo": {"hasNextPage": True},
        },
    }


def test_a_portfolio_by_its_id(ask):
    ada = make_owner()
    savings = make_portfolio(ada)
    query = f'{{ portfolio(id: "{savings.public_id}") {{ name }} }}'
    assert ask(query, user=ada).json() == {"data": {"portfolio": {"name": "Savings"}}}
    assert ask(query, user=make_owner("eve")).json() == {"data": {"portfolio": None}}


WORTH = """{ portfolios { edges { node { worth {
    value knownValue oldestAt missing { what of day }
    cash { currency balance value rate { rate legs { symbol price isInverse at provider } } }
    parts { flows realised unrealised income fees taxes currencyOnCash } } } } } }"""
HELD = """query ($id: UUID!) { portfolio(id: $id) { positions { edges { node {
    worth { price priceAt provider rate { rate legs { symbol price isInverse at provider } } ...figures }
    lots { edges { node { at bought quantity currency cost baseCost baseFees worth { ...figures } } } } } } } } }
    fragment figures on PositionWorth { value gain pricePart currencyPart gainAfterCosts }"""
AT = datetime(2025, 1, 2, 12, tzinfo=UTC)


@pytest.fixture
def in_dollars():
    """Return Ada's portfolio in euros: 10 of an asset in dollars, bought twice, and 100 dollars; a euro costs 2."""
    ada, coin = make_owner(), make_asset("COIN", "USD")
    euro = make_asset("EURUSD", "USD", base_currency="EUR")
    quote(euro, "2", at=AT)
    quote(coin, "30", at=AT)
    savings = make_portfolio(ada, tracks_cash=True)
    record(
        savings,
        columns("2024-01-01", "deposit", amount="300", currency="USD", rate="0.5"),
        bought(coin, "2024-01-02", "6", "120", "USD", rate="0.5", fee="3"),
        bought(coin, "2024-01-03", "4", "80", "USD", rate="0.5"),
    )
    return savings


def held_in(ask, portfolio):
    """Return the one position of a portfolio."""
    response = ask(HELD, {"id": str(portfolio.public_id)}, user=portfolio.owner)
    [edge] = response.json()["data"]["portfolio"]["positions"]["edges"]
    return edge["node"]


def only(response, *path):
    """Return the one row of each of the connections on the way."""
    found = response.json()["data"]
    for name in path:
        [edge] = found[name]["edges"]
        found = edge["node"]
    return found


def test_a_portfolio_says_what_it_is_worth_and_how_that_came_about(ask, in_dollars):
    worth = only(ask(WORTH, user=in_dollars.owner), "portfolios")["worth"]
    leg = {"symbol": "EURUSD", "price": "2", "isInverse": True, "at": "2025-01-02T12:00:00Z", "provider": "kraken"}
    assert worth == {
        "value": "198.5",
        "knownValue": "198.5",
        "oldestAt": "2025-01-02T12:00:00Z",
        "missing": [],
        "cash": [
            {"currency": "USD", "balance": "97", "value": "48.5", "rate": {"rate": "0.5", "legs": [leg]}},
        ],
        "parts": {
            **{"flows": "150", "realised": "0", "unrealised": "50", "income": "0", "fees": "1.5", "taxes": "0"},
            "currencyOnCash": "0",
        },
    }
    view = view_now(in_dollars, positions_of(in_dollars))
    assert float(worth["value"]) == float(view.valuation.value)


def test_a_position_and_its_lots_say_by_which_price_and_rate(ask, in_dollars):
    held = held_in(ask, in_dollars)
    leg = {"symbol": "EURUSD", "price": "2", "isInverse": True, "at": "2025-01-02T12:00:00Z", "provider": "kraken"}
    by = {
        **{"price": "30", "priceAt": "2025-01-02T12:00:00Z", "provider": "kraken"},
        "rate": {"rate": "0.5", "legs": [leg]},
    }
    whole = {"value": "150", "gain": "50", "pricePart": "50", "currencyPart": "0", "gainAfterCosts": "48.5"}
    assert held["worth"] == by | whole
    first, second = (edge["node"] for edge in held["lots"]["edges"])
    assert first == {
        **{"at": "2024-01-02T12:00:00Z", "bought": "6", "quantity": "6", "currency": "USD", "cost": "120"},
        **{"baseCost": "60", "baseFees": "1.5"},
        "worth": {"value": "90", "gain": "30", "pricePart": "30", "currencyPart": "0", "gainAfterCosts": "28.5"},
    }
    assert (second["quantity"], second["worth"]["value"]) == ("4", "60")


def test_what_is_missing_is_named_and_figures_that_need_it_are_null(ask):
    ada = make_owner()
    savings = make_portfolio(ada)
    record(savings, bought(make_asset()))
    worth = only(ask(WORTH, user=ada), "portfolios")["worth"]
    assert (worth["value"], worth["knownValue"]) == (None, "0")
    assert worth["missing"] == [{"what": "PRICE", "of": "ACME", "day": None}]
    held = held_in(ask, savings)
    assert (held["worth"]["price"], held["worth"]["value"]) == (None, None)


def test_a_closed_position_has_no_worth_and_no_lots(ask):
    ada, acme = make_owner(), make_asset()
    savings = make_portfolio(ada)
    record(savings, bought(acme), sold(acme, quantity="10"))
    assert held_in(ask, savings) == {"worth": None, "lots": {"edges": []}}


def test_until_a_split_is_reckoned_with_nothing_is_worth_anything(ask, ada):
    acme = make_asset()
    savings = make_portfolio(ada)
    record(savings, bought(acme))
    quote(acme, "50", at=AT)
    split_of(acme, "2024-06-03", 2, 1)
    assert Split.objects.count() == 1
    worth = only(ask(WORTH, user=ada), "portfolios")["worth"]
    assert (worth["value"], worth["missing"]) == (None, [{"what": "SPLIT", "of": "", "day": None}])
    assert held_in(ask, savings)["worth"] is None
    mutation = "mutation ($id: UUID!) { recomputePortfolio(id: $id) { portfolio { worth { value } } errors { code } } }"
    answer = ask(mutation, {"id": str(savings.public_id)}, user=ada).json()["data"]["recomputePortfolio"]
    assert answer == {"portfolio": {"worth": {"value": "1000"}}, "errors": []}
    assert refresh(portfolio=savings) == []


def test_a_rate_that_was_found_is_shown_with_its_prices(ask):
    ada, coin = make_owner(), make_asset("COIN", "USD")
    close(make_asset("EURUSD", "USD", base_currency="EUR"), "2024-01-01", "2")
    record(make_portfolio(ada), bought(coin, "2024-01-02", currency="USD"))
    query = "{ portfolios { edges { node { transactions { edges { node { usedRate { rate legs { symbol price isInverse"
    found = only(ask(query + " } } } } } } } } }", user=ada), "portfolios", "transactions")["usedRate"]
    assert found == {"rate": "0.5", "legs": [{"symbol": "EURUSD", "price": "2", "isInverse": True}]}


PERFORMANCE = """query ($portfolio: UUID!, $since: Date, $until: Date) {
    performance(portfolio: $portfolio, since: $since, until: $until) {
        begins startValue days values flows { day inflow outflow } timeWeighted unknown unknownDay
        moneyWeightedYearly moneyWeightedRates moneyWeightedUnknown volatility { period yearly } drawdown } }"""


def test_the_performance_of_a_period_is_that_of_the_page(ask):
    ada, acme = make_owner(), make_asset()
    savings = make_portfolio(ada)
    record(savings, bought(acme, "2024-01-02"), sold(acme, "2024-01-05", "4", "404"))
    for day, price in (("2024-01-02", "100"), ("2024-01-03", "110"), ("2024-01-04", "99"), ("2024-01-05", "101")):
        close(acme, day, price)
    period = {"since": "2024-01-02", "until": "2024-01-05"}
    response = ask(PERFORMANCE, {"portfolio": str(savings.public_id)} | period, user=ada)
    answer = response.json()["data"]["performance"]
    days = {"since": date(2024, 1, 2), "until": date(2024, 1, 5)}
    found = performance_of(savings, **days, now=timezone.now())
    assert answer["days"] == ["2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"]
    assert answer["values"] == ["1000", "1100", "990", "606"]
    assert answer["flows"] == [
        {"day": "2024-01-02", "inflow": "1000", "outflow": "0"},
        {"day": "2024-01-05", "inflow": "0", "outflow": "404"},
    ]
    assert (answer["begins"], answer["startValue"]) == ("2024-01-02", "0")
    assert (answer["timeWeighted"], answer["drawdown"]) == ("0.01", "0.1")
    assert answer["moneyWeightedYearly"] == f"{found.xirr.rate:.12f}".rstrip("0")
    assert (answer["unknown"], answer["unknownDay"], answer["moneyWeightedUnknown"]) == ("", None, "")
    assert answer["volatility"] == {"period": found.volatility.period, "yearly": found.volatility.yearly}


def test_a_portfolio_without_days_says_so(ask):
    ada = make_owner()
    answer = ask(PERFORMANCE, {"portfolio": str(make_portfolio(ada).public_id)}, user=ada).json()["data"]["performance"]
    assert (answer["days"], answer["unknown"], answer["timeWeighted"]) == ([], "no_days", None)
    assert (answer["begins"], answer["startValue"], answer["moneyWeightedUnknown"]) == (None, None, "no_days")


@pytest.mark.parametrize("period", [{"since": "0001-01-01"}, {"until": "0001-01-01"}, {"until": "9999-12-31"}])
def test_a_period_out_of_time_is_answered(ask, period):
    ada, acme = make_owner(), make_asset()
    savings = make_portfolio(ada)
    record(savings, bought(acme, f"{timezone.now() - timedelta(days=3):%Y-%m-%d}"), now=timezone.now())
    response = ask(PERFORMANCE, {"portfolio": str(savings.public_id)} | period, user=ada)
    assert "errors" not in response.json()


def test_a_day_that_is_none_is_refused(ask):
    response = ask(PERFORMANCE, {"portfolio": NOBODYS, "since": "2024-02-30"}, user=make_owner())
    assert (response.status_code, codes(response)) == (400, ["BAD_USER_INPUT"])


def test_the_performance_of_another_owners_portfolio_is_answered_as_that_of_none(ask, in_dollars):
    eve = make_owner("eve")
    theirs, absent = (ask(PERFORMANCE, {"portfolio": one}, user=eve) for one in (str(in_dollars.public_id), NOBODYS))
    assert theirs.content == absent.content
    assert absent.json() == {"data": {"performance": None}}


def test_a_request_gives_a_few_performances_only(ask, in_dollars):
    one = f'performance(portfolio: "{in_dollars.public_id}") {{ unknown }}'
    response = ask("{ " + " ".join(f"a{number}: {one}" for number in range(6)) + " }", user=in_dollars.owner)
    assert codes(response) == ["LIMIT_EXCEEDED"]
