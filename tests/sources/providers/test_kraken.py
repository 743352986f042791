import json
from datetime import UTC, datetime, timedelta

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.kraken import Kraken
from apps.sources.providers.protocol import Answer, HistoryPage, ProviderRejected, ProviderUnavailable, SearchResult
from tests.sources.asking import past_of, request_to

NOW = datetime(2023, 3, 10, 12, 0, 1, 250_000, tzinfo=UTC)
PATH = "/0/public/Ticker"

# The shape of the documented answer of "Get Ticker Information" (Kraken, REST API): c is the last trade, price first.
BITCOIN = {
    "a": ["30300.10000", "1", "1.000"],
    "b": ["30300.00000", "1", "1.000"],
    "c": ["30303.20000", "0.00067643"],
    "v": ["4083.67001100", "4412.73601799"],
    "p": ["30706.77771", "30689.13205"],
    "t": [34619, 38907],
    "l": ["29868.30000", "29868.30000"],
    "h": ["31631.00000", "31631.00000"],
    "o": "30502.80000",
}
ETHER = BITCOIN | {"c": ["1890.41", "0.05"]}
SOLANA = BITCOIN | {"c": ["20.15", "3"]}


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch):
    monkeypatch.setattr(http, "now", lambda: NOW)


def _request(base_url, external_ids=("ETHUSD", "XBTUSD")):
    return request_to(Kraken(), base_url, external_ids)


def _tickers(**tickers):
    return {"error": [], "result": tickers}


def test_one_batch_call_gives_the_last_prices_as_they_were_sent(httpserver):
    httpserver.expect_oneshot_request(
        PATH, method="GET", query_string={"pair": "ETHUSD,SOLUSD,XBTUSD"}
    ).respond_with_json(_tickers(XXBTZUSD=BITCOIN, XETHZUSD=ETHER, SOLUSD=SOLANA))
    request = _request(httpserver.url_for("/"), external_ids=["ETHUSD", "SOLUSD", "XBTUSD"])
    assert Kraken().fetch(request) == Answer(
        quotes=[RawQuote("ETHUSD", "1890.41"), RawQuote("SOLUSD", "20.15"), RawQuote("XBTUSD", "30303.20000")],
        as_of=NOW,
    )


@pytest.mark.parametrize(
    ("external_id", "key"),
    [
        ("XBTUSD", "XXBTZUSD"),
        ("XXBTZUSD", "XXBTZUSD"),
        ("XBTUSD", "XBTUSD"),
        ("ETHXBT", "XETHXXBT"),
        ("EURUSD", "ZEURZUSD"),
        ("SOLUSDT", "SOLUSDT"),
        ("USDTZUSD", "USDTZUSD"),
    ],
)
def test_a_pair_is_found_by_both_of_its_names(httpserver, external_id, key):
    httpserver.expect_request(PATH).respond_with_json(_tickers(**{key: BITCOIN}))
    answer = Kraken().fetch(_request(httpserver.url_for(""), external_ids=[external_id]))
    assert answer.quotes == [RawQuote(external_id, "30303.20000")]


@pytest.mark.parametrize(
    ("external_id", "key"),
    [
        ("XBTUSD", "XXBTZEUR"),
        ("SDTUSD", "USDTZUSD"),
        ("XBTUSD", "XXBTSUSD"),
        ("XBTUSDT", "XXBTZUSDT"),
        ("XBTUS", "XXBTZUS"),
        ("BTCUSD", "XXBTZUSD"),
    ],
)
def test_a_pair_with_another_name_has_no_price(httpserver, external_id, key):
    httpserver.expect_request(PATH).respond_with_json(_tickers(**{key: BITCOIN}))
    answer = Kraken().fetch(_request(httpserver.url_for(""), external_ids=[external_id]))
    assert answer.quotes == [RawQuote(external_id, None)]


