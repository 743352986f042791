"""Pages read candles, history and logs from a replica of the database, and from the primary while the replica is away
or too far behind. The tests start a primary and a streaming replica of their own."""

import logging
import os
import re
import signal
import time
from collections import Counter
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from threading import Timer

import pytest
from django.contrib import admin
from django.db import OperationalError, connection, connections
from django.urls import NoReverseMatch, URLPattern, get_resolver, reverse
from django.utils import timezone

from apps import replica
from apps.health.checks.system import system_findings
from apps.health.domain import Code, Level
from apps.health.services import note_tick
from apps.health.wording import describe
from apps.market.models import Asset, Candle, Feed, FeedEntry
from apps.market.services import roll_up
from apps.metrics.exposition import read_replica
from apps.panel.kit.pages import admin_address
from apps.pipeline.flow import evaluate_pending
from apps.replica import ALIAS
from apps.rules.models import Rule, Transition
from tests.api.asking import asking_by
from tests.builders import above, append_quotes, at, make_feed, make_rule
from tests.faults.own import own_replica, own_servers
from tests.rig import wait_until

pytestmark = [
    pytest.mark.servers,
    pytest.mark.xdist_group("broker"),
    pytest.mark.django_db(transaction=True, databases=["default", ALIAS]),
]

ENTRIES = "/admin/market/feedentry/"
LISTS = """query {
  asset(id: "A") { candles(resolution: MINUTE) { edges { node { close } } } quotes { edges { node { price } } } }
  feed(id: "feed") { entries { edges { node { seq } } } }
}"""
CHANGE = """mutation { addListing(idempotencyKey: "k", provider: "coincap", externalId: "a", symbol: "A") {
  listing { asset { candles { edges { node { close } } } quotes { edges { node { price } } } } }
} }"""


@pytest.fixture(scope="module")
def servers(django_db_setup, django_db_blocker):
    """Return a primary, which is Django's database, and its replica, of which Django knows."""
    with (
        django_db_blocker.unblock(),
        own_servers(["database"]) as made,
        own_replica(made["database"]) as follower,
    ):
        primary = connection.settings_dict
        connections.settings[ALIAS] = primary | {"PORT": follower.port, "TEST": primary["TEST"] | {"MIRROR": "default"}}
        yield made["database"], follower
        connections[ALIAS].close()
        del connections[ALIAS]
        del connections.settings[ALIAS]


@pytest.fixture
def primary(servers):
    return servers[0]


@pytest.fixture
def follower(servers, transactional_db, settings, monkeypatch):
    """Return the replica. No ticks commit here, so it is not too far behind for an hour."""
    monkeypatch.setattr(replica, "BEHIND_MOST", timedelta(hours=1))
    settings.DATABASE_ROUTERS = ["apps.replica.Router"]
    replica.forget()
    yield servers[1]
    replica.forget()
    connections[ALIAS].close()


@pytest.fixture
def feed(follower, primary, admin_user, client):
    """Return a feed with prices, candles and a rule that fired, all of it on the replica too."""
    feed = make_feed("A")
    make_rule(admin_user, assets=["A"], condition=above(10))
    append_quotes(feed, [("A", at(second), str(second + 1)) for second in range(0, 240, 5)])
    append_quotes(feed, [("A", at(300), "9")])
    evaluate_pending(feed_id=feed.pk)
    while roll_up(feed_id=feed.pk):
        pass
    assert Candle.objects.exists()
    assert Transition.objects.exists()
    client.force_login(admin_user)
    follow(primary, follower)
    return feed


def follow(primary, follower):
    """Let a tick pass, and wait until the replica has all that the primary has committed."""
    note_tick(now=timezone.now())
    with primary.connect() as admin_of_primary, follower.connect() as reader:
        (reached,) = admin_of_primary.execute("SELECT pg_current_wal_lsn()").fetchone()
        wait_until(lambda: reader.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [reached]).fetchone()[0])
    replica.forget()


@contextmanager
def statements():
    """Give alias -> the statements that its connection was asked."""
    asked = {alias: [] for alias in ("default", ALIAS)}

    def noting(alias):
        def note(execute, sql, *arguments):
            asked[alias].append(sql)
            return execute(sql, *arguments)

        return note

    with (
        connections["default"].execute_wrapper(noting("default")),
        connections[ALIAS].execute_wrapper(noting(ALIAS)),
    ):
        yield asked


def read(client, address):
    """Return alias -> the statements by which a page is made."""
    with statements() as asked:
        assert client.get(address).status_code != 500
    return asked


def tables(asked):
    """Return the tables that each of the statements reads."""
    return {frozenset(re.findall(r'(?:FROM|JOIN) "(\w+)"', sql)) for sql in asked} - {frozenset()}


