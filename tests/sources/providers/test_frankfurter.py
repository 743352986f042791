import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.frankfurter import Frankfurter
from apps.sources.providers.protocol import (
    Answer,
    HistoryPage,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    SearchResult,
)
from tests.sources.asking import past_of, request_to

NOW = datetime(2026, 3, 18, 9, 0, 1, 250_000, tzinfo=UTC)
AT = datetime(2026, 3, 17, 13, 15, tzinfo=UTC)

# The shape of the schema ratesOnDate in the openapi.json of lineofflight/frankfurter, v1, with its example's numbers.
EURO = '{"amount": 1.0, "base": "EUR", "date": "2026-03-17", "rates": {"BRL": 6.0457, "USD": 1.1534}}'
DOLLAR = '{"amount": 1.0, "base": "USD", "date": "2026-03-17", "rates": {"EUR": 0.867}}'

# What it answers with status 404 where the base or all of the symbols are unknown.
NOT_FOUND = {"message": "not found"}

NO_PAIRS = ["", "EUR", "EURUSD", "EUR-USD", "EUR/", "/USD", "eur/usd", "EUR/usd", "EURO/USD", "EUR/USDT", "EUR/US1"]
NO_PAIRS += ["EUR/USD/BRL", "ÉUR/USD", " EUR/USD", "EUR/USD\n", "EUR/EUR"]


@pytest.fixture(autouse=True)
def _clock(monkeypatch):
    """Stop the clock at NOW."""
    monkeypatch.setattr(http, "now", lambda: NOW)


def _request(base_url, external_ids=("EUR/BRL", "EUR/USD")):
    return request_to(Frankfurter(), base_url, external_ids)


def _answer_with(httpserver, body, **query):
    httpserver.expect_request("/v1/latest", query_string=query or None).respond_with_data(
        body if isinstance(body, str) else json.dumps(body), content_type="application/json; charset=utf-8"
    )


def test_one_call_per_base_currency_gives_the_rates_as_they_were_sent(httpserver):
    _answer_with(httpserver, EURO, base="EUR", symbols="BRL,USD")
    _answer_with(httpserver, DOLLAR, base="USD", symbols="EUR")
    request = _request(httpserver.url_for("/"), external_ids=["EUR/BRL", "EUR/USD", "USD/EUR"])
    assert Frankfurter().fetch(request) == Answer(
        quotes=[
            RawQuote("EUR/BRL", Decimal("6.0457"), at=AT),
            RawQuote("EUR/USD", Decimal("1.1534"), at=AT),
            RawQuote("USD/EUR", Decimal("0.867"), at=AT),
        ],
        as_of=NOW,
    )
    assert [call.args["base"] for call, _ in httpserver.log] == ["EUR", "USD"]


@pytest.mark.parametrize(
    ("date", "at"),
    [
        ("2026-01-30", datetime(2026, 1, 30, 13, 15, tzinfo=UTC)),
        ("2026-07-31", datetime(2026, 7, 31, 12, 15, tzinfo=UTC)),
    ],
    ids=["winter", "summer"],
)
def test_rates_are_of_a_quarter_past_two_in_frankfurt(httpserver, date, at):
    _answer_with(httpserver, {"amount": 1.0, "base": "EUR", "date": date, "rates": {"USD": "1.1"}})
    answer = Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=["EUR/USD"]))
    assert [quote.at for quote in answer.quotes] == [at]


@pytest.mark.parametrize("external_id", NO_PAIRS)
def test_what_is_no_pair_is_counted_and_not_asked_for(httpserver, external_id):
    _answer_with(httpserver, EURO)
    answer = Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=[external_id, "EUR/BRL"]))
    assert answer.quotes == [RawQuote(external_id, None), RawQuote("EUR/BRL", Decimal("6.0457"), at=AT)]
    assert [call.args["symbols"] for call, _ in httpserver.log] == ["BRL"]


@pytest.mark.parametrize("external_ids", [("bitcoin",), ("EUR", "USD")])
def test_where_nothing_is_a_pair_the_answer_fails_without_a_call(httpserver, external_ids):
    with pytest.raises(ProviderRejected) as caught:
        Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert caught.value.reason == "unknown_symbol"
    assert httpserver.log == []


def test_a_rate_that_was_not_given_is_counted_and_costs_no_other(httpserver):
    _answer_with(httpserver, EURO)
    answer = Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=["EUR/USD", "EUR/XXX"]))
    assert answer.quotes == [RawQuote("EUR/USD", Decimal("1.1534"), at=AT), RawQuote("EUR/XXX", None, at=AT)]


