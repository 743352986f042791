"""Files of transactions of several programs, recognised by their headers. Pure."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any

from apps.notation import write_number
from apps.portfolios.domain import b3, ghostfolio, kraken, own, portfolio_performance
from apps.portfolios.domain.sheets import SIGNATURE, table_of_sheet
from apps.portfolios.domain.tables import (
    BYTES_LARGEST,
    ROWS_MOST,
    Activities,
    CountedSplit,
    FileRefused,
    LeftOut,
    Read,
    Row,
    RowError,
    Table,
    table_of,
    text_of,
)


def read_activities(content: bytes) -> Activities:
    """Return the transactions of a file. Raises FileRefused.

    Two equal rows are two transactions: where a row has no id of its own, its external id is a hash of what it says
    with its occurrence.
    """
    if len(content) > BYTES_LARGEST:
        raise FileRefused(f"The file has more than {BYTES_LARGEST // 1_000_000} MB; split it.")
    if content.startswith(SIGNATURE):
        return _read_table(table_of_sheet(content))
    text = text_of(content)
    if text.lstrip().startswith(("{", "[")):
        return _identified(ghostfolio.NAME, ghostfolio.read, ghostfolio.rows_of_json(text))
    return _read_table(table_of(text))


def _read_table(table: Table) -> Activities:
    for program in (own, portfolio_performance, b3, kraken):
        if program.fits(table.names):
            return _identified(program.NAME, partial(program.read, table), table.rows)
    return _identified(ghostfolio.NAME, ghostfolio.read, ghostfolio.rows_of_table(table))


def _limited(rows: Iterable[Row], numbers: list[int]) -> Iterator[Row]:
    """Give the rows, and note in `numbers` how many there were."""
    for number, row in enumerate(rows, start=1):
        if number > ROWS_MOST:
            raise FileRefused(f"The file has more than {ROWS_MOST} rows; split it.")
        numbers[0] = number
        yield row


def _identified(source: str, read: Callable[[Iterable[Row]], Iterator[Read]], rows: Iterable[Row]) -> Activities:
    numbers = [0]
    found = Activities([], [], [], [], source)
    prefix = source.lower().replace(" ", "-")
    seen: Counter[str] = Counter()

    def external_id(*said: Any) -> str:
        text = json.dumps(said, default=_plain, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:40]
        seen[digest] += 1
        return f"{prefix}-{digest}-{seen[digest]}"

    for one in read(_limited(rows, numbers)):
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
    return found._replace(row_count=numbers[0])


def _plain(value: Any) -> str:
    return write_number(value) if isinstance(value, Decimal) else value.isoformat()
