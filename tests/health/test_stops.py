"""The ways to stop, in one table: who sees which of them on which page, that nothing that depends on it is green
meanwhile, who is notified once it lasts, and that everything is well again once it is mended.

Each row injects its stop into a world in which everything is well, one check before and one after. The processes that
stop (beat, workers, a watcher) are stopped on real servers in tests/pipeline/test_health.py.
"""

import html
import json
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import Any, NamedTuple

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from apps import replica
from apps.alerts.models import Alert
from apps.canary import CANARY
from apps.health import canary
from apps.health.checks import system
from apps.health.domain import INTENDED, Code, Level, Subject
from apps.health.models import Check, Problem
from apps.health.wording import describe
from apps.market import calendars
from apps.market.models import Asset, Feed, FeedEntry, FeedHead, LatestQuote
from apps.notify.models import Channel, RuleChannel
from apps.notify.services import create_channel, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, RuleState
from apps.sources import services as sources
from apps.sources.models import Circuit, FeedSource, Listing, RefusedListing, SenderClock
from tests.builders import TRACE, above, append_quotes, check_all, make_feed, make_owner, make_rule, notify_all

pytestmark = pytest.mark.django_db


class World:
    """One feed that is answered, its asset, Ada's rule on it, which notifies her channel, and people: Ada, the operator
    Grace, and Eve, who owns nothing."""

    def __init__(self, settings, monkeypatch):
        self.settings, self.monkeypatch = settings, monkeypatch
        settings.EMAIL_CONFIGURED = True
        self.now = timezone.now()
        # It stands still: what is read after a check must not depend on how fast the machine is.
        monkeypatch.setattr(timezone, "now", lambda: self.now)
        self.feed = make_feed("BTC-USD", interval_seconds=10, provider="kraken", is_live=True)
        FeedHead.objects.update(next_slot=self.ago(10))
        append_quotes(self.feed, [("BTC-USD", self.ago(5), "10")], provider="kraken")
        self.asset = Asset.objects.get()
        self.people = {name: make_owner(name) for name in ("ada", "grace", "eve")}
        for name, group in (("ada", "Owner"), ("eve", "Owner"), ("grace", "Operator")):
            self.people[name].is_staff = True
            self.people[name].save()
            self.people[name].groups.add(Group.objects.get(name=group))
        owner = self.people["ada"]
        self.channel = create_channel(owner=owner, name="Inbox", kind="inbox", config={})
        self.rule = make_rule(owner, assets=["BTC-USD"], condition=above(100))
        set_channels(rule=self.rule, channels=[self.channel])
        evaluate_pending(feed_id=self.feed.pk)
        FeedHead.objects.update(next_slot=self.now)
        for model in (Feed, Rule, Channel):
            model.objects.update(created_at=self.ago(3_600))

    def ago(self, seconds):
        """Return the time so many seconds ago."""
        return self.now - timedelta(seconds=seconds)

    def ids(self):
        """Return kind -> the number of the thing of that kind."""
        rows = {Subject.FEED: self.feed, Subject.ASSET: self.asset, Subject.CHANNEL: self.channel}
        return {Subject.SYSTEM: 0, Subject.RULE: self.rule.pk} | {kind: row.pk for kind, row in rows.items()}


@contextmanager
def edited(model, **columns):
    """Give all rows of a table these values, and at the end those that they had."""
    before = {row["pk"]: row for row in model.objects.values("pk", *columns)}
    model.objects.update(**columns)
    yield
    for pk, row in before.items():
        model.objects.filter(pk=pk).update(**{name: row[name] for name in columns})


@contextmanager
def made(model, **columns):
    """Have a row, and at the end have none."""
    row = model.objects.create(**columns)
    yield
    model.objects.filter(pk=row.pk).delete()


@contextmanager
def without(rows):
    """Have none of these rows, and at the end have them again."""
    taken = list(rows)
    rows.delete()
    yield
    type(taken[0]).objects.bulk_create(taken)


@contextmanager
def patched(w, target, name, value):
    """Have another value there, and at the end the one before."""
    with w.monkeypatch.context() as patch:
        patch.setattr(target, name, value)
        yield


