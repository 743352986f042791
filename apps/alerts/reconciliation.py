"""Alerts about portfolios that differ from a file of positions."""

from datetime import datetime

from apps.alerts.episodes import OPENED, POSITIONS_DIFFER, POSITIONS_FIT, RESOLVED
from apps.alerts.models import Alert, AlertEvent
from apps.portfolios.domain.positions import deviations_in
from apps.portfolios.models import Reconciliation
from apps.portfolios.reconciling import compare_again

SUBJECT = "portfolio"
_NAMED_MOST = 20


def reconcile(*, portfolio_id: int, now: datetime) -> list[AlertEvent]:
    """Compare a portfolio with its newest file of positions; open an alert where they differ and none is open, resolve
    it where they fit, or where there is no file or no portfolio any more. In the caller's transaction; return the
    events made."""
    row = compare_again(portfolio_id, now=now)
    rows = Alert.objects.filter(kind=Alert.Kind.RECONCILIATION, subject_id=portfolio_id, resolved_at=None)
    alert = rows.select_for_update(no_key=True, of=("self",)).first()
    if row is not None and row.deviations:
        return [] if alert is not None else [_opened(row, now=now)]
    if alert is None:
        return []
    alert.resolved_at, alert.resolution = max(now, alert.opened_at), POSITIONS_FIT
    alert.save(update_fields=["resolved_at", "resolution"])
    return [AlertEvent.objects.create(alert=alert, kind=RESOLVED, at=now, reason=POSITIONS_FIT)]


def open_reconciliations() -> set[int]:
    """Return the portfolios about which an alert is open. One statement."""
    rows = Alert.objects.filter(kind=Alert.Kind.RECONCILIATION, resolved_at=None)
    return set(rows.order_by().values_list("subject_id", flat=True))


def _opened(row: Reconciliation, *, now: datetime) -> AlertEvent:
    found = [one.text for one in deviations_in(row.deviations)]
    more = f"; and {len(found) - _NAMED_MOST} more" if len(found) > _NAMED_MOST else ""
    said = f"At the end of {row.day}, {'; '.join(found[:_NAMED_MOST])}{more}."
    alert = Alert.objects.create(
        kind=Alert.Kind.RECONCILIATION,
        owner_id=row.portfolio.owner_id,
        subject=SUBJECT,
        subject_id=row.portfolio_id,
        severity="warning",
        opened_at=now,
        summary=f"Portfolio {row.portfolio} differs from {row.name}. {said}",
        evidence={
            "labels": {"alertname": "Reconciliation", "instance": f"portfolio {row.portfolio}"},
            "annotations": {
                "problem": said,
                "remedy": "Record what is missing, correct what is wrong, or upload a newer file.",
            },
        },
    )
    return AlertEvent.objects.create(alert=alert, kind=OPENED, at=now, reason=POSITIONS_DIFFER)
