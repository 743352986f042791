"""What holds for every provider that is asked over HTTP: the faults of a server that nobody trusts."""

import gzip
import logging
import re
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

import pytest
from werkzeug import Response

from apps.market.domain import admit
from apps.market.providers import http
from apps.market.providers.live import LiveProvider
from apps.market.providers.protocol import Answer, ProviderMisconfigured, ProviderRejected, ProviderUnavailable
from apps.market.providers.registry import PROVIDERS
from tests.market.asking import request_to

NOW = datetime(2026, 3, 17, 16, tzinfo=UTC)
KEY = "canary-77aa01"
ROOT = Path(__file__).parents[2]
# Two of each provider's own names. A new provider is not tested here until it stands in this table.
NAMES = {
    "alphavantage": ["EUR/USD", "MSFT"],
    "binance": ["BTCUSDT", "ETHUSDT"],
    "coinbase": ["BTC-USD", "ETH-USD"],
    "coincap": ["bitcoin", "ethereum"],
    "coingecko": ["bitcoin", "ethereum"],
    "frankfurter": ["EUR/USD", "USD/BRL"],
    "kraken": ["ETHUSD", "XBTUSD"],
}
ADDRESSES = {
    "alphavantage": "https://www.alphavantage.co",
    "binance": "https://data-api.binance.vision",
    "coinbase": "https://api.exchange.coinbase.com",
    "coincap": "https://rest.coincap.io/v3",
    "coingecko": "https://api.coingecko.com/api/v3",
    "frankfurter": "https://api.frankfurter.dev",
    "kraken": "https://api.kraken.com",
}
ANY_PATH = re.compile(".*")
live = pytest.mark.parametrize("slug", sorted(NAMES))


@pytest.fixture(autouse=True)
def edge(monkeypatch):
    """Stop the clock at NOW and set every key."""
    monkeypatch.setattr(http, "now", lambda: NOW)
    for slug in NAMES:
        monkeypatch.setenv(f"{slug.upper()}_API_KEY", KEY)


def _fetch(slug, httpserver):
    provider = PROVIDERS[slug]
    return provider.fetch(request_to(provider, httpserver.url_for(""), NAMES[slug]))


def _failure(slug, httpserver):
    with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
        _fetch(slug, httpserver)
    return caught.value


def _answer(httpserver, **response):
    httpserver.expect_request(ANY_PATH).respond_with_data(**{"content_type": "application/json"} | response)


def test_every_live_provider_is_in_the_table():
    assert NAMES.keys() == {slug for slug, provider in PROVIDERS.items() if isinstance(provider, LiveProvider)}


@pytest.mark.parametrize("slug", sorted(PROVIDERS))
def test_a_provider_is_one_module_one_test_file_and_one_section(slug):
    assert (ROOT / "apps/market/providers" / f"{slug}.py").is_file()
    assert (ROOT / "tests/market" / f"test_{slug}.py").is_file()
    assert f"## {slug}\n" in (ROOT / "docs/feeds.md").read_text()


@live
@pytest.mark.parametrize(
    "body",
    [
        "<html>maintenance</html>",
        '{"data": [{"id": "bitcoin", "pri',
        "null",
        "1",
        '"text"',
        '{"data": NaN}',
        "[" * 100_000,
        b"\xff\xfe",
        "",
    ],
)
def test_what_is_no_json_object_or_list_is_a_bad_payload(slug, body, httpserver):
    _answer(httpserver, response_data=body)

    assert _failure(slug, httpserver).reason == "bad_payload"


@live
@pytest.mark.parametrize("body", ["[]", "{}", "[null]", '{"data": null}', '{"error": "gone"}', "[[]]"])
def test_json_of_another_shape_gives_no_price(slug, body, httpserver):
    _answer(httpserver, response_data=body)
    try:
        quotes = _fetch(slug, httpserver).quotes
    except (ProviderUnavailable, ProviderRejected):
        quotes = []

    known = {name: number for number, name in enumerate(NAMES[slug])}
    assert admit(quotes, asset_ids=known, as_of=NOW, assumed_at=NOW).quotes == []


