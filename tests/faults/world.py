"""The world of a fault: a recording drawn by the seed from the recorded market, rules on it, channels, and what the
oracle finds there."""

import csv
import gzip
import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

from apps.market.domain import slot_of
from apps.market.models import Asset, Feed
from apps.notify.models import Channel
from apps.notify.services import create_channel, set_channels
from apps.sources.services import create_feed
from tests import builders
from tests.pipeline import recorded

BEGIN = datetime(2023, 3, 10, tzinfo=UTC)
HISTORY_MINUTES = 20


@dataclass(frozen=True, slots=True)
class Size:
    """How much passes in one run. slots: seconds that the recording takes in peace; kills: how often a fault that may
    strike again does; in_flight: a fault is injected when more quotes and notifications than this are under way;
    has_visitor: somebody looks at the site meanwhile; outage_seconds: for
    how long a server is away."""

    feeds: int
    symbols: int
    minutes: int
    slots: int
    kills: int
    freeze_seconds: float
    heartbeat_seconds: int
    in_flight: int
    has_visitor: bool
    outage_seconds: float


# By the first, `make test` sees each fault once; by the second, `make faults` measures.
QUICK = Size(
    feeds=2,
    symbols=10,
    minutes=80,
    slots=4,
    kills=3,
    freeze_seconds=6,
    heartbeat_seconds=2,
    in_flight=20,
    has_visitor=False,
    outage_seconds=2,
)
FULL = Size(
    feeds=3,
    symbols=24,
    minutes=120,
    slots=25,
    kills=15,
    freeze_seconds=25,
    heartbeat_seconds=10,
    in_flight=50,
    has_visitor=True,
    outage_seconds=30,
)

Quote = tuple[str, datetime, Decimal]


@dataclass(frozen=True, slots=True)
class Recording:
    """What one feed shows: the symbols, and their quotes as (symbol, time, price)."""

    symbols: tuple[str, ...]
    rows: list[Quote]

    @property
    def start(self) -> datetime:
        """Return where its clock begins; what lies before is its past."""
        return BEGIN + timedelta(minutes=HISTORY_MINUTES)

    @property
    def end(self) -> datetime:
        """Return the time of its last quote."""
        return max(at for _, at, _ in self.rows)

    def expected_alerts(self) -> set[recorded.AlertKey]:
        """Return what the oracle finds in it."""
        return recorded.expected_alerts(self.rows, start=self.start.isoformat(), watched=self.symbols)

    def write(self, path: Path) -> None:
        """Write it as the replay provider reads it."""
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["time", "symbol", "price"])
            writer.writerows((at.isoformat(), symbol, price) for symbol, at, price in self.rows)


def draw_recordings(*, rng: random.Random, size: Size) -> list[Recording]:
    """Return a recording for each feed: every symbol has the recorded prices of another piece of the four days."""
    recordings = []
    for feed in range(size.feeds):
        symbols = tuple(f"F{feed}-{number:02}" for number in range(size.symbols // size.feeds))
        rows: list[Quote] = []
        for symbol in symbols:
            prices = _recorded_prices()[rng.choice(recorded.SYMBOLS)]
            first = rng.randrange(len(prices) - size.minutes)
            piece = prices[first : first + size.minutes]
            rows += [(symbol, BEGIN + timedelta(minutes=minute), price) for minute, price in enumerate(piece)]
        recordings.append(Recording(symbols=symbols, rows=rows))
    return recordings


@cache
def _recorded_prices() -> dict[str, list[Decimal]]:
    """Return symbol -> its recorded prices, minute by minute."""
    prices: dict[str, list[Decimal]] = {}
    with gzip.open(recorded.RECORDING, "rt", newline="") as file:
        for row in csv.DictReader(file):
            prices.setdefault(row["symbol"], []).append(Decimal(row["price"]))
    return prices


def make_world(
    recordings: list[Recording], *, size: Size, folder: Path, channels: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Feed], dict[str, Channel]]:
    """Return a feed for each recording, due now, with recorded.RULES on its assets, which notify these channels.

    channels: name -> config of a webhook; an empty one is an inbox.
    """
    owner = builders.make_owner()
    minutes_shown = size.minutes - HISTORY_MINUTES
    feeds = []
    for number, recording in enumerate(recordings):
        path = folder / f"recording-{number}.csv"
        recording.write(path)
        options = {"path": str(path), "start": recording.start.isoformat(), "speed": 60 * minutes_shown / size.slots}
        feed = create_feed(
            name=f"recording-{number}",
            interval_seconds=1,
            sources=[("recording", options)],
            now=slot_of(at=datetime.now(UTC), interval_seconds=1),
        )
        Asset.objects.bulk_create([Asset(symbol=symbol, feed=feed) for symbol in recording.symbols])
        feeds.append(feed)
    made = {
        name: create_channel(
            owner=owner,
            name=name,
            kind="webhook" if config else "inbox",
            config=config,
            group_wait_seconds=0,
            messages_per_minute=0,
        )
        for name, config in channels.items()
    }
    symbols = [symbol for recording in recordings for symbol in recording.symbols]
    for name, document in recorded.RULES.items():
        set_channels(
            rule=builders.make_rule(owner, name=name, assets=symbols, **document), channels=list(made.values())
        )
    return feeds, made
