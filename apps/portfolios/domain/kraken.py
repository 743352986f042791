"""The reader of Kraken's ledgers, of 10, 11, 12 or 16 columns. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from apps.notation import write_number
from apps.portfolios.domain.currencies import ISO_4217
from apps.portfolios.domain.tables import (
    Activity,
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
_NO_PAIR = "its refid has not one asset that was taken for others that were given. Record it by hand."
_BROKEN = "another row of its refid is wrong, so the file does not say all of it."
_LAST_DECIMAL = Decimal("1e-18")


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


def dates_of(table: Table) -> tuple[str, DateOrder | None]:
    """Return the column of dates, and their order where all its files have one."""
    return "time", None


def read(table: Table, rows: Iterable[Row], order: DateOrder | None) -> Iterator[Read]:
    """Give each booking as transactions, those of one refid together, or what is wrong with it, or why it is left
    out."""
    trades: dict[str, list[_Leg]] = defaultdict(list)
    broken: set[str] = set()
    for number, row in enumerate(rows, start=1):
        try:
            refuse_unstorable(row)
            leg = _leg(number, row, order)
        except ValueError as error:
            broken.add(str(row.get("refid")))
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
        if refid in broken:
            yield from (LeftOut(leg.row, f"{leg.type} of {leg.asset}: {_BROKEN}") for leg in legs)
        else:
            yield from _trade(refid, legs)


def _leg(number: int, row: Row, order: DateOrder | None) -> _Leg:
    at, has_time = moment_in(row, "time", order)
    # A minus alone is how it writes that it does not know.
    usd = number_in(row, "amountusd") if str(row.get("amountusd") or "").strip() not in ("", "-") else None
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


class _Side(NamedTuple):
    """What was given or taken in an exchange, without a sign. usd: what it was worth, where the file says so."""

    asset: str
    amount: Decimal
    fee: Decimal
    usd: Decimal | None


def _trade(refid: str, legs: list[_Leg]) -> Iterator[Read]:
    """Give what the rows of one refid say together; partial fills are summed. Where several assets were given for one,
    as when small balances are swept, each was exchanged for a share of it, by what each was worth."""
    first, sides = min(legs), [_side(asset, legs) for asset in dict.fromkeys(leg.asset for leg in legs)]
    given = [one._replace(amount=-one.amount) for one in sides if one.amount < 0]
    taken = [one for one in sides if one.amount > 0]
    if not given or len(taken) != 1:
        yield from (LeftOut(leg.row, f"{leg.type} of {leg.asset}: {_NO_PAIR}") for leg in legs)
        return
    pairs = list(zip(given, _shares(given, taken[0]), strict=False))
    if len(pairs) < len(given) or any(_lacks_worth(*pair) for pair in pairs):
        what = f"trade of {', '.join(one.asset for one in given)} for {taken[0].asset}"
        yield from (LeftOut(leg.row, f"{what}: {_NO_WORTH}") for leg in legs)
        return
    for paid, got in pairs:
        yield from _exchange(first, refid if len(pairs) == 1 else f"{refid}-{paid.asset}", paid, got)


def _side(asset: str, legs: Iterable[_Leg]) -> _Side:
    own = [leg for leg in legs if leg.asset == asset]
    amount, fee = (sum((getattr(leg, name) for leg in own), Decimal(0)) for name in ("amount", "fee"))
    usd = [leg.usd for leg in own if leg.usd is not None]
    return _Side(asset, amount, fee, sum(usd, Decimal(0)) if len(usd) == len(own) else None)


def _shares(given: Sequence[_Side], got: _Side) -> list[_Side]:
    """Return what was taken for each of the assets that were given, in all exactly that; nothing where the file does
    not say what each was worth."""
    worths = [one.usd for one in given if one.usd is not None]
    whole = sum(worths, Decimal(0))
    if len(given) == 1:
        return [got]
    if len(worths) < len(given) or not whole:
        return []
    shares = []
    rest = got
    for worth in worths[:-1]:
        amount, fee = ((of * worth / whole).quantize(_LAST_DECIMAL) for of in (got.amount, got.fee))
        shares.append(got._replace(amount=amount, fee=fee))
        rest = rest._replace(amount=rest.amount - amount, fee=rest.fee - fee)
    return [*shares, rest]


def _lacks_worth(paid: _Side, got: _Side) -> bool:
    """Tell whether a coin was exchanged for a coin and the file does not say what it was worth, or whether it was worth
    so little that nothing of what was taken is its share."""
    is_sale = got.asset in ISO_4217 and paid.asset not in ISO_4217
    return not is_sale and (got.amount <= 0 or (paid.asset not in ISO_4217 and paid.usd is None))


def _exchange(first: _Leg, own_id: str, paid: _Side, got: _Side) -> Iterator[Read]:
    """Give the exchange of one asset for another. A fee in the coin itself changes how much of it moved."""
    sold, bought = {"quantity": paid.amount + paid.fee}, {"quantity": got.amount - got.fee}
    if paid.asset in ISO_4217 and got.asset in ISO_4217:
        side = got if got.fee else paid
        conversion = {"amount": paid.amount, "currency": paid.asset, "fee": side.fee, "fee_currency": side.asset}
        both = {"counter_amount": got.amount, "counter_currency": got.asset}
        yield _activity(first, own_id, {"kind": Kind.CONVERSION.value, **conversion, **both})
        if paid.fee and got.fee:
            second = {"kind": Kind.FEE.value, "amount": paid.fee, "currency": paid.asset}
            yield _activity(first, f"{own_id}-fee", second)
    elif paid.asset in ISO_4217:
        money = {"amount": paid.amount, "currency": paid.asset, "fee": paid.fee}
        yield _activity(first, own_id, {"kind": Kind.BUY.value, **bought, **money}, symbol=got.asset)
    elif got.asset in ISO_4217:
        money = {"amount": got.amount, "currency": got.asset, "fee": got.fee}
        yield _activity(first, own_id, {"kind": Kind.SELL.value, **sold, **money}, symbol=paid.asset)
    else:
        worth = {"group_id": f"kraken-{own_id}", "amount": paid.usd, "currency": "USD"}
        yield _activity(first, f"{own_id}-sell", {"kind": Kind.SELL.value, **sold, **worth}, symbol=paid.asset)
        yield _activity(first, f"{own_id}-buy", {"kind": Kind.BUY.value, **bought, **worth}, symbol=got.asset)
