"""The reader of Alertmanager's webhook (payload version 4). It reads each alert by itself. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

from apps.strict_json import NotJson, read_json

BODY_LARGEST_BYTES = 10_000_000
ALERTS_AT_MOST = 1_000
# What is kept of a text: a message has to carry some of them.
_TEXT_LONGEST = 2_000
_FINGERPRINT_LONGEST = 64
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
# What no database takes: NUL, and half a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SEVERITIES = ("critical", "warning", "info")


class PayloadMalformed(ValueError):
    """The content, or one alert in it, is refused. The text says where the fault is and what is wrong, for people."""


class SystemAlert(NamedTuple):
    """One alert as Alertmanager reports it: it began, or it began and is over.

    fingerprint: its name for the labels; resolved_at: None while it lasts; evidence: labels, annotations, and the
    address of what generated it, which is a text and nothing more; reported_start: when it began by Alertmanager's
    clock, where that is ahead of ours. Times are aware UTC, and none but reported_start is in the future.
    """

    fingerprint: str
    opened_at: datetime
    resolved_at: datetime | None
    severity: str
    summary: str
    evidence: dict[str, Any]
    reported_start: datetime | None = None

    @property
    def start(self) -> datetime:
        """Return when it began by Alertmanager's clock: of one fingerprint, what tells episodes apart."""
        return self.reported_start or self.opened_at


class Notification(NamedTuple):
    """One notification of Alertmanager.

    alerts: those to be taken, in their order, or by severity where they are too many; refused: what is wrong with
    those that cannot be read; left_out: how many more there are; group: what names its group of alerts, as a
    fingerprint; group_key: the same as Alertmanager writes it.
    """

    alerts: list[SystemAlert]
    refused: list[str]
    left_out: int
    group: str
    group_key: str


def read_notification(content: bytes, *, now: datetime) -> Notification:
    """Return what a payload says. Raises PayloadMalformed where no alert can be taken.

    Fields that are not read here are let pass: newer Alertmanagers may send more of them in the same version.
    """
    given = _object_of(content)
    if given.get("version") != "4":
        raise PayloadMalformed('version: must be "4"')
    truncated = given.get("truncatedAlerts", 0)
    if isinstance(truncated, bool) or not isinstance(truncated, int) or truncated < 0:
        raise PayloadMalformed("truncatedAlerts: must be a number of alerts")
    group_key = _cut(_text(given.get("groupKey", ""), place="groupKey"))
    reported = given.get("alerts")
    if not isinstance(reported, list) or not reported:
        raise PayloadMalformed("alerts: must be a list of alerts")
    alerts, refused = [], []
    for number, alert in enumerate(reported):
        try:
            alerts.append(_alert_of(alert, place=f"alerts[{number}]", now=now))
        except PayloadMalformed as error:
            refused.append(str(error))
    if not alerts:
        raise PayloadMalformed(refused[0])
    left_out = truncated + max(len(alerts) - ALERTS_AT_MOST, 0)
    if len(alerts) > ALERTS_AT_MOST:
        alerts.sort(key=lambda one: (_SEVERITIES.index(one.severity), one.resolved_at is not None))
    return Notification(
        alerts=alerts[:ALERTS_AT_MOST],
        refused=refused,
        left_out=left_out,
        group=f"left-out:{sha256(group_key.encode()).hexdigest()[:32]}",
        group_key=group_key,
    )


def alert_of_left_out(notification: Notification, *, opened_at: datetime, now: datetime) -> SystemAlert:
    """Return the alert that says that a group's notification had more alerts than are taken: it lasts while that is so.

    opened_at: when it began, where it lasts already.
    """
    count = notification.left_out
    summary = (
        f"{count} alert{'s' if count != 1 else ''} of one notification of Alertmanager {'are' if count != 1 else 'is'} "
        f"not here: up to {ALERTS_AT_MOST} are taken, the most severe first. Group by more labels, and set max_alerts "
        "of the webhook to 0."
    )
    return SystemAlert(
        fingerprint=notification.group,
        opened_at=opened_at,
        resolved_at=None if count else max(opened_at, now),
        severity="critical",
        summary=summary,
        evidence={
            "labels": {"alertname": "AlertsLeftOut", "severity": "critical"},
            "annotations": {"summary": summary},
            "group_key": notification.group_key,
        },
    )


