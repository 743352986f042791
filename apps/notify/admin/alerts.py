"""What was told about each alert. It stands here, since alerts know nothing of telling."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from apps.alerts.admin import AlertAdmin
from apps.alerts.models import Alert
from apps.market.admin import ROWS_SHOWN, Table, page_link
from apps.notify.admin.messages import ATTEMPT_HEADERS, attempt_cells, status_in_words
from apps.notify.models import Attempt, Message, Owed

admin.site.unregister(Alert)


@admin.register(Alert)
class ToldAlertAdmin(AlertAdmin):
    """An alert's page with what was told about it."""

    def tables_for(self, request: HttpRequest, row: Alert) -> list[Table]:
        owed = Owed.objects.filter(event__alert=row).select_related("event", "channel", "message").order_by("pk")
        tries = Attempt.objects.filter(message__members__event__alert=row).select_related("message").distinct()
        return [
            *super().tables_for(request, row),
            Table(
                title="Who is told",
                headers=["event", "channel", "message", "status"],
                rows=[
                    [
                        *(one.event.get_kind_display(), page_link(request, one.channel, str(one.channel))),
                        *_message_cells(request, one.message),
                    ]
                    for one in owed[:ROWS_SHOWN]
                ],
                empty="Nobody: its rule names no channel.",
            ),
            Table(
                title="Attempts",
                headers=["message", *ATTEMPT_HEADERS],
                rows=[
                    [page_link(request, one.message, one.message.subject), *attempt_cells(one)]
                    for one in tries.order_by("started_at", "pk")[:ROWS_SHOWN]
                ],
                empty="None yet.",
            ),
        ]


def _message_cells(request: HttpRequest, message: Message | None) -> list[Any]:
    if message is None:
        return ["not written yet", ""]
    return [page_link(request, message, message.subject), status_in_words(message)]
