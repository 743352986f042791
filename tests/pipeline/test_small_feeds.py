"""What a slot of a small feed costs: almost nothing but statements."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.market.models import FeedEntry
from apps.notify import services as notify
from apps.notify.models import Channel
from apps.pipeline import flow
from apps.sources import services as sources
from tests import builders

pytestmark = [pytest.mark.servers, pytest.mark.django_db]


def fetch(feed, *, slots_ahead):
    slot = builders.at(slots_ahead)
    with CaptureQueriesContext(connection) as captured:
        sources.fetch(feed_id=feed.pk, slot=slot, now=slot, trace_id=builders.TRACE)
    return [one["sql"] for one in captured]


def evaluate(feed):
    with CaptureQueriesContext(connection) as captured:
        flow.evaluate_pending(feed_id=feed.pk)
    return [one["sql"] for one in captured]


def test_a_slot_that_changes_nothing_costs_few_statements():
    feed = builders.make_feed("A", "B", provider="simulated")
    builders.make_rule(builders.make_owner(), assets=["A", "B"], condition=builders.above(10**11))
    for slot in range(3):
        fetch(feed, slots_ahead=slot)
        evaluate(feed)
    fetched, evaluated = fetch(feed, slots_ahead=3), evaluate(feed)
    assert FeedEntry.objects.filter(feed=feed, accepted=2).count() == 4
    # Beginnings, ends and savepoints of transactions included.
    assert (len(fetched), len(evaluated)) == (9, 6), "\n".join([*fetched, "", *evaluated])


def test_channels_with_due_notifications_are_found_by_the_evaluation_that_made_them_and_by_one_that_comes_again():
    owner = builders.make_owner()
    channel = notify.create_channel(owner=owner, name="inbox", kind="inbox", config={})
    Channel.objects.update(group_wait_seconds=0)
    feed = builders.make_feed("A")
    rule = builders.make_rule(owner, assets=["A"], condition=builders.above(10))
    notify.set_channels(rule=rule, channels=[channel])
    builders.append_quotes(feed, [("A", builders.at(0), "11")])
    assert flow.evaluate_pending(feed_id=feed.pk) == [channel.pk]
    # The message of an evaluation whose worker died after the commit comes again.
    assert flow.evaluate_pending(feed_id=feed.pk) == [channel.pk]
    builders.append_quotes(feed, [("A", builders.at(1), "12")])
    assert flow.evaluate_pending(feed_id=feed.pk) == []
    assert flow.notify_due()["planned"] == 1
