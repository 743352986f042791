"""Portfolios by GraphQL."""

import math
import statistics
from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils import timezone

from apps.market.models import Split
from apps.market.services.owning import create_asset
from apps.portfolios.queries import positions_of
from apps.portfolios.services import refresh
from apps.portfolios.valuing import performance_of, view_now
from tests.api.asking import NOBODYS, codes
from tests.builders import make_owner
from tests.portfolios.rows import (
    bought,
    close,
    columns,
    list_index,
    make_asset,
    make_four_days,
    make_portfolio,
    make_reais,
    make_two_rates,
    quote,
    record,
    sold,
    split_of,
)

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


PARTS = """query ($portfolio: UUID!, $since: Date, $until: Date, $before: Date) {
    performance(portfolio: $portfolio, since: $since, until: $until) {
        isYear moneyWeighted moneyWeightedRoots moneyWeightedYearly moneyWeightedRates moneyWeightedUnknown
        dayReturns(before: $before) { older days { day before inflow outflow value rate index logReturn } }
        moneyWeightedFlows(before: $before) { older netPresentValues flows { day amount presentValues } }
        volatility { days mean daily } fall { part peakDay peak troughDay trough } } }"""


@pytest.fixture
def few_days():
    return make_four_days(make_owner())


def parts_of(ask, portfolio, **variables):
    response = ask(PARTS, {"portfolio": str(portfolio.public_id)} | variables, user=portfolio.owner)
    return response.json()["data"]["performance"]


def test_figures_of_a_period_open_into_their_parts(ask, few_days):
    found = parts_of(ask, few_days, since="2024-01-02", until="2024-01-05")
    days = found["dayReturns"]["days"]
    assert found["dayReturns"]["older"] == 0
    assert [[one[name] for name in ("day", "before", "inflow", "outflow", "value")] for one in days] == [
        ["2024-01-02", "0", "1000", "0", "1000"],
        ["2024-01-03", "1000", "0", "0", "1100"],
        ["2024-01-04", "1100", "0", "0", "990"],
        ["2024-01-05", "990", "0", "404", "606"],
    ]
    assert [(one["rate"], one["index"]) for one in days[:3]] == [("0", "1"), ("0.1", "1.1"), ("-0.1", "0.99")]
    logs = [one["logReturn"] for one in days]
    assert logs == pytest.approx([0, math.log(1.1), math.log(0.9), math.log(101 / 99)])
    assert found["volatility"] == {
        "days": 4,
        "mean": pytest.approx(sum(logs) / 4),
        "daily": pytest.approx(statistics.stdev(logs)),
    }
    fall = {"part": "0.1", "peakDay": "2024-01-03", "peak": "1.1", "troughDay": "2024-01-04", "trough": "0.99"}
    assert found["fall"] == fall
    flows = found["moneyWeightedFlows"]
    assert [(one["day"], one["amount"]) for one in flows["flows"]] == [("2024-01-02", "-1000"), ("2024-01-05", "1010")]
    assert (flows["older"], flows["netPresentValues"]) == (0, ["0"])
    assert [one["presentValues"] for one in flows["flows"]] == [["-1000"], ["1000"]]


def test_the_money_weighted_return_of_less_than_a_year_is_that_of_the_period(ask, few_days):
    found = parts_of(ask, few_days, since="2024-01-02", until="2024-01-05")
    assert (found["isYear"], found["moneyWeightedUnknown"]) == (False, "")
    # The period has 4 days, its flows are 3 apart.
    assert float(found["moneyWeighted"]) == pytest.approx(1.01 ** (4 / 3) - 1, abs=1e-11)
    assert float(found["moneyWeightedYearly"]) == pytest.approx(1.01 ** (365 / 3) - 1, abs=1e-11)
    year = parts_of(ask, few_days, since="2024-01-02", until="2025-01-05")
    assert year["isYear"]
    assert year["moneyWeighted"] == year["moneyWeightedYearly"]


@pytest.mark.parametrize(("apart", "roots"), [(365, [0.25, 4.0]), (73, [1.25 ** (147 / 73) - 1, 5 ** (147 / 73) - 1])])
def test_several_rates_are_of_the_period_where_it_is_under_a_year(ask, apart, roots):
    portfolio, days = make_two_rates(make_owner(), apart=apart)
    found = parts_of(ask, portfolio, since=days[0], until=days[2])
    assert (found["moneyWeighted"], found["moneyWeightedUnknown"]) == (None, "not_unique")
    yearly = [1.25 ** (365 / apart) - 1, 5 ** (365 / apart) - 1]
    for name, right in (("moneyWeightedRoots", roots), ("moneyWeightedRates", yearly)):
        assert [round(float(one), 8) for one in found[name]] == [round(one, 8) for one in right]
    assert all(abs(float(one)) < 1e-6 for one in found["moneyWeightedFlows"]["netPresentValues"])
    assert {len(one["presentValues"]) for one in found["moneyWeightedFlows"]["flows"]} == {2}