@live
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (400, "http_400"), (500, "http_500"), (503, "http_503")],
)
def test_a_status_that_is_no_success_fails_the_answer(slug, status, reason, httpserver):
    _answer(httpserver, response_data="{}", status=status)

    assert _failure(slug, httpserver).reason == reason


@live
def test_too_many_calls_are_told_with_the_time_to_wait(slug, httpserver):
    _answer(httpserver, response_data="{}", status=429, headers={"Retry-After": "120"})
    failure = _failure(slug, httpserver)

    assert (failure.reason, failure.retry_after_seconds) == ("rate_limited", 120)


@live
def test_a_redirect_is_not_followed(slug, httpserver):
    _answer(httpserver, response_data="", status=302, headers={"Location": httpserver.url_for("/elsewhere")})

    assert _failure(slug, httpserver).reason == "redirect"
    assert len(httpserver.log) == 1


@live
def test_a_body_that_grows_when_it_is_unpacked_is_cut(slug, httpserver):
    bomb = gzip.compress(b"[" + b" " * 50_000_000 + b"]")
    _answer(httpserver, response_data=bomb, headers={"Content-Encoding": "gzip"})

    assert _failure(slug, httpserver).reason == "too_large"


@live
def test_a_server_that_hangs_is_given_up(slug, slow_server, monkeypatch):
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.2)
    slow_server.expect_request(ANY_PATH).respond_with_handler(lambda request: time.sleep(0.6) or Response("{}"))

    assert _failure(slug, slow_server).reason == "timeout"


@live
@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_key_is_told_nowhere(slug, status, httpserver, caplog):
    caplog.set_level(logging.DEBUG)
    # The server of this test notes what it was asked.
    caplog.set_level(logging.CRITICAL, logger="werkzeug")
    _answer(httpserver, response_data=f"key {KEY} is wrong", status=status)
    failure = _failure(slug, httpserver)

    assert KEY not in "".join(traceback.format_exception(failure)) + repr(failure) + caplog.text


@live
def test_no_assets_mean_no_call(slug, httpserver):
    provider = PROVIDERS[slug]

    assert provider.fetch(request_to(provider, httpserver.url_for(""), ())) == Answer(quotes=[], as_of=NOW)
    assert httpserver.log == []


@live
def test_an_unknown_option_is_refused_by_name(slug):
    known = ", ".join(sorted(PROVIDERS[slug].validate_options({})))

    with pytest.raises(ProviderMisconfigured, match=f"^{slug} knows no option 'api_key'; it knows {known}$"):
        PROVIDERS[slug].validate_options({"api_key": "x"})


@live
def test_the_documented_address_is_the_default(slug):
    assert PROVIDERS[slug].validate_options({})["base_url"] == ADDRESSES[slug]


@live
def test_options_that_were_read_stay_as_they_are(slug):
    options = PROVIDERS[slug].validate_options({"base_url": "http://127.0.0.1:8080/v3/"})

    assert options["base_url"] == "http://127.0.0.1:8080/v3"
    assert PROVIDERS[slug].validate_options(options) == options


@live
@pytest.mark.parametrize(
    "base_url",
    [
        "",
        None,
        1,
        [],
        "rest.coincap.io",
        "ftp://a/v3",
        "file:///etc",
        "https://",
        "http://[",
        "https://a@b/",
        "https://a/?k=1",
    ],
)
def test_an_address_that_is_not_http_is_refused(slug, base_url):
    with pytest.raises(ProviderMisconfigured, match="^base_url must be an http or https address"):
        PROVIDERS[slug].validate_options({"base_url": base_url})


@live
def test_the_limits_leave_room_for_a_round(slug):
    limits = PROVIDERS[slug].limits

    assert limits.batch_size >= 1
    assert limits.interval_seconds_for(1) <= 3_600
