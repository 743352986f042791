import json
import logging
import socket
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.alphavantage import AlphaVantage
from apps.sources.providers.protocol import (
    Answer,
    HistoryPage,
    Limits,
    ProviderRejected,
    ProviderUnavailable,
    SearchResult,
)
from tests.sources.asking import past_of, request_to

NOW = datetime(2018, 11, 2, 18, 0, 1, 250_000, tzinfo=UTC)
KEY = "canary-5f1c9e"

# The shapes of the vendor's examples at alphavantage.co/documentation: every number is a string.
MICROSOFT = {
    "Global Quote": {
        "01. symbol": "MSFT",
        "02. open": "112.6300",
        "03. high": "113.1700",
        "04. low": "110.3300",
        "05. price": "112.1300",
        "06. volume": "29062853",
        "07. latest trading day": "2018-10-05",
        "08. previous close": "112.7900",
        "09. change": "-0.6600",
        "10. change percent": "-0.5852%",
    }
}
RATE = {
    "1. From_Currency Code": "EUR",
    "2. From_Currency Name": "Euro",
    "3. To_Currency Code": "USD",
    "4. To_Currency Name": "United States Dollar",
    "5. Exchange Rate": "1.13980000",
    "6. Last Refreshed": "2018-11-02 17:56:53",
    "7. Time Zone": "UTC",
    "8. Bid Price": "1.13970000",
    "9. Ask Price": "1.13990000",
}
# When that trading day was over in New York.
FIFTH_OF_OCTOBER = datetime(2018, 10, 6, 4, tzinfo=UTC)
EURO = {"Realtime Currency Exchange Rate": RATE}

# The vendor does not document its texts: these are as its users have quoted them. All come with status 200, and those
# of too many calls speak of premium too.
TOO_OFTEN = {
    "Note": "Thank you for using Alpha Vantage! Our standard API call frequency is 5 calls per minute and 500 calls "
    "per day. Please visit https://www.alphavantage.co/premium/ if you would like to target a higher API call "
    "frequency."
}
TOO_QUICK = {
    "Information": "Thank you for using Alpha Vantage! Please consider spreading out your free API requests more "
    "sparingly (1 request per second). You may subscribe to any of the premium plans at "
    "https://www.alphavantage.co/premium/ to lift the free key rate limit (25 requests per day), raise the per-second "
    "burst limit, and instantly unlock all premium endpoints"
}
DAY_IS_OVER = {
    "Information": f"We have detected your API key as {KEY} and our standard API rate limit is 25 requests per day. "
    "Please subscribe to any of the premium plans at https://www.alphavantage.co/premium/ to instantly remove all "
    "daily rate limits."
}
PREMIUM = {
    "Information": "Thank you for using Alpha Vantage! This is a premium endpoint. You may subscribe to any of the "
    "premium plans at https://www.alphavantage.co/premium/ to instantly unlock all premium endpoints"
}
WRONG_KEY = {
    "Error Message": "the parameter apikey is invalid or missing. Please claim your free API key on "
    "(https://www.alphavantage.co/support/#api-key). It should take less than 20 seconds."
}
WRONG_SYMBOL = {
    "Error Message": "Invalid API call. Please retry or visit the documentation "
    "(https://www.alphavantage.co/documentation/) for CURRENCY_EXCHANGE_RATE."
}


@pytest.fixture(autouse=True)
def edge(monkeypatch):
    """Stop the clock at NOW and set the key."""
    monkeypatch.setattr(http, "now", lambda: NOW)
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", KEY)


def _request(base_url, external_ids=("MSFT",)):
    return request_to(AlphaVantage(), base_url, external_ids)


def _answer_with(httpserver, payload, **query):
    httpserver.expect_request("/query", query_string={**query, "apikey": KEY} if query else None).respond_with_json(
        payload
    )


def test_a_share_and_an_exchange_rate_are_one_call_each_and_come_as_they_were_sent(httpserver):
    _answer_with(httpserver, EURO, function="CURRENCY_EXCHANGE_RATE", from_currency="EUR", to_currency="USD")
    _answer_with(httpserver, MICROSOFT, function="GLOBAL_QUOTE", symbol="MSFT")
    answer = AlphaVantage().fetch(_request(httpserver.url_for("/"), external_ids=["EUR/USD", "MSFT"]))
    assert answer == Answer(
        quotes=[
            RawQuote("EUR/USD", "1.13980000", at=datetime(2018, 11, 2, 17, 56, 53, tzinfo=UTC)),
            RawQuote("MSFT", "112.1300", at=FIFTH_OF_OCTOBER),
        ],
        as_of=NOW,
    )
    assert len(httpserver.log) == 2


