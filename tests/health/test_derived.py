"""What a check says of derived series whose legs have stopped."""

import pytest

from apps.alerts.models import Alert
from apps.health.checks.feeds import feed_findings
from apps.health.domain import Code, Level, Subject
from apps.health.queries import asset_healths, feed_healths, rule_healths
from apps.health.services import check, note_tick
from apps.market.derived.deriving import derive_next
from apps.market.models import Asset, Feed, FeedEntry, FeedHead, LatestQuote
from apps.pipeline.flow import evaluate_pending
from tests.builders import START, TRACE, append_quotes, at, make_feed, make_owner, make_rule
from tests.market.derived_rows import make_series

pytestmark = pytest.mark.django_db


def derived(second):
    """Return (subject, id, leg) of each derived feed and asset of which a leg has stopped."""
    findings = feed_findings(now=at(second))
    return {(one.subject, one.subject_id, one.facts["leg"]) for one in findings if one.code == Code.LEG_STOPPED}


@pytest.fixture
def feed():
    feed = make_feed("A", "B", interval_seconds=10, provider="kraken", is_live=True)
    append_quotes(feed, [("A", at(0), "10"), ("B", at(0), "5")], provider="kraken")
    FeedEntry.objects.update(evaluated_at=START)
    return feed


def test_series_of_a_paused_feed_have_stopped_whoever_owns_them_and_whatever_is_derived_from_them(feed):
    ratio = make_series("A-B", "ratio", "A", "B")
    above = make_series("A-B-A", "ratio", "A-B", "A")
    owned = make_series("MINE", "spread", "A", "B", owner=make_owner())
    assert derived(1) == set()

    Feed.objects.filter(pk=feed.pk).update(is_enabled=False)

    (name,) = Feed.objects.filter(pk=ratio.feed_id).values_list("name", flat=True)
    found = derived(1)
    assert {(subject, pk) for subject, pk, _ in found} == {
        (Subject.FEED, ratio.feed_id),
        (Subject.FEED, above.feed_id),
        (Subject.FEED, owned.feed_id),
    }
    assert {leg for _, pk, leg in found if pk != above.feed_id} == {feed.name}
    assert {leg for _, pk, leg in found if pk == above.feed_id} <= {feed.name, name}
    note_tick(now=at(1))
    check(readers=None, now=at(1))
    health = feed_healths([ratio.feed_id], now=at(1))[ratio.feed_id]
    assert (health.level, health.reason) == (Level.STOPPED, "No price can be derived, since feed has stopped.")


def test_a_series_has_stopped_while_one_of_its_legs_gives_no_price(feed):
    ratio = make_series("A-B", "ratio", "A", "B")
    make_series("TWICE", "basket", {"asset": "B", "weight": "2"})
    LatestQuote.objects.filter(asset__symbol="B").update(at=at(60))
    FeedHead.objects.filter(pk=feed.pk).update(next_slot=at(70))

    silent = {one.subject_id for one in feed_findings(now=at(61)) if one.code == Code.SILENT}
    assert silent == {Asset.objects.get(symbol="A").pk}
    # The series of B alone goes on.
    assert derived(61) == {(Subject.ASSET, ratio.pk, "A")}


def test_the_owner_of_a_rule_on_a_series_is_notified_and_operators_of_its_leg_alone(feed):
    owner = make_owner()
    series = make_series("A-B", "ratio", "A", "B", owner=owner)
    rule = make_rule(owner, assets=["A-B"], condition={"kind": "above", "level": "1"})
    evaluate_pending(feed_id=series.feed_id)
    # Nobody fetches it.
    FeedHead.objects.filter(pk=feed.pk).update(next_slot=at(-600))

    for second in range(1, 300, 10):
        note_tick(now=at(second))
        check(readers=None, now=at(second))

    healths = (rule_healths([rule.pk], now=at(300))[rule.pk], asset_healths([series.pk], now=at(300))[series.pk])
    assert [one.code for one in healths] == [Code.LEG_STOPPED] * 2
    opened = Alert.objects.filter(kind="health", subject="feed", resolved_at=None)
    assert set(opened.values_list("owner", "subject_id")) == {(owner.pk, series.feed_id), (None, feed.pk)}


def not_derived(second):
    """Return feed id -> since when its legs go on without it."""
    findings = feed_findings(now=at(second))
    return {one.subject_id: one.since for one in findings if one.code == Code.NOT_DERIVED}


def tick(feed, second):
    """Let both legs go on, and everything that is not derived be well."""
    append_quotes(feed, [("A", at(second), "10"), ("B", at(second), "5")], provider="kraken")
    FeedEntry.objects.update(evaluated_at=START)
    FeedHead.objects.filter(pk=feed.pk).update(next_slot=at(second + 10))


def test_a_series_that_nobody_derives_although_its_legs_run_has_stopped_and_its_owner_is_notified(feed):
    owner = make_owner()
    series = make_series("A-B", "ratio", "A", "B", owner=owner)
    above = make_series("TWICE", "basket", {"asset": "A-B", "weight": "2"}, owner=owner)
    rule = make_rule(owner, assets=["A-B"], condition={"kind": "above", "level": "1"})
    evaluate_pending(feed_id=series.feed_id)
    tick(feed, 10)
    # Of its interval and its legs' one quote may be on its way.
    assert not_derived(60) == {}
    for second in range(20, 400, 10):
        tick(feed, second)
        note_tick(now=at(second))
        check(readers=None, now=at(second))
    assert not_derived(400) == {series.feed_id: at(10)}
    assert derived(400) == {(Subject.FEED, above.feed_id, feed_name(series))}
    health = feed_healths([series.feed_id], now=at(400))[series.feed_id]
    assert health.level == Level.STOPPED
    assert health.reason.startswith("Its legs have new prices since ")
    assert rule_healths([rule.pk], now=at(400))[rule.pk].code == Code.NOT_DERIVED
    opened = Alert.objects.filter(kind="health", subject="feed", subject_id=series.feed_id, resolved_at=None)
    # Of what one person owns, nobody else is notified.
    assert set(opened.values_list("owner", flat=True)) == {owner.pk}

    while derive_next(feed_id=series.feed_id, now=at(401), trace_id=TRACE) is not None:
        pass
    assert not_derived(401) == {}


def feed_name(series):
    return Feed.every.values_list("name", flat=True).get(pk=series.feed_id)


def test_a_series_whose_legs_stand_waits_for_them_and_is_not_behind(feed):
    series = make_series("A-B", "ratio", "A", "B")
    tick(feed, 10)
    while derive_next(feed_id=series.feed_id, now=at(10), trace_id=TRACE) is not None:
        pass
    assert not_derived(10_000) == {}
