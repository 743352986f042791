"""A message says the price at which an alert resolved."""

import pytest

from apps.notify.models import Channel, Message
from tests.builders import above, make_rule
from tests.notify.notifying import evaluate, items, send

pytestmark = pytest.mark.django_db


def test_a_resolution_says_the_price_of_its_end_whatever_came_afterwards(feed, rule, channel):
    items(feed, channel, (0, "101"))
    send(channel)
    evaluate(feed, (1, "98.5"))
    evaluate(feed, (2, "105"))
    (message_id,) = items(feed, channel, (3, "97"))
    message = Message.objects.get(pk=message_id)
    seen = [(one["event"], one["price"]) for one in message.items]
    assert seen == [("resolved", "98.5"), ("opened", ""), ("resolved", "97")]
    assert "Resolved 2026-03-02 12:00:01 UTC at 98.5 (the condition is over)." in message.text


def test_where_it_comes_with_its_opening_it_says_the_price_too(feed, rule, channel):
    Channel.objects.update(wants_resolved=False)
    (message_id,) = items(feed, channel, (0, "101"), (1, "99"))
    assert [one["price"] for one in Message.objects.get(pk=message_id).items] == ["", "99"]


def test_an_end_without_a_price_says_none(feed, owner, rule, channel):
    items(feed, channel, (0, "101"))
    send(channel)
    make_rule(owner, name="Peg", rule=rule, assets=["BTC-USD"], condition=above("500"))
    (message_id,) = items(feed, channel)
    message = Message.objects.get(pk=message_id)
    assert [(one["event"], one["price"]) for one in message.items] == [("resolved", "")]
    assert "UTC (the rule was changed" in message.text