@pytest.mark.parametrize(
    ("refreshed", "zone"),
    [
        ("2018-11-02 17:56:53", "US/Eastern"),
        ("2018-11-02 17:56:53", None),
        ("2018-11-02 17:56:53+02:00", "UTC"),
        ("2018-13-02 17:56:53", "UTC"),
        (1541181413, "UTC"),
        (None, "UTC"),
    ],
)
def test_a_time_in_another_zone_or_form_is_no_event_time(httpserver, refreshed, zone):
    rate = RATE | {"6. Last Refreshed": refreshed, "7. Time Zone": zone}
    _answer_with(httpserver, {"Realtime Currency Exchange Rate": rate})
    answer = AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["EUR/USD"]))
    assert answer.quotes == [RawQuote("EUR/USD", "1.13980000")]


def test_a_rate_without_any_time_has_no_event_time(httpserver):
    rate = {"5. Exchange Rate": "1.13980000", "7. Time Zone": "UTC"}
    _answer_with(httpserver, {"Realtime Currency Exchange Rate": rate})
    answer = AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["EUR/USD"]))
    assert answer.quotes == [RawQuote("EUR/USD", "1.13980000")]


def _share_of(day, httpserver, calendar=""):
    """Return the quote of a share whose price is of this trading day."""
    _answer_with(httpserver, {"Global Quote": MICROSOFT["Global Quote"] | {"07. latest trading day": day}})
    [quote] = AlphaVantage().fetch(replace(_request(httpserver.url_for("")), calendars={"MSFT": calendar})).quotes
    return quote


@pytest.mark.parametrize(
    ("day", "calendar", "at"),
    [
        ("2018-10-05", "", FIFTH_OF_OCTOBER),
        ("2018-10-05", "XNYS", datetime(2018, 10, 5, 20, tzinfo=UTC)),
        # The day after Thanksgiving is short, and on a Saturday there is no session.
        ("2017-11-24", "XNYS", datetime(2017, 11, 24, 18, tzinfo=UTC)),
        ("2018-10-06", "XNYS", datetime(2018, 10, 7, 4, tzinfo=UTC)),
        ("2018-10-05", "XTKS", datetime(2018, 10, 5, 6, tzinfo=UTC)),
        ("2018-10-05", "XNZE", datetime(2018, 10, 5, 3, 45, tzinfo=UTC)),
        ("2018-10-05", "24/5", datetime(2018, 10, 6, tzinfo=UTC)),
        # Of the day that is not over yet, and of one to come: of now.
        ("2018-11-02", "", NOW),
        ("2018-11-02", "XNYS", NOW),
        ("2018-11-03", "", NOW),
    ],
)
def test_a_price_of_which_only_the_day_is_named_is_of_the_end_of_that_day(httpserver, day, calendar, at):
    assert _share_of(day, httpserver, calendar).at == at


@pytest.mark.parametrize("day", ["2018-10-32", "yesterday", "", "9999-12-31", 20181005, {}])
def test_a_day_that_is_none_is_rejected_and_not_taken_as_now(httpserver, day):
    admission = admit([_share_of(day, httpserver)], asset_ids={"MSFT": 1}, as_of=NOW, assumed_at=NOW)
    assert (admission.quotes, sum(admission.rejected.values())) == ([], 1)


def test_a_rate_of_which_only_the_day_is_named_is_of_the_end_of_that_day(httpserver):
    _answer_with(httpserver, {"Realtime Currency Exchange Rate": RATE | {"6. Last Refreshed": "2018-10-31"}})
    answer = AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["EUR/USD"]))
    assert answer.quotes == [RawQuote("EUR/USD", "1.13980000", at=datetime(2018, 11, 1, tzinfo=UTC))]


@pytest.mark.parametrize("payload", [{}, {"Global Quote": {}}, WRONG_SYMBOL, {"Error Message": None}])
def test_an_unknown_symbol_has_no_price_and_costs_no_other(httpserver, payload):
    _answer_with(httpserver, payload, function="GLOBAL_QUOTE", symbol="GONE")
    _answer_with(httpserver, MICROSOFT, function="GLOBAL_QUOTE", symbol="MSFT")
    answer = AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["GONE", "MSFT"]))
    assert answer.quotes == [RawQuote("GONE", None), RawQuote("MSFT", "112.1300", at=FIFTH_OF_OCTOBER)]


