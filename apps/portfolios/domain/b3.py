"""The reader of the two files of B3's investor portal: Negociação (trades) and Movimentação (movements). Pure."""

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

from apps.notation import WIDE
from apps.portfolios.domain.tables import (
    Activity,
    CountedSplit,
    DateOrder,
    LeftOut,
    Read,
    Row,
    RowError,
    Table,
    moment_in,
    number_in,
    refuse_unstorable,
)
from apps.portfolios.domain.transactions import Event, Kind

NAME = "B3"
_TRADES = {"data do negócio", "tipo de movimentação", "código de negociação", "quantidade", "valor"}
_MOVEMENTS = {"entrada/saída", "data", "movimentação", "produto", "valor da operação"}
_KINDS = {"compra": Kind.BUY, "venda": Kind.SELL}
_INCOME = {"dividendo", "juros sobre capital próprio", "rendimento"}
# Odd lots have an F behind the code.
_ODD_LOT = re.compile(r"([A-Z]{4}\d{1,2})F", re.ASCII)
# What lowers the cost of a position.
_CAPITAL = {"amortização", "restituição de capital"}
_CREDITS = ("credito", "crédito")
_NO_INCOME = "it is no income and no trade, and not known here. Record it by hand if it changes something."
_NO_AMOUNT = "the file has no amount for it. Record it by hand."
_SECOND = "a portfolio has one such event of an asset a day, and another row has it. Add its amount to that by hand."
_NOT_CREDITED = "it is no credit, so nothing came in."
_SETTLEMENT = "it repeats a trade, which the file Negociação has."
_NO_COUNT = "the file has no quantity that came or went. Record the split by hand, with the ratio that was announced."
_NO_OTHER = "the file has neither the ratio nor the share of the cost. Record the merger or spin-off by hand."
_RIGHT = "a right to buy cost nothing and lapses when it is not used. Record by hand what you buy with it."
_BOUGHT = "the file does not say what the shares cost. Record their purchase by hand, on the day on which you got them."
_SOLD = "a right was sold. Record by hand its delivery in, for a cost of 0, and its sale."
_LAPSED = "the right was not used, and nothing changes."
_LENDING = "lent shares stay yours."
_WHY = {
    **dict.fromkeys(("incorporação", "cisão", "conversão", "permuta"), _NO_OTHER),
    "fração em ativos": "what the auction of the fraction gave is a row of its own, Leilão de Fração.",
    **dict.fromkeys(("transferência - liquidação", "compra / venda", "compra", "venda"), _SETTLEMENT),
    **dict.fromkeys(("empréstimo", "empréstimo - liquidação"), _LENDING),
    "transferência": "it moves between institutions. If these are two portfolios here, record a transfer by hand.",
    "atualização": "it states anew what is held, and moves nothing.",
}
# Movements of subscription rights: how the name begins, what else it contains, and why the row is left out. The first
# match counts.
_OF_RIGHTS = (
    ("direito", "não exercido", _LAPSED),
    ("direito", "exercido", _BOUGHT),
    ("direito", "", _RIGHT),
    ("cessão de direito", "", _SOLD),
    ("solicitação de subscrição", "", _BOUGHT),
    ("recibo de subscrição", "", _BOUGHT),
    ("subscrição", "", _BOUGHT),
)
# Whether it is a reverse split.
_SPLITS = {"desdobro": False, "desdobramento": False, "grupamento": True}


def fits(names: list[str]) -> bool:
    """Tell whether a header is one of its two."""
    return set(names) >= _TRADES or set(names) >= _MOVEMENTS


def dates_of(table: Table) -> tuple[str, DateOrder | None]:
    """Return the column of dates, and their order where all its files have one."""
    return "data do negócio" if set(table.names) >= _TRADES else "data", DateOrder.DAY_FIRST


