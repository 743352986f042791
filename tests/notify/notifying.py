"""A scripted transport, and the steps from a quote to what the transport is given."""

from datetime import UTC, datetime, timedelta

from django.utils import timezone

from apps.notify import queries, services
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.transports.protocol import ChannelDefaults, ChannelInvalid, Receipt, Setting
from apps.pipeline import flow
from tests.builders import above, append_quotes, at, make_rule

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


class Killed(BaseException):
    """What a process that dies leaves behind: nothing is caught and nothing is written."""


class FakeTransport:
    """Keeps the letters that it was given, and answers each by the next step of its script."""

    kind = "fake"
    title = "Fake"
    settings = (
        Setting("to", "To", "Anything.", is_required=False),
        Setting("password", "Password", "Anything.", is_secret=True, is_required=False),
    )
    defaults = ChannelDefaults(group_wait_seconds=0)
    is_for_programs = False

    def __init__(self):
        self.rendered_messages = []
        self.script = []

    def validate(self, settings):
        if settings.get("to") == "nobody":
            raise ChannelInvalid("must be somebody", setting="to")
        return dict(settings)

    def preview(self, rendered, settings):
        return rendered.text

    def send(self, rendered, settings):
        self.rendered_messages.append(rendered)
        step = self.script.pop(0) if self.script else None
        if step is not None:
            step()
        return Receipt("taken", status=200, answer="thanks")


def raising(error):
    """Return a step of a script that raises."""

    def step():
        raise error

    return step


def make_notified_rule(owner):
    """Return a rule "above 100" on BTC-USD, with an inbox that is as old as the market as its channel."""
    rule = make_rule(owner, assets=["BTC-USD"], condition=above(100))
    services.set_channels(
        rule=rule, channels=[services.create_channel(owner=owner, name="In", kind="inbox", config={})]
    )
    Channel.objects.update(created_at=at(-60))
    return rule


def evaluate(feed, *pairs, symbol="BTC-USD"):
    """Append one entry with these (seconds, price) and evaluate it; return the channels with due notifications."""
    append_quotes(feed, [(symbol, at(second), price) for second, price in pairs])
    return flow.evaluate_pending(feed_id=feed.pk)


def plan(channel, *, after=0):
    """Plan the channel `after` seconds from now, and return the ids of its pending messages, oldest first."""
    services.plan(channel_id=channel.pk, now=timezone.now() + timedelta(seconds=after))
    return pending(channel)


def pending(channel):
    waiting = Message.objects.filter(channel=channel, status="pending")
    return list(waiting.order_by("created_at").values_list("pk", flat=True))


def items(feed, channel, *pairs):
    """Evaluate these (seconds, price), plan the channel, and return its pending messages."""
    evaluate(feed, *pairs)
    return plan(channel)


def send(channel, *, after=0):
    """Try the channel's next message `after` seconds from now, and return what came of it."""
    return services.deliver_next(channel_id=channel.pk, now=timezone.now() + timedelta(seconds=after))


def notifications():
    """Return (event, channel) of each notification."""
    return list(Notification.objects.order_by("pk").values_list("event__kind", "channel__name"))


def expire_lease(message_id):
    Message.objects.filter(pk=message_id).update(lease_until=LONG_AGO)


def make_due(message_id):
    Message.objects.filter(pk=message_id).update(next_attempt_at=LONG_AGO)


def outcomes(message_id):
    return list(Attempt.objects.filter(message=message_id).values_list("number", "outcome", "reason"))


def due(*, behind=timedelta(seconds=10), now=None):
    """Return the channels for which a sender is to be sent."""
    return [one.channel_id for one in queries.due_channels(behind=behind, now=now or timezone.now())]
