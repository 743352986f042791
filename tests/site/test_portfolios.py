"""The pages of portfolios outside the admin."""

import csv
import html
import io
import json
import re
from datetime import date, timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.portfolios.nights import record_night
from tests.builders import make_owner
from tests.portfolios.making import noon
from tests.portfolios.rows import (
    bought,
    close,
    columns,
    correct_closes,
    list_index,
    make_asset,
    make_portfolio,
    quote,
    record,
    sold,
    split_of,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client):
    ada = make_owner()
    client.force_login(ada)
    return ada


@pytest.fixture
def acme():
    return make_asset()


@pytest.fixture
def savings(ada):
    return make_portfolio(ada)


def page(client, name, portfolio, *more, **query):
    return client.get(reverse(name, args=[portfolio.pk, *more]), query)


def cells(text, table=0):
    """Return the rows of a table as texts."""
    found = re.findall(r"<tbody>(.*?)</tbody>", text, re.DOTALL)[table]
    rows = re.findall(r"<tr>(.*?)</tr>", found, re.DOTALL)
    return [[re.sub(r"<[^>]*>", "", one).strip() for one in re.findall(r"<td.*?</td>", row, re.DOTALL)] for row in rows]


def test_who_is_not_signed_in_is_sent_to_sign_in(client, savings):
    client.logout()
    names = (
        "portfolios",
        "portfolio",
        "performance",
        "portfolio_performance_part",
        "portfolio_nights",
        "portfolio_drift",
        "portfolio_drift_sentence",
        "portfolio_reconcile",
        "portfolio_download",
        "portfolio_as_ghostfolio",
    )
    for address in names:
        answer = client.get(reverse(address, args=[] if address == "portfolios" else [savings.pk]))
        assert (answer.status_code, answer.url.partition("?")[0]) == (302, reverse("login"))


def test_a_foreign_portfolio_and_none_get_the_same_bytes(client, ada, acme):
    theirs = make_portfolio(make_owner("eve"), "EVES")
    record(theirs, bought(acme))
    assert "EVES" not in client.get(reverse("portfolios")).text
    ways = (
        ("portfolio", []),
        ("performance", []),
        ("portfolio_performance_part", []),
        ("portfolio_nights", []),
        ("portfolio_drift", []),
        ("portfolio_drift_sentence", []),
        ("portfolio_download", []),
        ("portfolio_as_ghostfolio", []),
    )
    ways += (("holding", [acme.pk]), ("portfolio_parts", ["fees"]))
    for name, more in ways:
        foreign, missing = (client.get(reverse(name, args=[pk, *more])) for pk in (theirs.pk, theirs.pk + 1000))
        assert (foreign.status_code, foreign.content) == (404, missing.content)


def test_empty_pages_say_what_to_do(client, ada):
    assert "ask whoever runs this site for a place in the group Owner" in client.get(reverse("portfolios")).text
    savings = make_portfolio(ada)
    assert "No transactions yet." in page(client, "portfolio", savings).text
    assert "No day is known yet on which something was held" in page(client, "performance", savings).text


def test_a_portfolio_shows_what_it_holds_and_how_its_value_came_about(client, savings, acme):
    record(savings, bought(acme, fee="10"), sold(acme, fee="2"))
    quote(acme, "150", at=timezone.now() - timedelta(hours=3))
    text = page(client, "portfolio", savings).text
    assert "<dd>900 EUR</dd>" in text
    assert "<dd>oldest price 3 h old</dd>" in text
    [row] = cells(text)
    assert row == ["ACME", "6", "150 EUR", "3 h", "900", "100 % 100 %", "600", "300", "294"]
    assert cells(text, 1) == [
        ["Came in from outside, less what went there", "512"],
        ["Gain of what was sold, before costs", "100"],
        ["Gain of what is held, before costs", "300"],
        ["Income", "0"],
        ["Fees", "-12"],
        ["Taxes", "0"],
        ["Currency gain on cash", "0"],
        ["Value", "900"],
    ]


