import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from werkzeug import Response

from apps.market.domain import AdmittedQuote, RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.coinbase import Coinbase
from apps.sources.providers.protocol import Answer, HistoryPage, ProviderRejected, ProviderUnavailable, SearchResult
from tests.sources.asking import past_of, request_to

NOW = datetime(2023, 3, 10, 12, 0, 1, 250_000, tzinfo=UTC)

# The shape of the documented answer of "Get product ticker" (Coinbase Exchange, REST API); volume is that of 24 hours.
BITCOIN = {
    "trade_id": 86326522,
    "price": "6268.48",
    "size": "0.00698254",
    "time": "2020-03-20T00:22:57.833897Z",
    "bid": "6265.15",
    "ask": "6267.71",
    "volume": "53602.03940154",
}
ETHER = BITCOIN | {"price": "133.7", "time": "2020-03-20T00:22:58Z"}

# The shape of an error, from "Requests" there.
NOT_FOUND = {"message": "NotFound"}


@pytest.fixture(autouse=True)
def _stopped_clock(monkeypatch):
    monkeypatch.setattr(http, "now", lambda: NOW)


def _request(base_url, external_ids=("BTC-USD", "ETH-USD")):
    return request_to(Coinbase(), base_url, external_ids)


def test_each_product_is_one_call_and_gives_price_and_time_as_they_were_sent(httpserver):
    httpserver.expect_oneshot_request("/products/BTC-USD/ticker", method="GET", query_string="").respond_with_json(
        BITCOIN
    )
    httpserver.expect_oneshot_request("/products/ETH-USD/ticker", method="GET", query_string="").respond_with_json(
        ETHER
    )
    assert Coinbase().fetch(_request(httpserver.url_for("/"))) == Answer(
        quotes=[
            RawQuote("BTC-USD", "6268.48", at="2020-03-20T00:22:57.833897Z"),
            RawQuote("ETH-USD", "133.7", at="2020-03-20T00:22:58Z"),
        ],
        as_of=NOW,
    )


def test_the_time_of_the_trade_is_the_time_of_the_quote(httpserver):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(BITCOIN)
    answer = Coinbase().fetch(_request(httpserver.url_for(""), external_ids=["BTC-USD"]))
    admission = admit(answer.quotes, asset_ids={"BTC-USD": 1}, as_of=NOW, assumed_at=NOW)
    traded_at = datetime(2020, 3, 20, 0, 22, 57, 833_897, tzinfo=UTC)
    assert admission.quotes == [AdmittedQuote(1, traded_at, Decimal("6268.48"), None)]


@pytest.mark.parametrize("payload", [{}, [], ["price"], [BITCOIN], {"data": BITCOIN}, NOT_FOUND])
def test_another_shape_is_a_bad_payload(httpserver, payload):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(payload)
    with pytest.raises(ProviderUnavailable) as caught:
        Coinbase().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


@pytest.mark.parametrize(
    ("ticker", "reason"),
    [
        (BITCOIN | {"price": None}, "missing"),
        (BITCOIN | {"price": ""}, "missing"),
        (BITCOIN | {"price": ["6268.48"]}, "malformed"),
        (BITCOIN | {"price": {}}, "malformed"),
        (BITCOIN | {"time": "soon"}, "time_malformed"),
        (BITCOIN | {"time": {}}, "time_malformed"),
        (BITCOIN | {"time": "2020-03-20T00:22:57"}, "time_naive"),
    ],
)
def test_a_field_of_the_wrong_type_is_counted_and_costs_no_other(httpserver, ticker, reason):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(ticker)
    httpserver.expect_request("/products/ETH-USD/ticker").respond_with_json(ETHER)
    answer = Coinbase().fetch(_request(httpserver.url_for("")))
    admission = admit(answer.quotes, asset_ids={"BTC-USD": 1, "ETH-USD": 2}, as_of=NOW, assumed_at=NOW)
    assert [quote.asset_id for quote in admission.quotes] == [2]
    assert admission.rejected == {reason: 1}


def test_a_number_is_the_decimal_that_was_sent_and_no_time_is_none(httpserver):
    httpserver.expect_request("/products/ETH-USD/ticker").respond_with_data(
        '{"price": 133.700000000000000001}', content_type="application/json"
    )
    answer = Coinbase().fetch(_request(httpserver.url_for(""), external_ids=["ETH-USD"]))
    assert answer.quotes == [RawQuote("ETH-USD", Decimal("133.700000000000000001"))]


