"""Shares of B3 from brapi.dev. The answers have the shape of recorded ones in public clients (andreb308/inoa-challenge,
victorozoterio/projects)."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.brapi import Brapi
from apps.sources.providers.protocol import ProviderUnavailable, SearchResult
from tests.sources.asking import past_of, request_to

NOW = datetime(2025, 7, 21, 19, tzinfo=UTC)
PETR4 = {
    "currency": "BRL",
    "symbol": "PETR4",
    "regularMarketPrice": 31.5,
    "regularMarketTime": "2025-07-21T18:21:21.000Z",
}
VALE3 = {
    "currency": "BRL",
    "symbol": "VALE3",
    "regularMarketPrice": 54.03,
    "regularMarketTime": "2025-07-21T18:20:00.000Z",
}
UNKNOWN = {"error": True, "message": "Não encontramos a ação XXXX9"}


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    monkeypatch.setattr(http, "now", lambda: NOW)
    monkeypatch.delenv("BRAPI_TOKEN", raising=False)


def answer_of(*found):
    return {"results": list(found), "requestedAt": "2025-07-21T18:30:00.000Z", "took": "0ms"}


def fetch(httpserver, *codes):
    return Brapi().fetch(request_to(Brapi(), httpserver.url_for(""), codes))


def test_one_call_gives_several_shares_with_their_times(httpserver):
    httpserver.expect_request("/api/quote/PETR4,VALE3").respond_with_json(answer_of(VALE3, PETR4))
    quotes = fetch(httpserver, "PETR4", "VALE3").quotes
    assert quotes == [
        RawQuote("PETR4", Decimal("31.5"), "2025-07-21T18:21:21.000Z"),
        RawQuote("VALE3", Decimal("54.03"), "2025-07-21T18:20:00.000Z"),
    ]
    admitted = admit(quotes, asset_ids={"PETR4": 1, "VALE3": 2}, as_of=NOW, assumed_at=NOW).quotes
    assert {one.asset_id: one.at for one in admitted} == {
        1: datetime(2025, 7, 21, 18, 21, 21, tzinfo=UTC),
        2: datetime(2025, 7, 21, 18, 20, tzinfo=UTC),
    }


def test_an_unknown_share_costs_no_other(httpserver):
    httpserver.expect_request("/api/quote/PETR4").respond_with_json(answer_of(PETR4))
    for path in ("/api/quote/PETR4,XXXX9", "/api/quote/XXXX9"):
        httpserver.expect_request(path).respond_with_json(UNKNOWN, status=404)
    answer = fetch(httpserver, "PETR4", "XXXX9")
    assert answer.refused == {"XXXX9": "http_404"}
    assert [one.external_id for one in answer.quotes if one.price is not None] == ["PETR4"]


def test_a_share_that_was_not_given_has_no_price(httpserver):
    httpserver.expect_request("/api/quote/PETR4,VALE3").respond_with_json(answer_of(PETR4))
    assert fetch(httpserver, "PETR4", "VALE3").quotes[1] == RawQuote("VALE3", None, None)


def test_the_token_goes_into_a_header(httpserver, monkeypatch):
    monkeypatch.setenv("BRAPI_TOKEN", "canary")
    httpserver.expect_request("/api/quote/PETR4").respond_with_json(answer_of(PETR4))
    fetch(httpserver, "PETR4")
    [(call, _)] = httpserver.log
    assert (call.headers["Authorization"], call.query_string) == ("Bearer canary", b"")


@pytest.mark.parametrize(("days", "named"), [(10, "1mo"), (60, "3mo"), (300, "1y"), (1_000, "5y"), (2_000, "max")])
def test_the_past_is_the_close_of_each_day_at_its_end(httpserver, days, named):
    # 13:00 UTC of 17 and 18 July 2025.
    rows = [
        {"date": 1752757200, "close": 31.1},
        {"date": 1752843600, "close": None},
        {"date": 1752843600, "close": 31.2},
    ]
    httpserver.expect_request("/api/quote/PETR4", query_string={"range": named, "interval": "1d"}).respond_with_json(
        answer_of(PETR4 | {"historicalDataPrice": rows})
    )
    since = NOW - timedelta(days=days)
    page = Brapi().fetch_history(past_of(Brapi(), httpserver.url_for(""), "PETR4", since=since, until=NOW))
    assert page.quotes == [
        RawQuote("PETR4", Decimal("31.1"), datetime(2025, 7, 18, 3, tzinfo=UTC)),
        RawQuote("PETR4", Decimal("31.2"), datetime(2025, 7, 19, 3, tzinfo=UTC)),
    ]


def test_a_search_finds_codes(httpserver):
    httpserver.expect_request("/api/available", query_string={"search": "petr"}).respond_with_json(
        {"indexes": [], "stocks": ["PETR4", "VALE3", "PETR3"]}
    )
    found = Brapi().search("petr", Brapi().validate_options({"base_url": httpserver.url_for("")}))
    assert found == [SearchResult(code, code, code, "BRL") for code in ("PETR4", "PETR3")]


@pytest.mark.parametrize("content", [{"stocks": [1]}, {"stocks": [""]}, {}])
def test_a_search_without_codes_fails(httpserver, content):
    httpserver.expect_request("/api/available").respond_with_json(content)
    with pytest.raises(ProviderUnavailable, match="bad_payload"):
        Brapi().search("petr", Brapi().validate_options({"base_url": httpserver.url_for("")}))