def ended_at(opened_at: datetime, start: datetime, reported: Iterable[SystemAlert]) -> datetime | None:
    """Return when an episode that began at `opened_at`, at `start` by Alertmanager's clock, is over by what is reported
    of the same labels, or None.

    Not only by its own end: Alertmanager knows one episode of the same labels at a time, and after a restart none. So
    one that began later, or that ended later, says that this one is over.
    """
    ends = [one.resolved_at for one in reported if one.resolved_at is not None and one.resolved_at >= opened_at]
    begins = [max(one.opened_at, opened_at) for one in reported if one.start > start]
    return min([*ends, *begins], default=None)


def _object_of(content: bytes) -> dict[str, Any]:
    if len(content) > BODY_LARGEST_BYTES:
        raise PayloadMalformed(f"the body is larger than {BODY_LARGEST_BYTES} bytes")
    try:
        given = read_json(content)
    except NotJson:
        raise PayloadMalformed("the body is not JSON") from None
    if not isinstance(given, dict):
        raise PayloadMalformed('the body must be an object like {"version": "4", "alerts": […]}')
    return given


def _alert_of(alert: Any, *, place: str, now: datetime) -> SystemAlert:
    if not isinstance(alert, dict):
        raise PayloadMalformed(f"{place}: must be an object")
    status = alert.get("status")
    if status not in ("firing", "resolved"):
        raise PayloadMalformed(f"{place}.status: must be firing or resolved")
    fingerprint = _text(alert.get("fingerprint"), place=f"{place}.fingerprint")
    if not 1 <= len(fingerprint) <= _FINGERPRINT_LONGEST:
        raise PayloadMalformed(f"{place}.fingerprint: must have 1 to {_FINGERPRINT_LONGEST} characters")
    start = _time(alert.get("startsAt"), place=f"{place}.startsAt")
    opened_at = min(start, now)
    resolved_at = None
    if status == "resolved":
        # While an alert lasts it is a guess, or the year 1.
        resolved_at = max(opened_at, min(_time(alert.get("endsAt"), place=f"{place}.endsAt"), now))
    labels = _texts(alert.get("labels"), place=f"{place}.labels")
    annotations = _texts(alert.get("annotations", {}), place=f"{place}.annotations")
    generator_url = _text(alert.get("generatorURL", ""), place=f"{place}.generatorURL")
    said = (annotations.get("summary"), annotations.get("description"), labels.get("alertname"))
    severity = labels.get("severity", "").lower()
    evidence = {"labels": labels, "annotations": annotations, "generator_url": _cut(generator_url)}
    if start > now:
        evidence["note"] = f"startsAt was {start.isoformat()}, which is in the future here: counted from receipt."
    return SystemAlert(
        fingerprint=fingerprint,
        opened_at=opened_at,
        resolved_at=resolved_at,
        severity=severity if severity in _SEVERITIES else "info",
        summary=next(filter(None, said), "an alert without a name"),
        evidence=evidence,
        reported_start=start if start > now else None,
    )


def _text(value: Any, *, place: str) -> str:
    if not isinstance(value, str):
        raise PayloadMalformed(f"{place}: must be a text")
    if _UNSTORABLE.search(value):
        raise PayloadMalformed(f"{place}: contains an invalid character")
    return value


def _texts(given: Any, *, place: str) -> dict[str, str]:
    if not isinstance(given, Mapping):
        raise PayloadMalformed(f"{place}: must be an object of texts")
    return {_cut(_text(name, place=place)): _cut(_text(value, place=place)) for name, value in given.items()}


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_LONGEST else f"{text[: _TEXT_LONGEST - 1]}…"


def _time(value: Any, *, place: str) -> datetime:
    text = _text(value, place=place)
    try:
        # Digits beyond a microsecond are cut off, each time the same ones.
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PayloadMalformed(f"{place}: must be a time like 2026-03-02T12:00:00Z") from None
    if moment.tzinfo is None:
        raise PayloadMalformed(f"{place}: must have its zone")
    if moment < _EARLIEST:
        raise PayloadMalformed(f"{place}: must be a time after 1990")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
