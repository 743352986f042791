"""The pages of how portfolios did, and of what each figure is made."""

import html
import json
import re
from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

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
)
from tests.site.portfolio_pages import cells, facts, figures, opened, page

pytestmark = pytest.mark.django_db


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
def few_days(ada):
    return make_four_days(ada)


DAYS = {"from": "2024-01-02", "to": "2024-01-05"}


def test_the_time_weighted_return_opens_into_its_days(client, few_days):
    text = opened(client, page(client, "performance", few_days, **DAYS).text, "Time-weighted return")
    assert cells(text) == [
        ["2024-01-05", "990", "0", "404", "606", "2.02 %", "101"],
        ["2024-01-04", "1\u202f100", "0", "0", "990", "−10 %", "99"],
        ["2024-01-03", "1\u202f000", "0", "0", "1\u202f100", "10 %", "110"],
        ["2024-01-02", "0", "1\u202f000", "0", "1\u202f000", "0 %", "100"],
    ]
    assert "<b>1 %</b> from 2024-01-02 to 2024-01-05" in text


def test_the_money_weighted_return_opens_into_its_flows_and_their_worth(client, two_years):
    today = timezone.now().date()
    text = opened(client, page(client, "performance", two_years, period="1y").text, "Money-weighted return (XIRR)")
    assert facts(text) == {"All flows at 0 % per year": ("0", "the sum of what they are worth")}
    days = [str(today - timedelta(days=back)) for back in (0, 170, 366)]
    assert cells(text, 1) == [
        [days[0], "2\u202f200", "2\u202f200"],
        [days[1], "-1\u202f200", "-1\u202f200"],
        [days[2], "-1\u202f000", "-1\u202f000"],
    ]
    short = opened(client, page(client, "performance", two_years, period="3m").text, "Money-weighted return (XIRR)")
    over = facts(short)["Over 92 days"]
    assert over == ("−8.33 %", "(1 + rate)^(days ÷ 365) − 1: under a year, not annualised")


@pytest.mark.parametrize(
    ("apart", "rates", "over"),
    [(365, "25 %, 400 %", "per year"), (73, "56.73 %, 2\u202f455.73 %", "over 147 days, not annualised")],
)
def test_several_rates_are_of_the_period_where_it_is_under_a_year(client, ada, apart, rates, over):
    """-1600, 10000, -10000 a year apart: 25 % and 400 %; in 147 days, 1.25^(147/73) - 1 and 5^(147/73) - 1."""
    portfolio, days = make_two_rates(ada, apart=apart)
    answer = page(client, "performance", portfolio, **{"from": days[0], "to": days[2]}).text
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


@pytest.mark.parametrize("name", ["performance", "portfolio_performance_part"])
def test_a_value_that_nothing_changes_is_no_quiet_line(client, savings, acme, name):
    close(acme, "2024-01-02", "100")
    record(savings, bought(acme, day="2024-01-02"))
    still = "Neither a price nor a transaction has changed the value"
    text = page(client, name, savings, period="1m").text
    assert still in text
    assert "?period=all" in text
    assert still not in page(client, name, savings, period="all").text
    quote(acme, "101", at=timezone.now() - timedelta(minutes=1))
    assert still not in page(client, name, savings, period="1m").text


def test_an_asset_without_a_price_then_is_no_benchmark(client, two_years):
    make_asset("INDEX")
    text = page(client, "performance", two_years, benchmark="INDEX").text
    assert figures(text)["Benchmark: INDEX"][0] == "not known"


def test_an_odd_period_is_a_year(client, two_years):
    year = figures(page(client, "performance", two_years, period="1y").text)
    for query in ({"period": "x"}, {"from": "x", "to": "2024-01-01"}, {"from": "2999-01-01", "to": "2999-01-02"}):
        assert figures(page(client, "performance", two_years, **query).text) == year