def test_an_unknown_base_costs_no_other(httpserver):
    _answer_with(httpserver, EURO, base="EUR", symbols="USD")
    httpserver.expect_request("/v1/latest", query_string={"base": "BTC", "symbols": "USD"}).respond_with_json(
        NOT_FOUND, status=404
    )
    answer = Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=["BTC/USD", "EUR/USD"]))
    assert answer.quotes == [RawQuote("BTC/USD", None), RawQuote("EUR/USD", Decimal("1.1534"), at=AT)]


def test_where_nothing_is_found_the_answer_fails(httpserver):
    httpserver.expect_request("/v1/latest").respond_with_json(NOT_FOUND, status=404)
    with pytest.raises(ProviderRejected) as caught:
        Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=["BTC/USD", "EUR/USD"]))
    assert caught.value.reason == "http_404"
    assert len(httpserver.log) == 2


def test_a_rate_of_the_wrong_type_is_counted_and_costs_no_other(httpserver):
    rates = {"AUD": None, "BRL": {}, "CAD": True, "CHF": -1, "CZK": "24.1"}
    _answer_with(httpserver, {"amount": 1.0, "base": "EUR", "date": "2026-03-17", "rates": rates})
    pairs = [f"EUR/{symbol}" for symbol in rates]
    answer = Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=pairs))
    asset_ids = {pair: number for number, pair in enumerate(pairs)}
    admission = admit(answer.quotes, asset_ids=asset_ids, as_of=NOW, assumed_at=NOW)
    assert [(quote.asset_id, quote.at, quote.price) for quote in admission.quotes] == [(4, AT, Decimal("24.1"))]
    assert admission.rejected == {"missing": 1, "malformed": 2, "out_of_range": 1}


@pytest.mark.parametrize(
    "payload",
    [
        [],
        {},
        NOT_FOUND,
        # What v2 answers.
        [{"date": "2026-03-17", "base": "EUR", "quote": "USD", "rate": 1.1534}],
        {"base": "EUR", "date": "2026-03-17"},
        {"base": "EUR", "date": "2026-03-17", "rates": None},
        {"base": "EUR", "date": "2026-03-17", "rates": [1.1534]},
        {"base": "EUR", "rates": {"USD": 1.1534}},
        {"base": "EUR", "date": None, "rates": {"USD": 1.1534}},
        {"base": "EUR", "date": 20260317, "rates": {"USD": 1.1534}},
        {"base": "EUR", "date": "2026-02-30", "rates": {"USD": 1.1534}},
        {"base": "EUR", "date": "today", "rates": {"USD": 1.1534}},
        {"date": "2026-03-17", "rates": {"USD": 1.1534}},
        {"base": ["EUR"], "date": "2026-03-17", "rates": {"USD": 1.1534}},
    ],
)
def test_another_shape_is_a_bad_payload(httpserver, payload):
    _answer_with(httpserver, payload)
    with pytest.raises(ProviderUnavailable) as caught:
        Frankfurter().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


def test_rates_of_another_base_are_not_taken_for_those_that_were_asked_for(httpserver):
    _answer_with(httpserver, EURO)
    with pytest.raises(ProviderUnavailable) as caught:
        Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=["GBP/USD"]))
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (403, ProviderRejected, "unauthorized"),
        (422, ProviderRejected, "http_422"),
        (429, ProviderUnavailable, "rate_limited"),
        (503, ProviderUnavailable, "http_503"),
    ],
)
def test_each_other_status_has_its_reason_and_fails_the_answer(httpserver, status, error, reason):
    _answer_with(httpserver, EURO, base="EUR", symbols="USD")
    httpserver.expect_request("/v1/latest").respond_with_json({"message": "x"}, status=status)
    with pytest.raises(error) as caught:
        Frankfurter().fetch(_request(httpserver.url_for(""), external_ids=["CHF/USD", "EUR/USD"]))
    assert caught.value.reason == reason


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    def answer(request):
        rates = {"base": request.args["base"], "date": "2026-03-17", "rates": {"USD": 1}}
        return Response(json.dumps(rates), content_type="application/json")

    request = _request(slow_server.url_for(""), external_ids=["CHF/USD", "EUR/USD", "GBP/USD"])
    assert slow_failure_of(Frankfurter(), request, handler=answer, paths=["/v1/latest"]) == "timeout"


