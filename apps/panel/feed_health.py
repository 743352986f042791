"""A feed at a glance: each of its sources, what became of its quotes in the last day, where its provider changed."""

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from apps.api.tokens.queries import tokens_seen_by
from apps.market import queries
from apps.market.models import Asset, Feed, ProviderSwitch, UnconfirmedQuote
from apps.panel.kit.pages import ROWS_SHOWN, Table, page_link
from apps.panel.splits import split_link
from apps.reader import in_zone, show_number, show_prices, write_time
from apps.sources import queries as sources_queries
from apps.sources.models import Circuit, FeedSource
from apps.sources.providers.failures import hint_on
from apps.sources.providers.registry import PROVIDERS

SWITCHES_SHOWN = 10
NAMES_SHOWN = 5
UNCONFIRMED_SHOWN = 20
SPARK_WIDTH, SPARK_HEIGHT = 120, 20


def sources_table(feed: Feed, *, now: datetime) -> Table:
    """Return who is asked, in their order, and how each of them is."""
    sources = list(feed.sources.all())
    circuits = sources_queries.circuits_of(sources)
    left_out = sources_queries.left_out_of(feed)
    symbols = dict(Asset.objects.filter(pk__in=[one[2] for one in left_out]).values_list("pk", "symbol"))
    rows = []
    for source in sources:
        names = [
            f"{symbols[asset_id]} ({name} is in {currency})"
            for slug, name, asset_id, currency in left_out
            if slug == source.provider
        ]
        circuit = circuits.get((source.provider, sources_queries.address_of(source)))
        rows.append(
            [
                source.position,
                source.provider,
                describe_circuit(circuit, now=now),
                _describe_budget(source, now=now),
                _describe_key(source),
                _describe_same_answers(source),
                f"{', '.join(names[:NAMES_SHOWN])}{', …' if names[NAMES_SHOWN:] else ''}" if names else "",
            ]
        )
    return Table(
        title="Sources, asked in this order",
        headers=[
            "",
            "provider",
            "how it is",
            "calls left today",
            "key",
            "answers that say the same",
            "not asked for, being in another currency",
        ],
        rows=rows,
        empty="No source yet: nobody is asked.",
    )


def describe_circuit(circuit: Circuit | None, *, now: datetime) -> str:
    """Return whether a provider is asked, and what it failed by last."""
    if circuit is None or (not circuit.failures and circuit.open_until is None):
        said = "no failures lately"
    elif circuit.open_until is not None and circuit.open_until > now:
        said = f"left alone until {write_time(circuit.open_until)}: {circuit.reason}"
        return f"{said}, {_in_a_row(circuit)}"
    elif circuit.open_until is not None:
        said = f"on trial after {_in_a_row(circuit)}"
    else:
        said = _in_a_row(circuit)
    if circuit is not None and circuit.failed_at is not None:
        said += f"; the last was {circuit.reason} on {write_time(circuit.failed_at)}"
    return said


def _in_a_row(circuit: Circuit) -> str:
    return "1 failure" if circuit.failures == 1 else f"{circuit.failures} failures in a row"


def _describe_budget(source: FeedSource, *, now: datetime) -> str:
    budget = sources_queries.budget_of(source.provider, now=now)
    return "no daily limit" if budget is None else f"about {budget.left} of {budget.allowed}"


def _describe_same_answers(source: FeedSource) -> str:
    provider = PROVIDERS.get(source.provider)
    if provider is None or not provider.is_live:
        return ""
    same = queries.same_answers(source.feed_id, provider=source.provider)
    if same.since is None:
        return "no answer lately"
    return f"{same.count} in a row, since {write_time(same.since)}"


def _describe_key(source: FeedSource) -> str:
    provider = PROVIDERS.get(source.provider)
    if provider is None or provider.key_variable is None:
        return "needs none"
    if os.environ.get(provider.key_variable, "").strip():
        return f"{provider.key_variable} is set"
    return f"{provider.key_variable} is missing" if provider.needs_key else f"works without {provider.key_variable}"


def refused_table(request: HttpRequest, assets: Iterable[Asset], *, title: str) -> Table | None:
    """Return the listings of these assets that a source of their feed refuses; None where there are none."""
    assets = list(assets)
    refused = sources_queries.refused_listings_of([asset.pk for asset in assets])
    rows = [
        [
            page_link(request, asset, asset.symbol),
            one.provider,
            one.external_id,
            describe_reason(one.reason),
            one.since,
            one.next_ask_at,
        ]
        for asset in assets
        for one in refused[asset.pk]
    ]
    if not rows:
        return None
    return Table(
        title=f"{title} (at most {ROWS_SHOWN})",
        headers=["asset", "provider", "name there", "why", in_zone("since"), in_zone("asked for again at")],
        rows=rows[:ROWS_SHOWN],
        empty="",
    )


def describe_reason(reason: str) -> str:
    """Return why a name is refused: the code, and what it means."""
    hint = hint_on(reason, key_variables=())
    return f"{reason}: {hint}" if hint else reason