def test_parts_by_day_come_a_year_at_a_time(ask, few_days):
    first = parts_of(ask, few_days, since="2024-01-02", until="2025-03-01")["dayReturns"]
    second = parts_of(ask, few_days, since="2024-01-02", until="2025-03-01", before=first["days"][0]["day"])[
        "dayReturns"
    ]
    shown = [one["day"] for one in (*second["days"], *first["days"])]
    assert (len(first["days"]), first["older"], second["older"]) == (366, len(second["days"]), 0)
    assert shown == [str(date(2024, 1, 2) + timedelta(days=number)) for number in range(425)]


def test_a_performance_beside_an_asset_says_by_which_prices(ask, few_days):
    euro, index = make_asset("EUR-USD", "USD", base_currency="EUR"), make_asset("INDEX", "USD")
    for asset, before, after in ((euro, "1", "1.25"), (index, "100", "150")):
        close(asset, "2024-01-01", before)
        close(asset, "2024-01-05", after)
    query = """query ($portfolio: UUID!, $asset: AssetId!) {
        performance(portfolio: $portfolio, since: "2024-01-02", until: "2024-01-05") { benchmark(asset: $asset) {
            asset { symbol } returned first { ...worth } last { ...worth } } } }
        fragment worth on AssetWorth { at price pricedAt value rate { rate legs { symbol price isInverse } } }"""
    given = {"portfolio": str(few_days.public_id), "asset": "INDEX"}
    found = ask(query, given, user=few_days.owner).json()["data"]["performance"]["benchmark"]
    legs = [{"symbol": "EUR-USD", "price": "1.25", "isInverse": True}]
    assert (found["asset"], found["returned"]) == ({"symbol": "INDEX"}, "0.2")
    assert (found["first"]["at"], found["first"]["value"]) == ("2024-01-02T00:00:00Z", "100")
    assert found["last"] == {
        **{"at": "2024-01-06T00:00:00Z", "price": "150", "pricedAt": "2024-01-05T20:00:00Z", "value": "120"},
        "rate": {"rate": "0.8", "legs": legs},
    }
    absent = ask(query, given | {"asset": "NONE"}, user=few_days.owner).json()
    assert absent == {"data": {"performance": {"benchmark": None}}}
    # Somebody else's asset is no asset.
    create_asset(owner_id=make_owner("eve").pk, symbol="THEIRS", feed_id=None, currency="EUR")
    assert ask(query, given | {"asset": "THEIRS"}, user=few_days.owner).json() == absent
    many = " ".join(f'a{number}: benchmark(asset: "INDEX") {{ returned }}' for number in range(6))
    refused = ask(f'{{ performance(portfolio: "{few_days.public_id}") {{ {many} }} }}', user=few_days.owner)
    assert codes(refused) == ["LIMIT_EXCEEDED"]


def test_a_portfolio_in_reais_beside_the_cdi_and_after_inflation(ask):
    ada = make_owner()
    reais = make_reais(ada)
    query = """query ($portfolio: UUID!) {
        performance(portfolio: $portfolio, since: "2024-01-02", until: "2024-02-29") {
            percentOfCdi { part cdi { returned } }
            realReturn { real returned last published ipca { returned first { ...index } last { ...index } } } } }
        fragment index on IndexOnDay { day value before after elapsed total }"""

    def asked():
        return ask(query, {"portfolio": str(reais.public_id)}, user=ada).json()["data"]["performance"]

    assert asked() == {"percentOfCdi": None, "realReturn": None}
    list_index("12", ("2024-01-01", "100"), ("2024-02-29", "110"))
    list_index("433", ("2023-12-31", "100"), ("2024-01-31", "101"))
    february = {"day": "2024-01-31", "value": "101", "before": "100", "after": "101", "elapsed": 22, "total": 22}
    january = february | {"day": "2024-01-01", "value": "100", "elapsed": 0}
    ipca = {"returned": "0.01", "first": january, "last": february}
    # 1.1 / 1.01 - 1
    assert asked() == {
        "percentOfCdi": {"part": "2.1", "cdi": {"returned": "0.1"}},
        "realReturn": {
            **{"real": "0.089108910891", "returned": "0.1", "ipca": ipca},
            **{"last": "2024-01-31", "published": "2024-01-31"},
        },
    }


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