@contextmanager
def failed(w, *, reason="timeout", second=0):
    """Let the feed's providers not have answered for a while."""
    since = {"received_at": w.ago(300)}
    with edited(FeedEntry, **since), edited(FeedHead, next_slot=w.now, failures=0):
        lease = sources.take_fetch_lease(feed_id=w.feed.pk, slot=w.now)
        columns = {"failure": reason, "retry_after_seconds": None, "now": w.now, "trace_id": TRACE}
        entry = sources.record_failure(lease=lease, **columns)
        FeedEntry.objects.filter(pk=entry.pk).update(evaluated_at=w.now)
        yield


@contextmanager
def banned(w):
    until = timezone.now() + timedelta(hours=1)
    address = w.feed.sources.get().options["base_url"]
    columns = {"reason": "rate_limited", "open_until": until, "failures": 1}
    with made(Circuit, provider="kraken", address=address, **columns), failed(w, reason="rate_limited"):
        yield


@contextmanager
def refused(w):
    columns = {"provider": "kraken", "external_id": "BTC-USD", "reason": "unknown_symbol"}
    times = {"since": w.ago(300), "next_ask_at": w.ago(-300)}
    with made(RefusedListing, asset=w.asset, **columns, **times), edited(LatestQuote, at=w.ago(300)):
        yield


@contextmanager
def in_another_currency(w):
    asked = edited(FeedSource, provider="coinbase", options={})
    listed = made(Listing, asset=w.asset, provider="coinbase", external_id="BTC-USD")
    with edited(LatestQuote, at=w.ago(300)), asked, edited(Asset, currency="EUR"), listed:
        yield


@contextmanager
def canary_is_lost(w):
    w.settings.CANARY = True
    canary.append_if_due(now=w.ago(700))
    yield
    evaluate_pending(feed_id=CANARY)
    notify_all()


@contextmanager
def asset_leaves_its_feed(w):
    with made(Asset, symbol="ETH-USD", feed=None):
        yield


@contextmanager
def no_tick(w):
    with edited(Check, ticked_at=w.ago(60)):
        yield


@contextmanager
def unevaluated(w):
    with edited(FeedEntry, evaluated_at=None, received_at=w.ago(120)):
        yield


@contextmanager
def keyless(w):
    with w.monkeypatch.context() as patch, edited(FeedSource, provider="coincap", options={}):
        patch.delenv("COINCAP_API_KEY", raising=False)
        yield


@contextmanager
def unpushed(w):
    pushed = edited(FeedEntry, received_at=w.ago(300), slot=None)
    with edited(FeedSource, provider="push", options={"expect_every": "1m"}), pushed:
        yield


@contextmanager
def ends(w):
    # The hours are kept in the process, and are those of the true last day.
    calendars.hours_of("XBOM")
    known = calendars.KNOWN_UNTIL | {"XBOM": w.now.date() + timedelta(days=30)}
    with patched(w, calendars, "KNOWN_UNTIL", known), made(Asset, symbol="INFY", feed=None, calendar="XBOM"):
        yield


def full_disk(w):
    usage = system.shutil.disk_usage("/")._replace(total=100_000_000_000, free=1_000_000_000)
    return patched(w, system.shutil, "disk_usage", lambda path: usage)


def replica_is_away(w):
    stack = ExitStack()
    stack.enter_context(patched(w, replica, "is_configured", lambda: True))
    stack.enter_context(patched(w, replica, "look", lambda: replica.State(why_not="does not answer")))
    return stack


def without_mail(w):
    stack = ExitStack()
    stack.enter_context(edited(Channel, kind="email"))
    stack.enter_context(patched(w, w.settings, "EMAIL_CONFIGURED", False))
    return stack


