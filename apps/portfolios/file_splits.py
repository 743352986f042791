"""Splits of which a file has a quantity and no ratio: found from what is held, recorded once a person confirms them.

Where trades are missing, another ratio follows, or none. So a ratio that contradicts what the file says is not offered,
and none is recorded that nobody has confirmed.
"""

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from apps.market.models import Asset
from apps.notation import write_number
from apps.portfolios import queries
from apps.portfolios.domain.counted_splits import RATIO_MOST, Ratio, ratio_of
from apps.portfolios.domain.ledger import compute, without_doubles
from apps.portfolios.domain.numbers import Exact, to_decimal
from apps.portfolios.domain.records import Computed
from apps.portfolios.domain.tables import Activities, Activity, CountedSplit, LeftOut
from apps.portfolios.domain.transactions import Event, Kind, Transaction, refusals_of
from apps.portfolios.file_rows import columns_of
from apps.portfolios.models import Portfolio
from apps.portfolios.models import Transaction as Row
from apps.portfolios.services import cleaned, lock_portfolios

# B3 credits the shares of a split some days after the price has changed.
_SAME_WITHIN = timedelta(days=10)
_BY_HAND = "record it by hand, with the ratio that was announced"
_IMPORT_FIRST = f"Import the trades that are missing first; or {_BY_HAND}."


class Offer(NamedTuple):
    """A split whose ratio follows from what is held. rows: of the file; held: before it."""

    portfolio: Portfolio
    symbol: str
    name: str
    day: date
    rows: list[int]
    held: Fraction
    ratio: Ratio
    is_confirmed: bool

    @property
    def key(self) -> str:
        """The key that confirms this ratio alone: row, new shares, old shares, like 4:2:1."""
        return key_of(self.rows[0], self.ratio)

    @property
    def sentence(self) -> str:
        """A sentence that tells people which split will be recorded."""
        ratio = f"{self.ratio.numerator} for {self.ratio.denominator}"
        held, after = _written(self.held), _written(self.ratio.after)
        return f"{self.name} of {self.symbol} on {self.day}: {held} became {after}, a split of {ratio}"


def key_of(row: int, ratio: Ratio) -> str:
    """Return the key that confirms a ratio of a row."""
    return f"{row}:{ratio.numerator}:{ratio.denominator}"


def confirm_splits(
    read: Activities,
    *,
    portfolios: Mapping[str, Portfolio],
    assets: Mapping[str, Asset],
    confirmed: Collection[str],
    now: datetime,
) -> tuple[Activities, list[Offer]]:
    """Return a file with the confirmed splits as rows and the others as left out, with why; and each split whose ratio
    follows. In the transaction that records the rows: what is held stays the same until then.

    portfolios, assets: as for `import_rows`; confirmed: keys of offers.
    """
    rows, left_out, offers = [*read.rows], list[LeftOut](), list[Offer]()
    for portfolio in {one.pk: one for one in portfolios.values()}.values():
        accounts = {account for account, one in portfolios.items() if one.pk == portfolio.pk}
        splits = [one for one in read.splits if one.account in accounts]
        if not splits:
            continue
        lock_portfolios(portfolio)
        own = [one for one in read.rows if one.account in accounts]
        for group, found in _decide(portfolio, splits, own, assets=assets, confirmed=confirmed, now=now):
            if isinstance(found, Offer):
                offers.append(found)
            if isinstance(found, Offer) and found.is_confirmed:
                rows.append(_activity(group[0], found.ratio))
            else:
                why = found if isinstance(found, str) else f"nobody has confirmed it ({found.key}). {found.sentence}."
                left_out += [LeftOut(one.row, f"{one.name}: {why}") for one in group]
    return read._replace(rows=rows, left_out=[*left_out, *read.left_out]), offers


def _activity(one: CountedSplit, ratio: Ratio) -> Activity:
    columns = {
        **{"kind": Kind.EVENT.value, "event": Event.SPLIT.value, "at": one.at, "has_time": False, "notes": one.name},
        **{"numerator": ratio.numerator, "denominator": ratio.denominator, "external_id": one.external_id},
    }
    return Activity(one.row, one.account, one.symbol, columns)


def _decide(
    portfolio: Portfolio,
    splits: Sequence[CountedSplit],
    rows: Sequence[Activity],
    *,
    assets: Mapping[str, Asset],
    confirmed: Collection[str],
    now: datetime,
) -> Iterator[tuple[list[CountedSplit], Offer | str]]:
    """Give the splits of each asset and day, which are of several accounts, with an offer, or with why there is none;
    oldest first. rows: of the file, those of the portfolio."""
    groups: dict[tuple[int, date], list[CountedSplit]] = defaultdict(list)
    for one in splits:
        if one.symbol in assets:
            groups[assets[one.symbol].pk, _day(one.at)].append(one)
        else:
            yield [one], f"there is no asset {one.symbol[:64]}; choose one for it, or {_BY_HAND}."
    there = _transactions(portfolio, rows, assets=assets, now=now)
    own = [one for one in there if one.event is Event.SPLIT and one.portfolio == portfolio.pk]
    there_already = [(one.asset, _day(one.at)) for one in own]
    computed, found = _walk(portfolio, there, groups, there_already)
    held = computed.ledgers[portfolio.pk].quantities
    waiting: set[int] = set()
    for (asset_id, day), group in sorted(groups.items(), key=lambda one: one[0][1]):
        if (asset_id, day) not in found:
            near = min(_near(there_already, asset_id, day))
            yield group, f"a split of it on {near} is there already, and counts."
            continue
        before, ratio = found[asset_id, day]
        paid = [one for one in rows if one.symbol in assets and assets[one.symbol].pk == asset_id]
        why = _contradiction(paid, [(at, quantity) for at, asset, quantity in held if asset == asset_id], day)
        if asset_id in waiting:
            why = "no ratio follows before the earlier split of it is confirmed, or recorded by hand."
        if why is None and ratio is not None:
            named = (group[0].symbol, group[0].name, day, [one.row for one in group])
            is_confirmed = key_of(group[0].row, ratio) in confirmed
            offer = Offer(portfolio, *named, before, ratio, is_confirmed)
            waiting |= set() if is_confirmed else {asset_id}
            yield group, offer
        else:
            waiting.add(asset_id)
            yield group, why or _misfit(group, before, day)


