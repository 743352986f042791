"""What a slot of a small feed costs: almost nothing but statements."""

import pytest
from celery import Signature
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.market.models import FeedEntry
from apps.notify import services as notify
from apps.notify.models import Channel
from apps.pipeline import flow, together
from apps.sources import services as sources
from apps.sources.services import Due
from tests import builders

# With transactions of their own, which are counted too.
pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def sent(monkeypatch):
    """What is dispatched: (task, feed id, the feeds beside it)."""
    found = []

    def note(self, *args, **options):
        one = self.tasks[0] if self.task == "celery.chain" else self
        found.append((one.task, one.args[0], one.kwargs.get("beside", [])))

    monkeypatch.setattr(Signature, "apply_async", note)
    return found


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
    assert (len(fetched), len(evaluated)) == (5, 6), "\n".join([*fetched, "", *evaluated])


def small_feeds(count):
    """Return simulated feeds with a rule that never fires, which have had three slots."""
    owner = builders.make_owner()
    feeds = [builders.make_feed(f"A{number}", f"B{number}", name=f"small-{number}") for number in range(count)]
    for number, feed in enumerate(feeds):
        builders.make_rule(owner, name=f"rule {number}", assets={"feed": feed.name}, condition=builders.above(10**11))
        for slot in range(3):
            fetch(feed, slots_ahead=slot)
            evaluate(feed)
    return feeds


def due_at(feeds, slots_ahead):
    return [Due(feed.pk, builders.at(slots_ahead), f"{feed.pk:032x}") for feed in feeds]


def fetch_together(feeds, *, slots_ahead):
    with CaptureQueriesContext(connection) as captured:
        together.fetch_together(due_at(feeds, slots_ahead), now=builders.at(slots_ahead))
    return [one["sql"] for one in captured]


def evaluate_together(feeds):
    with CaptureQueriesContext(connection) as captured:
        found = together.evaluate_together([feed.pk for feed in feeds])
    assert found == []
    return [one["sql"] for one in captured]


def test_ten_slots_in_one_message_cost_hardly_more_statements_than_one(sent):
    feeds = small_feeds(10)
    fetched, evaluated = fetch_together(feeds, slots_ahead=3), evaluate_together(feeds)

    entries = FeedEntry.objects.filter(slot=builders.at(3), accepted=2, evaluated_at__isnull=False)
    assert set(entries.values_list("feed", "seq", "trace_id")) == {(one.pk, 5, f"{one.pk:032x}") for one in feeds}
    assert sent == []
    # Of those that fetch, one looks for derived feeds.
    assert (len(fetched), len(evaluated)) == (6, 8), "\n".join([*fetched, "", *evaluated])


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
