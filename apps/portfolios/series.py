"""Series of portfolios: made with their past, and redefined where transactions or targets change.

What each is computed from stands in the log of the portfolio's derived feed; see `domain.series`.
"""

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from django.db.models import F
from django.urls import reverse

from apps.market import partitions
from apps.market import queries as market
from apps.market.derived import making
from apps.market.derived.models import DerivedSeries, SeriesLeg
from apps.market.derived.past import raw_from
from apps.market.derived.series import Leg, SeriesInvalid, State
from apps.market.domain import QuoteRejected, admit_price, epoch_microseconds
from apps.market.models import Asset, Feed
from apps.market.services.log import lock_head, retention
from apps.notation import SECOND
from apps.owned_ids import is_owned
from apps.portfolios.domain.drift import Shares, drift_on, shares_of
from apps.portfolios.domain.numbers import ZERO, Exact, to_text
from apps.portfolios.domain.records import Ledger
from apps.portfolios.domain.series import (
    DAY,
    Link,
    PortfolioSeries,
    SeriesKind,
    Step,
    as_decimal,
    day_of,
    end_of,
    linked_with,
    steps_from,
)
from apps.portfolios.history import ONE_DAY, History, first_day, midnight, rate_table
from apps.portfolios.models import LedgerCopy, Portfolio
from apps.portfolios.models import PortfolioSeries as Row
from apps.tracing import new_trace_id


class _Parts(NamedTuple):
    """What the series of a portfolio have in common from a time on; see `PortfolioSeries`."""

    legs: tuple[Leg, ...]
    currencies: dict[int, str]
    pairs: list[tuple[int, str, str]]
    steps: list[Step]
    flows: list[tuple[int, Fraction | None]]


def made_of_portfolios(asset_ids: Collection[int]) -> set[int]:
    """Return those of the assets that are made of some portfolio, also through other series. No statement where none
    belongs to an owner."""
    found = {pk for pk in asset_ids if is_owned(pk)}
    reached: dict[int, set[int]] = {pk: {pk} for pk in found}
    current = found
    while current:
        legs = SeriesLeg.objects.filter(series__in=current).values_list("series", "asset")
        current = set()
        for series, leg in legs:
            if is_owned(leg) and leg not in reached:
                current.add(leg)
            reached.setdefault(leg, set()).update(reached[series])
    rows = Row.objects.filter(asset__in=list(reached)).values_list("asset", flat=True) if reached else ()
    return {pk for made in rows for pk in reached[made] if pk in found}


def page_of(asset_id: int) -> str:
    """Return the path of the page of the first portfolio whose value a series is, or is made of through any number of
    others; "" where there is none."""
    seen: set[int] = set()
    current = {asset_id}
    while current:
        row = Row.objects.filter(pk__in=current, kind=SeriesKind.VALUE.value).order_by("pk").first()
        if row is not None:
            return reverse("portfolio_series", args=[row.portfolio_id])
        seen |= current
        current = set(SeriesLeg.objects.filter(series__in=current).values_list("asset", flat=True)) - seen
    return ""


def portfolios_behind_splits() -> list[int]:
    """Return the portfolios with series whose copy does not know all splits of what they hold. One statement."""
    rows = Row.objects.filter(portfolio__positions__asset__splits__pk__gt=F("portfolio__ledger_copy__split_id"))
    return sorted(set(rows.order_by().values_list("portfolio", flat=True)))


def target_of(row: Row) -> Shares:
    """Return the target of a drift; nothing of another kind."""
    return {key: Fraction(share) for key, share in row.target}


def missing_in(portfolio: Portfolio) -> list[tuple[str, str]]:
    """Return why no quote can come of a portfolio's series now: ("feed", symbol) of what has no feed that can be read,
    ("currency", symbol) of what has none, and ("rate", currency)."""
    row = DerivedSeries.objects.filter(asset__of_portfolio__portfolio=portfolio).first()
    if row is None:
        return []
    found = PortfolioSeries.of_document(row.document).missing()
    ids = [subject for _, subject in found if isinstance(subject, int)]
    symbols: dict[int | str, str] = dict(market.every_asset().filter(pk__in=ids).values_list("pk", "symbol"))
    return [(what, symbols.get(subject, str(subject))) for what, subject in found]