@pytest.mark.parametrize(("status", "reason"), [(404, "unknown_symbol"), (400, "http_400")])
def test_a_product_that_is_refused_costs_only_itself(httpserver, status, reason):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(NOT_FOUND, status=status)
    httpserver.expect_request("/products/ETH-USD/ticker").respond_with_json(ETHER)
    answer = Coinbase().fetch(_request(httpserver.url_for("")))
    assert answer.quotes == [RawQuote("BTC-USD", None), RawQuote("ETH-USD", "133.7", at="2020-03-20T00:22:58Z")]
    assert (answer.refused, answer.extra_calls, len(httpserver.log)) == ({"BTC-USD": reason}, 0, 2)


def test_where_no_product_is_there_the_answer_fails(httpserver):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(NOT_FOUND, status=404)
    httpserver.expect_request("/products/ETH-USD/ticker").respond_with_json(NOT_FOUND, status=404)
    with pytest.raises(ProviderRejected) as caught:
        Coinbase().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "unknown_symbol"


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (401, ProviderRejected, "unauthorized"),
        (403, ProviderRejected, "unauthorized"),
        (429, ProviderUnavailable, "rate_limited"),
        (500, ProviderUnavailable, "http_500"),
    ],
)
def test_every_other_failure_of_one_product_fails_the_answer(httpserver, status, error, reason):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(BITCOIN)
    httpserver.expect_request("/products/ETH-USD/ticker").respond_with_json({"message": "no"}, status=status)
    with pytest.raises(error) as caught:
        Coinbase().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == reason


def test_nothing_more_is_asked_after_a_failure(httpserver):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_data("", status=429)
    with pytest.raises(ProviderUnavailable):
        Coinbase().fetch(_request(httpserver.url_for("")))
    assert [call.path for call, _ in httpserver.log] == ["/products/BTC-USD/ticker"]


def test_an_external_id_stays_one_part_of_the_path(httpserver):
    httpserver.expect_request("/products/BTC-USD/../../x?y#é/ticker", query_string="").respond_with_json(BITCOIN)
    answer = Coinbase().fetch(_request(httpserver.url_for(""), external_ids=["BTC-USD/../../x?y#é"]))
    assert [quote.price for quote in answer.quotes] == ["6268.48"]
    assert [call.environ["REQUEST_URI"] for call, _ in httpserver.log] == [
        "/products/BTC-USD%2F..%2F..%2Fx%3Fy%23%C3%A9/ticker"
    ]


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    request = _request(slow_server.url_for(""))
    paths = ["/products/BTC-USD/ticker", "/products/ETH-USD/ticker"]
    answer = Response(json.dumps(BITCOIN), content_type="application/json")
    assert slow_failure_of(Coinbase(), request, handler=lambda call: answer, paths=paths) == "timeout"


def test_ten_products_are_what_may_be_asked_in_a_second():
    assert Coinbase.limits.interval_seconds_for(Coinbase.limits.calls_for(10)) == 1
    assert Coinbase.limits.interval_seconds_for(Coinbase.limits.calls_for(11)) == 2


def _candle(start, close):
    """Return a row as "Get product candles" documents it: time, low, high, open, close, volume, the newest first."""
    return [int(start.timestamp()), 0.32, 4.2, 0.35, close, 12.3]


def _past(base_url, since, until=NOW, external_id="BTC-USD"):
    return past_of(Coinbase(), base_url, external_id, since=since, until=until)


def test_the_past_is_the_close_of_each_candle_at_its_end_oldest_first(httpserver):
    ten = datetime(2023, 3, 7, 10, tzinfo=UTC)
    rows = [_candle(ten + timedelta(hours=hour), 100 + hour) for hour in (74, 3, 1, 0)]
    httpserver.expect_oneshot_request(
        "/products/BTC-USD/candles",
        query_string={
            "granularity": "3600",
            "start": "2023-03-07T11:00:00+00:00",
            "end": "2023-03-10T11:00:00+00:00",
        },
    ).respond_with_json(rows)
    # 11:00 is what the candle of 10:00 ends with, and so before `since`. That of 12:00 today is not over.
    assert Coinbase().fetch_history(_past(httpserver.url_for(""), ten + timedelta(hours=1.5))) == HistoryPage(
        quotes=[
            RawQuote("BTC-USD", 101, at=datetime(2023, 3, 7, 12, tzinfo=UTC)),
            RawQuote("BTC-USD", 103, at=datetime(2023, 3, 7, 14, tzinfo=UTC)),
        ],
        reached=NOW,
    )


