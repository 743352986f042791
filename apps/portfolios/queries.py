"""Reads of portfolios, and what they need of the market."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import OuterRef, Q, QuerySet, Subquery

from apps.market import queries as market
from apps.market.models import Asset, Split
from apps.notation import write_number
from apps.portfolios.domain.currencies import ISO_4217
from apps.portfolios.domain.numbers import Exact
from apps.portfolios.domain.rates import Pair, RateTable
from apps.portfolios.domain.records import Price, Settings
from apps.portfolios.domain.tables import Activity
from apps.portfolios.domain.transactions import Event, Kind, Method, Transaction
from apps.portfolios.models import LedgerCopy, LotCopy, Portfolio, Position, TransactionChange, UsedPrice, UsedRate
from apps.portfolios.models import Transaction as TransactionRow

Reader = AbstractBaseUser | AnonymousUser
# The columns of a row that its meaning is made of.
MEANING = (
    *("kind", "at", "has_time", "asset_id", "quantity", "amount", "currency", "fee", "fee_currency", "fee_asset_id"),
    *("fee_quantity", "tax", "tax_currency", "rate", "counter_amount", "counter_currency", "acquired_at"),
    *("to_portfolio_id", "event", "to_asset_id", "numerator", "denominator", "cost_share"),
)
# The columns that files of other programs have too.
_IN_FILES = (
    *(
        "kind",
        "at",
        "has_time",
        "quantity",
        "amount",
        "currency",
        "fee",
        "fee_currency",
        "tax",
        "tax_currency",
        "notes",
    ),
)
_EVENT = MEANING.index("event") - 1
# Further columns, which the history of corrections keeps too.
BESIDE = ("notes", "group_id", "external_id")
# What an export calls a transaction without an external id, before its public id.
_TYPED = "transaction-"
# No number of a row is below 0, so none begins with a sign.
_LEADS_A_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")


def portfolios_seen_by(user: Reader) -> QuerySet[Portfolio]:
    """Return the portfolios that `user` may see: their own, all for a superuser, none for a stranger."""
    rows = Portfolio.objects.all()
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def transactions_seen_by(user: Reader) -> QuerySet[TransactionRow]:
    """Return the transactions of the portfolios that `user` may see, with their assets."""
    return _with_names(TransactionRow.objects.filter(portfolio__in=portfolios_seen_by(user)))


def newest_about(portfolio: Portfolio, *, asset_id: int | None = None, most: int) -> QuerySet[TransactionRow]:
    """Return the newest transactions of a portfolio and of what others transferred to it, newest first; of an asset, or
    of all. Whose they are is the caller's business."""
    rows = TransactionRow.objects.filter(Q(portfolio=portfolio) | Q(to_portfolio=portfolio))
    if asset_id is not None:
        rows = rows.filter(Q(asset=asset_id) | Q(to_asset=asset_id) | Q(fee_asset=asset_id))
    # Chosen before assets and portfolios are joined to them.
    return _with_names(TransactionRow.objects.filter(pk__in=rows.values("pk")[:most]))


def transactions_about(portfolio: Portfolio) -> QuerySet[TransactionRow]:
    """Return the transactions of a portfolio and those that others transferred to it, newest first, with their assets.
    Whose they are is the caller's business."""
    return _with_names(TransactionRow.objects.filter(Q(portfolio=portfolio) | Q(to_portfolio=portfolio)))


def transactions_in(portfolio_ids: Collection[int]) -> QuerySet[TransactionRow]:
    """Return the transactions of some portfolios, with their assets. Whose they are is the caller's business."""
    return _with_names(TransactionRow.objects.filter(portfolio__in=portfolio_ids))


def concerning(rows: QuerySet[TransactionRow], asset_id: int) -> QuerySet[TransactionRow]:
    """Return those of the transactions that concern an asset: of it, to it, or with a fee in it."""
    return rows.filter(Q(asset=asset_id) | Q(to_asset=asset_id) | Q(fee_asset=asset_id))


def transactions_of_portfolio(portfolio: Portfolio, *, keys: Collection[int]) -> dict[int, TransactionRow]:
    """Return id -> transaction, of those that a ledger of the portfolio names: its own, and transfers to it. Whose they
    are is the caller's business."""
    rows = TransactionRow.objects.filter(Q(portfolio=portfolio) | Q(to_portfolio=portfolio), pk__in=keys)
    return {one.pk: one for one in _with_names(rows)}


def positions_in(portfolio_ids: Collection[int]) -> QuerySet[Position]:
    """Return the copy of the positions of some portfolios, with their assets. Whose they are is the caller's
    business."""
    return Position.objects.filter(portfolio__in=portfolio_ids).select_related("asset")


def _with_names(rows: QuerySet[TransactionRow]) -> QuerySet[TransactionRow]:
    return rows.select_related("asset", "to_asset", "fee_asset", "portfolio", "to_portfolio")


