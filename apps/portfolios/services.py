"""Changes of portfolios and of their transactions. Each recomputes the copy of what they come to."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, Q
from django.utils import timezone

from apps.accounts.services import lock_owner
from apps.market import queries as market
from apps.market.derived.making import TooDeep
from apps.market.derived.series import LEVELS_MOST
from apps.market.models import Asset
from apps.notation import write_number
from apps.portfolios import queries, series
from apps.portfolios.bulk import insert, without_collections
from apps.portfolios.copying import Copy, copy_of, write_copy
from apps.portfolios.domain.drift import Shares
from apps.portfolios.domain.ledger import compute, without_doubles
from apps.portfolios.domain.numbers import Exact, write_rate
from apps.portfolios.domain.records import Computed, Ledger, Price
from apps.portfolios.domain.series import SeriesKind
from apps.portfolios.domain.transactions import Refusal, Transaction, refusals_of
from apps.portfolios.models import Portfolio, Position, TransactionChange, UsedPrice, UsedRate
from apps.portfolios.models import Transaction as Row

_WRITTEN_AT_ONCE = 1_000
_ASSETS = ("asset", "fee_asset", "to_asset")
# Whether the row of a foreign key is there, the database says, without a statement for each.
_NOT_CLEANED = ["day", "portfolio", "asset", "fee_asset", "to_asset", "to_portfolio"]


class TransactionsRefused(Exception):
    """Some transactions are wrong, so none of them was recorded. refusals: what is wrong, in order."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__("; ".join(f"{one.field}: {one.message}" for one in refusals[:3]))
        self.refusals = refusals


class PortfolioStays(Exception):
    """The portfolio cannot be deleted; the text says why, for people."""


def refuse_base_currency(code: str, *, portfolio: Portfolio | None = None) -> None:
    """Raise ValidationError where a currency is not known, or where a portfolio that is there cannot change to it.

    Written rates are in the base currency of their time, so it can be changed only while none is written.
    """
    if code not in queries.known_currencies():
        said = f"{code} is not a known currency: use an ISO 4217 code, or that of an asset's price."
        raise ValidationError({"base_currency": said})
    if portfolio is None or portfolio.pk is None:
        return
    before = Portfolio.objects.values_list("base_currency", flat=True).get(pk=portfolio.pk)
    if code != before and portfolio.transactions.filter(rate__isnull=False).exists():
        said = f"Some of its transactions have a rate into {before}; remove those rates first."
        raise ValidationError({"base_currency": said})
    if code != before and portfolio.series.exists():
        said = f"It has series in {before}, which stay as they were; delete these first."
        raise ValidationError({"base_currency": said})


def keeps_cash(portfolio: Portfolio) -> bool:
    """Tell whether a portfolio goes on tracking cash, or not: it has transactions or series."""
    return queries.transactions_about(portfolio).exists() or portfolio.series.exists()


def refuse_cash(tracks_cash: bool, *, portfolio: Portfolio) -> None:
    """Raise ValidationError where a portfolio that is there cannot begin to track cash, or cease to."""
    before = Portfolio.objects.values_list("tracks_cash", flat=True).get(pk=portfolio.pk)
    if tracks_cash != before and keeps_cash(portfolio):
        said = f"It has transactions or series, so it goes on {'' if before else 'not '}tracking cash."
        raise ValidationError({"tracks_cash": said})


def create_portfolio(
    *, owner: AbstractBaseUser, name: str, base_currency: str, method: str, tracks_cash: bool
) -> Portfolio:
    """Return a new portfolio. Raises ValidationError."""
    portfolio = Portfolio(owner=owner, name=name, base_currency=base_currency, method=method, tracks_cash=tracks_cash)
    refuse_base_currency(base_currency)
    with transaction.atomic():
        # Of two of one name at once, the second one is refused like a later one.
        lock_owner(owner.pk)
        portfolio.full_clean()
        portfolio.save()
        _recompute({portfolio.pk: portfolio}, {portfolio.pk})
    return portfolio


