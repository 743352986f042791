"""The money-weighted annual return of dated flows (XIRR, Act/365F), as a typed answer. Pure."""

import math
from collections.abc import Iterable, Sequence
from datetime import date
from decimal import Context, Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

DAYS_PER_YEAR = 365
RATE_HIGHEST = 1_000_000
# Rates are sought down to −1 + 1e-868: 99.6 % lost in one day.
_LOG_LOWEST = 2_000.0
# Digits of a rate beyond those that the weights of the flows take.
_DIGITS = 60
_NARROWEST = 1e-9
_BISECTIONS = 60
_STEPS = 12


class NoRateReason(StrEnum):
    """Why there is no rate."""

    NO_FLOWS = "no_flows"
    ONE_DAY = "one_day"
    EVERYTHING_LOST = "everything_lost"
    NO_SIGN_CHANGE = "no_sign_change"
    NO_ROOT = "no_root"


class Rate(NamedTuple):
    """The one annual rate at which the flows are worth nothing: 0.1 is 10 %."""

    rate: Decimal


class NoRate(NamedTuple):
    """There is no rate."""

    reason: NoRateReason


class NotUnique(NamedTuple):
    """Several rates fit, in order."""

    roots: tuple[Decimal, ...]


Answer = Rate | NoRate | NotUnique
# (days since the first flow, amount)
_Terms = Sequence[tuple[int, Fraction]]


def xirr(flows: Iterable[tuple[date, Fraction | Decimal]]) -> Answer:
    """Return the annual rate in (−1, 1e6) at which the present value of all flows is 0.

    Money that is paid in is below 0, money that comes back above. Flows of one day are added up.
    """
    by_day: dict[date, Fraction] = {}
    for day, amount in flows:
        by_day[day] = by_day.get(day, Fraction(0)) + Fraction(amount)
    days = sorted(by_day)
    terms = [((day - days[0]).days, by_day[day]) for day in days if by_day[day]]
    if not terms:
        return NoRate(NoRateReason.NO_FLOWS)
    if len(days) == 1:
        return NoRate(NoRateReason.ONE_DAY)
    if all(amount < 0 for _, amount in terms) and by_day[days[-1]] == 0:
        return NoRate(NoRateReason.EVERYTHING_LOST)
    if len({amount > 0 for _, amount in terms}) == 1:
        return NoRate(NoRateReason.NO_SIGN_CHANGE)
    roots = _roots(terms)
    if not roots:
        return NoRate(NoRateReason.NO_ROOT)
    return Rate(roots[0]) if len(roots) == 1 else NotUnique(tuple(roots))


def over_days(rate: Decimal, days: int) -> Decimal:
    """Return what an annual rate comes to over so many days."""
    exact = _context(len(rate.as_tuple().digits))
    return exact.subtract(exact.power(exact.add(rate, 1), exact.divide(Decimal(days), DAYS_PER_YEAR)), Decimal(1))


def net_present_value(rate: Decimal, flows: Iterable[tuple[date, Fraction | Decimal]]) -> Decimal:
    """Return the worth of the flows on the day of the first one."""
    ordered = sorted(flows)
    terms = [((day - ordered[0][0]).days, Fraction(amount)) for day, amount in ordered]
    exact = _context(len(rate.as_tuple().digits))
    return _weigh(terms, exact.ln(exact.add(rate, 1)), exact)[0]


def present_values(rate: Decimal, flows: Iterable[tuple[date, Fraction | Decimal]]) -> list[Decimal]:
    """Return the worth of each flow on the day of the first one, in order of days."""
    ordered = sorted(flows)
    exact = _context(len(rate.as_tuple().digits))
    daily = exact.exp(exact.divide(exact.minus(exact.ln(exact.add(rate, 1))), DAYS_PER_YEAR))
    found, factor, before = [], Decimal(1), min((day for day, _ in ordered), default=date.min)
    for day, amount in ordered:
        factor = exact.multiply(factor, exact.power(daily, (day - before).days))
        before, exactly = day, Fraction(amount)
        number = exact.divide(Decimal(exactly.numerator), Decimal(exactly.denominator))
        found.append(exact.multiply(number, factor))
    return found


def _context(digits: int) -> Context:
    return Context(prec=digits + _DIGITS, Emax=999_999, Emin=-999_999)


def _weigh(terms: _Terms, s: Decimal, exact: Context) -> tuple[Decimal, Decimal]:
    """Return the sum of amount · e^(−s · years), and its slope in s."""
    daily = exact.exp(exact.divide(exact.minus(s), DAYS_PER_YEAR))
    value, slope, factor, before = Decimal(0), Decimal(0), Decimal(1), 0
    for days, amount in terms:
        factor = exact.multiply(factor, exact.power(daily, days - before))
        before = days
        part = exact.multiply(exact.divide(Decimal(amount.numerator), Decimal(amount.denominator)), factor)
        value = exact.add(value, part)
        slope = exact.subtract(slope, exact.multiply(part, exact.divide(Decimal(days), DAYS_PER_YEAR)))
    return value, slope


