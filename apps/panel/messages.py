"""The owners' pages: messages, the inbox among them, and every attempt at them."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.defaultfilters import linebreaksbr
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from unfold.decorators import display

from apps.accounts.services import note_inbox_seen
from apps.alerts.models import Alert
from apps.alerts.queries import written_for
from apps.notify.models import Attempt, Message
from apps.notify.services import redeliver
from apps.panel.channel_form import kinds_offered
from apps.panel.kit.owned import OwnedRows
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin, ReadOnlyAdmin, Table, page_link
from apps.reader import active_reader, in_zone, write_time

STATUS_LABEL = {"delivered": "success", "failed": "danger", "pending": "warning", "sending": "info", "silenced": ""}


class KindFilter(admin.SimpleListFilter):
    title = "kind of channel"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return kinds_offered()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Message]) -> QuerySet[Message]:
        return queryset.filter(channel__kind=self.value()) if self.value() else queryset


@admin.register(Message)
class MessageAdmin(OwnedRows, ReadOnlyAdmin):
    """What was sent, or is to be: with the filter on inbox, the inbox."""

    actions = ["redeliver"]
    buttons = actions
    owner_lookup = "channel__owner"
    empty_text = "No messages yet. An alert of a rule that names a channel makes one, and so does a channel's test."
    fields = ["subject", "lines", "channel", "describe_status", "created_at", "delivered_at", "id"]
    list_display = ["subject", "first_line", "created_at", "channel", "status_label", "attempts"]
    list_filter = [KindFilter, "status", ("kind", admin.ChoicesFieldListFilter)]
    list_select_related = ["channel"]
    search_fields = ["subject", "text"]
    search_help_text = "Searches subject and text."

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        if request.method == "GET" and request.GET.get("kind") == "inbox":
            note_inbox_seen(user=request.user, now=timezone.now())
        return super().changelist_view(request, extra_context)

    @display(description="status", ordering="status", label=STATUS_LABEL)
    def status_label(self, message: Message) -> str:
        return message.status

    @admin.display(description="status")
    def describe_status(self, message: Message) -> str:
        is_stuck = message.status == Message.Status.FAILED and not message.channel.is_enabled
        return describe_status(message) + (", and its channel is disabled" if is_stuck else "")

    @admin.display(description="text")
    def first_line(self, message: Message) -> str:
        return Truncator(message.text.split("\n", 1)[0]).chars(120)

    @admin.display(description="text")
    def lines(self, message: Message) -> SafeString:
        return linebreaksbr(message.text, autoescape=True)

    def has_redeliver_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("notify.change_channel")

    def buttons_for(self, request: HttpRequest, row: Message) -> Sequence[str]:
        return self.buttons if row.status == Message.Status.FAILED else []

    @admin.action(description="Send again what was given up", permissions=["redeliver"])
    def redeliver(self, request: HttpRequest, queryset: QuerySet[Message]) -> HttpResponse | None:
        """Have those of these messages that were given up sent again, with the same ids."""
        chosen = list(queryset[:2])
        say_sent_again(self, request, redeliver(messages=queryset, now=timezone.now()))
        return self.after(request, chosen)

    def tables_for(self, request: HttpRequest, row: Message) -> list[Table]:
        tries = row.tries.order_by("number")[:ROWS_SHOWN]
        alerts = Alert.objects.filter(events__notifications__message=row).distinct().order_by("pk")[:ROWS_SHOWN]
        return [
            Table(
                title="Attempts",
                headers=attempt_headers(request),
                rows=[attempt_cells(request, one) for one in tries],
                empty="Not sent." if row.status == Message.Status.SILENCED else "Not tried yet.",
            ),
            Table(
                title="Alerts in it",
                headers=["alert", "severity", in_zone("opened at"), in_zone("resolved at")],
                rows=[
                    [page_link(request, one, one.summary), one.severity, one.opened_at, one.resolved_at]
                    for one in written_for(alerts, reader=active_reader())
                ],
                empty="No alert: it tries the channel." if row.kind == Message.Kind.TEST else "No alert.",
            ),
        ]


def describe_status(message: Message) -> str:
    """Return how far a message has come, and what comes next."""
    tried = f"{message.attempts} attempt{'' if message.attempts == 1 else 's'}"
    if message.status == Message.Status.DELIVERED:
        return f"delivered at {write_time(message.delivered_at)}, {tried}"
    if message.status == Message.Status.FAILED:
        return f"given up after {tried}: nobody tries again unless asked to"
    if message.status == Message.Status.SILENCED:
        return "silenced, not sent: its alerts were silenced until they were over"
    if message.status == Message.Status.SENDING:
        return f"being sent: {tried} begun"
    # What waits for an earlier message on its channel is due, and not sent yet.
    when = "to be sent at" if message.next_attempt_at > timezone.now() else "due since"
    return f"{when} {write_time(message.next_attempt_at)}, {tried if message.attempts else 'not tried yet'}"


def attempt_headers(request: HttpRequest) -> list[str]:
    """Return what stands above `attempt_cells`."""
    headers = ["attempt", in_zone("began"), "took", "outcome", "status", "reason", "detail"]
    # Of an address on the operators' own network, it may be more than its owner may read.
    return [*headers, "answer"] if request.user.is_superuser else headers


def attempt_cells(request: HttpRequest, attempt: Attempt) -> list[Any]:
    """Return one attempt as this reader may see it."""
    outcome = attempt.get_outcome_display() if attempt.outcome else "under way"
    took = f"{attempt.milliseconds} ms" if attempt.milliseconds is not None else ""
    cells = [attempt.number, attempt.started_at, took, outcome, attempt.status, attempt.reason, attempt.detail]
    return [*cells, attempt.answer] if request.user.is_superuser else cells


def say_sent_again(page: PageAdmin, request: HttpRequest, count: int) -> None:
    """Say how many messages are sent again, or why none is."""
    if count:
        page.say_done(
            request,
            f"{count} {'message is' if count == 1 else 'messages are'} to be sent again, within some seconds while "
            "beat and a notifier run.",
        )
    else:
        page.say_refused(request, "Nothing is sent again: nothing was given up, or its channel is disabled.")
