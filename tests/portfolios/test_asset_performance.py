"""How a portfolio did with one of its assets: by its own trades and income."""

from datetime import date
from decimal import Decimal

import pytest
from django.urls import reverse

from apps.portfolios.domain.xirr import Rate
from apps.portfolios.services import ledger_now
from apps.portfolios.valuing import performance_of, performance_of_asset
from tests.api.asking import URL
from tests.builders import make_owner
from tests.portfolios.making import noon
from tests.portfolios.rows import bought, close, columns, make_asset, make_portfolio, record, sold
from tests.site.portfolio_pages import figures, opened

pytestmark = pytest.mark.django_db
DAYS = {"since": date(2024, 1, 2), "until": date(2024, 1, 5), "now": noon("2024-02-01")}


@pytest.fixture
def ada():
    return make_owner()


def priced(asset, *prices):
    for number, price in enumerate(prices):
        close(asset, f"2024-01-0{number + 2}", price)
    return asset


def of(portfolio, asset, **days):
    return performance_of_asset(portfolio, ledger_now(portfolio), asset.pk, **DAYS | days)


def rates(found):
    return [one.rate for one in found.returns]


def test_of_the_only_asset_it_is_that_of_a_portfolio_without_cash(ada):
    acme = priced(make_asset(), "100", "110", "99", "101")
    savings = make_portfolio(ada)
    dividend = columns("2024-01-04", "dividend", asset=acme, amount="7", tax="1", currency="EUR")
    record(savings, bought(acme, fee="10"), dividend, sold(acme, "2024-01-05", "4", "404", fee="3", tax="2"))
    found = of(savings, acme)
    assert found == performance_of(savings, **DAYS)
    assert [(one.inflow, one.outflow) for one in found.days] == [(1010, 0), (0, 0), (0, 6), (0, 399)]


@pytest.mark.parametrize("tracks_cash", [True, False])
def test_each_asset_has_its_own_flows_whether_cash_is_tracked_or_not(ada, tracks_cash):
    acme, bolt = priced(make_asset(), "100", "110", "99", "101"), priced(make_asset("BOLT"), "10", "20", "20", "20.2")
    savings = make_portfolio(ada, tracks_cash=tracks_cash)
    record(savings, bought(acme), bought(bolt, "2024-01-03", "5", "100"), sold(acme, "2024-01-04", "10", "990"))
    assert rates(of(savings, acme)) == [0, Decimal("0.1"), Decimal("-0.1"), 0]
    found = of(savings, bolt)
    # It begins with its first purchase.
    assert (found.begins, rates(found)) == (date(2024, 1, 3), [0, 0, Decimal("0.01")])
    assert found.flows == [(date(2024, 1, 3), -100), (date(2024, 1, 5), 101)]
    assert isinstance(found.xirr, Rate)
    assert float(1 + found.xirr.rate) == pytest.approx(1.01 ** (365 / 2))


def test_a_tax_that_comes_after_the_sale_takes_no_return_away(ada):
    """At the beginning of its day nothing is held."""
    acme = priced(make_asset(), "100", "110", "110", "110")
    savings = make_portfolio(ada)
    late = columns("2024-01-05", "tax", asset=acme, amount="15", currency="EUR")
    record(savings, bought(acme), sold(acme, "2024-01-03", "10", "1100"), late)
    found = of(savings, acme)
    assert (found.twr, rates(found)[-1]) == (Decimal("0.1"), 0)
    assert found.flows == [(date(2024, 1, 2), -1000), (date(2024, 1, 3), 1100), (date(2024, 1, 5), -15)]


def test_a_fee_in_a_coin_comes_out_of_the_coin(ada):
    acme, coin = priced(make_asset(), "100", "100", "100", "100"), priced(make_asset("COIN"), "1", "1", "1", "1")
    savings = make_portfolio(ada)
    paid = {"fee": "2", "fee_asset": coin, "fee_quantity": "2"}
    record(savings, bought(coin, quantity="10", amount="10"), bought(acme, "2024-01-03", "1", "100", **paid))
    assert [(one.inflow, one.outflow) for one in of(savings, coin).days[:2]] == [(10, 0), (0, 2)]
    assert of(savings, acme).days[0].inflow == 102
    assert of(savings, coin).twr == 0


