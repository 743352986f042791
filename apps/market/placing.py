"""Where believed quotes stand in their feed's log: equal times set apart, and fresh quotes told from late ones, from
those that jumped and from those that are stored already. Pure: no Django, no clock, no I/O."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby, pairwise
from operator import attrgetter, itemgetter

from apps.market.domain import (
    RUN_LONGEST,
    Admission,
    AdmittedQuote,
    Newest,
    Unconfirmed,
    Verdict,
    epoch_microseconds,
    jumps,
    verdict_on,
)

_MICROSECOND = timedelta(microseconds=1)


@dataclass(slots=True)
class Placement:
    """Where believed quotes stand against the newest stored ones of their assets.

    unconfirmed: the assets whose unconfirmed quote is another now, None where none is unconfirmed any more;
    newly_unconfirmed: how many quotes of this answer wait now, or did in between.
    """

    fresh: list[AdmittedQuote] = field(default_factory=list)
    late: list[AdmittedQuote] = field(default_factory=list)
    unconfirmed: dict[int, Unconfirmed | None] = field(default_factory=dict)
    newly_unconfirmed: int = 0
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


def place(
    quotes: Sequence[AdmittedQuote],
    *,
    newest: Mapping[int, Newest],
    unconfirmed: Mapping[int, Unconfirmed],
    provider: str,
    jump_percent: int,
    stored_prices: Callable[[list[AdmittedQuote]], Mapping[tuple[int, datetime], Decimal]],
    oldest_at: datetime | None = None,
    signed: Collection[int] = (),
    price_now: Callable[[AdmittedQuote], Decimal] = attrgetter("price"),
    replaced_prices: Callable[[list[AdmittedQuote]], Mapping[tuple[int, datetime], Collection[Decimal]]] = lambda _: {},
) -> Placement:
    """Set equal times apart, and tell fresh quotes from late ones, from those that jumped, and from those that are
    stored already.

    newest: asset id -> its newest stored quote that is not late; unconfirmed: asset id -> the quote that waits;
    provider: who gave these, which is noted of the unconfirmed one; stored_prices: looks up what is stored at the times
    of the few quotes that are not newer than the newest, as `spread` needs it. An unconfirmed quote of another
    provider is not accepted with the one that confirms it, since every quote keeps its provider. oldest_at: one that is
    older is not kept anyway. signed: ids of the assets whose prices never jump; price_now: what a quote's price is
    after its asset's splits, as the newest one's is; replaced_prices: looks up what corrections have replaced at the
    times that stored_prices is asked for.
    """
    placement = Placement()
    prices: dict[int, Decimal] = {}  # Of the assets that have had a fresh quote in this answer.
    waits: dict[tuple[int, datetime], Decimal] = {}
    for asset_id, one in unconfirmed.items():
        # History that was added meanwhile has overtaken it, or its day may be dropped.
        is_overtaken = asset_id in newest and epoch_microseconds(one.quote.at) <= newest[asset_id].at
        if is_overtaken or (oldest_at is not None and one.quote.at < oldest_at):
            placement.rejected["jump"] += 1
            placement.unconfirmed[asset_id] = None
        else:
            waits[asset_id, one.quote.at] = one.quote.price
    behind = [one for one in quotes if one[0] in newest and epoch_microseconds(one.at) <= newest[one[0]].at]
    if behind or waits or any(one[:2] == another[:2] for one, another in pairwise(quotes)):
        stored = {**stored_prices(behind), **waits} if behind else waits
        apart = spread(quotes, stored=stored, newest=newest, replaced=replaced_prices(behind) if behind else {})
        quotes, placement.repeated = apart.quotes, apart.repeated
        placement.rejected += apart.rejected
    for quote in quotes:
        asset_id = quote.asset_id
        known = newest.get(asset_id)
        if behind and known is not None and epoch_microseconds(quote.at) <= known.at:
            placement.late.append(quote)
            continue
        last = prices.get(asset_id, known.price if known is not None else None)
        price = price_now(quote)
        percent = 0 if asset_id in signed else jump_percent
        waiting = placement.unconfirmed[asset_id] if asset_id in placement.unconfirmed else unconfirmed.get(asset_id)
        if waiting is None and (last is None or not jumps(price, reference=last, percent=percent)):
            placement.fresh.append(quote)
            prices[asset_id] = price
        elif _settle(
            placement, quote, waiting=waiting, last=last, provider=provider, percent=percent, price_now=price_now
        ):
            prices[asset_id] = price
    if any(now is None for now in placement.unconfirmed.values()):
        # Held quotes that are confirmed stand among the others in the order of their times.
        placement.fresh.sort(key=itemgetter(1, 0))
    return placement


def spread(
    quotes: Sequence[AdmittedQuote],
    *,
    stored: Mapping[tuple[int, datetime], Decimal],
    newest: Mapping[int, Newest] | None,
    replaced: Mapping[tuple[int, datetime], Collection[Decimal]] | None = None,
) -> Admission:
    """Give the prices of one asset at one time t the times t, t + 1 µs, …, and return those that are not stored yet.

    quotes: as `in_runs` has them, perhaps of several messages, each set apart after those before it; stored: (asset id,
    at) -> price, of all that stands in the millisecond from each of their times on; newest: asset id -> its newest
    stored quote that is not late, or None for history, which appends nothing to a time that has a price; replaced: as
    stored, the prices that corrections have replaced there. A quote that gives one of them again is a repeat.

    The first prices of a run that stand there in their order are repeated. The others follow what stands where t is a
    whole millisecond and nothing newer is stored. The rest are conflicts.
    """
    left = Admission()
    taken = dict(stored)
    for (at, asset_id), of_time in groupby(quotes, key=itemgetter(1, 0)):
        for _, of_message in groupby(of_time, key=attrgetter("message")):
            run = list(of_message)
            standing = []
            end = at
            while (price := taken.get((asset_id, end))) is not None:
                standing.append({price, *(replaced or {}).get((asset_id, end), ())})
                end += _MICROSECOND
            known = contained([quote.price for quote in run], standing)
            left.repeated += known
            is_open = not standing
            if standing and newest is not None and not at.microsecond % 1_000:
                is_open = asset_id not in newest or epoch_microseconds(end) > newest[asset_id].at
            for quote in run[known:]:
                if not is_open or (asset_id, end) in taken or end - at >= RUN_LONGEST * _MICROSECOND:
                    left.rejected["conflict"] += 1
                    continue
                taken[asset_id, end] = quote.price
                left.quotes.append(quote if end == at else quote._replace(at=end))
                end += _MICROSECOND
    left.quotes.sort(key=itemgetter(1, 0))
    return left


def contained(prices: Iterable[Decimal], standing: Iterable[Collection[Decimal]]) -> int:
    """Return how many of the first `prices` are among those that stand, in their order, perhaps with others between.

    standing: for each place the prices that count as said there.
    """
    count = 0
    rest = iter(standing)
    for price in prices:
        if not any(price in said for said in rest):
            break
        count += 1
    return count


def _settle(
    placement: Placement,
    quote: AdmittedQuote,
    *,
    waiting: Unconfirmed | None,
    last: Decimal | None,
    provider: str,
    percent: int,
    price_now: Callable[[AdmittedQuote], Decimal],
) -> bool:
    """Place a quote that jumps, or whose asset has an unconfirmed one, and tell whether it was accepted."""
    unconfirmed = None if waiting is None else (waiting.quote.at, price_now(waiting.quote), waiting.times)
    verdict = verdict_on(quote.at, price_now(quote), last=last, unconfirmed=unconfirmed, percent=percent)
    if verdict is Verdict.JUMP:
        placement.rejected["jump"] += 1
    elif verdict is Verdict.UNCONFIRMED:
        placement.unconfirmed[quote.asset_id] = Unconfirmed(quote, provider, times=waiting.times + 1 if waiting else 1)
        placement.newly_unconfirmed += 1
    if waiting is not None and verdict in (Verdict.ACCEPTED, Verdict.CONFIRMS, Verdict.UNCONFIRMED):
        if verdict is Verdict.CONFIRMS and waiting.provider == provider:
            placement.fresh.append(waiting.quote)
        else:
            placement.rejected["jump"] += 1
        if verdict is not Verdict.UNCONFIRMED:
            placement.unconfirmed[quote.asset_id] = None
    if verdict not in (Verdict.ACCEPTED, Verdict.CONFIRMS, Verdict.BESIDE):
        return False
    placement.fresh.append(quote)
    return True
