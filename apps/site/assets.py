"""The page of one asset: its price and chart, and the reader's rules and alerts on it."""

import csv
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.staticfiles import finders
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.alerts.domain import levels
from apps.alerts.models import Alert
from apps.alerts.queries import alerts_of, states_watching, written_for
from apps.health.queries import asset_healths
from apps.health.wording import written_for as health_written_for
from apps.market import calendars
from apps.market.domain import epoch_microseconds
from apps.market.models import Asset
from apps.market.queries import (
    MANUAL_FEED,
    Bar,
    HeldPrice,
    assets_known_as,
    bars_of,
    clock_of,
    held_prices,
    newest_quotes_between,
    price_known_since,
    sparklines,
    variations_over,
    variations_since_close,
    watched_ids,
    width_of,
)
from apps.reader import TO_MINUTES, active_reader, show_number, show_prices, write_time
from apps.replica import from_replica
from apps.rules.domain import describe_rule, describe_state_reason
from apps.rules.engine.conditions import levels_of
from apps.rules.engine.instance import INACTIVE
from apps.rules.engine.rule import RuleSpec
from apps.rules.models import RuleState
from apps.rules.queries import specs_of
from apps.site.market import address_of, in_market, movement
from apps.wording import as_cell, decimals_of, format_age, format_plain

# Name in the address -> how far back by the feed's clock; None: as far as anything is stored.
PERIODS = {
    "day": timedelta(days=1),
    "week": timedelta(days=7),
    "month": timedelta(days=30),
    "year": timedelta(days=365),
    "all": None,
}
SPANS = {"1 hour": timedelta(hours=1), "24 hours": timedelta(hours=24), "7 days": timedelta(days=7)}
RULES_SHOWN, ALERTS_SHOWN, MARKS_MOST, LEVELS_MOST = 50, 10, 100, 12
QUOTES_GIVEN, ALERTS_GIVEN = 50_000, 10_000
CHART_FILE = "npm/lightweight-charts/lightweight-charts.standalone.production.js"


@never_cache
@require_safe
@in_market
def asset_page(request: HttpRequest, name: str) -> HttpResponse:
    """Show an asset. By an alias or in small letters it leads to the asset's own address."""
    asset = _asset_of(request, name)
    if name != asset.external_id:
        query = f"?{request.GET.urlencode()}" if request.GET else ""
        return HttpResponseRedirect(address_of(asset) + query)
    return render(request, "site/asset.html", _context(request, asset))


@never_cache
@require_safe
@in_market
def asset_live(request: HttpRequest, name: str) -> HttpResponse:
    """Return the parts of the page that move; live.js puts them in the place of the older ones."""
    return render(request, "site/asset_live.html", _context(request, _asset_of(request, name)))


@never_cache
@require_safe
@in_market
def asset_quotes(request: HttpRequest, name: str) -> HttpResponse:
    """Give the quotes of the period as CSV, which imports and backtests read; of too many the newest."""
    asset = _asset_of(request, name)
    since, until = _period_of(asset, _chosen(request))
    rows = []
    if since and until:
        read = partial(newest_quotes_between, asset.pk, since=since, until=until, limit=QUOTES_GIVEN)
        rows = from_replica(read)
    given = (
        (f"{at.isoformat()}", asset.symbol, format_plain(price), "" if volume is None else format_plain(volume))
        for at, price, volume in rows
    )
    return _csv(f"quotes-{asset.external_id}", ("time", "symbol", "price", "volume"), given)


@never_cache
@require_safe
@login_required
def asset_alerts(request: HttpRequest, name: str) -> HttpResponse:
    """Give the reader's alerts on the asset as CSV, newest first."""
    asset = _asset_of(request, name)
    given = (
        (
            one.opened_at.isoformat(),
            one.resolved_at.isoformat() if one.resolved_at else "",
            *(one.severity, one.state, as_cell(one.rule_name), as_cell(one.summary), as_cell(one.note)),
        )
        for one in alerts_of(request.user).filter(asset=asset)[:ALERTS_GIVEN]
    )
    head = ("opened_at", "resolved_at", "severity", "state", "rule", "summary", "note")
    return _csv(f"alerts-{asset.external_id}", head, given)


def _asset_of(request: HttpRequest, name: str) -> Asset:
    """Return the asset of this name. A foreign one and none are the same."""
    known = assets_known_as(dict.fromkeys((name, name.upper())), reader=request.user)
    asset = known.get(name) or known.get(name.upper())
    if asset is None:
        raise Http404
    return asset