# Who sees it on which page where it is a problem of the kind; all others see nothing of it.
SEEN = {
    Subject.SYSTEM: {("grace", "dashboard")},
    Subject.FEED: {
        *{("grace", page) for page in ("dashboard", "feed", "asset")},
        *{("ada", page) for page in ("dashboard", "asset", "rule", "why")},
    },
    Subject.ASSET: {
        *{("grace", page) for page in ("dashboard", "asset")},
        *{("ada", page) for page in ("dashboard", "asset", "rule", "why")},
    },
    Subject.CHANNEL: {("ada", page) for page in ("dashboard", "channel", "rule")},
    Subject.RULE: {("ada", page) for page in ("dashboard", "rule")},
}
EVERYWHERE = {(name, "dashboard") for name in ("ada", "grace", "eve")} | set().union(*SEEN.values())


class Stop(NamedTuple):
    """A row of the table.

    happens: given the world, a context in which it has stopped and after which it is mended; also: codes of problems
    that follow from it; of_another: it is of a thing that nobody's rule depends on; readers: as the broker counts them.
    """

    code: Code
    subject: Subject
    happens: Any
    level: Level = Level.STOPPED
    also: frozenset = frozenset()
    of_another: bool = False
    readers: Any = None


SYSTEM, FEED, ASSET, CHANNEL, RULE = Subject
DEGRADED = Level.DEGRADED
NOBODY = frozenset({Code.NOTIFIES_NOBODY})

STOPS = [
    Stop(Code.NOT_CHECKED, SYSTEM, no_tick),
    Stop(Code.NO_WORKER, SYSTEM, lambda w: ExitStack(), readers={"ticks": 1, "analysis.0": 0}),
    Stop(Code.CANARY_MISSED, SYSTEM, canary_is_lost),
    Stop(Code.CALENDAR_ENDS, SYSTEM, ends, level=DEGRADED, also=frozenset({Code.NO_FEED})),
    Stop(Code.DISK_FULL, SYSTEM, full_disk, level=DEGRADED),
    Stop(Code.REPLICA_NOT_READ, SYSTEM, replica_is_away, level=DEGRADED),
    Stop(Code.PAUSED, FEED, lambda w: edited(Feed, is_enabled=False)),
    Stop(Code.NO_SOURCE, FEED, lambda w: without(FeedSource.objects.all())),
    Stop(Code.NO_KEY, FEED, keyless),
    Stop(Code.FAILING, FEED, failed),
    Stop(Code.BANNED, FEED, banned),
    Stop(Code.NOT_FETCHED, FEED, lambda w: edited(FeedHead, next_slot=w.ago(300))),
    Stop(Code.DUE_TOO_LATE, FEED, lambda w: edited(FeedHead, next_slot=w.ago(-86_400))),
    Stop(Code.NOT_EVALUATED, FEED, unevaluated),
    Stop(Code.NOTHING_PUSHED, FEED, unpushed),
    Stop(
        *(Code.SENDER_AHEAD, FEED),
        lambda w: made(SenderClock, feed=w.feed, sender="token:1", skew_seconds=9, ahead_at=w.now),
        level=DEGRADED,
    ),
    Stop(Code.SILENT, ASSET, lambda w: edited(LatestQuote, at=w.ago(300))),
    Stop(Code.REFUSED, ASSET, refused),
    Stop(Code.NO_LISTING, ASSET, in_another_currency),
    Stop(Code.NO_FEED, ASSET, asset_leaves_its_feed, of_another=True),
    Stop(Code.OFF, CHANNEL, lambda w: edited(Channel, is_enabled=False), also=NOBODY),
    Stop(
        *(Code.SWITCHED_OFF, CHANNEL),
        lambda w: edited(Channel, is_enabled=False, switched_off_because="the receiver is gone (410)."),
        also=NOBODY,
    ),
    Stop(Code.NOT_DELIVERED, CHANNEL, lambda w: edited(Channel, failing_since=w.ago(600))),
    Stop(Code.NO_MAIL_SERVER, CHANNEL, without_mail),
    Stop(Code.UNTRIED, CHANNEL, lambda w: edited(Channel, kind="webhook"), level=DEGRADED),
    Stop(Code.ERROR, RULE, lambda w: edited(RuleState, state="error", since=w.ago(60), detail="ZeroDivisionError")),
    Stop(Code.PAUSED_BY_SPLIT, RULE, lambda w: edited(RuleState, state="paused", since=w.ago(60), detail="20:1")),
    Stop(
        *(Code.UNKNOWN, RULE),
        lambda w: edited(RuleState, unknown="not_enough_history", unknown_since=w.ago(7_200)),
    ),
    Stop(Code.NO_ASSET, RULE, lambda w: without(RuleState.objects.all()), level=DEGRADED),
    Stop(Code.NOTIFIES_NOBODY, RULE, lambda w: without(RuleChannel.objects.all()), level=DEGRADED),
]