def test_what_an_event_moves_is_worth_what_its_price_of_the_day_says(ada):
    acme, bolt = priced(make_asset(), "100", "80", "88"), priced(make_asset("BOLT"), "9", "10", "11")
    savings = make_portfolio(ada)
    event = {"asset": acme, "to_asset": bolt, "numerator": 2, "denominator": 1, "cost_share": "0.2"}
    record(savings, bought(acme), columns("2024-01-03", "event", event="spin_off", **event))
    # 20 of 10 each came out of it: 800 + 200 is what it was before.
    assert rates(of(savings, acme))[:3] == [0, 0, Decimal("0.1")]
    assert rates(of(savings, bolt))[:2] == [0, Decimal("0.1")]
    assert of(savings, bolt).days[0].inflow == 200


def test_a_merger_takes_one_asset_away_and_brings_another(ada):
    acme, bolt = priced(make_asset(), "100", "110", "120"), priced(make_asset("BOLT"), "50", "55", "66")
    savings = make_portfolio(ada)
    event = {"asset": acme, "to_asset": bolt, "numerator": 2, "denominator": 1}
    record(savings, bought(acme), columns("2024-01-03", "event", event="merger", **event))
    assert (of(savings, acme).twr, of(savings, bolt).twr) == (Decimal("0.1"), Decimal("0.2"))


def test_an_event_whose_price_is_not_known_leaves_no_return(ada):
    acme, bolt = priced(make_asset(), "100", "80"), make_asset("BOLT")
    savings = make_portfolio(ada)
    event = {"asset": acme, "to_asset": bolt, "numerator": 2, "denominator": 1, "cost_share": "0.2"}
    record(savings, bought(acme), columns("2024-01-03", "event", event="spin_off", **event))
    found = of(savings, acme)
    assert (found.twr, found.unknown, found.unknown_day, found.xirr) == (None, "unknown_value", date(2024, 1, 3), None)


def test_a_transfer_comes_in_and_goes_out_at_its_price(ada):
    acme = priced(make_asset(), "100", "110", "99", "101")
    savings, other = make_portfolio(ada), make_portfolio(ada, "Other")
    moved = columns("2024-01-04", "transfer", asset=acme, quantity="5", to_portfolio=other, fee="1", currency="EUR")
    record(savings, bought(acme), moved)
    # At the last close before noon of that day.
    assert of(savings, acme).days[2].outflow == 5 * 110 - 1
    assert of(other, acme).days[0].inflow == 5 * 110


def test_the_page_and_its_parts_are_of_the_asset(client, ada):
    client.force_login(ada)
    acme, bolt = priced(make_asset(), "100", "110", "99", "101"), priced(make_asset("BOLT"), "10", "20", "20", "30")
    savings = make_portfolio(ada)
    record(savings, bought(acme), bought(bolt, "2024-01-03", "5", "100"))
    holding = client.get(reverse("holding", args=[savings.pk, bolt.pk])).text
    address = f"{reverse('performance', args=[savings.pk])}?asset={bolt.pk}"
    assert f'href="{address}"' in holding
    text = client.get(f"{address}&from=2024-01-02&to=2024-01-05").text
    assert "<h1>Performance of BOLT in Savings</h1>" in text
    assert figures(text)["Time-weighted return"][0] == "50 %"
    parts = opened(client, text, "Time-weighted return")
    assert "<h1>Time-weighted return of BOLT in Savings</h1>" in parts
    assert "<b>50 %</b>" in parts
    for odd in (999_999, "x", make_asset("NEVER").pk):
        assert client.get(f"{reverse('performance', args=[savings.pk])}?asset={odd}").status_code == 404


def test_by_the_api(client, ada):
    acme = priced(make_asset(), "100", "110", "99", "101")
    savings = make_portfolio(ada)
    record(savings, bought(acme), bought(priced(make_asset("BOLT"), "10", "20", "20", "30"), "2024-01-03", "5", "100"))
    make_asset("NEVER")

    def asked(name, user=ada):
        client.force_login(user)
        query = f"""{{ performance(portfolio: "{savings.public_id}", asset: "{name}", since: "2024-01-02",
            until: "2024-01-05") {{ begins timeWeighted flows {{ day inflow outflow }} }} }}"""
        return client.post(URL, {"query": query}, content_type="application/json").json()["data"]["performance"]

    flows = [{"day": "2024-01-03", "inflow": "100", "outflow": "0"}]
    assert asked("BOLT") == {"begins": "2024-01-03", "timeWeighted": "0.5", "flows": flows}
    assert asked("NEVER") is asked("NOTHING") is None
    assert asked("BOLT", make_owner("eve")) is None
