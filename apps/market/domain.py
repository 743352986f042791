"""What a quote must be before it is believed, and where it stands in its feed's log. Pure: no Django, no clock, no
I/O."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Context, Decimal, InvalidOperation
from operator import itemgetter
from typing import Any, NamedTuple

PRICE_LOWEST = Decimal("1e-10")
PRICE_HIGHEST = Decimal("1e12")
PRICE_DECIMALS = 10
PRICE_DIGITS = 15  # What a 64-bit float keeps exactly, so SQLite stores what was judged.
PRICE_MAX_DIGITS = 13 + PRICE_DECIMALS

VOLUME_HIGHEST = Decimal("1e20")
VOLUME_DECIMALS = 8
VOLUME_MAX_DIGITS = 21 + VOLUME_DECIMALS

# A price further than this from the last accepted one, in percent, waits for the next to confirm it.
JUMP_PERCENT = 50
JUMP_PERCENT_HIGHEST = 1_000_000

FUTURE_TOLERANCE = timedelta(seconds=60)
BACKOFF_LIMIT = timedelta(minutes=15)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
# Wide enough that no step of parsing rounds or overflows before the range is checked.
_WIDE = Context(prec=60, Emax=999, Emin=-999)
_QUANTA = {exponent: Decimal(1).scaleb(exponent) for exponent in range(-PRICE_DECIMALS, 1)}


class QuoteRejected(Exception):
    """A quote that will never be accepted. `reason` is short enough to be a metric label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class RawQuote:
    """One quote as a provider gave it: nothing in it is believed yet.

    external_id: the provider's name for the asset; price, volume: str, int or Decimal; at: an aware
    datetime, ISO 8601 with zone, epoch seconds or milliseconds, or None where the provider gives no event time.
    """

    external_id: str
    price: Any
    at: Any = None
    volume: Any = None


class AdmittedQuote(NamedTuple):
    """One believed quote: price rounded as it is stored, `at` aware and UTC. A tuple: there are many of them."""

    asset_id: int
    at: datetime
    price: Decimal
    volume: Decimal | None = None


@dataclass(slots=True)
class Admission:
    """What became of one answer: the believed quotes, oldest first, and the rest counted by reason."""

    quotes: list[AdmittedQuote] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True)
class Placement:
    """Where believed quotes stand against the newest stored ones of their assets."""

    fresh: list[AdmittedQuote] = field(default_factory=list)
    late: list[AdmittedQuote] = field(default_factory=list)
    rejected: Counter[str] = field(default_factory=Counter)


def epoch_microseconds(at: datetime) -> int:
    """Return `at` as microseconds since 1970, exactly (a float timestamp would round)."""
    return (at - _EPOCH) // _MICROSECOND


