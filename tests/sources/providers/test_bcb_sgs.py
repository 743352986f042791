"""The series of the Banco Central do Brasil.

The shape of its answers is from its documentation of open data; that a range without values is a 404, and that one of
more than 10 years is refused, from threads of its clients (python-bcb, rbcb, GetBCBData).
"""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from apps.market.domain import RawQuote
from apps.sources.providers import http
from apps.sources.providers.bcb_sgs import BcbSgs
from apps.sources.providers.protocol import HistoryRequest, ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from tests.sources.asking import request_to

NOW = datetime(2024, 1, 5, 15, tzinfo=UTC)
CDI = [
    {"data": "02/01/2024", "valor": "1"},
    {"data": "03/01/2024", "valor": "0.043739"},
    {"data": "04/01/2024", "valor": "0"},
]
IPCA = [{"data": "01/11/2023", "valor": "0.28"}, {"data": "01/12/2023", "valor": "0.56"}]


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(http, "now", lambda: NOW)


def serve(httpserver, code, rows, since, until, **response):
    query = {"formato": "json", "dataInicial": since, "dataFinal": until}
    request = httpserver.expect_request(f"/dados/serie/bcdata.sgs.{code}/dados", query_string=query)
    request.respond_with_json(rows, **response)


def fetch(httpserver, *codes, since="2024-01-02"):
    return BcbSgs().fetch(request_to(BcbSgs(), httpserver.url_for(""), codes, since=since))


def begin_of(day, month=1, year=2024):
    """Return the beginning of a day, which is the end of the one before."""
    return datetime(year, month, day, tzinfo=UTC)


def test_rates_of_days_are_compounded_to_an_index(httpserver):
    serve(httpserver, "12", CDI, "02/01/2024", "05/01/2024")
    # 100 · 1.01 · 1.00043739 · 1
    assert fetch(httpserver, "12").quotes == [RawQuote("12", Decimal("101.0441763900"), begin_of(5))]


def test_a_month_stands_at_its_end_and_the_month_of_the_beginning_counts(httpserver):
    serve(httpserver, "433", IPCA, "01/11/2023", "05/01/2024")
    # 100 · 1.0028 · 1.0056
    quotes = fetch(httpserver, "433", since="2023-11-15").quotes
    assert quotes == [RawQuote("433", Decimal("100.8415680000"), begin_of(1))]


def test_the_dollar_is_a_price(httpserver):
    serve(httpserver, "1", [{"data": "04/01/2024", "valor": "4.9182"}], "02/01/2024", "05/01/2024")
    assert fetch(httpserver, "1").quotes == [RawQuote("1", Decimal("4.9182"), begin_of(5))]


def test_a_value_of_today_is_of_now_at_the_latest(httpserver):
    serve(httpserver, "11", [{"data": "05/01/2024", "valor": "1"}], "02/01/2024", "05/01/2024")
    assert fetch(httpserver, "11").quotes == [RawQuote("11", Decimal(101), NOW)]


def test_ten_years_are_asked_for_at_a_time_and_years_without_values_are_none(httpserver):
    serve(httpserver, "12", {"error": "not found"}, "03/01/2000", "31/12/2009", status=404)
    serve(httpserver, "12", [{"data": "04/01/2010", "valor": "1"}], "01/01/2010", "31/12/2019")
    serve(httpserver, "12", CDI[:1], "01/01/2020", "05/01/2024")
    assert fetch(httpserver, "12", since="2000-01-03").quotes == [RawQuote("12", Decimal("102.01"), begin_of(3))]


def test_the_past_continues_from_the_same_beginning(httpserver):
    serve(httpserver, "12", CDI, "02/01/2024", "05/01/2024")
    options = BcbSgs().validate_options({"base_url": httpserver.url_for(""), "since": "2024-01-02"})
    asked = HistoryRequest(external_id="12", since=datetime(2024, 1, 4, tzinfo=UTC), until=NOW, options=options)
    page = BcbSgs().fetch_history(asked)
    assert page.quotes == [
        RawQuote("12", Decimal("101.0441763900"), begin_of(4)),
        RawQuote("12", Decimal("101.0441763900"), begin_of(5)),
    ]


def test_another_series_is_refused_without_a_call_and_costs_no_other(httpserver):
    serve(httpserver, "12", CDI, "02/01/2024", "05/01/2024")
    answer = fetch(httpserver, "12", "9999")
    assert answer.refused == {"9999": "unknown_symbol"}
    assert len(httpserver.log) == 1
    with pytest.raises(ProviderRejected, match="unknown_symbol"):
        fetch(httpserver, "9999")


@pytest.mark.parametrize(
    "row",
    [
        {"data": "2024-01-02", "valor": "1"},
        {"data": "02/01/2024", "valor": "NaN"},
        {"data": "02/01/2024", "valor": "-100"},
        {"data": "02/01/2024", "valor": "1e30"},
        {"data": "02/01/2024"},
        {},
    ],
)
def test_a_row_that_is_none_fails_the_answer(httpserver, row):
    serve(httpserver, "12", [row], "02/01/2024", "05/01/2024")
    with pytest.raises(ProviderUnavailable, match="bad_payload"):
        fetch(httpserver, "12")


@pytest.mark.parametrize("since", ["yesterday", "2024-02-30", "", 5])
def test_a_beginning_that_is_no_day_is_refused(since):
    with pytest.raises(ProviderMisconfigured, match="since must be a day like 2000-01-03"):
        BcbSgs().validate_options({"since": since})