def test_both_names_may_be_asked_at_once(httpserver):
    httpserver.expect_request(PATH).respond_with_json(_tickers(XXBTZUSD=BITCOIN))
    answer = Kraken().fetch(_request(httpserver.url_for(""), external_ids=["XBTUSD", "XXBTZUSD"]))
    assert answer.quotes == [RawQuote("XBTUSD", "30303.20000"), RawQuote("XXBTZUSD", "30303.20000")]


@pytest.mark.parametrize("keys", [("XBTUSD", "XXBTZUSD"), ("XXBTZUSD", "XBTUSD")])
def test_a_name_as_it_was_sent_goes_before_one_that_is_made(httpserver, keys):
    tickers = {"XBTUSD": BITCOIN, "XXBTZUSD": ETHER}
    httpserver.expect_request(PATH).respond_with_json(_tickers(**{key: tickers[key] for key in keys}))
    answer = Kraken().fetch(_request(httpserver.url_for(""), external_ids=["XBTUSD"]))
    assert answer.quotes == [RawQuote("XBTUSD", "30303.20000")]


def test_what_was_not_asked_for_is_not_given(httpserver):
    httpserver.expect_request(PATH).respond_with_json(_tickers(XXBTZUSD=BITCOIN, SOLUSD=SOLANA))
    answer = Kraken().fetch(_request(httpserver.url_for(""), external_ids=["XBTUSD"]))
    assert answer.quotes == [RawQuote("XBTUSD", "30303.20000")]


@pytest.mark.parametrize(
    "payload",
    [
        {},
        [],
        [BITCOIN],
        {"result": {"XXBTZUSD": BITCOIN}},
        {"error": None, "result": {"XXBTZUSD": BITCOIN}},
        {"error": "EService:Unavailable"},
        {"error": []},
        {"error": [], "result": {}},
        {"error": [], "result": [BITCOIN]},
        {"error": [], "result": "XXBTZUSD"},
    ],
)
def test_another_shape_is_a_bad_payload(httpserver, payload):
    httpserver.expect_request(PATH).respond_with_json(payload)
    with pytest.raises(ProviderUnavailable) as caught:
        Kraken().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize(
    ("ticker", "reason"),
    [
        (None, "missing"),
        (1, "missing"),
        ("30303.20000", "missing"),
        ([], "missing"),
        ({}, "missing"),
        (BITCOIN | {"c": None}, "missing"),
        (BITCOIN | {"c": []}, "missing"),
        (BITCOIN | {"c": "30303.20000"}, "missing"),
        (BITCOIN | {"c": {"0": "30303.20000"}}, "missing"),
        (BITCOIN | {"c": [None, "1"]}, "missing"),
        (BITCOIN | {"c": [["30303.20000"], "1"]}, "malformed"),
    ],
)
def test_a_ticker_of_the_wrong_type_is_counted_and_costs_no_other(httpserver, ticker, reason):
    httpserver.expect_request(PATH).respond_with_json(_tickers(XXBTZUSD=ticker, XETHZUSD=ETHER))
    answer = Kraken().fetch(_request(httpserver.url_for("")))
    admission = admit(answer.quotes, asset_ids={"XBTUSD": 1, "ETHUSD": 2}, as_of=NOW, assumed_at=NOW)
    assert [quote.asset_id for quote in admission.quotes] == [2]
    assert admission.rejected == {reason: 1}


# The texts are from Kraken's guide to the errors of its API; all of them come with status 200.
@pytest.mark.parametrize(
    ("errors", "error", "reason"),
    [
        (["EAPI:Rate limit exceeded"], ProviderUnavailable, "rate_limited"),
        (["EGeneral:Too many requests"], ProviderUnavailable, "rate_limited"),
        (["EQuery:Unknown asset pair", "EAPI:Rate limit exceeded"], ProviderUnavailable, "rate_limited"),
        (["EQuery:Unknown asset pair"], ProviderRejected, "unknown_symbol"),
        (["EService:Unavailable", "EQuery:Unknown asset pair"], ProviderRejected, "unknown_symbol"),
        (["EService:Unavailable"], ProviderUnavailable, "provider_error"),
        (["EGeneral:Internal error"], ProviderUnavailable, "provider_error"),
        (["EGeneral:Invalid arguments"], ProviderUnavailable, "provider_error"),
        ([None], ProviderUnavailable, "provider_error"),
        ([""], ProviderUnavailable, "provider_error"),
        ([{"code": 1}, 2], ProviderUnavailable, "provider_error"),
    ],
)
def test_an_error_fails_the_answer_even_beside_prices(httpserver, errors, error, reason):
    httpserver.expect_request(PATH).respond_with_json(_tickers(XXBTZUSD=BITCOIN) | {"error": errors})
    with pytest.raises(error) as caught:
        Kraken().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == reason


