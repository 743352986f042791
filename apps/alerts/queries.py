"""What is asked of alerts."""

import logging
from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db import connection
from django.db.models import Exists, F, Max, OuterRef, Q, QuerySet, Subquery
from django.db.models.fields.json import KT
from django.db.models.functions import Coalesce

from apps.alerts.models import Alert, AlertEvent
from apps.canary import is_not_canary
from apps.locales import STANDARD, Reader
from apps.market.domain import epoch_microseconds
from apps.rules.domain import describe_evidence
from apps.rules.engine.codes import Reason
from apps.rules.engine.rule import RuleSpec
from apps.rules.models import RuleState, Transition
from apps.rules.queries import specs_of

logger = logging.getLogger(__name__)

# What `Alert.state` says of a row, asked of many.
IN_STATE = {
    Alert.State.OPEN: Q(resolved_at=None, acknowledged_at=None),
    Alert.State.ACKNOWLEDGED: Q(resolved_at=None, acknowledged_at__isnull=False),
    Alert.State.RESOLVED: Q(resolved_at__isnull=False) & ~Q(resolution=Reason.EXPIRED),
    Alert.State.EXPIRED: Q(resolved_at__isnull=False, resolution=Reason.EXPIRED),
}


def alerts_of(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Alert]:
    """Return the alerts that `user` may see, newest first, with rule and asset: their own, the operators' for whoever
    has the permission, all for a superuser, none for a stranger."""
    return Alert.objects.select_related("rule", "asset").filter(_is_seen_by(user))


def _is_seen_by(user: AbstractBaseUser | AnonymousUser, *, alert: str = "") -> Q:
    """Return the condition, for rows that reach an alert by `alert`, like "alert__"."""
    if not user.is_authenticated:
        return Q(pk__in=[])
    if getattr(user, "is_superuser", False):
        return is_not_canary(f"{alert}owner") & ~_is_shown_as_own(user, alert=alert)
    own = Q(**{f"{alert}owner": user})
    if isinstance(user, PermissionsMixin) and user.has_perm("alerts.view_system_alerts"):
        own |= Q(**{f"{alert}owner": None}) & ~_is_shown_as_own(user, alert=alert)
    return own


def summaries_of(alerts: Iterable[Alert], *, reader: Reader) -> dict[int, str]:
    """Return alert id -> its summary as a reader writes times and numbers; one statement, none for the standard one.

    That one is stored. What a condition saw is described anew by the evidence. Reads the assets.
    """
    found = {alert.pk: alert for alert in alerts}
    summaries = {pk: alert.summary for pk, alert in found.items()}
    if reader.locale == STANDARD.locale and str(reader.zone) == "UTC":
        return summaries
    seen = {pk: alert for pk, alert in found.items() if alert.kind == Alert.Kind.CONDITION and alert.version_id}
    specs = specs_of({alert.version_id for alert in seen.values() if alert.version_id is not None}) if seen else {}
    for pk, alert in seen.items():
        spec = specs.get(alert.version_id or 0)
        if not isinstance(spec, RuleSpec):
            continue
        try:
            summaries[pk] = describe_evidence(
                symbol=alert.symbol,
                condition=spec.condition,
                evidence=alert.evidence,
                opened_at=epoch_microseconds(alert.opened_at),
                reader=reader,
            )
        except (ArithmeticError, LookupError, TypeError, ValueError):
            # Evidence of an older version may have another shape. The alert is notified of all the same.
            logger.exception("evidence not described", extra={"alert": pk})
    return summaries


def written_for(alerts: Iterable[Alert], *, reader: Reader) -> list[Alert]:
    """Return the alerts, each with the summary that `summaries_of` has for it. They are to be shown, not saved."""
    found = list(alerts)
    summaries = summaries_of(found, reader=reader)
    for alert in found:
        alert.summary = summaries[alert.pk]
    return found


def prices_at_end(alert_ids: Iterable[int]) -> dict[int, str]:
    """Return alert id -> the price that its rule saw when it resolved, as evidence writes it; without those whose step
    is not kept or saw no price. One statement."""
    ends = AlertEvent.objects.filter(alert__in=set(alert_ids), kind=AlertEvent.Kind.RESOLVED)
    same = {name: OuterRef(f"alert__{name}") for name in ("rule", "asset")}
    seen = Transition.objects.filter(entry=OuterRef("entry"), at=OuterRef("at"), **same).order_by("-position")
    rows = ends.annotate(seen=Subquery(seen.annotate(price=KT("evidence__price")).values("price")[:1])).values_list(
        "alert_id", "seen"
    )
    return {alert_id: price for alert_id, price in rows if price}


def lock_open_alerts(alert_ids: Iterable[int]) -> list[int]:
    """Return the ids of those of the alerts that are open, locked: they stay so until the transaction ends."""
    still_open = Alert.objects.select_for_update(no_key=True).filter(pk__in=set(alert_ids), resolved_at=None)
    return list(still_open.order_by("pk").values_list("pk", flat=True))


