"""A part of the recorded market, rules on it, and the alerts that the oracle finds there: the measure of a whole
run."""

import csv
import gzip
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from apps.alerts.models import Alert
from apps.market.domain import epoch_microseconds, from_epoch_microseconds, slot_of
from apps.market.models import Asset, Feed, FeedHead
from apps.notify.models import Channel, Notification
from apps.notify.services import create_channel, set_channels
from apps.sources.providers.recording import RECORDINGS
from apps.sources.services import create_feed
from tests import builders
from tests.rules import oracle

RECORDING = RECORDINGS / "usdc-depeg-2023-03.csv.gz"
SYMBOLS = ("BTC-USD", "BTC-USDC", "BTC-USDT")

RULES: dict[str, dict[str, Any]] = {
    "rises": {"condition": {"kind": "rises", "percent": "1", "window": "5m"}},
    "falls and stays": {
        "condition": {"kind": "falls", "percent": "1", "window": "5m", "recovery": "0.5"},
        "keep_firing": "2m",
    },
    "from the start": {"condition": {"kind": "rises", "percent": "0.5", "window": "15m", "ref": "window_start"}},
    "above its hour": {"condition": {"kind": "above_average", "percent": "1", "window": "1h"}, "for": "2m"},
    "below its hour": {"condition": {"kind": "below_average", "percent": "0", "window": "1h"}, "cooldown": "30m"},
    "once": {"condition": {"kind": "above", "level": "21000"}, "trigger": "once"},
    "above": {"condition": {"kind": "above", "level": "21000", "recovery": "20800"}},
}

AlertKey = tuple[str, str, datetime, datetime | None]


def write_recording(path: Path, *, begin: str, end: str) -> list[tuple[str, datetime, Decimal]]:
    """Write the recording's rows with begin <= time < end to `path`, and return them as (symbol, time, price)."""
    with gzip.open(RECORDING, "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if begin <= row["time"] < end]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=["time", "symbol", "price", "volume"])
        writer.writeheader()
        writer.writerows(rows)
    return [(row["symbol"], datetime.fromisoformat(row["time"]), Decimal(row["price"])) for row in rows]


def make_world(
    recording: Path, *, start: str, speed: int, channels: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Feed, list[Channel]]:
    """Return a feed that replays the recording from `start`, due now, with the rules above on all its assets and their
    channels.

    channels: kind -> config; by default one inbox.
    """
    owner = builders.make_owner()
    options = {"path": str(recording), "start": start, "speed": speed}
    feed = create_feed(
        name="recording",
        interval_seconds=1,
        sources=[("recording", options)],
        now=slot_of(at=datetime.now(UTC), interval_seconds=1),
    )
    for symbol in SYMBOLS:
        Asset.objects.create(symbol=symbol, feed=feed)
    made = [
        create_channel(owner=owner, name=kind, kind=kind, config=config)
        for kind, config in (channels or {"inbox": {}}).items()
    ]
    for name, document in RULES.items():
        rule = builders.make_rule(owner, name=name, assets=list(SYMBOLS), **document)
        set_channels(rule=rule, channels=made)
    return feed, made


def expected_alerts(
    rows: list[tuple[str, datetime, Decimal]], *, start: str, watched: Sequence[str] = SYMBOLS
) -> set[AlertKey]:
    """Return (rule, symbol, opened, resolved) of every alert that the oracle finds in the recording."""
    asset_ids = {symbol: number for number, symbol in enumerate(watched, start=1)}
    begin = datetime.fromisoformat(start)
    quotes = sorted((at, asset_ids[symbol], int(price * 10**18)) for symbol, at, price in rows)
    past = tuple((asset, epoch_microseconds(at), price) for at, asset, price in quotes if at < begin)
    recording = tuple((asset, epoch_microseconds(at), price) for at, asset, price in quotes if at >= begin)
    changes = tuple(
        oracle.Change(rule_id, rule_id, document, tuple(asset_ids.values()))
        for rule_id, document in enumerate(RULES.values(), start=1)
    )
    log = [
        oracle.RulesEntry(1, 0, changes),
        oracle.HistoryEntry(2, 0, past),
        oracle.QuotesEntry(3, recording[-1][1], recording),
    ]
    names, symbols = dict(enumerate(RULES, start=1)), dict(enumerate(watched, start=1))
    episodes: dict[tuple[int, int], list[list[int | None]]] = {}
    for step in oracle.expected_transitions(log):
        of_instance = episodes.setdefault((step.rule_id, step.asset_id), [])
        is_open, was_open = step.to_state in ("firing", "recovering"), step.from_state in ("firing", "recovering")
        if is_open and not was_open and not step.suppressed:
            of_instance.append([step.moment, None])
        if was_open and not is_open and not step.suppressed:
            of_instance[-1][1] = step.moment
    return {
        (
            names[rule_id],
            symbols[asset_id],
            from_epoch_microseconds(opened),
            resolved and from_epoch_microseconds(resolved),
        )
        for (rule_id, asset_id), pairs in episodes.items()
        for opened, resolved in pairs
        if opened is not None
    }


def actual_alerts() -> set[AlertKey]:
    """Return the same of every alert on record."""
    rows = Alert.objects.values_list("rule__name", "asset__symbol", "opened_at", "resolved_at")
    return set(rows)


def is_over(feed: Feed, *, end: datetime) -> bool:
    """The recording has been stored and evaluated to its end, and every notification has been sent."""
    head = FeedHead.objects.select_related("feed__evaluation_cursor").get(feed=feed)
    is_evaluated = head.as_of is not None and head.as_of >= end and head.feed.evaluation_cursor.seq == head.seq
    return is_evaluated and not Notification.objects.exclude(message__status="delivered").exists()