FIRST = [next(stop for stop in STOPS if stop.subject == subject) for subject in Subject]


@pytest.fixture
def world(settings, monkeypatch):
    return World(settings, monkeypatch)


def pages_of(w):
    """Return (name, page) -> address of what the people open."""
    rows = {"feed": ("market_feed", w.feed), "asset": ("market_asset", w.asset), "rule": ("rules_rule", w.rule)}
    rows["channel"] = ("notify_channel", w.channel)
    addresses = {page: reverse(f"admin:{name}_change", args=[row.pk]) for page, (name, row) in rows.items()}
    addresses["why"] = f"{reverse('admin:rules_rule_why', args=[w.rule.pk])}?asset={w.asset.pk}"
    addresses |= {"dashboard": "/admin/", "front": "/"}
    opened = {"ada": ("dashboard", "front", "asset", "rule", "channel", "why"), "eve": ("dashboard", "front")}
    opened["grace"] = ("dashboard", "front", "feed", "asset")
    return {(name, page): addresses[page] for name, pages in opened.items() for page in pages}


def read(client, w, *, only=None):
    """Return (name, page) -> what the page says, of all pages or of these and the front page."""
    said = {}
    for (name, page), address in pages_of(w).items():
        if only is not None and (name, page) not in only and page != "front":
            continue
        client.force_login(w.people[name])
        answer = client.get(address)
        assert answer.status_code == 200, (name, page)
        said[name, page] = html.unescape(answer.content.decode())
    return said


def asked(client, w):
    """Return name -> (level, {(subject, code)}) as the API says."""
    query = "{ health { level problems { subject health { code } } } }"
    found = {}
    for name, person in w.people.items():
        client.force_login(person)
        health = client.post("/graphql", {"query": query}, content_type="application/json").json()["data"]["health"]
        problems = {(one["subject"].lower(), one["health"]["code"]) for one in health["problems"]}
        found[name] = (health["level"].lower(), problems)
    return found


def status(client):
    """Return what /status says: its code, and the codes of what has stopped."""
    answer = client.get("/status")
    return answer.status_code, {one["code"] for one in json.loads(answer.content)["reasons"]}


def readers_of(stop):
    """Return the names of those who see a problem, by the pages that show it."""
    return {name for name, _ in SEEN[stop.subject]} - ({"ada"} if stop.of_another else set())


def clause_of(stop, w):
    """Return what the problem's sentence says of it."""
    if stop.code == Code.NOT_CHECKED:
        return "nothing has been fetched, evaluated or sent since"
    row = Problem.objects.get(subject=stop.subject, code=stop.code)
    assert (row.level, row.subject_id == w.ids()[stop.subject]) == (stop.level, not stop.of_another)
    return describe(row.code, since=row.since, facts=row.facts).clause


def alerts():
    """Return (owner, None: the operators; what it is about; whether it is over) of each alert about health."""
    rows = Alert.objects.filter(kind="health").values_list("owner__username", "subject", "resolved_at")
    return {(owner, subject, resolved_at is not None) for owner, subject, resolved_at in rows}


def notified_of(stop):
    """Return whose alert a problem opens: its subject's owner's, and the operators' of what is theirs."""
    if stop.code in (Code.ERROR, Code.PAUSED_BY_SPLIT) or (stop.level != Level.STOPPED and stop.subject != SYSTEM):
        return set()
    if stop.code in INTENDED:
        return {"ada"} if stop.code == Code.PAUSED else set()
    return {SYSTEM: {None}, FEED: {None, "ada"}, ASSET: {None, "ada"}, CHANNEL: {"ada"}, RULE: {"ada"}}[stop.subject]


