"""Episodes opened and resolved from what the engine found, the check of health found or Alertmanager says, and noted
where what they saw was corrected, in the caller's transaction; and acknowledged by people."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q, QuerySet

from apps.accounts.domain import DELETED_ACCOUNT
from apps.alerts.alertmanager import Notification, SystemAlert, alert_of_left_out, ended_at
from apps.alerts.domain import HealthAlert, correction_seen, seen_since
from apps.alerts.episodes import (
    CORRECTED,
    FOUND_BY_HEALTH_CHECK,
    OPENED,
    REPORTED_BY_ALERTMANAGER,
    RESOLVED,
    RESOLVED_BY_ALERTMANAGER,
    WELL_AGAIN,
    events_of,
    is_notable,
)
from apps.alerts.models import Alert, AlertEvent
from apps.market import queries as market
from apps.market.domain import from_epoch_microseconds
from apps.market.models import FeedEntry
from apps.rules.domain import describe_evidence, describe_failure, describe_pause
from apps.rules.engine.codes import Reason
from apps.rules.engine.instance import ERROR, PAUSED, Transition
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule
from apps.rules.queries import Specs, specs_of
from apps.wakeups import wake_on_commit


def record_episodes(*, entry: FeedEntry, transitions: Sequence[Transition]) -> list[AlertEvent]:
    """Open and resolve alerts as these transitions of one entry say, in their order; return the events made.

    An evaluation that failed opens an alert of kind error, which ends when the rule is changed; a pause one of kind
    paused, which ends when the rule is saved or confirmed.
    """
    keys = {(one.rule_id, one.asset_id) for one in transitions if is_notable(one)}
    if not keys:
        return []
    rules = Rule.every.in_bulk({rule_id for rule_id, _ in keys})
    # A log may end later than the account of a rule's owner: nobody is alerted any more.
    nobodys = {rule.pk for rule in rules.values() if rule.owner_id == DELETED_ACCOUNT}
    transitions = [one for one in transitions if one.rule_id not in nobodys]
    symbols = dict(market.every_asset().filter(pk__in={asset_id for _, asset_id in keys}).values_list("pk", "symbol"))
    specs = specs_of({one.version_id for one in transitions if is_notable(one)})
    # Those that this log has opened: an asset that moved may have one in the other feed's already.
    ours = Alert.objects.filter(rule__in=rules, asset__in=symbols, resolved_at=None, entry__feed=entry.feed_id)
    # Locked in the order in which whoever acknowledges many takes them: else each could wait for the other.
    ours = ours.select_for_update(no_key=True, of=("self",)).order_by("pk")
    open_alerts = {(alert.rule_id, alert.asset_id): alert for alert in ours}
    opened: list[Alert] = []
    resolved: list[Alert] = []
    events: list[AlertEvent] = []
    for kind, step in events_of(transitions, open_keys=set(open_alerts)):
        key, at = (step.rule_id, step.asset_id), from_epoch_microseconds(step.moment)
        if kind == AlertEvent.Kind.OPENED:
            alert = _alert_of(step, entry=entry, rule=rules[step.rule_id], symbol=symbols[step.asset_id], specs=specs)
            open_alerts[key] = alert
            opened.append(alert)
        else:
            alert = open_alerts.pop(key)
            alert.resolved_at = max(at, alert.opened_at)
            alert.resolution = step.reason
            if alert.pk is not None:
                resolved.append(alert)
        events.append(AlertEvent(alert=alert, kind=kind, at=at, reason=step.reason, detail=step.detail, entry=entry))
    # Resolved ones first: the database lets only one be open per rule and asset.
    Alert.objects.bulk_update(resolved, ["resolved_at", "resolution"], batch_size=1_000)
    Alert.objects.bulk_create(opened, batch_size=1_000)
    return _recorded(events)


def record_corrections(entry: FeedEntry) -> list[AlertEvent]:
    """Note, in the caller's transaction, which alerts saw something that this entry of the log corrects, and return the
    events made: one for each such alert, open or over. Entries of one correction share their trace id, and an alert has
    one event of them. The alert keeps its summary and evidence."""
    if entry.kind != FeedEntry.Kind.CORRECTION or entry.first_at is None:
        return []
    days: dict[int, set[date]] = {}
    for asset_id, day in entry.correction.days:
        days.setdefault(asset_id, set()).add(date.fromisoformat(day))
    began = min([entry.first_at.date(), *(day for of_asset in days.values() for day in of_asset)])
    since = datetime(began.year, began.month, began.day, tzinfo=UTC)
    noted = AlertEvent.objects.filter(kind=CORRECTED, entry__trace_id=entry.trace_id).values("alert")
    # An alert saw no price from after its opening.
    alerts = Alert.objects.filter(asset__in=entry.correction.asset_ids, opened_at__gte=since).exclude(pk__in=noted)
    changed = market.corrected_in(entry)
    splits = market.splits_of(entry.correction.asset_ids, up_to_entry=entry.pk)
    events = []
    for alert in alerts.select_related("rule").order_by("pk").iterator(chunk_size=1_000):
        asset_id, place = alert.asset_id or 0, alert.entry_id or 0
        known, corrected = splits.up_to(place), changed.get(asset_id, {})
        begins = seen_since(alert.evidence)
        if begins is not None and corrected and min(corrected) < begins:
            # The price in force there, which a window sees, was quoted before.
            begins = market.in_force_since(asset_id, at=begins, up_to_entry=place)
        seen = correction_seen(alert.evidence, corrected=corrected, days=days.get(asset_id, ()), since=begins)
        if seen is not None:
            # As it counted when the alert opened.
            price_then = partial(known.price, asset_id)
            events.append(
                AlertEvent(
                    alert=alert, kind=CORRECTED, at=entry.as_of, entry=entry, correction=seen.as_data(price_then)
                )
            )
    return _recorded(events)


def end_episodes(*, asset_id: int, ended: Mapping[int, FeedEntry]) -> list[AlertEvent]:
    """Resolve the open alerts of rules on an asset that has left a feed, in the caller's transaction, and return the
    events made. ended: rule id -> the entry of that feed's log at which it ended.

    As the analyzer of that log will find it, who may come later than the first opening in the other feed: of a rule and
    an asset one alert is open at most.
    """
    open_alerts = Alert.objects.filter(asset=asset_id, rule__in=ended, resolved_at=None).order_by("pk")
    events = []
    for alert in open_alerts:
        entry = ended[alert.rule_id]
        alert.resolved_at = max(entry.as_of, alert.opened_at)
        alert.resolution = Reason.RULE_CHANGED
        alert.save(update_fields=["resolved_at", "resolution"])
        kind, at = AlertEvent.Kind.RESOLVED, alert.resolved_at
        events.append(AlertEvent(alert=alert, kind=kind, at=at, reason=Reason.RULE_CHANGED, entry=entry))
    return _recorded(events)


def record_notification(notification: Notification, *, now: datetime) -> list[AlertEvent]:
    """Record the alerts of one notification of Alertmanager, in the caller's transaction, and one alert for those that
    were left out of it, for as long as some are; return the events made."""
    open_since = (
        Alert.objects.filter(kind=Alert.Kind.SYSTEM, fingerprint=notification.group, resolved_at=None)
        .order_by("-reported_start")
        .values_list("reported_start", flat=True)
        .first()
    )
    alerts = notification.alerts
    if notification.left_out or open_since is not None:
        alerts = [*alerts, alert_of_left_out(notification, opened_at=open_since or now, now=now)]
    return record_system_alerts(alerts)


def record_system_alerts(found: Sequence[SystemAlert]) -> list[AlertEvent]:
    """Open and resolve alerts about the installation as Alertmanager reports them, in the caller's transaction, and
    return the events made: the openings, then the resolutions.

    It repeats its reports, and two replicas may report at once: an alert that is known makes no event. The first report
    of an alert stands; a resolved one stays so. One that Alertmanager has forgotten resolves by a later report of the
    same labels.
    """
    reported: dict[str, list[SystemAlert]] = {}
    for one in sorted(found, key=lambda one: (one.fingerprint, one.start)):
        reported.setdefault(one.fingerprint, []).append(one)
    # In one order, so that two who write the same wait for each other and not for ever.
    rows = [_system_alert_of(one) for of_labels in reported.values() for one in of_labels]
    Alert.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1_000)
    named = Q(resolved_at=None) | Q(reported_start__in={one.start for one in found})
    alerts = list(
        Alert.objects.filter(named, kind=Alert.Kind.SYSTEM, fingerprint__in=reported)
        .select_for_update(no_key=True)
        .order_by("pk")
    )
    # An alert and its opening commit together, so what has none yet was written here.
    known = set(AlertEvent.objects.filter(alert__in=alerts, kind=OPENED).values_list("alert_id", flat=True))
    fresh = [alert for alert in alerts if alert.pk not in known]
    events = [
        AlertEvent(alert=alert, kind=OPENED, at=alert.opened_at, reason=REPORTED_BY_ALERTMANAGER) for alert in fresh
    ]
    over = []
    for alert in alerts:
        of_labels, start = reported[alert.fingerprint], alert.reported_start or alert.opened_at
        end = ended_at(alert.opened_at, start, of_labels) if alert.resolved_at is None else None
        if end is not None:
            alert.resolved_at, alert.resolution = end, RESOLVED_BY_ALERTMANAGER
            over.append(alert)
            events.append(AlertEvent(alert=alert, kind=RESOLVED, at=end, reason=RESOLVED_BY_ALERTMANAGER))
    Alert.objects.bulk_update(over, ["resolved_at", "resolution"], batch_size=1_000)
    return _recorded(events)


def _system_alert_of(reported: SystemAlert) -> Alert:
    return Alert(
        kind=Alert.Kind.SYSTEM,
        fingerprint=reported.fingerprint,
        severity=reported.severity,
        opened_at=reported.opened_at,
        summary=reported.summary,
        evidence=reported.evidence,
        reported_start=reported.start,
    )


def record_health_alerts(*, due: Sequence[HealthAlert], over: Sequence[Alert], now: datetime) -> list[AlertEvent]:
    """Open these alerts about health, none of which is open, and resolve those that are over, in the caller's
    transaction; return the events made. One caller at a time."""
    new = [
        Alert(
            kind=Alert.Kind.HEALTH,
            owner_id=one.owner_id,
            subject=one.subject,
            subject_id=one.subject_id,
            severity=one.severity,
            opened_at=now,
            acknowledged_at=now if one.is_known else None,
            note="Somebody did this on purpose, so nobody is reminded." if one.is_known else "",
            summary=one.summary,
            evidence=one.evidence,
        )
        for one in due
    ]
    for alert in over:
        alert.resolved_at, alert.resolution = max(now, alert.opened_at), WELL_AGAIN
    Alert.objects.bulk_update(over, ["resolved_at", "resolution"], batch_size=1_000)
    Alert.objects.bulk_create(new, batch_size=1_000)
    events = [AlertEvent(alert=alert, kind=OPENED, at=now, reason=FOUND_BY_HEALTH_CHECK) for alert in new]
    events += [AlertEvent(alert=alert, kind=RESOLVED, at=now, reason=WELL_AGAIN) for alert in over]
    return _recorded(events)


def acknowledge(*, alerts: QuerySet[Alert], by: AbstractBaseUser, note: str, now: datetime) -> list[AlertEvent]:
    """Acknowledge those of the alerts that are open and that nobody has acknowledged, and return the events made.

    It lasts until the alert resolves, and ends its reminders. Whose they are is the caller's business.
    """
    # Ids and not a query within the query: a planner that does not know the table would look at each row for each.
    ids = list(alerts.order_by().values_list("pk", flat=True))
    waiting = Alert.objects.filter(pk__in=ids, resolved_at=None, acknowledged_at=None)
    with transaction.atomic():
        # Locked before it is changed, so that of two people at once one has acknowledged it.
        acknowledged = list(waiting.select_for_update(no_key=True, of=("self",)).order_by("pk"))
        Alert.objects.filter(pk__in=[alert.pk for alert in acknowledged]).update(
            acknowledged_at=now, acknowledged_by=by, note=note[:500]
        )
        kind = AlertEvent.Kind.ACKNOWLEDGED
        events = [AlertEvent(alert=alert, kind=kind, at=now, detail=note[:500], by=by) for alert in acknowledged]
        return _recorded(events)


def _recorded(events: Sequence[AlertEvent]) -> list[AlertEvent]:
    if events:
        wake_on_commit()
    return AlertEvent.objects.bulk_create(events, batch_size=1_000)


def _alert_of(step: Transition, *, entry: FeedEntry, rule: Rule, symbol: str, specs: Specs) -> Alert:
    spec = specs[step.version_id]
    if step.to_state == ERROR or isinstance(spec, RuleInvalid):
        kind = Alert.Kind.ERROR
        why = step.detail or str(spec)
        summary = describe_failure(rule=rule.name, symbol=symbol, detail=why)
    elif step.to_state == PAUSED:
        kind = Alert.Kind.PAUSED
        summary = describe_pause(rule=rule.name, symbol=symbol, ratio=step.detail)
    else:
        kind = Alert.Kind.CONDITION
        summary = describe_evidence(
            symbol=symbol, condition=spec.condition, evidence=step.evidence or {}, opened_at=step.moment
        )
    return Alert(
        owner_id=rule.owner_id,
        rule=rule,
        version_id=step.version_id,
        asset_id=step.asset_id,
        entry=entry,
        kind=kind,
        severity=rule.severity,
        opened_at=from_epoch_microseconds(step.moment),
        evidence=step.evidence or {},
        summary=summary,
    )
