import json
import logging
import traceback
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.coingecko import CoinGecko
from apps.sources.providers.protocol import (
    Answer,
    HistoryPage,
    Limits,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
    SearchResult,
)
from tests.sources.asking import past_of, request_to

NOW = datetime(2024, 3, 25, 8, 45, 30, 250_000, tzinfo=UTC)
KEY = "canary-5f1c9e"

# The shape of the vendor's example at docs.coingecko.com/reference/simple-price: numbers, the time in epoch seconds.
# With precision=full a price has as many digits as there are.
BITCOIN = '{"usd": 67187.335893640625, "last_updated_at": 1711356300}'
PEPE = '{"usd": 7.6e-06, "last_updated_at": 1711356290}'
BODY = f'{{"bitcoin": {BITCOIN}, "pepe": {PEPE}}}'

# The codes of docs.coingecko.com/docs/errors-and-rate-limits, in the shape that clients of the API describe.
WRONG_KEY = {"status": {"error_code": 10002, "error_message": f"API Key Missing {KEY}"}}
THROTTLED = {"status": {"error_code": 429, "error_message": "You've exceeded the Rate Limit."}}


@pytest.fixture(autouse=True)
def edge(monkeypatch):
    """Stop the clock at NOW and have no key."""
    monkeypatch.setattr(http, "now", lambda: NOW)
    monkeypatch.delenv("COINGECKO_API_KEY", raising=False)


def _request(base_url, external_ids=("bitcoin", "pepe"), **options):
    return request_to(CoinGecko(), base_url, external_ids, **options)


def test_one_batch_call_gives_the_prices_and_times_as_they_were_sent(httpserver):
    httpserver.expect_oneshot_request(
        "/api/v3/simple/price",
        method="GET",
        query_string={
            "ids": "bitcoin,pepe",
            "vs_currencies": "usd",
            "include_last_updated_at": "true",
            "precision": "full",
        },
    ).respond_with_data(BODY, content_type="application/json; charset=utf-8")
    assert CoinGecko().fetch(_request(httpserver.url_for("/api/v3/"))) == Answer(
        quotes=[
            RawQuote("bitcoin", Decimal("67187.335893640625"), at=1711356300),
            RawQuote("pepe", Decimal("0.0000076"), at=1711356290),
        ],
        as_of=NOW,
    )


def test_prices_come_in_the_currency_of_the_option(httpserver):
    httpserver.expect_request("/simple/price").respond_with_json({"bitcoin": {"eur": 62000, "usd": 67187}})
    answer = CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=["bitcoin"], vs_currency="eur"))
    assert answer.quotes == [RawQuote("bitcoin", 62000)]
    assert [call.args["vs_currencies"] for call, _ in httpserver.log] == ["eur"]


def test_an_unknown_id_has_no_quote_and_costs_no_other(httpserver):
    httpserver.expect_request("/simple/price").respond_with_data(BODY, content_type="application/json")
    answer = CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=["bitcoin", "gone", "pepe"]))
    assert [quote.external_id for quote in answer.quotes] == ["bitcoin", "pepe"]


def test_what_was_not_asked_for_is_passed_over(httpserver):
    httpserver.expect_request("/simple/price").respond_with_data(BODY, content_type="application/json")
    answer = CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=["pepe"]))
    assert answer.quotes == [RawQuote("pepe", Decimal("0.0000076"), at=1711356290)]


@pytest.mark.parametrize("payload", [[], ["bitcoin"], {}, {"error": "coin not found"}, WRONG_KEY, THROTTLED])
def test_an_answer_to_nothing_that_was_asked_is_a_bad_payload(httpserver, payload):
    httpserver.expect_request("/simple/price").respond_with_json(payload)
    with pytest.raises(ProviderUnavailable) as caught:
        CoinGecko().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


def test_a_list_is_a_bad_payload_also_after_a_good_call(httpserver):
    external_ids = [f"coin-{number:03}" for number in range(251)]
    httpserver.expect_oneshot_request("/simple/price").respond_with_handler(_echo)
    httpserver.expect_request("/simple/price").respond_with_json(["coin-250"])
    with pytest.raises(ProviderUnavailable) as caught:
        CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert caught.value.reason == "bad_payload"