def test_each_sum_opens_into_the_transactions_that_it_is_made_of(client, savings, acme):
    dividend = columns("2024-03-01", "dividend", asset=acme, amount="7", currency="EUR", notes="of spring")
    record(savings, bought(acme, fee="10"), sold(acme, fee="2"), dividend)
    text = page(client, "portfolio", savings).text
    opened = set(re.findall(rf"/portfolios/{savings.pk}/of/(\w+)/", text))
    texts = {name: page(client, "portfolio_parts", savings, name).text for name in opened}
    assert "Nothing yet: no transaction adds to it." in texts.pop("taxes")
    found = {name: [tuple(row[:3]) for row in cells(text)] for name, text in texts.items()}
    received, purchase, sale = "dividend ACME of spring", "buy ACME", "sell ACME"
    days = {day[1]: day[0] for days in found.values() for day in days}
    assert found == {
        "flows": [(days[received], received, "-7"), (days[sale], sale, "-498"), (days[purchase], purchase, "1 010")],
        "realised": [(days[sale], sale, "100")],
        "income": [("2024-03-01", received, "7")],
        "fees": [(days[sale], sale, "2"), (days[purchase], purchase, "10")],
    }
    assert {name: re.search("<b>(.*?)</b> in all", text)[1] for name, text in texts.items()} == {
        "flows": "505 EUR",
        "realised": "100 EUR",
        "income": "7 EUR",
        "fees": "12 EUR",
    }
    assert page(client, "portfolio_parts", savings, "booked").status_code == 404


def test_what_is_missing_is_said_and_never_zero(client, savings, acme):
    other = make_asset("OTHER", "USD")
    record(savings, bought(acme), bought(other, currency="USD"))
    quote(other, "5")
    text = page(client, "portfolio", savings).text
    assert "ACME has no price yet." in text
    assert "No exchange rate leads from the currency of OTHER to the base currency." in text
    assert "The exchange rate of USD on 2024-01-02 is not known" in text
    assert "<dd>not known</dd>" in text
    assert [row[4] for row in cells(text)] == ["not known", "not known"]


def test_a_split_that_makes_a_sale_wrong_is_said(client, savings, acme):
    record(savings, bought(acme), sold(acme))
    split_of(acme, "2024-01-15", 1, 10)
    assert "Only 1 is held on 2024-02-01, so 4 cannot leave." in page(client, "portfolio", savings).text


def test_a_number_opens_into_lots_price_rates_and_transactions(client, savings):
    euro, acme = make_asset("EUR-USD", "USD", base_currency="EUR"), make_asset("ACME", "USD")
    close(euro, "2024-01-01", "1.25")
    record(savings, bought(acme, currency="USD", fee="10"))
    quote(acme, "150", at=timezone.now() - timedelta(hours=3))
    quote(euro, "2", at=timezone.now() - timedelta(hours=5), provider="frankfurter")
    text = page(client, "holding", savings, acme.pk).text
    why = {row[0]: row[1:] for row in cells(text)}
    assert why["Value"] == ["750", "10 × 150 USD × 0.5"]
    assert why["Price"][1].endswith("3 h old, by kraken")
    assert why["Exchange rate"] == ["0.5", "EUR-USD 1 / 2 by frankfurter, 5 h old"]
    assert (why["Gain"][0], why["· price part"][0], why["· currency part"][0]) == ("-50", "250", "-300")
    assert why["Gain after costs"] == ["-58", "less 8 of fees and taxes of the purchases"]
    assert cells(text, 1) == [["2024-01-02", "10", "", "10", "1 000 USD", "0.8", "800", "750", "-50", "250", "-300"]]
    [row] = cells(text, 3)
    assert row[-1] == "0.8: EUR-USD 1 / 1.25 of 2024-01-01T20:00"


def test_all_transactions_are_downloaded_to_the_last_digit(client, ada, savings, acme):
    other = make_portfolio(ada, "Other, new")
    exact = {"quantity": "3.000000000000000001", "notes": 'first, "of" all\nthese', "external_id": "A1"}
    moved = columns("2024-03-01", "transfer", asset=acme, quantity="1", to_portfolio=other)
    record(savings, moved, bought(acme, rate="1.5", fee="0.10", **exact))
    answer = client.get(reverse("portfolio_download", args=[savings.pk]))
    assert answer["Content-Disposition"] == f'attachment; filename="portfolio-{savings.pk}.csv"'
    first, second = csv.DictReader(io.StringIO(answer.text))
    assert {name: value for name, value in first.items() if value} == {
        **{"kind": "buy", "at": "2024-01-02T12:00:00+00:00", "has_time": "False", "asset": "ACME", "fee": "0.1"},
        **{"amount": "1000", "currency": "EUR", "tax": "0", "rate": "1.5", **exact},
    }
    assert (second["kind"], second["to_portfolio"], second["quantity"]) == ("transfer", "Other, new", "1")