def make_days(portfolio: Portfolio, *, now: datetime) -> None:
    """Create the partitions that the past of a series needs. Call it before anything is locked."""
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    first, last = first_day(copy), now.date()
    if first is not None:
        days = {first + timedelta(days=number) for number in range((last - first).days + 1)}
        partitions.ensure(days, months_before=(now - retention()).date())


def create(
    portfolio: Portfolio,
    ledger: Ledger,
    *,
    kind: SeriesKind,
    symbol: str,
    every_seconds: int,
    target: Shares,
    split_id: int,
    now: datetime,
) -> Asset:
    """Return a new series of a portfolio that is locked, with its past. ledger: of its transactions, up to the split of
    this id. Raises SeriesInvalid, and ValidationError for the symbol."""
    making.refuse_too_many(portfolio.owner_id)
    feeds = _feeds_to_read(ledger)
    key = f"{portfolio.owner_id}:portfolio:{portfolio.pk}"
    head = making.lock_feed_of(key, list(feeds), owner_id=portfolio.owner_id, symbol=symbol)
    if head.as_of is None:
        raise SeriesInvalid("series", "what the portfolio holds has no prices yet")
    until = epoch_microseconds(head.as_of)
    held = [asset for asset in ledger.holdings if ledger.holdings[asset]]
    # From the beginning of a day on, since an index is linked by days.
    since = min(-(-raw_from(held, until=until) // DAY), until // DAY) * DAY
    parts = _parts(portfolio, ledger, since=since, is_live=_is_live(head.feed_id), kept={})
    days, link = _past(portfolio, kind, target, before=since)
    last = days[-1][0] if days else None
    start = {"last": last, "link": link.document() if kind == SeriesKind.INDEX else None}
    definition = _definition(
        portfolio, parts, kind=kind, every_seconds=every_seconds, target=target, start=start, split_id=split_id
    )
    asset = making.add_series(
        head,
        definition,
        owner_id=portfolio.owner_id,
        symbol=symbol,
        before=days,
        since=since,
        every_seconds=min([every_seconds, *portfolio.series.values_list("every_seconds", flat=True)]),
        now=now,
        trace_id=new_trace_id(),
        name=f"{kind.caption} of {portfolio.name}"[:128],
        currency=portfolio.base_currency if kind == SeriesKind.VALUE else "",
        has_flows=kind == SeriesKind.VALUE,
    )
    stored = [[key, str(share)] for key, share in target.items()]
    Row.objects.create(asset=asset, portfolio=portfolio, kind=kind.value, every_seconds=every_seconds, target=stored)
    return asset


def follow(portfolio: Portfolio, ledger: Ledger, *, split_id: int, now: datetime) -> None:
    """Enter the log where the series of a portfolio, which is locked, are something else from here on. Raises
    TooDeep."""
    rows = list(Row.objects.filter(portfolio=portfolio).order_by("asset"))
    if not rows:
        return
    stored = {one.pk: one for one in DerivedSeries.objects.filter(pk__in=[row.pk for row in rows])}
    feed_id = market.every_asset().values_list("feed_id", flat=True).get(pk=rows[0].pk)
    head = lock_head(feed_id)
    clock = epoch_microseconds(head.as_of)
    before = {pk: PortfolioSeries.of_document(one.document) for pk, one in stored.items()}
    kept = {leg.asset_id: leg.max_skew for one in before.values() for leg in one.legs}
    parts = _parts(portfolio, ledger, since=clock, is_live=_is_live(feed_id), kept=kept)
    has_changed = False
    for row in rows:
        old = before[row.pk]
        state = stored[row.pk].state or old.start
        kind = SeriesKind(row.kind)
        link = _link_at(portfolio, day_of(clock) - ONE_DAY).document() if kind == SeriesKind.INDEX else None
        start = {"last": state["last"], "link": link}
        columns = {"kind": kind, "every_seconds": row.every_seconds, "target": target_of(row)}
        definition = _definition(portfolio, parts, **columns, start=start, split_id=split_id)
        if not _is_same(definition, old, state, since=clock):
            making.redefine(head, row.pk, definition, now=now, trace_id=new_trace_id())
            has_changed = True
    if has_changed:
        making.read_legs_of_series(feed_id, every_seconds=min(row.every_seconds for row in rows))


def _is_same(new: PortfolioSeries, old: PortfolioSeries, state: State, *, since: int) -> bool:
    """Tell whether a series is from a time on what it has been."""
    flows = [one for one in old.flows if one[0] >= since // DAY * DAY]
    changes = [(step.at, step.key, step.quantity) for step in old.steps]
    trimmed = {"steps": steps_from(since, changes), "flows": flows, "start": new.start}
    legs = [leg for leg in old.legs if leg in new.legs]
    return new == replace(old, **trimmed, legs=tuple(legs)) and state["link"] == new.start["link"]


def _definition(
    portfolio: Portfolio,
    parts: _Parts,
    *,
    kind: SeriesKind,
    every_seconds: int,
    target: Shares,
    start: State,
    split_id: int,
) -> PortfolioSeries:
    return PortfolioSeries(
        kind=kind,
        base=portfolio.base_currency,
        **parts._asdict(),
        every=every_seconds * SECOND,
        target=target,
        start=start,
        splits_known=split_id,
    )


def _feeds_to_read(ledger: Ledger) -> dict[int, Feed]:
    """Return the feeds of what is held. Raises SeriesInvalid."""
    held = [asset for asset, quantity in ledger.holdings.items() if quantity]
    assets = list(market.every_asset().filter(pk__in=held, feed__isnull=False).order_by("symbol"))
    feeds = {one.pk: one for one in market.every_feed().filter(pk__in={asset.feed_id for asset in assets})}
    if not feeds:
        raise SeriesInvalid("series", "the portfolio holds nothing that is in a feed")
    recorded = [asset.symbol for asset in assets if not feeds[asset.feed_id].is_live]
    live = [asset.symbol for asset in assets if feeds[asset.feed_id].is_live]
    if recorded and live:
        raise SeriesInvalid(
            "series", f"the clock of {recorded[0]} is a recording's, and that of {live[0]} is this machine's"
        )
    return feeds


def _is_live(feed_id: int) -> bool:
    is_live: bool = market.every_feed().values_list("is_live", flat=True).get(pk=feed_id)
    return is_live


def _parts(portfolio: Portfolio, ledger: Ledger, *, since: int, is_live: bool, kept: Mapping[int, int]) -> _Parts:
    """Return what is held from a time on, and the legs whose prices that needs. What is in no feed, or in one with
    another kind of clock, is no leg: while it is held, the value is not known. kept: asset id -> the skew that it has
    already."""
    steps = steps_from(since, [*_quantities(ledger), *_balances(ledger)])
    held = {step.key for step in steps if step.quantity}
    ids = [key for key in held if isinstance(key, int)]
    assets = {one.pk: one for one in market.every_asset().filter(pk__in=ids)}
    currencies = {pk: one.currency for pk, one in sorted(assets.items())}
    readable = {"feed__isnull": False, "feed__is_live": is_live}
    in_feeds = set(market.every_asset().filter(pk__in=ids, **readable).values_list("pk", flat=True))
    needed = {key for key in held if isinstance(key, str)} | {one for one in currencies.values() if one}
    rates = _rates(portfolio, needed, is_live=is_live)
    legs = [*(assets[pk] for pk in sorted(in_feeds)), *(one for one in rates if one.pk not in in_feeds)]
    skews = making.skews_of([one.feed_id for one in legs])
    begin = since // DAY * DAY
    return _Parts(
        legs=tuple(Leg(one.pk, kept.get(one.pk, skews[one.feed_id]), calendar=one.calendar) for one in legs),
        currencies=currencies,
        pairs=[(one.pk, one.base_currency, one.currency) for one in rates],
        steps=steps,
        flows=[
            (at, None if one.base is None else _rounded(one.base))
            for one in ledger.flows
            if (at := epoch_microseconds(one.at)) >= begin
        ],
    )


def _rates(portfolio: Portfolio, currencies: Collection[str], *, is_live: bool) -> list[Asset]:
    """Return the exchange rates by which these currencies become the base currency, as their prices say now."""
    rate_assets = {one.symbol: one for one in market.rate_assets()}
    in_feeds = market.every_feed().filter(is_live=is_live).values_list("pk", flat=True)
    of_kind = set(in_feeds.filter(pk__in={one.feed_id for one in rate_assets.values()}))
    assets = [one for one in rate_assets.values() if one.feed_id in of_kind]
    prices = market.held_prices([one.pk for one in assets])
    table = rate_table(assets, {key: (one.at, one.price, one.provider) for key, one in prices.items()})
    found = [table.find(currency, portfolio.base_currency) for currency in sorted(currencies)]
    symbols = {leg.pair.symbol for one in found if one is not None for leg in one.legs}
    return sorted((rate_assets[symbol] for symbol in symbols), key=lambda one: one.pk)


def _quantities(ledger: Ledger) -> list[tuple[int, int, Fraction]]:
    """Return each change of what is held of assets, as quantities count now: old prices are read through splits."""
    splits = market.splits_of({asset for _, asset, _ in ledger.quantities})
    newest: dict[int, int] = {}
    found = []
    for moment, asset, quantity in ledger.quantities:
        at = epoch_microseconds(moment)
        newest[asset] = max(at, newest.get(asset, at))
        factor = splits.factor(asset, newest[asset])
        found.append((at, asset, _rounded(quantity) / Exact.of(factor)))
    return found


def _balances(ledger: Ledger) -> list[tuple[int, str, Fraction]]:
    return [(epoch_microseconds(at), currency, _rounded(balance)) for at, currency, balance in ledger.balances]


def _rounded(number: Fraction) -> Fraction:
    """Return a number as the stored copy has it, so that series and pages have the same figures."""
    return Exact.of(Decimal(to_text(number)))


def _history(portfolio: Portfolio, *, until: date) -> tuple[date, History] | None:
    """Return the first day on which something was held and the days from before it; None where it is after `until`."""
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    first = first_day(copy)
    if first is None or first > until:
        return None
    span = {"since": first - ONE_DAY, "until": until}
    return first, History(portfolio, copy, **span, now=midnight(until + ONE_DAY), is_exact=True)


def _link_at(portfolio: Portfolio, last: date) -> Link:
    """Return where the index stands at the end of a day, by the transactions and prices as they are now."""
    found = _history(portfolio, until=last)
    if found is None:
        return Link(last, ZERO)
    first, history = found
    link = Link(first - ONE_DAY, history.day(first - ONE_DAY).value)
    for day in history.days(since=first, until=last):
        link = linked_with(link, day)
    return link


def _past(
    portfolio: Portfolio, kind: SeriesKind, target: Shares, *, before: int
) -> tuple[list[tuple[int, Decimal]], Link]:
    """Return the quotes of a series at the end of each day before a time, which is the begin of a day, and the link of
    an index there."""
    last = day_of(before) - ONE_DAY
    found = _history(portfolio, until=last)
    if found is None:
        return [], Link(last, ZERO)
    first, history = found
    link = Link(first - ONE_DAY, history.day(first - ONE_DAY).value)
    quotes: list[tuple[int, Decimal]] = []
    for day in history.days(since=first, until=last):
        link = linked_with(link, day)
        value: Fraction | Decimal | None = day.value
        if kind == SeriesKind.INDEX:
            value = link.index if link.has_begun else None
        elif kind == SeriesKind.DRIFT:
            shares = shares_of(history.parts_on(day.day))
            value = None if shares is None else drift_on(day.day, shares, target).part * 100
        if value is None or not day.value:
            continue
        try:
            price = admit_price(as_decimal(value), signed=kind != SeriesKind.INDEX)
        except QuoteRejected:
            continue
        quotes.append((end_of(day.day), price))
    return quotes, link
