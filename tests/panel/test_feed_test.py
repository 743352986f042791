"""The test fetch in the form of a feed: what its sources give now, and nothing of it is stored."""

import pytest
from django.urls import reverse

from apps.market.models import Asset, Feed, FeedEntry, FeedHead, Quote
from apps.panel.feed_test import facts_of_providers
from apps.sources.models import Circuit, FeedSource, Listing
from apps.sources.providers.protocol import ProviderMisconfigured
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import trying
from tests.builders import make_feed, make_operator

NEW = reverse("admin:market_feed_test_fetch_new")
TICKER = {"price": "6268.48", "time": "2020-03-20T00:22:57.833897Z", "volume": "1"}
STORED = (Asset, Circuit, Feed, FeedEntry, FeedHead, FeedSource, Listing, Quote)

pytestmark = pytest.mark.django_db


def form(*sources, **more):
    """Return what the form of a feed posts with these (provider, options)."""
    counts = {"TOTAL": len(sources), "INITIAL": 0, "MIN_NUM": 1, "MAX_NUM": 1000}
    data = {f"sources-{name}_FORMS": str(count) for name, count in counts.items()} | {"interval_seconds": "60"}
    for number, (provider, options) in enumerate(sources):
        one = {"position": str(number + 1), "provider": provider, "options": options}
        data |= {f"sources-{number}-{name}": value for name, value in one.items()}
    return data | more


def rows():
    return {model: list(model.objects.order_by("pk").values()) for model in STORED}


def at_server(httpserver):
    return f'{{"base_url": "{httpserver.url_for("").rstrip("/")}"}}'


def test_each_source_says_what_it_gives_or_why_not_and_nothing_is_stored(admin_client, httpserver):
    httpserver.expect_request("/products/BTC-USD/ticker").respond_with_json(TICKER)
    make_feed(name="other")
    before = rows()
    answer = admin_client.post(
        NEW,
        form(
            ("coinbase", at_server(httpserver)),
            ("coinbase", at_server(httpserver).replace("http://", "ftp://")),
            ("kraken", at_server(httpserver)),
            try_names="BTC-USD",
        ),
    ).json()["sources"]
    assert [one["source"] for one in answer] == ["1. coinbase", "2. coinbase", "3. kraken"]
    assert answer[0] == {
        "source": "1. coinbase", "failure": "", "lines": ["BTC-USD: 6268.48 at 2020-03-20T00:22:57.833897Z"]
    }  # fmt: skip
    assert ("base_url" in answer[1]["failure"], answer[1]["lines"]) == (True, [])
    assert (answer[2]["failure"].startswith("http_500"), answer[2]["lines"]) == (True, [])
    assert rows() == before


def test_a_missing_key_is_named_and_only_five_names_are_asked_for(admin_client, httpserver, monkeypatch):
    monkeypatch.delenv("COINCAP_API_KEY", raising=False)
    for number in range(9):
        httpserver.expect_request(f"/products/A{number}/ticker").respond_with_json(TICKER)
    names = ", ".join(f"A{number}" for number in range(9))
    sources = form(("coincap", "{}"), ("coinbase", at_server(httpserver)), try_names=names)
    keyless, given = admin_client.post(NEW, sources).json()["sources"]
    assert keyless["failure"] == "no_key: set COINCAP_API_KEY"
    assert {line.split(":")[0] for line in given["lines"]} == {"A0", "A1", "A2", "A3", "A4"}
    assert len(httpserver.log) == 5


def test_the_names_of_a_feed_that_is_there_are_asked_for(admin_client, httpserver):
    httpserver.expect_request("/products/btc/ticker").respond_with_json(TICKER)
    feed = make_feed("BTC-USD", provider="coinbase")
    Listing.objects.create(asset=feed.assets.get(), provider="coinbase", external_id="btc")
    address = reverse("admin:market_feed_test_fetch", args=[feed.pk])
    (said,) = admin_client.post(address, form(("coinbase", at_server(httpserver)))).json()["sources"]
    assert said["lines"] == ["btc: 6268.48 at 2020-03-20T00:22:57.833897Z"]
    (said,) = admin_client.post(NEW, form(("coinbase", at_server(httpserver)))).json()["sources"]
    assert said["failure"] == "Write a name to ask for: no asset of this feed has one there."


