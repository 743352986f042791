"""What the pages of every app have in common: buttons and charts above the fields, tables below them, questions before
what has wide effects."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.admin import ModelAdmin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.db.models import QuerySet
from django.forms.utils import pretty_name
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import URLPattern, path, reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import capfirst
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget

from apps.market.domain import epoch_microseconds
from apps.market.queries import PathPoint
from apps.panel.kit.addresses import SiteAdmin
from apps.reader import show_prices, show_span, show_time, write_time
from apps.replica import from_replica, read_behind

ROWS_SHOWN = 100
# A cell that narrow pages, on which each cell is a line, leave out.
_BLANK = format_html('<span class="{}"></span>', "blank")


class Rows(TabularInline):
    """Rows below a form. Each field has the heading of its column as its name for screen readers."""

    def get_formset(self, request: HttpRequest, obj: Any = None, **options: Any) -> Any:
        formset = super().get_formset(request, obj, **options)
        for name, field in formset.form.base_fields.items():
            field.widget.attrs["aria-label"] = capfirst(field.label or pretty_name(name))
        return formset


def _shown(cell: Any) -> Any:
    if isinstance(cell, datetime):
        return show_time(cell, with_zone=False)
    return _BLANK if cell in (None, "") else cell


@dataclass(frozen=True, slots=True)
class Table:
    """Rows that stand below the fields of a page, or above them where `is_first`; `empty` is said where there are
    none. is_folded: only the title is shown until the reader opens it."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[Any]]
    empty: str
    is_first: bool = False
    is_folded: bool = False

    def shown(self) -> dict[str, Any]:
        """Return it as Unfold's component reads it, with nothing where there is nothing."""
        return {"headers": self.headers, "rows": [[_shown(cell) for cell in row] for row in self.rows]}


@dataclass(frozen=True, slots=True)
class Chart:
    """Prices over time, drawn by panel/chart.js. levels: prices drawn across where they are near, marks: moments drawn
    upright, each with its name; periods: (name, address, is it shown) to choose from; `empty` is said where there is no
    price."""

    title: str
    path: Sequence[PathPoint]
    empty: str
    levels: Sequence[tuple[str, Decimal]] = ()
    marks: Sequence[tuple[str, datetime]] = ()
    periods: Sequence[tuple[str, str, bool]] = ()

    def data(self) -> dict[str, Any]:
        """Return what is drawn, for JSON: milliseconds since 1970 and floats. Nothing is evaluated by these."""
        return {
            "low": [{"x": _milliseconds(one.at), "y": float(one.low)} for one in self.path],
            "high": [{"x": _milliseconds(one.at), "y": float(one.high)} for one in self.path],
            "levels": [{"name": name, "price": float(price)} for name, price in self._near_levels()],
            "marks": [{"name": name, "at": _milliseconds(at)} for name, at in self.marks],
        }

    def _near_levels(self) -> list[tuple[str, Decimal]]:
        # A level far off would press the prices into a line.
        lowest, highest = min(one.low for one in self.path), max(one.high for one in self.path)
        reach = 2 * max(highest - lowest, highest / 100)
        return [(name, price) for name, price in self.levels if lowest - reach <= price <= highest + reach]

    def describe(self) -> str:
        """Return what it shows, for who cannot see it."""
        lowest, highest = show_prices([min(one.low for one in self.path), max(one.high for one in self.path)])
        first, last = self.path[0].at, self.path[-1].at
        return (
            f"{self.title}: {len(self.path)} points from {write_time(first)} to {write_time(last)}, "
            f"lowest {lowest}, highest {highest}."
        )


def _milliseconds(at: datetime) -> int:
    return epoch_microseconds(at) // 1_000


