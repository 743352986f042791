"""The rows that a check leaves, and who sees which of them."""

import pytest
from django.contrib.auth.models import AnonymousUser

from apps.health.domain import Code, Level
from apps.health.models import Check, Problem
from apps.health.queries import (
    account_health,
    asset_healths,
    channel_healths,
    feed_healths,
    not_checked,
    problem_counts,
    problems_seen_by,
    rule_healths,
    system_health,
)
from apps.health.services import check, note_tick
from apps.market.models import Asset, Feed, FeedEntry, FeedHead
from apps.notify.models import Channel
from apps.notify.services import create_channel, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule
from apps.rules.services import delete_rule
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_operator, make_owner, make_rule

pytestmark = pytest.mark.django_db


def run(second, **more):
    note_tick(now=at(second))
    check(readers=more.get("readers"), now=at(second))


def rows():
    return {(row.subject, row.subject_id, row.code, row.level, row.since) for row in Problem.objects.all()}


@pytest.fixture
def feed():
    """Return a feed with a price at START that is evaluated, due long after."""
    feed = make_feed("BTC-USD", interval_seconds=10)
    append_quotes(feed, [("BTC-USD", START, "10")])
    FeedEntry.objects.update(evaluated_at=START)
    Feed.objects.update(created_at=START)
    return feed


@pytest.fixture
def rule(feed):
    """Return Ada's rule on the feed's asset, which notifies her inbox, evaluated."""
    ada = make_owner("ada")
    rule = make_rule(ada, assets=["BTC-USD"], condition=above(100))
    set_channels(rule=rule, channels=[create_channel(owner=ada, name="Inbox", kind="inbox", config={})])
    evaluate_pending(feed_id=feed.pk)
    Rule.objects.update(created_at=START)
    Channel.objects.update(created_at=START)
    return rule


def test_a_problem_lasts_from_the_check_that_finds_it_to_the_check_that_does_not(feed):
    run(0)
    assert rows() == set()
    Feed.objects.update(is_enabled=False)
    run(10)
    run(20)
    assert rows() == {("feed", feed.pk, "paused", "stopped", at(10))}
    Feed.objects.update(is_enabled=True)
    run(30)
    assert rows() == set()
    assert Check.objects.get().checked_at == at(30)


def test_a_problem_keeps_its_beginning_and_takes_its_new_level(feed):
    FeedHead.objects.update(failures=1, next_slot=at(1_000))
    run(30)
    assert rows() == {("feed", feed.pk, "failing", "degraded", START)}
    run(100)
    assert rows() == {("feed", feed.pk, "failing", "stopped", START)}


def test_two_checks_at_once_leave_one_row_of_each(feed, monkeypatch):
    Feed.objects.update(is_enabled=False)
    run(10)
    first = rows()
    # The second has read the rows before the first wrote them.
    monkeypatch.setattr(Problem.objects, "order_by", lambda *names: [])
    run(10)
    monkeypatch.undo()
    assert rows() == first


def test_nothing_is_known_before_the_first_check_and_after_the_last_tick(feed, rule):
    assert not_checked(now=at(0)).reason.startswith("Nothing has run yet")
    note_tick(now=at(0))
    assert not_checked(now=at(0)).reason.startswith("Nothing has run yet")
    run(0)
    assert not_checked(now=at(10)) is None
    late = not_checked(now=at(11))
    assert (late.level, late.since, late.code) == (Level.STOPPED, at(0), Code.NOT_CHECKED)
    healths = [feed_healths([feed.pk], now=at(11)), rule_healths([rule.pk], now=at(11))]
    healths += [{1: system_health(now=at(11))}, asset_healths([Asset.objects.get().pk], now=at(11))]
    assert [one.code for found in healths for one in found.values()] == [Code.NOT_CHECKED] * 4


def test_ticks_without_a_check_are_not_enough(feed):
    run(0)
    note_tick(now=at(46))
    assert not_checked(now=at(45)) is None
    assert not_checked(now=at(46)).since == at(0)


def test_what_is_well_says_when_that_was_checked(feed, rule):
    run(5)
    for found in (feed_healths([feed.pk], now=at(6)), rule_healths([rule.pk], now=at(6))):
        (one,) = found.values()
        assert (one.level, one.reason, one.checked_at) == (Level.WELL, "", at(5))


def test_what_was_made_after_the_last_check_is_not_green(feed):
    run(5)
    new = make_feed("ETH-USD", name="new")
    Feed.objects.filter(pk=new.pk).update(created_at=at(6))
    (one,) = feed_healths([new.pk], now=at(7)).values()
    assert (one.level, one.code) == (Level.DEGRADED, Code.NOT_CHECKED)