def read(table: Table, rows: Iterable[Row], order: DateOrder | None) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it, or why it is left out."""
    read_row = _trade if set(table.names) >= _TRADES else _movement
    events: set[tuple[str, datetime]] = set()
    for number, row in enumerate(rows, start=1):
        try:
            refuse_unstorable(row)
            for one in read_row(number, row):
                yield _second_event(one, events) or one
        except ValueError as error:
            yield RowError(number, str(error))


def _second_event(one: Read, events: set[tuple[str, datetime]]) -> LeftOut | None:
    """Return why a corporate event is left out where another row has one of its asset and day, as of two institutions;
    else note it."""
    if not isinstance(one, Activity) or "event" not in one.columns:
        return None
    key = (one.symbol, one.columns["at"])
    if key in events:
        return LeftOut(one.row, f"{one.columns['notes'][:40]}: {_SECOND}")
    events.add(key)
    return None


def without_odd_lot(code: str) -> str:
    """Return the code of a share: the odd lot PETR4F is PETR4."""
    odd_lot = _ODD_LOT.fullmatch(code)
    return odd_lot[1] if odd_lot else code


def _trade(number: int, row: Row) -> Iterator[Read]:
    said = str(row.get("tipo de movimentação") or "").strip()
    if said.lower() not in _KINDS:
        raise ValueError(f"tipo de movimentação: {said[:40] or 'nothing'} is not known; known are Compra and Venda.")
    code = str(row.get("código de negociação") or "").strip().upper()
    if not code:
        raise ValueError("código de negociação: it is missing.")
    columns = _columns(row, _KINDS[said.lower()], day="data do negócio", amount=_number(row, "valor"))
    columns["quantity"] = _number(row, "quantidade")
    yield Activity(number, _institution(row), without_odd_lot(code), columns)


def _movement(number: int, row: Row) -> Iterator[Read]:
    said = str(row.get("movimentação") or "").strip()
    # One that was lent out gets its income transferred.
    name = said.lower().removesuffix(" - transferido")
    read_row = _MEANINGS.get(name)
    if name in _SPLITS:
        yield _split(number, row, said, is_reverse=_SPLITS[name])
    elif read_row is None:
        of_rights = (why for begin, part, why in _OF_RIGHTS if name.startswith(begin) and part in name)
        yield LeftOut(number, f"{said[:40] or 'nothing'}: {_WHY.get(name) or next(of_rights, _NO_INCOME)}")
    elif str(row.get("entrada/saída") or "").strip().lower() not in _CREDITS:
        yield LeftOut(number, f"{said[:40]}: {_NOT_CREDITED}")
    elif name != _BONUS and not _has_amount(row, "valor da operação"):
        yield LeftOut(number, f"{said[:40]}: {_NO_AMOUNT}")
    else:
        symbol = _product(row)
        held = _quantity(row) if name in _INCOME or name in _CAPITAL else None
        for columns in read_row(row, symbol):
            yield Activity(number, _institution(row), symbol, columns | {"notes": said}, held=held)


def _split(number: int, row: Row, said: str, *, is_reverse: bool) -> CountedSplit | LeftOut:
    """Return a split as B3 counts it: shares that were added; of a reverse split, as a credit the shares that there are
    now, as a debit those that went."""
    is_credit = str(row.get("entrada/saída") or "").strip().lower() in _CREDITS
    quantity = _quantity(row)
    if not quantity or not (is_credit or is_reverse):
        return LeftOut(number, f"{said[:40]}: {_NO_COUNT}")
    at, _ = moment_in(row, "data", DateOrder.DAY_FIRST)
    named = (number, _institution(row), _product(row), said[:40], at, is_reverse)
    if is_reverse and is_credit:
        return CountedSplit(*named, change=None, left=quantity)
    return CountedSplit(*named, change=-quantity if is_reverse else quantity, left=None)


def _product(row: Row) -> str:
    symbol = str(row.get("produto") or "").partition(" - ")[0].strip().upper()
    if not symbol:
        raise ValueError("produto: it is missing.")
    return without_odd_lot(symbol)


def _quantity(row: Row) -> Decimal | None:
    """Return the quantity of a row; None where it has none above 0."""
    with suppress(ValueError):
        quantity = _number(row, "quantidade")
        return quantity if quantity > 0 else None
    return None


def _income(row: Row, symbol: str) -> Iterator[dict[str, Any]]:
    yield _columns(row, Kind.DIVIDEND, day="data", amount=_number(row, "valor da operação"))


def _capital(row: Row, symbol: str) -> Iterator[dict[str, Any]]:
    columns = _columns(row, Kind.EVENT, day="data", amount=_number(row, "valor da operação"))
    del columns["fee"]
    yield columns | {"event": Event.RETURN_OF_CAPITAL.value}


def _fraction(row: Row, symbol: str) -> Iterator[dict[str, Any]]:
    columns = _columns(row, Kind.SELL, day="data", amount=_number(row, "valor da operação"))
    yield columns | {"quantity": _number(row, "quantidade")}


def _bonus(row: Row, symbol: str) -> Iterator[dict[str, Any]]:
    """Give bonus shares as shares that were bought for what they count as, which is income; for nothing where the file
    has no price. (It has no ratio, so no corporate event.)"""
    quantity = _number(row, "quantidade")
    price = _number(row, "preço unitário") if _has_amount(row, "preço unitário") else Decimal(0)
    worth = WIDE.multiply(quantity, price)
    bought = _columns(row, Kind.BUY, day="data", amount=worth) | {"quantity": quantity}
    if worth:
        group = {"group_id": f"b3-{symbol[:32]}-{bought['at']:%Y-%m-%d}"}
        yield _columns(row, Kind.DIVIDEND, day="data", amount=worth) | group
        bought |= group
    yield bought


_BONUS = "bonificação em ativos"
_MEANINGS = {
    **dict.fromkeys(_INCOME, _income),
    **dict.fromkeys(_CAPITAL, _capital),
    "leilão de fração": _fraction,
    _BONUS: _bonus,
}


def _columns(row: Row, kind: Kind, *, day: str, amount: Decimal) -> dict[str, Any]:
    at, has_time = moment_in(row, day, DateOrder.DAY_FIRST)
    return {
        **{"kind": kind.value, "at": at, "has_time": has_time},
        **{"amount": amount, "currency": "BRL", "notes": "", "fee": Decimal(0)},
    }


def _institution(row: Row) -> str:
    return str(row.get("instituição") or "").strip()


def _has_amount(row: Row, name: str) -> bool:
    """Tell whether a row has an amount: a minus alone, or nothing, is how B3 writes that it has none."""
    text = str(row.get(name) or "").replace("R$", "").replace("\N{NO-BREAK SPACE}", "").strip()
    return text not in ("", "-") and _number(row, name) != 0


def _number(row: Row, name: str) -> Decimal:
    """Return a number that may be written like 38.5, "38,50" or "R$ 1.601,00"."""
    value = row.get(name)
    if not isinstance(value, str):
        return number_in(row, name)
    text = value.replace("R$", "").replace("\N{NO-BREAK SPACE}", "").strip()
    return number_in({name: text}, name, comma=True)