def question_page(
    page: ModelAdmin,
    request: HttpRequest,
    *,
    title: str,
    question: str,
    what: str,
    variant: str = "primary",
    form: Iterable[Any] = (),
    rows: Iterable[Any] = (),
    more: int = 0,
    carried: Sequence[tuple[str, str]] = (),
    cancel: str = "?",
) -> HttpResponse:
    """Return the page that asks before something is done.

    question, what, form, variant: as `PageAdmin.ask_first` has them; rows: what it is done to, and `more`, of which
    there are so many besides; carried: (name, value) of what the answer sends again; cancel: where *Cancel* leads.
    """
    context = {
        **page.admin_site.each_context(request),
        "title": title,
        "opts": page.opts,
        "question": question,
        "what": what,
        "variant": variant,
        "form": form,
        "rows": rows,
        "more": more,
        "carried": carried,
        "cancel": cancel,
    }
    return TemplateResponse(request, "panel/confirm.html", context)


class PageAdmin(SiteAdmin):
    """A page of fields with buttons and charts above them, and tables below.

    empty_text: said where the list has no rows; buttons: the list's actions that stand on a row's own page too;
    is_live: the tables of a row's page are read again every few seconds, by site/live.js.
    """

    empty_text = ""
    buttons: Sequence[str] = ()
    is_live = False
    change_form_outer_before_template = "panel/top.html"
    change_form_outer_after_template = "panel/tables.html"

    class Media:
        js = ("site/reader.js", "panel/chart.js")

    @property
    def media(self) -> forms.Media:
        base: forms.Media = super().media
        return (
            base + forms.Media(js=["site/reader.js", forms.Script("site/live.js", defer=True)])
            if self.is_live
            else base
        )

    def get_urls(self) -> list[URLPattern]:
        urls: list[URLPattern] = super().get_urls()
        if not self.is_live:
            return urls
        view = self.admin_site.admin_view(self.live)
        name = f"{self.opts.app_label}_{self.opts.model_name}_live"
        return [path("<str:object_id>/live/", view, name=name), *urls]

    def live(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Return the tables of a row's page; live.js puts them in the place of the older ones."""
        row = self.get_object(request, unquote(object_id))
        if row is None:
            raise Http404
        if not self.has_view_or_change_permission(request, row):
            raise PermissionDenied
        context = {"tables": self.tables_for(request, row), "is_live": True}
        return TemplateResponse(request, "panel/live.html", context)

    def tables(self, row: Any) -> list[Table]:
        """Return what stands below the fields."""
        return []

    def tables_for(self, request: HttpRequest, row: Any) -> list[Table]:
        """Return what stands below the fields for this reader."""
        return self.tables(row)

    def lead_for(self, request: HttpRequest, row: Any) -> str:
        """Return the sentence that stands above all else."""
        return ""

    def charts_for(self, request: HttpRequest, row: Any) -> list[Chart]:
        """Return what is drawn above the fields for this reader."""
        return []

    def buttons_for(self, request: HttpRequest, row: Any) -> Sequence[str]:
        """Return those of the buttons that would do something to this row."""
        return self.buttons

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, obj: Any = None, **kwargs: Any
    ) -> HttpResponse:
        if obj is not None:
            permitted = self.get_actions(request)
            context["buttons"] = [
                (name, permitted[name][2]) for name in self.buttons_for(request, obj) if name in permitted
            ]
            context["lead"] = self.lead_for(request, obj)
            context["charts"] = self.charts_for(request, obj)
            context["tables"] = self.tables_for(request, obj)
            context["is_live"] = self.is_live
            context["live_address"] = reverse(admin_address(obj, "live"), args=[obj.pk]) if self.is_live else ""
        return super().render_change_form(request, context, *args, obj=obj, **kwargs)

    def ask_first(
        self,
        request: HttpRequest,
        rows: QuerySet[Any],
        *,
        question: str,
        what: str,
        form: forms.Form | None = None,
        variant: str = "danger",
        is_final: bool = True,
    ) -> HttpResponse | None:
        """Return the page that asks before an action is done, or None once it has been answered.

        question: what will be done, and what follows; what: the words on the button; form: what is asked for beside,
        bound where it has been answered; variant: the button's look, as Unfold calls it; is_final: False where the
        answer leads to a further question, so that it does nothing yet.
        """
        if is_final and request.POST.get("sure") == "yes" and (form is None or form.is_valid()):
            return None
        carried = [
            (name, value)
            for name in ("action", "select_across", "index", "back", ACTION_CHECKBOX_NAME)
            for value in request.POST.getlist(name)
        ]
        return question_page(
            self,
            request,
            title=f"{what}?",
            question=question,
            what=what,
            variant=variant,
            form=form or (),
            rows=rows[:ROWS_SHOWN],
            more=max(rows.count() - ROWS_SHOWN, 0),
            carried=carried,
        )

    def after(self, request: HttpRequest, rows: Sequence[Any]) -> HttpResponse | None:
        """Return the way back to the row's page where the action was asked for there."""
        if "back" not in request.POST or len(rows) != 1:
            return None
        return HttpResponseRedirect(reverse(admin_address(rows[0], "change"), args=[rows[0].pk]))

    def say_done(self, request: HttpRequest, text: str) -> None:
        """Say what was done and what follows."""
        messages.success(request, text)

    def say_refused(self, request: HttpRequest, text: str) -> None:
        """Say what was not done, and why."""
        messages.warning(request, text)