def test_an_error_needs_no_result(httpserver):
    httpserver.expect_request(PATH).respond_with_json({"error": ["EQuery:Unknown asset pair"]})
    with pytest.raises(ProviderRejected) as caught:
        Kraken().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "unknown_symbol"


def test_more_than_100_pairs_are_asked_in_several_calls(httpserver):
    external_ids = [f"C{number:03}USD" for number in range(201)]
    httpserver.expect_request(PATH).respond_with_handler(_echo)
    answer = Kraken().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert answer.quotes == [RawQuote(external_id, "30303.20000") for external_id in external_ids]
    assert [len(call.args["pair"].split(",")) for call, _ in httpserver.log] == [100, 100, 1]


def _echo(request):
    tickers = _tickers(**{pair: BITCOIN for pair in request.args["pair"].split(",")})
    return Response(json.dumps(tickers), content_type="application/json")


def test_one_failed_call_fails_the_answer(httpserver):
    httpserver.expect_ordered_request(PATH).respond_with_handler(_echo)
    httpserver.expect_ordered_request(PATH).respond_with_data("", status=520)
    with pytest.raises(ProviderUnavailable) as caught:
        Kraken().fetch(_request(httpserver.url_for(""), external_ids=[str(number) for number in range(101)]))
    assert caught.value.reason == "http_520"


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    request = _request(slow_server.url_for(""), external_ids=[str(number) for number in range(300)])
    assert slow_failure_of(Kraken(), request, handler=_echo, paths=[PATH]) == "timeout"


def test_a_second_lies_between_two_calls():
    assert Kraken.limits.interval_seconds_for(Kraken.limits.calls_for(100)) == 1
    assert Kraken.limits.interval_seconds_for(Kraken.limits.calls_for(101)) == 2


# The shape of a row of "Get OHLC Data": time, open, high, low, close, vwap, volume, count. The last row is the candle
# that is not over yet. The answer also has `last`.
CANDLE = [1688671200, "30306.1", "30306.2", "30305.7", "30305.7", "30306.1", "3.39243896", 23]


def _candle(start, close):
    return [int(start.timestamp()), *CANDLE[1:4], close, *CANDLE[5:]]


def _past(base_url, since, until=NOW):
    return past_of(Kraken(), base_url, "XBTUSD", since=since, until=until)


def test_the_past_is_the_close_of_each_candle_at_its_end(httpserver):
    eleven = datetime(2023, 3, 10, 11, tzinfo=UTC)
    rows = [_candle(eleven + timedelta(minutes=minute), str(minute)) for minute in (57, 58, 59, 60)]
    httpserver.expect_oneshot_request(
        "/0/public/OHLC", query_string={"pair": "XBTUSD", "interval": "1"}
    ).respond_with_data(
        json.dumps({"error": [], "result": {"last": 1678449540, "XXBTZUSD": rows}}), content_type="application/json"
    )
    assert Kraken().fetch_history(_past(httpserver.url_for(""), eleven + timedelta(minutes=59))) == HistoryPage(
        quotes=[
            RawQuote("XBTUSD", "58", at=datetime(2023, 3, 10, 11, 59, tzinfo=UTC)),
            RawQuote("XBTUSD", "59", at=datetime(2023, 3, 10, 12, tzinfo=UTC)),
        ],
        reached=NOW,
    )