@pytest.mark.parametrize("payload", [{}, {"Realtime Currency Exchange Rate": {}}, WRONG_SYMBOL])
def test_an_unknown_pair_has_no_price(httpserver, payload):
    _answer_with(httpserver, payload)
    answer = AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["EUR/XXX"]))
    assert answer.quotes == [RawQuote("EUR/XXX", None)]


@pytest.mark.parametrize(
    ("payload", "error", "reason"),
    [
        (TOO_OFTEN, ProviderUnavailable, "rate_limited"),
        (TOO_QUICK, ProviderUnavailable, "rate_limited"),
        (DAY_IS_OVER, ProviderUnavailable, "rate_limited"),
        (TOO_OFTEN | MICROSOFT, ProviderUnavailable, "rate_limited"),
        ({"Information": None}, ProviderUnavailable, "rate_limited"),
        (PREMIUM, ProviderRejected, "premium"),
        ({"Note": PREMIUM["Information"]}, ProviderRejected, "premium"),
        (TOO_OFTEN | PREMIUM, ProviderRejected, "premium"),
        (WRONG_KEY, ProviderRejected, "unauthorized"),
    ],
)
def test_an_error_with_status_200_is_known_by_its_text(httpserver, payload, error, reason):
    _answer_with(httpserver, MICROSOFT, function="GLOBAL_QUOTE", symbol="AAPL")
    _answer_with(httpserver, payload, function="GLOBAL_QUOTE", symbol="MSFT")
    with pytest.raises(error) as caught:
        AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["AAPL", "MSFT", "NVDA"]))
    assert caught.value.reason == reason
    assert [call.args["symbol"] for call, _ in httpserver.log] == ["AAPL", "MSFT"]


@pytest.mark.parametrize(
    "payload", [[], [MICROSOFT], {"Global Quote": None}, {"Global Quote": "112.13"}, {"Global Quote": []}, EURO]
)
def test_another_shape_is_a_bad_payload(httpserver, payload):
    _answer_with(httpserver, payload)
    with pytest.raises(ProviderUnavailable) as caught:
        AlphaVantage().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize(
    ("price", "rejected"),
    [
        (None, {"missing": 1}),
        ({}, {"malformed": 1}),
        (True, {"malformed": 1}),
        ("None", {"malformed": 1}),
        ("NaN", {"not_finite": 1}),
        ("0.0000", {"out_of_range": 1}),
    ],
)
def test_a_price_of_the_wrong_type_is_counted_and_costs_no_other(httpserver, price, rejected):
    _answer_with(httpserver, {"Global Quote": {"05. price": price}}, function="GLOBAL_QUOTE", symbol="AAPL")
    _answer_with(httpserver, MICROSOFT, function="GLOBAL_QUOTE", symbol="MSFT")
    answer = AlphaVantage().fetch(_request(httpserver.url_for(""), external_ids=["AAPL", "MSFT"]))
    admission = admit(answer.quotes, asset_ids={"AAPL": 1, "MSFT": 2}, as_of=NOW, assumed_at=NOW)
    assert [(quote.asset_id, quote.price) for quote in admission.quotes] == [(2, Decimal("112.1300"))]
    assert admission.rejected == rejected


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    request = _request(slow_server.url_for(""), external_ids=["AAPL", "MSFT"])
    answer = Response(json.dumps(MICROSOFT), content_type="application/json")
    assert slow_failure_of(AlphaVantage(), request, handler=lambda call: answer, paths=["/query"]) == "timeout"