def test_a_portfolio_in_reais_is_shown_beside_the_cdi_and_after_inflation(client, ada):
    reais = make_reais(ada)
    period = {"from": "2024-01-02", "to": "2024-02-29"}
    assert figures(page(client, "performance", reais, **period).text).keys() & {"% of CDI", "Real return"} == set()
    list_index("12", ("2024-01-01", "100"), ("2024-02-29", "110"))
    list_index("433", ("2023-12-31", "100"), ("2024-01-31", "101"))
    shown = figures(page(client, "performance", reais, **period).text)
    assert shown["% of CDI"] == ("210 %", "of the time-weighted return; the CDI gave 10 % over the same days")
    # 1.1 / 1.01 - 1
    assert shown["Real return"] == (
        "8.91 %",
        "after the IPCA, 1 % up to 2024-01-31, by business days; it is published up to 2024-01-31",
    )
    whole = page(client, "performance", reais, **period).text
    opens = facts(opened(client, whole, "% of CDI"))
    assert (opens["Time-weighted return"][0], opens["CDI"][0]) == ("21 %", "10 %")
    assert (opens["BCB-12 at the start"][0], opens["BCB-12 at the end"][0]) == ("100 BRL", "110 BRL")
    opens = facts(opened(client, whole, "Real return"))
    assert (opens["Time-weighted return"][0], opens["IPCA"][0]) == ("10 %", "1 %")
    # New Year is no business day, so none of January is over.
    assert opens["BCB-433 at the start"] == ("100", "at the end of 2024-01-01")
    assert opens["BCB-433 at the end"] == ("101", "at the end of 2024-01-31")
    reais.base_currency = "EUR"
    reais.save()
    assert "% of CDI" not in figures(page(client, "performance", reais, **period).text)


def test_parts_of_months_count_by_business_days_after_inflation(client, ada):
    reais = make_reais(ada)
    list_index("433", ("2023-12-31", "100"), ("2024-01-31", "101"), ("2024-02-29", "103.02"))
    # From when 11 of 22 business days of January were over, to when 8 of 19 of February were, after Carnival.
    whole = page(client, "performance", reais, **{"from": "2024-01-17", "to": "2024-02-14"}).text
    opens = facts(opened(client, whole, "Real return"))
    assert opens["BCB-433 at the start"] == (
        "100.498756211209",
        "at the end of 2024-01-16: 100 × (101 ÷ 100) to the power of 11/22, since 11 of 22 business days of 2024-01 "
        "were over",
    )
    assert opens["BCB-433 at the end"] == (
        "101.845653389752",
        "at the end of 2024-02-14: 101 × (103.02 ÷ 101) to the power of 8/19, since 8 of 19 business days of 2024-02 "
        "were over",
    )
    assert (opens["Time-weighted return"][0], opens["IPCA"][0]) == ("10 %", "1.34 %")
    # 1.1 / (101.8456 / 100.4988) - 1
    assert figures(whole)["Real return"] == (
        "8.55 %",
        "after the IPCA, 1.34 % up to 2024-02-14, by business days; it is published up to 2024-02-29",
    )


def test_a_month_that_is_missing_is_no_month_without_inflation(client, ada):
    reais = make_reais(ada)
    list_index("433", ("2023-12-31", "100"), ("2024-02-29", "103.02"))
    for since, shown in (("2024-01-17", "not known"), ("2024-01-02", "17.45 %")):
        whole = page(client, "performance", reais, **{"from": since, "to": "2024-02-29"}).text
        assert figures(whole)["Real return"][0] == shown


@pytest.fixture
def old_days(savings, acme):
    """A purchase of three years ago, and the last price of two years ago."""
    today = timezone.now().date()
    for back, price in ((1100, "100"), (800, "130")):
        close(acme, str(today - timedelta(days=back)), price)
    record(savings, bought(acme, day=str(today - timedelta(days=1099))))
    return savings


WIDENED = "Nothing changed the value in the last year, so all days are shown"


@pytest.mark.parametrize("name", ["performance", "portfolio_performance_part"])
def test_where_nothing_changed_within_the_last_year_all_days_are_shown_first(client, old_days, name):
    text = page(client, name, old_days).text
    assert WIDENED in text
    assert figures(text)["Time-weighted return"][0] == "30 %"
    assert "period=all" in re.search(r'<dt><a href="([^"]*)"', text)[1]
    # Whoever chooses the last year gets it.
    chosen = page(client, name, old_days, period="1y").text
    assert WIDENED not in chosen
    assert figures(chosen)["Time-weighted return"][0] == "0 %"


def test_a_benchmark_alone_chooses_no_period_and_a_figure_opens_as_it_is_shown(client, old_days):
    text = page(client, "performance", old_days, benchmark="ACME").text
    assert WIDENED in text
    assert "<b>30 %</b>" in opened(client, text, "Time-weighted return")


def test_a_flow_or_a_price_in_the_last_year_keeps_it(client, two_years, acme):
    assert WIDENED not in page(client, "performance", two_years).text


def test_income_that_leaves_the_value_as_it_is_keeps_the_last_year(client, old_days, acme):
    day = str(timezone.now().date() - timedelta(days=30))
    record(old_days, columns(day, "dividend", asset=acme, amount="5", currency="EUR"), now=timezone.now())
    assert WIDENED not in page(client, "performance", old_days).text
