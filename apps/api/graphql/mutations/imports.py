"""Files of transactions, which `POST /imports` has taken: previewed and recorded."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene

from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Creation, Mutation, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty
from apps.api.graphql.mutations.silences import asset_of
from apps.api.graphql.scalars import UUID, AssetId, enum
from apps.api.graphql.types.portfolios import Portfolio, TransactionKind
from apps.market.models import Asset as AssetRow
from apps.market.queries import assets_named
from apps.portfolios.domain.tables import Activities, Choices, DateOrder, FileRefused
from apps.portfolios.file_splits import confirm_splits
from apps.portfolios.importing import ImportRefused, drop_file, import_rows, read_file, sent_file
from apps.portfolios.models import Portfolio as PortfolioRow
from apps.portfolios.queries import portfolios_seen_by

LEFT_OUT_SHOWN = 100


class ImportAccount(graphene.InputObjectType):
    """The portfolio that receives the rows of one account in the file."""

    account = graphene.String(required=True, description="The account in the file; empty: rows without an account.")
    portfolio = UUID(description="Id of a portfolio of yours; null: these rows are left out.")


class ImportAsset(graphene.InputObjectType):
    """The asset that a symbol in the file stands for."""

    symbol = graphene.String(required=True, description="The symbol in the file.")
    asset = AssetId(required=True, description="Symbol or alias of an asset.")


ImportDateOrder = enum(
    "ImportDateOrder", DateOrder, description="Whether the day or the month comes first in dates like 10/03/2023."
)


class ImportReading(graphene.InputObjectType):
    """What a file does not say about its rows."""

    currency = graphene.String(description="The currency of all rows, where the file has no such column.")
    kind = TransactionKind(description="The kind of all rows, where the file has no such column.")
    date_order = ImportDateOrder(description="The order of dates like 10/03/2023, where the file leaves it open.")
    leave_out = graphene.List(
        graphene.NonNull(graphene.Int), description="Rows to leave out: their numbers, from 1 on, without the header."
    )


class ImportedInto(graphene.ObjectType):
    """The number of rows imported into one portfolio."""

    portfolio = graphene.Field(Portfolio, required=True, description="The portfolio that receives the rows.")
    added = graphene.Int(required=True, description="Rows that are recorded.")
    known = graphene.Int(required=True, description="Rows that were imported before.")
    without_cash = graphene.Int(
        required=True, description="Rows that move cash, left out since the portfolio does not track it."
    )


class RowLeftOut(graphene.ObjectType):
    """A row of the file that is no transaction, or of which it says too little."""

    row = graphene.Int(required=True, description="Its number, from 1 on, without the header.")
    message = graphene.String(required=True, description="Why it is left out.")


class ImportResult(graphene.ObjectType):
    """The result of an import, or of its preview."""

    source = graphene.String(description="The program that wrote the file. Null when the call is repeated.")
    portfolios = graphene.List(
        graphene.NonNull(ImportedInto),
        required=True,
        description="The result for each portfolio; deleted portfolios are left out.",
    )
    left_out = graphene.List(
        graphene.NonNull(RowLeftOut), required=True, description="At most 100 of the rows that are left out."
    )
    left_out_count = graphene.Int(
        required=True, description="The number of rows left out, with those of accounts without a portfolio."
    )


class _ImportArguments:
    file = UUID(required=True, description="The id that POST /imports gave, within the last hour.")
    portfolio = UUID(required=True, description="Id of a portfolio of yours, for all accounts by default.")
    accounts = graphene.List(
        graphene.NonNull(ImportAccount), description="The accounts whose rows go to another portfolio, or are left out."
    )
    assets = graphene.List(
        graphene.NonNull(ImportAsset), description="The symbols that match no asset, and the assets to use for them."
    )
    splits = graphene.List(
        graphene.NonNull(graphene.String),
        description="The splits to record of which the file has a quantity and no ratio, like `4:2:1`, as the reason "
        "for which the row is left out gives them: the row, the new shares and the old ones.",
    )
    reading = ImportReading(description="What the file does not say about its rows.")


class PreviewImport(Mutation):
    """Preview an import. Nothing is recorded."""

    class Arguments(_ImportArguments):
        pass

    permission = "portfolios.add_transaction"
    result = graphene.Field(ImportResult, description="The result that an import would have.")

    @classmethod
    def change(cls, context: Context, now: datetime, **arguments: Any) -> dict[str, Any]:
        """Record it, and undo that."""
        return {"result": _imported(context, now, dry_run=True, **arguments)}


class RunImport(Creation):
    """Import a file: the rows that are not stored yet, all or none. The file is deleted afterwards."""

    class Arguments(_ImportArguments):
        pass

    permission = "portfolios.add_transaction"
    gives = "result"
    result = graphene.Field(ImportResult, description="The result of the import.")

    @classmethod
    def change(cls, context: Context, now: datetime, **arguments: Any) -> ImportResult:
        """Record it in the client's name."""
        result = _imported(context, now, dry_run=False, **arguments)
        drop_file(owner=context.owner(), is_by_api=True)
        return result

    @classmethod
    def id_of(cls, made: ImportResult) -> str:
        """Return what was recorded, as one text: transactions may be thousands."""
        into = [[one.portfolio.pk, one.added, one.known, one.without_cash] for one in made.portfolios]
        rows = [[one.row, one.message] for one in made.left_out]
        return json.dumps([made.source, into, rows, made.left_out_count])

    @classmethod
    def found(cls, context: Context, id: str) -> ImportResult:
        """Return the same again, with the portfolios that are still there."""
        source, into, rows, count = json.loads(id)
        portfolios = portfolios_seen_by(context.owner()).in_bulk([pk for pk, *_ in into])
        return ImportResult(
            source=source,
            portfolios=[
                ImportedInto(portfolio=portfolios[pk], added=added, known=known, without_cash=without_cash)
                for pk, added, known, without_cash in into
                if pk in portfolios
            ],
            left_out=[RowLeftOut(row=row, message=message) for row, message in rows],
            left_out_count=count,
        )