def counts_table(feed: Feed, *, now: datetime) -> Table:
    """Return what became of the quotes of the last day, hour by hour."""
    counts = queries.hourly_counts(feed.pk, now=now)
    shown = {name: hours for name, hours in counts.items() if name in ("accepted", "late") or any(hours)}
    return Table(
        title=f"Quotes of the last {queries.HOURS_SHOWN} hours",
        headers=["what became of them", "in all", f"by the hour, from {queries.HOURS_SHOWN} hours ago to now"],
        rows=[
            [
                name if name in ("accepted", "late", "repeated", "unconfirmed") else f"rejected: {name}",
                show_number(sum(hours)),
                sparkline(hours, text=f"{name} by the hour: {', '.join(map(str, hours))}"),
            ]
            for name, hours in shown.items()
        ],
        empty="",
    )


def sparkline(values: Sequence[int], *, text: str) -> SafeString:
    """Return bars, each as high as its value against the highest; text: for screen readers."""
    highest = max([*values, 1])
    step = SPARK_WIDTH / len(values)
    bars = []
    for index, value in enumerate(values):
        # What is there is seen, however little it is.
        height = max(round(SPARK_HEIGHT * value / highest), 1) if value else 0
        bars.append((f"{index * step:.1f}", SPARK_HEIGHT - height, f"{step - 1:.1f}", height))
    return format_html(
        '<svg class="text-primary-600 dark:text-primary-500" role="img" aria-label="{}" width="{}" height="{}" '
        'viewBox="0 0 {} {}" fill="currentColor"><title>{}</title>'
        '<rect y="{}" width="{}" height="1" opacity="0.3"></rect>{}</svg>',
        text,
        SPARK_WIDTH,
        SPARK_HEIGHT,
        SPARK_WIDTH,
        SPARK_HEIGHT,
        text,
        SPARK_HEIGHT - 1,
        SPARK_WIDTH,
        format_html_join("", '<rect x="{}" y="{}" width="{}" height="{}"></rect>', bars),
    )


def senders_table(request: HttpRequest, feed: Feed, *, now: datetime) -> Table | None:
    """Return whose clock was ahead in the last day, and by how much; None where nobody's was."""
    clocks = sources_queries.senders_ahead(feed, now=now)
    if not clocks:
        return None
    tokens = {f"token:{one.pk}": f"token {one} of {one.owner}" for one in tokens_seen_by(request.user)}
    return Table(
        title=f"Senders whose clock is ahead (at most {ROWS_SHOWN})",
        headers=[
            *("sender", "ahead by, and set back", in_zone("last quote ahead")),
            *("ahead by, and refused", in_zone("last quote refused")),
        ],
        rows=[
            [
                tokens.get(one.sender) or describe_sender(one.sender),
                f"{one.skew_seconds} s" if one.skew_seconds else "",
                one.ahead_at,
                "" if one.refused_seconds is None else f"{one.refused_seconds} s",
                one.refused_at,
            ]
            for one in clocks[:ROWS_SHOWN]
        ],
        empty="",
    )


def describe_sender(sender: str) -> str:
    """Return who pushes, by its code."""
    kind, _, name = sender.partition(":")
    if kind == "queue":
        return f"queue, user {name}" if name else "queue, no user named"
    return f"{kind} {name}"


def switches_table(request: HttpRequest, feed: Feed) -> Table:
    """Return the entries since which quotes come from another provider."""
    entries = queries.last_switches(feed.pk, limit=SWITCHES_SHOWN)
    wanted = {pk for one in entries for asset_ids in one.switched.values() for pk in asset_ids[:NAMES_SHOWN]}
    symbols = dict(Asset.objects.filter(pk__in=wanted).values_list("pk", "symbol"))
    switches = ProviderSwitch.objects.filter(entry__in=entries, asset__in=wanted)
    factors = {(entry_id, pk): factor for entry_id, pk, factor in switches.values_list("entry", "asset", "factor")}

    def named(entry_id: int, pk: int) -> str:
        symbol, factor = symbols.get(pk, str(pk)), factors.get((entry_id, pk), 1)
        return symbol if factor == 1 else f"{symbol} × {show_number(f'{factor:.3g}')}"

    rows: list[list[Any]] = []
    for entry in entries:
        for before, asset_ids in entry.switched.items():
            names = ", ".join(named(entry.pk, pk) for pk in asset_ids[:NAMES_SHOWN])
            more = len(asset_ids) - NAMES_SHOWN
            rows.append(
                [
                    page_link(request, entry, f"#{entry.seq}"),
                    entry.received_at,
                    before,
                    entry.provider,
                    f"{names} and {more} more" if more > 0 else names,
                ]
            )
    return Table(
        title=f"Changes of provider (at most {SWITCHES_SHOWN} entries)",
        headers=["entry", in_zone("received"), "before", "since then", "assets, with a factor that is not 1"],
        rows=rows,
        empty="No provider changes.",
    )


def unconfirmed_table(request: HttpRequest, feed: Feed) -> Table | None:
    """Return the prices that wait for the next to confirm them; None where there are none."""
    unconfirmed = (
        UnconfirmedQuote.objects.filter(asset__feed=feed)
        .select_related("asset", "asset__latest")
        .order_by("asset__symbol")
    )
    rows = [
        [
            *(one.asset.symbol, one.at, *show_prices([one.price, one.asset.latest.price]), one.provider),
            split_link(request, one.asset_id, at=one.at, before=one.asset.latest.price, after=one.price),
        ]
        for one in unconfirmed[:UNCONFIRMED_SHOWN]
    ]
    if not rows:
        return None
    return Table(
        title="Prices that jumped, and wait for the next to confirm them",
        headers=["asset", in_zone("at"), "price", "last accepted", "provider", ""],
        rows=rows,
        empty="",
    )