def changes_of(row: TransactionRow) -> QuerySet[TransactionChange]:
    """Return what a transaction was before, newest first. Whose it is is the caller's business."""
    return TransactionChange.objects.filter(portfolio=row.portfolio_id, row=row.pk)


def rows_for_export(portfolio: Portfolio) -> Iterator[list[str]]:
    """Give the transactions of a portfolio as texts, oldest first, with the names of the columns before them. Assets by
    symbol, portfolios by name, moments by ISO 8601, numbers to the last digit. What has no external id has one here
    (`typed_id`). A text that a spreadsheet would read as a formula begins with an apostrophe; one that has an
    apostrophe there already gets a second one."""
    named = {"asset": "asset__symbol", "fee_asset": "fee_asset__symbol", "to_asset": "to_asset__symbol"}
    named["to_portfolio"] = "to_portfolio__name"
    columns = [column.removesuffix("_id") for column in MEANING]
    columns += BESIDE
    yield columns
    rows = TransactionRow.objects.filter(portfolio=portfolio).order_by("at", "pk")
    wanted = (named.get(column, column) for column in columns)
    for public_id, *values in rows.values_list("public_id", *wanted).iterator(chunk_size=2_000):
        texts = ["" if value is None else str(plain(value)) for value in values]
        texts[-1] = texts[-1] or typed_id(public_id)
        yield [f"'{text}" if text.startswith(_LEADS_A_FORMULA) else text for text in texts]


def typed_id(public_id: UUID) -> str:
    """Return the external id that an export gives a transaction without one, so that an import knows it again."""
    return f"{_TYPED}{public_id}"


def known_ids(portfolio: Portfolio, external_ids: Collection[str]) -> set[str]:
    """Return those of these external ids that transactions of a portfolio have, or have in an export."""
    rows = TransactionRow.objects.filter(portfolio=portfolio)
    typed = {}
    for one in external_ids:
        with suppress(ValueError):
            if one.startswith(_TYPED):
                typed[UUID(one.removeprefix(_TYPED))] = one
    exported = rows.filter(public_id__in=typed).values_list("public_id", flat=True)
    stored = rows.exclude(external_id="").values_list("external_id", flat=True)
    return set(stored).intersection(external_ids) | {typed[one] for one in exported}


def activities_of(portfolio: Portfolio) -> list[Activity]:
    """Return the transactions of a portfolio as files have them, oldest first. One statement."""
    rows = TransactionRow.objects.filter(portfolio=portfolio).select_related("asset").order_by("at", "pk")
    return [
        Activity(number, "", row.asset.symbol if row.asset else "", {name: getattr(row, name) for name in _IN_FILES})
        for number, row in enumerate(rows, start=1)
    ]


def known_currencies() -> set[str]:
    """Return every currency that a transaction may name. One statement."""
    return set(ISO_4217) | market.known_currencies()


def portfolios_of(owner_id: int) -> list[Portfolio]:
    """Return all portfolios of an owner, in order of id."""
    return list(Portfolio.objects.filter(owner=owner_id).order_by("pk"))


class Contents(NamedTuple):
    """How many rows of each kind are deleted with a portfolio, and the symbols of its series."""

    transactions: int
    changes: int
    nights: int
    reconciliations: int
    series: list[str]


def contents_of(portfolio: Portfolio) -> Contents:
    """Return which rows are deleted with a portfolio. Five statements."""
    counts = (getattr(portfolio, name).count() for name in Contents._fields[:-1])
    symbols = portfolio.series.order_by("asset__symbol").values_list("asset__symbol", flat=True)
    return Contents(*counts, list(symbols))


def group_of(portfolio_id: int, *, owner_id: int) -> set[int]:
    """Return the portfolios that transfers link to this one, itself among them. One statement."""
    transfers = TransactionRow.objects.filter(portfolio__owner=owner_id, to_portfolio__isnull=False).order_by()
    links: dict[int, set[int]] = defaultdict(set)
    for source, target in transfers.values_list("portfolio", "to_portfolio").distinct():
        links[source].add(target)
        links[target].add(source)
    group, waiting = {portfolio_id}, [portfolio_id]
    while waiting:
        new = links[waiting.pop()] - group
        group |= new
        waiting += new
    return group


def settings_of(portfolio: Portfolio) -> Settings:
    """Return how a portfolio is computed."""
    return Settings(portfolio.base_currency, Method(portfolio.method), portfolio.tracks_cash)


def meaning_of(row: TransactionRow, *, key: int) -> Transaction:
    """Return a row as the domain has it. key: what names it in refusals."""
    return _transaction(row.portfolio_id, key, *(getattr(row, column) for column in MEANING))


def document_of(row: TransactionRow) -> dict[str, Any]:
    """Return what a row says, as JSON has it."""
    return {name: plain(getattr(row, name)) for name in (*MEANING, *BESIDE)}


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    return value if value is None or isinstance(value, str | int | bool) else write_number(value)


def transactions_of(portfolio_ids: Collection[int]) -> list[Transaction]:
    """Return all transactions of these portfolios as the domain has them. One statement."""
    rows = TransactionRow.objects.filter(portfolio__in=portfolio_ids).order_by()
    return [_transaction(*row) for row in rows.values_list("portfolio_id", "pk", *MEANING)]


