"""What holds for every provider that is asked over HTTP: the faults of a server that nobody trusts."""

import json
import logging
import re
import threading
import traceback
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import pytest
from werkzeug import Response

from apps.market.domain import admit
from apps.sources.providers import http
from apps.sources.providers.live import LiveProvider
from apps.sources.providers.protocol import (
    DAY,
    HOUR,
    MINUTE,
    Answer,
    HistoryPage,
    HistoryRequest,
    ProviderMisconfigured,
    ProviderRejected,
    ProviderUnavailable,
)
from apps.sources.providers.registry import PROVIDERS
from fintech.settings.env import VARIABLES
from tests.sources.asking import past_of, request_to

NOW = datetime(2026, 3, 17, 16, tzinfo=UTC)
KEY = "canary-77aa01"
ROOT = Path(__file__).parents[3]
# Two of each provider's own names. A new provider is not tested here until it stands in this table.
NAMES = {
    "alphavantage": ["EUR/USD", "MSFT"],
    "bcb_sgs": ["12", "433"],
    "binance": ["BTCUSDT", "ETHUSDT"],
    "brapi": ["PETR4", "VALE3"],
    "coinbase": ["BTC-USD", "ETH-USD"],
    "coincap": ["bitcoin", "ethereum"],
    "coingecko": ["bitcoin", "ethereum"],
    "frankfurter": ["EUR/USD", "USD/BRL"],
    "kraken": ["ETHUSD", "XBTUSD"],
}
ADDRESSES = {
    "alphavantage": "https://www.alphavantage.co",
    "bcb_sgs": "https://api.bcb.gov.br",
    "binance": "https://data-api.binance.vision",
    "brapi": "https://brapi.dev",
    "coinbase": "https://api.exchange.coinbase.com",
    "coincap": "https://rest.coincap.io/v3",
    "coingecko": "https://api.coingecko.com/api/v3",
    "frankfurter": "https://api.frankfurter.dev",
    "kraken": "https://api.kraken.com",
}
# In which currency the prices of these names are.
CURRENCIES = {
    "alphavantage": ["USD", None],
    "bcb_sgs": ["BRL", "BRL"],
    "binance": ["USDT", "USDT"],
    "brapi": ["BRL", "BRL"],
    "coinbase": ["USD", "USD"],
    "coincap": ["USD", "USD"],
    "coingecko": ["USD", "USD"],
    "frankfurter": ["USD", "BRL"],
    "kraken": ["USD", "USD"],
}
# What each answers about a past in which nothing was traded.
NO_PAST = {
    "alphavantage": {"Meta Data": {"6. Time Zone": "UTC"}, "Time Series FX (Daily)": {}},
    "bcb_sgs": [],
    "binance": [],
    "brapi": {"results": [{"symbol": "PETR4", "historicalDataPrice": []}]},
    "coinbase": [],
    "coincap": {"data": []},
    "coingecko": {"prices": []},
    "frankfurter": {"base": "EUR", "rates": {}},
    "kraken": {"error": [], "result": {"XETHZUSD": [], "last": 0}},
}
# An index is computed from all of its rates, 10 years a call.
CALLS_A_PAGE = {"bcb_sgs": 3}
ANY_PATH = re.compile(".*")
live = pytest.mark.parametrize("slug", sorted(NAMES))


@pytest.fixture(autouse=True)
def edge(monkeypatch):
    """Stop the clock at NOW and set every key."""
    monkeypatch.setattr(http, "now", lambda: NOW)
    for slug in NAMES:
        if PROVIDERS[slug].key_variable:
            monkeypatch.setenv(PROVIDERS[slug].key_variable, KEY)


def _fetch(slug, httpserver):
    provider = PROVIDERS[slug]
    return provider.fetch(request_to(provider, httpserver.url_for(""), NAMES[slug]))


def _failure(ask, slug, httpserver):
    with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
        ask(slug, httpserver)
    return caught.value


def _fetch_history(slug, httpserver, since=NOW - timedelta(days=1)):
    provider = PROVIDERS[slug]
    return provider.fetch_history(past_of(provider, httpserver.url_for(""), NAMES[slug][0], since=since, until=NOW))