def test_a_provider_that_is_left_alone_is_not_asked(admin_client, httpserver, monkeypatch):
    feed = make_feed("BTC-USD", provider="coinbase")
    monkeypatch.setattr(trying.queries, "is_open", lambda circuit, now: True)
    monkeypatch.setattr(trying, "describe_left_alone", lambda circuits: f"{circuits[0].provider} is left alone")
    source = feed.sources.get()
    Circuit.objects.create(provider="coinbase", address=source.options["base_url"])
    (said,) = admin_client.post(NEW, form(("coinbase", "{}"), try_names="BTC-USD")).json()["sources"]
    assert said["failure"] == "coinbase is left alone"


def test_no_further_source_is_asked_once_the_time_is_up(admin_client, monkeypatch):
    monkeypatch.setattr("apps.panel.feed_test.TRIED_AT_MOST_SECONDS", -1)
    sources = form(("simulated", "{}"), try_names="A")
    (said,) = admin_client.post(NEW, sources).json()["sources"]
    assert said["failure"] == "not asked: the sources before it took too long"


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ZeroDivisionError(), "crashed: the log says how"),
        (ProviderMisconfigured("no such option"), "misconfigured: the options of a source are wrong"),
    ],
)
def test_a_fault_of_a_provider_is_its_failure(admin_client, monkeypatch, error, failure):
    def raising(request):
        raise error

    monkeypatch.setattr(trying.PROVIDERS["simulated"], "fetch", raising, raising=False)
    (said,) = admin_client.post(NEW, form(("simulated", "{}"), try_names="A")).json()["sources"]
    assert said["failure"] == failure


@pytest.mark.parametrize("data", [{}, {"sources-TOTAL_FORMS": "x"}, form(("nowhere", "{}"), try_names="A\0")])
def test_a_form_that_cannot_be_read_is_no_error(admin_client, data):
    answer = admin_client.post(NEW, data)
    assert answer.status_code == 200
    assert all(one["failure"] for one in answer.json()["sources"])


def test_only_who_may_save_the_feed_may_test_it(client):
    feed = make_feed("BTC-USD")
    address = reverse("admin:market_feed_test_fetch", args=[feed.pk])
    client.force_login(make_operator("grace", "market.view_feed"))
    sources = form(("simulated", "{}"), try_names="A")
    assert [client.post(one, sources).status_code for one in (NEW, address)] == [403, 403]
    assert 'id="feed-test"' not in client.get(reverse("admin:market_feed_change", args=[feed.pk])).text
    more = ["market.add_feed", "sources.add_feedsource", "sources.view_feedsource"]
    client.force_login(make_operator("ada", "market.view_feed", *more))
    assert [client.post(one, sources).status_code for one in (NEW, address)] == [200, 403]
    assert client.get(NEW).status_code == 405
    assert client.post(reverse("admin:market_feed_test_fetch", args=[0]), sources).status_code == 404


def test_the_form_says_of_each_provider_its_key_its_limits_and_its_options(monkeypatch):
    monkeypatch.setenv("COINCAP_API_KEY", "x")
    facts = facts_of_providers()
    assert facts["coincap"]["texts"][0] == "It gives nothing without a key: COINCAP_API_KEY is set on this machine."
    assert (facts["simulated"]["texts"], facts["simulated"]["least_seconds"]) == (["It takes no key."], 0)
    assert {one["name"]: one["default"] for one in facts["coingecko"]["options"]} == {
        "base_url": PROVIDERS["coingecko"].base_url,
        "vs_currency": "usd",
    }
    (prices,) = [one for one in facts["simulated"]["options"] if one["name"] == "start_prices"]
    assert (prices["type"], prices["default"]) == ("data", "{}")
    limited = facts["alphavantage"]
    assert "calls a day" in limited["texts"][1]
    assert limited["least_seconds"] == 3456
