import json
import logging
import time
import traceback
from datetime import UTC, datetime

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.market.providers import http
from apps.market.providers.coincap import CoinCap
from apps.market.providers.protocol import (
    Answer,
    ProviderRejected,
    ProviderUnavailable,
)
from tests.market.asking import request_to

NOW = datetime(2023, 3, 10, 12, 0, 1, 250_000, tzinfo=UTC)
KEY = "canary-5f1c9e"

# The shape of the documented answer of /v3/assets: every number is a string, some may be null.
BITCOIN = {
    "id": "bitcoin",
    "rank": "1",
    "symbol": "BTC",
    "name": "Bitcoin",
    "supply": "17193925.0000000000000000",
    "maxSupply": "21000000.0000000000000000",
    "marketCapUsd": "119150835874.4699281625807300",
    "volumeUsd24Hr": "2927959461.1750323310959460",
    "priceUsd": "6929.8217756835584756",
    "changePercent24Hr": "-0.8101417214350335",
    "vwap24Hr": "7175.0663247679233209",
    "explorer": "https://blockchain.info/",
}
ETHEREUM = BITCOIN | {"id": "ethereum", "symbol": "ETH", "priceUsd": "404.9774667045200896", "maxSupply": None}

# What the retired v2 answers, with status 200.
DEPRECATED = {"data": {"message": "We are deprecating this version of the CoinCap API"}, "timestamp": 1743465600000}


@pytest.fixture(autouse=True)
def edge(monkeypatch):
    """Stop the clock at NOW and set the key."""
    monkeypatch.setattr(http, "now", lambda: NOW)
    monkeypatch.setenv("COINCAP_API_KEY", KEY)


def _request(base_url, external_ids=("bitcoin", "ethereum")):
    return request_to(CoinCap(), base_url, external_ids)


def test_one_batch_call_gives_the_prices_as_they_were_sent(httpserver):
    httpserver.expect_oneshot_request(
        "/v3/assets",
        method="GET",
        query_string={"ids": "bitcoin,ethereum", "limit": "2"},
        headers={"Authorization": f"Bearer {KEY}"},
    ).respond_with_json({"data": [BITCOIN, ETHEREUM], "timestamp": 1533581088278})
    assert CoinCap().fetch(_request(httpserver.url_for("/v3/"))) == Answer(
        quotes=[RawQuote("bitcoin", "6929.8217756835584756"), RawQuote("ethereum", "404.9774667045200896")],
        as_of=NOW,
    )


def test_an_empty_list_is_an_empty_answer(httpserver):
    httpserver.expect_request("/assets").respond_with_json({"data": []})
    assert CoinCap().fetch(_request(httpserver.url_for(""))) == Answer(quotes=[], as_of=NOW)


@pytest.mark.parametrize("payload", [DEPRECATED, {}, [], {"data": None}, {"data": "gone"}, [BITCOIN], {"error": "x"}])
def test_another_shape_is_a_bad_payload(httpserver, payload):
    httpserver.expect_request("/assets").respond_with_json(payload)
    with pytest.raises(ProviderUnavailable) as caught:
        CoinCap().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "bad_payload"


def test_an_item_of_the_wrong_type_is_counted_and_costs_no_other(httpserver):
    items = [None, 1, "bitcoin", [], {}, {"id": ["bitcoin"]}, {"id": "bitcoin"}, BITCOIN | {"priceUsd": {}}, ETHEREUM]
    httpserver.expect_request("/assets").respond_with_json({"data": items})
    answer = CoinCap().fetch(_request(httpserver.url_for("")))
    admission = admit(answer.quotes, asset_ids={"bitcoin": 1, "ethereum": 2}, as_of=NOW, assumed_at=NOW)
    assert [quote.asset_id for quote in admission.quotes] == [2]
    assert admission.rejected == {"unknown_asset": 6, "missing": 1, "malformed": 1}


def test_more_than_200_ids_are_asked_in_several_calls(httpserver):
    external_ids = [f"coin-{number:03}" for number in range(401)]
    httpserver.expect_request("/assets").respond_with_handler(_echo)
    answer = CoinCap().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert [quote.external_id for quote in answer.quotes] == external_ids
    assert [call.args["limit"] for call, _ in httpserver.log] == ["200", "200", "1"]


def _echo(request):
    items = [{"id": external_id, "priceUsd": "1"} for external_id in request.args["ids"].split(",")]
    return Response(json.dumps({"data": items}), content_type="application/json")


def test_several_calls_share_one_deadline(slow_server, monkeypatch):
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.3)

    def answer_slowly(request):
        time.sleep(0.2)
        return _echo(request)

    slow_server.expect_request("/assets").respond_with_handler(answer_slowly)
    with pytest.raises(ProviderUnavailable) as caught:
        CoinCap().fetch(_request(slow_server.url_for(""), external_ids=[str(number) for number in range(600)]))
    assert caught.value.reason == "timeout"


@pytest.mark.parametrize("key", ["", " \n"])
def test_without_a_key_nothing_is_asked(httpserver, monkeypatch, key):
    monkeypatch.setenv("COINCAP_API_KEY", key)
    with pytest.raises(ProviderRejected) as caught:
        CoinCap().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "no_key"
    assert httpserver.log == []


def test_a_key_with_a_line_end_is_sent_without_it(httpserver, monkeypatch):
    monkeypatch.setenv("COINCAP_API_KEY", f"{KEY}\n")
    httpserver.expect_request("/assets", headers={"Authorization": f"Bearer {KEY}"}).respond_with_json({"data": []})
    assert CoinCap().fetch(_request(httpserver.url_for(""))).quotes == []


def test_a_wrong_key_is_unauthorized_and_is_told_nowhere(httpserver, caplog):
    caplog.set_level(logging.DEBUG)
    httpserver.expect_request("/assets").respond_with_data(f"bad key {KEY}", status=401)
    with pytest.raises(ProviderRejected) as caught:
        CoinCap().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "unauthorized"
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text