def change_portfolio(
    *, portfolio: Portfolio, name: str, base_currency: str, method: str, tracks_cash: bool | None = None
) -> Portfolio:
    """Change how a portfolio is called and computed, and return it. tracks_cash: None leaves it as it is.

    Raises ValidationError, and TransactionsRefused where transactions are no longer right.
    """
    with transaction.atomic():
        linked = lock_portfolios(portfolio)
        stored, group = linked[portfolio.pk], _group(portfolio)
        refuse_base_currency(base_currency, portfolio=stored)
        if tracks_cash is not None:
            refuse_cash(tracks_cash, portfolio=stored)
            stored.tracks_cash = tracks_cash
        if base_currency != stored.base_currency:
            stored.used_rates.all().delete()
        stored.name, stored.base_currency, stored.method = name, base_currency, method
        stored.full_clean()
        stored.save()
        _recompute(linked, group)
    return stored


def delete_portfolio(*, portfolio: Portfolio) -> None:
    """Delete a portfolio that has no series, with its transactions; `alerts.owned` deletes one with its series. Raises
    PortfolioStays."""
    with transaction.atomic():
        linked = lock_portfolios(portfolio)
        stored = linked[portfolio.pk]
        if stored.series.exists():
            raise PortfolioStays("It has series; delete these first.")
        others = Row.objects.filter(to_portfolio=stored).exclude(portfolio=stored).select_related("portfolio")
        if (first := others.first()) is not None:
            raise PortfolioStays(f"{first.portfolio} transfers to it; delete or correct those transfers first.")
        group = _group(stored) - {stored.pk}
        # What came in by transfers goes with it, so the others have to be right without that.
        stored.transactions.filter(to_portfolio__isnull=False).delete()
        stored.delete()
        try:
            _recompute(linked, group)
        except TransactionsRefused as error:
            said = error.refusals[0].message
            raise PortfolioStays(f"What it transferred to other portfolios has left them since: {said}") from error


def empty_portfolios(*, owner_id: int) -> None:
    """Delete what the portfolios of an owner say of assets, in the caller's transaction: both are about to be deleted,
    and nothing keeps the owner's own assets then."""
    lock_owner(owner_id)
    list(Portfolio.objects.select_for_update(no_key=True).filter(owner=owner_id).order_by("pk"))
    Row.objects.filter(portfolio__owner=owner_id).delete()
    Position.objects.filter(portfolio__owner=owner_id).delete()


@without_collections()
def record_transactions(
    *, portfolio: Portfolio, rows: Sequence[Mapping[str, Any]], now: datetime, dry_run: bool = False
) -> list[Row]:
    """Record transactions, all or none, and return them. rows: the columns of each; dry_run: only find what is wrong.

    Raises TransactionsRefused, with the position of the row in `rows`, from 1 on, as the key; for a row that was there
    and is no longer right, with its id below 0.
    """
    if not rows:
        return []
    with transaction.atomic():
        linked = lock_portfolios(portfolio)
        made = [cleaned(Row(portfolio=linked[portfolio.pk], **columns)) for columns in rows]
        _refuse_wrong(made, keys=range(1, len(made) + 1), linked=linked, now=now)
        _refuse_known(made)
        insert(made)
        _recompute(linked, _group(portfolio), positions={row.pk: index for index, row in enumerate(made, start=1)})
        transaction.set_rollback(dry_run)
    return made


def correct_transaction(
    *, row: Row, columns: Mapping[str, Any], by: AbstractBaseUser | None, now: datetime, dry_run: bool = False
) -> Row:
    """Correct a transaction, keep what it was, and return it. Nothing is kept where nothing changes. dry_run: only find
    what is wrong.

    Raises TransactionsRefused; its own key is 1, those of others are below 0.
    """
    with transaction.atomic():
        linked = lock_portfolios(row.portfolio)
        stored = Row.objects.select_for_update(no_key=True).get(pk=row.pk, portfolio=row.portfolio_id)
        before, group = queries.document_of(stored), _group(row.portfolio)
        for name, value in columns.items():
            setattr(stored, name, value)
        cleaned(stored)
        if queries.document_of(stored) == before:
            return stored
        _refuse_wrong([stored], keys=[1], linked=linked, now=now)
        _refuse_known([stored])
        stored.save()
        _keep(stored, kind=TransactionChange.Kind.CORRECTED, before=before, by=by, now=now)
        # Where a transfer went before, and where it goes now.
        _recompute(linked, group | _group(row.portfolio), positions={stored.pk: 1})
        transaction.set_rollback(dry_run)
    return stored


