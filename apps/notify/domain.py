"""The texts of messages, what defers notifications, and the schedule of retries. Pure."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from apps import spans
from apps.alerts.wording import describe_event_reason
from apps.locales import NARROW_SPACE, STANDARD, Reader
from apps.wording import format_moment, format_number

# Market alerts lose their value fast: most retries come early, and none after a working day.
RETRY_AFTER_SECONDS = (5, 30, 120, 600, 1_800, 7_200, 21_600)
JITTER = 0.2
SUBJECT_LONGEST = 200
TEMPLATED_LONGEST = 1_000_000
SYMBOLS_NAMED = 5
UNREAD_COUNTED = 100
# Highest first.
SEVERITIES = ("critical", "warning", "info")
OPENED, RESOLVED, REMINDER, CORRECTED = "opened", "resolved", "reminder", "corrected"

# What a channel's templates may name -> what it stands for.
PLACEHOLDERS = {
    "rule": "the rule's name",
    "asset": "the asset's symbol",
    "severity": "critical, warning or info",
    "event": "opened, resolved, reminder, or corrected",
    "summary": "what the rule saw",
    "at": "when it happened, in your time zone",
    "reason": "why it resolved, or what was corrected; empty while it is open",
    "price": "the price when it resolved; empty while it is open",
    "url": "the alert's page",
    "count": "how many alerts the message lists",
}
_WHITE_SPACE = re.compile(rf"[^\S{NARROW_SPACE}]+")
_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


class TemplateInvalid(ValueError):
    """A template cannot be filled in; the text is for people."""


@dataclass(frozen=True, slots=True)
class MessageItem:
    """One alert event as a message lists it.

    event: opened, resolved, reminder or corrected; at: event time; reason: the code of why it resolved, empty while it
    is open; detail: the error's text where an error ended it, or what was corrected; rule, symbol: names of the rule
    and the asset (symbol may be empty for an alert from outside); deferred_by: what deferred it, as a phrase; kind: the
    alert's; price: as text, what the rule saw when it resolved, "" where it saw none.
    """

    alert_id: int
    event: str
    at: datetime
    reason: str
    rule: str
    symbol: str
    severity: str
    summary: str
    url: str
    deferred_by: str = ""
    detail: str = ""
    kind: str = "condition"
    price: str = ""

    @property
    def reason_text(self) -> str:
        """Return why it resolved, or what was corrected, as a phrase; empty while it is open."""
        return describe_event_reason(self.reason, self.detail)


@dataclass(frozen=True, slots=True)
class Silenced:
    """A silence in force: what it matches (None and "" match any); ends_at: None where it ends with its alert."""

    silence_id: int
    owner_id: int | None
    rule_id: int | None
    asset_id: int | None
    severity: str
    ends_at: datetime | None
    alert_id: int | None = None


@dataclass(frozen=True, slots=True)
class QuietHours:
    """From `begin` to `end` of each day, in an IANA time zone, nothing is sent; allow_critical: but critical alerts."""

    begin: time
    end: time
    zone: str
    allow_critical: bool


@dataclass(frozen=True, slots=True)
class Deferral:
    """A silence or quiet hours that defer a notification.

    until: when it becomes due, None where it waits until its alert is over, and is not sent then; silence_id: None
    where quiet hours defer it.
    """

    until: datetime | None
    silence_id: int | None = None


def as_data(item: MessageItem) -> dict[str, Any]:
    """Return the item as a message's row stores it, fit for JSON."""
    return asdict(item) | {"at": item.at.isoformat()}


def span_of_delivery(trace_id: str, message_id: UUID, number: int) -> int:
    """Return the id of the span of an attempt to send a message."""
    return spans.span_id(trace_id, "deliver", message_id, number)


def from_data(data: Mapping[str, Any]) -> MessageItem:
    """Return the item of what `as_data` returned."""
    return MessageItem(**(dict(data) | {"at": datetime.fromisoformat(data["at"])}))


def compose(items: Sequence[MessageItem], *, url: str, reader: Reader = STANDARD) -> tuple[str, str]:
    """Return (subject, text) of a message with these items, in their order. url: the page of the message;
    reader: whom it is for."""
    alerts = len({one.alert_id for one in items})
    if alerts == 1:
        subject, text = _compose_one(items, reader=reader)
    else:
        subject, text = _compose_many(items, alerts=alerts, url=url, reader=reader)
    return one_line(subject)[:SUBJECT_LONGEST], text


def _compose_one(items: Sequence[MessageItem], *, reader: Reader) -> tuple[str, str]:
    last = items[-1]
    state = {RESOLVED: "Resolved", REMINDER: "Still open", CORRECTED: "Corrected"}.get(last.event)
    title = f"{state}: {', '.join(filter(None, (last.rule, last.symbol)))}" if state else title_of(last)
    lines = [f"Held back by {last.deferred_by}."] if last.deferred_by else []
    return f"[{last.severity}] {title}", "\n".join([*lines, *lines_of(items, reader=reader), "", last.url])


