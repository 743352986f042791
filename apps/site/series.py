"""The pages of a reader's derived series: what they compute, made, changed and deleted."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.alerts.owned import delete_series
from apps.market.derived.deriving import timeouts_of
from apps.market.derived.making import change_series, create_series
from apps.market.derived.models import DerivedSeries
from apps.market.derived.past import make_days
from apps.market.derived.queries import past_of, series_seen_by
from apps.market.derived.series import Definition, SeriesInvalid
from apps.market.derived.wording import describe_series, formula_of
from apps.market.domain import epoch_microseconds, price_units
from apps.market.models import Asset, Feed
from apps.market.queries import PathPoint, assets_seen_by, latest_prices, matching, price_path
from apps.market.services import AssetStays
from apps.owned_ids import owned_id_of
from apps.reader import TO_MINUTES, active_reader, show_number, show_prices, show_span, write_time
from apps.site.figures import UNKNOWN
from apps.site.once import SENT_BEFORE
from apps.site.series_form import SeriesForm
from apps.tracing import new_trace_id
from apps.wording import format_age, format_duration

PICKED_MOST = 20
TERM_LONGEST = 64
CHART_SPAN = timedelta(days=30)


@never_cache
@login_required
@require_safe
def series_list(request: HttpRequest) -> HttpResponse:
    """Show the reader's derived series."""
    rows = list(series_seen_by(request.user).prefetch_related("legs__asset"))
    now = timezone.now()
    shown = [{"series": one, "formula": _formula(one), **newest_of(one.asset, now)} for one in rows]
    return render(request, "site/series_list.html", {"title": "Derived series", "rows": shown, "now": now})


@never_cache
@login_required
@require_safe
def series_page(request: HttpRequest, key: str) -> HttpResponse:
    """Show what a series computes, of what, and what it has been."""
    series = _series_of(request, key)
    now = timezone.now()
    definition, legs = _definition(series)
    feed = series.asset.feed
    until = feed.head.as_of if feed is not None else None
    path = price_path(series.asset.pk, since=until - CHART_SPAN, until=until) if until is not None else []
    context = {
        "title": series.asset.symbol,
        "series": series,
        "asset": series.asset,
        **newest_of(series.asset, now),
        "sentence": describe_series(definition, [leg.symbol for leg in legs], reader=active_reader()),
        "legs": _leg_rows(definition, legs, now),
        "is_weighted": definition.kind == "basket",
        "past": past_of(series.asset.pk),
        "next": _next_quote(series.asset, legs),
        "chart": chart_of(path),
        "chart_text": chart_text_of(path),
        "now": now,
    }
    return render(request, "site/series.html", context)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def add_page(request: HttpRequest) -> HttpResponse:
    """Make a derived series of the reader's."""
    if not request.user.has_perm("market.add_derivedseries"):
        raise PermissionDenied
    user: Any = request.user
    form = SeriesForm(request.POST if request.method == "POST" else None, owner_id=user.pk)
    if request.method == "POST" and _adds_row(request, form):
        return _form_page(request, form, "New derived series")
    if request.method == "POST":
        now = timezone.now()
        if form.is_valid() and form.definition is not None:
            # Before the transaction that creates it, in which partitions would stay locked.
            make_days(form.definition, until=epoch_microseconds(now), now=now)
        created = form.once(user, about=form.typed_legs, create=lambda: _create(form, user.pk, now))
        if created is not None:
            asset = assets_seen_by(user).filter(pk=created.id).first()
            if asset is None:
                messages.success(request, SENT_BEFORE)
                return redirect("series_list")
            done = f"{asset.symbol} was created. {_said_of_past(asset)}" if created.is_new else SENT_BEFORE
            messages.success(request, done)
            return redirect("series", asset.external_id)
    return _form_page(request, form, "New derived series")


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def change_page(request: HttpRequest, key: str) -> HttpResponse:
    """Change what a series computes, from here on."""
    series = _series_of(request, key, permission="market.change_derivedseries")
    asset = series.asset
    data = request.POST if request.method == "POST" else None
    form = SeriesForm(data, owner_id=asset.owner_id, asset=asset)
    title = f"Change {asset.symbol}"
    if request.method == "POST" and _adds_row(request, form):
        return _form_page(request, form, title, series=series)
    if form.is_bound and form.is_valid() and form.written is not None:
        try:
            is_changed = change_series(asset=asset, written=form.written, now=timezone.now(), trace_id=new_trace_id())
        except SeriesInvalid as error:
            form.note(error)
        else:
            said = "is changed from here on; what it has been stays" if is_changed else "is as it was"
            messages.success(request, f"{asset.symbol} {said}.")
            return redirect("series", key)
    return _form_page(request, form, title, series=series)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def delete_page(request: HttpRequest, key: str) -> HttpResponse:
    """Ask, and delete a series with all that was stored of it."""
    series = _series_of(request, key, permission="market.delete_derivedseries")
    refusal = ""
    if request.method == "POST":
        try:
            delete_series(asset_ids=[series.asset.pk], now=timezone.now())
        except AssetStays as stays:
            refusal = str(stays)
        else:
            messages.success(request, f"{series.asset.symbol} is deleted.")
            return redirect("series_list")
    context = {"title": f"Delete {series.asset.symbol}", "asset": series.asset, "refusal": refusal, "back": "series"}
    return render(request, "site/asset_delete.html", context)


