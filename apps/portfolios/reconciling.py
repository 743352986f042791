"""Files of positions beside what is computed."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal

from apps.market.models import Asset
from apps.market.queries import assets_named
from apps.notation import write_number
from apps.portfolios.domain.numbers import to_decimal
from apps.portfolios.domain.positions import Deviation, deviations_of, document_of
from apps.portfolios.history import steps_of
from apps.portfolios.models import LedgerCopy, Portfolio, Reconciliation
from apps.portfolios.services import refresh


def keep_positions(
    *, portfolio: Portfolio, name: str, day: date, stated: Mapping[str, Decimal], now: datetime
) -> Reconciliation:
    """Store what a file says was held at the end of a day, compared with what is computed, and return it. From now on
    it is the file that counts. stated: symbol -> quantity."""
    row = Reconciliation(portfolio=portfolio, name=name[:255], day=day, uploaded_at=now)
    row.stated = {symbol: write_number(quantity) for symbol, quantity in sorted(stated.items())}
    _compare(row, now=now)
    row.save()
    return row


def compare_again(portfolio_id: int, *, now: datetime) -> Reconciliation | None:
    """Compare the newest file of a portfolio with what is computed now, store where that differs, and return it,
    locked; None where there is none. In the caller's transaction."""
    rows = Reconciliation.objects.select_for_update(no_key=True, of=("self",)).select_related("portfolio__owner")
    row = rows.filter(portfolio=portfolio_id).order_by("-uploaded_at", "-pk").first()
    if row is not None:
        before = row.deviations
        _compare(row, now=now)
        if row.deviations != before:
            row.save(update_fields=["deviations", "compared_at"])
    return row


def reconciled_portfolios() -> set[int]:
    """Return the portfolios that have a file of positions. One statement."""
    return set(Reconciliation.objects.order_by().values_list("portfolio", flat=True).distinct())


def reconciliations_of(portfolio: Portfolio, *, most: int) -> list[Reconciliation]:
    """Return the files of positions of a portfolio, newest first. One statement."""
    return list(Reconciliation.objects.filter(portfolio=portfolio).order_by("-uploaded_at", "-pk")[:most])


def _compare(row: Reconciliation, *, now: datetime) -> None:
    """Write into the row where it differs from what is computed."""
    refresh(portfolio=row.portfolio)
    copy = LedgerCopy.objects.get(portfolio=row.portfolio)
    held = {key: to_decimal(steps.on(row.day)) for key, steps in steps_of(copy.quantities).items()}
    symbols = dict(Asset.objects.filter(pk__in=held).values_list("pk", "symbol"))
    named = assets_named(row.stated)
    stated: dict[str, Decimal] = {}
    for name, quantity in row.stated.items():
        # A symbol of the file may be an alias, and two of them one asset.
        symbol = named[name].symbol if name in named else name
        stated[symbol] = stated.get(symbol, Decimal(0)) + Decimal(quantity)
    computed = {symbols[key]: quantity for key, quantity in held.items() if key in symbols}
    ids = {symbol: key for key, symbol in symbols.items()} | {one.symbol: one.pk for one in named.values()}
    found: list[Deviation] = deviations_of(stated, computed, ids)
    row.deviations, row.compared_at = document_of(found), now