def pages():
    """Return the addresses of the site and of the admin that this feed, or no row, gives."""
    # The admin's pages are registered with the addresses.
    named = [one.name for one in get_resolver().url_patterns if isinstance(one, URLPattern) and one.name]
    named += [
        f"admin:{one._meta.app_label}_{one._meta.model_name}_{page}"
        for one in admin.site._registry
        for page in ("changelist", "add")
    ]
    found = set()
    for name in named:
        for arguments in ((), ("A",)):
            with suppress(NoReverseMatch):
                found.add(reverse(name, args=arguments))
    entry, feed = FeedEntry.objects.order_by("seq").last(), Feed.objects.get()
    rows = [entry, feed, Asset.objects.get(), Transition.objects.first(), Rule.objects.get()]
    return found | {reverse(admin_address(row, "change"), args=[row.pk]) for row in rows}


# The pages that read from the replica -> the tables of each statement there.
LINES = [{"market_asset", "market_feed", "market_feedhead"}, {"market_split"}, {"market_asset", "market_candle"}]
CHART = [{"market_asset", "market_candle"}, {"market_candle"}, {"market_split"}, {"market_quote"}]
STEPS = {"rules_transition", "rules_rule", "rules_ruleversion", "market_asset", "market_feed", "market_feedentry"}
OF_REPLICA = {
    "/": LINES,
    "/live": LINES,
    "/assets/": LINES,
    "/assets/live": LINES,
    "/assets/A/": CHART,
    "/assets/A/live": CHART,
    "/assets/A/quotes.csv": [{"market_quote"}, {"market_split"}],
    "/admin/market/feedentry/": [{"market_feed", "market_feedentry"}, {"market_feed"}],
    "/admin/rules/transition/": [
        STEPS,
        # What its filters offer.
        {"rules_rule"},
        {"market_asset", "rules_rule", "rules_rulestate"},
    ],
}


def test_candles_history_and_logs_are_read_from_the_replica_and_nothing_else(feed, client):
    asked = {address: read(client, address)[ALIAS] for address in pages()}

    assert len(asked) > len(OF_REPLICA)
    assert {address: tables(of_page) for address, of_page in asked.items() if of_page} == {
        address: set(map(frozenset, of_page)) for address, of_page in OF_REPLICA.items()
    }


@pytest.mark.parametrize("address", OF_REPLICA)
def test_a_page_asks_both_servers_together_what_it_asks_one(feed, client, monkeypatch, address):
    with monkeypatch.context() as alone:
        alone.setattr(replica, "is_configured", lambda: False)
        one = read(client, address)
    both = read(client, address)

    assert one[ALIAS] == []
    assert both[ALIAS][0] == replica._STATE
    assert Counter(both["default"]) + Counter(both[ALIAS][1:]) == Counter(one["default"])


def test_queries_read_lists_of_candles_quotes_and_entries_there_and_changes_do_not(feed, client):
    ask = asking_by(client)
    with statements() as asked:
        answer = ask(LISTS).json()
    assert "errors" not in answer
    assert tables(asked[ALIAS]) == {
        *map(frozenset, (["market_asset", "market_candle"], ["market_candle"], ["market_split"])),
        *map(frozenset, (["market_asset", "market_quote"], ["market_quote"], ["market_feed", "market_feedentry"])),
    }
    with statements() as asked:
        answer = ask(CHANGE).json()
    assert answer["data"]["addListing"]["listing"]["asset"]["candles"]["edges"]
    assert asked[ALIAS] == []


def seqs(client):
    """Return the numbers of the entries that the list shows, and whether it names the replica."""
    answer = client.get(ENTRIES)
    shown = {row.seq for row in answer.context["cl"].result_list}
    return shown, "Read from a replica of the database" in answer.text


@pytest.fixture
def impatient(monkeypatch):
    """Ask the replica anew each time."""
    monkeypatch.setattr(replica, "GOOD_SECONDS", 0)
    monkeypatch.setattr(replica, "BAD_SECONDS", 0)


def found_by_check():
    findings = system_findings(readers=None, now=timezone.now())
    return [one for one in findings if one.code == Code.REPLICA_NOT_READ]


