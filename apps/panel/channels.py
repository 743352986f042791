"""The owners' pages: channels, made by a form per kind, previewed, tried, and how each of them does."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import BaseModelForm
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect, JsonResponse
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone
from django.utils.text import Truncator

from apps.accounts.queries import profile_of
from apps.alerts.queries import written_for
from apps.health.queries import channel_healths
from apps.notify import queries
from apps.notify.encryption import DecryptionError
from apps.notify.models import Channel, Message
from apps.notify.services import (
    PREVIOUS_SECRET,
    QUIET,
    ChannelStays,
    TestRefused,
    delete_channel,
    has_rotating_secret,
    last_opening,
    redeliver,
    retire_previous_secret,
    rotate_secret,
    save_changes,
    send_test,
    switch_on,
    would_send,
)
from apps.notify.transports.protocol import ChannelInvalid
from apps.notify.transports.registry import TRANSPORTS
from apps.panel.channel_form import field_name, form_for, kinds_offered, settings_shown
from apps.panel.deferrals import at_their_limit, describe_deferrals, why_it_waits
from apps.panel.kit.health import HealthShown
from apps.panel.kit.owned import ChosenOwner, OwnedRows
from apps.panel.kit.pages import ROWS_SHOWN, PageAdmin, Table, page_link
from apps.panel.messages import describe_status, say_sent_again
from apps.reader import active_reader, in_zone

MESSAGES_SHOWN = 20
REASON_LONGEST = 120
TEMPLATES = ["subject_template", "text_template"]


class HealthFilter(admin.SimpleListFilter):
    title = "health"
    parameter_name = "health"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("on", "Enabled"), ("failing", "Failing"), ("off", "Disabled")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> QuerySet[Channel]:
        if self.value() == "failing":
            return queries.failing(queryset)
        return queryset.filter(is_enabled=self.value() == "on") if self.value() in ("on", "off") else queryset


class ChannelKindFilter(admin.SimpleListFilter):
    title = "kind"
    parameter_name = "kind"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return kinds_offered()

    def queryset(self, request: HttpRequest, queryset: QuerySet[Channel]) -> QuerySet[Channel]:
        return queryset.filter(kind=self.value()) if self.value() else queryset


@admin.register(Channel)
class ChannelAdmin(HealthShown, ChosenOwner, OwnedRows, PageAdmin):
    """A channel stays its owner's and its kind: the rules that notify it are theirs too."""

    healths_of = staticmethod(channel_healths)
    actions = ["send_test", "redeliver", "switch_on", "rotate_secret", "retire_secret"]
    buttons = actions
    change_form_after_template = "panel/channel_preview.html"
    is_live = True
    empty_text = "No channels yet. Add one and send a test; then choose it in the form of a rule."
    list_display = ["name", "kind_title", "health", "last_reason", "last_delivery", "last_day", "waiting", "owner"]
    list_filter = [ChannelKindFilter, HealthFilter]
    list_select_related = ["owner"]
    readonly_fields = ["health", "health_text", "deliveries"]
    search_fields = ["name"]

    class Media:
        js = ("panel/form_preview.js", "panel/channel_form.js")

    @property
    def conditional_fields(self) -> dict[str, str]:
        """Return what Alpine shows: of all settings those of the chosen kind."""
        return {field_name(kind, one.name): f"kind == '{kind}'" for kind in TRANSPORTS for one in settings_shown(kind)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Channel]:
        return queries.with_health(super().get_queryset(request), now=timezone.now())

    @admin.display(description="kind", ordering="kind")
    def kind_title(self, channel: Channel) -> str:
        return dict(kinds_offered()).get(channel.kind, channel.kind)

    @admin.display(description="deliveries")
    def deliveries(self, channel: Channel) -> str:
        return queries.channel_state(channel, now=timezone.now(), reader=active_reader())[1]

    @admin.display(description="last delivery", empty_value="none yet")
    def last_delivery(self, channel: Channel) -> Any:
        return channel.last_delivery  # type: ignore[attr-defined]

    @admin.display(description="last failure")
    def last_reason(self, channel: Any) -> str:
        """Return why the last try failed, or why the channel was disabled; "" where neither is so."""
        if not channel.is_enabled and channel.switched_off_because:
            return Truncator(channel.switched_off_because).chars(REASON_LONGEST)
        return Truncator(channel.tried_detail or "").chars(REASON_LONGEST) if queries.last_try_failed(channel) else ""

    @admin.display(description="last 24 h")
    def last_day(self, channel: Any) -> str:
        tries = "failed try" if channel.failed_attempts == 1 else "failed tries"
        said = [(channel.delivered, "delivered"), (channel.failed_attempts, tries), (channel.failed, "given up")]
        return ", ".join(f"{count} {text}" for count, text in said if count) or "nothing"

    @admin.display(description="waits")
    def waiting(self, channel: Any) -> str:
        said = [(channel.unsent, "to be sent"), (channel.unplanned, "not in a message yet")]
        return ", ".join(f"{count} {text}" for count, text in said if count) or "nothing"

    def get_fieldsets(self, request: HttpRequest, obj: Channel | None = None) -> Any:
        may_change = self.has_add_permission(request) if obj is None else self.has_change_permission(request, obj)
        kinds = [kind for kind, _ in kinds_offered()] if obj is None else [obj.kind]
        settings = [field_name(kind, one.name) for kind in kinds for one in settings_shown(kind)] if may_change else []
        wants = ["wants_resolved", *(["wants_system"] if request.user.has_perm("alerts.view_system_alerts") else [])]
        return [
            (
                None,
                {
                    "fields": [
                        *([] if obj is None else ["health", "health_text", "deliveries"]),
                        "owner",
                        "name",
                        "kind",
                        *settings,
                        "is_enabled",
                        "is_default",
                    ]
                },
            ),
            (
                "When you are notified",
                {"fields": ["group_wait_seconds", "messages_per_minute", "repeat_minutes", *QUIET]},
            ),
            ("What you are notified of", {"fields": [*wants, *TEMPLATES]}),
        ]

    def get_changeform_initial_data(self, request: HttpRequest) -> dict[str, Any]:
        is_first = not Channel.objects.filter(owner=request.user, is_default=True).exists()
        begins = {"quiet_zone": profile_of(request.user).time_zone, "is_default": is_first}
        return begins | super().get_changeform_initial_data(request)

    def get_form(self, request: HttpRequest, obj: Channel | None = None, **kwargs: Any) -> Any:
        kwargs["form"] = form_for(TRANSPORTS if obj is None else [obj.kind])
        form = super().get_form(request, obj, **kwargs)
        if "owner" in form.base_fields:
            # Disabled and not left out, so that a name that the owner has twice is still refused in words.
            form.base_fields["owner"].disabled = obj is not None
        return form

    def has_delete_permission(self, request: HttpRequest, obj: Channel | None = None) -> bool:
        # Messages about alerts stay on record: such a channel is disabled instead. None stands for many at once.
        if obj is None or queries.has_notified(obj):
            return False
        return super().has_delete_permission(request, obj)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        try:
            return super().delete_view(request, object_id, extra_context)
        except ChannelStays as error:
            # Something was planned on it between the question and the answer.
            self.say_refused(request, f"The channel is not deleted. {error}")
            return HttpResponseRedirect(reverse("admin:notify_channel_change", args=[object_id]))

    def delete_model(self, request: HttpRequest, obj: Channel) -> None:
        delete_channel(channel=obj)

    def get_deleted_objects(self, objs: Any, request: HttpRequest) -> tuple[Any, Any, set[str], Any]:
        deleted, counts, lacking, protected = super().get_deleted_objects(objs, request)
        # Tests go with their channel, though nobody deletes a message by itself.
        return deleted, counts, lacking - {Message._meta.verbose_name}, protected

    def save_model(self, request: HttpRequest, obj: Channel, form: BaseModelForm, change: bool) -> None:
        """Save what people set, and let what follows from it follow."""
        if not change:
            super().save_model(request, obj, form, change)
            obj.made_secret = form.made_secret  # type: ignore[attr-defined]
            return
        save_changes(channel=obj, changed=form.changed_data, now=timezone.now())

    def response_add(self, request: HttpRequest, obj: Channel, post_url_continue: Any = None) -> HttpResponse:
        """Show a secret that was made in this answer and nowhere else: a message would lie in a cookie or a session."""
        if obj.made_secret:  # type: ignore[attr-defined]
            return self._secret_page(request, obj, secret=obj.made_secret)  # type: ignore[attr-defined]
        return super().response_add(request, obj, post_url_continue)

    def _secret_page(self, request: HttpRequest, channel: Channel, *, secret: str, has_previous: bool = False) -> Any:
        context = {
            **self.admin_site.each_context(request),
            **{"title": f"The secret of {channel.name}", "opts": self.opts, "channel": channel, "secret": secret},
            "has_previous": has_previous,
        }
        return TemplateResponse(request, "panel/secret_made.html", context)

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view
        return [
            path("preview/", wrap(self.preview), name="notify_channel_preview_new"),
            path("<int:channel_id>/preview/", wrap(self.preview), name="notify_channel_preview"),
            *super().get_urls(),
        ]

    def preview(self, request: HttpRequest, channel_id: int | None = None) -> HttpResponse:
        """Return, as JSON, what would be sent with the settings in the form: of the last alert of a rule that names the
        channel, else of the owner's last alert, or of an example."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        channel = self.get_object(request, str(channel_id)) if channel_id is not None else None
        if channel_id is not None and channel is None:
            raise Http404
        if not (self.has_change_permission(request, channel) if channel else self.has_add_permission(request)):
            raise PermissionDenied
        form = self.get_form(request, channel, change=channel is not None)(request.POST, instance=channel)
        form.is_valid()
        filled: Channel = form.instance
        if set(QUIET) & form.errors.keys():
            filled.quiet_from = filled.quiet_until = None
        for name in TEMPLATES:
            if name in form.errors:
                setattr(filled, name, "")
        now = timezone.now()
        owner = filled.owner if filled.owner_id is not None else request.user
        rule = queries.rule_notified_last(channel) if channel is not None else None
        event = last_opening(owner=owner, rule=rule, now=now)
        about = "Your last alert" if rule is None else "The last alert of a rule that names it"
        shown = would_send(channel=filled, event=event, now=now)
        return JsonResponse(
            {
                "about": about if event.pk else "An invented alert",
                "text": shown.text,
                "deferred": describe_deferrals(shown),
                "is_whole": shown.is_whole,
                "errors": [
                    f"{form.fields[name].label}: {error}"
                    for name in [*QUIET, *TEMPLATES]
                    for error in form.errors.get(name, ())
                ],
            }
        )

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        channel = kwargs.get("obj")
        context["preview_address"] = (
            reverse("admin:notify_channel_preview", args=[channel.pk])
            if channel is not None
            else reverse("admin:notify_channel_preview_new")
        )
        return super().render_change_form(request, context, *args, **kwargs)

    def buttons_for(self, request: HttpRequest, row: Channel) -> Sequence[str]:
        if not row.is_enabled:
            return ["switch_on"]
        return [
            "send_test",
            *(["redeliver"] if row.messages.filter(status=Message.Status.FAILED).exists() else []),
            *(["rotate_secret"] if has_rotating_secret(row) else []),
            *(["retire_secret"] if _has_previous_secret(row) else []),
        ]

    @admin.action(description="Send a test", permissions=["change"])
    def send_test(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        """Have a message sent on each of these channels, the way that alerts go."""
        channels = list(queryset[:ROWS_SHOWN])
        tried = []
        for channel in channels:
            try:
                tried.append(send_test(channel=channel, asked_by=request.user.get_username(), now=timezone.now()))
            except TestRefused as refusal:
                self.say_refused(request, str(refusal))
        if tried:
            names = ", ".join(message.channel.name for message in tried)
            self.say_done(
                request,
                f"Test queued for {names}; it should arrive within a few seconds. The page of a channel shows how its "
                "last test went, as soon as that is known.",
            )
        return self.after(request, channels)

    @admin.action(description="Send again what was given up", permissions=["change"])
    def redeliver(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        """Have all that these channels gave up sent again, with the same ids."""
        channels = list(queryset[:ROWS_SHOWN])
        count = redeliver(messages=Message.objects.filter(channel__in=channels), now=timezone.now())
        say_sent_again(self, request, count)
        return self.after(request, channels)

    @admin.action(description="Enable", permissions=["change"])
    def switch_on(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        """Enable the channels, and clear the reason why they were off."""
        channels = list(queryset.filter(is_enabled=False)[:ROWS_SHOWN])
        for channel in channels:
            switch_on(channel=channel)
        if channels:
            names = ", ".join(channel.name for channel in channels)
            self.say_done(request, f"Enabled: {names}. Send a test; what was given up can be sent again.")
        else:
            self.say_refused(request, "They are enabled already.")
        return self.after(request, channels)

    @admin.action(description="Rotate the secret", permissions=["change"])
    def rotate_secret(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        """Make a new secret and show it once; the old one signs too, until it is retired."""
        channel = self._one_that_signs(request, queryset)
        if channel is None:
            return None
        try:
            secret = rotate_secret(channel=channel)
        except (DecryptionError, ChannelInvalid) as error:
            self.say_refused(request, f"Not changed: {error}.")
            return self.after(request, [channel])
        return self._secret_page(request, channel, secret=secret, has_previous=True)

    @admin.action(description="Retire the previous secret", permissions=["change"])
    def retire_secret(self, request: HttpRequest, queryset: QuerySet[Channel]) -> HttpResponse | None:
        """Sign with the newest secret alone."""
        channel = self._one_that_signs(request, queryset)
        if channel is None:
            return None
        try:
            is_retired = retire_previous_secret(channel=channel)
        except (DecryptionError, ChannelInvalid) as error:
            self.say_refused(request, f"Not changed: {error}.")
        else:
            if is_retired:
                self.say_done(request, "Retired: the newest secret alone signs from now on.")
            else:
                self.say_refused(request, "There is no previous secret.")
        return self.after(request, [channel])

    def _one_that_signs(self, request: HttpRequest, queryset: QuerySet[Channel]) -> Channel | None:
        channels = list(queryset[:2])
        if len(channels) == 1 and has_rotating_secret(channels[0]):
            return channels[0]
        self.say_refused(request, "Choose one channel of a kind that signs what it sends, like a webhook.")
        return None

    def tables_for(self, request: HttpRequest, row: Channel) -> list[Table]:
        rules = [link.rule for link in row.rule_channels.select_related("rule").order_by("rule__name")[:ROWS_SHOWN]]
        sent = row.messages.order_by("-created_at")[:MESSAGES_SHOWN]
        waiting = (
            row.notifications.filter(message=None).select_related("event__alert", "silence").order_by("due_at", "pk")
        )
        waiting = list(waiting[:ROWS_SHOWN])
        written_for((one.event.alert for one in waiting), reader=active_reader())
        at_limit = at_their_limit([row], now=timezone.now())
        return [
            *_table_of_test(request, row),
            Table(title="Delivery statistics (24 h)", headers=["what", "figure"], rows=_health_rows(row), empty=""),
            Table(
                title="What waits to be sent",
                headers=["alert", "event", "waits for"],
                rows=[
                    [
                        page_link(request, one.event.alert, one.event.alert.summary),
                        *(one.event.get_kind_display(), why_it_waits(one, at_limit=at_limit)),
                    ]
                    for one in waiting
                ],
                empty="Nothing.",
            ),
            Table(
                title="Rules that notify this channel",
                headers=["rule", "severity", in_zone("deleted at")],
                rows=[[page_link(request, one, one.name), one.severity, one.deleted_at] for one in rules],
                empty="No rule names it yet. Choose it in the form of a rule.",
            ),
            Table(
                title=f"Last messages (at most {MESSAGES_SHOWN})",
                headers=["message", in_zone("made at"), "status"],
                rows=[[page_link(request, one, one.subject), one.created_at, describe_status(one)] for one in sent],
                empty="None yet. Send a test to see whether it works.",
            ),
        ]


def _table_of_test(request: HttpRequest, channel: Channel) -> list[Table]:
    """Return the last test of a channel and how far it has come; nothing where there was none of late."""
    test = queries.last_test(channel, now=timezone.now())
    if test is None:
        return []
    attempt = test.tries.order_by("-number").first()
    why = (attempt.detail or attempt.reason) if attempt is not None else ""
    row = [page_link(request, test, test.subject), test.created_at, describe_status(test), why]
    headers = ["test", in_zone("queued at"), "status", "what the last attempt said"]
    return [Table(title="Last test", headers=headers, rows=[row], empty="", is_first=True)]


def _has_previous_secret(channel: Channel) -> bool:
    try:
        return PREVIOUS_SECRET in channel.transport_settings
    except DecryptionError:
        return False


def _health_rows(channel: Any) -> list[list[Any]]:
    now = timezone.now()
    median = queries.median_milliseconds(channel, now=now)
    return [
        ["last delivery", channel.last_delivery or "none yet"],
        ["last failure (of 7 days)", queries.last_failure(channel, now=now) or "none"],
        ["messages delivered in 24 h", channel.delivered],
        ["attempts that failed in 24 h", channel.failed_attempts],
        ["messages given up in 24 h", channel.failed],
        ["median delivery time", f"{median} ms" if median is not None else "none yet"],
        ["messages to be sent", channel.unsent],
        ["notifications not in a message yet", channel.unplanned],
    ]
