"""The pending entry of a feed's log, taken and marked."""

import pytest
from django.db import transaction

from apps.market.models import EvaluationCursor, FeedEntry
from apps.market.services import Pending, mark_evaluated, take_pending
from tests.builders import append_quotes, at, make_feed

pytestmark = pytest.mark.django_db


def take(feed):
    with transaction.atomic():
        return take_pending(feed_id=feed.pk)


def test_entries_are_taken_in_order_each_until_it_is_marked():
    feed, other = make_feed("BTC"), make_feed("ETH", name="other")
    first = append_quotes(feed, [("BTC", at(0), "10"), ("BTC", at(1), "nothing")])
    second = append_quotes(feed, [])
    append_quotes(other, [])
    EvaluationCursor.objects.filter(feed=feed).update(redispatch_at=at(9))
    taken = take(feed)
    assert taken == Pending(first, 0, {})
    # Whole, as Django reads it.
    columns = [field.attname for field in FeedEntry._meta.concrete_fields]
    stored = FeedEntry.objects.get(pk=first.pk)
    assert [getattr(taken.entry, name) for name in columns] == [getattr(stored, name) for name in columns]
    mark_evaluated(taken.entry, at=at(5), totals={"evaluated:quotes": 1})
    assert taken.entry.evaluated_at == FeedEntry.objects.get(pk=first.pk).evaluated_at == at(5)
    assert EvaluationCursor.objects.get(pk=feed.pk).redispatch_at is None
    assert take(feed) == Pending(second, 1, {"evaluated:quotes": 1})
    mark_evaluated(second, at=at(6), totals={"evaluated:quotes": 2})
    assert take(feed) == Pending(None, 2, {"evaluated:quotes": 2})
    assert EvaluationCursor.objects.get(pk=other.pk).seq == 0
    assert FeedEntry.objects.get(feed=other).evaluated_at is None