def test_an_item_of_the_wrong_type_is_counted_and_costs_no_other(httpserver):
    items = {
        "a": None,
        "b": 1,
        "c": "67187",
        "d": [],
        "e": {},
        "f": {"usd": None, "last_updated_at": None},
        "g": {"usd": {}},
        "h": {"usd": True},
        "i": {"usd": 1, "last_updated_at": "soon"},
        "j": {"usd": 1, "last_updated_at": -1},
        "k": {"usd": 0, "last_updated_at": 1711356300},
        "l": {"usd": "2.5", "last_updated_at": 1711356300},
    }
    httpserver.expect_request("/simple/price").respond_with_json(items)
    answer = CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=sorted(items)))
    asset_ids = {external_id: number for number, external_id in enumerate(items)}
    admission = admit(answer.quotes, asset_ids=asset_ids, as_of=NOW, assumed_at=NOW)
    assert [(quote.asset_id, quote.at, quote.price) for quote in admission.quotes] == [
        (11, datetime(2024, 3, 25, 8, 45, tzinfo=UTC), Decimal("2.5"))
    ]
    assert admission.rejected == {
        "missing": 6,
        "malformed": 2,
        "time_malformed": 1,
        "time_out_of_range": 1,
        "out_of_range": 1,
    }


def test_more_than_250_ids_are_asked_in_several_calls(httpserver):
    external_ids = [f"coin-{number:03}" for number in range(501)]
    httpserver.expect_request("/simple/price").respond_with_handler(_echo)
    answer = CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert [quote.external_id for quote in answer.quotes] == external_ids
    assert [len(call.args["ids"].split(",")) for call, _ in httpserver.log] == [250, 250, 1]


def _echo(request):
    items = {external_id: {"usd": 1} for external_id in request.args["ids"].split(",")}
    return Response(json.dumps(items), content_type="application/json")


def test_a_last_batch_of_unknown_ids_costs_no_other(httpserver):
    external_ids = [f"coin-{number:03}" for number in range(251)]
    httpserver.expect_oneshot_request("/simple/price").respond_with_handler(_echo)
    httpserver.expect_oneshot_request("/simple/price").respond_with_json({})
    answer = CoinGecko().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert [quote.external_id for quote in answer.quotes] == external_ids[:250]


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    request = _request(slow_server.url_for(""), external_ids=[str(number) for number in range(750)])
    assert slow_failure_of(CoinGecko(), request, handler=_echo, paths=["/simple/price"]) == "timeout"


@pytest.mark.parametrize("key", ["", " \n"])
def test_without_a_key_none_is_sent(httpserver, monkeypatch, key):
    monkeypatch.setenv("COINGECKO_API_KEY", key)
    httpserver.expect_request("/simple/price").respond_with_handler(_echo)
    CoinGecko().fetch(_request(httpserver.url_for("")))
    assert [call.headers.get("x-cg-demo-api-key") for call, _ in httpserver.log] == [None]


def test_a_key_is_sent_in_its_header_without_a_line_end(httpserver, monkeypatch):
    monkeypatch.setenv("COINGECKO_API_KEY", f"{KEY}\n")
    httpserver.expect_request("/simple/price").respond_with_handler(_echo)
    CoinGecko().fetch(_request(httpserver.url_for("")))
    assert [call.headers.get("x-cg-demo-api-key") for call, _ in httpserver.log] == [KEY]