@pytest.mark.parametrize("note", ["=1+1", "+1", "-1", "@sum", "\tx", "'quoted", "plain"])
def test_a_note_is_no_formula_in_a_spreadsheet(client, savings, acme, note):
    record(savings, bought(acme, notes=note))
    [row] = csv.DictReader(io.StringIO(client.get(reverse("portfolio_download", args=[savings.pk])).text))
    assert row["notes"] == (note if note == "plain" else f"'{note}")


def test_a_transfer_is_listed_where_it_came_to(client, ada, savings, acme):
    other = make_portfolio(ada, "Other")
    record(savings, bought(acme), columns("2024-03-01", "transfer", asset=acme, quantity="4", to_portfolio=other))
    text = page(client, "portfolio", other).text
    assert cells(text)[0][:2] == ["ACME", "4"]
    assert "transfer" in text


def test_cash_is_shown_in_each_currency(client, ada):
    savings = make_portfolio(ada, tracks_cash=True)
    record(savings, columns("2024-01-02", "deposit", amount="1000", currency="EUR"))
    text = page(client, "portfolio", savings).text
    assert cells(text, 0) == [["EUR", "1 000", "1 000", ""]]


@pytest.fixture
def two_years(savings, acme):
    """A purchase of two years ago and one of last year, and prices since."""
    today = timezone.now().date()
    for back, price in ((731, "100"), (366, "100"), (180, "120"), (1, "110")):
        close(acme, str(today - timedelta(days=back)), price)
    quote(acme, "110", at=timezone.now() - timedelta(minutes=1))
    record(
        savings,
        bought(acme, day=str(today - timedelta(days=730))),
        bought(acme, day=str(today - timedelta(days=170)), amount="1200"),
        now=timezone.now(),
    )
    return savings


def figures(text):
    found = re.findall(r"<div><dt>(.*?)</dt><dd>(.*?)</dd><dd>(.*?)</dd></div>", text)
    return {re.sub(r"<[^>]*>", "", name): (figure, wording) for name, figure, wording in found}


def opened(client, text, name):
    """Return the page into which a figure opens."""
    address = re.search(rf'<dt><a href="([^"]*)"[^>]*>{re.escape(name)}</a></dt>', text)[1]
    return client.get(html.unescape(address)).text


def facts(text):
    """Return name -> figure and what it is, of the first table."""
    return {name: (figure, what) for name, figure, what in cells(text)}


def test_performance_of_a_year(client, two_years):
    answer = page(client, "performance", two_years, period="1y")
    shown = figures(answer.text)
    assert shown["Time-weighted return"][0] == "10 %"
    assert shown["Largest fall from a peak"][0] == "8.33 %"
    money, wording = shown["Money-weighted return (XIRR)"]
    assert money == "0 %"
    assert wording.endswith("per year")
    chart = json.loads(re.search(r'<script type="application/json">(.*?)</script>', answer.text)[1])
    assert (chart["low"][-1]["y"], len(chart["low"]), len(chart["spots"][0]["points"])) == (2200, 366, 1)


def test_nothing_shorter_than_a_year_is_annualised(client, two_years):
    shown = figures(page(client, "performance", two_years, period="3m").text)
    assert shown["Money-weighted return (XIRR)"] == (
        "−8.33 %",
        "the annual rate at which the flows of these days are worth nothing, over 92 days, not annualised",
    )


@pytest.fixture
def few_days(savings, acme):
    """Four days in January 2024: 10 for 1000, which fall from 1100 to 990, of which 4 are sold."""
    for day, price in (("2024-01-02", "100"), ("2024-01-03", "110"), ("2024-01-04", "99"), ("2024-01-05", "101")):
        close(acme, day, price)
    record(savings, bought(acme, "2024-01-02"), sold(acme, "2024-01-05", "4", "404"))
    return savings


DAYS = {"from": "2024-01-02", "to": "2024-01-05"}


def test_the_time_weighted_return_opens_into_its_days(client, few_days):
    text = opened(client, page(client, "performance", few_days, **DAYS).text, "Time-weighted return")
    assert cells(text) == [
        ["2024-01-05", "990", "0", "404", "606", "2.02 %", "101"],
        ["2024-01-04", "1 100", "0", "0", "990", "−10 %", "99"],
        ["2024-01-03", "1 000", "0", "0", "1 100", "10 %", "110"],
        ["2024-01-02", "0", "1 000", "0", "1 000", "0 %", "100"],
    ]
    assert "<b>1 %</b> from 2024-01-02 to 2024-01-05" in text


