"""What portfolios were worth as it was known in the night after each day, and why that differs today."""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import NamedTuple

from django.db.models import Exists, OuterRef, Q, Subquery

from apps.portfolios.domain.nights import Difference, difference_of, document_of, parts_of, rounded
from apps.portfolios.domain.numbers import less, to_decimal, total
from apps.portfolios.history import ONE_DAY, History
from apps.portfolios.models import LedgerCopy, NightlyValue, Portfolio, Transaction, TransactionChange
from apps.portfolios.services import refresh

# A day is recorded so long after its end: by then its last quotes are in candles.
RECORDED_AFTER = timedelta(hours=1)


def last_day(now: datetime) -> date:
    """Return the last day that can be recorded."""
    return (now - RECORDED_AFTER).astimezone(UTC).date() - ONE_DAY


def portfolios_to_record(*, now: datetime) -> list[int]:
    """Return the portfolios whose value of the last day is not recorded yet. One statement."""
    recorded = NightlyValue.objects.filter(portfolio=OuterRef("pk"), day=last_day(now))
    waiting = Portfolio.objects.filter(~Exists(recorded), ~Q(ledger_copy__quantities=[], ledger_copy__balances=[]))
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def record_night(*, portfolio_id: int, now: datetime) -> None:
    """Record what a portfolio was worth at the end of the last day. Days before it stay as they are: what was known
    then is not known any more. Of two at once, the database keeps one; a portfolio that is gone has none."""
    portfolio, day = Portfolio.objects.filter(pk=portfolio_id).first(), last_day(now)
    if portfolio is None:
        return
    refresh(portfolio=portfolio)
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    history = History(portfolio, copy, since=day, until=day, now=now)
    parts, known = rounded(history.parts_on(day)), history.day(day)
    value, flows = total(one.value for one in parts), less(known.inflow, known.outflow)
    row = NightlyValue(
        portfolio=portfolio,
        day=day,
        currency=portfolio.base_currency,
        value=None if value is None else to_decimal(value),
        flows=None if flows is None else to_decimal(flows),
        oldest_at=min((one.at for one in parts if one.at is not None), default=None),
        parts=document_of(parts),
        recorded_at=now,
    )
    NightlyValue.objects.bulk_create([row], ignore_conflicts=True)


class Night(NamedTuple):
    """A recorded day beside today's computation of it. value, flows: as computed today; difference: today's value less
    the recorded one, by cause, None where the base currency has changed since."""

    then: NightlyValue
    value: Fraction | None
    flows: Fraction | None
    difference: Difference | None


def nights_of(portfolio: Portfolio, *, before: date | None = None, most: int) -> list[NightlyValue]:
    """Return the newest recorded days, those before a day, newest first. One statement."""
    rows = NightlyValue.objects.filter(portfolio=portfolio)
    return list((rows if before is None else rows.filter(day__lt=before)).order_by("-day")[:most])


def last_nights(portfolio_ids: Collection[int]) -> dict[int, NightlyValue]:
    """Return portfolio id -> the newest recorded day, where no transaction counts, was recorded or was corrected since:
    what differs today is the market's. One statement."""
    newest = NightlyValue.objects.filter(portfolio=OuterRef("portfolio")).order_by("-day").values("day")[:1]
    own = Q(portfolio=OuterRef("portfolio")) | Q(to_portfolio=OuterRef("portfolio"))
    since = Q(day__gt=OuterRef("day")) | Q(recorded_at__gt=OuterRef("recorded_at"))
    changes = TransactionChange.objects.filter(portfolio=OuterRef("portfolio"), at__gt=OuterRef("recorded_at"))
    rows = NightlyValue.objects.filter(portfolio__in=portfolio_ids, day=Subquery(newest)).defer("parts")
    rows = rows.exclude(Exists(Transaction.objects.filter(own, since))).exclude(Exists(changes))
    return {one.portfolio_id: one for one in rows}


def compared(portfolio: Portfolio, nights: Sequence[NightlyValue], *, now: datetime) -> list[Night]:
    """Return recorded days beside today's computation of them. A few statements, however many they are."""
    if not nights:
        return []
    days = [one.day for one in nights]
    copy = LedgerCopy.objects.get(portfolio=portfolio)
    history = History(portfolio, copy, since=min(days), until=max(days), now=now)
    return [_night(one, history, base=portfolio.base_currency) for one in nights]


def _night(then: NightlyValue, history: History, *, base: str) -> Night:
    today, known = rounded(history.parts_on(then.day)), history.day(then.day)
    difference = difference_of(parts_of(then.parts), today) if then.currency == base else None
    return Night(then, total(one.value for one in today), less(known.inflow, known.outflow), difference)