def _roots(terms: _Terms) -> list[Decimal]:
    """Return every root, in order.

    With s = ln(1 + rate), the sum of amount · e^(−s · years) is searched on both sides of s = 0. Below 0 it is the same
    as above, with the flows in reverse and their days counted back from the last.
    """
    first, last = terms[0][0], terms[-1][0]
    forward = [(days - first, amount) for days, amount in terms]
    backward = [(last - days, amount) for days, amount in reversed(terms)]
    above = _isolated(forward, min(_bound(forward), math.log1p(RATE_HIGHEST)))
    below = _isolated(backward, min(_bound(backward), _LOG_LOWEST))
    found = [] if sum(amount for _, amount in terms) else [Decimal(0)]
    found += [_polished(forward, *interval, sign=1) for interval in above]
    found += [_polished(backward, *interval, sign=-1) for interval in below]
    return sorted(found)


def _bound(terms: _Terms) -> float:
    """Return from where on the first flow outweighs all others together, so that there is no root."""
    others = sum(abs(amount) for _, amount in terms[1:])
    gap = (terms[1][0] - terms[0][0]) / DAYS_PER_YEAR
    ratio = others / abs(terms[0][1])
    return max(math.log(ratio.numerator) - math.log(ratio.denominator), 0) / gap + 1e-6


def _isolated(terms: _Terms, high: float) -> list[tuple[float, float]]:
    """Return intervals above 0, each with one root of the sum of amount · e^(−s · years).

    By Laguerre, there are at most as many roots above s as the partial sums at s change their sign. Where that does not
    decide, an interval is halved until the sum, or its slope, is sure to keep its sign in it.
    """
    years = [days / DAYS_PER_YEAR for days, _ in terms]
    scale = max(abs(amount) for _, amount in terms)
    amounts = [float(amount / scale) for _, amount in terms]
    found, waiting = [], [(0.0, high)]
    while waiting:
        low, high = waiting.pop()
        at_low, at_high = ([a * math.exp(-s * t) for a, t in zip(amounts, years, strict=True)] for s in (low, high))
        begins, ends = _sum_at(terms, low, at_low), math.fsum(at_high)
        changes = _sign_changes(terms, low, at_low)
        if changes == 0 or _keeps_sign(at_low, at_high):
            continue
        if changes == 1 or _keeps_sign(*([-t * a for t, a in zip(years, at, strict=True)] for at in (at_low, at_high))):
            found += [(low, high)] if begins * ends < 0 else []
        elif high - low > _NARROWEST * max(1.0, high):
            middle = (low + high) / 2
            waiting += [(middle, high), (low, middle)]
        elif begins * ends <= 0 or abs(begins) < 1e-12:
            # Two roots that cannot be told apart.
            found.append((low, high))
    return found


def _sum_at(terms: _Terms, low: float, values: Sequence[float]) -> float:
    """Return the sum at `low`. At 0, where it may be exactly 0, it is the sign just above that counts."""
    if low:
        return math.fsum(values)
    total = sum(amount for _, amount in terms)
    return float(total) if total else -float(sum(days * amount for days, amount in terms))


def _sign_changes(terms: _Terms, low: float, values: Sequence[float]) -> int:
    changes, sign = 0, 0
    partial: Fraction | float = Fraction(0) if not low else 0.0
    for (_, amount), value in zip(terms, values, strict=True):
        partial += amount if not low else value
        new = (partial > 0) - (partial < 0)
        changes += bool(sign and new and new != sign)
        sign = new or sign
    return changes


def _keeps_sign(at_low: Sequence[float], at_high: Sequence[float]) -> bool:
    """Tell whether a sum of terms that all come nearer to 0 from `low` to `high` is sure to keep its sign between."""
    most = math.fsum(max(first, last) for first, last in zip(at_low, at_high, strict=True))
    least = math.fsum(min(first, last) for first, last in zip(at_low, at_high, strict=True))
    return most < 0 or least > 0


def _polished(terms: _Terms, low: float, high: float, *, sign: int) -> Decimal:
    """Return the rate whose ln(1 + rate) · sign lies between the two: halved in floats, then by Newton's steps."""
    years = [days / DAYS_PER_YEAR for days, _ in terms]
    scale = max(abs(amount) for _, amount in terms)
    amounts = [float(amount / scale) for _, amount in terms]
    begins = _sum_at(terms, low, [a * math.exp(-low * t) for a, t in zip(amounts, years, strict=True)])
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        value = math.fsum(a * math.exp(-middle * t) for a, t in zip(amounts, years, strict=True))
        if value * begins > 0:
            low = middle
        else:
            high = middle
    # The flows of the first days may weigh that many digits more than those of the last.
    exact = _context(math.ceil((years[-1] + 1) * high / math.log(10)))
    s = Decimal((low + high) / 2)
    for _ in range(_STEPS):
        value_at, slope = _weigh(terms, s, exact)
        if not slope:
            break
        step = exact.divide(value_at, slope)
        s = exact.subtract(s, step)
        if exact.abs(step) <= Decimal(1).scaleb(-exact.prec + 10):
            break
    return exact.subtract(exact.exp(s if sign > 0 else exact.minus(s)), Decimal(1))