def _transaction(portfolio: int, key: int, kind: str, *values: Any) -> Transaction:
    # The fields of a transaction have the order of MEANING.
    event = Event(values[_EVENT]) if values[_EVENT] else None
    return Transaction(portfolio, Kind(kind), *values[:_EVENT], event, *values[_EVENT + 1 :], key)


def splits_fed(transactions: Iterable[Transaction]) -> tuple[list[Transaction], int]:
    """Return the market's splits of the assets in these transactions, for each portfolio, and the id of the newest."""
    pairs = {(one.portfolio, one.asset) for one in transactions if one.asset is not None}
    pairs |= {(one.portfolio, one.to_asset) for one in transactions if one.to_asset is not None}
    pairs |= {(one.to_portfolio, one.asset) for one in transactions if one.to_portfolio is not None}
    splits = list(Split.objects.filter(asset__in={asset for _, asset in pairs}).order_by("pk"))
    of_asset: dict[int, list[Split]] = defaultdict(list)
    for split in splits:
        of_asset[split.asset_id].append(split)
    fed = [
        Transaction(
            *(portfolio, Kind.EVENT, split.effective_at),
            asset=asset,
            event=Event.SPLIT,
            numerator=split.numerator,
            denominator=split.denominator,
        )
        for portfolio, asset in sorted(pairs)
        for split in of_asset[asset]
    ]
    return fed, max((split.pk for split in splits), default=0)


def behind_splits(portfolio_ids: Collection[int]) -> set[int]:
    """Return those of some portfolios whose copy has not every split of its assets. One statement."""
    newest = Split.objects.filter(asset__positions__portfolio=OuterRef("pk")).order_by("-pk").values("pk")[:1]
    rows = LedgerCopy.objects.filter(portfolio__in=portfolio_ids).annotate(newest=Subquery(newest))
    facts = rows.values_list("portfolio", "split_id", "newest")
    return set(portfolio_ids) - {pk for pk, known, newest in facts if (newest or 0) <= known}


def used_rates(portfolio_ids: Collection[int]) -> dict[tuple[int, str, datetime], Fraction]:
    """Return (portfolio, currency, at) -> the rate that was found. One statement."""
    rows = UsedRate.objects.filter(portfolio__in=portfolio_ids).values_list("portfolio", "currency", "at", "rate")
    return {(portfolio, currency, at): Exact.of(Decimal(rate)) for portfolio, currency, at, rate in rows}


def rates_used(portfolio: Portfolio) -> list[UsedRate]:
    """Return the rates that were found for the transactions of a portfolio. One statement."""
    return list(rates_used_in([portfolio.pk]))


def rates_used_in(portfolio_ids: Collection[int]) -> QuerySet[UsedRate]:
    """Return the rates that were found for the transactions of some portfolios. Whose they are is the caller's
    business."""
    return UsedRate.objects.filter(portfolio__in=portfolio_ids)


def prices_used_in(portfolio_ids: Collection[int]) -> QuerySet[UsedPrice]:
    """Return the prices that were found for deliveries and transfers of some portfolios. Whose they are is the caller's
    business."""
    return UsedPrice.objects.filter(portfolio__in=portfolio_ids)


def used_prices(portfolio_ids: Collection[int]) -> dict[tuple[int, datetime], Price]:
    """Return (asset, at) -> the price that was found. One statement."""
    rows = UsedPrice.objects.filter(portfolio__in=portfolio_ids).values_list("asset", "at", "price", "currency")
    return {(asset, at): Price(Exact.of(price), currency) for asset, at, price, currency in rows}


def rate_tables_at(times: Collection[datetime]) -> dict[datetime, RateTable]:
    """Return time -> the exchange rates that were in force then."""
    assets = market.rate_assets()
    prices = market.prices_then((asset.pk, at) for asset in assets for at in times)
    tables = {}
    for at in times:
        found = [(asset, prices[asset.pk, at]) for asset in assets if (asset.pk, at) in prices]
        tables[at] = RateTable(_pair(asset, price) for asset, price in found)
    return tables


def _pair(asset: Asset, price: market.HeldPrice) -> Pair:
    return Pair(asset.symbol, asset.base_currency, asset.currency, price.price, price.at, price.provider)


def positions_of(portfolio: Portfolio) -> list[Position]:
    """Return the copy of a portfolio's positions, those that are closed too, with their assets. One statement."""
    return list(positions_in([portfolio.pk]).order_by("asset__symbol"))


def lots_of(position: Position) -> list[LotCopy]:
    """Return the copy of a position's lots, in order. One statement."""
    return list(lots_in([position.pk]).order_by("number"))


def lots_in(position_ids: Collection[int]) -> QuerySet[LotCopy]:
    """Return the copy of the lots of some positions. Whose they are is the caller's business."""
    return LotCopy.objects.filter(position__in=position_ids)
