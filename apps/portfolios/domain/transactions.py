"""Transactions of every kind, the fields of each, and their order. Pure."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

RATIO_HIGHEST = 100_000


class Kind(StrEnum):
    """The kinds of transactions."""

    BUY = "buy"
    SELL = "sell"
    DIVIDEND = "dividend"
    INTEREST = "interest"
    FEE = "fee"
    TAX = "tax"
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    CONVERSION = "conversion"
    DELIVERY_IN = "delivery_in"
    DELIVERY_OUT = "delivery_out"
    TRANSFER = "transfer"
    EVENT = "event"


class Event(StrEnum):
    """The kinds of corporate events."""

    SPLIT = "split"
    BONUS = "bonus"
    SYMBOL_CHANGE = "symbol_change"
    MERGER = "merger"
    SPIN_OFF = "spin_off"
    RETURN_OF_CAPITAL = "return_of_capital"
    FRACTION_CASH = "fraction_cash"


class Method(StrEnum):
    """Which lots a sale takes: the oldest first, or a part of all of them at their average cost."""

    FIFO = "fifo"
    AVERAGE = "average"


@dataclass(frozen=True, slots=True)
class Transaction:
    """One transaction of one portfolio.

    at: a row with only a date is that date at 12:00 UTC, and has_time is False; amount: money before fees and taxes:
    what was paid or received, the cost of a delivery, the cash of an event, for bonus shares the cost of one share;
    fee_currency, tax_currency: blank for that of `amount`; rate: what 1 unit of `currency` cost in the portfolio's base
    currency, where it is written; fee_asset, fee_quantity: a fee paid in an asset, which is worth `fee`; acquired_at:
    original date of a delivery; numerator, denominator: new for old shares, for bonus shares and spin-offs additional
    ones for each old one; cost_share: part of the cost that moves to to_asset, from 0 to 1; key: what names the row.
    """

    portfolio: int
    kind: Kind
    at: datetime
    has_time: bool = True
    asset: int | None = None
    quantity: Decimal | None = None
    amount: Decimal | None = None
    currency: str = ""
    fee: Decimal = Decimal(0)
    fee_currency: str = ""
    fee_asset: int | None = None
    fee_quantity: Decimal | None = None
    tax: Decimal = Decimal(0)
    tax_currency: str = ""
    rate: Decimal | None = None
    counter_amount: Decimal | None = None
    counter_currency: str = ""
    acquired_at: datetime | None = None
    to_portfolio: int | None = None
    event: Event | None = None
    to_asset: int | None = None
    numerator: int | None = None
    denominator: int | None = None
    cost_share: Decimal | None = None
    key: int = 0


class Refusal(NamedTuple):
    """Why a transaction is refused: the field that is wrong, and a sentence for people. key: names the transaction."""

    key: int
    field: str
    message: str


class _Fields(NamedTuple):
    required: frozenset[str]
    optional: frozenset[str]


def _fields(required: str, optional: str = "") -> _Fields:
    return _Fields(frozenset(required.split()), frozenset(optional.split()))


_COSTS = "fee fee_currency tax tax_currency rate"
_FIELDS = {
    Kind.BUY: _fields("asset quantity amount currency", f"{_COSTS} fee_asset fee_quantity"),
    Kind.SELL: _fields("asset quantity amount currency", f"{_COSTS} fee_asset fee_quantity"),
    Kind.DIVIDEND: _fields("asset amount currency", _COSTS),
    Kind.INTEREST: _fields("amount currency", f"{_COSTS} asset"),
    Kind.FEE: _fields("amount currency", "asset rate"),
    Kind.TAX: _fields("amount currency", "asset rate"),
    Kind.DEPOSIT: _fields("amount currency", _COSTS),
    Kind.WITHDRAWAL: _fields("amount currency", _COSTS),
    Kind.CONVERSION: _fields("amount currency counter_amount counter_currency", _COSTS),
    Kind.DELIVERY_IN: _fields("asset quantity amount currency", f"{_COSTS} acquired_at"),
    Kind.DELIVERY_OUT: _fields("asset quantity", f"{_COSTS} currency"),
    Kind.TRANSFER: _fields("asset quantity to_portfolio", f"{_COSTS} currency"),
}
_EVENT_FIELDS = {
    Event.SPLIT: _fields("event asset numerator denominator"),
    Event.BONUS: _fields("event asset numerator denominator", "amount currency rate"),
    Event.SYMBOL_CHANGE: _fields("event asset to_asset"),
    Event.MERGER: _fields("event asset to_asset numerator denominator", "cost_share amount currency rate"),
    Event.SPIN_OFF: _fields("event asset to_asset numerator denominator cost_share"),
    Event.RETURN_OF_CAPITAL: _fields("event asset amount currency", "rate"),
    Event.FRACTION_CASH: _fields("event asset amount currency", "rate"),
}
DETAILS = tuple(
    sorted(set().union(*(one.required | one.optional for one in (*_FIELDS.values(), *_EVENT_FIELDS.values()))))
)
# What needs a balance of cash: a portfolio that does not track cash has none.
CASH_KINDS = frozenset({Kind.DEPOSIT, Kind.WITHDRAWAL, Kind.CONVERSION})
# Free shares cost 0; a position that has become worthless is sold for 0.
_MAY_BE_ZERO = frozenset({Kind.BUY, Kind.SELL, Kind.DELIVERY_IN, Kind.EVENT})


def fields_of(kind: Kind, event: Event | None = None) -> frozenset[str]:
    """Return the fields that a transaction of this kind may have."""
    fields = _fields_of(kind, event)
    return fields.required | fields.optional


def required_of(kind: Kind, event: Event | None = None) -> frozenset[str]:
    """Return the fields that a transaction of this kind needs."""
    return _fields_of(kind, event).required


def _fields_of(kind: Kind, event: Event | None) -> _Fields:
    return _EVENT_FIELDS.get(event, _fields("event asset")) if event else _FIELDS.get(kind, _fields("event asset"))


def refusals_of(one: Transaction, *, tracks_cash: bool, currencies: Collection[str], now: datetime) -> list[Refusal]:
    """Return what is wrong with a transaction by itself, beside each field. What it needs of others, `compute` checks.

    currencies: those that are known.
    """
    found: list[tuple[str, str]] = []
    name = one.kind.replace("_", " ")
    fields = _EVENT_FIELDS.get(one.event) if one.kind is Kind.EVENT and one.event else _FIELDS.get(one.kind)
    if fields is None:
        return [Refusal(one.key, "event", "Choose which corporate event it is.")]
    if one.kind in CASH_KINDS and not tracks_cash:
        found.append(("kind", f"This portfolio does not track cash, so it has no {name}."))
    name = (one.event or one.kind).replace("_", " ")
    for field in DETAILS:
        value = getattr(one, field)
        is_set = value not in (None, "") and not (field in ("fee", "tax") and value == 0)
        if field in fields.required and not is_set:
            found.append((field, f"A transaction of this kind ({name}) needs it."))
        elif is_set and field not in fields.required | fields.optional:
            found.append((field, f"A transaction of this kind ({name}) has none; leave it empty."))
    found += _wrong_numbers(one)
    found += _wrong_times(one, now=now)
    for field in ("currency", "fee_currency", "tax_currency", "counter_currency"):
        code = getattr(one, field)
        if code and code not in currencies:
            found.append((field, f"{code} is not a known currency: use an ISO 4217 code, or that of an asset's price."))
    found += _wrong_pairs(one)
    return [Refusal(one.key, field, message) for field, message in found]


def _wrong_numbers(one: Transaction) -> list[tuple[str, str]]:
    found = []
    above = ["quantity", "rate", "counter_amount", "fee_quantity"]
    above += [] if one.kind in _MAY_BE_ZERO else ["amount"]
    for field in above:
        value = getattr(one, field)
        if value is not None and value <= 0:
            found.append((field, "It must be more than 0."))
    for field in ("fee", "tax", *(() if "amount" in above else ("amount",))):
        value = getattr(one, field)
        if value is not None and value < 0:
            found.append((field, "It must be 0 or more."))
    for field in ("numerator", "denominator"):
        value = getattr(one, field)
        if value is not None and not 1 <= value <= RATIO_HIGHEST:
            found.append((field, f"It must be a whole number from 1 to {RATIO_HIGHEST}."))
    if one.event is Event.SPLIT and one.numerator == one.denominator and one.numerator is not None:
        found.append(("numerator", "A split of 1:1 changes nothing."))
    if one.cost_share is not None and not 0 <= one.cost_share <= 1:
        found.append(("cost_share", "It must be from 0 to 1."))
    return found


def _wrong_times(one: Transaction, *, now: datetime) -> list[tuple[str, str]]:
    found = []
    is_ahead = one.at > now if one.has_time else one.at.astimezone(UTC).date() > now.astimezone(UTC).date()
    if is_ahead:
        found.append(("at", "It is in the future; record it when it has happened."))
    if one.acquired_at is not None and one.acquired_at > one.at:
        found.append(("acquired_at", "The original date cannot be after the delivery."))
    return found


def _wrong_pairs(one: Transaction) -> list[tuple[str, str]]:
    """Return what is wrong with fields that belong together."""
    found = []
    if one.fee and not one.fee_currency and not one.currency:
        found.append(("fee_currency", "Say which currency the fee is in."))
    if one.tax and not one.tax_currency and not one.currency:
        found.append(("tax_currency", "Say which currency the tax is in."))
    if (one.fee_asset is None) != (one.fee_quantity is None) or (one.fee_asset is not None and not one.fee):
        found.append(("fee_asset", "A fee paid in an asset needs the asset, its quantity, and its worth as fee."))
    if one.amount is not None and not one.currency:
        found.append(("currency", "Say which currency the amount is in."))
    if one.kind is Kind.CONVERSION and one.currency == one.counter_currency:
        found.append(("counter_currency", "A conversion is between two currencies."))
    if one.kind is Kind.TRANSFER and one.to_portfolio == one.portfolio:
        found.append(("to_portfolio", "Choose another portfolio than the one that it leaves."))
    if one.event is Event.MERGER and one.cost_share not in (None, 1) and one.amount is None:
        found.append(("amount", "Where a part of the cost does not move, say which cash was paid for it."))
    if one.to_asset is not None and one.to_asset == one.asset:
        found.append(("to_asset", "Choose another asset than the one that it leaves."))
    return found


_RANKS = {
    Kind.EVENT: 0,
    Kind.DEPOSIT: 1,
    Kind.CONVERSION: 2,
    Kind.DELIVERY_IN: 3,
    Kind.BUY: 3,
    Kind.SELL: 5,
    Kind.TRANSFER: 6,
    Kind.DELIVERY_OUT: 6,
    Kind.WITHDRAWAL: 7,
}
# Income, fees and taxes come after purchases and before sales.
_OTHER_RANK = 4
_EVENT_RANKS = {event: rank for rank, event in enumerate(Event)}


def order_of(one: Transaction) -> tuple[object, ...]:
    """Return what transactions are sorted by: time; at one time purchases before sales; an event before the trades of
    its day. Rows that differ in anything have an order that does not depend on which was recorded first."""
    moment = one.at.astimezone(UTC)
    if one.kind is Kind.EVENT:
        moment = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    rank = (_RANKS.get(one.kind, _OTHER_RANK), _EVENT_RANKS[one.event] if one.event else 0)
    facts = (one.asset or 0, one.quantity or 0, one.amount or 0, one.currency, one.kind, one.portfolio)
    rest = (one.fee, one.fee_currency, one.tax, one.tax_currency, one.fee_asset or 0, one.fee_quantity or 0)
    others = (one.rate or 0, one.counter_amount or 0, one.counter_currency, one.to_portfolio or 0, one.to_asset or 0)
    ratio = (one.numerator or 0, one.denominator or 0, one.cost_share or 0)
    return (moment, *rank, *facts, *rest, *others, *ratio, str(one.acquired_at), one.key)