def test_its_limits_are_one_round_an_hour():
    assert Frankfurter.limits == Limits(batch_size=1, shortest_interval_seconds=3600)


# The shape of the schema for a range of dates in the same openapi.json. It begins with the business day before, where
# the first day is none.
RANGE = """{"amount": 1.0, "base": "EUR", "start_date": "2026-03-13", "end_date": "2026-03-18", "rates": {
    "2026-03-13": {"USD": 1.1}, "2026-03-16": {"USD": 1.15}, "2026-03-17": {"USD": 1.1534},
    "2026-03-18": {"USD": 1.2}}}"""


def _past(base_url, since, until=NOW, external_id="EUR/USD"):
    return past_of(Frankfurter(), base_url, external_id, since=since, until=until)


def test_the_past_has_one_rate_per_business_day(httpserver):
    httpserver.expect_oneshot_request(
        "/v1/2026-03-14..2026-03-18", query_string={"base": "EUR", "symbols": "USD"}
    ).respond_with_data(RANGE, content_type="application/json")
    since = datetime(2026, 3, 14, tzinfo=UTC)
    # At nine in the morning the rate of the 18th is ahead, whatever the server says.
    assert Frankfurter().fetch_history(_past(httpserver.url_for(""), since)) == HistoryPage(
        quotes=[
            RawQuote("EUR/USD", Decimal("1.15"), at=AT - timedelta(days=1)),
            RawQuote("EUR/USD", Decimal("1.1534"), at=AT),
        ],
        reached=NOW,
    )


def test_a_call_covers_a_year(httpserver):
    httpserver.expect_request("/v1/2019-01-02..2020-01-02").respond_with_json({"base": "EUR", "rates": {}})
    page = Frankfurter().fetch_history(_past(httpserver.url_for(""), datetime(2019, 1, 2, tzinfo=UTC)))
    assert page == HistoryPage(quotes=[], reached=datetime(2020, 1, 2, tzinfo=UTC))


def test_a_day_without_a_rate_is_left_to_admission(httpserver):
    rates = {"2026-03-16": None, "2026-03-17": {"BRL": 1}}
    httpserver.expect_request("/v1/2026-03-15..2026-03-18").respond_with_json({"base": "EUR", "rates": rates})
    page = Frankfurter().fetch_history(_past(httpserver.url_for(""), datetime(2026, 3, 15, tzinfo=UTC)))
    assert [quote.price for quote in page.quotes] == [None, None]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        {"base": "USD", "rates": {}},
        {"base": "EUR", "rates": []},
        {"base": "EUR", "rates": {"yesterday": {"USD": 1}}},
    ],
)
def test_a_past_of_another_shape_is_a_bad_payload(httpserver, payload):
    httpserver.expect_request("/v1/2026-03-15..2026-03-18").respond_with_json(payload)
    with pytest.raises(ProviderUnavailable) as caught:
        Frankfurter().fetch_history(_past(httpserver.url_for(""), datetime(2026, 3, 15, tzinfo=UTC)))
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize("external_id", NO_PAIRS)
def test_what_is_no_pair_has_no_past_and_is_not_asked_for(httpserver, external_id):
    with pytest.raises(ProviderRejected) as caught:
        Frankfurter().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(days=9), external_id=external_id))
    assert caught.value.reason == "unknown_symbol"
    assert httpserver.log == []


def test_currencies_are_found_by_their_names_as_pairs_of_the_euro(httpserver):
    # The shape of /v1/currencies in the same openapi.json.
    httpserver.expect_request("/v1/currencies").respond_with_json(
        {"AUD": "Australian Dollar", "EUR": "Euro", "GBP": "British Pound", "USD": "United States Dollar"}
    )
    options = Frankfurter().validate_options({"base_url": httpserver.url_for("")})
    assert Frankfurter().search("usd", options) == [SearchResult("EUR/USD", "USD", "United States Dollar", "USD")]
    assert [found.external_id for found in Frankfurter().search("dollar", options)] == ["EUR/AUD", "EUR/USD"]
    assert [found.external_id for found in Frankfurter().search("eur", options)] == ["EUR/AUD", "EUR/GBP", "EUR/USD"]


@pytest.mark.parametrize(("pair", "currency"), [("EUR/USD", "USD"), ("USD/BRL", "BRL"), ("EUR", None), ("EUR/", None)])
def test_the_currency_is_what_stands_after_the_slash(pair, currency):
    assert Frankfurter().currency_of(pair, {}) == currency
