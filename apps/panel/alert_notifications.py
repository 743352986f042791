"""The tables of what was sent about an alert."""

from collections.abc import Collection
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Attempt, Owed
from apps.notify.services import kept_since
from apps.panel.deferrals import at_their_limit, held_in_words, why_it_waits
from apps.panel.kit.pages import ROWS_SHOWN, Table, page_link
from apps.panel.messages import attempt_cells, attempt_headers, status_in_words

# What stands above `told_rows`.
TOLD_HEADERS = ["event", "channel", "held back by", "message", "status"]


def notification_tables(request: HttpRequest, row: Alert) -> list[Table]:
    """Return what was sent about an alert, and each attempt, as far as this reader may know it."""
    tries = Attempt.objects.filter(message__members__event__alert=row).select_related("message__channel").distinct()
    if not request.user.is_superuser:
        tries = tries.filter(message__channel__owner=request.user)
    return [
        Table(
            title=f"Who is told{_not_kept(row)}",
            headers=TOLD_HEADERS,
            rows=told_rows(request, row),
            empty=_told_to_nobody(request, row),
        ),
        Table(
            title="Attempts",
            headers=["message to", *attempt_headers(request)],
            rows=[
                [page_link(request, one.message, str(one.message.channel)), *attempt_cells(request, one)]
                for one in tries.order_by("started_at", "pk")[:ROWS_SHOWN]
            ],
            empty="None is kept." if _not_kept(row) else "None yet.",
        ),
    ]


def told_rows(request: HttpRequest, alert: Alert) -> list[list[Any]]:
    """Return what each event of an alert owes to each channel that this reader may know of, and what became of it."""
    owed = Owed.objects.filter(event__alert=alert).select_related("event", "channel", "silence", "message")
    if not request.user.is_superuser:
        # What is about the installation is told to several people, each of whom sees their own channels.
        owed = owed.filter(channel__owner=request.user)
    shown = list(owed.order_by("pk")[:ROWS_SHOWN])
    at_limit = at_their_limit((one.channel for one in shown if one.message is None), now=timezone.now())
    return [
        [
            *(_event(one), page_link(request, one.channel, str(one.channel))),
            *(held_in_words(one), *_message_cells(request, one, at_limit=at_limit)),
        ]
        for one in shown
    ]


def _event(debt: Owed) -> str:
    return f"reminder {debt.repeat}" if debt.repeat else debt.event.get_kind_display()


def _not_kept(alert: Alert) -> str:
    """Return what is missing where some of what was told of an alert may be too old to be kept, else ""."""
    if alert.resolved_at is None or alert.created_at >= kept_since(now=timezone.now()):
        return ""
    return f" (messages older than {settings.MESSAGE_RETENTION_DAYS} days are not kept)"


def _told_to_nobody(request: HttpRequest, alert: Alert) -> str:
    if _not_kept(alert):
        return "Nobody, or longer ago than messages are kept."
    if alert.rule_id is not None:
        return "Nobody: its rule names no channel. Choose some in the form of the rule."
    if request.user.is_superuser:
        return "Nobody: no channel wants it."
    return "No channel of yours. Whether it is told on those of others, superusers see."


def _message_cells(request: HttpRequest, debt: Owed, *, at_limit: Collection[int]) -> list[Any]:
    if debt.message is None:
        return ["not written yet", f"waits for {why_it_waits(debt, at_limit=at_limit)}"]
    return [page_link(request, debt.message, debt.message.subject), status_in_words(debt.message)]
