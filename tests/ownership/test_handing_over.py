"""Rules handed to another person: with their alerts and silences, told on other channels, and meaning the same."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.market.models import Feed, FeedEntry
from apps.notify.models import Message, Notification, Silence
from apps.notify.services import create_channel, enqueue_reminders
from apps.ownership.deleting import delete_account
from apps.ownership.handing_over import HandOverRefused, hand_over_rules, plan_hand_over
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, RuleState, RuleVersion
from tests.builders import above, append_quotes, at, make_owned, make_owner, make_rule, notify_all
from tests.ownership.test_deleting import everything
from tests.ownership.world import make_person, names_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_person("ada")


@pytest.fixture
def eve():
    return make_owner("eve")


@pytest.fixture
def inbox(eve):
    return create_channel(owner=eve, name="Inbox", kind="inbox", config={}, group_wait_seconds=0)


def hand_over(ada, eve, *channels):
    return hand_over_rules(owner=ada, to=eve, channels=channels, now=timezone.now())


def items_to(owner):
    """Return what the messages of a person's channels say of alerts."""
    messages = Message.objects.filter(channel__owner=owner).order_by("created_at")
    return [(item["rule"], item["event"]) for one in messages for item in one.items]


def test_rules_go_with_their_alerts_and_notify_the_new_owner_alone(ada, eve, inbox):
    bob = make_person("bob")
    silences = set(Silence.objects.exclude(owner=bob).values_list("pk", flat=True))
    entries = FeedEntry.objects.count()
    meanings = list(RuleVersion.objects.order_by("pk").values())
    others = {name: {key for key in everything() if key[0] == name} for name in ("RuleState", "Transition", "Rule")}
    bobs = {key: row for key, row in everything().items() if row.get("owner_id") == bob.pk}
    before = names_of(ada)
    done = hand_over(ada, eve, inbox)

    assert {rule.name for rule in done.rules} == before - {"own series of ada"} == names_of(eve)
    assert names_of(ada) == {"own series of ada"}
    assert done.open_alerts == 1
    assert [(rule.name, why) for rule, why in done.staying] == [
        ("own series of ada", "It is on TWICE-ADA, which ada alone sees.")
    ]
    assert set(Alert.objects.exclude(owner=bob).values_list("owner", flat=True)) == {eve.pk}
    # The new owner would be told of an alert that is silenced.
    assert set(Silence.objects.filter(owner=eve).values_list("pk", flat=True)) == silences
    # Nothing that decides anything has changed.
    assert FeedEntry.objects.count() == entries
    assert list(RuleVersion.objects.order_by("pk").values()) == meanings
    now = everything()
    assert {name: {key for key in now if key[0] == name} for name in others} == others
    assert {key: now.get(key) for key in bobs} == bobs

    Silence.objects.filter(owner=eve).update(ends_at=timezone.now())
    old = items_to(ada)
    notify_all()
    assert items_to(eve) == [("rule of ADA-0", "opened")]
    feed = Feed.objects.get(name="ada")
    append_quotes(feed, [("ADA-0", at(5), "9")])
    evaluate_pending(feed_id=feed.pk)
    notify_all()
    assert items_to(eve) == [("rule of ADA-0", "opened"), ("rule of ADA-0", "resolved")]
    assert items_to(ada) == old
    found = replay(feed, since=at(0), until=at(100), progress=lambda done: None)
    assert (found.missing, found.extra) == ([], [])


def test_what_is_on_record_survives_the_old_owners_account(ada, eve, inbox):
    hand_over(ada, eve, inbox)
    kept = set(Alert.objects.values_list("pk", flat=True))
    names = names_of(eve)
    for feed_id in RuleState.objects.values_list("asset__feed", flat=True).distinct():
        evaluate_pending(feed_id=feed_id)
    delete_account(user=ada, now=timezone.now())
    assert set(Alert.objects.values_list("pk", flat=True)) == kept
    assert names_of(eve) == names


def test_nothing_waits_for_the_old_channels_any_more(ada, eve, inbox):
    ada.channels.update(repeat_minutes=1)
    opening = Notification.objects.get(message__channel__owner=ada)
    Notification.objects.filter(pk=opening.pk).update(remind_at=timezone.now())
    waiting = Notification.objects.create(
        event=opening.event, channel=ada.channels.get(kind="webhook"), due_at=timezone.now() + timedelta(hours=1)
    )
    hand_over(ada, eve)
    assert not Notification.objects.filter(pk=waiting.pk).exists()
    assert enqueue_reminders(now=timezone.now()) == []
    assert set(Notification.objects.values_list("pk", flat=True)) == {opening.pk}


def test_a_rule_that_would_mean_something_else_stays(ada, eve):
    make_owned(eve, "TAKEN")
    make_rule(ada, name="taken", assets=["ADA-0"], condition=above(3))
    make_rule(eve, name="taken", assets=["ADA-0"], condition=above(4))
    Feed.objects.get(name="ada").assets.create(symbol="LATER")
    make_rule(ada, name="later", assets=["LATER"], condition=above(4))
    make_owned(eve, "LATER-OF-EVE").assets.model.every.filter(symbol="LATER-OF-EVE").update(symbol="LATER")
    stays = {rule.name: why for rule, why in plan_hand_over(owner=ada, to=eve).staying}
    assert stays == {
        "own series of ada": "It is on TWICE-ADA, which ada alone sees.",
        "taken": "eve has a rule of this name; rename one of the two.",
        "later": "It is on LATER, and eve has an asset of their own of this symbol.",
    }
    hand_over(ada, eve)
    assert names_of(ada) == set(stays)


def test_a_rule_that_was_deleted_stays_with_who_deleted_it(ada, eve):
    gone = ada.rules.get(name="rule of ADA-0")
    Rule.objects.filter(pk=gone.pk).update(deleted_at=timezone.now())
    hand_over(ada, eve)
    assert Rule.objects.get(pk=gone.pk).owner == ada
    assert Alert.objects.get().owner == ada


def test_it_is_refused_as_a_whole(ada, eve, settings):
    before = everything()
    settings.RULES_PER_OWNER = 2
    with pytest.raises(HandOverRefused, match="more than 2 rules"):
        hand_over(ada, eve)
    eve.is_active = False
    eve.save()
    for to in (eve, ada):
        with pytest.raises(HandOverRefused, match="cannot take rules"):
            hand_over(ada, to)
    with pytest.raises(ValueError, match="channels of their owner"):
        hand_over(ada, eve, ada.channels.first())
    after = everything()
    assert {key: row for key, row in after.items() if key[0] != "User"} == {
        key: row for key, row in before.items() if key[0] != "User"
    }
