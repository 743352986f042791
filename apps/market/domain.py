"""What a quote must be before it is believed. Pure: no Django, no clock, no I/O."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from enum import Enum
from operator import itemgetter
from typing import Any, NamedTuple, TypeVar

from apps.notation import WIDE

# Exact: as it is stored, or as the engine has it (in 1e-18). All of one call are of one kind.
Price = TypeVar("Price", Decimal, int)
Moment = TypeVar("Moment", datetime, int)

PRICE_LOWEST = Decimal("1e-15")
PRICE_HIGHEST = Decimal("1e12")
PRICE_DECIMALS = 18
PRICE_DIGITS = 15  # What a 64-bit float keeps exactly, so SQLite stores what was evaluated.
PRICE_MAX_DIGITS = 13 + PRICE_DECIMALS
# The engine counts prices in whole units: a unit is the last decimal.
UNITS_PER_ONE = 10**PRICE_DECIMALS

VOLUME_HIGHEST = Decimal("1e20")
VOLUME_DECIMALS = 8
VOLUME_MAX_DIGITS = 21 + VOLUME_DECIMALS

# A price further than this from the last accepted one, in percent, waits for the next to confirm it.
JUMP_PERCENT = 50
JUMP_PERCENT_HIGHEST = 1_000_000
JUMPS_IN_A_ROW = 3  # That many are believed without being confirmed.

RUN_LONGEST = 1_000  # Prices of one asset at one time; together they take a millisecond.
# Where another provider takes over, a step of at most so many percent within so many intervals is a difference between
# the two and no movement. A provider that comes back within as many, or within FACTOR_KEPT, has the factor that it had.
SWITCH_STEP_PERCENT = 5
SWITCH_STEP_PERCENT_HIGHEST = 100
SWITCH_INTERVALS = 3
FACTOR_KEPT = timedelta(days=1)

EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)  # What is from before that is no quote.
FUTURE_TOLERANCE = timedelta(seconds=60)

# A number with a leading zero, like 0951, is a code or has lost its decimal comma, so it is not read as a price.
_LEADING_ZERO = re.compile(r"\s*[+-]?0\d", re.ASCII)
_EPOCH_TEXT = re.compile(r"(?:0|[1-9]\d{0,19})(?:\.\d*)?", re.ASCII)
# The end of a day as the hour 24, and a leap second: times that no clock here shows.
_OFF_CLOCK = re.compile(r"\d{4}\S{4,6}[T ](?:24|\d\d:?\d\d:?60)", re.ASCII)


def _quantum(first: int) -> Decimal:
    return Decimal(1).scaleb(max(-PRICE_DECIMALS, first - PRICE_DIGITS + 1))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# So many digits that price · factor, rounded to a unit, is the price that it was made of.
_FACTOR = Context(prec=34, Emax=999, Emin=-999)
# Bound once: an answer has thousands of prices, and this way is three times as fast as `quantize(…, context=WIDE)`.
_quantize = WIDE.quantize
# What a price is rounded to, by the place of its first digit.
_QUANTA = {first: _quantum(first) for first in range(PRICE_LOWEST.adjusted(), PRICE_HIGHEST.adjusted() + 1)}


class QuoteRejected(Exception):
    """A quote that will never be accepted. `reason` is short enough to be a metric label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RawQuote(NamedTuple):
    """One quote as a provider gave it: nothing in it is believed yet. A tuple: there are many of them.

    external_id: the provider's name for the asset; price, volume: str, int or Decimal; at: an aware
    datetime, ISO 8601 with zone, an epoch, or None where the provider gives no event time.
    """

    external_id: str
    price: Any
    at: Any = None
    volume: Any = None


class AdmittedQuote(NamedTuple):
    """One believed quote: price rounded as it is stored, `at` aware and UTC. A tuple: there are many of them.

    message: the number of the push message, where one entry has the quotes of several.
    """

    asset_id: int
    at: datetime
    price: Decimal
    volume: Decimal | None = None
    message: int = 0


@dataclass(slots=True)
class Admission:
    """What became of one answer: the believed quotes, oldest first, how many said the same again, and the rest counted
    by reason. An asset may have several prices at one time, in their order, until `placing.spread` sets them apart."""

    quotes: list[AdmittedQuote] = field(default_factory=list)
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)


class Given(NamedTuple):
    """The prices of a candle as they were given."""

    open: int
    low: int
    high: int
    close: int


