"""`manage.py redeliver`."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from apps.notify.models import Channel, Message
from apps.notify.services import create_channel
from tests.builders import make_owner

pytestmark = pytest.mark.django_db


@pytest.fixture
def failed():
    """Ada and Eve have a channel each of the same name, with a message that was given up; Ada's second is older."""
    for name in ("ada", "eve"):
        channel = create_channel(owner=make_owner(name), name="Post", kind="inbox", config={})
        Message.objects.create(
            channel=channel, subject=name, text="", status="failed", attempts=8, next_attempt_at=timezone.now()
        )
    old = Message.objects.create(
        channel=Channel.objects.get(owner__username="ada"),
        **{"subject": "old", "text": "", "status": "failed", "attempts": 8, "next_attempt_at": timezone.now()},
    )
    Message.objects.filter(pk=old.pk).update(created_at=timezone.now() - timedelta(days=2))


def pending():
    return sorted(Message.objects.filter(status="pending", attempts_before=8).values_list("subject", flat=True))


def test_an_owners_channel_is_sent_again_what_it_gave_up(failed, capsys):
    call_command("redeliver", channel="Post", owner="ada")
    assert pending() == ["ada", "old"]
    assert capsys.readouterr().out.splitlines()[0] == "ada: Post (inbox): 2 to be sent again"


def test_since_leaves_what_is_older(failed):
    call_command("redeliver", since=timezone.now() - timedelta(hours=1))
    assert pending() == ["ada", "eve"]


def test_a_dry_run_says_how_many_and_changes_nothing(failed, capsys):
    call_command("redeliver", owner="eve", dry_run=True)
    assert pending() == []
    assert capsys.readouterr().out == "eve: Post (inbox): 1 would be sent again\n"


def test_what_is_on_a_channel_that_is_switched_off_stays_and_is_said(failed, capsys):
    Channel.objects.filter(owner__username="eve").update(is_enabled=False)
    call_command("redeliver", channel="Post")
    assert pending() == ["ada", "old"]
    assert "eve: Post (inbox): disabled, so 1 stay as they are" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "summary"),
    [
        ({"channel": "Pigeon"}, "there is no channel Pigeon"),
        ({"channel": "Pigeon", "owner": "ada"}, "there is no channel Pigeon of ada"),
        ({"owner": "nobody"}, "there is no user nobody"),
        ({}, "say which"),
    ],
)
def test_what_is_not_known_is_refused_and_nothing_is_sent(failed, capsys, options, summary):
    with pytest.raises(SystemExit) as refusal:
        call_command("redeliver", **options)
    assert refusal.value.code == 2
    assert summary in capsys.readouterr().err
    assert pending() == []
