"""The totals in the rows of a feed's log: they say what its entries and alerts say, whichever way those came."""

from collections import Counter
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.alerts.models import AlertEvent
from apps.market.domain import RawQuote
from apps.market.models import EvaluationCursor, Feed, FeedEntry, FeedHead
from apps.market.services import append_split
from apps.pipeline import corrections, flow
from apps.sources import services as sources
from apps.sources.services import Pushed, import_history, record_pushed
from apps.totals import added, by_code
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db


def head_of(feed):
    return FeedHead.objects.get(feed=feed).totals


def cursor_of(feed):
    return EvaluationCursor.objects.get(feed=feed).totals


def counted(feed):
    """Return the totals that the entries of a feed's log make, read from the rows."""
    found = Counter()
    for entry in FeedEntry.objects.filter(feed=feed):
        found[f"entries:{entry.kind}"] += 1
        found["missed_slots"] += entry.missed_slots
        found[f"failed:{entry.failure}"] += bool(entry.failure)
        if entry.kind != "quotes":
            found[f"past:{entry.kind}"] += entry.accepted
            continue
        for name in ("accepted", "late", "repeated", "unconfirmed"):
            found[f"quotes:{name}"] += getattr(entry, name)
        for reason, count in entry.rejected.items():
            found[f"rejected:{reason}"] += count
    return dict(+found)


def test_each_way_into_a_log_counts():
    now = timezone.now()
    feed = make_feed("A", "B", name="shares", is_live=True, provider="push")
    make_rule(make_owner(), assets=["A"], condition=above(100))
    append_quotes(feed, [("A", at(1), "90"), ("B", at(1), "9"), ("A", at(1), "90")])
    append_quotes(feed, [("A", at(2), "91"), ("B", at(2), "9")])
    append_quotes(feed, [("A", at(3), "900"), ("B", at(1.5), "9"), ("A", at(4), "nothing")])
    quotes = [RawQuote("A", "92", START - timedelta(seconds=5))]
    import_history(feed_id=feed.pk, quotes=quotes, now=now, trace_id=TRACE)
    again = [RawQuote("A", "89", at(1))]
    admitted = corrections.admit_file(feed, again, now=now)
    corrections.replace_quotes(feed, admitted, now=now, trace_id=TRACE)
    corrections.delete_quotes(feed.assets.get(symbol="B"), since=at(1), until=at(1.2), now=now, trace_id=TRACE)
    lease = sources.take_fetch_lease(feed_id=feed.pk, slot=FeedHead.objects.get(feed=feed).next_slot)
    sources.record_failure(lease=lease, failure="timeout", retry_after_seconds=None, now=now, trace_id=TRACE)
    pushes = [Pushed(received_at=now, quotes=[RawQuote("B", "9.5", now)], sender="token:1")]
    record_pushed(feed_name="shares", pushes=pushes, now=now, trace_id=TRACE)
    split = {"asset_id": feed.assets.get(symbol="A").pk, "numerator": 2, "denominator": 1}
    append_split(**split, effective_at=at(60), now=now, trace_id=TRACE)

    kinds = {"entries:quotes", "entries:rules", "entries:history", "entries:correction", "entries:split"}
    assert kinds | {"quotes:unconfirmed", "quotes:late", "failed:timeout", "past:history"} <= set(head_of(feed))
    assert head_of(feed) == counted(feed)


def test_an_answer_that_seemed_to_be_in_step_counts_once():
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", at(1), "90"), ("B", at(1), "9")])
    # One jumps, so it is not in step.
    append_quotes(feed, [("A", at(2), "900"), ("B", at(2), "9")])

    assert head_of(feed) == counted(feed)
    assert head_of(feed)["entries:quotes"] == 2


def test_what_was_evaluated_and_opened_is_counted_with_how_long_it_took():
    feed = make_feed("A", "B")
    make_rule(make_owner(), assets=["A", "B"], condition=above(100))
    append_quotes(feed, [("A", at(0), "90"), ("B", at(0), "90")])
    append_quotes(feed, [("A", at(1), "101"), ("B", at(1), "102")])
    append_quotes(feed, [("A", at(2), "99")])
    FeedEntry.objects.filter(feed=feed).update(received_at=timezone.now() - timedelta(seconds=20))
    flow.evaluate_pending(feed_id=feed.pk)

    totals = cursor_of(feed)
    assert by_code(totals, "evaluated") == {"rules": 1, "quotes": 3}
    assert by_code(totals, "opened") == {"condition:warning": 2}
    assert by_code(totals, "resolved") == {"condition:warning": 1}
    assert totals["quote_seconds:30.0"] == 5
    assert totals["alert_seconds:30.0"] == 2
    assert 40 <= totals["alert_seconds:sum"] < 60


def test_an_alert_that_ends_since_its_asset_moved_is_counted():
    feed, other = make_feed("A"), make_feed(name="other")
    make_rule(make_owner(), assets=["A"], condition=above(100))
    append_quotes(feed, [("A", at(0), "90")])
    append_quotes(feed, [("A", at(1), "101")])
    flow.evaluate_pending(feed_id=feed.pk)
    flow.move_asset(asset_id=feed.assets.get().pk, feed_id=other.pk, now=at(2))
    for one in Feed.objects.all():
        flow.evaluate_pending(feed_id=one.pk)

    totals = added(cursor_of(feed), cursor_of(other))
    counted_events = {name: count for name, count in totals.items() if name.startswith(("opened", "resolved"))}
    rows = Counter(f"{one.kind}:{one.alert.kind}:{one.alert.severity}" for one in AlertEvent.objects.all())
    assert counted_events == rows
    assert rows["resolved:condition:warning"] == 1