class PathCandle(NamedTuple):
    """A candle within a price path: what is known of quotes that are kept no more, in one span between two multiples
    of `resolution`.

    low_at, high_at: when the lowest and the highest price was quoted last; price_time, square_time: the sums of
    price · time and price² · time from first_at to last_at. Microseconds and 1e-18, as windows see them: with the
    factors of providers. given: its prices as they were given.

    A window whose grid is a multiple of that resolution takes it as it would have taken the quotes: no grid point lies
    within it, so they leave together, except for the first where it stands on one. And who looks back further
    than the engine's COARSE of a resolution has such a grid.
    """

    resolution: int
    first_at: int
    open: int
    low_at: int
    low: int
    high_at: int
    high: int
    last_at: int
    close: int
    price_time: int
    square_time: int
    given: Given


# The factor by which windows multiply a price, as (numerator, denominator).
Factor = tuple[int, int]
ONE: Factor = (1, 1)


class Switch(NamedTuple):
    """A change of provider within a price path: from the quote at `at` on, windows take price · factor.

    at: microseconds since 1970; before, now: the two providers.
    """

    at: int
    before: str
    now: str
    factor: Factor = ONE


# Of a price path: a quote, as (at, price), or what stands for many; or a change of provider, before its first quote.
PathItem = tuple[int, int] | PathCandle | Switch


class Newest(NamedTuple):
    """The newest stored quote of an asset that is not late. at: microseconds since 1970."""

    at: int
    price: Decimal
    provider: str = ""


class Unconfirmed(NamedTuple):
    """A believed quote whose price jumped, and which waits for the next. times: how many in a row have jumped."""

    quote: AdmittedQuote
    provider: str
    times: int = 1


class Verdict(Enum):
    """The fate of a quote that is newer than the last accepted one, given the unconfirmed one if there is any."""

    ACCEPTED = "accepted"  # The unconfirmed one was an error, and is given up.
    CONFIRMS = "confirms"  # Accepted, and so is the unconfirmed one.
    BESIDE = "beside"  # Accepted; it is older than the unconfirmed one, which goes on waiting.
    UNCONFIRMED = "unconfirmed"  # It takes the place of the unconfirmed one, which is given up.
    JUMP = "jump"  # It jumps, and is older than the unconfirmed one.


def epoch_microseconds(at: datetime) -> int:
    """Return `at` as microseconds since 1970, exactly (a float timestamp would round)."""
    return (at - _EPOCH) // _MICROSECOND


