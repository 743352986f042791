"""The reader of the two files of B3's investor portal: Negociação (trades) and Movimentação (movements). Pure."""

import re
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from apps.portfolios.domain.tables import (
    Activity,
    LeftOut,
    Read,
    Row,
    RowError,
    Table,
    moment_in,
    number_in,
    refuse_unstorable,
)
from apps.portfolios.domain.transactions import Kind

NAME = "B3"
_TRADES = {"data do negócio", "tipo de movimentação", "código de negociação", "quantidade", "valor"}
_MOVEMENTS = {"entrada/saída", "data", "movimentação", "produto", "valor da operação"}
_KINDS = {"compra": Kind.BUY, "venda": Kind.SELL}
_INCOME = {"dividendo", "juros sobre capital próprio", "rendimento"}
# Odd lots have an F behind the code.
_ODD_LOT = re.compile(r"([A-Z]{4}\d{1,2})F", re.ASCII)
_SETTLEMENT = "it repeats a trade, which the file Negociação has."
_NO_RATIO = "the file has only the quantity. Record the corporate event, and what a fraction gave, by hand."
_EVENTS = ("desdobro", "grupamento", "bonificação em ativos", "fração em ativos", "leilão de fração")
_SETTLED = ("transferência - liquidação", "compra / venda", "compra", "venda")
_WHY = dict.fromkeys(_EVENTS, _NO_RATIO) | dict.fromkeys(_SETTLED, _SETTLEMENT)


def fits(names: list[str]) -> bool:
    """Tell whether a header is one of its two."""
    return set(names) >= _TRADES or set(names) >= _MOVEMENTS


def read(table: Table, rows: Iterable[Row]) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it, or why it is left out."""
    read_row = _trade if set(table.names) >= _TRADES else _movement
    for number, row in enumerate(rows, start=1):
        try:
            refuse_unstorable(row)
            yield read_row(number, row)
        except ValueError as error:
            yield RowError(number, str(error))


def without_odd_lot(code: str) -> str:
    """Return the code of a share: the odd lot PETR4F is PETR4."""
    odd_lot = _ODD_LOT.fullmatch(code)
    return odd_lot[1] if odd_lot else code


def _trade(number: int, row: Row) -> Activity:
    said = str(row.get("tipo de movimentação") or "").strip()
    if said.lower() not in _KINDS:
        raise ValueError(f"tipo de movimentação: {said[:40] or 'nothing'} is not known; known are Compra and Venda.")
    code = str(row.get("código de negociação") or "").strip().upper()
    if not code:
        raise ValueError("código de negociação: it is missing.")
    columns = _columns(row, _KINDS[said.lower()], day="data do negócio", amount="valor")
    columns["quantity"] = _number(row, "quantidade")
    return Activity(number, _institution(row), without_odd_lot(code), columns)


def _movement(number: int, row: Row) -> Read:
    said = str(row.get("movimentação") or "").strip()
    # One that was lent out gets its income transferred.
    name = said.lower().removesuffix(" - transferido")
    if name not in _INCOME:
        return LeftOut(number, f"{said[:40] or 'nothing'}: {_WHY.get(name, 'it is no income and no trade.')}")
    if str(row.get("entrada/saída") or "").strip().lower() not in ("credito", "crédito"):
        return LeftOut(number, f"{said[:40]}: it is no credit, so no income.")
    product = str(row.get("produto") or "").strip()
    symbol = product.partition(" - ")[0].strip().upper()
    if not symbol:
        raise ValueError("produto: it is missing.")
    columns = _columns(row, Kind.DIVIDEND, day="data", amount="valor da operação")
    columns["notes"] = said
    return Activity(number, _institution(row), symbol, columns)


def _columns(row: Row, kind: Kind, *, day: str, amount: str) -> dict[str, Any]:
    at, has_time = moment_in(row, day)
    return {
        **{"kind": kind.value, "at": at, "has_time": has_time},
        **{"amount": _number(row, amount), "currency": "BRL", "notes": "", "fee": Decimal(0)},
    }


def _institution(row: Row) -> str:
    return str(row.get("instituição") or "").strip()


def _number(row: Row, name: str) -> Decimal:
    """Return a number that may be written like 38.5, "38,50" or "R$ 1.601,00"."""
    value = row.get(name)
    if not isinstance(value, str):
        return number_in(row, name)
    text = value.replace("R$", "").replace("\N{NO-BREAK SPACE}", "").strip()
    return number_in({name: text}, name, comma=True)
