"""Positions, cash and gains of portfolios, computed from their transactions in order. Pure."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction

from apps.notation import write_number
from apps.portfolios.domain.lots import Lot, add, quantity_of, take
from apps.portfolios.domain.numbers import ONE, ZERO, Exact, less, plus, times, to_decimal, total
from apps.portfolios.domain.records import AssetFlow, Computed, Disposal, Flow, Item, Ledger, Prices, Rates, Settings
from apps.portfolios.domain.transactions import CASH_KINDS, Event, Kind, Refusal, Transaction, order_of

# (whether it comes in, amount, currency, the same in the base currency or None)
Movement = tuple[bool, Fraction, str, Fraction | None]


def without_doubles(typed: Iterable[Transaction], fed: Iterable[Transaction]) -> list[Transaction]:
    """Return both, without typed events of an asset, day and kind that the feed has too."""
    fed = list(fed)
    known = {_event_id(one) for one in fed}
    return [one for one in typed if one.kind is not Kind.EVENT or _event_id(one) not in known] + fed


def _event_id(one: Transaction) -> tuple[object, ...]:
    return (one.portfolio, one.asset, one.at.astimezone(UTC).date(), one.event)


def compute(
    transactions: Iterable[Transaction],
    *,
    settings: Mapping[int, Settings],
    rates: Rates | None = None,
    prices: Prices | None = None,
    complete: Callable[[Transaction, Fraction], Transaction | None] | None = None,
) -> Computed:
    """Return the ledgers of these portfolios, which may transfer to each other. Any order of transactions gives the
    same.

    complete: called for each split without a ratio, with how much is held before it; it returns the split with its
    ratio, or None where it has no effect.

    Each transaction is right by itself (`refusals_of`). What sells, delivers or transfers more than is held is refused
    and has no effect. Transactions of key 0 come from the feed: where their asset is not held they have no effect.
    """
    books = _Books(settings, rates or {}, prices or {})
    for one in sorted(transactions, key=order_of):
        entered: Transaction | None = one
        if complete is not None and one.event is Event.SPLIT and one.numerator is None and one.asset is not None:
            entered = complete(one, books.computed.ledgers[one.portfolio].held(one.asset))
        if entered is not None:
            books.enter(entered)
    return books.computed


class _Refused(Exception):
    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class _Books:
    """The ledgers while transactions are entered one by one."""

    def __init__(self, settings: Mapping[int, Settings], rates: Rates, prices: Prices) -> None:
        self._rates, self._prices = rates, prices
        self._written_rates: dict[Decimal, Fraction] = {}
        self.computed = Computed({key: Ledger(one) for key, one in settings.items()})
        self._enter = {
            Kind.BUY: self._buy,
            Kind.SELL: self._sell,
            Kind.DIVIDEND: self._income,
            Kind.INTEREST: self._income,
            Kind.FEE: self._cost,
            Kind.TAX: self._cost,
            Kind.DEPOSIT: self._deposit,
            Kind.WITHDRAWAL: self._deposit,
            Kind.CONVERSION: self._convert,
            Kind.DELIVERY_IN: self._deliver_in,
            Kind.DELIVERY_OUT: self._deliver_out,
            Kind.TRANSFER: self._transfer,
            Kind.EVENT: self._event,
        }

    def enter(self, one: Transaction) -> None:
        """Enter one transaction, or note why it is refused."""
        book = self.computed.ledgers[one.portfolio]
        try:
            if one.kind in CASH_KINDS and not book.settings.tracks_cash:
                raise _Refused("kind", "This portfolio does not track cash.")
            if one.fee_asset is not None and one.fee_quantity is not None:
                self._refuse_fee_in_asset(book, one)
            self._enter[one.kind](book, one)
        except _Refused as error:
            self.computed.refusals.append(Refusal(one.key, error.field, str(error)))

    # Money

    def _exact(self, written: Decimal) -> Fraction:
        """Return a written rate, of which many transactions have the same."""
        if written not in self._written_rates:
            self._written_rates[written] = Exact.of(written)
        return self._written_rates[written]

    def _base(self, one: Transaction, currency: str, amount: Fraction) -> Fraction | None:
        """Return an amount of this transaction in the base currency."""
        if not amount:
            return ZERO
        return times(amount, self._rate(one.portfolio, currency, one))

    def _rate(self, portfolio: int, currency: str, one: Transaction, at: datetime | None = None) -> Fraction | None:
        """Return the rate of a currency in a portfolio at the time of a transaction: the written one first."""
        if currency == self.computed.ledgers[portfolio].settings.base:
            return ONE
        if one.rate is not None and currency == one.currency and portfolio == one.portfolio and at is None:
            return self._exact(one.rate)
        wanted = (portfolio, currency, at or one.at)
        rate = self._rates.get(wanted)
        if rate is None:
            self.computed.missing_rates.add(wanted)
        return rate

    def _pay(self, book: Ledger, one: Transaction, *movements: Movement) -> None:
        """Move cash by these amounts. Without cash, they come from outside or go there."""
        moved = [movement for movement in movements if movement[1]]
        if not moved:
            return
        if not book.settings.tracks_cash:
            # What is paid comes in from outside.
            came = total(_signed(not is_in, base) for is_in, _, _, base in moved)
            book.flows.append(Flow(one.at, came, one.key))
            return
        for is_in, amount, currency, base in moved:
            self._move(book, one, amount if is_in else -amount, currency)
            book.booked.append(_signed(is_in, base))

    def _paid(self, one: Transaction, *, is_in: bool) -> Movement:
        """Return the movement of the amount of a transaction."""
        amount = Exact.of(one.amount or 0)
        return is_in, amount, one.currency, self._base(one, one.currency, amount)

    def _move(self, book: Ledger, one: Transaction, amount: Fraction, currency: str) -> None:
        book.cash[currency] = book.cash.get(currency, ZERO) + amount
        book.balances.append((one.at, currency, book.cash[currency]))

    def _costs(self, book: Ledger, one: Transaction) -> tuple[list[Movement], Fraction | None]:
        """Note fee and tax of a transaction; return what they move in cash, and their sum in the base currency. A fee
        that is paid in an asset moves no cash."""
        movements: list[Movement] = []
        costs: Fraction | None = ZERO
        sides = ((one.fee, one.fee_currency, book.fees, "fee"), (one.tax, one.tax_currency, book.taxes, "tax"))
        for written, own, items, kind in sides:
            if not written:
                continue
            amount, currency = Exact.of(written), own or one.currency
            base = self._base(one, currency, amount)
            items.append(Item(one.key, one.at, kind, one.asset, amount, currency, base))
            costs = plus(costs, base)
            if kind == "tax" or one.fee_asset is None:
                movements.append((False, amount, currency, base))
        return movements, costs

    def _refuse_fee_in_asset(self, book: Ledger, one: Transaction) -> None:
        held = book.held(one.fee_asset) if one.fee_asset is not None else ZERO
        if one.fee_asset == one.asset:
            change = Exact.of(one.quantity or 0)
            held += change if one.kind is Kind.BUY else -change
        if to_decimal(held) < to_decimal(Exact.of(one.fee_quantity or 0)):
            raise _Refused("fee_quantity", f"Only {_written(max(held, ZERO))} is held to pay the fee from.")

    def _pay_fee_in_asset(self, book: Ledger, one: Transaction) -> None:
        if one.fee_asset is None:
            return
        quantity, currency = Exact.of(one.fee_quantity or 0), one.fee_currency or one.currency
        taken = self._take(book, one, one.fee_asset, quantity, field="fee_quantity")
        self._dispose(book, one, taken, Exact.of(one.fee), currency, costs=ZERO)
        self._put(book, one, one.fee_asset, _signed(False, self._base(one, currency, Exact.of(one.fee))))

    # Lots

    def _take(self, book: Ledger, one: Transaction, asset: int, quantity: Fraction, *, field: str) -> list[Lot]:
        held = book.held(asset)
        found = take(book.lots.get(asset, []), quantity, held=held, method=book.settings.method)
        if found is None:
            at = one.at.astimezone(UTC)
            raise _Refused(
                field, f"Only {_written(held)} is held on {at:%Y-%m-%d}, so {_written(quantity)} cannot leave."
            )
        taken, left, rest = found
        self._keep(book, one, asset, left, rest)
        return taken

    def _keep(self, book: Ledger, one: Transaction, asset: int, lots: list[Lot], held: Fraction) -> None:
        if lots:
            book.lots[asset], book.holdings[asset] = lots, held
        else:
            book.lots.pop(asset, None)
            book.holdings.pop(asset, None)
        book.quantities.append((one.at, asset, held))

    def _add(self, book: Ledger, one: Transaction, lot: Lot) -> None:
        add(book.lots.setdefault(lot.asset, []), lot, method=book.settings.method)
        book.holdings[lot.asset] = book.held(lot.asset) + lot.quantity
        book.quantities.append((one.at, lot.asset, book.holdings[lot.asset]))

    def _dispose(
        self,
        book: Ledger,
        one: Transaction,
        taken: list[Lot],
        proceeds: Fraction,
        currency: str,
        *,
        costs: Fraction | None,
        is_return: bool = False,
    ) -> None:
        """Note what each lot gave, by its quantity. costs: fees and taxes of the sale; is_return: nothing was sold."""
        is_whole = len(taken) == 1
        quantity = ONE if is_whole else quantity_of(taken)
        for lot in taken:
            share = ONE if is_whole else lot.quantity / quantity
            part = proceeds if is_whole else proceeds * share
            base = self._base(one, currency, part)
            at_sale = self._base(one, lot.currency, lot.cost)
            fees = plus(ZERO if is_return else lot.base_fees, costs if is_whole else times(costs, share))
            sold = ZERO if is_return else lot.quantity
            sides = (part, currency, lot.cost, lot.currency, base, lot.base_cost)
            gains = (less(base, lot.base_cost), less(base, at_sale), less(at_sale, lot.base_cost))
            book.disposals.append(Disposal(one.key, one.at, lot.asset, sold, lot.at, *sides, *gains, fees))

    def _put(
        self, book: Ledger, one: Transaction, asset: int | None, base: Fraction | None, *, is_cost: bool = False
    ) -> None:
        """Note what was put into an asset; below 0, what came out of it."""
        if asset is not None and base != 0:
            book.asset_flows.append(AssetFlow(one.at, asset, base, is_cost))

    def _move_worth(self, book: Ledger, one: Transaction, asset: int, priced: int, quantity: Fraction) -> None:
        """Note that an event put into an asset what so much of `priced` is worth that day; below 0, took it away."""
        book.asset_flows.append(AssetFlow(one.at, asset, None, priced=priced, quantity=quantity))

    def _market_value(self, one: Transaction, portfolio: int, asset: int, quantity: Fraction) -> Fraction | None:
        price = self._prices.get((asset, one.at))
        if price is None:
            self.computed.missing_prices.add((asset, one.at))
            return None
        return times(quantity * price.amount, self._rate(portfolio, price.currency, one))

    # Kinds

    def _buy(self, book: Ledger, one: Transaction) -> None:
        assert one.asset is not None and one.quantity is not None and one.amount is not None
        movement, quantity = self._paid(one, is_in=False), Exact.of(one.quantity)
        _, cost, currency, base = movement
        movements, fees = self._costs(book, one)
        # A fee may be paid in the asset that is bought, so the lot comes first.
        self._add(book, one, Lot(one.asset, one.at, quantity, ONE, quantity, currency, cost, base, fees, one.key))
        self._put(book, one, one.asset, plus(base, fees))
        self._pay_fee_in_asset(book, one)
        self._pay(book, one, movement, *movements)

    def _sell(self, book: Ledger, one: Transaction) -> None:
        assert one.asset is not None and one.quantity is not None and one.amount is not None
        taken = self._take(book, one, one.asset, Exact.of(one.quantity), field="quantity")
        movements, costs = self._costs(book, one)
        self._pay_fee_in_asset(book, one)
        movement = self._paid(one, is_in=True)
        self._dispose(book, one, taken, movement[1], one.currency, costs=costs)
        self._put(book, one, one.asset, less(costs, movement[3]))
        self._pay(book, one, movement, *movements)

    def _income(self, book: Ledger, one: Transaction) -> None:
        movement = self._paid(one, is_in=True)
        book.incomes.append(Item(one.key, one.at, one.kind, one.asset, *movement[1:]))
        movements, costs = self._costs(book, one)
        self._put(book, one, one.asset, less(costs, movement[3]))
        self._pay(book, one, movement, *movements)

    def _cost(self, book: Ledger, one: Transaction) -> None:
        movement = self._paid(one, is_in=False)
        items = book.fees if one.kind is Kind.FEE else book.taxes
        items.append(Item(one.key, one.at, one.kind, one.asset, *movement[1:]))
        self._put(book, one, one.asset, movement[3], is_cost=True)
        self._pay(book, one, movement)

    def _deposit(self, book: Ledger, one: Transaction) -> None:
        movement = self._paid(one, is_in=one.kind is Kind.DEPOSIT)
        book.flows.append(Flow(one.at, _signed(movement[0], movement[3]), one.key))
        movements, _ = self._costs(book, one)
        self._pay(book, one, movement, *movements)

    def _convert(self, book: Ledger, one: Transaction) -> None:
        # Both sides are worth the same, so nothing is booked: what they differ by at the day's rates is a currency
        # gain.
        self._move(book, one, -Exact.of(one.amount or 0), one.currency)
        self._move(book, one, Exact.of(one.counter_amount or 0), one.counter_currency)
        movements, _ = self._costs(book, one)
        self._pay(book, one, *movements)

    def _deliver_in(self, book: Ledger, one: Transaction) -> None:
        assert one.asset is not None and one.quantity is not None and one.amount is not None
        cost, quantity, acquired = Exact.of(one.amount), Exact.of(one.quantity), one.acquired_at or one.at
        is_old = one.acquired_at is not None and one.rate is None
        base = times(cost, self._rate(one.portfolio, one.currency, one, acquired if is_old else None))
        lot = Lot(one.asset, acquired, quantity, ONE, quantity, one.currency, cost, base, ZERO, one.key)
        self._receive(book, one, [lot])
        self._pay_costs(book, one)

    def _deliver_out(self, book: Ledger, one: Transaction) -> None:
        assert one.asset is not None and one.quantity is not None
        taken = self._take(book, one, one.asset, Exact.of(one.quantity), field="quantity")
        self._send(book, one, one.portfolio, taken)
        self._pay_costs(book, one)

    def _pay_costs(self, book: Ledger, one: Transaction) -> None:
        movements, costs = self._costs(book, one)
        self._put(book, one, one.asset, costs, is_cost=True)
        self._pay(book, one, *movements)

    def _receive(self, book: Ledger, one: Transaction, lots: list[Lot], portfolio: int | None = None) -> None:
        worth = self._market_value(one, portfolio or one.portfolio, lots[0].asset, quantity_of(lots))
        book.flows.append(Flow(one.at, worth, one.key))
        self._put(book, one, lots[0].asset, worth)
        book.carried.append(less(worth, total(lot.base_cost for lot in lots)))
        for lot in lots:
            self._add(book, one, lot)

    def _send(self, book: Ledger, one: Transaction, portfolio: int, lots: list[Lot]) -> None:
        worth = self._market_value(one, portfolio, lots[0].asset, quantity_of(lots))
        cost = total(lot.base_cost for lot in lots)
        book.flows.append(Flow(one.at, _signed(False, worth), one.key))
        self._put(book, one, lots[0].asset, _signed(False, worth))
        book.carried.append(less(cost, worth))

    def _transfer(self, book: Ledger, one: Transaction) -> None:
        assert one.asset is not None and one.quantity is not None and one.to_portfolio is not None
        taken = self._take(book, one, one.asset, Exact.of(one.quantity), field="quantity")
        self._send(book, one, one.portfolio, taken)
        target = self.computed.ledgers.get(one.to_portfolio)
        if target is not None:
            if target.settings.base != book.settings.base:
                taken = [self._in_base_of(one, lot, one.to_portfolio, book.settings.base) for lot in taken]
            self._receive(target, one, taken, one.to_portfolio)
        self._pay_costs(book, one)

    def _in_base_of(self, one: Transaction, lot: Lot, portfolio: int, base: str) -> Lot:
        """Return a lot with its cost at the rate of its purchase in another portfolio's base currency."""
        base_cost = times(lot.cost, self._rate(portfolio, lot.currency, one, lot.at))
        fees = times(lot.base_fees, self._rate(portfolio, base, one)) if lot.base_fees else ZERO
        return replace(lot, base_cost=base_cost, base_fees=fees)

    # Corporate events

    def _event(self, book: Ledger, one: Transaction) -> None:
        assert one.asset is not None
        lots = book.lots.get(one.asset, [])
        if not lots:
            if one.key:
                raise _Refused("asset", f"None of it is held on {one.at.astimezone(UTC):%Y-%m-%d}.")
            return
        ratio = Exact(one.numerator or 1, one.denominator or 1)
        if one.event is Event.SPLIT:
            self._keep(book, one, one.asset, [lot.split(ratio) for lot in lots], book.held(one.asset) * ratio)
        elif one.event is Event.BONUS:
            self._bonus(book, one, lots, ratio)
        elif one.event in (Event.SYMBOL_CHANGE, Event.MERGER):
            self._merge(book, one, lots, ratio)
        elif one.event is Event.SPIN_OFF:
            self._spin_off(book, one, lots, ratio)
        elif one.event is Event.RETURN_OF_CAPITAL:
            self._return_capital(book, one, lots)
        else:
            held = book.held(one.asset)
            fraction = held - held.numerator // held.denominator
            if not fraction:
                raise _Refused("asset", "No fraction of a share is held, so none can be paid for.")
            taken = self._take(book, one, one.asset, fraction, field="asset")
            self._dispose(book, one, taken, Exact.of(one.amount or 0), one.currency, costs=ZERO)
        if one.event not in (Event.SPLIT, Event.BONUS, Event.SYMBOL_CHANGE, Event.SPIN_OFF):
            movement = self._paid(one, is_in=True)
            if one.event is not Event.MERGER:
                self._put(book, one, one.asset, _signed(False, movement[3]))
            self._pay(book, one, movement)

    def _bonus(self, book: Ledger, one: Transaction, lots: list[Lot], ratio: Fraction) -> None:
        assert one.asset is not None
        quantity, currency = book.held(one.asset) * ratio, one.currency or lots[0].currency
        cost = quantity * Exact.of(one.amount or 0)
        base = self._base(one, currency, cost)
        if one.amount is None:
            book.warnings.append((one.key, "bonus_without_cost"))
        elif cost:
            book.incomes.append(Item(one.key, one.at, Event.BONUS, one.asset, cost, currency, base))
        lot = Lot(one.asset, one.at, quantity, ONE, quantity, currency, cost, base, ZERO, one.key)
        self._add(book, one, lot)

    def _merge(self, book: Ledger, one: Transaction, lots: list[Lot], ratio: Fraction) -> None:
        assert one.asset is not None and one.to_asset is not None
        share = Exact.of(1 if one.cost_share is None else one.cost_share)
        # Of a merger, the cash is a part of what the asset was worth.
        held = book.held(one.asset)
        self._move_worth(book, one, one.asset, one.asset, -held)
        self._move_worth(book, one, one.to_asset, one.to_asset, held * ratio)
        self._keep(book, one, one.asset, [], ZERO)
        for lot in lots:
            moved = replace(lot.less_cost(ONE - share), asset=one.to_asset).split(ratio)
            self._add(book, one, moved)
        if one.amount is not None:
            paid = [replace(lot.less_cost(share), base_fees=ZERO) for lot in lots]
            self._dispose(book, one, paid, Exact.of(one.amount), one.currency, costs=ZERO, is_return=True)

    def _spin_off(self, book: Ledger, one: Transaction, lots: list[Lot], ratio: Fraction) -> None:
        assert one.asset is not None and one.to_asset is not None
        share, given = Exact.of(one.cost_share or 0), book.held(one.asset) * ratio
        self._move_worth(book, one, one.asset, one.to_asset, -given)
        self._move_worth(book, one, one.to_asset, one.to_asset, given)
        self._keep(book, one, one.asset, [lot.less_cost(share) for lot in lots], book.held(one.asset))
        for lot in lots:
            quantity, moved = lot.quantity * ratio, lot.less_cost(ONE - share)
            new = replace(moved, asset=one.to_asset, bought=quantity, factor=ONE, quantity=quantity)
            self._add(book, one, replace(new, base_fees=ZERO))

    def _return_capital(self, book: Ledger, one: Transaction, lots: list[Lot]) -> None:
        """Lower the cost by the cash, and note what is above the cost as a gain."""
        assert one.asset is not None
        cash, held = Exact.of(one.amount or 0), book.held(one.asset)
        kept, returned = [], []
        for lot in lots:
            part = cash * lot.quantity / held
            if lot.currency != one.currency:
                rate = self._rate(one.portfolio, lot.currency, one)
                base = self._base(one, one.currency, part)
                if base is None or not rate:
                    raise _Refused("currency", f"The rate from {one.currency} to {lot.currency} is not known that day.")
                part = base / rate
            share = min(part / lot.cost, ONE) if lot.cost else ZERO
            kept.append(lot.less_cost(share))
            returned.append(lot.less_cost(ONE - share))
        self._keep(book, one, one.asset, kept, held)
        self._dispose(book, one, returned, cash, one.currency, costs=ZERO, is_return=True)


def _signed(is_in: bool, amount: Fraction | None) -> Fraction | None:
    """Return an amount, below 0 where it goes out."""
    return amount if is_in or amount is None else -amount


def _written(quantity: Fraction) -> str:
    return write_number(to_decimal(quantity))