def _search(slug, httpserver):
    provider = PROVIDERS[slug]
    return provider.search("bitcoin", provider.validate_options({"base_url": httpserver.url_for("")}))


# Each way to ask each server.
WAYS = {"fetch": _fetch, "history": _fetch_history, "search": _search}
asked = pytest.mark.parametrize(
    ("ask", "slug"),
    [
        pytest.param(ask, slug, id=f"{way}-{slug}")
        for way, ask in WAYS.items()
        for slug in sorted(NAMES)
        if way != "search" or PROVIDERS[slug].has_search
    ],
)


def _answer(httpserver, **response):
    httpserver.expect_request(ANY_PATH).respond_with_data(**{"content_type": "application/json"} | response)


def test_every_live_provider_is_in_the_table():
    assert NAMES.keys() == {slug for slug, provider in PROVIDERS.items() if isinstance(provider, LiveProvider)}


@pytest.mark.parametrize("slug", sorted(PROVIDERS))
def test_a_provider_is_one_module_one_test_file_and_one_section(slug):
    assert (ROOT / "apps/sources/providers" / f"{slug}.py").is_file()
    assert (ROOT / "tests/sources/providers" / f"test_{slug}.py").is_file()
    assert f"## {slug}\n" in (ROOT / "docs/feeds.md").read_text()


def test_a_live_provider_is_a_page_of_code():
    lengths = [len((ROOT / f"apps/sources/providers/{slug}.py").read_text().splitlines()) for slug in NAMES]

    assert median(lengths) <= 60


def _days(span):
    return f"{span // DAY} days" if span >= 2 * DAY else "1 day"


def _step(step):
    return f"{step // MINUTE} min" if step < HOUR else f"{step // HOUR} h" if step < DAY else _days(step)


def _key(provider):
    if provider.key_variable is None:
        return "–"
    return f"`{provider.key_variable}`" + ("" if provider.needs_key else ", or none")


def _calls(limits):
    """Return (assets a call, calls) as people read them."""
    if limits is None:
        return "–", "–"
    calls = [] if limits.calls_per_minute is None else [f"{int(limits.calls_per_minute)} a minute"]
    calls += [] if limits.calls_per_day is None else [f"{int(limits.calls_per_day)} a day"]
    calls += [] if limits.shortest_interval_seconds == 1 else [f"a round each {limits.shortest_interval_seconds} s"]
    return str(limits.batch_size), ", ".join(calls)


def _history(history):
    if history is None:
        return "–"
    steps = list(dict.fromkeys([_step(history.steps[0]), _step(history.steps[-1])]))
    reach = "" if history.reach is None else f", {_days(history.reach)} back"
    return f"{' to '.join(steps)}, {history.points} a call{reach}"


def _row(slug, provider):
    return [
        f"[{slug}](#{slug})",
        _key(provider),
        "yes" if provider.gives_event_time else "no",
        ", ".join(provider.asset_kinds) or "any",
        *_calls(provider.limits),
        _history(provider.history),
        "yes" if provider.has_search else "–",
    ]


def test_the_table_of_the_providers_says_what_they_declare():
    document = (ROOT / "docs/feeds.md").read_text()
    lines = re.findall(r"^\| (\[\w+\]\(#\w+\) \|.*) \|$", document, re.MULTILINE)

    assert [line.split(" | ") for line in lines] == [_row(slug, provider) for slug, provider in PROVIDERS.items()]


@asked
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
def test_what_is_no_json_object_or_list_is_a_bad_payload(ask, slug, body, httpserver):
    _answer(httpserver, response_data=body)

    assert _failure(ask, slug, httpserver).reason == "bad_payload"


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