def test_a_candle_that_ends_where_the_stretch_does_is_outside(httpserver):
    eleven = datetime(2023, 3, 10, 11, tzinfo=UTC)
    rows = [_candle(eleven + timedelta(minutes=minute), 100 + minute) for minute in (0, 1)]
    httpserver.expect_request("/products/BTC-USD/candles").respond_with_json(rows)
    until = eleven + timedelta(minutes=2)
    page = Coinbase().fetch_history(_past(httpserver.url_for(""), eleven, until))
    assert page == HistoryPage(quotes=[RawQuote("BTC-USD", 100, at=eleven + timedelta(minutes=1))], reached=until)


def test_a_close_of_the_past_is_the_decimal_that_was_sent(httpserver):
    httpserver.expect_request("/products/BTC-USD/candles").respond_with_data(
        "[[1678449540, 1, 1, 1, 20000.100000000000000001, 1]]", content_type="application/json"
    )
    page = Coinbase().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(hours=1)))
    assert [quote.price for quote in page.quotes] == [Decimal("20000.100000000000000001")]


def test_a_call_covers_300_candles_with_both_ends(httpserver):
    httpserver.expect_request("/products/BTC-USD/candles").respond_with_json([])
    page = Coinbase().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(days=1)))
    [(call, _)] = httpserver.log
    start, end = (datetime.fromisoformat(call.args[name]) for name in ("start", "end"))
    assert end - start == timedelta(minutes=299)
    assert page.reached == end + timedelta(minutes=2)


@pytest.mark.parametrize("row", [None, {}, [], [1678449540, 1, 1, 1], [None, 1, 1, 1, 1, 1], [10**13, 1, 1, 1, 1, 1]])
def test_a_candle_of_another_shape_is_a_bad_payload(httpserver, row):
    httpserver.expect_request("/products/BTC-USD/candles").respond_with_json([row])
    with pytest.raises(ProviderUnavailable) as caught:
        Coinbase().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(hours=1)))
    assert caught.value.reason == "bad_payload"


def test_a_product_that_is_not_there_has_no_past(httpserver):
    httpserver.expect_request("/products/A%2FB/candles").respond_with_json(NOT_FOUND, status=404)
    httpserver.expect_request("/products/A/B/candles").respond_with_json(NOT_FOUND, status=404)
    with pytest.raises(ProviderRejected) as caught:
        Coinbase().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(hours=1), external_id="A/B"))
    assert caught.value.reason == "http_404"
    assert [call.environ["REQUEST_URI"].partition("?")[0] for call, _ in httpserver.log] == ["/products/A%2FB/candles"]


@pytest.mark.parametrize(("product", "currency"), [("BTC-USD", "USD"), ("USDT-EUR", "EUR"), ("BTC", None)])
def test_the_currency_is_what_stands_after_the_dash(product, currency):
    assert Coinbase().currency_of(product, {}) == currency


# Some fields of the documented answer of "Get all known trading pairs".
PRODUCTS = [
    {
        "id": "WBTC-BTC",
        "base_currency": "WBTC",
        "quote_currency": "BTC",
        "display_name": "WBTC/BTC",
        "status": "online",
    },
    {"id": "BTC-USD", "base_currency": "BTC", "quote_currency": "USD", "display_name": "BTC/USD", "status": "online"},
    {"id": "BTC-GBP", "base_currency": "BTC", "quote_currency": "GBP", "display_name": "BTC/GBP", "status": "delisted"},
    {"id": "ETH-USD", "base_currency": "ETH", "quote_currency": "USD", "display_name": "ETH/USD", "status": "online"},
    {"id": None},
]


def test_products_that_are_traded_are_found_by_a_search(httpserver):
    httpserver.expect_request("/products").respond_with_json(PRODUCTS)
    founds = Coinbase().search("btc", Coinbase().validate_options({"base_url": httpserver.url_for("")}))
    assert founds == [
        SearchResult("BTC-USD", "BTC", "BTC/USD", "USD"),
        SearchResult("WBTC-BTC", "WBTC", "WBTC/BTC", "BTC"),
    ]
