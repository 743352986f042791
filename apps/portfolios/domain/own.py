"""This program's own CSV of transactions, as a portfolio's page gives it. Pure."""

from collections.abc import Iterable, Iterator
from typing import Any

from apps.portfolios.domain.tables import (
    Activity,
    DateOrder,
    Read,
    Row,
    RowError,
    Table,
    moment_in,
    number_in,
    refuse_unstorable,
)
from apps.portfolios.domain.transactions import Event, Kind

NAME = "This program"
_REQUIRED = {"kind", "at", "has_time", "asset", "amount", "external_id"}
_NUMBERS = ("quantity", "amount", "fee", "fee_quantity", "tax", "rate", "counter_amount", "cost_share")
_WHOLE = ("numerator", "denominator")
_TEXTS = ("currency", "fee_currency", "tax_currency", "counter_currency", "notes", "group_id", "external_id")
# Named by what they are called: the asset by its symbol, the portfolio by its name.
_NAMED = ("fee_asset", "to_asset", "to_portfolio")


def fits(names: list[str]) -> bool:
    """Tell whether a header is one of its."""
    return set(names) >= _REQUIRED


def dates_of(table: Table) -> tuple[str, DateOrder | None]:
    """Return the column of dates, and their order where all its files have one."""
    return "at", None


def read(table: Table, rows: Iterable[Row], order: DateOrder | None) -> Iterator[Read]:
    """Give each row as a transaction, or what is wrong with it."""
    for number, row in enumerate(rows, start=1):
        try:
            yield _read(number, row, order)
        except ValueError as error:
            yield RowError(number, str(error))


def _read(number: int, row: Row, order: DateOrder | None) -> Activity:
    refuse_unstorable(row)
    said = {name: _plain(str(value or "")) for name, value in row.items()}
    if said["kind"] not in list(Kind):
        raise ValueError(f"kind: {said['kind'][:40] or 'nothing'} is not known; known are {', '.join(Kind)}.")
    if said.get("event") and said["event"] not in list(Event):
        raise ValueError(f"event: {said['event'][:40]} is not known; known are {', '.join(Event)}.")
    columns: dict[str, Any] = {"kind": said["kind"], "event": said.get("event", "")}
    columns["at"], _ = moment_in(said, "at", order)
    columns["has_time"] = said["has_time"] == "True"
    if said.get("acquired_at"):
        columns["acquired_at"], _ = moment_in(said, "acquired_at", order)
    columns |= {name: number_in(said, name) for name in _NUMBERS if said.get(name)}
    for name in _WHOLE:
        if said.get(name):
            whole = number_in(said, name)
            if whole != int(whole):
                raise ValueError(f"{name}: {said[name][:40]} is not a whole number.")
            columns[name] = int(whole)
    columns |= {name: said[name] for name in (*_TEXTS, *_NAMED) if said.get(name)}
    return Activity(number, "", said["asset"], columns)


def _plain(text: str) -> str:
    """Return a text without the apostrophe that keeps spreadsheets from reading it as a formula."""
    return text.removeprefix("'")
