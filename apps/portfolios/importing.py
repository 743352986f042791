"""Transactions of files, recorded once."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from apps.market.queries import assets_named
from apps.portfolios.domain.ghostfolio import Activities, RowError
from apps.portfolios.models import Portfolio, Transaction
from apps.portfolios.services import TransactionsRefused, record_transactions

ERRORS_MOST = 100


class Imported(NamedTuple):
    """How many rows were recorded, and how many were there already."""

    added: int
    known: int


class ImportRefused(Exception):
    """Some rows are wrong, so none was recorded. errors: by row, at most 100; count: of all."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        super().__init__(f"{len(errors)} rows are wrong")
        self.errors = sorted(errors)[:ERRORS_MOST]
        self.count = len(errors)


def import_activities(
    *, portfolio: Portfolio, read: Activities, account: str | None = None, now: datetime, dry_run: bool = False
) -> Imported:
    """Record the rows of a file that are not there yet, all or none. account: only those of it. Raises
    ImportRefused."""
    rows = [one for one in read.rows if account is None or one.account == account]
    ids = [one.columns["external_id"] for one in rows]
    stored = Transaction.objects.filter(portfolio=portfolio).exclude(external_id="")
    known = set(stored.values_list("external_id", flat=True)) & set(ids)
    new = [one for one in rows if one.columns["external_id"] not in known]
    assets = assets_named({one.symbol for one in new if one.symbol})
    errors = [*read.errors]
    errors += [
        RowError(one.row, f"symbol: there is no asset {one.symbol[:64]}; ask an operator to add it.")
        for one in new
        if one.symbol and one.symbol not in assets
    ]
    if errors:
        raise ImportRefused(errors)
    columns = [one.columns | ({"asset": assets[one.symbol]} if one.symbol else {}) for one in new]
    try:
        record_transactions(portfolio=portfolio, rows=columns, now=now, dry_run=dry_run)
    except TransactionsRefused as error:
        raise ImportRefused(
            [
                RowError(new[one.key - 1].row if one.key > 0 else 0, f"{one.field}: {one.message}")
                for one in error.refusals
            ]
        ) from error
    return Imported(len(new), len(known))