def from_epoch_microseconds(microseconds: int) -> datetime:
    """Return the aware UTC datetime of `microseconds` since 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)


def price_units(price: Decimal) -> int:
    """Return a stored price as an integer of 1e-10."""
    return int(price.scaleb(PRICE_DECIMALS, context=_WIDE))


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
        if len(value) > 64 or not value.isascii() or "_" in value:
            raise QuoteRejected("malformed")
        try:
            return Decimal(value)
        except InvalidOperation:
            raise QuoteRejected("malformed") from None
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= 200:
        return Decimal(value)
    raise QuoteRejected("malformed")


def admit_price(value: Any) -> Decimal:
    """Return `value` as a price: in [1e-10, 1e12], rounded once, half-even, to 10 decimals and 15 significant digits.

    Raises QuoteRejected: missing, malformed, not_finite, out_of_range.
    """
    if value is None or value == "":
        raise QuoteRejected("missing")
    price = parse_number(value)
    if not price.is_finite():
        raise QuoteRejected("not_finite")
    if not PRICE_LOWEST <= price <= PRICE_HIGHEST:
        raise QuoteRejected("out_of_range")
    return price.quantize(_QUANTA[max(-PRICE_DECIMALS, price.adjusted() - PRICE_DIGITS + 1)], context=_WIDE)


def admit_volume(value: Any) -> Decimal | None:
    """Return `value` as a volume, or None: a volume is an ornament, a bad one does not cost the quote."""
    if value is None:
        return None
    try:
        volume = parse_number(value)
    except QuoteRejected:
        return None
    if not volume.is_finite() or not 0 <= volume <= VOLUME_HIGHEST:
        return None
    digits_left = PRICE_DIGITS - 1 - volume.adjusted() if volume else 0
    return volume.quantize(Decimal(1).scaleb(-max(0, min(VOLUME_DECIMALS, digits_left))), context=_WIDE)


def admit_time(value: Any, *, as_of: datetime, assumed: datetime) -> datetime:
    """Return `value` as an aware UTC datetime, cut to `as_of`; None becomes `assumed`.

    Numbers are epoch seconds, or milliseconds where they are too large for seconds.
    Raises QuoteRejected: time_malformed, time_naive, time_out_of_range, time_in_future (more than 60 s ahead of
    `as_of`).
    """
    if value is None:
        return assumed
    if isinstance(value, str):
        try:
            value = int(value) if value.isascii() and value.isdecimal() else datetime.fromisoformat(value)
        except ValueError:
            raise QuoteRejected("time_malformed") from None
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        if isinstance(value, Decimal) and not value.is_finite():
            raise QuoteRejected("time_malformed")
        if not 0 <= value < 10**14:
            raise QuoteRejected("time_out_of_range")
        microseconds = int(value * (1_000_000 if value < 10**11 else 1_000))
        value = from_epoch_microseconds(microseconds)
    if not isinstance(value, datetime):
        raise QuoteRejected("time_malformed")
    if value.tzinfo is None:
        raise QuoteRejected("time_naive")
    if value > as_of:
        if value - as_of > FUTURE_TOLERANCE:
            raise QuoteRejected("time_in_future")
        value = as_of
    if value < _EARLIEST:
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
) -> Admission:
    """Believe or reject each quote of one answer; what is believed comes back sorted by (at, asset).

    asset_ids: external id -> asset id; as_of: the feed's clock at receipt; assumed_at: the event time
    of quotes that carry none; oldest_at: what is older is not kept anyway. Of two equal (asset, at) in one answer
    the first stands.
    """
    admission = Admission()
    seen: dict[tuple[int, datetime], Decimal] = {}
    for raw in raw_quotes:
        asset_id = asset_ids.get(raw.external_id)
        if asset_id is None:
            admission.rejected["unknown_asset"] += 1
            continue
        try:
            price = admit_price(raw.price)
            at = admit_time(raw.at, as_of=as_of, assumed=assumed_at)
            if oldest_at is not None and at < oldest_at:
                raise QuoteRejected("too_old")
        except QuoteRejected as rejection:
            admission.rejected[rejection.reason] += 1
            continue
        first = seen.setdefault((asset_id, at), price)
        if first is not price:
            admission.rejected["duplicate" if first == price else "conflict"] += 1
            continue
        admission.quotes.append(AdmittedQuote(asset_id, at, price, admit_volume(raw.volume)))
    admission.quotes.sort(key=itemgetter(1, 0))
    return admission


def place(
    quotes: Sequence[AdmittedQuote],
    *,
    newest: Mapping[int, int],
    stored_prices: Callable[[list[AdmittedQuote]], Mapping[tuple[int, datetime], Decimal]],
) -> Placement:
    """Tell fresh quotes from late ones and from those whose (asset, at) is stored already.

    newest: asset id -> time, in microseconds since 1970, of its newest stored quote that is not late; stored_prices:
    looks up the prices of the few quotes that are not newer than that. A differing second price is a conflict.
    """
    placement = Placement()
    behind = []
    for quote in quotes:
        known = newest.get(quote.asset_id)
        if known is None or epoch_microseconds(quote.at) > known:
            placement.fresh.append(quote)
        else:
            behind.append(quote)
    if behind:
        stored = stored_prices(behind)
        for quote in behind:
            price = stored.get((quote.asset_id, quote.at))
            if price is None:
                placement.late.append(quote)
            else:
                placement.rejected["duplicate" if price == quote.price else "conflict"] += 1
    return placement


def next_slot_after(
    *,
    slot: datetime,
    interval_seconds: int,
    failures: int,
    retry_after_seconds: int | None = None,
    least_seconds: int = 0,
) -> datetime:
    """Return when a feed is due again: the next slot, or while it fails the first slot after a wait that doubles.

    The wait is 15 min at most, or what the provider asks for, up to 1 h; in any case `least_seconds`, which the
    provider's limits want between two rounds.
    """
    interval = timedelta(seconds=interval_seconds)
    wait = interval
    if failures:
        wait = min(interval * 2 ** min(failures, 20), max(interval, BACKOFF_LIMIT))
        if retry_after_seconds is not None:
            wait = max(wait, timedelta(seconds=min(max(retry_after_seconds, 1), 3600)))
    wait = max(wait, timedelta(seconds=least_seconds))
    # A whole number of slots: due between two of them, it would be claimed again and again until the later one begins.
    slots: int = -(-wait // interval)
    return slot + slots * interval
