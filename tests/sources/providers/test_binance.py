import json
from datetime import UTC, datetime, timedelta

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.binance import Binance
from apps.sources.providers.protocol import Answer, HistoryPage, ProviderRejected, ProviderUnavailable, SearchResult
from tests.sources.asking import past_of, request_to

NOW = datetime(2023, 3, 10, 12, 0, 1, 250_000, tzinfo=UTC)
PATH = "/api/v3/ticker/price"

# The documented answer of "Symbol price ticker" for several symbols (binance-spot-api-docs, rest-api.md).
LITECOIN = {"symbol": "LTCBTC", "price": "4.00000200"}
ETHER = {"symbol": "ETHBTC", "price": "0.07946600"}

# The sample payload under "Error Codes" there, and two of errors.md.
INVALID_SYMBOL = {"code": -1121, "msg": "Invalid symbol."}
ILLEGAL_CHARACTERS = {"code": -1100, "msg": "Illegal characters found in a parameter."}
TOO_MANY_REQUESTS = {"code": -1003, "msg": "Too many requests queued."}


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch):
    monkeypatch.setattr(http, "now", lambda: NOW)


def _request(base_url, external_ids=("ETHBTC", "LTCBTC")):
    return request_to(Binance(), base_url, external_ids)


def test_one_batch_call_gives_the_prices_as_they_were_sent(httpserver):
    httpserver.expect_oneshot_request(
        PATH, method="GET", query_string={"symbols": '["ETHBTC","LTCBTC"]'}
    ).respond_with_json([LITECOIN, ETHER])
    assert Binance().fetch(_request(httpserver.url_for("/"))) == Answer(
        quotes=[RawQuote("LTCBTC", "4.00000200"), RawQuote("ETHBTC", "0.07946600")], as_of=NOW
    )


def test_a_symbol_that_is_not_ascii_is_sent_as_it_is(httpserver):
    httpserver.expect_request(PATH, query_string={"symbols": '["币安人生USDT"]'}).respond_with_json(
        [{"symbol": "币安人生USDT", "price": "0.12"}]
    )
    answer = Binance().fetch(_request(httpserver.url_for(""), external_ids=["币安人生USDT"]))
    assert answer.quotes == [RawQuote("币安人生USDT", "0.12")]


def test_what_was_not_asked_for_is_not_given(httpserver):
    httpserver.expect_request(PATH).respond_with_json([{"symbol": "BNBBTC", "price": "1"}, ETHER])
    assert Binance().fetch(_request(httpserver.url_for(""))).quotes == [RawQuote("ETHBTC", "0.07946600")]


@pytest.mark.parametrize("payload", [{}, [], ETHER, {"data": [ETHER]}, INVALID_SYMBOL])
def test_another_shape_is_a_bad_payload(httpserver, payload):
    httpserver.expect_request(PATH).respond_with_json(payload)
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


def test_an_item_of_the_wrong_type_is_counted_and_costs_no_other(httpserver):
    items = [None, 1, "LTCBTC", [], {}, {"symbol": ["LTCBTC"]}, {"symbol": "LTCBTC"}, LITECOIN | {"price": {}}, ETHER]
    httpserver.expect_request(PATH).respond_with_json(items)
    answer = Binance().fetch(_request(httpserver.url_for("")))
    admission = admit(answer.quotes, asset_ids={"LTCBTC": 1, "ETHBTC": 2}, as_of=NOW, assumed_at=NOW)
    assert [quote.asset_id for quote in admission.quotes] == [2]
    assert admission.rejected == {"unknown_asset": 6, "missing": 1, "malformed": 1}


def test_two_prices_of_one_symbol_are_left_to_admission(httpserver):
    httpserver.expect_request(PATH).respond_with_json([ETHER, ETHER | {"price": "0.08"}])
    answer = Binance().fetch(_request(httpserver.url_for("")))
    assert answer.quotes == [RawQuote("ETHBTC", "0.07946600"), RawQuote("ETHBTC", "0.08")]