def test_a_key_with_a_line_end_is_sent_without_it(httpserver, monkeypatch):
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", f"{KEY}\n")
    _answer_with(httpserver, MICROSOFT)
    AlphaVantage().fetch(_request(httpserver.url_for("")))
    assert [call.args["apikey"] for call, _ in httpserver.log] == [KEY]


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (json.dumps(DAY_IS_OVER), 200, "rate_limited"),
        (json.dumps({"Information": f"{KEY} may not use a premium endpoint"}), 200, "premium"),
        (json.dumps({"Error Message": f"the parameter apikey {KEY} is invalid"}), 200, "unauthorized"),
        (json.dumps([KEY]), 200, "bad_payload"),
        (f"<html>{KEY}</html>", 200, "bad_payload"),
        (f"bad key {KEY}", 401, "unauthorized"),
        (f"bad key {KEY}", 404, "http_404"),
        (KEY, 500, "http_500"),
    ],
)
def test_no_error_and_no_log_line_reveals_the_key_that_stands_in_the_address(httpserver, caplog, body, status, reason):
    caplog.set_level(logging.DEBUG)
    httpserver.expect_request("/query").respond_with_data(body, status=status, content_type="application/json")
    # The server of this test writes addresses down itself.
    caplog.set_level(logging.CRITICAL, logger="werkzeug")
    with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
        AlphaVantage().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == reason
    assert [call.args["apikey"] for call, _ in httpserver.log] == [KEY]
    assert KEY not in _notified(caught.value) + caplog.text


def _notified(error):
    return "".join(traceback.format_exception(error)) + repr(error) + repr(error.__context__) + repr(error.__cause__)


def test_a_failed_connection_does_not_reveal_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnavailable) as caught:
        AlphaVantage().fetch(_request(f"http://127.0.0.1:{port}"))
    assert caught.value.reason == "connection"
    assert KEY not in _notified(caught.value) + caplog.text


def test_its_limits_are_those_of_a_free_key_and_a_round_is_one_call():
    assert AlphaVantage.limits == Limits(
        batch_size=1, shortest_interval_seconds=1, calls_per_minute=5, calls_per_day=25, calls_per_round=1
    )


# The shapes of the vendor's examples of TIME_SERIES_DAILY and FX_DAILY. The newest day comes first, and may not be
# over.
SHARE_DAYS = {
    "Meta Data": {
        "1. Information": "Daily Prices (open, high, low, close) and Volumes",
        "2. Symbol": "MSFT",
        "3. Last Refreshed": "2018-11-02",
        "4. Output Size": "Compact",
        "5. Time Zone": "US/Eastern",
    },
    "Time Series (Daily)": {
        "2018-11-02": {
            "1. open": "106.48",
            "2. high": "107.32",
            "3. low": "104.98",
            "4. close": "106.16",
            "5. volume": "1",
        },
        "2018-11-01": {
            "1. open": "107.05",
            "2. high": "107.32",
            "3. low": "105.53",
            "4. close": "105.92",
            "5. volume": "1",
        },
        "2018-10-31": {
            "1. open": "105.44",
            "2. high": "108.14",
            "3. low": "105.39",
            "4. close": "106.81",
            "5. volume": "1",
        },
    },
}
RATE_DAYS = {
    "Meta Data": {
        "1. Information": "Forex Daily Prices (open, high, low, close)",
        "2. From Symbol": "EUR",
        "3. To Symbol": "USD",
        "4. Output Size": "Compact",
        "5. Last Refreshed": "2018-11-02 17:55:00",
        "6. Time Zone": "UTC",
    },
    "Time Series FX (Daily)": {
        "2018-11-02": {"1. open": "1.1408", "2. high": "1.1456", "3. low": "1.1373", "4. close": "1.1388"},
        "2018-11-01": {"1. open": "1.1312", "2. high": "1.1424", "3. low": "1.1309", "4. close": "1.1407"},
    },
}


def _past(base_url, external_id="MSFT", days=60):
    return past_of(AlphaVantage(), base_url, external_id, since=NOW - timedelta(days=days), until=NOW)


def test_the_past_of_a_share_is_the_close_of_each_day_at_its_end_in_new_york(httpserver):
    _answer_with(httpserver, SHARE_DAYS, function="TIME_SERIES_DAILY", symbol="MSFT", outputsize="compact")
    assert AlphaVantage().fetch_history(_past(httpserver.url_for(""))) == HistoryPage(
        quotes=[
            RawQuote("MSFT", "106.81", at=datetime(2018, 11, 1, 4, tzinfo=UTC)),
            RawQuote("MSFT", "105.92", at=datetime(2018, 11, 2, 4, tzinfo=UTC)),
        ],
        reached=NOW,
    )