@never_cache
@login_required
@require_POST
def preview(request: HttpRequest) -> HttpResponse:
    """Return what the form would make: in words, with what is wrong. JSON."""
    series = None
    if (key := request.GET.get("series", "")) != "":
        series = _series_of(request, key, permission="market.change_derivedseries")
    elif not request.user.has_perm("market.add_derivedseries"):
        raise PermissionDenied
    asset = series.asset if series is not None else None
    form = SeriesForm(request.POST, owner_id=asset.owner_id if asset is not None else request.user.pk, asset=asset)
    form.is_valid()
    return JsonResponse({"sentences": _sentences(form, request), "errors": form.texts()})


@never_cache
@login_required
@require_safe
def pick(request: HttpRequest) -> HttpResponse:
    """Return the assets that a leg may be, by symbol, name and alias, the best match first. JSON."""
    term = request.GET.get("term", "").strip()[:TERM_LONGEST]
    found = matching(assets_seen_by(request.user), term)[:PICKED_MOST] if term else []
    return JsonResponse({"assets": [{"symbol": one.symbol, "name": one.name} for one in found]})


def _series_of(request: HttpRequest, key: str, *, permission: str = "") -> DerivedSeries:
    """Return the reader's series. A foreign one and none are the same."""
    pk = owned_id_of(key)
    series = series_seen_by(request.user).filter(pk=pk).first() if pk is not None else None
    if series is None:
        raise Http404
    if permission and not request.user.has_perm(permission):
        raise PermissionDenied
    return series


def _adds_row(request: HttpRequest, form: SeriesForm) -> bool:
    """Give the form one more leg where that is what was asked for, and tell whether it was."""
    if "add_leg" not in request.POST:
        return False
    form.is_valid()
    form.add_row()
    return True


def _form_page(
    request: HttpRequest, form: SeriesForm, title: str, *, series: DerivedSeries | None = None
) -> HttpResponse:
    sentences = _sentences(form, request) if form.is_bound else []
    context = {"title": title, "form": form, "series": series, "sentences": sentences}
    return render(request, "site/series_form.html", context)


def _create(form: SeriesForm, owner_id: int, now: datetime) -> Asset | None:
    """Return the series that a form makes; None where something is wrong, with that in the form."""
    if not form.is_valid() or form.written is None:
        return None
    columns = {name: form.cleaned_data[name] for name in ("symbol", "name", "currency")}
    given = {"owner_id": owner_id, "written": form.written, "now": now, "trace_id": new_trace_id()}
    try:
        return create_series(**columns, **given)
    except SeriesInvalid as error:
        form.note(error)
    except ValidationError as error:
        form.add_error(None, error) if not hasattr(error, "error_dict") else _note_columns(form, error)
    return None


def _note_columns(form: SeriesForm, error: ValidationError) -> None:
    for name, texts in error.message_dict.items():
        for text in texts:
            form.add_error(name if name in form.fields else None, text)


def _definition(series: DerivedSeries) -> tuple[Definition, list[Asset]]:
    """Return what a series is, with the assets of its legs in their order."""
    definition = Definition.of_document(series.document)
    by_id = {one.asset_id: one.asset for one in series.legs.select_related("asset__feed", "asset__latest")}
    return definition, [by_id[leg.asset_id] for leg in definition.legs]


def _formula(series: DerivedSeries) -> str:
    definition = Definition.of_document(series.document)
    symbols = {one.asset_id: one.asset.symbol for one in series.legs.all()}
    return formula_of(definition, [symbols[leg.asset_id] for leg in definition.legs], reader=active_reader())


