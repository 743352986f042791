"""Files of transactions of several programs, recognised by their headers. Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

from apps.notation import write_number
from apps.portfolios.domain import b3, ghostfolio, kraken, own, portfolio_performance
from apps.portfolios.domain.sheets import SIGNATURE, table_of_sheet
from apps.portfolios.domain.tables import (
    BYTES_LARGEST,
    NO_CHOICES,
    ROWS_MOST,
    Activities,
    Activity,
    Choices,
    CountedSplit,
    DateOrder,
    FileRefused,
    LeftOut,
    Read,
    Row,
    RowError,
    Table,
    has_two_readings,
    order_in,
    table_of,
    text_of,
)


def read_activities(content: bytes, choices: Choices = NO_CHOICES) -> Activities:
    """Return the transactions of a file. Raises FileRefused.

    Two equal rows are two transactions: where a row has no id of its own, its external id is a hash of what it says
    with its occurrence.
    """
    if len(content) > BYTES_LARGEST:
        raise FileRefused(f"The file has more than {BYTES_LARGEST // 1_000_000} MB; split it.")
    if content.startswith(SIGNATURE):
        return _read_table(table_of_sheet(content), choices)
    text = text_of(content)
    if text.lstrip().startswith(("{", "[")):
        rows = ghostfolio.rows_of_json(text)
        return _identified(ghostfolio.NAME, ghostfolio.read, rows, dates=("date", None), choices=choices)
    return _read_table(table_of(text), choices)


def _read_table(table: Table, choices: Choices) -> Activities:
    for program in (own, portfolio_performance, b3, kraken):
        if program.fits(table.names):
            dates, read = program.dates_of(table), partial(program.read, table)
            return _identified(program.NAME, read, table.rows, dates=dates, choices=choices)
    rows = ghostfolio.rows_of_table(table, choices)
    found = _identified(ghostfolio.NAME, ghostfolio.read, rows, dates=("date", None), choices=choices)
    return found._replace(asks=found.asks | ghostfolio.asked_of(table))


def _limited(rows: Iterable[Row]) -> Iterator[Row]:
    for number, row in enumerate(rows, start=1):
        if number > ROWS_MOST:
            raise FileRefused(f"The file has more than {ROWS_MOST} rows; split it.")
        yield row


def _identified(
    source: str,
    read: Callable[[Iterable[Row], DateOrder | None], Iterator[Read]],
    rows: Iterable[Row],
    *,
    dates: tuple[str, DateOrder | None],
    choices: Choices,
) -> Activities:
    """Return what a reader makes of the rows of a file. dates: their column, and their order where it is known."""
    rows = list(_limited(rows))
    column, order = dates
    written = [str(row.get(column) or "").strip() for row in rows]
    order = order or order_in(written)
    asks = {"date_order"} if order is None and any(map(has_two_readings, written)) else set()
    found = Activities([], [], [], [], source, len(rows), frozenset(asks))
    prefix = source.lower().replace(" ", "-")
    seen: Counter[str] = Counter()

    def external_id(*said: Any) -> str:
        text = json.dumps(said, default=_plain, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:40]
        seen[digest] += 1
        return f"{prefix}-{digest}-{seen[digest]}"

    for one in read(rows, order or choices.date_order):
        if isinstance(one, LeftOut):
            found.left_out.append(one)
        elif isinstance(one, RowError):
            found.errors.append(one)
        elif isinstance(one, CountedSplit):
            found.splits.append(one._replace(external_id=external_id(*one._replace(row=0))))
        else:
            if "external_id" not in one.columns:
                one.columns["external_id"] = external_id(one.account, one.symbol, one.columns)
            found.rows.append(one)
    return _without(found, choices.leave_out)


def _without(found: Activities, rows: Collection[int]) -> Activities:
    """Return a file with some rows left out, those that are wrong with what is wrong. Ids of the others stay as they
    are."""
    if not rows:
        return found
    errors = {one.row: f": {one.message}" for one in found.errors}
    parts: list[Activity | RowError | CountedSplit] = [*found.rows, *found.errors, *found.splits]
    there = {one.row for one in parts} & {*rows}
    chosen = [LeftOut(row, f"You left it out{errors.get(row, '.')}") for row in sorted(there)]
    return found._replace(
        rows=[one for one in found.rows if one.row not in rows],
        errors=[one for one in found.errors if one.row not in rows],
        splits=[one for one in found.splits if one.row not in rows],
        left_out=[*chosen, *found.left_out],
    )


def _plain(value: Any) -> str:
    return write_number(value) if isinstance(value, Decimal) else value.isoformat()