@pytest.mark.parametrize(
    ("slug", "body", "given"),
    [
        (
            "alphavantage",
            '{"Realtime Currency Exchange Rate": {"5. Exchange Rate": NaN}, "Global Quote": {"05. price": "2"}}',
            ["MSFT"],
        ),
        ("binance", '[{"symbol": "BTCUSDT", "price": NaN}, {"symbol": "ETHUSDT", "price": "2"}]', ["ETHUSDT"]),
        (
            "brapi",
            '{"results": [{"symbol": "PETR4", "regularMarketPrice": NaN}, '
            '{"symbol": "VALE3", "regularMarketPrice": 2}]}',
            ["VALE3"],
        ),
        ("coinbase", '{"price": -Infinity}', []),
        ("coincap", '{"data": [{"id": "bitcoin", "priceUsd": NaN}, {"id": "ethereum", "priceUsd": 2}]}', ["ethereum"]),
        ("coingecko", '{"bitcoin": {"usd": NaN}, "ethereum": {"usd": 2.0}}', ["ethereum"]),
        ("coingecko", '{"bitcoin": {"usd": 1, "last_updated_at": NaN}, "ethereum": {"usd": 2}}', ["ethereum"]),
        ("frankfurter", '{"base": "EUR", "date": "2026-03-17", "rates": {"USD": NaN, "BRL": 2}}', ["EUR/BRL"]),
        ("kraken", '{"error": [], "result": {"ETHUSD": {"c": ["2"]}, "XBTUSD": {"c": [Infinity]}}}', ["ETHUSD"]),
    ],
)
def test_a_bare_nan_costs_its_asset_and_no_other(slug, body, given, httpserver):
    names = ["EUR/BRL", "EUR/USD"] if slug == "frankfurter" else NAMES[slug]
    provider = PROVIDERS[slug]
    _answer(httpserver, response_data=body)
    answer = provider.fetch(request_to(provider, httpserver.url_for(""), names))

    admitted = admit(
        answer.quotes, asset_ids={name: number for number, name in enumerate(names)}, as_of=NOW, assumed_at=NOW
    )
    assert [names[quote.asset_id] for quote in admitted.quotes] == given
    assert admitted.rejected.total() == 2 - len(given)


@asked
@pytest.mark.parametrize(
    ("status", "reason"),
    [(401, "unauthorized"), (403, "unauthorized"), (400, "http_400"), (500, "http_500"), (503, "http_503")],
)
def test_a_status_that_is_no_success_fails_the_answer(ask, slug, status, reason, httpserver):
    _answer(httpserver, response_data="{}", status=status)

    assert _failure(ask, slug, httpserver).reason == reason


@asked
def test_too_many_calls_are_an_error_with_the_time_to_wait(ask, slug, httpserver):
    _answer(httpserver, response_data="{}", status=429, headers={"Retry-After": "120"})
    failure = _failure(ask, slug, httpserver)

    assert (failure.reason, failure.retry_after_seconds) == ("rate_limited", 120)


@asked
def test_a_redirect_is_not_followed(ask, slug, httpserver):
    _answer(httpserver, response_data="", status=302, headers={"Location": httpserver.url_for("/elsewhere")})

    assert _failure(ask, slug, httpserver).reason == "redirect"
    assert len(httpserver.log) == 1


@asked
def test_a_body_that_grows_when_it_is_unpacked_is_cut(ask, slug, bomb, httpserver):
    _answer(httpserver, response_data=bomb, headers={"Content-Encoding": "gzip"})

    assert _failure(ask, slug, httpserver).reason == "too_large"


@asked
def test_a_server_that_hangs_is_given_up(ask, slug, slow_server, monkeypatch):
    monkeypatch.setattr(http, "ANSWER_SECONDS", 0.2)
    given_up = threading.Event()
    slow_server.expect_request(ANY_PATH).respond_with_handler(lambda request: given_up.wait(20) and Response("{}"))
    try:
        assert _failure(ask, slug, slow_server).reason == "timeout"
    finally:
        given_up.set()


@asked
@pytest.mark.parametrize("status", [200, 401, 500])
def test_a_key_is_revealed_nowhere(ask, slug, status, httpserver, caplog):
    caplog.set_level(logging.DEBUG)
    # The server of this test notes what it was asked.
    caplog.set_level(logging.CRITICAL, logger="werkzeug")
    _answer(httpserver, response_data=f"key {KEY} is wrong", status=status)
    failure = _failure(ask, slug, httpserver)

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


@live
def test_a_live_provider_says_what_it_is(slug):
    provider = PROVIDERS[slug]

    assert provider.is_live
    assert provider.key_variable is None or provider.key_variable in VARIABLES
    assert provider.key_variable or not provider.needs_key
    assert provider.asset_kinds
    assert set(provider.asset_kinds) <= {"crypto", "share", "fx", "index"}
    assert provider.has_search or slug == "bcb_sgs"
    assert list(provider.history.steps) == sorted(provider.history.steps)