def _compose_many(items: Sequence[MessageItem], *, alerts: int, url: str, reader: Reader) -> tuple[str, str]:
    last = {one.alert_id: one for one in items}
    over = sum(one.event == RESOLVED for one in last_states(items))
    names = list(dict.fromkeys(one.symbol or one.rule for one in last.values()))
    more = ", …" if len(names) > SYMBOLS_NAMED else ""
    counted = f"{alerts} alerts" + (f", {over} resolved" if over else "")
    subject = f"[{highest_severity(items)}] {counted}: {', '.join(names[:SYMBOLS_NAMED])}{more}"
    lines = [f"{counted}."]
    for deferred_by, deferred_alerts in grouped(items):
        if deferred_by:
            lines += ["", f"Held back by {deferred_by}:"]
        for events in deferred_alerts:
            lines += ["", f"[{events[-1].severity}] {title_of(events[-1])}", *lines_of(events, reader=reader)]
    return subject, "\n".join([*lines, "", url])


def last_of_each(items: Iterable[MessageItem]) -> list[MessageItem]:
    """Return the last item of each alert, in the order of their first items."""
    return list({one.alert_id: one for one in items}.values())


def last_states(items: Iterable[MessageItem]) -> list[MessageItem]:
    """Return the last item of each alert that says whether it is open. A correction does not."""
    return last_of_each(one for one in items if one.event != CORRECTED)


def grouped(items: Iterable[MessageItem]) -> list[tuple[str, list[list[MessageItem]]]]:
    """Return (deferred_by, the items of each alert) for each phrase of deferred_by; "" comes first."""
    groups: dict[str, dict[int, list[MessageItem]]] = {}
    for one in items:
        groups.setdefault(one.deferred_by, {}).setdefault(one.alert_id, []).append(one)
    return [(deferred_by, list(groups[deferred_by].values())) for deferred_by in sorted(groups)]


def lines_of(items: Sequence[MessageItem], *, reader: Reader = STANDARD) -> list[str]:
    """Return the lines about the items of one alert. reader: whom they are for."""
    lines = []
    if all(one.event in (RESOLVED, CORRECTED) for one in items):
        lines.append(items[-1].summary)
    for one in items:
        if one.event == RESOLVED:
            at_price = f" at {format_number(one.price, reader=reader)}" if one.price else ""
            lines.append(f"Resolved {moment(one.at, reader)}{at_price} ({one.reason_text}).")
        elif one.event == CORRECTED:
            lines.append(f"Corrected afterwards: {one.reason_text}.")
        elif one.event == REMINDER:
            lines += [one.summary, f"Still open and not acknowledged; opened {moment(one.at, reader)}."]
        else:
            lines += [one.summary, f"Opened {moment(one.at, reader)}."]
    return lines


def title_of(item: MessageItem) -> str:
    """Return the title of an alert: its rule, and its asset where it has one."""
    return f"{item.rule}: {item.symbol}" if item.symbol else item.rule


def compose_test(*, channel: str, asked_by: str, at: datetime, url: str, reader: Reader = STANDARD) -> tuple[str, str]:
    """Return (subject, text) of a message that tests a channel. reader: whom it is for."""
    lines = [
        f"This is a test of the channel {channel}, asked for by {asked_by} at {moment(at, reader)}.",
        "Alerts of the rules that name it come the same way.",
    ]
    return one_line(f"[test] {channel}")[:SUBJECT_LONGEST], "\n".join([*lines, "", url])


def apply_templates(
    items: Sequence[MessageItem],
    *,
    subject_template: str,
    text_template: str,
    subject: str,
    text: str,
    reader: Reader = STANDARD,
) -> tuple[str, str]:
    """Return (subject, text) with a channel's templates in place of the given ones; an empty template changes nothing.

    The text's template is filled in for each item, one after the other; the subject's only where there is one alert.
    reader: whom it is for.
    Raises TemplateInvalid.
    """
    count = len({one.alert_id for one in items})
    if subject_template and count == 1:
        filled = fill_in(subject_template, placeholders_of(items[-1], count=count, reader=reader))
        subject = one_line(filled)[:SUBJECT_LONGEST] or subject
    if text_template:
        text = _filled_for_each(items, text_template=text_template, count=count, reader=reader)
    return subject, text


def _filled_for_each(items: Sequence[MessageItem], *, text_template: str, count: int, reader: Reader) -> str:
    """Return the template filled in for each item, one after the other, cut at TEMPLATED_LONGEST: a template of many
    placeholders times a thousand items could exhaust the memory."""
    lines: list[str] = []
    room = TEMPLATED_LONGEST
    for index, one in enumerate(items):
        line = fill_in(text_template, placeholders_of(one, count=count, reader=reader))[:TEMPLATED_LONGEST]
        if len(line) > room:
            lines.append(f"… and {format_number(len(items) - index, reader=reader)} more.")
            break
        lines.append(line)
        room -= len(line) + 1
    return "\n".join(lines)


def placeholders_of(item: MessageItem, *, count: int, reader: Reader = STANDARD) -> dict[str, str]:
    """Return the value of each of PLACEHOLDERS. reader: whom the message is for."""
    return {
        "rule": item.rule,
        "asset": item.symbol,
        "severity": item.severity,
        "event": item.event,
        "summary": item.summary,
        "at": moment(item.at, reader),
        "reason": item.reason_text,
        "price": format_number(item.price, reader=reader) if item.price else "",
        "url": item.url,
        "count": str(count),
    }