def test_the_money_weighted_return_opens_into_its_flows_and_their_worth(client, two_years):
    today = timezone.now().date()
    text = opened(client, page(client, "performance", two_years, period="1y").text, "Money-weighted return (XIRR)")
    assert facts(text) == {"All flows at 0 % per year": ("0", "the sum of what they are worth")}
    days = [str(today - timedelta(days=back)) for back in (0, 170, 366)]
    assert cells(text, 1) == [
        [days[0], "2 200", "2 200"],
        [days[1], "-1 200", "-1 200"],
        [days[2], "-1 000", "-1 000"],
    ]
    short = opened(client, page(client, "performance", two_years, period="3m").text, "Money-weighted return (XIRR)")
    over = facts(short)["Over 92 days"]
    assert over == ("−8.33 %", "(1 + rate)^(days ÷ 365) − 1: under a year, not annualised")


@pytest.fixture
def two_rates(savings, acme):
    """Make the flows -1600, 10000 and -10000 so many days apart, which two rates fit."""

    def make(days):
        first = date(2023, 1, 1)
        second, last = first + timedelta(days=days), first + timedelta(days=2 * days)
        for day, price in ((first, "160"), (second, "1000"), (last, "0.0000000001")):
            close(acme, str(day), price)
        record(
            savings,
            bought(acme, str(first), amount="1600"),
            sold(acme, str(second), quantity="9.999", amount="10000"),
            bought(acme, str(last), quantity="1", amount="10000"),
        )
        return {"from": str(first), "to": str(last)}

    return make


@pytest.mark.parametrize(
    ("apart", "rates", "over"),
    [(365, "25 %, 400 %", "per year"), (73, "56.73 %, 2455.73 %", "over 147 days, not annualised")],
)
def test_several_rates_are_of_the_period_where_it_is_under_a_year(client, savings, two_rates, apart, rates, over):
    """-1600, 10000, -10000 a year apart: 25 % and 400 %; in 147 days, 1.25^(147/73) - 1 and 5^(147/73) - 1."""
    query = two_rates(apart)
    answer = page(client, "performance", savings, **query).text
    shown, wording = figures(answer)["Money-weighted return (XIRR)"]
    assert (shown, wording) == ("not unique", f"these rates fit: {rates}, {over}")
    text = opened(client, answer, "Money-weighted return (XIRR)")
    assert f"<b>not unique: {rates}</b>" in text
    assert [one[1] for one in cells(text)[:2]] == ["0", "0"]
    assert len(cells(text, 1)[0]) == 4


def test_the_volatility_of_less_than_a_year_is_that_of_the_period(client, few_days):
    answer = page(client, "performance", few_days, **DAYS).text
    # Log returns 0, ln 1.1, ln 0.9, ln(101 / 99).
    assert figures(answer)["Volatility"] == (
        "16.56 %",
        "of daily log returns, for these 4 days of trading (× √4), not annualised",
    )
    text = opened(client, answer, "Volatility")
    shown = {name: one for name, (one, _) in facts(text).items()}
    assert shown == {
        "Days of trading": "4",
        "Mean": "0.25 %",
        "Standard deviation": "8.28 %",
        "Of the period": "16.56 %",
    }
    assert [row[1:] for row in cells(text, 1)] == [
        ["2.02 %", "2 %"],
        ["−10 %", "−10.54 %"],
        ["10 %", "9.53 %"],
        ["0 %", "0 %"],
    ]


def test_the_largest_fall_opens_into_its_peak_and_trough(client, few_days):
    text = opened(client, page(client, "performance", few_days, **DAYS).text, "Largest fall from a peak")
    assert facts(text) == {
        "Peak": ("110", "the index at the end of 2024-01-03"),
        "Trough": ("99", "the index at the end of 2024-01-04"),
    }
    assert cells(text, 1) == [["2024-01-04", "99", "−10 %"], ["2024-01-03", "110", "0 %"]]


