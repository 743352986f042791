"""Messages are pruned by beat's task and by the command."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Attempt, Message, Notification, Silence
from apps.pipeline import flow, tasks
from tests.builders import append_quotes, at, make_notified_alerts, make_owner, notify_all

pytestmark = pytest.mark.django_db


@pytest.fixture
def old():
    """Make two alerts with messages that are over, a year ago, and one that is open; and a silence that was over then,
    and deferred one of them."""
    owner = make_owner()
    alerts = make_notified_alerts(owner, 3)
    append_quotes(alerts[0].asset.feed, [(one.asset.symbol, at(2), "9") for one in alerts[:2]])
    flow.evaluate_pending(feed_id=alerts[0].asset.feed_id)
    a_year_ago = timezone.now() - timedelta(days=366)
    Message.objects.update(created_at=a_year_ago)
    columns = {"owner": owner, "starts_at": a_year_ago, "ends_at": a_year_ago}
    deferred, _ = [Silence.objects.create(comment=comment, **columns) for comment in ("deferred", "deferred nothing")]
    Notification.objects.filter(event__alert=alerts[0], event__kind="opened").update(silence=deferred)
    notify_all()
    return alerts


def kept():
    return [model.objects.count() for model in (Alert, Message, Attempt, Notification, Silence)]


def test_the_command_says_what_would_go_then_drops_it_and_the_next_run_the_rest(old, capsys):
    before = kept()
    call_command("prune", "--dry-run")
    said, after = capsys.readouterr().out.splitlines()[-2:], kept()
    call_command("prune")
    call_command("prune")

    assert (before, after) == ([3, 4, 4, 5, 2], [3, 4, 4, 5, 2])
    assert said == ["silences: 1 would be dropped", "messages: 2 would be dropped"]
    assert [line for line in capsys.readouterr().out.splitlines() if "silences" in line or "messages" in line] == [
        *("silences: 1 dropped", "messages: 2 dropped"),
        *("silences: 1 dropped", "messages: 0 dropped"),
    ]
    # The open alert has a message, and the others ended just now.
    assert kept() == [3, 2, 2, 3, 0]


def test_beats_task_does_the_same(old):
    tasks.prune()
    assert kept() == [3, 2, 2, 3, 1]