class ImportsMutation(graphene.ObjectType):
    preview_import = PreviewImport.Field()
    run_import = RunImport.Field()


def _imported(
    context: Context,
    now: datetime,
    *,
    dry_run: bool,
    file: PythonUUID,
    portfolio: PythonUUID,
    accounts: Sequence[Mapping[str, Any]] | None = None,
    assets: Sequence[Mapping[str, Any]] | None = None,
    splits: Sequence[str] | None = None,
    reading: Mapping[str, Any] | None = None,
) -> ImportResult:
    """Record what a file has, or only find what would be. Raises Faulty."""
    owner = context.owner()
    sent = sent_file(owner, file, now=now)
    if sent is None:
        raise Faulty(Fault(Code.NOT_FOUND, "There is no such file, or no more. Send it to /imports.", "file"))
    try:
        read = read_file(bytes(sent.content), _choices(reading or {}))
    except FileRefused as error:
        # An older version of this program has taken it.
        raise Faulty(Fault(Code.INVALID, str(error), "file")) from None
    rows = portfolios_seen_by(owner)
    into = dict.fromkeys(read.accounts(), row_of(rows, portfolio, field="portfolio"))
    chosen = _accounts(context, read, accounts or (), into)
    given: Mapping[str, Any] = {"portfolios": chosen, "assets": _assets(context, read, assets or ()), "now": now}
    read, _ = confirm_splits(read, **given, confirmed=splits or ())
    try:
        done = import_rows(read=read, **given, dry_run=dry_run)
    except ImportRefused as error:
        more = error.count - len(error.errors)
        faults = [
            Fault(Code.INVALID, one.message, f"file.rows[{one.row}]" if one.row else "file") for one in error.errors
        ]
        if more:
            faults.append(Fault(Code.INVALID, f"{more} more rows are wrong.", "file"))
        raise Faulty(*faults) from None
    without = sum(one.account not in chosen for one in (*read.rows, *read.splits))
    return ImportResult(
        source=read.source,
        portfolios=[
            ImportedInto(portfolio=one.portfolio, added=one.added, known=one.known, without_cash=one.without_cash)
            for one in done
        ],
        left_out=[RowLeftOut(row=one.row, message=one.message) for one in read.left_out[:LEFT_OUT_SHOWN]],
        left_out_count=len(read.left_out) + without,
    )


def _choices(reading: Mapping[str, Any]) -> Choices:
    """Return what a client says about a file."""
    kind, order = reading.get("kind"), reading.get("date_order")
    return Choices(
        currency=reading.get("currency") or "",
        kind=kind.value if kind is not None else "",
        date_order=DateOrder(order.value) if order is not None else None,
        leave_out=frozenset(reading.get("leave_out") or ()),
    )


def _accounts(
    context: Context, read: Activities, given: Sequence[Mapping[str, Any]], into: Mapping[str, PortfolioRow]
) -> dict[str, PortfolioRow]:
    """Return account -> the portfolio that its rows go to. Raises Faulty."""
    chosen = dict(into)
    for index, one in enumerate(given):
        if one["account"] not in into:
            text = "The file has no such account."
            raise Faulty(Fault(Code.INVALID, text, f"accounts[{index}].account"))
        if one.get("portfolio") is None:
            chosen.pop(one["account"], None)
        else:
            rows = portfolios_seen_by(context.owner())
            chosen[one["account"]] = row_of(rows, one["portfolio"], field=f"accounts[{index}].portfolio")
    return chosen


def _assets(context: Context, read: Activities, given: Sequence[Mapping[str, Any]]) -> dict[str, AssetRow]:
    """Return symbol of the file -> asset, for those that are known. Raises Faulty."""
    owner_id = context.owner().pk
    symbols = read.symbols()
    found = assets_named(symbols, owner_id=owner_id)
    for index, one in enumerate(given):
        if one["symbol"] not in symbols:
            raise Faulty(Fault(Code.INVALID, "The file has no such symbol.", f"assets[{index}].symbol"))
        found[one["symbol"]] = asset_of(context, one["asset"], field=f"assets[{index}].asset")
    return found
