"""A rule tried on the past: on a file of quotes, without a database, or on what is stored."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

from apps.backtests.simulation import QUOTES_AT_ONCE, Backtest, Outcome, variants
from apps.market import queries as market
from apps.market.domain import AdmittedQuote, PathItem, epoch_microseconds, in_runs, price_units
from apps.market.placing import place
from apps.market.quote_files import FileRow, LeftOut, in_order, rows_of
from apps.rules.domain import describe_evidence, describe_rule
from apps.rules.engine.conditions import why_unfit
from apps.rules.engine.entries import EvaluatedQuote
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.windows import WindowKey, reach_of
from apps.rules.engine.written import RuleInvalid, write_moment

# Takes the part that is done, from 0 to 1; what it raises stops the run.
Progress = Callable[[float], None]
ROWS_BETWEEN_PROGRESS = 50_000
# Each takes about 1 kB while the backtest lasts, and a rule that opens so often says nothing.
OPENINGS_AT_MOST = 200_000


class OpensTooOften(Exception):
    """The rule and its variants open more often than can be held in memory: more than `at_most` times in all."""

    def __init__(self, at_most: int) -> None:
        super().__init__(at_most)
        self.at_most = at_most


@dataclass(slots=True)
class FileQuotes:
    """The quotes of a file, by time. symbols: asset id -> symbol; quotes: those of watched assets; rejected: by reason;
    left_out: the rows that give no quote."""

    symbols: list[str] = field(default_factory=list)
    quotes: list[EvaluatedQuote] = field(default_factory=list)
    accepted: int = 0
    repeated: int = 0
    unconfirmed: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    left_out: LeftOut = field(default_factory=LeftOut)


def read_quotes(
    path: Path,
    *,
    watched: Sequence[str],
    jump_percent: int,
    now: datetime,
    progress: Callable[[int], None],
    skip_invalid: bool = False,
    signed: bool = False,
) -> FileQuotes:
    """Return the quotes of a file; every row is admitted and placed as a provider's quote would be, of `watched`
    symbols (none: all) the quotes are kept.

    They are in order of time, equal times set apart. A price that jumps waits for the next one, as in a feed. now: what
    is ahead of it is no quote; progress: takes the rows read so far; skip_invalid: rows that cannot be read are left
    out; signed: their prices may be 0 or less. Raises QuoteFileInvalid.
    """
    read = FileQuotes()

    def counted(rows: Iterable[FileRow]) -> Iterator[FileRow]:
        for count, row in enumerate(rows, start=1):
            if count % ROWS_BETWEEN_PROGRESS == 0:
                progress(count)
            yield row

    in_file = rows_of(path, now=now, skip_invalid=skip_invalid, is_signed=lambda symbol: signed)
    rows = in_order(list(read.left_out.quotes_of(counted(in_file))))
    ids = {symbol: number for number, symbol in enumerate(dict.fromkeys(row.external_id for row in rows))}
    admitted = in_runs([AdmittedQuote(ids[symbol], at, price) for symbol, price, at, _ in rows])
    # The whole file is one answer, and nothing is stored before it.
    placement = place(
        admitted.quotes,
        newest={},
        unconfirmed={},
        provider="",
        jump_percent=jump_percent,
        stored_prices=lambda behind: {},
        signed=ids.values() if signed else (),
    )
    read.symbols = list(ids)
    kept = {asset_id for symbol, asset_id in ids.items() if not watched or symbol in watched}
    read.quotes = [
        (asset_id, epoch_microseconds(at), price_units(price))
        for asset_id, at, price, _, _ in placement.fresh
        if asset_id in kept
    ]
    read.accepted = len(placement.fresh)
    read.repeated = admitted.repeated + placement.repeated
    read.unconfirmed = placement.newly_unconfirmed
    read.rejected = placement.rejected
    return read


def try_on_file(
    spec: RuleSpec,
    path: Path,
    *,
    sweep: bool,
    jump_percent: int,
    now: datetime,
    progress: Callable[[int], None],
    calendar: str = "",
    skip_invalid: bool = False,
    signed: bool = False,
) -> dict[str, Any]:
    """Return what the rule would have done on the quotes of a file, as plain data. Raises QuoteFileInvalid, and
    RuleInvalid for a rule that does not apply to prices that are signed, or are not.

    jump_percent: as a feed has it; calendar: that of all its symbols, "" where they are always open.
    A rule that chooses by tag or feed watches every symbol of the file. now, skip_invalid, signed: as for
    `read_quotes`.
    """
    why = why_unfit(spec.condition, signed=signed)
    if why is not None:
        raise RuleInvalid("condition", why)
    chosen = spec.assets.symbols
    is_clocked_rule = spec.is_clocked or spec.expires_at is not None
    # What is not watched moves the clock all the same: without it, nothing is ever seen to be silent.
    read = read_quotes(
        path,
        watched=() if is_clocked_rule else chosen,
        jump_percent=jump_percent,
        now=now,
        progress=progress,
        skip_invalid=skip_invalid,
        signed=signed,
    )
    watched = {one: symbol for one, symbol in enumerate(read.symbols) if not chosen or symbol in chosen}
    others = variants(spec) if sweep else []
    calendars = dict.fromkeys(watched, calendar)
    backtest = Backtest([spec, *(one for _, one in others)], watched, calendars=calendars)
    backtest.take_all(read.quotes)
    outcome, *swept = backtest.outcomes()
    rejected = read.left_out.by_reason + read.rejected
    counts = {
        "quotes": read.accepted,
        "evaluated": sum(asset_id in watched for asset_id, _, _ in read.quotes),
        "repeated": read.repeated,
        "unconfirmed": read.unconfirmed,
        "rejected": rejected.total(),
        "rejected_by_reason": dict(rejected),
        "wrong": read.left_out.wrong,
        "wrong_lines": read.left_out.describe(),
    }
    report = _report(spec, outcome, watched)
    return counts | report | ({"sweep": _sweep(others, swept)} if sweep else {})


def try_on_stored(
    spec: RuleSpec, *, assets: Sequence[market.ChosenAsset], since: datetime, until: datetime, progress: Progress
) -> dict[str, Any]:
    """Return what the rule would have done on stored quotes of [since, until], its sweep included, as plain data.

    Its windows are filled from what is stored before. Imported history is evaluated as if it had come in its time.
    Raises OpensTooOften.
    """
    others = variants(spec)
    specs = [spec, *(one for _, one in others)]
    found = [Outcome() for _ in specs]
    evaluated = 0
    feeds: defaultdict[int, list[int]] = defaultdict(list)
    calendars = {asset.pk: asset.calendar for asset in assets}
    for asset in assets:
        if asset.feed_id is not None:
            feeds[asset.feed_id].append(asset.pk)
    clocked = spec.is_clocked or spec.expires_at is not None
    for index, (feed_id, asset_ids) in enumerate(sorted(feeds.items())):

        def past(
            wanted: Mapping[int, Collection[WindowKey]], part: float = index / len(feeds)
        ) -> dict[int, list[PathItem]]:
            # Asset by asset: where there are many, the caller is to hear in between that it goes on.
            paths: dict[int, list[PathItem]] = {}
            for asset_id, keys in wanted.items():
                progress(part)
                paths |= market.path_before({asset_id: reach_of(keys)}, before=since)
            return paths

        switches = market.switches_between(asset_ids, since=since, until=until)
        backtest = Backtest(specs, asset_ids, calendars=calendars, history=past, switches=switches)
        for done, quotes, as_of in _entries(feed_id, asset_ids, since=since, until=until, clocked=clocked):
            backtest.take(quotes, as_of=as_of)
            evaluated += len(quotes)
            if backtest.openings > OPENINGS_AT_MOST:
                raise OpensTooOften(OPENINGS_AT_MOST)
            progress((index + done) / len(feeds))
        for whole, part in zip(found, backtest.outcomes(), strict=True):
            whole.add(part)
    outcome, *swept = found
    symbols = {asset.pk: asset.symbol for asset in assets}
    counts = {"quotes": evaluated, "since": _iso(since), "until": _iso(until)}
    return counts | _report(spec, outcome, symbols) | {"sweep": _sweep(others, swept)}


def _entries(
    feed_id: int, asset_ids: Sequence[int], *, since: datetime, until: datetime, clocked: bool
) -> Iterator[tuple[float, list[EvaluatedQuote], int]]:
    """Give (part done, quotes, clock) in order: by event time, or where the clock matters as the log had them."""
    span = max(until - since, timedelta(microseconds=1))
    waiting: list[tuple[int, int, int, int]] = []  # released at, at, asset id, price
    for begin, end in _slices(since, until, assets=len(asset_ids)):
        done = (end - since) / span
        if not clocked:
            quotes = market.quotes_between(asset_ids, since=begin, until=end)
            # In pieces, so that who looks at the progress has not long to wait.
            for first in range(0, len(quotes), QUOTES_AT_ONCE):
                piece = quotes[first : first + QUOTES_AT_ONCE]
                yield done, piece, piece[-1][1]
            continue
        for asset_id, at, price, released_at in market.released_between(asset_ids, since=begin, until=end):
            heapq.heappush(waiting, (released_at, at, asset_id, price))
        clocks = market.clocks_between(feed_id, since=begin, until=end)
        moments = {one[0] for one in waiting if one[0] < epoch_microseconds(end)} | set(clocks)
        for moment in sorted(moments):
            entry = []
            while waiting and waiting[0][0] <= moment:
                _, at, asset_id, price = heapq.heappop(waiting)
                entry.append((asset_id, at, price))
            yield done, entry, moment
    if waiting:
        yield 1.0, [(asset_id, at, price) for _, at, asset_id, price in sorted(waiting)], epoch_microseconds(until)


def _slices(since: datetime, until: datetime, *, assets: int) -> Iterator[tuple[datetime, datetime]]:
    """Give [begin, end) from `since` to just behind `until`: each small enough for one statement."""
    step = timedelta(days=1) / max(1, assets // 5)
    begin, last = since, until + timedelta(microseconds=1)
    while begin < last:
        end = min(begin + step, last)
        yield begin, end
        begin = end


def _report(spec: RuleSpec, outcome: Outcome, symbols: Mapping[int, str]) -> dict[str, Any]:
    openings = [
        {
            "asset": symbols[one.asset_id],
            "opened_at": write_moment(one.opened_at),
            "resolved_at": None if one.resolved_at is None else write_moment(one.resolved_at),
            "resolved_because": one.reason,
            "price": one.evidence["price"],
            "summary": describe_evidence(
                symbol=symbols[one.asset_id],
                condition=spec.condition,
                evidence=one.evidence,
                opened_at=one.opened_at,
            ),
            "evidence": one.evidence,
        }
        for one in sorted(outcome.openings, key=lambda one: (one.opened_at, symbols[one.asset_id]))
    ]
    return {
        "rule": describe_rule(spec),
        "assets": sorted(symbols.values()),
        "openings": openings,
        "openings_per_day": {_day(day): count for day, count in sorted(outcome.per_day().items())},
        "suppressed": outcome.suppressed,
        "messages": outcome.messages,
        "seconds_in_state": {state: spent / 1_000_000 for state, spent in sorted(outcome.in_state.items())},
        "errors": outcome.errors,
    }


def _sweep(others: Sequence[tuple[str, RuleSpec]], outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    return [
        {"threshold": threshold, "openings": len(outcome.openings), "messages": outcome.messages}
        for (threshold, _), outcome in zip(others, outcomes, strict=True)
    ]


def _day(days: int) -> str:
    return (date(1970, 1, 1) + timedelta(days=days)).isoformat()


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