def delete_transactions(*, rows: Collection[Row], by: AbstractBaseUser | None, now: datetime) -> int:
    """Delete transactions of one owner's portfolios, keep what they were, and return how many. Raises
    TransactionsRefused where others are not right without them, with their ids below 0 as keys."""
    portfolios = {row.portfolio_id: row.portfolio for row in rows}
    if not portfolios:
        return 0
    with transaction.atomic():
        linked: dict[int, Portfolio] = {}
        group: set[int] = set()
        for portfolio in portfolios.values():
            linked |= lock_portfolios(portfolio)
            group |= _group(portfolio)
        found = Row.objects.filter(pk__in=[row.pk for row in rows], portfolio__in=portfolios)
        deleted = list(found.select_for_update(no_key=True))
        for row in deleted:
            _keep(row, kind=TransactionChange.Kind.DELETED, before=queries.document_of(row), by=by, now=now)
        found.delete()
        _recompute(linked, group)
    return len(deleted)


def refresh(*, portfolio: Portfolio) -> Sequence[Refusal]:
    """Write the copy anew where a split has come in since. Return why that was not possible, with ids below 0 as keys:
    then the copy is as it was before that split."""
    if queries.behind_splits([portfolio.pk]):
        try:
            recompute(portfolio=portfolio)
        except TransactionsRefused as error:
            return error.refusals
    return []


def recompute(*, portfolio: Portfolio) -> None:
    """Write the copies of a portfolio, and of those that its transfers link to it, anew; look again for what was
    missing. Raises TransactionsRefused where transactions are no longer right."""
    with transaction.atomic():
        _recompute(lock_portfolios(portfolio), _group(portfolio))


def copies_now(portfolio: Portfolio) -> dict[int, Copy]:
    """Return the copies that a portfolio and those linked to it should have, of what is known; nothing is written."""
    computed, newest = _computed(_linked(portfolio))
    return {key: copy_of(computed, key, split_id=newest) for key in computed.ledgers}


def ledger_now(portfolio: Portfolio) -> Ledger:
    """Return what the totals of a portfolio are made of, of what is known; nothing is written."""
    computed, _ = _computed(_linked(portfolio))
    return computed.ledgers[portfolio.pk]


def create_series(
    *, portfolio: Portfolio, kind: SeriesKind, symbol: str, every_seconds: int, target: Shares, now: datetime
) -> Asset:
    """Return a new series of a portfolio, with its past. target: of a drift.

    Raises SeriesInvalid, ValidationError for the symbol, and TransactionsRefused where transactions are no longer
    right.
    """
    series.make_days(portfolio, now=now)
    with transaction.atomic():
        linked = lock_portfolios(portfolio)
        computed, newest = _recompute(linked, _group(portfolio))
        wanted = {"kind": kind, "symbol": symbol, "every_seconds": every_seconds, "target": target}
        ledger = computed.ledgers[portfolio.pk]
        return series.create(linked[portfolio.pk], ledger, **wanted, split_id=newest, now=now)


def change_series(*, asset_id: int, portfolio: Portfolio, every_seconds: int, target: Shares) -> None:
    """Change a series of a portfolio from here on. Raises TransactionsRefused where transactions are no longer
    right."""
    with transaction.atomic():
        linked = lock_portfolios(portfolio)
        stored = [[key, str(share)] for key, share in target.items()]
        portfolio.series.filter(pk=asset_id).update(every_seconds=every_seconds, target=stored)
        _recompute(linked, _group(portfolio))


def lock_portfolios(portfolio: Portfolio) -> dict[int, Portfolio]:
    """Lock all portfolios of the owner, in order, and return them by id."""
    # The owner's row first: a portfolio that is made meanwhile could be linked too.
    lock_owner(portfolio.owner_id)
    locked = Portfolio.objects.select_for_update(no_key=True).filter(owner=portfolio.owner_id).order_by("pk")
    return {one.pk: one for one in locked}


# Reading and refusing


def _group(portfolio: Portfolio) -> set[int]:
    return queries.group_of(portfolio.pk, owner_id=portfolio.owner_id)


def _linked(portfolio: Portfolio) -> dict[int, Portfolio]:
    group = _group(portfolio)
    return {one.pk: one for one in queries.portfolios_of(portfolio.owner_id) if one.pk in group}