def test_a_wrong_key_is_unauthorized_and_is_revealed_nowhere(httpserver, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("COINGECKO_API_KEY", KEY)
    httpserver.expect_request("/simple/price").respond_with_json(WRONG_KEY, status=401)
    with pytest.raises(ProviderRejected) as caught:
        CoinGecko().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "unauthorized"
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text


def test_asking_too_often_is_rate_limited_with_the_wait_that_was_asked_for(httpserver):
    httpserver.expect_request("/simple/price").respond_with_json(THROTTLED, status=429, headers={"Retry-After": "60"})
    with pytest.raises(ProviderUnavailable) as caught:
        CoinGecko().fetch(_request(httpserver.url_for("")))
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("rate_limited", 60)


@pytest.mark.parametrize(
    ("status", "error", "reason"),
    [
        (400, ProviderRejected, "http_400"),
        (403, ProviderRejected, "unauthorized"),
        (408, ProviderRejected, "http_408"),
        (500, ProviderUnavailable, "http_500"),
        (503, ProviderUnavailable, "http_503"),
    ],
)
def test_each_documented_status_has_its_reason(httpserver, status, error, reason):
    httpserver.expect_request("/simple/price").respond_with_json({"error": "x"}, status=status)
    with pytest.raises(error) as caught:
        CoinGecko().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == reason


def test_its_limits_are_the_more_cautious_ones():
    assert CoinGecko.limits == Limits(
        batch_size=250, shortest_interval_seconds=60, calls_per_minute=30, calls_per_day=10_000 / 31
    )


def test_the_documented_address_and_dollars_are_the_defaults():
    assert CoinGecko().validate_options({}) == {
        "base_url": "https://api.coingecko.com/api/v3",
        "vs_currency": "usd",
    }


@pytest.mark.parametrize("vs_currency", ["", "USD", "usd,eur", "usd ", "usd\n", "us-d", "üsd", "u5d", None, 1, ["usd"]])
def test_a_currency_that_is_not_in_small_messages_is_refused(vs_currency):
    with pytest.raises(ProviderMisconfigured, match="^vs_currency must be a currency in small letters, like usd$"):
        CoinGecko().validate_options({"vs_currency": vs_currency})


# The shape of the vendor's example of /coins/{id}/market_chart/range: milliseconds and prices, beside market_caps and
# total_volumes.
CHART = (
    '{"prices": [[1711353600000, 66690.123456789012], [1711357203123, 66691], [1711360800000, 1]],'
    ' "market_caps": [], "total_volumes": []}'
)


def _past(base_url, since, until=NOW, external_id="bitcoin", **options):
    return past_of(CoinGecko(), base_url, external_id, since=since, until=until, **options)


def test_the_past_has_the_times_of_its_prices(httpserver):
    since = datetime(2024, 3, 25, 8, tzinfo=UTC)
    httpserver.expect_oneshot_request(
        "/coins/bitcoin/market_chart/range",
        query_string={"vs_currency": "eur", "from": "1711353600", "to": "1711360800", "precision": "full"},
    ).respond_with_data(CHART, content_type="application/json")
    until = since + timedelta(hours=2)
    # The second one is ahead of this machine's clock, and the third at the end, which is outside.
    assert CoinGecko().fetch_history(_past(httpserver.url_for(""), since, until, vs_currency="eur")) == HistoryPage(
        quotes=[RawQuote("bitcoin", Decimal("66690.123456789012"), at=since)], reached=until
    )


def test_what_is_older_than_a_year_is_not_asked_for(httpserver):
    httpserver.expect_request("/coins/bitcoin/market_chart/range").respond_with_json({"prices": []})
    page = CoinGecko().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(days=800)))
    assert page == HistoryPage(quotes=[], reached=NOW)
    [(call, _)] = httpserver.log
    assert int(call.args["from"]) == int((NOW - timedelta(days=364)).timestamp())


def test_a_stretch_that_is_all_older_than_a_year_costs_no_call(httpserver):
    until = NOW - timedelta(days=400)
    page = CoinGecko().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(days=800), until))
    assert page == HistoryPage(quotes=[], reached=until)
    assert httpserver.log == []


@pytest.mark.parametrize("prices", [None, {}, [None], [[]], [[1711353600000]], [["1711353600000", 1]], [[10**16, 1]]])
def test_a_past_of_another_shape_is_a_bad_payload(httpserver, prices):
    httpserver.expect_request("/coins/bitcoin/market_chart/range").respond_with_json({"prices": prices})
    with pytest.raises(ProviderUnavailable) as caught:
        CoinGecko().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(days=1)))
    assert caught.value.reason == "bad_payload"


def test_an_id_stays_one_part_of_the_path_and_the_key_goes_along(httpserver, monkeypatch):
    monkeypatch.setenv("COINGECKO_API_KEY", KEY)
    httpserver.expect_request("/coins/a/b/market_chart/range").respond_with_json({"prices": []})
    CoinGecko().fetch_history(_past(httpserver.url_for(""), NOW - timedelta(days=1), external_id="a/b"))
    [(call, _)] = httpserver.log
    assert call.environ["REQUEST_URI"].startswith("/coins/a%2Fb/market_chart/range?")
    assert call.headers["x-cg-demo-api-key"] == KEY


# Some fields of the vendor's example of /search.
COIN = {"id": "bitcoin", "name": "Bitcoin", "api_symbol": "bitcoin", "symbol": "BTC", "market_cap_rank": 1}


def test_coins_are_found_in_the_order_of_the_answer(httpserver):
    coins = [COIN, {"id": None}, *[COIN | {"id": f"coin-{number}"} for number in range(25)]]
    httpserver.expect_oneshot_request("/search", query_string={"query": "bit coin"}).respond_with_json(
        {"coins": coins, "exchanges": [], "nfts": []}
    )
    options = CoinGecko().validate_options({"base_url": httpserver.url_for(""), "vs_currency": "eur"})
    founds = CoinGecko().search("bit coin", options)
    assert founds[:2] == [
        SearchResult("bitcoin", "BTC", "Bitcoin", "EUR"),
        SearchResult("coin-0", "BTC", "Bitcoin", "EUR"),
    ]
    assert len(founds) == 20


def test_the_currency_is_that_of_the_option():
    assert CoinGecko().currency_of("bitcoin", {"vs_currency": "eur"}) == "EUR"