class ReadOnlyAdmin(PageAdmin):
    """Rows that the system writes and people look at."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReplicaList:
    """Reads the list from a replica of the database, where there is one. Not the page of one row, to which others
    link that know newer rows."""

    list_after_template = "panel/replica.html"

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        def read() -> HttpResponse:
            behind = read_behind()
            more = {} if behind is None else {"behind": show_span(behind.total_seconds())}
            return super(ReplicaList, self).changelist_view(request, {**(extra_context or {}), **more})  # type: ignore[misc]

        return from_replica(read)


class ShortText(UnfoldAdminTextareaWidget):
    """A few lines, which may be drawn larger."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__({"rows": 3, **(attrs or {})})


class JSONObjectField(forms.JSONField):
    """JSON with an object at its top; blank is {}."""

    def clean(self, value: Any) -> Any:
        value = super().clean(value)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValidationError('Write a JSON object, like {"name": "value"}, or {}.')
        if "\0" in _texts(value):
            # PostgreSQL stores no NUL.
            raise ValidationError("A NUL character cannot be stored.")
        return value


class TagsField(forms.CharField):
    """A list of words, written with commas between them."""

    def prepare_value(self, value: Any) -> Any:
        return ", ".join(map(str, value)) if isinstance(value, list) else value

    def to_python(self, value: Any) -> list[str]:
        return [word for part in (value or "").split(",") if (word := part.strip())]

    def has_changed(self, initial: Any, data: Any) -> bool:
        return (initial or []) != self.to_python(data)


def _texts(value: Any) -> str:
    """Return every text within a JSON value, as one."""
    if isinstance(value, dict):
        return "".join(_texts(part) for pair in value.items() for part in pair)
    return "".join(map(_texts, value)) if isinstance(value, list) else str(value)


def admin_address(row: models.Model, page: str) -> str:
    """Return the name of a row's page in the admin."""
    return f"admin:{row._meta.app_label}_{row._meta.model_name}_{page}"


def trace_link(trace_id: str) -> str | SafeString:
    """Return a trace id, as a link to the trace where TRACES_URL says where traces are shown, and with one to its log
    lines where LOGS_URL says where those are. For operators: it is not this site that answers."""
    shown = _outer_link(f"{settings.TRACES_URL.rstrip('/')}/{trace_id}", trace_id) if settings.TRACES_URL else trace_id
    if not settings.LOGS_URL:
        return shown
    return format_html("{} ({})", shown, _outer_link(f"{settings.LOGS_URL}{trace_id}", "log lines"))


def _outer_link(address: str, text: str) -> SafeString:
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text)


def page_link(request: HttpRequest, row: models.Model | None, text: str) -> str | SafeString:
    """Return `text`, as a link to the row's page where this reader may look at such rows."""
    if row is None or not request.user.has_perm(f"{row._meta.app_label}.view_{row._meta.model_name}"):
        return text
    address = reverse(admin_address(row, "change"), args=[row.pk])
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text)
