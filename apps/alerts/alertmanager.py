"""What Alertmanager's webhook says (version 4 of its payload): read, and refused where it is malformed. Pure."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from apps.strict_json import NotJson, read_json

BODY_LARGEST_BYTES = 1_000_000
ALERTS_AT_MOST = 1_000
# What is kept of a text: a message has to carry some of them.
_TEXT_LONGEST = 2_000
_FINGERPRINT_LONGEST = 64
_EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
_FUTURE_TOLERANCE = timedelta(hours=1)
# What no database takes: NUL, and half a character.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")
_SEVERITIES = ("critical", "warning")


class PayloadMalformed(ValueError):
    """The content is nothing that can be taken. The text is for people: the place, and what is wrong there."""


class SystemAlert(NamedTuple):
    """One alert as Alertmanager reports it: it began, or it began and is over.

    fingerprint: its name for the labels; resolved_at: None while it lasts; evidence: labels, annotations, and the
    address of what generated it, which is a text and nothing more. Times are aware UTC.
    """

    fingerprint: str
    opened_at: datetime
    resolved_at: datetime | None
    severity: str
    summary: str
    evidence: dict[str, Any]


def read_alerts(content: bytes, *, now: datetime) -> list[SystemAlert]:
    """Return the alerts of a payload, in their order. Raises PayloadMalformed.

    Fields that are not read here are let pass: newer Alertmanagers may send more of them in the same version.
    """
    given = _object_of(content)
    if given.get("version") != "4":
        raise PayloadMalformed('version: must be "4"')
    truncated = given.get("truncatedAlerts", 0)
    if isinstance(truncated, bool) or not isinstance(truncated, int) or truncated < 0:
        raise PayloadMalformed("truncatedAlerts: must be a number of alerts")
    if truncated:
        raise PayloadMalformed("truncatedAlerts: some alerts were left out; set max_alerts of the webhook to 0")
    alerts = given.get("alerts")
    if not isinstance(alerts, list) or not 1 <= len(alerts) <= ALERTS_AT_MOST:
        raise PayloadMalformed(f"alerts: must be a list of 1 to {ALERTS_AT_MOST} alerts; group by more labels")
    return [_alert_of(alert, place=f"alerts[{number}]", now=now) for number, alert in enumerate(alerts)]


def ended_at(opened_at: datetime, reported: Iterable[SystemAlert]) -> datetime | None:
    """Return when an episode that began at `opened_at` is over by what is reported of the same labels, or None.

    Not only by its own end: Alertmanager knows one episode of the same labels at a time, and after a restart none. So
    one that began later, or that ended later, says that this one is over.
    """
    ends = [one.resolved_at for one in reported if one.resolved_at is not None and one.resolved_at >= opened_at]
    begins = [one.opened_at for one in reported if one.opened_at > opened_at]
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
    opened_at = _time(alert.get("startsAt"), place=f"{place}.startsAt", now=now)
    resolved_at = None
    if status == "resolved":
        # While an alert lasts it is a guess, or the year 1.
        resolved_at = max(opened_at, _time(alert.get("endsAt"), place=f"{place}.endsAt", now=now))
    labels = _texts(alert.get("labels"), place=f"{place}.labels")
    annotations = _texts(alert.get("annotations", {}), place=f"{place}.annotations")
    generator_url = _text(alert.get("generatorURL", ""), place=f"{place}.generatorURL")
    said = (annotations.get("summary"), annotations.get("description"), labels.get("alertname"))
    severity = labels.get("severity", "").lower()
    return SystemAlert(
        fingerprint=fingerprint,
        opened_at=opened_at,
        resolved_at=resolved_at,
        severity=severity if severity in _SEVERITIES else "info",
        summary=next(filter(None, said), "an alert without a name"),
        evidence={"labels": labels, "annotations": annotations, "generator_url": _cut(generator_url)},
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


def _time(value: Any, *, place: str, now: datetime) -> datetime:
    text = _text(value, place=place)
    try:
        # Digits beyond a microsecond are cut off, each time the same ones.
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PayloadMalformed(f"{place}: must be a time like 2026-03-02T12:00:00Z") from None
    if moment.tzinfo is None:
        raise PayloadMalformed(f"{place}: must have its zone")
    if not _EARLIEST <= moment <= now + _FUTURE_TOLERANCE:
        raise PayloadMalformed(f"{place}: must be a time from 1990 to now")
    return moment.astimezone(UTC)