@pytest.mark.parametrize("payload", [INVALID_SYMBOL, ILLEGAL_CHARACTERS])
def test_a_symbol_that_binance_does_not_take_fails_the_answer(httpserver, payload):
    httpserver.expect_request(PATH).respond_with_json(payload, status=400)
    with pytest.raises(ProviderRejected) as caught:
        Binance().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "http_400"


def test_too_many_requests_are_rate_limited_for_as_long_as_binance_says(httpserver):
    httpserver.expect_request(PATH).respond_with_json(TOO_MANY_REQUESTS, status=429, headers={"Retry-After": "17"})
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch(_request(httpserver.url_for("")))
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("rate_limited", 17)


def test_a_banned_address_is_rate_limited(httpserver):
    httpserver.expect_request(PATH).respond_with_json(TOO_MANY_REQUESTS, status=418)
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "rate_limited"


def test_a_ban_lasts_as_long_as_binance_says(httpserver):
    httpserver.expect_request(PATH).respond_with_json(TOO_MANY_REQUESTS, status=418, headers={"Retry-After": "900"})
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch(_request(httpserver.url_for("")))
    assert caught.value.retry_after_seconds == 900


def test_the_firewall_of_binance_is_unauthorized(httpserver):
    httpserver.expect_request(PATH).respond_with_data("", status=403)
    with pytest.raises(ProviderRejected) as caught:
        Binance().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "unauthorized"


def test_more_than_100_symbols_are_asked_in_several_calls(httpserver):
    external_ids = [f"C{number:03}USDT" for number in range(201)]
    httpserver.expect_request(PATH).respond_with_handler(_echo)
    answer = Binance().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert answer.quotes == [RawQuote(external_id, "1") for external_id in external_ids]
    assert [len(json.loads(call.args["symbols"])) for call, _ in httpserver.log] == [100, 100, 1]


def _echo(request):
    items = [{"symbol": symbol, "price": "1"} for symbol in json.loads(request.args["symbols"])]
    return Response(json.dumps(items), content_type="application/json")


def test_one_failed_call_fails_the_answer(httpserver):
    httpserver.expect_ordered_request(PATH).respond_with_handler(_echo)
    httpserver.expect_ordered_request(PATH).respond_with_data("", status=503)
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch(_request(httpserver.url_for(""), external_ids=[str(number) for number in range(101)]))
    assert caught.value.reason == "http_503"


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    request = _request(slow_server.url_for(""), external_ids=[str(number) for number in range(300)])
    assert slow_failure_of(Binance(), request, handler=_echo, paths=[PATH]) == "timeout"


def test_a_call_weighs_4_of_6000_a_minute():
    assert Binance.limits.calls_for(101) == 2
    assert Binance.limits.interval_seconds_for(1_500) == 60


# The documented row of "Kline/Candlestick data" (binance-spot-api-docs, rest-api.md): open time, open, high, low,
# close, volume, close time, and more.
CANDLE = [
    1499040000000,
    "0.01634790",
    "0.80000000",
    "0.01575800",
    "0.01577100",
    "148976.11427815",
    1499644799999,
    "2434.19055334",
    308,
    "1756.87402397",
    "28.46694368",
    "0",
]


def _candle(start, close):
    return [int(start.timestamp() * 1000), *CANDLE[1:4], close, *CANDLE[5:]]


def _past(base_url, since, until=NOW):
    return past_of(Binance(), base_url, "ETHBTC", since=since, until=until)


def test_the_past_is_the_close_of_each_candle_at_its_end(httpserver):
    eleven = datetime(2023, 3, 10, 11, tzinfo=UTC)
    httpserver.expect_oneshot_request(
        "/api/v3/klines",
        query_string={
            "symbol": "ETHBTC",
            "interval": "1m",
            "startTime": "1678449540000",
            "endTime": "1678449540000",
            "limit": "1000",
        },
    ).respond_with_json([_candle(eleven + timedelta(minutes=minute), str(minute)) for minute in (58, 59, 60)])
    # From after the end of the candle of 11:58; that of 12:00 is not over.
    assert Binance().fetch_history(
        _past(httpserver.url_for(""), since=eleven + timedelta(minutes=59.5))
    ) == HistoryPage(quotes=[RawQuote("ETHBTC", "59", at=datetime(2023, 3, 10, 12, tzinfo=UTC))], reached=NOW)