def cleaned(row: Row) -> Row:
    """Return the row with its day, and at 12:00 UTC where it has only a date."""
    row.fee, row.tax = row.fee or Decimal(0), row.tax or Decimal(0)
    if row.at is not None:
        moment = row.at.astimezone(UTC)
        row.at = moment if row.has_time else moment.replace(hour=12, minute=0, second=0, microsecond=0)
        row.day = row.at.date()
    return row


def _refuse_wrong(rows: Sequence[Row], *, keys: Iterable[int], linked: Mapping[int, Portfolio], now: datetime) -> None:
    """Raise TransactionsRefused for what rows say by themselves."""
    currencies = queries.known_currencies()
    named = {getattr(row, f"{field}_id") for row in rows for field in _ASSETS} - {None}
    circular = series.made_of_portfolios(named)
    found: list[Refusal] = []
    for row, key in zip(rows, keys, strict=True):
        try:
            row.full_clean(exclude=_NOT_CLEANED, validate_unique=False, validate_constraints=False)
        except ValidationError as error:
            found += [Refusal(key, field, text) for field, texts in error.message_dict.items() for text in texts]
            continue
        one = queries.meaning_of(row, key=key)
        tracks_cash = linked[row.portfolio_id].tracks_cash
        found += refusals_of(one, tracks_cash=tracks_cash, currencies=currencies, now=now)
        if row.to_portfolio_id is not None and row.to_portfolio_id not in linked:
            found.append(Refusal(key, "to_portfolio", "Choose a portfolio of the same owner."))
        found += [
            Refusal(key, field, "It is made of a portfolio, so none can hold it.")
            for field in _ASSETS
            if getattr(row, f"{field}_id") in circular
        ]
    if found:
        raise TransactionsRefused(found)


def _refuse_known(rows: Sequence[Row]) -> None:
    """Raise TransactionsRefused for external ids and events that the portfolio has already."""
    found = []
    of_portfolio = Row.objects.filter(portfolio=rows[0].portfolio_id).exclude(pk__in=[row.pk for row in rows if row.pk])
    ids = [row.external_id for row in rows if row.external_id]
    known = set(of_portfolio.filter(external_id__in=ids).values_list("external_id", flat=True)) if ids else set()
    events: set[Any] = set()
    if any(row.event for row in rows):
        events = set(of_portfolio.exclude(event="").values_list("asset", "day", "event"))
    for key, row in enumerate(rows, start=1):
        if row.external_id and row.external_id in known:
            found.append(Refusal(key, "external_id", "The portfolio has a transaction of this external id."))
        if row.event and (row.asset_id, row.day, row.event) in events:
            found.append(Refusal(key, "event", "The portfolio has this event of this asset on this day already."))
        known |= {row.external_id}
        events |= {(row.asset_id, row.day, row.event)}
    if found:
        raise TransactionsRefused(found)


def _keep(row: Row, *, kind: str, before: dict[str, Any], by: AbstractBaseUser | None, now: datetime) -> None:
    TransactionChange.objects.create(
        portfolio_id=row.portfolio_id,
        row=row.pk,
        kind=kind,
        at=now,
        by=by,
        by_name=by.get_username() if by is not None else "",
        before=before,
    )


# Computing


@without_collections()
def _recompute(
    owned: Mapping[int, Portfolio], group: Collection[int], *, positions: Mapping[int, int] | None = None
) -> tuple[Computed, int]:
    """Write the copies of a group of linked portfolios, have their series follow, and return what `_computed` does.
    owned: all of the owner, which are locked; positions: id of a row -> the key that its refusal gets."""
    linked = {key: owned[key] for key in sorted(group)}
    computed, newest = _computed(linked, stores=True)
    if computed.refusals:
        known = positions or {}
        raise TransactionsRefused([one._replace(key=known.get(one.key, -one.key)) for one in computed.refusals])
    for key, portfolio in linked.items():
        write_copy(portfolio, copy_of(computed, key, split_id=newest))
        try:
            series.follow(portfolio, computed.ledgers[key], split_id=newest, now=timezone.now())
        except TooDeep as error:
            raise TransactionsRefused([_too_deep(error, portfolio, positions or {})]) from error
    return computed, newest


