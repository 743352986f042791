"""What is decided about an alert on a channel: the page that explains it shows the decision that the plan makes."""

import itertools
from datetime import UTC, datetime, time, timedelta

import pytest

from apps.market.models import Asset, FeedEntry
from apps.notify import queries, services
from apps.notify.decision import Decision, decide, refuse
from apps.notify.domain import Deferral
from apps.notify.models import Channel, Message, Notification
from tests.builders import make_feed, make_owner
from tests.notify.notifying import evaluate, make_notified_rule

NOON = datetime(2027, 3, 2, 12, tzinfo=UTC)
SILENCE, QUIET = Deferral(until=NOON, silence_id=7), Deferral(until=NOON)


@pytest.mark.parametrize(
    ("refusal", "is_at_limit", "deferral", "decision"),
    [
        (None, False, None, Decision.SEND),
        (None, False, QUIET, Decision.QUIET_HOURS),
        (None, False, SILENCE, Decision.SILENCED),
        (None, True, SILENCE, Decision.AT_LIMIT),
        (Decision.OWNER_INACTIVE, True, SILENCE, Decision.OWNER_INACTIVE),
    ],
)
def test_the_first_reason_that_holds_is_the_decision(refusal, is_at_limit, deferral, decision):
    assert decide(refusal=refusal, is_at_limit=is_at_limit, deferral=deferral) is decision


def test_a_disabled_channel_is_refused_before_an_inactive_owner():
    cases = itertools.product((True, False), repeat=2)
    assert {case: refuse(is_enabled=case[0], may_be_notified=case[1]) for case in cases} == {
        (True, True): None,
        (True, False): Decision.OWNER_INACTIVE,
        (False, True): Decision.CHANNEL_DISABLED,
        (False, False): Decision.CHANNEL_DISABLED,
    }


def shown(rule):
    """Return the decision that is shown beside the rule at NOON."""
    outlook = queries.notification_outlook(
        *(rule.owner,),
        rule=rule,
        asset=Asset.objects.get(symbol="BTC-USD"),
        entry=FeedEntry.objects.order_by("-seq").first(),
        at=None,
        now=NOON,
    )
    (one,) = outlook.channels
    return one.decision


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("is_at_limit", "is_silenced", "is_quiet", "is_critical"), list(itertools.product((False, True), repeat=4))
)
def test_the_plan_decides_what_is_shown(is_at_limit, is_silenced, is_quiet, is_critical):
    ada, feed = make_owner("ada"), make_feed("BTC-USD")
    rule = make_notified_rule(ada)
    type(rule).objects.update(severity="critical" if is_critical else "warning")
    rule.refresh_from_db()
    evaluate(feed, (0, "101"))
    Notification.objects.update(due_at=NOON)
    channel = Channel.objects.get()
    if is_at_limit:
        Message.objects.create(channel=channel, subject="", text="", next_attempt_at=NOON)
        Message.objects.update(created_at=NOON - timedelta(seconds=1))
        Channel.objects.update(messages_per_minute=1)
    if is_silenced:
        services.create_silence(
            **{"author": ada, "owner": ada, "comment": "works"},
            **{"starts_at": NOON - timedelta(hours=1), "ends_at": NOON + timedelta(hours=1)},
        )
    if is_quiet:
        Channel.objects.update(quiet_from=time(11), quiet_until=time(14), quiet_zone="UTC")

    seen = shown(rule)

    assert seen is services.plan(channel_id=channel.pk, now=NOON)
    assert (seen is Decision.SEND) == (not (is_at_limit or is_silenced or (is_quiet and not is_critical)))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("is_enabled", "is_active", "decision"),
    [
        (True, True, Decision.SEND),
        (False, True, Decision.CHANNEL_DISABLED),
        (True, False, Decision.OWNER_INACTIVE),
    ],
)
def test_a_channel_that_is_refused_has_no_notification_and_the_refusal_is_shown(is_enabled, is_active, decision):
    ada, feed = make_owner("ada"), make_feed("BTC-USD")
    rule = make_notified_rule(ada)
    Channel.objects.update(is_enabled=is_enabled)
    type(ada).objects.update(is_active=is_active)
    rule.owner.refresh_from_db()
    evaluate(feed, (0, "101"))

    assert shown(rule) is decision
    assert Notification.objects.exists() == (decision is Decision.SEND)
