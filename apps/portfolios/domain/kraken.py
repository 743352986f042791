"""The reader of Kraken's ledgers, of 10, 11, 12 or 16 columns. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from apps.notation import write_number
from apps.portfolios.domain.currencies import ISO_4217
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

NAME = "Kraken"
_REQUIRED = {"txid", "refid", "time", "type", "asset", "amount", "fee"}
_OLD_CODES = {
    **{"XXBT": "BTC", "XBT": "BTC", "XXDG": "DOGE", "XDG": "DOGE", "XETH": "ETH", "XETC": "ETC", "XLTC": "LTC"},
    **{"XMLN": "MLN", "XREP": "REP", "XXLM": "XLM", "XXMR": "XMR", "XXRP": "XRP", "XZEC": "ZEC"},
}
_TRADES = {"trade", "spend", "receive"}
_REWARDS = {"staking", "reward", "dividend"}
_NOT_SETTLED = "it has no txid: it is an announcement, and the booking is a row of its own."
_WITHIN = "it moves between wallets at Kraken."
_NO_WORTH = "the file does not say what it was worth. Record it by hand, or export the ledger with amountusd."


class _Leg(NamedTuple):
    """One row. fee_in: what the fee is paid in; usd: what the amount was worth, where the file says so."""

    row: int
    txid: str
    type: str
    subtype: str
    asset: str
    amount: Decimal
    fee: Decimal
    fee_in: str
    usd: Decimal | None
    moment: dict[str, Any]

    @property
    def is_money(self) -> bool:
        return self.asset in ISO_4217


def fits(names: list[str]) -> bool:
    """Tell whether a header is one of its."""
    return set(names) >= _REQUIRED


def read(table: Table, rows: Iterable[Row]) -> Iterator[Read]:
    """Give each booking as transactions, those of one refid together, or what is wrong with it, or why it is left
    out."""
    trades: dict[str, list[_Leg]] = defaultdict(list)
    for number, row in enumerate(rows, start=1):
        try:
            refuse_unstorable(row)
            leg = _leg(number, row)
        except ValueError as error:
            yield RowError(number, str(error))
            continue
        if not leg.txid:
            yield LeftOut(number, _NOT_SETTLED)
            continue
        if leg.fee and leg.fee_in != leg.asset:
            yield _fee_of(leg)
            leg = leg._replace(fee=Decimal(0))
        if leg.type in _TRADES:
            trades[str(row.get("refid"))].append(leg)
        else:
            yield from _single(leg)
    for refid, legs in trades.items():
        yield from _trade(refid, legs)


def _leg(number: int, row: Row) -> _Leg:
    at, has_time = moment_in(row, "time")
    usd = number_in(row, "amountusd") if str(row.get("amountusd") or "").strip() else None
    code = str(row.get("asset") or "").strip().upper()
    if not code:
        raise ValueError("asset: it is missing.")
    return _Leg(
        row=number,
        txid=str(row.get("txid") or "").strip(),
        type=str(row.get("type") or "").strip().lower(),
        subtype=str(row.get("subtype") or "").strip().lower(),
        asset=_asset(code),
        amount=number_in(row, "amount"),
        fee=number_in(row, "fee", default=Decimal(0)),
        fee_in=_asset(str(row.get("feecurrency") or "").strip().upper() or code),
        usd=None if usd is None else abs(usd),
        moment={"at": at, "has_time": has_time, "notes": ""},
    )


def _asset(code: str) -> str:
    """Return what others call an asset: without the suffix of staking, and without the letter that old codes have."""
    code = code.partition(".")[0]
    if code.startswith("Z") and code[1:] in ISO_4217:
        return code[1:]
    return _OLD_CODES.get(code, code)


def _activity(leg: _Leg, own_id: str, columns: Mapping[str, Any], *, symbol: str = "") -> Activity:
    return Activity(leg.row, "", symbol, {**leg.moment, **columns, "external_id": f"kraken-{own_id}"})


def _fee_of(leg: _Leg) -> Read:
    """Give the fee of a row whose fee is paid in something else."""
    if leg.fee_in not in ISO_4217:
        return LeftOut(leg.row, f"its fee of {write_number(leg.fee)} {leg.fee_in[:16]}: record it by hand.")
    fee = {"kind": Kind.FEE.value, "amount": leg.fee, "currency": leg.fee_in}
    return _activity(leg, f"{leg.txid}-fee", fee)


def _single(leg: _Leg) -> Iterator[Read]:
    """Give what one row says by itself."""
    came, quantity = leg.amount > 0, abs(leg.amount)
    money = {"amount": quantity, "currency": leg.asset, "fee": leg.fee}
    is_reward = leg.type in _REWARDS or (leg.type == "earn" and leg.subtype in _REWARDS)
    if leg.type in ("deposit", "withdrawal") and leg.is_money:
        kind = Kind.DEPOSIT if leg.type == "deposit" else Kind.WITHDRAWAL
        yield _activity(leg, leg.txid, {"kind": kind.value, **money})
    elif leg.type == "withdrawal":
        out = {"kind": Kind.DELIVERY_OUT.value, "quantity": quantity + leg.fee}
        yield _activity(leg, leg.txid, out, symbol=leg.asset)
    elif is_reward and leg.is_money and came:
        yield _activity(leg, leg.txid, {"kind": Kind.INTEREST.value, **money})
    elif leg.type == "deposit" or (is_reward and came):
        if leg.usd is None:
            yield LeftOut(leg.row, f"{leg.type} of {leg.asset}: {_NO_WORTH}")
            return
        worth = {"amount": leg.usd, "currency": "USD"}
        if leg.type == "deposit":
            given = {"kind": Kind.DELIVERY_IN.value, "quantity": quantity - leg.fee, **worth}
            yield _activity(leg, leg.txid, given, symbol=leg.asset)
            return
        # Income that is reinvested at once.
        group = {"group_id": f"kraken-{leg.txid}", **worth}
        yield _activity(leg, f"{leg.txid}-income", {"kind": Kind.DIVIDEND.value, **group}, symbol=leg.asset)
        bought = {"kind": Kind.BUY.value, "quantity": quantity - leg.fee, **group}
        yield _activity(leg, f"{leg.txid}-buy", bought, symbol=leg.asset)
    elif leg.type in ("earn", "transfer"):
        yield LeftOut(leg.row, f"{leg.type} {leg.subtype} of {leg.asset}: {_WITHIN}")
    else:
        yield LeftOut(leg.row, f"{leg.type[:40] or 'nothing'} of {leg.asset}: it is not known here. Record it by hand.")


def _trade(refid: str, legs: list[_Leg]) -> Iterator[Read]:
    """Give what the rows of one refid say together; partial fills are summed."""
    first = min(legs)
    amounts: dict[str, Decimal] = defaultdict(Decimal)
    fees: dict[str, Decimal] = defaultdict(Decimal)
    for leg in legs:
        amounts[leg.asset] += leg.amount
        fees[leg.asset] += leg.fee
    given = [asset for asset, amount in amounts.items() if amount < 0]
    taken = [asset for asset, amount in amounts.items() if amount > 0]
    if len(given) != 1 or len(taken) != 1:
        yield RowError(first.row, f"refid: {refid} has not one asset that was given and one that was taken.")
        return
    [paid], [got] = given, taken
    # A fee in the coin itself changes how much of it moved.
    quantity_paid, quantity_got = -amounts[paid] + fees[paid], amounts[got] - fees[got]
    if paid in ISO_4217 and got in ISO_4217:
        fee_in = got if fees[got] else paid
        conversion = {"amount": -amounts[paid], "currency": paid, "fee": fees[fee_in], "fee_currency": fee_in}
        both = {"counter_amount": amounts[got], "counter_currency": got}
        yield _activity(first, refid, {"kind": Kind.CONVERSION.value, **conversion, **both})
        if fees[paid] and fees[got]:
            second = {"kind": Kind.FEE.value, "amount": fees[paid], "currency": paid}
            yield _activity(first, f"{refid}-fee", second)
    elif paid in ISO_4217:
        bought = {"quantity": quantity_got, "amount": -amounts[paid], "currency": paid, "fee": fees[paid]}
        yield _activity(first, refid, {"kind": Kind.BUY.value, **bought}, symbol=got)
    elif got in ISO_4217:
        sold = {"quantity": quantity_paid, "amount": amounts[got], "currency": got, "fee": fees[got]}
        yield _activity(first, refid, {"kind": Kind.SELL.value, **sold}, symbol=paid)
    else:
        worths = [leg.usd for leg in legs if leg.asset == paid]
        if None in worths:
            yield LeftOut(first.row, f"trade of {paid} for {got}: {_NO_WORTH}")
            return
        worth = {"amount": sum((one for one in worths if one is not None), Decimal(0)), "currency": "USD"}
        group = {"group_id": f"kraken-{refid}", **worth}
        sold = {"kind": Kind.SELL.value, "quantity": quantity_paid, **group}
        yield _activity(first, f"{refid}-sell", sold, symbol=paid)
        bought = {"kind": Kind.BUY.value, "quantity": quantity_got, **group}
        yield _activity(first, f"{refid}-buy", bought, symbol=got)