@pytest.mark.parametrize(
    ("days", "interval", "reached"),
    [
        (2, "1m", datetime(2023, 3, 8, 12, 1, tzinfo=UTC) + timedelta(minutes=1_000)),
        (60, "1h", datetime(2023, 1, 9, 13, tzinfo=UTC) + timedelta(hours=1_000)),
        (1_100, "1d", datetime(2020, 3, 6, tzinfo=UTC) + timedelta(days=1_000)),
        (61, "1d", NOW),
    ],
)
def test_a_call_covers_1000_candles_of_a_step_that_suits_the_span(httpserver, days, interval, reached):
    httpserver.expect_request("/api/v3/klines").respond_with_json([])
    page = Binance().fetch_history(_past(httpserver.url_for(""), since=NOW - timedelta(days=days)))
    assert page == HistoryPage(quotes=[], reached=reached)
    [(call, _)] = httpserver.log
    assert call.args["interval"] == interval


def test_the_last_candle_that_is_asked_for_is_the_thousandth(httpserver):
    httpserver.expect_request("/api/v3/klines").respond_with_json([])
    Binance().fetch_history(_past(httpserver.url_for(""), since=NOW - timedelta(days=2)))
    [(call, _)] = httpserver.log
    assert int(call.args["endTime"]) - int(call.args["startTime"]) == 999 * 60_000


@pytest.mark.parametrize(
    "row",
    [
        None,
        {},
        [],
        CANDLE[:4],
        [None, *CANDLE[1:]],
        ["1", *CANDLE[1:]],
        [10**16, *CANDLE[1:]],
        # The last second of the year 9999, after which there is no candle's end.
        [253_402_300_799_000, *CANDLE[1:]],
    ],
)
def test_a_candle_of_another_shape_is_a_bad_payload(httpserver, row):
    httpserver.expect_request("/api/v3/klines").respond_with_json([CANDLE, row])
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch_history(_past(httpserver.url_for(""), since=NOW - timedelta(hours=1)))
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize(
    ("symbol", "currency"),
    [
        ("BTCUSDT", "USDT"),
        ("ETHBTC", "BTC"),
        ("BTCFDUSD", "FDUSD"),
        ("ADAEUR", "EUR"),
        ("USDTBRL", "BRL"),
        ("BNBETH", "ETH"),
        ("BTCTRY", "TRY"),
        ("USDT", None),
        ("BTCXYZ", None),
        ("", None),
    ],
)
def test_the_currency_is_the_end_of_the_symbol(symbol, currency):
    assert Binance().currency_of(symbol, {}) == currency


def test_symbols_are_found_by_a_search_in_the_prices_of_all(httpserver):
    symbols = ["WBTCBTC", "BTCUSDT", "ETHBTC", "BTCXYZ", "ETHUSDT", *[f"C{number}BTC" for number in range(30)]]
    httpserver.expect_oneshot_request("/api/v3/ticker/price", query_string="").respond_with_json(
        [{"symbol": symbol, "price": "1"} for symbol in symbols]
    )
    founds = Binance().search("btc", Binance().validate_options({"base_url": httpserver.url_for("")}))
    assert founds[0] == SearchResult("BTCUSDT", "BTC", "BTC/USDT", "USDT")
    assert (len(founds), "ETHUSDT" in [found.external_id for found in founds]) == (20, False)


def test_a_pair_is_found_by_both_of_its_halves(httpserver):
    httpserver.expect_request("/api/v3/ticker/price").respond_with_json(
        [{"symbol": symbol} for symbol in ("BTCUSDT", "ETHUSDT", "ETHBTC", "BTCXYZ")]
    )
    options = Binance().validate_options({"base_url": httpserver.url_for("")})
    assert [found.external_id for found in Binance().search("BTC/USDT", options)] == ["BTCUSDT"]
    assert Binance().search("xyz", options) == [SearchResult("BTCXYZ", "BTCXYZ", "BTCXYZ", None)]
