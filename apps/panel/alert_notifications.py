"""The tables of an alert's notifications and of the attempts to send them."""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Attempt, Notification
from apps.notify.services import kept_since
from apps.panel.deferrals import at_their_limit, describe_deferred_by, why_it_waits
from apps.panel.kit.pages import ROWS_SHOWN, Table, page_link
from apps.panel.messages import attempt_cells, attempt_headers, describe_status

# The headers of `notification_rows`.
NOTIFICATION_HEADERS = ["event", "channel", "deferred by", "message", "status"]


def notification_tables(request: HttpRequest, row: Alert) -> list[Table]:
    """Return an alert's notifications, and the attempts to send them, on the channels that this reader may see."""
    tries = Attempt.objects.filter(message__members__event__alert=row).select_related("message__channel").distinct()
    if not request.user.is_superuser:
        tries = tries.filter(message__channel__owner=request.user)
    return [
        Table(
            title=f"Who is notified{_not_kept(row)}",
            headers=NOTIFICATION_HEADERS,
            rows=notification_rows(request, row),
            empty=_why_no_notification(request, row),
        ),
        Table(
            title="Attempts",
            headers=["message to", *attempt_headers(request)],
            rows=[
                [page_link(request, one.message, str(one.message.channel)), *attempt_cells(request, one)]
                for one in tries.order_by("started_at", "pk")[:ROWS_SHOWN]
            ],
            empty="None is kept." if _not_kept(row) else "None yet.",
            is_folded=True,
        ),
    ]


def notification_rows(request: HttpRequest, alert: Alert) -> list[list[Any]]:
    """Return a row for each notification of an alert on a channel that this reader may see, with its message."""
    notifications = Notification.objects.filter(event__alert=alert).select_related(
        "event", "channel", "silence", "message"
    )
    if not request.user.is_superuser:
        # An alert about the installation notifies several people, each of whom sees their own channels.
        notifications = notifications.filter(channel__owner=request.user)
    shown = list(notifications.order_by("pk")[:ROWS_SHOWN])
    at_limit = at_their_limit((one.channel for one in shown if one.message is None), now=timezone.now())
    return [
        [
            *(_event(one), page_link(request, one.channel, str(one.channel))),
            *(describe_deferred_by(one), *_message_cells(request, one, at_limit=at_limit)),
        ]
        for one in shown
    ]


def _event(notification: Notification) -> str:
    return f"reminder {notification.repeat}" if notification.repeat else notification.event.get_kind_display()


def _not_kept(alert: Alert) -> str:
    """Return the note that old messages of the alert may have been deleted, "" where none can have been."""
    if alert.resolved_at is None or alert.created_at >= kept_since(now=timezone.now()):
        return ""
    return f" (messages older than {settings.MESSAGE_RETENTION_DAYS} days are not kept)"


def _why_no_notification(request: HttpRequest, alert: Alert) -> str:
    if _not_kept(alert):
        return "Nobody, or longer ago than messages are kept."
    if alert.rule_id is not None:
        return "Nobody: its rule names no channel. Choose some in the form of the rule."
    if request.user.is_superuser:
        return "Nobody: no channel wants it."
    return "No channel of yours. Superusers see whether channels of others were notified."


def _message_cells(request: HttpRequest, notification: Notification, *, at_limit: Collection[int]) -> list[Any]:
    if notification.message is None:
        return ["not written yet", f"waits for {why_it_waits(notification, at_limit=at_limit)}"]
    return [
        page_link(request, notification.message, notification.message.subject),
        describe_status(notification.message),
    ]
