"""Portfolios and their transactions: made, changed and deleted."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from graphene.utils.str_converters import to_camel_case

from apps.alerts.owned import delete_portfolio
from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Creation, Mutation, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty
from apps.api.graphql.mutations.silences import asset_of
from apps.api.graphql.scalars import UUID, AssetId, DateTime, Decimal
from apps.api.graphql.types.portfolios import CorporateEvent, LotMethod, Portfolio, Transaction, TransactionKind
from apps.portfolios.domain.transactions import Method
from apps.portfolios.models import Portfolio as PortfolioRow
from apps.portfolios.models import Transaction as TransactionRow
from apps.portfolios.queries import portfolios_seen_by, transactions_seen_by
from apps.portfolios.services import (
    PortfolioStays,
    TransactionsRefused,
    change_portfolio,
    correct_transaction,
    create_portfolio,
    delete_transactions,
    recompute,
    record_transactions,
)
from apps.public_ids import public_id_of

_BASE_CURRENCY = "ISO 4217, or that of an asset's price, like EUR."
_TRACKS_CASH = "Whether balances of cash belong to it. It stays so from the first transaction on."


class TransactionInput(graphene.InputObjectType):
    """A transaction; docs/portfolios.md says which fields each kind has, and what they mean."""

    kind = TransactionKind(description="Kind of transaction.")
    event = CorporateEvent(description="The kind of corporate event.")
    at = DateTime(description="When it happened.")
    has_time = graphene.Boolean(description="False: only the date counts.")
    asset = AssetId(description="Symbol or alias.")
    quantity = Decimal(description="Quantity of the asset.")
    amount = Decimal(description="Money before fees and taxes.")
    currency = graphene.String(description="Currency of the amount.")
    rate = Decimal(description="The exchange rate that the transaction states.")
    fee = Decimal(description="Default: 0.")
    fee_currency = graphene.String(description="Default: the currency of the amount.")
    fee_asset = AssetId(description="Symbol or alias.")
    fee_quantity = Decimal(description="Quantity of the coin that the fee was paid in.")
    tax = Decimal(description="Default: 0.")
    tax_currency = graphene.String(description="Default: the currency of the amount.")
    counter_amount = Decimal(description="The amount received in a conversion.")
    counter_currency = graphene.String(description="Currency of that.")
    acquired_at = DateTime(description="When the delivered assets were first bought.")
    to_portfolio = UUID(description="Id of the portfolio of yours that a transfer goes to.")
    to_asset = AssetId(description="Symbol or alias.")
    numerator = graphene.Int(description="Of the ratio of a corporate event.")
    denominator = graphene.Int(description="Of the ratio of a corporate event.")
    cost_share = Decimal(description="The part of the cost that moves to the other asset.")
    notes = graphene.String(description="Your notes.")
    group_id = graphene.String(description="The same for transactions that belong together.")
    external_id = graphene.String(description="Its id in another program.")


class CreatePortfolio(Creation):
    """Make a portfolio of yours."""

    class Arguments:
        name = graphene.String(required=True, description="Its name, unique among yours.")
        base_currency = graphene.String(required=True, description=_BASE_CURRENCY)
        method = LotMethod(description="FIFO where it is left out.")
        tracks_cash = graphene.Boolean(required=True, default_value=False, description=_TRACKS_CASH)

    permission = "portfolios.add_portfolio"
    gives = "portfolio"
    portfolio = graphene.Field(Portfolio, description="The new portfolio.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        name: str,
        base_currency: str,
        method: Any = None,
        tracks_cash: bool | None = False,
    ) -> PortfolioRow:
        """Make it the client's."""
        return create_portfolio(
            owner=context.owner(),
            name=name,
            base_currency=base_currency,
            method=str(method.value if method is not None else Method.FIFO),
            tracks_cash=bool(tracks_cash),
        )

    @classmethod
    def found(cls, context: Context, id: str) -> PortfolioRow | None:
        """Return the portfolio of an id."""
        return portfolios_seen_by(context.owner()).filter(pk=id).first()


class UpdatePortfolio(Mutation):
    """Change how a portfolio is called and computed; what is left out stays."""

    class Arguments:
        id = UUID(required=True, description="Id of a portfolio of yours.")
        name = graphene.String(description="Its name, unique among yours.")
        base_currency = graphene.String(description=_BASE_CURRENCY)
        method = LotMethod(description="Which lots a sale takes.")
        tracks_cash = graphene.Boolean(description=_TRACKS_CASH)

    permission = "portfolios.change_portfolio"
    portfolio = graphene.Field(Portfolio, description="The row after the change.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        id: PythonUUID,
        name: str | None = None,
        base_currency: str | None = None,
        method: Any = None,
        tracks_cash: bool | None = None,
    ) -> dict[str, Any]:
        """Change it, as its form does."""
        portfolio = row_of(portfolios_seen_by(context.owner()), id)
        with _faults_of_transactions():
            changed = change_portfolio(
                portfolio=portfolio,
                name=portfolio.name if name is None else name,
                base_currency=portfolio.base_currency if base_currency is None else base_currency,
                method=portfolio.method if method is None else str(method.value),
                tracks_cash=tracks_cash,
            )
        return {"portfolio": changed}