def _is_shown_as_own(user: AbstractBaseUser | AnonymousUser, *, alert: str) -> Q:
    """Match the operators' health alerts that this user has as an alert of their own, too: about the same subject, and
    open at the same time. A user without an operators' channel has both, since only their own notifies them."""
    lasted = Q(opened_at__lte=Coalesce(OuterRef(f"{alert}resolved_at"), F("opened_at")))
    lasted &= Q(resolved_at=None) | Q(resolved_at__gte=OuterRef(f"{alert}opened_at"))
    subject = {name: OuterRef(f"{alert}{name}") for name in ("subject", "subject_id")}
    own = Alert.objects.filter(lasted, owner=user, kind=Alert.Kind.HEALTH, **subject)
    # PostgreSQL evaluates in this order, so that it looks for an alert of their own only for the few about health.
    return Q(**{f"{alert}owner": None, f"{alert}kind": Alert.Kind.HEALTH}) & Q(Exists(own))


def open_health_alerts() -> dict[tuple[int | None, str, int], Alert]:
    """Return (owner id, subject, subject id) -> the open alert about its health."""
    rows = Alert.objects.filter(kind=Alert.Kind.HEALTH, resolved_at=None).order_by("pk")
    return {(alert.owner_id, alert.subject, alert.subject_id): alert for alert in rows}


def events_of(alert_ids: Iterable[int]) -> dict[int, list[AlertEvent]]:
    """Return alert id -> its steps in their order. Whose they are is the caller's business."""
    events: dict[int, list[AlertEvent]] = {}
    for event in AlertEvent.objects.filter(alert__in=alert_ids).order_by("pk"):
        events.setdefault(event.alert_id, []).append(event)
    return events


def last_events_of(user: AbstractBaseUser | AnonymousUser, *, limit: int) -> list[AlertEvent]:
    """Return the newest steps of the alerts that `user` may see, with alert, rule and asset."""
    seen = AlertEvent.objects.select_related("alert__rule", "alert__asset").filter(_is_seen_by(user, alert="alert__"))
    return list(seen.order_by("-pk")[:limit])


# A position in the stream of alert events: the number of a transaction, and the id of an event that it wrote.
Place = tuple[int, int]


# The oldest transaction of this database that is under way, or else the next one that will begin. Those of other
# databases of the server have numbers too, and may take as long as they like. One that has just ended, and so has no
# process any more, counts as one of ours until the next look.
_OLDEST_UNDER_WAY = """
SELECT coalesce(min(under_way::text::bigint), pg_snapshot_xmax(pg_current_snapshot())::text::bigint)
FROM pg_snapshot_xip(pg_current_snapshot()) AS under_way LEFT JOIN pg_stat_activity ON backend_xid = under_way::xid
WHERE datname IS NULL OR datname = current_database()
"""


def end_of_events() -> Place:
    """Return the place up to which all events are seen that there will ever be: below the oldest transaction that is
    under way. On SQLite, where one writes at a time, the last one's."""
    if connection.vendor != "postgresql":
        return 0, AlertEvent.objects.aggregate(last=Max("pk"))["last"] or 0
    with connection.cursor() as cursor:
        cursor.execute(_OLDEST_UNDER_WAY)
        return cursor.fetchone()[0], 0


def events_between(after: Place, up_to: Place, *, since: datetime, limit: int) -> list[AlertEvent]:
    """Return the events that stand behind one place and not behind another, in the order of their places, with the
    owners of their alerts (`alert.owner_id`).

    since: none that is older. Numbers of transactions begin anew where a database is restored into another server, and
    its old events would come once more when the numbers have grown as far.
    """
    chosen = _is_behind(after) & ~_is_behind(up_to)
    rows = AlertEvent.objects.filter(chosen, created_at__gte=since).select_related("alert")
    return list(rows.order_by("transaction", "pk")[:limit])


def missed_events(
    user: AbstractBaseUser | AnonymousUser, after: Place, up_to: Place, *, before: datetime, limit: int
) -> tuple[bool, int]:
    """Return whether there is an event of the alerts that `user` may see behind one place, and not behind another, that
    is older than a time; and how many there are, counted up to the limit. Two statements."""
    rows = AlertEvent.objects.filter(_is_behind(after) & ~_is_behind(up_to), _is_seen_by(user, alert="alert__"))
    return rows.filter(created_at__lt=before).exists(), rows.order_by().values("pk")[:limit].count()


def _is_behind(place: Place) -> Q:
    number, event_id = place
    return Q(transaction__gt=number) | Q(transaction=number, pk__gt=event_id)


def states_watching(user: AbstractBaseUser | AnonymousUser, *, asset_id: int) -> QuerySet[RuleState]:
    """Return where the rules that `user` may see stand on one asset, with rule and owner: their own, all for a
    superuser, none for a stranger."""
    rows = RuleState.objects.filter(asset=asset_id, rule__deleted_at=None).select_related("rule__owner")
    if not user.is_authenticated:
        return rows.none()
    rows = rows.order_by("rule__name", "rule_id")
    return rows if getattr(user, "is_superuser", False) else rows.filter(rule__owner=user)