@pytest.mark.parametrize("slug", sorted(set(PROVIDERS) - set(NAMES)))
def test_what_is_not_asked_over_http_has_no_past_and_no_search(slug):
    provider = PROVIDERS[slug]
    request = HistoryRequest(external_id="BTC", since=NOW - timedelta(days=1), until=NOW, options={})

    with pytest.raises(ProviderRejected, match="^no_history$"):
        provider.fetch_history(request)
    with pytest.raises(ProviderRejected, match="^no_search$"):
        provider.search("BTC", {})
    assert (provider.history, provider.has_search, provider.asset_kinds) == (None, False, ())
    assert (provider.key_variable, provider.needs_key) == (None, False)
    assert provider.currency_of("BTC", {}) is None


def test_a_live_provider_that_says_so_has_no_past_and_no_search(httpserver):
    class Newest(LiveProvider):
        slug = "newest"
        base_url = httpserver.url_for("")
        has_search = False

    request = past_of(Newest(), httpserver.url_for(""), "BTC", since=NOW - timedelta(days=1), until=NOW)

    with pytest.raises(ProviderRejected, match="^no_history$"):
        Newest().fetch_history(request)
    with pytest.raises(ProviderRejected, match="^no_search$"):
        Newest().search("BTC", request.options)
    assert Newest().currency_of("BTC", request.options) is None
    assert httpserver.log == []


@live
def test_each_name_says_its_currency_or_nothing(slug):
    options = PROVIDERS[slug].validate_options({})

    assert [PROVIDERS[slug].currency_of(name, options) for name in NAMES[slug]] == CURRENCIES[slug]


@asked
@pytest.mark.parametrize("key", ["", " \n"])
def test_who_needs_a_key_asks_nothing_without_one(ask, slug, key, httpserver, monkeypatch):
    monkeypatch.setenv(f"{slug.upper()}_API_KEY", key)
    _answer(httpserver, response_data="null")
    failure = _failure(ask, slug, httpserver)

    assert (failure.reason, len(httpserver.log)) == (("no_key", 0) if PROVIDERS[slug].needs_key else ("bad_payload", 1))


@live
@pytest.mark.parametrize("body", ["[]", "{}", "[null]", '{"data": null}', '{"error": "gone"}', "[[]]", '{"data": [1]}'])
def test_a_past_of_another_shape_has_no_prices(slug, body, httpserver):
    _answer(httpserver, response_data=body)
    try:
        quotes = _fetch_history(slug, httpserver).quotes
    except (ProviderUnavailable, ProviderRejected):
        quotes = []

    assert quotes == []


@live
@pytest.mark.parametrize("body", ["[]", "{}", "[null]", '{"data": null}', '{"error": "gone"}', "[[]]", "[{}]"])
def test_a_search_with_an_answer_of_another_shape_finds_nothing(slug, body, httpserver):
    _answer(httpserver, response_data=body)
    try:
        founds = list(_search(slug, httpserver))
    except (ProviderUnavailable, ProviderRejected):
        founds = []

    assert founds == []


@live
@pytest.mark.parametrize("span", [timedelta(hours=5), timedelta(days=1), timedelta(days=50), timedelta(days=1_100)])
def test_page_after_page_the_past_is_known_up_to_its_end(slug, span, httpserver):
    _answer(httpserver, response_data=json.dumps(NO_PAST[slug]))
    reached = [NOW - span]
    while reached[-1] < NOW and len(reached) < 50:
        reached.append(_fetch_history(slug, httpserver, since=reached[-1]).reached)

    assert reached == sorted(set(reached))
    assert reached[-1] == NOW
    # A stretch that a provider cannot know costs no call, and a page one.
    assert len(httpserver.log) <= CALLS_A_PAGE.get(slug, 1) * (len(reached) - 1)
    assert len(reached) - 1 <= 20


@live
def test_a_stretch_in_which_no_candle_ends_is_known_without_a_call(slug, httpserver):
    page = _fetch_history(slug, httpserver, since=NOW - timedelta(microseconds=1))

    assert page == HistoryPage(quotes=[], reached=NOW)
    assert httpserver.log == []
