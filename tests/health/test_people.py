"""What a check finds wrong with channels and rules, and with the system."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.health.checks import system
from apps.health.checks.channels import channel_findings
from apps.health.checks.rules import rule_findings
from apps.health.checks.system import system_findings
from apps.health.domain import Code, Level, Subject
from apps.market import partitions
from apps.market.models import Asset, FeedHead
from apps.market.services import append_split
from apps.notify.models import Channel
from apps.notify.services import create_channel, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import RuleState
from apps.rules.services import confirm_rule
from tests.builders import (
    START,
    TRACE,
    above,
    append_quotes,
    at,
    make_feed,
    make_notified_alerts,
    make_owner,
    make_rule,
)

pytestmark = pytest.mark.django_db


def of(findings):
    return {(one.subject, one.subject_id, one.code, one.level) for one in findings}


def codes(findings):
    return [one.code for one in findings]


@pytest.fixture
def ada():
    return make_owner("ada")


@pytest.fixture
def inbox(ada):
    return create_channel(owner=ada, name="Inbox", kind="inbox", config={})


def test_an_inbox_is_well_and_another_channel_is_not_known_to_work_before_it_was_tried(ada, inbox):
    assert channel_findings(now=START) == []
    channel = create_channel(owner=ada, name="Hook", kind="webhook", config={"url": "https://example.org/hook"})
    assert of(channel_findings(now=START)) == {(Subject.CHANNEL, channel.pk, Code.UNTRIED, Level.DEGRADED)}


def test_a_channel_that_fails_is_degraded_for_five_minutes_and_then_has_stopped(inbox):
    Channel.objects.update(failing_since=START)
    assert of(channel_findings(now=at(299))) == {(Subject.CHANNEL, inbox.pk, Code.NOT_DELIVERED, Level.DEGRADED)}
    assert of(channel_findings(now=at(300))) == {(Subject.CHANNEL, inbox.pk, Code.NOT_DELIVERED, Level.STOPPED)}


def test_a_channel_that_is_off_says_whether_its_owner_wanted_that(inbox):
    Channel.objects.update(is_enabled=False)
    assert codes(channel_findings(now=START)) == [Code.OFF]
    Channel.objects.update(switched_off_because="the receiver is gone (410).")
    (one,) = channel_findings(now=START)
    assert (one.code, one.facts) == (Code.SWITCHED_OFF, {"because": "the receiver is gone (410)"})


def test_mail_cannot_be_sent_without_a_server(ada, settings):
    create_channel(owner=ada, name="Mail", kind="email", config={"to": "ada@example.org"})
    settings.EMAIL_CONFIGURED = True
    assert codes(channel_findings(now=START)) == [Code.UNTRIED]
    settings.EMAIL_CONFIGURED = False
    assert codes(channel_findings(now=START)) == [Code.NO_MAIL_SERVER]


def test_nothing_is_wrong_with_a_rule_that_is_evaluated_and_notifies(ada):
    make_notified_alerts(ada, 1)
    assert rule_findings(now=START) == []


def test_a_rule_without_a_channel_that_is_on_notifies_nobody(ada, inbox):
    make_feed("BTC-USD")
    rule = make_rule(ada, assets=["BTC-USD"], condition=above(10))
    evaluate_pending(feed_id=rule.changes.get().entry.feed_id)
    expected = {(Subject.RULE, rule.pk, Code.NOTIFIES_NOBODY, Level.DEGRADED)}
    assert of(rule_findings(now=START)) == expected
    set_channels(rule=rule, channels=[inbox])
    assert rule_findings(now=START) == []
    Channel.objects.update(is_enabled=False)
    assert of(rule_findings(now=START)) == expected


def test_a_rule_that_is_off_or_on_no_asset_says_so(ada, inbox):
    make_feed("BTC-USD")
    off = make_rule(ada, name="off", assets=["BTC-USD"], condition=above(10), enabled=False)
    bare = make_rule(ada, name="bare", assets={"tag": "none"}, condition=above(10))
    set_channels(rule=bare, channels=[inbox])
    assert of(rule_findings(now=START)) == {
        (Subject.RULE, off.pk, Code.OFF, Level.STOPPED),
        (Subject.RULE, bare.pk, Code.NO_ASSET, Level.DEGRADED),
    }


def test_a_rule_that_stopped_with_an_error_has_stopped(ada):
    make_notified_alerts(ada, 1)
    RuleState.objects.update(state="error", detail="ZeroDivisionError: division by zero", since=START)
    (one,) = rule_findings(now=START)
    assert (one.code, one.level, one.since, one.facts["symbol"]) == (Code.ERROR, Level.STOPPED, START, "NOTIFIED-0")


def test_a_rule_that_a_split_has_paused_has_stopped_until_it_is_confirmed(ada, inbox):
    feed = make_feed("ACME")
    rule = make_rule(ada, assets=["ACME"], condition=above(150))
    set_channels(rule=rule, channels=[inbox])
    append_quotes(feed, [("ACME", START, "100")])
    append_quotes(feed, [("ACME", at(61), "5")])
    terms = {"effective_at": at(60), "numerator": 20, "denominator": 1}
    append_split(asset_id=Asset.objects.get().pk, **terms, now=at(60), trace_id=TRACE)
    evaluate_pending(feed_id=feed.pk)
    (one,) = rule_findings(now=at(60))
    assert (one.key, one.level) == (("rule", rule.pk, "paused_by_split"), Level.STOPPED)
    assert one.facts == {"symbol": "ACME", "detail": "20:1"}
    confirm_rule(rule=rule, now=at(61), trace_id=TRACE)
    evaluate_pending(feed_id=feed.pk)
    assert rule_findings(now=at(62)) == []


@pytest.fixture
def looking_back(ada, inbox):
    """Return a rule that needs half of 2 h of prices, and its feed, with one price at START."""
    feed = make_feed("BTC-USD", interval_seconds=60)
    condition = {"kind": "above_average", "percent": "1", "window": "2h"}
    rule = make_rule(ada, assets=["BTC-USD"], condition=condition)
    set_channels(rule=rule, channels=[inbox])
    append_quotes(feed, [("BTC-USD", START, "10")])
    evaluate_pending(feed_id=feed.pk)
    return rule, feed


def test_unknown_is_a_fault_once_it_lasts_longer_than_the_window(looking_back):
    rule, _ = looking_back
    assert RuleState.objects.get().unknown_since == START
    FeedHead.objects.update(as_of=at(7_200))
    assert rule_findings(now=START) == []
    FeedHead.objects.update(as_of=at(7_201))
    assert of(rule_findings(now=START)) == {(Subject.RULE, rule.pk, Code.UNKNOWN, Level.STOPPED)}


def test_unknown_since_stays_while_the_reason_changes_and_ends_when_it_is_known(looking_back):
    _, feed = looking_back
    append_quotes(feed, [("BTC-USD", at(60), "10")])
    evaluate_pending(feed_id=feed.pk)
    state = RuleState.objects.get()
    assert (state.unknown, state.unknown_since) == ("not_enough_history", START)
    append_quotes(feed, [("BTC-USD", at(7_200), "10")])
    evaluate_pending(feed_id=feed.pk)
    state = RuleState.objects.get()
    assert (state.unknown, state.unknown_since) == ("", None)


def test_a_price_that_never_changes_is_no_fault(looking_back):
    RuleState.objects.update(unknown="zero_variance")
    FeedHead.objects.update(as_of=at(100_000))
    assert rule_findings(now=START) == []


def test_the_statements_do_not_grow_with_rules(ada, inbox, django_assert_max_num_queries, django_assert_num_queries):
    make_feed("BTC-USD")
    make_rule(ada, name="first", assets=["BTC-USD"], condition=above(10))
    with django_assert_max_num_queries(10) as few:
        rule_findings(now=START)
    for number in range(5):
        make_rule(ada, name=f"rule {number}", assets=["BTC-USD"], condition=above(10))
    with django_assert_num_queries(len(few)):
        rule_findings(now=START)


def test_a_queue_that_no_worker_reads_stops_the_system():
    now = timezone.now()
    assert system_findings(readers=None, now=now) == []
    assert system_findings(readers={"ticks": 1, "analysis.0": 1}, now=now) == []
    (one,) = system_findings(readers={"ticks": 1, "retries": 0, "analysis.0": 0}, now=now)
    assert (one.code, one.level, one.facts) == (Code.NO_WORKER, Level.STOPPED, {"queues": ["analysis.0", "retries"]})


def test_a_calendar_that_ends_and_a_full_disk_degrade_the_system(monkeypatch):
    Asset.objects.create(symbol="RELIANCE", calendar="XBOM")
    now = START.replace(year=2027)
    (one,) = system_findings(readers=None, now=now)
    assert (one.code, one.level, "XBOM" in one.facts["warning"]) == (Code.CALENDAR_ENDS, Level.DEGRADED, True)
    usage = system.shutil.disk_usage("/")._replace(total=100_000_000_000, free=4_000_000_000)
    monkeypatch.setattr(system.shutil, "disk_usage", lambda path: usage)
    (_, two) = system_findings(readers=None, now=now)
    assert (two.code, two.facts) == (Code.DISK_FULL, {"free": "4 GB", "total": "100 GB"})


@pytest.mark.servers
def test_a_day_without_a_partition_degrades_the_system():
    now = START.replace(year=2031)
    (one,) = system_findings(readers=None, now=now)
    assert (one.code, one.level, one.facts) == (Code.NO_PARTITION, Level.DEGRADED, {"day": "2031-03-03"})
    partitions.ensure([now.date() + timedelta(days=1)])
    assert system_findings(readers=None, now=now) == []
