"""Spreadsheets (XLSX) as tables. Pure."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

from apps.portfolios.domain.tables import FileRefused, Row, Table

SIGNATURE = b"PK\x03\x04"
# A small file may hold very much.
_UNPACKED_LARGEST = 100_000_000
_COLUMNS_MOST = 64


def table_of_sheet(content: bytes) -> Table:
    """Return the first sheet of a spreadsheet. Numbers and dates are as the sheet has them, not texts. Raises
    FileRefused, also while its rows are read."""
    with _readable(), zipfile.ZipFile(io.BytesIO(content)) as packed:
        unpacked = sum(one.file_size for one in packed.infolist())
    if unpacked > _UNPACKED_LARGEST:
        raise FileRefused(f"The sheet unpacks to more than {_UNPACKED_LARGEST // 1_000_000} MB; split it.")
    # Few processes read a sheet, and at the top each would take 0.2 s longer to start. With defusedxml there, openpyxl
    # reads by it.
    from openpyxl import load_workbook

    with _readable():
        book = load_workbook(io.BytesIO(content), read_only=True, data_only=True, keep_links=False)
        sheet = book.worksheets[0]
        # What a sheet says of its size may be wrong.
        sheet.reset_dimensions()
        rows = iter(sheet.iter_rows(values_only=True, max_col=_COLUMNS_MOST))
        names = [_text(value).strip().lower() for value in next(rows, ())]
    return Table(names, _rows(rows, names), has_decimal_comma=False)


def _rows(rows: Iterator[tuple[Any, ...]], names: list[str]) -> Iterator[Row]:
    while True:
        with _readable():
            row = next(rows, None)
        if row is None:
            return
        values = [value if isinstance(value, int | float) else _text(value) for value in row]
        if any(value != "" for value in values):
            yield dict(reversed(list(zip(names, values, strict=False))))


@contextmanager
def _readable() -> Iterator[None]:
    """Refuse the file where the library cannot read it: on a broken file it raises errors of any kind, which stand as
    the cause."""
    try:
        yield
    except Exception as error:
        raise FileRefused("The file is no spreadsheet that can be read; save it as XLSX or CSV.") from error


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else str(value)