def _chosen(request: HttpRequest) -> str:
    chosen = request.GET.get("period", "day")
    return chosen if chosen in PERIODS else "day"


def _period_of(asset: Asset, chosen: str) -> tuple[datetime | None, datetime | None]:
    """Return from when to when the chart goes: not from before the first price. (None, None): there is no price."""
    until = clock_of(asset)
    first = price_known_since(asset.pk) if until is not None else None
    if until is None or first is None:
        return None, None
    length = PERIODS[chosen]
    return first if length is None else max(first, until - length), until


def _begins_late(chosen: str, since: datetime | None, until: datetime | None) -> bool:
    """Tell whether no prices are stored from the beginning of the period."""
    length = PERIODS[chosen]
    return bool(length is not None and since and until and since > until - length)


def _csv(name: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> HttpResponse:
    answer = HttpResponse(content_type="text/csv; charset=utf-8")
    safe = "".join(one if one.isalnum() or one in "-._" else "-" for one in name)
    answer["Content-Disposition"] = f'attachment; filename="{safe}.csv"'
    csv.writer(answer).writerows([head, *rows])
    return answer


def _context(request: HttpRequest, asset: Asset) -> dict[str, Any]:
    now = timezone.now()
    chosen = _chosen(request)
    since, until = _period_of(asset, chosen)
    held, decimals = held_prices([asset.pk]).get(asset.pk), sparklines([asset.pk])[asset.pk].decimals
    states = list(states_watching(request.user, asset_id=asset.pk)[:RULES_SHOWN])
    specs = specs_of({one.version_id for one in states})
    alerts = list(alerts_of(request.user).filter(asset=asset)[:MARKS_MOST])
    other_name = request.GET.get("with", "").strip()[:64]
    other = _other(request, other_name, asset)
    bars, other_bars = _bars(asset, since, until), _bars(other, since, until) if other is not None else []
    query = {"period": chosen} | ({"with": other_name} if other_name else {})
    return {
        "title": f"{asset.symbol} · {asset.name}" if asset.name else asset.symbol,
        "asset": asset,
        "is_manual": asset.owner_id is not None and asset.feed is not None and asset.feed.name.startswith(MANUAL_FEED),
        "address": address_of(asset),
        "query": urlencode(query),
        "now": now,
        "price": show_number(held.price, decimals=decimals) if held else None,
        "held": held,
        "age": _age(asset, held, now),
        "health": health_written_for(asset_healths([asset.pk], now=now)[asset.pk], reader=active_reader()),
        "trading": calendars.describe(asset.calendar, now) if asset.calendar else "",
        "changes": _changes(asset, held),
        "periods": [(name, urlencode(query | {"period": name}), name == chosen) for name in PERIODS],
        "period": chosen,
        "since": since,
        "begins_late": _begins_late(chosen, since, until),
        "other_name": other_name,
        "other": other,
        "no_such_asset": bool(other_name) and other is None,
        "other_is_empty": other is not None and bool(bars) and not other_bars,
        "chart": _chart(bars, other_bars, other, _levels(bars, states, specs, alerts), alerts, decimals)
        if bars
        else None,
        "chart_text": _chart_text(asset, bars),
        "has_candles": finders.find(CHART_FILE) is not None,
        "chart_file": CHART_FILE,
        "rules": [_rule(one, specs[one.version_id]) for one in states],
        "alerts": written_for(alerts[:ALERTS_SHOWN], reader=active_reader()),
        "more_alerts": len(alerts) > ALERTS_SHOWN,
        "is_watched": asset.pk in watched_ids(request.user),
        "new_rule": _new_rule(request, asset),
        "is_public": settings.MARKET_IS_PUBLIC,
    }


def _other(request: HttpRequest, name: str, asset: Asset) -> Asset | None:
    """Return the asset to compare with; None where there is no such one."""
    if not name:
        return None
    known = assets_known_as(dict.fromkeys((name, name.upper())), reader=request.user)
    other = known.get(name) or known.get(name.upper())
    return None if other is None or other.pk == asset.pk else other


def _bars(asset: Asset, since: datetime | None, until: datetime | None) -> list[Bar]:
    if since is None or until is None:
        return []
    return from_replica(partial(bars_of, asset.pk, since=since, until=until, width=width_of(until - since)))


def _age(asset: Asset, held: HeldPrice | None, now: datetime) -> str:
    """Return how old the newest price is by the clock of its feed: this machine's, or a recording's own."""
    if held is None:
        return ""
    clock = now if asset.feed is not None and asset.feed.is_live else clock_of(asset)
    return format_age(max(epoch_microseconds(clock or now) - epoch_microseconds(held.at), 0))


def _changes(asset: Asset, held: HeldPrice | None) -> list[tuple[str, Any]]:
    """Return (since when, movement) of the newest price; nothing of a signed asset, of which there is no percent."""
    if held is None or asset.signed:
        return []
    latest = {asset.pk: held.price}
    found = [(name, variations_over(latest, back=back).get(asset.pk)) for name, back in SPANS.items()]
    closed = "the last close" if asset.calendar else "midnight (UTC)"
    found.append((f"since {closed}", variations_since_close(latest).get(asset.pk)))
    return [(name, movement(percent)) for name, percent in found]


def _levels(
    bars: Sequence[Bar],
    states: Sequence[RuleState],
    specs: dict[int, Any],
    alerts: Sequence[Alert],
) -> list[tuple[str, Decimal]]:
    """Return (name, price) of what the reader's rules compare with, and of what their open alerts were compared with,
    where that is near the prices: a level far off would press these into a line."""
    if not bars:
        return []
    named: dict[Decimal, str] = {}
    for state in states:
        spec = specs[state.version_id]
        for level in levels_of(spec.condition) if isinstance(spec, RuleSpec) else ():
            named.setdefault(level, state.rule.name)
    for alert in alerts:
        for name, level in levels(alert.evidence) if alert.resolved_at is None else ():
            named.setdefault(level, f"{alert.rule_name}: {name}")
    lowest, highest = min(one.low for one in bars), max(one.high for one in bars)
    reach = 2 * max(highest - lowest, abs(highest) / 100)
    near = [(name, level) for level, name in named.items() if lowest - reach <= level <= highest + reach]
    return near[:LEVELS_MOST]


def _chart(
    bars: Sequence[Bar],
    other_bars: Sequence[Bar],
    other: Asset | None,
    near: Sequence[tuple[str, Decimal]],
    alerts: Sequence[Alert],
    decimals: int,
) -> dict[str, Any]:
    """Return what asset_chart.js draws: seconds since 1970 and floats. Nothing is evaluated by these."""
    first = bars[0].at
    return {
        "decimals": max(decimals, decimals_of([bars[-1].close])),
        "bars": [
            [
                *(_seconds(one.at), *map(float, one[1:5])),
                None if one.volume is None else float(one.volume),
            ]
            for one in bars
        ],
        "other": {
            "name": other.symbol,
            "points": [[_seconds(one.at), float(one.close)] for one in other_bars],
        }
        if other is not None and other_bars
        else None,
        "levels": [{"name": name, "price": float(price)} for name, price in near],
        "marks": [
            {"name": one.rule_name, "severity": one.severity, "at": _seconds(one.opened_at)}
            for one in reversed(alerts)
            if one.opened_at >= first
        ],
    }


def _seconds(at: datetime) -> int:
    return epoch_microseconds(at) // 1_000_000


def _chart_text(asset: Asset, bars: Sequence[Bar]) -> str:
    """Return what the chart shows, for who cannot see it."""
    if not bars:
        return ""
    prices = (min(one.low for one in bars), max(one.high for one in bars), bars[-1].close)
    lowest, highest, last = show_prices(prices)
    return (
        f"{asset.symbol}: {len(bars)} candles from {write_time(bars[0].at, TO_MINUTES)} to "
        f"{write_time(bars[-1].at, TO_MINUTES)}, "
        f"lowest {lowest}, highest {highest}, last {last}."
    )


def _rule(state: RuleState, spec: Any) -> dict[str, Any]:
    return {
        "rule": state.rule,
        "text": describe_rule(spec, reader=active_reader()) if isinstance(spec, RuleSpec) else "cannot be read",
        "state": state.state,
        # As the list of rules calls it: an inactive state is no rule that is off.
        "label": "quiet" if state.state == INACTIVE else state.state,
        "since": state.since,
        "why": describe_state_reason(unknown=state.unknown, reason=state.reason, detail=state.detail),
    }


def _new_rule(request: HttpRequest, asset: Asset) -> str:
    """Return the address of the form of a new rule on this asset; "" where the reader may not make one."""
    user = request.user
    if not (getattr(user, "is_staff", False) and user.has_perm("rules.add_rule")):
        return ""
    known = {"asset": asset.symbol, "name": f"Alert on {asset.symbol}"}
    return f"{reverse('admin:rules_rule_add')}?{urlencode(known)}"
