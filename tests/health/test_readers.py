"""Sentences about health are written for who reads them; what is stored, and what programs are answered, is not."""

from zoneinfo import ZoneInfo

import pytest
from django.utils import timezone

from apps.accounts.models import Profile
from apps.health.domain import Code, Health, Level
from apps.health.models import Check, Problem
from apps.health.queries import channel_healths
from apps.health.wording import describe, written_for
from apps.locales import LOCALES, Reader
from apps.notify.models import Channel
from tests.builders import START, make_feed, make_operator

GERMAN = Reader(ZoneInfo("Europe/Berlin"), LOCALES["de"])
CLAUSES = {
    Code.BANNED: (
        {"provider": "kraken", "until": "2026-03-02T13:00:10+00:00"},
        "kraken takes no calls from here until 02.03.2026 14:00:10 CET, since it was asked too often",
    ),
    Code.DUE_TOO_LATE: (
        {"due": "2026-03-03T00:00:00+00:00"},
        "the feed is due at 03.03.2026 01:00:00 CET, far ahead of the clock",
    ),
    Code.NO_PARTITION: ({"day": "2026-03-03"}, "the table of quotes has no partition for 03.03.2026"),
    Code.NOTHING_PUSHED: (
        {"expect_every": 5_400},
        "nothing has been pushed since 02.03.2026 13:00:00 CET, and a push is expected every 90 min",
    ),
    Code.SENDER_AHEAD: (
        {"seconds": 12_345, "is_refused": True},
        "the clock of a sender is 12.345 s ahead, so its quotes are refused",
    ),
    Code.NOT_FETCHED: ({}, "the feed has been due since 02.03.2026 13:00:00 CET, and no worker has fetched it"),
}


@pytest.mark.parametrize("code", CLAUSES)
def test_times_dates_and_numbers_are_the_readers(code):
    facts, clause = CLAUSES[code]
    assert describe(code, since=START, facts=facts, reader=GERMAN).clause == clause


def test_without_a_reader_it_is_the_standard_form():
    facts = CLAUSES[Code.BANNED][0]
    clause = "kraken takes no calls from here until 2026-03-02 13:00:10 UTC, since it was asked too often"
    assert describe(Code.BANNED, since=START, facts=facts).clause == clause


def test_a_sentence_that_is_of_nothing_stored_stays_as_it_is():
    health = Health(Level.STOPPED, START, "The rule was deleted.", code=Code.OFF)
    assert written_for(health, reader=GERMAN) == health


@pytest.fixture
def stopped(db):
    """A channel that has stopped, of an operator who reads German."""
    grace = make_operator("grace", "notify.view_channel", "market.view_feed")
    Profile.objects.create(user=grace, locale="de", time_zone="Europe/Berlin")
    channel = Channel.objects.create(owner=grace, name="Post", kind="inbox")
    feed = make_feed("BTC-USD")
    for subject, pk, code, facts in (
        ("channel", channel.pk, Code.NOT_DELIVERED, {}),
        ("feed", feed.pk, Code.BANNED, CLAUSES[Code.BANNED][0]),
    ):
        Problem.objects.create(subject=subject, subject_id=pk, code=code, level="stopped", since=START, facts=facts)
    now = timezone.now()
    Check.objects.update_or_create(pk=1, defaults={"checked_at": now, "ticked_at": now})
    return grace, channel


def test_pages_write_it_for_their_reader_and_the_queries_for_nobody(client, stopped):
    grace, channel = stopped
    client.force_login(grace)
    overview = client.get("/admin/").text
    page = client.get(f"/admin/notify/channel/{channel.pk}/change/").text
    assert "No message has been delivered since 02.03.2026 13:00:00 CET." in overview
    assert "until 02.03.2026 14:00:10 CET, since it was asked too often" in overview
    assert "No message has been delivered since 02.03.2026 13:00:00 CET." in page
    (health,) = channel_healths([channel.pk], now=Check.objects.get().checked_at).values()
    assert health.reason == "No message has been delivered since 2026-03-02 12:00:00 UTC."


@pytest.mark.parametrize(
    ("address", "before"), [("/", "<b>Prices and alerts have stopped.</b> "), ("/admin/", "")], ids=["site", "admin"]
)
def test_that_everything_has_stopped_is_written_for_the_reader_too(client, stopped, address, before):
    client.force_login(stopped[0])
    Check.objects.update(checked_at=START, ticked_at=START)
    since = "Nothing has been fetched, evaluated or sent since 02.03.2026 13:00:00 CET."
    assert before + since in client.get(address).text