def from_epoch_microseconds(microseconds: int) -> datetime:
    """Return the aware UTC datetime of `microseconds` since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def price_units(price: Decimal) -> int:
    """Return a stored price as an integer of 1e-18."""
    return int(price.scaleb(PRICE_DECIMALS, context=WIDE))


def price_of(units: int) -> Decimal:
    """Return an integer of 1e-18 as a price."""
    return WIDE.divide(Decimal(units), Decimal(UNITS_PER_ONE))


def scaled(units: int, numerator: int, denominator: int) -> int:
    """Return units · numerator / denominator, rounded half to even. A price that is not 0 stays at least 1 unit away
    from it. numerator, denominator: positive."""
    whole, rest = divmod(abs(units) * numerator, denominator)
    whole += 2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1)
    return (max(whole, 1) if units > 0 else -max(whole, 1)) if units else 0


def slot_of(*, at: datetime, interval_seconds: int) -> datetime:
    """Return the start of the UTC-aligned slot of `interval_seconds` that `at` falls into."""
    seconds = (at - _EPOCH) // timedelta(seconds=1)
    return _EPOCH + timedelta(seconds=seconds - seconds % interval_seconds)


def parse_number(value: Any) -> Decimal:
    """Read a number that came from outside. Raises QuoteRejected("malformed") for anything else.

    Floats are refused: a parser that made one has already rounded (read JSON with parse_float=Decimal).
    """
    if isinstance(value, Decimal):
        return value
    if isinstance(value, str):
        if len(value) > 64 or not value.isascii() or "_" in value or _LEADING_ZERO.match(value):
            raise QuoteRejected("malformed")
        try:
            return Decimal(value)
        except InvalidOperation:
            raise QuoteRejected("malformed") from None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 200:
        return Decimal(value)
    raise QuoteRejected("malformed")


def admit_price(value: Any, *, signed: bool = False) -> Decimal:
    """Return `value` as a price: in [1e-15, 1e12], rounded once, half-even, to 18 decimals and 15 significant digits.

    signed: it may be 0 too, or in [-1e12, -1e-15].
    Raises QuoteRejected: missing, malformed, not_finite, out_of_range.
    """
    if value is None or value == "":
        raise QuoteRejected("missing")
    price = parse_number(value)
    if not price.is_finite():
        raise QuoteRejected("not_finite")
    if not PRICE_LOWEST <= price <= PRICE_HIGHEST:
        if signed and not price:
            return Decimal(0)  # However it is written: there is no minus zero.
        if not signed or not PRICE_LOWEST <= -price <= PRICE_HIGHEST:
            raise QuoteRejected("out_of_range")
    return _quantize(price, _QUANTA[price.adjusted()])


def round_price(price: Decimal) -> Decimal:
    """Return any price rounded half to even to 18 decimals and 15 significant digits."""
    return _quantize(price, _quantum(price.adjusted()))


def admit_volume(value: Any) -> Decimal | None:
    """Return `value` as a volume, or None: volume is optional, and an invalid one is dropped."""
    if value is None:
        return None
    try:
        volume = parse_number(value)
    except QuoteRejected:
        return None
    if not volume.is_finite() or not 0 <= volume <= VOLUME_HIGHEST:
        return None
    digits_left = PRICE_DIGITS - 1 - volume.adjusted() if volume else 0
    return volume.quantize(Decimal(1).scaleb(-max(0, min(VOLUME_DECIMALS, digits_left))), context=WIDE)


def read_time(value: Any) -> datetime:
    """Return an aware datetime: of one, of ISO 8601 with a zone, or of an epoch, as a number or a text.

    An epoch is in seconds below 1e11, in milliseconds below 1e14, in microseconds below 1e17 and in nanoseconds below
    1e20. Raises QuoteRejected: time_malformed, time_naive, time_out_of_range, also for the hour 24 and the second 60.
    """
    if isinstance(value, str):
        try:
            value = Decimal(value) if _EPOCH_TEXT.fullmatch(value) else datetime.fromisoformat(value)
        except ValueError:
            off_clock = _OFF_CLOCK.match(value) is not None
            raise QuoteRejected("time_out_of_range" if off_clock else "time_malformed") from None
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        value = _moment_of_epoch(value)
    if not isinstance(value, datetime):
        raise QuoteRejected("time_malformed")
    if value.tzinfo is None:
        raise QuoteRejected("time_naive")
    return value


def _moment_of_epoch(number: int | Decimal) -> datetime:
    if isinstance(number, Decimal) and not number.is_finite():
        raise QuoteRejected("time_malformed")
    if not 0 <= number < 10**20:
        raise QuoteRejected("time_out_of_range")
    if number >= 10**17:
        return from_epoch_microseconds(int(number) // 1_000)
    return from_epoch_microseconds(int(number * (1_000_000 if number < 10**11 else 1_000 if number < 10**14 else 1)))


def admit_time(value: Any, *, as_of: datetime) -> datetime:
    """Return `value` as an aware UTC datetime, cut to `as_of`.

    Raises QuoteRejected: what `read_time` raises, time_in_future (more than 60 s ahead of `as_of`).
    """
    value = read_time(value)
    if value > as_of:
        if value - as_of > FUTURE_TOLERANCE:
            raise QuoteRejected("time_in_future")
        value = as_of
    if value < EARLIEST:
        raise QuoteRejected("time_out_of_range")
    in_utc: datetime = value.astimezone(UTC)
    return in_utc


def admit(
    raw_quotes: Iterable[RawQuote],
    *,
    asset_ids: Mapping[str, int],
    as_of: datetime,
    assumed_at: datetime,
    oldest_at: datetime | None = None,
    by_receipt: bool = False,
    signed: Collection[int] = (),
) -> Admission:
    """Believe or reject each quote of one answer; what is believed comes back as `in_runs` orders it.

    asset_ids: external id -> asset id; as_of: the feed's clock at receipt; assumed_at: the event time
    of quotes that carry none; oldest_at: what is older is not kept anyway; by_receipt: whatever times they carry, they
    get as_of; signed: ids of the assets whose price may be 0 or less. Quotes ahead of
    as_of are cut to it, and follow in the order of their own times.
    """
    believed: list[AdmittedQuote] = []
    ahead: list[tuple[datetime, AdmittedQuote]] = []
    rejected: Counter[str] = Counter()
    for external_id, raw_price, raw_at, raw_volume in raw_quotes:
        asset_id = asset_ids.get(external_id)
        if asset_id is None:
            rejected["unknown_asset"] += 1
            continue
        try:
            price = admit_price(raw_price, signed=asset_id in signed)
            own = as_of if by_receipt else assumed_at if raw_at is None else read_time(raw_at)
            at = own if by_receipt or raw_at is None else admit_time(own, as_of=as_of)
            if oldest_at is not None and at < oldest_at:
                raise QuoteRejected("too_old")
        except QuoteRejected as rejection:
            rejected[rejection.reason] += 1
            continue
        volume = None if raw_volume is None else admit_volume(raw_volume)
        quote = AdmittedQuote(asset_id, at, price, volume)
        if own > as_of:
            ahead.append((own, quote))
        else:
            believed.append(quote)
    admission = in_runs(believed + [quote for _, quote in sorted(ahead, key=itemgetter(0))])
    admission.rejected = rejected
    return admission


def in_runs(quotes: list[AdmittedQuote]) -> Admission:
    """Return the quotes of one answer, push message or file by (at, asset), those of one asset at one time in their
    order, equal neighbours once."""
    admission = Admission()
    before = None
    for quote in sorted(quotes, key=itemgetter(1, 0)):
        if before is not None and quote.at == before.at and quote[0] == before[0] and quote.price == before.price:
            admission.repeated += 1
        else:
            admission.quotes.append(quote)
            before = quote
    return admission


def together(messages: Iterable[Admission]) -> Admission:
    """Return what became of the push messages of one entry, in the order of their receipt."""
    whole = Admission()
    for number, one in enumerate(messages):
        whole.quotes += [quote._replace(message=number) for quote in one.quotes] if number else one.quotes
        whole.repeated += one.repeated
        whole.rejected += one.rejected
    whole.quotes.sort(key=itemgetter(1, 0))
    return whole


def days_of(quotes: Iterable[AdmittedQuote]) -> set[date]:
    """Return the days, in UTC, in which quotes are stored once they are set apart."""
    reach = RUN_LONGEST * _MICROSECOND
    return {moment.date() for at in {quote.at for quote in quotes} for moment in (at, at + reach)}


def jumps(price: Price, *, reference: Price, percent: int) -> bool:
    """Tell whether a price is further than `percent` of the reference from it; both in one unit. 0 percent: never, as
    for a signed asset: a percent of 0 or less says nothing."""
    return percent > 0 and abs(price - reference) * 100 > reference * percent


def factor_of_switch(
    price: Decimal, *, last: Decimal, last_factor: Decimal, is_soon: bool, step_percent: int
) -> Decimal:
    """Return the factor of a provider without one, which takes over with `price`; 34 digits, rounded half to even.

    With it the first price continues the path. Where it does not come soon after the last price, or is further than
    step_percent from it, or one of the two is not above 0, that is movement: the factor is that of the provider before.
    """
    is_step = abs(price - last) * 100 > abs(last) * step_percent
    if not is_soon or price <= 0 or last <= 0 or is_step:
        return last_factor
    return _FACTOR.divide(WIDE.multiply(last, last_factor), price).normalize(_FACTOR)


def verdict_on(
    at: Moment, price: Price, *, last: Price | None, unconfirmed: tuple[Moment, Price, int] | None, percent: int
) -> Verdict:
    """Return what becomes of a quote that is newer than the last accepted one.

    A price that jumps is unconfirmed. The next one is accepted where it does not jump from the last accepted one: then
    the unconfirmed one was an error. Where it does, it confirms an unconfirmed one that is near to it, or takes its
    place; and the third in a row that jumps is accepted. last: the last accepted price; unconfirmed: time and price of
    what waits, and how many in a row have jumped, it among them; its time is another one than `at`. Prices are in one
    unit, times of one kind.
    """
    is_jump = last is not None and jumps(price, reference=last, percent=percent)
    if unconfirmed is None:
        return Verdict.UNCONFIRMED if is_jump else Verdict.ACCEPTED
    unconfirmed_at, unconfirmed_price, times = unconfirmed
    if at < unconfirmed_at:
        return Verdict.JUMP if is_jump else Verdict.BESIDE
    if not is_jump:
        # Since a split was entered, the price that waits may be no jump any more.
        is_near = last is not None and not jumps(unconfirmed_price, reference=last, percent=percent)
        return Verdict.CONFIRMS if is_near else Verdict.ACCEPTED
    if not jumps(price, reference=unconfirmed_price, percent=percent):
        return Verdict.CONFIRMS
    return Verdict.ACCEPTED if times + 1 >= JUMPS_IN_A_ROW else Verdict.UNCONFIRMED