def test_the_days_of_a_figure_come_a_year_at_a_time(client, two_years):
    first = page(client, "performance_figure", two_years, "twr", period="all").text
    shown = [row[0] for row in cells(first)]
    more = html.unescape(re.search(r'href="(\?[^"]*)">Older days \((\d+)\)', first)[1])
    second = client.get(reverse("performance_figure", args=[two_years.pk, "twr"]) + more).text
    shown += [row[0] for row in cells(second)]
    assert "Older days" not in second
    assert len(cells(first)) == 366
    today = timezone.now().date()
    assert shown == [str(today - timedelta(days=back)) for back in range(len(shown))]
    assert len(shown) == 731


def test_figures_of_a_foreign_portfolio_and_of_none_are_the_same(client, ada, two_years):
    theirs = make_portfolio(make_owner("eve"))
    for name in ("twr", "xirr", "volatility", "drawdown", "benchmark", "cdi", "real"):
        answers = {client.get(reverse("performance_figure", args=[pk, name])).content for pk in (theirs.pk, 999_999)}
        assert len(answers) == 1
        assert client.get(reverse("performance_figure", args=[theirs.pk, name])).status_code == 404
    for name in ("benchmark", "cdi", "real", "nothing"):
        assert page(client, "performance_figure", two_years, name).status_code == 404


def test_figures_of_a_portfolio_without_days_open_too(client, savings):
    for name in ("twr", "xirr", "volatility", "drawdown"):
        answer = page(client, "performance_figure", savings, name)
        assert answer.status_code == 200
        assert "There is nothing to show of these days." in answer.text


def test_returns_begin_after_the_last_day_without_a_price(client, savings, acme):
    close(acme, "2024-01-10", "100")
    close(acme, "2024-01-12", "110")
    record(savings, bought(acme))
    text = page(client, "performance", savings, **{"from": "2024-01-01", "to": "2024-01-31"}).text
    assert "From 2024-01-11 to 2024-01-31. Before that, nothing was held, or the value is not known." in text
    assert figures(text)["Time-weighted return"][0] == "10 %"


def test_performance_beside_an_asset_in_the_base_currency(client, two_years):
    today = timezone.now().date()
    euro, index = make_asset("EUR-USD", "USD", base_currency="EUR"), make_asset("INDEX", "USD")
    for asset, before, now in ((euro, "1", "1.25"), (index, "100", "150")):
        close(asset, str(today - timedelta(days=400)), before)
        quote(asset, now, at=timezone.now() - timedelta(minutes=1))
        close(asset, str(today), now, at=timezone.now() - timedelta(minutes=1))
    text = page(client, "performance", two_years, period="1y", benchmark="index").text
    assert figures(text)["Benchmark: INDEX"] == ("20 %", "its price in EUR over the same days, without income")
    whole = page(client, "performance", two_years, period="1y", benchmark="index").text
    ends = facts(opened(client, whole, "Benchmark: INDEX"))
    assert {name: one for name, (one, _) in ends.items()} == {
        "INDEX at the start": "100 EUR",
        "INDEX at the end": "120 EUR",
    }
    assert re.fullmatch(r"150 USD of \S+ \S+ × 0\.8 \(EUR-USD 1 / 1\.25, [^)]* old\)", ends["INDEX at the end"][1])
    assert "There is no asset NONE." in page(client, "performance", two_years, benchmark="NONE").text
    odd = page(client, "performance", two_years, benchmark="<script>").text
    assert "There is no asset &lt;SCRIPT&gt;." in odd


def test_the_first_page_loads_the_chart_and_the_comparison_of_a_year(client, two_years):
    first = page(client, "portfolio", two_years).text
    address = reverse("portfolio_performance_part", args=[two_years.pk])
    assert f'id="performance" data-from="{address}"' in first
    # Without the script, the form opens the page of performance.
    assert f'action="{reverse("performance", args=[two_years.pk])}" class="period" data-into="performance"' in first
    for query in ({}, {"benchmark": "ACME"}):
        part = page(client, "portfolio_performance_part", two_years, **query).text
        whole = page(client, "performance", two_years, **query).text
        assert figures(part) == figures(whole)
        assert '<canvas class="price-chart"' in part
        assert "<html" not in part
    assert "Benchmark: ACME" in figures(part)


def test_an_asset_without_a_price_then_is_no_benchmark(client, two_years):
    make_asset("INDEX")
    text = page(client, "performance", two_years, benchmark="INDEX").text
    assert figures(text)["Benchmark: INDEX"][0] == "not known"


def test_an_odd_period_is_a_year(client, two_years):
    year = figures(page(client, "performance", two_years, period="1y").text)
    for query in ({"period": "x"}, {"from": "x", "to": "2024-01-01"}, {"from": "2999-01-01", "to": "2999-01-02"}):
        assert figures(page(client, "performance", two_years, **query).text) == year


