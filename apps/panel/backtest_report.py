"""What a backtest found, as pages show it: charts, thresholds, counts."""

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from apps.backtests.simulation import THRESHOLDS
from apps.market.domain import epoch_microseconds
from apps.market.queries import price_path
from apps.panel.kit.pages import Chart
from apps.reader import show_day, show_number, zone_name
from apps.rules.engine.conditions import leaves_of
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid


@dataclass(frozen=True, slots=True)
class Bars:
    """Counts drawn by panel/chart.js; `empty` is said where there are none. name: of what is counted."""

    title: str
    name: str
    labels: list[str]
    values: list[int]
    empty: str

    def data(self) -> dict[str, Any]:
        """Return what is drawn, for JSON."""
        return {"name": self.name, "labels": self.labels, "values": self.values}

    def describe(self) -> str:
        """Return what it shows, for who cannot see it."""
        pairs = zip(self.labels, self.values, strict=True)
        return f"{self.title}: {', '.join(f'{label}: {value}' for label, value in pairs)}."


@dataclass(frozen=True, slots=True)
class TriedChart(Chart):
    """Prices with the episodes of a backtest on them. episodes: (opened, its price, resolved or None)."""

    episodes: list[tuple[datetime, float, datetime | None]] = field(default_factory=list)

    def data(self) -> dict[str, Any]:
        """Return what is drawn, for JSON. A resolution stands at the price that was in force."""
        times = [one.at for one in self.path]
        opened = [{"x": _milliseconds(at), "y": price} for at, price, _ in self.episodes]
        resolved = [
            {"x": _milliseconds(at), "y": float(self.path[max(bisect_right(times, at) - 1, 0)].low)}
            for _, _, at in self.episodes
            if at is not None
        ]
        spots = [
            {"name": "opened", "role": "mark", "points": opened},
            {"name": "resolved", "role": "calm", "points": resolved},
        ]
        return Chart.data(self) | {"spots": [spot for spot in spots if spot["points"]]}


def chart_of_report(report: dict[str, Any], *, asset_id: int, symbol: str) -> TriedChart:
    """Return the prices of an asset over the range of a report, with what would have opened on it."""
    since, until = (datetime.fromisoformat(report[name]) for name in ("since", "until"))
    episodes = [
        (
            datetime.fromisoformat(one["opened_at"]),
            float(one["price"]),
            None if one["resolved_at"] is None else datetime.fromisoformat(one["resolved_at"]),
        )
        for one in report["openings"]
        if one["asset"] == symbol
    ]
    return TriedChart(
        title=f"{symbol} with what would have opened ({zone_name()})",
        path=price_path(asset_id, since=since, until=until),
        empty=f"No prices of {symbol} are kept of that while.",
        episodes=episodes,
    )


def _threshold_of(document: Any) -> tuple[Decimal | None, str]:
    """Return the threshold that a sweep changes, as the rule has it, and its unit."""
    try:
        leaves = list(leaves_of(RuleSpec.read(document).condition))
    except RuleInvalid:
        return None, ""
    for leaf in leaves:
        for name in THRESHOLDS:
            if getattr(leaf, name, None) is not None:
                return getattr(leaf, name), {"percent": " %", "n": " deviations"}.get(name, "")
    return None, ""


def threshold_text(document: Any, threshold: str) -> str:
    """Return a threshold of a sweep: "at 10 %, as it was tried"."""
    own, unit = _threshold_of(document)
    as_it_is = ", as it was tried" if own == Decimal(threshold) else ""
    return f"at {show_number(threshold)}{unit}{as_it_is}"


def bars_of(report: dict[str, Any], document: Any) -> list[Bars]:
    """Return the openings per day, and those at other thresholds."""
    days, sweep = report["openings_per_day"], report["sweep"]
    bars = [
        Bars(
            title="Openings per day (UTC)",
            name="openings",
            labels=[show_day(date.fromisoformat(day)) for day in days],
            values=list(days.values()),
            empty="No day has an opening.",
        )
    ]
    if sweep:
        bars.append(
            Bars(
                title="How many it would have opened at other thresholds",
                name="openings",
                labels=[f"{show_number(one['threshold'])}{_threshold_of(document)[1]}" for one in sweep],
                values=[one["openings"] for one in sweep],
                empty="",
            )
        )
    return bars


def _milliseconds(at: datetime) -> int:
    return epoch_microseconds(at) // 1_000


def counted(count: int, noun: str) -> str:
    """Return "1 alert", "2 alerts"."""
    return f"{show_number(count)} {noun}{'' if count == 1 else 's'}"


def span_text(seconds: float) -> str:
    """Return a length of time in its two largest units."""
    left, said = round(seconds), []
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count:
            said.append(f"{count} {unit}")
    return " ".join(said[:2]) or "0 s"
