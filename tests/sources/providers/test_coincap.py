import json
import logging
import traceback
from datetime import UTC, datetime, timedelta

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote, admit
from apps.sources.providers import http
from apps.sources.providers.coincap import CoinCap
from apps.sources.providers.protocol import Answer, HistoryPage, ProviderRejected, ProviderUnavailable, SearchResult
from tests.sources.asking import past_of, request_to

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


def test_more_than_ten_ids_are_asked_in_several_calls(httpserver):
    external_ids = [f"coin-{number:03}" for number in range(21)]
    httpserver.expect_request("/assets").respond_with_handler(_echo)
    answer = CoinCap().fetch(_request(httpserver.url_for(""), external_ids=external_ids))
    assert [quote.external_id for quote in answer.quotes] == external_ids
    assert [call.args["limit"] for call, _ in httpserver.log] == ["10", "10", "1"]


def _echo(request):
    items = [{"id": external_id, "priceUsd": "1"} for external_id in request.args["ids"].split(",")]
    return Response(json.dumps({"data": items}), content_type="application/json")


def test_several_calls_share_one_deadline(slow_server, slow_failure_of):
    request = _request(slow_server.url_for(""), external_ids=[str(number) for number in range(600)])
    assert slow_failure_of(CoinCap(), request, handler=_echo, paths=["/assets"]) == "timeout"


def test_a_key_with_a_line_end_is_sent_without_it(httpserver, monkeypatch):
    monkeypatch.setenv("COINCAP_API_KEY", f"{KEY}\n")
    httpserver.expect_request("/assets", headers={"Authorization": f"Bearer {KEY}"}).respond_with_json({"data": []})
    assert CoinCap().fetch(_request(httpserver.url_for(""))).quotes == []


def test_a_wrong_key_is_unauthorized_and_is_revealed_nowhere(httpserver, caplog):
    caplog.set_level(logging.DEBUG)
    httpserver.expect_request("/assets").respond_with_data(f"bad key {KEY}", status=401)
    with pytest.raises(ProviderRejected) as caught:
        CoinCap().fetch(_request(httpserver.url_for("")))
    assert caught.value.reason == "unauthorized"
    assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + caplog.text


# The shape of the documented answer of /assets/{id}/history, as a client describes it (rubydoc.info/gems/coincap). Of
# days it says that they are averages of 24 hours in UTC.
MINUTES = [
    {"priceUsd": "20000.1", "time": 1678449480000, "date": "2023-03-10T11:58:00.000Z"},
    {"priceUsd": "20000.2", "time": 1678449540000, "date": "2023-03-10T11:59:00.000Z"},
    {"priceUsd": "20000.3", "time": 1678449600000, "date": "2023-03-10T12:00:00.000Z"},
    {"priceUsd": "20000.4", "time": 1678449660000, "date": "2023-03-10T12:01:00.000Z"},
]


def _past(base_url, since, until=NOW, external_id="bitcoin"):
    return past_of(CoinCap(), base_url, external_id, since=since, until=until)


def test_the_past_comes_in_minutes_at_their_times(httpserver):
    since = datetime(2023, 3, 10, 11, 58, 30, tzinfo=UTC)
    httpserver.expect_oneshot_request(
        "/assets/bitcoin/history",
        query_string={"interval": "m1", "start": "1678449480000", "end": "1678449601250"},
        headers={"Authorization": f"Bearer {KEY}"},
    ).respond_with_json({"data": MINUTES, "timestamp": 1678449601250})
    assert CoinCap().fetch_history(_past(httpserver.url_for(""), since)) == HistoryPage(
        quotes=[
            RawQuote("bitcoin", "20000.2", at=datetime(2023, 3, 10, 11, 59, tzinfo=UTC)),
            RawQuote("bitcoin", "20000.3", at=datetime(2023, 3, 10, 12, tzinfo=UTC)),
        ],
        reached=NOW,
    )


def test_the_average_of_a_day_stands_at_its_end(httpserver):
    day = datetime(2023, 1, 1, tzinfo=UTC)
    items = [
        {"priceUsd": "16600.5", "time": 1672531200000},
        {"priceUsd": "16600.6", "time": 1678406400000},
    ]
    httpserver.expect_request("/assets/bitcoin/history").respond_with_json({"data": items})
    page = CoinCap().fetch_history(_past(httpserver.url_for(""), since=day))
    # The day that is not over is left out.
    assert page == HistoryPage(quotes=[RawQuote("bitcoin", "16600.5", at=day + timedelta(days=1))], reached=NOW)
    assert [call.args["interval"] for call, _ in httpserver.log] == ["d1"]


def test_a_call_covers_720_points(httpserver):
    httpserver.expect_request("/assets/bitcoin/history").respond_with_json({"data": []})
    since = NOW - timedelta(days=40)
    page = CoinCap().fetch_history(_past(httpserver.url_for(""), since=since))
    # From the hour after `since` on.
    assert page == HistoryPage(quotes=[], reached=datetime(2023, 1, 29, 13, tzinfo=UTC) + timedelta(hours=720))


@pytest.mark.parametrize(
    "item",
    [None, [], {}, {"time": None}, {"time": "1678449600000"}, {"time": True}, {"time": 10**16}, {"time": 10**30}],
)
def test_a_price_of_the_past_without_a_time_is_a_bad_payload(httpserver, item):
    httpserver.expect_request("/assets/bitcoin/history").respond_with_json({"data": [*MINUTES, item]})
    with pytest.raises(ProviderUnavailable) as caught:
        CoinCap().fetch_history(_past(httpserver.url_for(""), since=NOW - timedelta(hours=1)))
    assert caught.value.reason == "bad_payload"


def test_a_broken_price_of_the_past_is_left_to_admission(httpserver):
    items = [MINUTES[0] | {"priceUsd": None}, MINUTES[1]]
    httpserver.expect_request("/assets/bitcoin/history").respond_with_json({"data": items})
    page = CoinCap().fetch_history(_past(httpserver.url_for(""), since=NOW - timedelta(hours=1)))
    assert [quote.price for quote in page.quotes] == [None, "20000.2"]


def test_what_is_found_has_id_symbol_and_name(httpserver):
    httpserver.expect_oneshot_request(
        "/assets", query_string={"search": "bit coin", "limit": "20"}, headers={"Authorization": f"Bearer {KEY}"}
    ).respond_with_json({"data": [BITCOIN, {"id": None}, *[{"id": str(number)} for number in range(25)]]})
    founds = CoinCap().search("bit coin", CoinCap().validate_options({"base_url": httpserver.url_for("")}))
    assert founds[:2] == [SearchResult("bitcoin", "BTC", "Bitcoin", "USD"), SearchResult("0", "", "", "USD")]
    assert len(founds) == 20
