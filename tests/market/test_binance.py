import json
import time
from datetime import UTC, datetime

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.market.providers import http
from apps.market.providers.binance import Binance
from apps.market.providers.protocol import (
    Answer,
    ProviderRejected,
    ProviderUnavailable,
)
from tests.market.asking import request_to

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


def test_several_calls_share_one_deadline(slow_server, monkeypatch):
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.3)

    def answer_slowly(request):
        time.sleep(0.2)
        return _echo(request)

    slow_server.expect_request(PATH).respond_with_handler(answer_slowly)
    with pytest.raises(ProviderUnavailable) as caught:
        Binance().fetch(_request(slow_server.url_for(""), external_ids=[str(number) for number in range(300)]))
    assert caught.value.reason == "timeout"


def test_a_call_weighs_4_of_6000_a_minute():
    assert Binance.limits.calls_for(101) == 2
    assert Binance.limits.interval_seconds_for(1_500) == 60