class RecomputePortfolio(Mutation):
    """Compute a portfolio anew, with splits, rates and prices that have come in since."""

    class Arguments:
        id = UUID(required=True, description="Id of a portfolio of yours.")

    permission = "portfolios.change_portfolio"
    portfolio = graphene.Field(Portfolio, description="The row after the change.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Compute it anew, as its page does."""
        portfolio = row_of(portfolios_seen_by(context.owner()), id)
        with _faults_of_transactions():
            recompute(portfolio=portfolio)
        return {"portfolio": portfolio}


class DeletePortfolio(Mutation):
    """Delete a portfolio with its transactions."""

    class Arguments:
        id = UUID(required=True, description="Id of a portfolio of yours.")

    permission = "portfolios.delete_portfolio"
    deleted_id = graphene.Field(UUID, description="The id of the deleted row.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Delete it."""
        try:
            delete_portfolio(portfolio=row_of(portfolios_seen_by(context.owner()), id), now=now)
        except PortfolioStays as error:
            raise Faulty(Fault(Code.CONFLICT, str(error))) from None
        return {"deleted_id": id}


class RecordTransactions(Creation):
    """Record transactions of one portfolio, all or none."""

    class Arguments:
        portfolio = UUID(required=True, description="Id of a portfolio of yours.")
        transactions = graphene.List(
            graphene.NonNull(TransactionInput), required=True, description="The transactions to record, all or none."
        )

    permission = "portfolios.add_transaction"
    gives = "transactions"
    transactions = graphene.List(graphene.NonNull(Transaction), description="In the order in which they were sent.")

    @classmethod
    def change(
        cls, context: Context, now: datetime, *, portfolio: PythonUUID, transactions: Sequence[Mapping[str, Any]]
    ) -> list[TransactionRow]:
        """Record them."""
        if not transactions:
            raise Faulty(Fault(Code.REQUIRED, "Send at least one.", "transactions"))
        row = row_of(portfolios_seen_by(context.owner()), portfolio, field="portfolio")
        rows = [_columns_of(context, one, f"transactions[{index}].") for index, one in enumerate(transactions)]
        with _faults_of_transactions(many=True):
            return record_transactions(portfolio=row, rows=rows, now=now)

    @classmethod
    def id_of(cls, made: list[TransactionRow]) -> str:
        """Return the ids of what was made, as one text."""
        return ",".join(str(one.pk) for one in made)

    @classmethod
    def found(cls, context: Context, id: str) -> list[TransactionRow]:
        """Return those of the transactions that are still there."""
        ids = [int(one) for one in id.split(",")]
        rows = {row.pk: row for row in transactions_seen_by(context.owner()).filter(pk__in=ids)}
        return [rows[pk] for pk in ids if pk in rows]


class CorrectTransaction(Mutation):
    """Correct a transaction. What is left out stays, null empties; what it was before is kept."""

    class Arguments:
        id = UUID(required=True, description="Id of a transaction of yours.")
        transaction = TransactionInput(required=True, description="The transaction after the correction.")

    permission = "portfolios.change_transaction"
    transaction = graphene.Field(Transaction, description="The row after the change.")

    @classmethod
    def change(
        cls, context: Context, now: datetime, *, id: PythonUUID, transaction: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Correct it."""
        row = row_of(transactions_seen_by(context.owner()), id)
        columns = _columns_of(context, transaction, "transaction.")
        with _faults_of_transactions():
            correct_transaction(row=row, columns=columns, by=context.owner(), now=now)
        return {"transaction": transactions_seen_by(context.owner()).get(pk=row.pk)}


class DeleteTransaction(Mutation):
    """Delete a transaction; what it was is kept."""

    class Arguments:
        id = UUID(required=True, description="Id of a transaction of yours.")

    permission = "portfolios.delete_transaction"
    deleted_id = graphene.Field(UUID, description="The id of the deleted row.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Delete it."""
        row = row_of(transactions_seen_by(context.owner()), id)
        with _faults_of_transactions():
            delete_transactions(rows=[row], by=context.owner(), now=now)
        return {"deleted_id": id}


class PortfoliosMutation(graphene.ObjectType):
    create_portfolio = CreatePortfolio.Field()
    update_portfolio = UpdatePortfolio.Field()
    recompute_portfolio = RecomputePortfolio.Field()
    delete_portfolio = DeletePortfolio.Field()
    record_transactions = RecordTransactions.Field()
    correct_transaction = CorrectTransaction.Field()
    delete_transaction = DeleteTransaction.Field()


def _columns_of(context: Context, given: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the columns that a client sets. place: of the transaction among the arguments, for faults. Raises
    Faulty."""
    columns: dict[str, Any] = {}
    for name, value in given.items():
        column = TransactionRow._meta.get_field(name)
        field = f"{place}{to_camel_case(name)}"
        if value is None:
            # An empty text where the column has no null.
            value = None if column.null else column.get_default()
        elif name in ("kind", "event"):
            value = str(value.value)
        elif name in ("asset", "to_asset", "fee_asset"):
            value = asset_of(context, value, field=field)
        elif name == "to_portfolio":
            value = row_of(portfolios_seen_by(context.owner()), value, field=field)
        columns[name] = value
    return columns


@contextmanager
def _faults_of_transactions(*, many: bool = False) -> Iterator[None]:
    """Say what the services refuse as faults. many: the keys of what is wrong are places in a list."""
    try:
        yield
    except TransactionsRefused as error:
        raise Faulty(*(_fault_of(one.key, one.field, one.message, many=many) for one in error.refusals)) from None


def _fault_of(key: int, field: str, message: str, *, many: bool) -> Fault:
    if key < 1:
        other = public_id_of(TransactionRow.objects.get(pk=-key))
        return Fault(Code.CONFLICT, f"With this, the transaction {other} would be wrong. {message}")
    place = f"transactions[{key - 1}]" if many else "transaction"
    return Fault(Code.INVALID, message, f"{place}.{to_camel_case(field)}" if field else place)
