"""Trouble made on purpose: it happens, and afterwards everything is as it was."""

import time
from datetime import timedelta
from decimal import Decimal

import pytest
import requests
from django.core.management import call_command

from apps.market.models import FeedEntry, FeedHead, LatestQuote
from apps.notify.models import Channel, Message
from apps.pipeline import flow, scenarios
from apps.pipeline.management.commands import scenario
from apps.sources import services as sources
from apps.sources.models import FeedSource
from fintech.settings.env import place
from tests.builders import START, TRACE, at, make_feed, make_owner
from tests.rig import free_port, rig, wait_until

pytestmark = pytest.mark.django_db


@pytest.fixture
def feed():
    """Return a feed of an invented market that stands still, begun at START."""
    feed = make_feed("A", name="invented")
    source = FeedSource.objects.get()
    source.options = {"volatility": 0}
    source.clean()
    source.save()
    fetch(feed, 0)
    return feed


def fetch(feed, seconds):
    return sources.fetch(feed_id=feed.pk, slot=at(seconds), now=at(seconds), trace_id=TRACE)


def price():
    return LatestQuote.objects.get().price


def test_a_crash_falls_recovers_and_leaves_the_script_as_it_was(feed):
    with scenarios.scripted("flash_crash", feed_name="invented", seconds=10, percent=40) as ends_at:
        prices = []
        for second in range(1, 13):
            fetch(feed, second)
            prices.append(price())

    assert ends_at == at(11)
    assert min(prices) == Decimal(60)
    assert (prices[0], prices[-1]) == (100, 100)
    assert FeedSource.objects.get().options["script"] == []


def test_a_crash_that_is_interrupted_still_recovers(feed):
    with (
        pytest.raises(KeyboardInterrupt),
        scenarios.scripted("flash_crash", feed_name="invented", seconds=10, percent=40),
    ):
        for second in range(1, 6):
            fetch(feed, second)
        assert price() < 80
        raise KeyboardInterrupt
    for second in range(6, 13):
        fetch(feed, second)

    assert price() == 100


def test_an_outage_gives_entries_that_failed_and_ends_with_the_scenario(feed):
    with scenarios.scripted("outage", feed_name="invented", seconds=600):
        fetch(feed, 1)
    FeedHead.objects.update(next_slot=at(30), redispatch_at=None)
    fetch(feed, 30)

    assert list(FeedEntry.objects.order_by("seq").values_list("failure", flat=True)) == ["", "outage", ""]
    assert FeedSource.objects.get().options["script"] == []


def test_a_slow_receiver_is_a_channel_for_as_long_as_it_lasts(settings):
    make_owner("ada")
    port = free_port()
    settings.OUTBOUND_ALLOW = [place(f"127.0.0.1:{port}")]
    with scenarios.slow_sink(owner_name="ada", delay_seconds=0.5, port=port) as listening:
        began = time.monotonic()
        answer = requests.post(f"http://127.0.0.1:{listening}/", timeout=10)
        took = time.monotonic() - began
        assert (Channel.objects.get().name, Message.objects.get().kind) == (scenarios.CHANNEL, "test")

    assert (answer.status_code, took >= 0.5) == (200, True)
    assert not Channel.objects.exists()
    assert not Message.objects.exists()


def test_a_flood_is_many_tasks_of_one_feed(feed, monkeypatch):
    sent = []
    monkeypatch.setattr(flow, "evaluate_soon", lambda *, feed_id: sent.append(feed_id))
    call_command("scenario", "--yes", "flood", "--feed", "invented", "--count", "25")

    assert sent == [feed.pk] * 25


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("flash-crash", "--feed", "none"), "there is no feed none"),
        (("provider-outage", "--feed", "pushed"), "the feed pushed has no simulated source"),
        (("flash-crash", "--feed", "new"), "the feed new has not begun"),
        (("flood", "--feed", "none"), "there is no feed none"),
        (("slow-sink", "--owner", "eve"), "there is no active user eve"),
        (("slow-sink", "--owner", "ada", "--port", "9981"), "OUTBOUND_ALLOW=127.0.0.1:9981"),
    ],
)
def test_what_cannot_be_played_is_refused_and_nothing_stays(settings, capsys, arguments, why):
    settings.DEBUG, settings.OUTBOUND_ALLOW = True, []
    make_owner("ada")
    make_feed("A", name="pushed", provider="push")
    make_feed("B", name="new")
    with pytest.raises(SystemExit) as ended:
        call_command("scenario", *arguments)

    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("scenario: ")
    assert why in said
    assert not Channel.objects.exists()


def test_outside_of_development_it_must_be_asked_for(settings, capsys, feed):
    settings.DEBUG = False
    with pytest.raises(SystemExit) as ended:
        call_command("scenario", "flood", "--feed", "invented")

    assert (ended.value.code, "write --yes" in capsys.readouterr().err) == (2, True)


def test_the_command_waits_until_it_is_over_and_says_so(settings, feed, capsys, monkeypatch):
    settings.DEBUG = True
    clock = iter(START + timedelta(seconds=seconds) for seconds in (1, 5, 30))
    monkeypatch.setattr(scenario.timezone, "now", lambda: next(clock))
    monkeypatch.setattr(scenario.time, "sleep", lambda seconds: None)
    call_command("scenario", "provider-outage", "--feed", "invented", "--seconds", "10")

    assert capsys.readouterr().out.splitlines() == [
        "invented is not answered until 12:00:11 UTC.",
        "It is over, and undone.",
    ]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_child_that_is_killed_is_replaced(tmp_path, settings, capsys):
    settings.DEBUG = True
    with rig(tmp_path) as processes:
        processes.worker("ticks", name="notifier")
        wait_until(lambda: "ready" in processes.log("notifier"), timeout_seconds=60)
        call_command("scenario", "worker-kill")
        printed = capsys.readouterr().out
        with pytest.raises(SystemExit):
            call_command("scenario", "worker-kill", "--worker", "nobody")

    assert printed.startswith("Killed ")
    assert "no worker nobody@" in capsys.readouterr().err