def _too_deep(error: TooDeep, portfolio: Portfolio, positions: Mapping[int, int]) -> Refusal:
    """Return the refusal of the transaction that brings a leg into a portfolio's series which has too many levels: of
    one in `positions`, else of the newest that names it, or else, where it is an exchange rate, of the newest."""
    own = Row.objects.filter(Q(portfolio=portfolio) | Q(to_portfolio=portfolio)).order_by("-at", "-pk")
    naming = own.filter(Q(asset__in=error.asset_ids) | Q(to_asset__in=error.asset_ids))
    recorded = Row.objects.filter(pk__in=positions)
    row = naming.filter(pk__in=positions).first() or naming.first() or recorded.first() or own.first()
    field = ""
    if row is not None:
        named = {"asset": row.asset_id, "to_asset": row.to_asset_id}
        field = next((name for name, pk in named.items() if pk in error.asset_ids), "currency")
    said = f"A series of {portfolio}, or one made of it, would be made of series more than {LEVELS_MOST} levels deep."
    key = 0 if row is None else row.pk
    return Refusal(positions.get(key, -key), field, said)


def _computed(linked: Mapping[int, Portfolio], *, stores: bool = False) -> tuple[Computed, int]:
    """Return what these portfolios come to, and the id of the newest split of their assets. stores: look for rates and
    prices that are missing, and store those that are found."""
    typed = queries.transactions_of(linked)
    fed, newest = queries.splits_fed(typed)
    transactions = without_doubles(typed, fed)
    settings = {key: queries.settings_of(one) for key, one in linked.items()}
    rates, prices = queries.used_rates(linked), queries.used_prices(linked)
    computed = compute(transactions, settings=settings, rates=rates, prices=prices)
    # A price may be in a currency whose rate is missing too.
    for _ in range(2):
        if not stores or not (computed.missing_rates or computed.missing_prices):
            break
        found_rates = _find_rates(computed, linked)
        found_prices = _find_prices(computed, transactions)
        if not found_rates and not found_prices:
            break
        rates, prices = rates | found_rates, prices | found_prices
        computed = compute(transactions, settings=settings, rates=rates, prices=prices)
    return computed, newest


def _find_rates(computed: Computed, linked: Mapping[int, Portfolio]) -> dict[tuple[int, str, datetime], Fraction]:
    """Store the missing rates that the market knows by now, and return them."""
    tables = queries.rate_tables_at({at for _, _, at in computed.missing_rates})
    rows, found = [], {}
    for portfolio, currency, at in sorted(computed.missing_rates):
        rate = tables[at].find(currency, linked[portfolio].base_currency)
        if rate is not None and rate.at is not None:
            found[portfolio, currency, at] = rate.rate
            legs = [
                [leg.pair.symbol, write_number(leg.pair.price), leg.pair.at.isoformat(), leg.inverse]
                for leg in rate.legs
            ]
            key = {"portfolio_id": portfolio, "currency": currency, "at": at}
            rows.append(UsedRate(**key, rate=write_rate(rate.rate), path=legs, priced_at=rate.at))
    UsedRate.objects.bulk_create(rows, batch_size=_WRITTEN_AT_ONCE)
    return found


def _find_prices(computed: Computed, transactions: Iterable[Transaction]) -> dict[tuple[int, datetime], Price]:
    """Store the missing prices that the market knows by now, and return them."""
    if not computed.missing_prices:
        return {}
    prices = market.prices_then(computed.missing_prices)
    currencies = dict(
        market.every_asset()
        .filter(pk__in={asset for asset, _ in computed.missing_prices})
        .values_list("pk", "currency")
    )
    found = {key: price for key, price in prices.items() if currencies.get(key[0])}
    rows: list[Model] = []
    for one in transactions:
        if one.asset is not None and (one.asset, one.at) in found:
            price = found[one.asset, one.at]
            key = {"portfolio_id": one.portfolio, "asset_id": one.asset, "at": one.at}
            facts = {"price": price.price, "currency": currencies[one.asset], "priced_at": price.at}
            rows.append(UsedPrice(**key, **facts))
    UsedPrice.objects.bulk_create(rows, batch_size=_WRITTEN_AT_ONCE, ignore_conflicts=True)
    return {key: Price(Exact.of(price.price), currencies[key[0]]) for key, price in found.items()}