def test_a_replica_that_lags_is_read_until_it_is_too_far_behind(
    feed, client, primary, follower, impatient, monkeypatch
):
    known = set(FeedEntry.objects.values_list("seq", flat=True))
    assert seqs(client) == (known, True)
    assert found_by_check() == []
    with follower.connect() as at_replica:
        at_replica.execute("SELECT pg_wal_replay_pause()")
        try:
            entry = append_quotes(feed, [("A", at(360), "3")])
            assert seqs(client) == (known, True)
            # Another page may link there already.
            assert client.get(reverse(admin_address(entry, "change"), args=[entry.pk])).status_code == 200

            monkeypatch.setattr(replica, "BEHIND_MOST", timedelta(0))
            assert seqs(client) == (known | {entry.seq}, False)
            [finding] = found_by_check()
            assert finding.level == Level.DEGRADED
            assert re.fullmatch(r"is \d+ s behind", finding.facts["why"])
        finally:
            at_replica.execute("SELECT pg_wal_replay_resume()")
    monkeypatch.setattr(replica, "BEHIND_MOST", timedelta(hours=1))
    follow(primary, follower)
    assert seqs(client) == (known | {entry.seq}, True)
    assert found_by_check() == []


def test_pages_are_read_from_the_primary_while_the_replica_is_away(
    feed, client, primary, follower, monkeypatch, caplog
):
    """It ends behind a page that has just found it good; no page fails."""
    statuses = {address: client.get(address).status_code for address in pages()}
    monkeypatch.setattr(replica, "GOOD_SECONDS", 60)
    monkeypatch.setattr(replica, "BAD_SECONDS", 0)
    replica.forget()
    known = set(FeedEntry.objects.values_list("seq", flat=True))
    assert seqs(client) == (known, True)
    entry = append_quotes(feed, [("A", at(360), "3")])
    follower.end(signal.SIGQUIT)
    with caplog.at_level(logging.WARNING, logger=replica.__name__):
        assert seqs(client) == (known | {entry.seq}, False)
        assert seqs(client) == (known | {entry.seq}, False)
    assert [(one.message, one.reason) for one in caplog.records if one.name == replica.__name__] == [
        ("replica not read", "does not answer (OperationalError)")
    ]
    assert {address: client.get(address).status_code for address in statuses} == statuses
    assert "errors" not in asking_by(client)(LISTS).json()
    [finding] = found_by_check()
    assert describe(finding.code, since=timezone.now(), facts=finding.facts).clause == (
        "the replica of the database does not answer (OperationalError), so candles, history and logs are read from "
        "the primary"
    )

    follower.start()
    follow(primary, follower)
    assert seqs(client) == (known | {entry.seq}, True)
    assert found_by_check() == []


def children(pid):
    """Return the ids of a process's children."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("known_as_good", [True, False])
def test_a_replica_that_is_frozen_holds_a_page_for_a_while_and_not_for_ever(
    feed, client, follower, monkeypatch, known_as_good
):
    """Its machine keeps its connections alive, and it ends no statement: whether the page has just found it good, or
    asks it how it is."""
    monkeypatch.setattr(replica, "GOOD_SECONDS", 600 if known_as_good else 0)
    monkeypatch.setattr(replica, "READ_SECONDS", 2.0)
    assert seqs(client)[1]
    main = follower.process.pid
    frozen = [main, *children(main)]

    def send(how):
        for pid in frozen:
            os.kill(pid, how)

    # Or a page that waits would wait for the end of this test.
    end = Timer(20, send, [signal.SIGCONT])
    end.start()
    send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        shown, is_of_replica = seqs(client)
        first = time.monotonic() - began
        # Now that a connection is begun anew.
        replica.forget()
        [finding] = found_by_check()
        values = {one.name: one.value for one in read_replica()}
    finally:
        end.cancel()
        send(signal.SIGCONT)

    assert (shown, is_of_replica) == (set(FeedEntry.objects.values_list("seq", flat=True)), False)
    assert first < replica.READ_SECONDS + replica.LOOK_SECONDS + 3
    assert finding.facts["why"] == "does not answer (OperationalError)"
    assert values == {"fintech_replica_read": False}
    replica.forget()
    assert seqs(client)[1]
    values = {one.name: one.value for one in read_replica()}
    assert values["fintech_replica_read"] and 0 <= values["fintech_replica_behind_seconds"] < 3_600


def test_an_error_of_the_primary_stays_one(feed, client, monkeypatch):
    """And does not put the replica off."""
    monkeypatch.setattr(replica, "GOOD_SECONDS", 60)
    calls = []

    def fail():
        calls.append(replica.read_behind())
        raise OperationalError

    with pytest.raises(OperationalError):
        replica.from_replica(fail)
    assert len(calls) == 1
    assert replica.from_replica(replica.read_behind) is not None


def test_a_primary_is_no_replica(feed, primary, monkeypatch):
    """One that was promoted has a past of its own."""
    monkeypatch.setitem(connections[ALIAS].settings_dict, "PORT", primary.port)
    assert replica.look().why_not == "is a primary itself"