def _day(at: datetime) -> date:
    return at.astimezone(UTC).date()


def _near(splits: Sequence[tuple[int | None, date]], asset_id: int, day: date) -> list[date]:
    """Return the days of the splits that are the same as one of an asset and a day."""
    return [one for asset, one in splits if asset == asset_id and abs(one - day) <= _SAME_WITHIN]


def _transactions(
    portfolio: Portfolio, rows: Sequence[Activity], *, assets: Mapping[str, Asset], now: datetime
) -> list[Transaction]:
    """Return the transactions of a portfolio and of those linked to it, with the rows of the file that are new and
    right by themselves, and with the market's splits."""
    stored = queries.transactions_of(queries.group_of(portfolio.pk, owner_id=portfolio.owner_id))
    known = queries.known_ids(portfolio, {one.columns["external_id"] for one in rows})
    currencies = queries.known_currencies()
    new = []
    for number, one in enumerate(rows, start=1):
        if one.columns["external_id"] in known or not set(one.symbols()) <= assets.keys():
            continue
        row = cleaned(Row(portfolio=portfolio, **columns_of(one, portfolio, assets=assets, portfolios={})))
        # The ids of stored ones are above 0.
        meant = queries.meaning_of(row, key=-number)
        if not refusals_of(meant, tracks_cash=portfolio.tracks_cash, currencies=currencies, now=now):
            new.append(meant)
    fed, _ = queries.splits_fed([*stored, *new])
    return without_doubles([*stored, *new], fed)


def _walk(
    portfolio: Portfolio,
    there: Sequence[Transaction],
    groups: Mapping[tuple[int, date], Sequence[CountedSplit]],
    there_already: Sequence[tuple[int | None, date]],
) -> tuple[Computed, dict[tuple[int, date], tuple[Fraction, Ratio | None]]]:
    """Compute the transactions with the splits of the file among them, and return what is held before each with its
    ratio. Those that are there already are not among them."""
    found: dict[tuple[int, date], tuple[Fraction, Ratio | None]] = {}
    waiting = {
        -len(there) - number: (key, group)
        for number, (key, group) in enumerate(groups.items(), start=1)
        if not _near(there_already, *key)
    }

    def complete(one: Transaction, held: Fraction) -> Transaction | None:
        key, group = waiting[one.key]
        counted = {"changes": [split.change for split in group], "lefts": [split.left for split in group]}
        ratio = ratio_of(held, is_reverse=group[0].is_reverse, **counted)
        found[key] = (held, ratio)
        return None if ratio is None else replace(one, numerator=ratio.numerator, denominator=ratio.denominator)

    open_ones = [
        Transaction(portfolio.pk, Kind.EVENT, group[0].at, asset=key[0], event=Event.SPLIT, key=number)
        for number, (key, group) in waiting.items()
    ]
    settings = {one.pk: queries.settings_of(one) for one in queries.portfolios_of(portfolio.owner_id)}
    return compute([*there, *open_ones], settings=settings, complete=complete), found


def _contradiction(paid: Sequence[Activity], held: Sequence[tuple[datetime, Fraction]], day: date) -> str | None:
    """Return what contradicts that all trades before a split are there: income that was paid on more than was ever held
    until then. paid: rows of the asset, of which income says how much it was paid on; held: quantities after each
    change."""
    for one in sorted(paid, key=lambda one: one.columns["at"]):
        until = _day(one.columns["at"])
        if one.held is None or until > day:
            continue
        most = max((quantity for at, quantity in held if _day(at) <= until), default=Fraction(0))
        if Exact.of(one.held) > most:
            said = f"{one.columns['notes']} of {until} was paid on {write_number(one.held)}"
            return f"trades are missing: {said}, and {_written(most)} at most were held until then. {_IMPORT_FIRST}"
    return None


def _misfit(group: Sequence[CountedSplit], held: Fraction, day: date) -> str:
    """Return why no ratio follows from what is held."""
    if not held:
        return f"none of it is held before {day}. {_IMPORT_FIRST}"
    is_reverse = group[0].is_reverse
    went = "went" if is_reverse else "came"
    counted = [f"{write_number(abs(one.change))} {went}" for one in group if one.change is not None]
    counted += [f"{write_number(one.left)} were left" for one in group if one.left is not None]
    whole = "1 for a whole number" if is_reverse else "a whole number for 1"
    said = f"{' and '.join(counted)} where {_written(held)} were held before {day}"
    return f"{said}, which is not {whole} up to {RATIO_MOST}. {_IMPORT_FIRST}"


def _written(quantity: Fraction) -> str:
    return write_number(to_decimal(quantity))