def newest_of(asset: Asset, now: datetime) -> dict[str, Any]:
    """Return the newest price of an asset with its age, as pages show it."""
    if not hasattr(asset, "latest"):
        return {"price": "none yet", "age": ""}
    return {"price": show_number(asset.latest.price), "age": _age(asset.latest.at, now), "at": asset.latest.at}


def _age(at: datetime, now: datetime) -> str:
    return format_age(max(epoch_microseconds(now) - epoch_microseconds(at), 0))


def _leg_rows(definition: Definition, legs: Sequence[Asset], now: datetime) -> list[dict[str, Any]]:
    timeouts = timeouts_of({one.feed_id: None for one in legs if one.feed_id is not None})
    return [
        {
            "asset": one,
            "weight": show_number(leg.weight),
            "max_skew": format_duration(leg.max_skew),
            "timeout": format_duration(timeouts[one.feed_id]) if one.feed_id in timeouts else UNKNOWN,
            **newest_of(one, now),
        }
        for leg, one in zip(definition.legs, legs, strict=True)
    ]


def _next_quote(asset: Asset, legs: Sequence[Asset]) -> str:
    """Return when the next quote is expected, or what it waits for."""
    feeds: dict[int, Feed] = {one.feed.pk: one.feed for one in legs if one.feed is not None}
    without = [one.symbol for one in legs if not hasattr(one, "latest")]
    if without:
        return f"No quote comes before {' and '.join(without)} {'has' if len(without) == 1 else 'have'} a price."
    off = [one.symbol for one in legs if one.feed is not None and not one.feed.is_enabled]
    if off:
        return f"The feed of {off[0]} is disabled: no quotes come before it is enabled."
    seconds = max((one.interval_seconds for one in feeds.values()), default=0)
    return f"The next quote is expected within about {show_span(seconds)}, once the feeds of its legs have answered."


def _said_of_past(asset: Asset) -> str:
    """Return what a new series has, and what comes, for people."""
    past = past_of(asset.pk)
    if past.first_at is None or past.last_at is None:
        said = "It has no past yet, since its legs have no quotes close enough together."
    else:
        quotes = f"{show_number(past.count)} quote{'' if past.count == 1 else 's'}"
        said = f"Its past is filled: {quotes} "
        said += f"from {write_time(past.first_at, TO_MINUTES)} to {write_time(past.last_at, TO_MINUTES)}."
    legs = [one.asset for one in asset.series.legs.select_related("asset__feed", "asset__latest")]  # type: ignore[attr-defined]
    return f"{said} {_next_quote(asset, legs)}"


def _sentences(form: SeriesForm, request: HttpRequest) -> list[str]:
    """Return what a form would make, in words: what it computes, its value now, and what may surprise."""
    if form.definition is None or form.written is None:
        return []
    symbols = [leg.symbol for leg in form.written.legs]
    ids = [leg.asset_id for leg in form.definition.legs]
    prices = latest_prices(ids, now=timezone.now())
    said = [describe_series(form.definition, symbols, reader=active_reader())]
    if all(pk in prices for pk in ids):
        value = form.definition.value([price_units(prices[pk][1]) for pk in ids])
        if value is not None:
            said.append(f"Of the newest prices it is {show_number(round(value, 8))}.")
    if form.currencies and len(form.currencies) > 1 and form.definition.kind != "ratio":
        said.append(f"Its legs are in {' and '.join(form.currencies)}: nothing is converted.")
    if form.definition.signed:
        said.append("It may be 0 or less, so rules in percent do not apply to it.")
    return said


def chart_of(path: Sequence[PathPoint]) -> dict[str, Any] | None:
    """Return what panel/chart.js draws."""
    if not path:
        return None
    low, high = (
        [{"x": epoch_microseconds(one.at) // 1_000, "y": float(getattr(one, edge))} for one in path]
        for edge in ("low", "high")
    )
    return {"low": low, "high": high, "levels": [], "marks": [], "spots": [], "label": "value"}


def chart_text_of(path: Sequence[PathPoint]) -> str:
    """Return what a chart shows, for who cannot see it."""
    if not path:
        return ""
    lowest, highest = show_prices([min(one.low for one in path), max(one.high for one in path)])
    return (
        f"Value from {write_time(path[0].at, TO_MINUTES)} to {write_time(path[-1].at, TO_MINUTES)}: "
        f"lowest {lowest}, highest {highest}."
    )