def let_it_last(w, stop):
    """Let all that is wrong have been so for ten minutes in which the checks came."""
    Problem.objects.update(since=w.ago(600))
    Check.objects.update(running_since=w.ago(600))
    check_now(stop)


def is_green(text):
    return "Well, by the check at" in text


def expected_on(stop):
    """Return the (name, page) on which the problem stands."""
    if stop.code == Code.NOT_CHECKED:
        return EVERYWHERE
    seen = SEEN[stop.subject]
    return {(name, page) for name, page in seen if page == "dashboard" and name != "ada"} if stop.of_another else seen


def assert_all_is_well(client, w):
    assert status(client) == (200, set())
    assert asked(client, w) == dict.fromkeys(w.people, ("well", set()))
    said = read(client, w)
    assert {key for key, text in said.items() if is_green(text)} == {
        *(("ada", page) for page in ("asset", "rule", "channel")),
        *(("grace", page) for page in ("feed", "asset")),
    }
    assert {key for key, text in said.items() if "Nothing is wrong, by the check at" in text} == {
        (name, "dashboard") for name in w.people
    }


def check_now(stop=None):
    FeedEntry.objects.filter(evaluated_at=None, feed=CANARY).update(received_at=timezone.now())
    check_all(readers=stop.readers if stop is not None else None)


def test_everything_is_well_in_the_world_of_these_tests(world, client):
    check_now()
    assert_all_is_well(client, world)


def test_the_table_has_every_problem_that_can_be_made_on_any_database():
    """No partition is a matter of PostgreSQL; two others need an asset that has never been, or a feed without; what is
    derived needs a series (test_derived.py)."""
    elsewhere = {Code.NO_PARTITION, Code.NO_PRICE, Code.NO_FEED_ASSET, Code.LEG_STOPPED, Code.NOT_DERIVED}
    assert {stop.code for stop in STOPS} == set(Code) - elsewhere


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: f"{stop.subject}-{stop.code}")
def test_what_has_stopped_says_so_to_whom_it_concerns_and_ends_when_it_is_mended(world, client, stop):
    w = world
    check_now()
    with stop.happens(w):
        if stop.code != Code.NOT_CHECKED:
            check_now(stop)
        clause, expected = clause_of(stop, w), expected_on(stop)
        # Pages are slow: where it must not stand is looked at for the first stop of each kind of thing.
        said = read(client, w, only=None if stop in FIRST else expected)

        shown = {key for key, text in said.items() if clause[1:] in text and key[1] != "front"}
        assert shown == expected
        assert {key for key in expected if is_green(said[key])} == set()

        has_fault = bool({stop.code, *stop.also} - INTENDED)
        concerned = set(w.people) if stop.code == Code.NOT_CHECKED else readers_of(stop) if has_fault else set()
        notice = "have stopped" if stop.code == Code.NOT_CHECKED else "not well"
        assert {name for name in w.people if notice in said[name, "front"]} == concerned

        answers = asked(client, w)
        assert {name for name, (level, _) in answers.items() if level != "well"} == concerned
        if stop.code != Code.NOT_CHECKED:
            seen = {name for name, (_, problems) in answers.items() if (stop.subject, stop.code) in problems}
            assert seen == readers_of(stop)

        is_down = stop.level == Level.STOPPED and stop.subject in (Subject.SYSTEM, Subject.FEED)
        is_down = is_down and stop.code not in INTENDED
        assert status(client) == ((503, {stop.code}) if is_down else (200, set()))

        # After a restart it counts from there, so nobody is notified at once.
        assert alerts() == set()
        if stop.code != Code.NOT_CHECKED:
            let_it_last(w, stop)
            assert alerts() == {(owner, stop.subject, False) for owner in notified_of(stop)}
    check_now()
    assert {is_over for _, _, is_over in alerts()} <= {True}
    assert status(client) == (200, set())
    assert asked(client, w) == dict.fromkeys(w.people, ("well", set()))