@pytest.mark.parametrize("name", ["portfolio", "performance"])
def test_a_page_costs_the_same_however_much_it_shows(client, savings, acme, name, django_assert_max_num_queries):
    def statements():
        with django_assert_max_num_queries(16) as asked:
            page(client, name, savings)
        return len(asked)

    record(savings, bought(acme))
    quote(acme, "1")
    few = statements()
    for number in range(3):
        other = make_asset(f"OTHER-{number}")
        quote(other, "1")
        record(savings, *[bought(other)] * 3)
    assert statements() == few
    assert few <= 12 or name == "performance"


def test_a_day_as_it_was_known_stands_beside_todays_computation(client, savings, acme):
    assert "Nothing is recorded yet." in page(client, "portfolio_nights", savings).text
    close(acme, "2024-02-01", "100")
    record(savings, bought(acme))
    for day in (2, 3):
        record_night(portfolio_id=savings.pk, now=noon(f"2024-02-0{day}"))
    oldest = "oldest price 2024-02-01 20:00"
    assert cells(page(client, "portfolio_nights", savings).text) == [
        [f"2024-02-02 {oldest}", "1 000 EUR flows 0", "1 000 flows 0", "none", "", "", ""],
        [f"2024-02-01 {oldest}", "1 000 EUR flows 0", "1 000 flows 0", "none", "", "", ""],
    ]
    record(savings, bought(acme, "2024-02-02", quantity="1", amount="90"))
    correct_closes(acme, "90")
    first, second = cells(page(client, "portfolio_nights", savings).text)
    assert first[1:] == ["1 000 EUR flows 0", "990 flows 90", "-10", "90", "-100", "0"]
    assert second[2:] == ["900 flows 0", "-100", "0", "-100", "0"]
    assert len(cells(page(client, "portfolio_nights", savings, before="2024-02-02").text)) == 1


def test_two_days_that_are_not_known_are_not_the_same(client, savings, acme):
    record(savings, bought(acme))
    record_night(portfolio_id=savings.pk, now=noon("2024-02-02"))
    [row] = cells(page(client, "portfolio_nights", savings).text)
    assert row[2:] == ["not known flows 0", *["not known"] * 4]


@pytest.fixture
def reais(ada):
    """A portfolio in reais that gave 21 % in January and February 2024, and 10 % of it in January."""
    petr = make_asset("PETR4", "BRL")
    for day, price in (("2024-01-01", "100"), ("2024-01-31", "110"), ("2024-02-29", "121")):
        close(petr, day, price)
    portfolio = make_portfolio(ada, "Reais", base="BRL")
    record(portfolio, bought(petr, "2024-01-01", currency="BRL"))
    return portfolio


def test_a_portfolio_in_reais_is_shown_beside_the_cdi_and_after_inflation(client, reais):
    period = {"from": "2024-01-02", "to": "2024-02-29"}
    assert figures(page(client, "performance", reais, **period).text).keys() & {"% of CDI", "Real return"} == set()
    list_index("12", ("2024-01-01", "100"), ("2024-02-29", "110"))
    list_index("433", ("2023-12-31", "100"), ("2024-01-31", "101"))
    shown = figures(page(client, "performance", reais, **period).text)
    assert shown["% of CDI"] == ("210 %", "of the time-weighted return; the CDI gave 10 % over the same days")
    # 1.1 / 1.01 - 1
    assert shown["Real return"] == (
        "8.91 %",
        "after the IPCA, 1 % in the months that ended up to 2024-01-31; it is published up to 2024-01-31",
    )
    whole = page(client, "performance", reais, **period).text
    opens = facts(opened(client, whole, "% of CDI"))
    assert (opens["Time-weighted return"][0], opens["CDI"][0]) == ("21 %", "10 %")
    assert (opens["BCB-12 at the start"][0], opens["BCB-12 at the end"][0]) == ("100 BRL", "110 BRL")
    opens = facts(opened(client, whole, "Real return"))
    assert (opens["Time-weighted return"][0], opens["IPCA"][0]) == ("10 %", "1 %")
    assert opens["BCB-433 at the end"][0] == "101 BRL"
    reais.base_currency = "EUR"
    reais.save()
    assert "% of CDI" not in figures(page(client, "performance", reais, **period).text)
