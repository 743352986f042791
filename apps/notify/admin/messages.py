"""The owners' pages: messages, the inbox among them, and every attempt at them."""

from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.defaultfilters import linebreaksbr
from django.utils.formats import localize
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.decorators import display

from apps.alerts.models import Alert
from apps.market.admin import ROWS_SHOWN, ReadOnlyAdmin, Table, page_link
from apps.notify.models import Attempt, Message
from apps.notify.transports.registry import TRANSPORTS
from apps.rules.admin import OwnedRows

ATTEMPT_HEADERS = ["attempt", "began (UTC)", "ended (UTC)", "outcome", "reason", "detail"]
KINDS = [(kind, kind) for kind in sorted(TRANSPORTS)]
STATUS_LABEL = {"delivered": "success", "dead": "danger", "pending": "warning", "sending": "info"}


class KindFilter(admin.SimpleListFilter):
    title = "kind of channel"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return KINDS

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        return queryset.filter(channel__kind=self.value()) if self.value() else queryset


@admin.register(Message)
class MessageAdmin(OwnedRows, ReadOnlyAdmin):
    """What was sent, or is to be: with the filter on inbox, the inbox."""

    owner_lookup = "channel__owner"
    empty_words = "No messages yet. An alert of a rule that names a channel makes one, and so does a channel's test."
    fields = ["subject", "lines", "channel_name", "status_in_words", "created_at", "delivered_at", "id"]
    list_display = ["subject", "first_line", "created_at", "channel", "status_label", "attempts"]
    list_filter = [KindFilter, "status", ("kind", admin.ChoicesFieldListFilter)]
    list_select_related = ["channel"]
    search_fields = ["subject", "text"]
    search_help_text = "Finds words of subject and text."

    @display(description="status", ordering="status", label=STATUS_LABEL)
    def status_label(self, message: Message) -> str:
        return message.status

    @admin.display(description="status")
    def status_in_words(self, message: Message) -> str:
        return status_in_words(message)

    @admin.display(description="channel")
    def channel_name(self, message: Message) -> str:
        return str(message.channel)

    @admin.display(description="text")
    def first_line(self, message: Message) -> str:
        return Truncator(message.text.split("\n", 1)[0]).chars(120)

    @admin.display(description="text")
    def lines(self, message: Message) -> SafeString:
        return linebreaksbr(message.text, autoescape=True)

    def tables_for(self, request: HttpRequest, row: Message) -> list[Table]:
        tries = row.tries.order_by("number")[:ROWS_SHOWN]
        told = Alert.objects.filter(events__owed__message=row).distinct().order_by("pk")[:ROWS_SHOWN]
        return [
            Table(
                title="Attempts",
                headers=ATTEMPT_HEADERS,
                rows=[attempt_cells(one) for one in tries],
                empty="Not tried yet.",
            ),
            Table(
                title="What it tells",
                headers=["alert", "severity", "opened at (UTC)", "resolved at (UTC)"],
                rows=[
                    [page_link(request, one, one.words), one.severity, one.opened_at, one.resolved_at] for one in told
                ],
                empty="No alert: it tries the channel." if row.kind == Message.Kind.TEST else "No alert.",
            ),
        ]


def status_in_words(message: Message) -> str:
    """Return how far a message has come, and what comes next."""
    tried = f"{message.attempts} attempt{'' if message.attempts == 1 else 's'}"
    if message.status == Message.Status.DELIVERED:
        return f"delivered at {localize(message.delivered_at)}, {tried}"
    if message.status == Message.Status.DEAD:
        return f"given up after {tried}: it is never tried again"
    if message.status == Message.Status.SENDING:
        return f"being sent: {tried} begun"
    return f"to be sent at {localize(message.next_attempt_at)}, {tried if message.attempts else 'not tried yet'}"


def attempt_cells(attempt: Attempt) -> list[Any]:
    outcome = attempt.get_outcome_display() if attempt.outcome else "under way"
    return [attempt.number, attempt.started_at, attempt.finished_at, outcome, attempt.reason, attempt.detail]