@pytest.mark.parametrize("calendar", ["", "XNYS"])
def test_the_past_and_the_newest_price_put_a_day_at_the_same_time(httpserver, calendar):
    _answer_with(httpserver, SHARE_DAYS, function="TIME_SERIES_DAILY", symbol="MSFT", outputsize="compact")
    page = AlphaVantage().fetch_history(replace(_past(httpserver.url_for("")), calendar=calendar))
    httpserver.clear()
    newest = []
    for day in ("2018-10-31", "2018-11-01"):
        newest.append(_share_of(day, httpserver, calendar).at)
        httpserver.clear()
    assert [quote.at for quote in page.quotes] == newest


def test_the_past_of_a_rate_is_the_close_of_each_day_at_its_end_in_utc(httpserver):
    _answer_with(httpserver, RATE_DAYS, function="FX_DAILY", from_symbol="EUR", to_symbol="USD", outputsize="compact")
    assert AlphaVantage().fetch_history(_past(httpserver.url_for(""), "EUR/USD")) == HistoryPage(
        quotes=[RawQuote("EUR/USD", "1.1407", at=datetime(2018, 11, 2, tzinfo=UTC))], reached=NOW
    )


@pytest.mark.parametrize("zone", ["GMT+8", None, ["UTC"]])
def test_a_day_of_another_zone_ends_as_one_of_new_york_does(httpserver, zone):
    _answer_with(httpserver, RATE_DAYS | {"Meta Data": {"6. Time Zone": zone}})
    page = AlphaVantage().fetch_history(_past(httpserver.url_for(""), "EUR/USD"))
    assert [quote.at for quote in page.quotes] == [datetime(2018, 11, 2, 4, tzinfo=UTC)]


def test_one_call_gives_all_that_a_free_key_has(httpserver):
    _answer_with(httpserver, SHARE_DAYS)
    page = AlphaVantage().fetch_history(_past(httpserver.url_for(""), days=2_000))
    assert (len(page.quotes), page.reached, len(httpserver.log)) == (2, NOW, 1)


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (WRONG_SYMBOL, "unknown_symbol"),
        ({}, "unknown_symbol"),
        (DAY_IS_OVER, "rate_limited"),
        (PREMIUM, "premium"),
        (WRONG_KEY, "unauthorized"),
        ([], "bad_payload"),
        (RATE_DAYS, "bad_payload"),
        ({"Meta Data": None, "Time Series (Daily)": {}}, "bad_payload"),
        (SHARE_DAYS | {"Time Series (Daily)": []}, "bad_payload"),
        (SHARE_DAYS | {"Time Series (Daily)": {"2018-11-01": {}}}, "bad_payload"),
        (SHARE_DAYS | {"Time Series (Daily)": {"2018-11-01": None}}, "bad_payload"),
        (SHARE_DAYS | {"Time Series (Daily)": {"yesterday": {"4. close": "1"}}}, "bad_payload"),
        (SHARE_DAYS | {"Time Series (Daily)": {"9999-12-31": {"4. close": "1"}}}, "bad_payload"),
    ],
)
def test_a_past_that_is_not_given_fails_with_its_reason(httpserver, payload, reason):
    _answer_with(httpserver, payload)
    with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
        AlphaVantage().fetch_history(_past(httpserver.url_for("")))
    assert caught.value.reason == reason


# The vendor's example of SYMBOL_SEARCH, without the opening times.
MATCH = {
    "1. symbol": "TSCO.LON",
    "2. name": "Tesco PLC",
    "3. type": "Equity",
    "4. region": "United Kingdom",
    "8. currency": "GBX",
    "9. matchScore": "0.7273",
}


def test_shares_are_found_with_their_currencies(httpserver):
    matches = [MATCH, {"1. symbol": "TSCDF"}, {}, *[MATCH | {"1. symbol": f"T{number}"} for number in range(25)]]
    _answer_with(httpserver, {"bestMatches": matches}, function="SYMBOL_SEARCH", keywords="tesco")
    founds = AlphaVantage().search("tesco", AlphaVantage().validate_options({"base_url": httpserver.url_for("")}))
    assert founds[:2] == [
        SearchResult("TSCO.LON", "TSCO.LON", "Tesco PLC", "GBX"),
        SearchResult("TSCDF", "TSCDF", "", None),
    ]
    assert len(founds) == 20


@pytest.mark.parametrize(("external_id", "currency"), [("EUR/USD", "USD"), ("BTC/EUR", "EUR"), ("MSFT", None)])
def test_only_a_pair_names_its_currency(external_id, currency):
    assert AlphaVantage().currency_of(external_id, {}) == currency