def fill_in(template: str, values: Mapping[str, str]) -> str:
    """Return the template with {name} replaced; {{ and }} are braces. Values are not filled in themselves.

    Raises TemplateInvalid for a name that is not in `values`, and for an unpaired brace.
    """

    def replace(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        if match[1] is None:
            raise TemplateInvalid(f"there is a {match[0]} without its other half; write {match[0] * 2} for a brace")
        if match[1] not in values:
            raise TemplateInvalid(
                f"{{{match[1]}}} is no placeholder; there are {', '.join(f'{{{n}}}' for n in values)}"
            )
        return values[match[1]]

    return _PLACEHOLDER.sub(replace, template)


def highest_severity(items: Iterable[MessageItem]) -> str:
    """Return the highest severity of the items, "" without any."""
    found = {one.severity for one in items}
    return next((severity for severity in SEVERITIES if severity in found), "")


def deferral_of(
    *,
    now: datetime,
    alert_id: int | None,
    rule_id: int | None,
    asset_id: int | None,
    owner_id: int | None,
    severity: str,
    silences: Iterable[Silenced],
    quiet: QuietHours | None,
) -> Deferral | None:
    """Return what defers an alert's event now: the silence that lasts longest, else quiet hours, else None."""
    matching = silences_matching(
        silences, alert_id=alert_id, rule_id=rule_id, asset_id=asset_id, owner_id=owner_id, severity=severity
    )
    if matching:
        return Deferral(until=matching[0].ends_at, silence_id=matching[0].silence_id)
    if quiet is None or (quiet.allow_critical and severity == "critical"):
        return None
    until = quiet_until(now=now, quiet=quiet)
    return Deferral(until=until) if until is not None else None


def silences_matching(
    silences: Iterable[Silenced],
    *,
    alert_id: int | None,
    rule_id: int | None,
    asset_id: int | None,
    owner_id: int | None,
    severity: str,
) -> list[Silenced]:
    """Return those of the silences that match such an alert, the one that lasts longest first. A silence of the
    alert itself comes before all others."""
    matching = [
        one
        for one in silences
        if one.alert_id in (None, alert_id)
        and one.owner_id in (None, owner_id)
        and one.rule_id in (None, rule_id)
        and one.asset_id in (None, asset_id)
        and one.severity in ("", severity)
    ]
    endless = datetime.max.replace(tzinfo=UTC)
    return sorted(matching, key=lambda one: (one.ends_at or endless, -one.silence_id), reverse=True)


def quiet_until(*, now: datetime, quiet: QuietHours) -> datetime | None:
    """Return when the quiet hours that `now` is in end (UTC), None outside of them.

    A change of the clock does not end them early: else a resolution could be sent before its opening, which is
    deferred. Where the clock is put forward over their end, they end as much later as it jumps; where it is put back
    over their end, they begin again and last until that time comes a second time.
    """
    local = now.astimezone(ZoneInfo(quiet.zone))
    nights = timedelta(days=quiet.begin > quiet.end)
    for day in (local.date(), local.date() - timedelta(days=1)):
        begin = datetime.combine(day, quiet.begin, tzinfo=local.tzinfo).astimezone(UTC)
        end = datetime.combine(day + nights, quiet.end, tzinfo=local.tzinfo).astimezone(UTC)
        if begin <= now < end:
            return end
    if not local.fold:
        return None
    has_begun = quiet.begin > quiet.end or quiet.begin <= local.time()
    end = datetime.combine(local.date(), quiet.end, tzinfo=local.tzinfo).replace(fold=1).astimezone(UTC)
    return end if has_begun and now < end else None


def retry_delay(*, attempts: int, uniform: Callable[[float, float], float]) -> timedelta | None:
    """Return how long to wait after the given number of attempts, or None when it was the last.

    uniform: random.uniform, or its stand-in in tests; the jitter spreads the retries of many channels.
    """
    if attempts > len(RETRY_AFTER_SECONDS):
        return None
    seconds = RETRY_AFTER_SECONDS[attempts - 1]
    return timedelta(seconds=seconds * uniform(1 - JITTER, 1 + JITTER))


def describe_unread(count: int) -> str:
    """Return a number of unread messages as navigation shows it, "" for none."""
    if not count:
        return ""
    return str(count) if count < UNREAD_COUNTED else f"{UNREAD_COUNTED - 1}+"


def describe_end(ends_at: datetime | None, *, reader: Reader = STANDARD) -> str:
    """Return until when a silence lasts. ends_at: None where that is the end of its alert; reader: whom it is for."""
    return f"until {moment(ends_at, reader)}" if ends_at is not None else "until the alert is over"


def moment(at: datetime, reader: Reader = STANDARD) -> str:
    """Return a time as messages show it."""
    return format_moment(at, reader=reader)


def one_line(text: str) -> str:
    """Return the text with each run of white space as one space; those within numbers stay."""
    return _WHITE_SPACE.sub(" ", text).strip()