def test_an_asset_and_a_rule_say_what_is_wrong_with_their_feed(feed, rule):
    Feed.objects.update(is_enabled=False)
    run(5)
    (asset,) = asset_healths([Asset.objects.get().pk], now=at(6)).values()
    (its_rule,) = rule_healths([rule.pk], now=at(6)).values()
    assert (asset.level, asset.reason, asset.remedy) == (
        Level.STOPPED,
        "Feed feed: the feed is paused.",
        "Resume it on its page.",
    )
    assert its_rule == asset


def test_a_rule_says_what_is_wrong_with_its_channel_and_the_worst_comes_first(feed, rule):
    Channel.objects.update(failing_since=at(0))
    run(5)
    (one,) = rule_healths([rule.pk], now=at(6)).values()
    assert (one.level, one.reason) == (
        Level.DEGRADED,
        "Channel Inbox: no message has been delivered since 2026-03-02 12:00:00 UTC.",
    )
    Feed.objects.update(is_enabled=False)
    run(7)
    (one,) = rule_healths([rule.pk], now=at(8)).values()
    assert one.code == Code.PAUSED


def seen_by(user):
    return {(problem.subject, problem.subject_id) for problem, _ in problems_seen_by(user, limit=100)}


def test_everybody_sees_the_health_of_what_they_depend_on_and_of_nothing_else(feed, rule):
    ada, eve = rule.owner, make_owner("eve")
    hers = make_rule(eve, name="hers", assets={"tag": "none"}, condition=above(1))
    other = make_feed(name="other")
    gold = Asset.objects.create(symbol="GOLD")
    Feed.objects.update(is_enabled=False)
    Channel.objects.update(is_enabled=False)
    run(5, readers={"ticks": 0})
    inbox = ("channel", Channel.objects.get().pk)
    of_ada = {("feed", feed.pk), inbox, ("rule", rule.pk)}
    everything = {("system", 0), ("feed", feed.pk), ("feed", other.pk), ("asset", gold.pk)}
    assert seen_by(ada) == of_ada
    assert seen_by(eve) == {("rule", hers.pk)}
    assert seen_by(make_operator("grace", "market.view_feed")) == everything
    assert seen_by(make_operator("lin")) == set()
    assert seen_by(AnonymousUser()) == set()
    root = make_owner("root")
    root.is_superuser = True
    assert seen_by(root) == everything | of_ada | {("rule", hers.pk)}


def test_faults_come_before_what_somebody_wanted_and_the_worst_first(feed, rule):
    Feed.objects.update(is_enabled=False)
    FeedHead.objects.update(failures=1)
    late = make_feed("ETH-USD", name="late")
    Channel.objects.update(failing_since=at(4))
    run(50)
    root = make_owner("root")
    root.is_superuser = True
    found = [problem.code for problem, _ in problems_seen_by(root, limit=100)]
    assert found == ["not_fetched", "not_delivered", "paused"]
    assert late.pk != feed.pk


def test_problems_are_counted_by_whether_they_are_faults(feed, rule):
    Channel.objects.update(failing_since=at(4))
    make_feed("ETH-USD", name="late")
    make_feed(name="paused", is_enabled=False)
    run(50)
    root = make_owner("root")
    root.is_superuser = True
    assert problem_counts(root) == (2, 1, 1)
    assert problem_counts(rule.owner) == (1, 1, 0)
    assert problem_counts(AnonymousUser()) == (0, 0, 0)
    worst = [(one.level, one.code) for one in (account_health(user, now=at(51)) for user in (root, AnonymousUser()))]
    assert worst == [(Level.STOPPED, "not_fetched"), (Level.WELL, "")]
    assert account_health(root, now=at(500)).code == Code.NOT_CHECKED
    assert [problem.code for problem, _ in problems_seen_by(root, limit=3)] == ["not_fetched"] * 2 + ["not_delivered"]


def test_a_deleted_rule_is_never_well(feed, rule):
    delete_rule(rule=rule, now=at(4), trace_id=TRACE)
    run(5)
    (one,) = rule_healths([rule.pk], now=at(6)).values()
    assert (one.level, one.since, one.reason) == (Level.STOPPED, at(4), "The rule was deleted.")


def test_channels_have_a_health_of_their_own(rule):
    run(5)
    pk = Channel.objects.get().pk
    assert channel_healths([pk], now=at(6))[pk].level == Level.WELL