@pytest.mark.parametrize(
    ("age", "minutes"),
    [
        (timedelta(minutes=719), "1"),
        (timedelta(minutes=720), "5"),
        (timedelta(days=2), "5"),
        (timedelta(days=7), "15"),
        (timedelta(days=14), "30"),
        (timedelta(days=29), "60"),
        (timedelta(days=31), "240"),
        (timedelta(days=365), "1440"),
        (timedelta(days=4_000), "1440"),
    ],
)
def test_the_step_is_the_shortest_of_which_720_reach_back_so_far(httpserver, age, minutes):
    httpserver.expect_request("/0/public/OHLC").respond_with_json(_tickers(XXBTZUSD=[], last=0))
    # Not the length of the span counts: there are only the newest candles.
    page = Kraken().fetch_history(_past(httpserver.url_for(""), NOW - age, until=NOW - age / 10))
    assert page == HistoryPage(quotes=[], reached=NOW - age / 10)
    assert [call.args["interval"] for call, _ in httpserver.log] == [minutes]


@pytest.mark.parametrize(
    "result", [{"last": 1}, {"XXBTZUSD": None}, {"XXBTZUSD": [None]}, {"XXBTZUSD": [[]]}, {"XXBTZUSD": [CANDLE[:4]]}]
)
def test_a_past_of_another_shape_is_a_bad_payload(httpserver, result):
    httpserver.expect_request("/0/public/OHLC").respond_with_json({"error": [], "result": result})
    with pytest.raises(ProviderUnavailable) as caught:
        Kraken().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(hours=1)))
    assert caught.value.reason == "bad_payload"


def test_the_past_of_an_unknown_pair_is_rejected(httpserver):
    httpserver.expect_request("/0/public/OHLC").respond_with_json({"error": ["EQuery:Unknown asset pair"]})
    with pytest.raises(ProviderRejected) as caught:
        Kraken().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(hours=1)))
    assert caught.value.reason == "unknown_symbol"


@pytest.mark.parametrize(
    ("pair", "currency"),
    [
        ("XBTUSD", "USD"),
        ("XXBTZUSD", "USD"),
        ("USDTZUSD", "USD"),
        ("XBTUSDT", "USDT"),
        ("ETHXBT", "BTC"),
        ("XETHXXBT", "BTC"),
        ("EURCHF", "CHF"),
        ("XBTXYZ", None),
        ("USD", None),
    ],
)
def test_the_currency_is_the_end_of_the_pair(pair, currency):
    assert Kraken().currency_of(pair, {}) == currency


# Some fields of the documented answer of "Get Tradable Asset Pairs".
PAIRS = {
    "XETHXXBT": {"altname": "ETHXBT", "wsname": "ETH/XBT", "base": "XETH", "quote": "XXBT", "status": "online"},
    "XXBTZUSD": {"altname": "XBTUSD", "wsname": "XBT/USD", "base": "XXBT", "quote": "ZUSD", "status": "online"},
    "USDTZUSD": {"altname": "USDTUSD", "wsname": "USDT/USD", "base": "USDT", "quote": "ZUSD", "status": "online"},
    "BROKEN": None,
}


@pytest.mark.parametrize("text", ["xbt usd", "BTC/USD"])
def test_pairs_are_found_by_a_search_and_bitcoin_by_both_of_its_names(httpserver, text):
    httpserver.expect_request("/0/public/AssetPairs").respond_with_json({"error": [], "result": PAIRS})
    founds = Kraken().search(text, Kraken().validate_options({"base_url": httpserver.url_for("")}))
    assert founds == [SearchResult("XBTUSD", "XBT", "XBT/USD", "USD")]


def test_a_pair_is_found_under_the_name_of_the_answer(httpserver):
    httpserver.expect_request("/0/public/AssetPairs").respond_with_json({"error": [], "result": PAIRS})
    founds = Kraken().search("usdt", Kraken().validate_options({"base_url": httpserver.url_for("")}))
    assert founds == [SearchResult("USDTZUSD", "USDT", "USDT/USD", "USD")]
