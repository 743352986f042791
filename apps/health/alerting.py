"""Which problems open alerts, and whose those are."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db.models import QuerySet

from apps.alerts.domain import HealthAlert
from apps.alerts.models import AlertEvent
from apps.alerts.queries import open_health_alerts
from apps.alerts.services import record_health_alerts
from apps.health.domain import INTENDED, Code, Finding, Level, Subject
from apps.health.wording import describe, sentence
from apps.market.models import Asset, Feed
from apps.market.queries import every_asset, every_feed
from apps.notify.models import Channel
from apps.notify.queries import operator_channels
from apps.owned_ids import is_owned
from apps.rules.models import Rule, RuleState

NAMED_BY: Mapping[str, tuple[Any, str]] = {
    Subject.FEED: (Feed, "name"),
    Subject.ASSET: (Asset, "symbol"),
    Subject.CHANNEL: (Channel, "name"),
    Subject.RULE: (Rule, "name"),
}
# The engine opens alerts about these.
_ALERTED_BY_ENGINE = frozenset({Code.ERROR, Code.PAUSED_BY_SPLIT})
_OF_OPERATORS = frozenset({Subject.SYSTEM, Subject.FEED, Subject.ASSET})
_Key = tuple[Subject, int]


def record_alerts(
    found: Sequence[Finding], *, sinces: Mapping[tuple[str, int, str], datetime], running_since: datetime, now: datetime
) -> list[AlertEvent]:
    """Open alerts about what has stopped, resolve those of subjects that are well again, in the caller's transaction,
    and return the events made.

    sinces: key of a finding -> since when it lasts. Only the time since `running_since` counts, so a restart notifies
    nobody. What follows from another problem opens none.
    """
    alerting: dict[_Key, list[Finding]] = {}
    for one in found:
        if _is_alerting(one):
            alerting.setdefault((one.subject, one.subject_id), []).append(one)
    waiting = open_health_alerts()
    if not alerting and not waiting:
        return []
    over = [
        alert
        for (owner_id, subject, pk), alert in waiting.items()
        if not any(_concerns(one, owner_id=owner_id) for one in alerting.get((Subject(subject), pk), ()))
    ]
    lasting = [
        one
        for of_one in alerting.values()
        for one in of_one
        if now - max(sinces[one.key], running_since) >= one.patience
    ]
    due = _alerts_of(_first_of_each(_without_consequences(lasting, found=found)), sinces=sinces)
    return record_health_alerts(due=[one for one in due if one.key not in waiting], over=over, now=now)


def _is_alerting(one: Finding) -> bool:
    """Tell whether somebody is to be notified of a problem. Of the system, also of what only impairs it."""
    if one.code in _ALERTED_BY_ENGINE:
        return False
    if one.code in INTENDED:
        return one.code == Code.PAUSED
    return one.level == Level.STOPPED or one.subject == Subject.SYSTEM


def _concerns(one: Finding, *, owner_id: int | None) -> bool:
    """Tell whether a problem is notified to this owner, None: to the operators, who know what they have paused, and are
    notified of a leg that has stopped by itself."""
    return owner_id is not None or (one.code not in INTENDED and one.code != Code.LEG_STOPPED)


def _without_consequences(lasting: Sequence[Finding], *, found: Iterable[Finding]) -> list[Finding]:
    """Return the lasting problems without those that follow from another of those found: nothing else counts where no
    tick runs, and a rule cannot be evaluated whose feed or asset has a problem."""
    if any(one.code == Code.NOT_CHECKED for one in lasting):
        return [one for one in lasting if one.subject == Subject.SYSTEM]
    unknown = {one.subject_id for one in lasting if one.code == Code.UNKNOWN}
    if not unknown:
        return list(lasting)
    causes = {(one.subject, one.subject_id) for one in found}
    watched = RuleState.objects.filter(rule__in=unknown).values_list("rule", "asset", "asset__feed")
    follows = {
        rule_id
        for rule_id, asset_id, feed_id in watched
        if (Subject.ASSET, asset_id) in causes or (Subject.FEED, feed_id) in causes
    }
    return [one for one in lasting if one.code != Code.UNKNOWN or one.subject_id not in follows]


def _first_of_each(lasting: Iterable[Finding]) -> dict[_Key, Finding]:
    """Return (subject, id) -> its first problem, a fault before what is intended."""
    first: dict[_Key, Finding] = {}
    for one in sorted(lasting, key=lambda one: one.code in INTENDED):
        first.setdefault((one.subject, one.subject_id), one)
    return first


def _alerts_of(
    problems: Mapping[_Key, Finding], *, sinces: Mapping[tuple[str, int, str], datetime]
) -> list[HealthAlert]:
    """Return the alerts about these problems, of the operators and of each owner who depends on the subject."""
    if not problems:
        return []
    names, owners = _names(problems), _owners(problems)
    # While the system has stopped, its operators are notified of that alone.
    has_stopped = any(one.subject == Subject.SYSTEM and one.level == Level.STOPPED for one in problems.values())
    # They are notified of feeds and assets already.
    notified = {channel.owner_id for channel in operator_channels()} if not has_stopped else set()
    found = []
    for key, one in problems.items():
        whose: list[int | None] = []
        if one.subject in _OF_OPERATORS:
            whose = [pk for pk in owners.get(key, ()) if pk not in notified or is_owned(one.subject_id)]
            is_theirs = not is_owned(one.subject_id) and not has_stopped and _concerns(one, owner_id=None)
            if one.subject == Subject.SYSTEM or is_theirs:
                whose.append(None)
        else:
            whose = [*owners.get(key, ())]
        found += [_alert_of(one, owner_id=pk, name=names.get(key, ""), since=sinces[one.key]) for pk in whose]
    return found


def _alert_of(one: Finding, *, owner_id: int | None, name: str, since: datetime) -> HealthAlert:
    described = describe(one.code, since=since, facts=one.facts)
    instance = f"{one.subject.value} {name}".strip()
    is_known = one.code in INTENDED
    severity = "critical" if one.subject == Subject.SYSTEM and one.level == Level.STOPPED else "warning"
    return HealthAlert(
        owner_id=owner_id,
        subject=one.subject.value,
        subject_id=one.subject_id,
        severity="info" if is_known else severity,
        summary=sentence(f"{instance}: {described.clause}") if name else sentence(described.clause),
        evidence={
            "labels": {"alertname": "Health", "instance": instance, "code": one.code.value, "level": one.level.value},
            "annotations": {"problem": sentence(described.clause), "remedy": described.remedy},
        },
        is_known=is_known,
    )


def every_row(model: Any) -> QuerySet[Any]:
    """Return the rows of a model of NAMED_BY, those that have an owner too."""
    return {Feed: every_feed, Asset: every_asset}.get(model, model.objects.all)()


def _names(keys: Iterable[_Key]) -> dict[_Key, str]:
    found = {}
    for subject, ids in _by_subject(keys).items():
        if subject in NAMED_BY:
            model, column = NAMED_BY[subject]
            rows = every_row(model).filter(pk__in=ids).order_by().values_list("pk", column)
            found.update({(subject, pk): name for pk, name in rows})
    return found


def _owners(keys: Iterable[_Key]) -> dict[_Key, list[int]]:
    """Return (subject, id) -> the owners who depend on it, in their order."""
    watched = RuleState.objects.filter(rule__deleted_at=None)
    found: dict[_Key, list[int]] = {}
    for subject, ids in _by_subject(keys).items():
        if subject == Subject.FEED:
            rows = watched.filter(asset__feed__in=ids).values_list("asset__feed", "rule__owner")
        elif subject == Subject.ASSET:
            rows = watched.filter(asset__in=ids).values_list("asset", "rule__owner")
        elif subject in (Subject.CHANNEL, Subject.RULE):
            rows = NAMED_BY[subject][0].objects.filter(pk__in=ids).values_list("pk", "owner")
        else:
            continue
        for pk, owner_id in sorted(set(rows.order_by())):
            found.setdefault((subject, pk), []).append(owner_id)
    return found


def _by_subject(keys: Iterable[_Key]) -> dict[Subject, set[int]]:
    ids: dict[Subject, set[int]] = {}
    for subject, pk in keys:
        ids.setdefault(subject, set()).add(pk)
    return ids
