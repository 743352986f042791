"""Files of positions, and how they differ from what is computed. Pure."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from apps.notation import write_number
from apps.portfolios.domain.b3 import without_odd_lot
from apps.portfolios.domain.sheets import SIGNATURE, table_of_sheet
from apps.portfolios.domain.tables import (
    BYTES_LARGEST,
    FileRefused,
    RowError,
    number_in,
    refuse_unstorable,
    table_of,
    text_of,
)

POSITIONS_MOST = 2_000
_ERRORS_SAID = 5
_SYMBOL = (
    *("symbol", "ticker", "ticker symbol", "code", "asset", "isin"),
    *("código de negociação", "símbolo do ativo", "produto", "symbol des wertpapiers", "börsenkürzel"),
)
_QUANTITY = ("quantity", "qty", "shares", "units", "balance", "quantidade", "stück", "bestand")
# Of B3: "PETR4 - PETROLEO BRASILEIRO S.A."
_WITH_NAME = re.compile(r"(\S+) - .+")


def read_positions(content: bytes) -> dict[str, Decimal]:
    """Return symbol -> the quantity that a file says is held, of several rows together. Raises FileRefused."""
    if len(content) > BYTES_LARGEST:
        raise FileRefused(f"The file has more than {BYTES_LARGEST // 1_000_000} MB.")
    table = table_of_sheet(content) if content.startswith(SIGNATURE) else table_of(text_of(content))
    symbol, quantity = (next((one for one in known if one in table.names), None) for known in (_SYMBOL, _QUANTITY))
    if symbol is None or quantity is None:
        raise FileRefused("The file has no columns of symbols and quantities; call them symbol and quantity.")
    found: dict[str, Decimal] = {}
    errors = []
    for number, row in enumerate(table.rows, start=1):
        try:
            refuse_unstorable(row)
            name = _symbol_of(str(row.get(symbol) or ""))
            if name:
                held = number_in(row, quantity, comma=table.has_decimal_comma, groups=True)
                found[name] = found.get(name, Decimal(0)) + held
        except ValueError as error:
            errors.append(RowError(number, str(error)))
    if errors:
        said = "; ".join(f"row {one.row}: {one.message}" for one in errors[:_ERRORS_SAID])
        raise FileRefused(f"{len(errors)} rows cannot be read. {said}")
    if len(found) > POSITIONS_MOST:
        raise FileRefused(f"The file has more than {POSITIONS_MOST} positions.")
    return found


def _symbol_of(text: str) -> str:
    named = _WITH_NAME.fullmatch(text.strip())
    return without_odd_lot((named[1] if named else text).strip().upper())


class Deviation(NamedTuple):
    """An asset of which another quantity is held than computed. asset: None where no asset has this symbol."""

    symbol: str
    asset: int | None
    stated: Decimal
    computed: Decimal

    @property
    def text(self) -> str:
        return f"{self.symbol}: {write_number(self.stated)} by the file, {write_number(self.computed)} here"


def deviations_of(
    stated: Mapping[str, Decimal], held: Mapping[str, Decimal], ids: Mapping[str, int]
) -> list[Deviation]:
    """Return where two sets of quantities by symbol differ, in order of symbols. A symbol that is missing has none."""
    found = []
    for symbol in sorted({*stated, *held}):
        there, here = (one.get(symbol, Decimal(0)) for one in (stated, held))
        if there != here:
            found.append(Deviation(symbol, ids.get(symbol), there, here))
    return found


def document_of(deviations: list[Deviation]) -> list[list[str | int | None]]:
    """Return deviations as JSON has them."""
    return [[one.symbol, one.asset, write_number(one.stated), write_number(one.computed)] for one in deviations]


def deviations_in(document: list[list[Any]]) -> Iterator[Deviation]:
    """Give the deviations that were stored as JSON."""
    for symbol, asset, stated, computed in document:
        yield Deviation(symbol, asset, Decimal(stated), Decimal(computed))
