"""Beside the answer why a rule did or did not fire: which channels it notifies, and what defers that."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.utils.html import format_html

from apps.alerts.models import Alert
from apps.alerts.queries import written_for
from apps.market.models import Asset
from apps.notify import queries
from apps.notify.decision import Decision, wait_for_group
from apps.notify.domain import Deferral, describe_end, moment
from apps.notify.models import Channel, Silence
from apps.panel.alert_notifications import NOTIFICATION_HEADERS, notification_rows
from apps.panel.deferrals import describe_limit
from apps.panel.kit.pages import Table, page_link
from apps.reader import active_reader, in_zone, write_time
from apps.rules.models import Rule
from apps.rules.why import Why

NOBODY = (
    "Nobody is notified: the rule names no channel. Its alerts are recorded all the same, and only an evaluation error "
    "goes to its owner's inbox."
)
AS_RECORDED_TODAY = (
    "Silences, channels and the rule's severity are shown as they are recorded today: what was edited or deleted since "
    "that moment cannot be known."
)


@dataclass(frozen=True, slots=True)
class Beside:
    """What stands beside the answer: a heading, sentences and tables."""

    title: str
    notes: Sequence[Any]
    tables: Sequence[Table]


def notified_beside(
    request: HttpRequest, answer: Why, *, rule: Rule, asset: Asset, at: datetime | None, now: datetime
) -> Beside:
    """Return the outlook of notifications at the moment of the answer, as far as this reader may see it."""
    outlook = queries.notification_outlook(request.user, rule=rule, asset=asset, entry=answer.entry, at=at, now=now)
    is_past = outlook.moment < now
    return Beside(
        title="Who was notified" if is_past else "Who is notified",
        notes=[
            f"By this machine's clock, which notifications go by: {moment(outlook.moment)}.",
            *([] if outlook.channels else [NOBODY]),
            _describe_alert(request, outlook, verb="was" if is_past else "is"),
            *([AS_RECORDED_TODAY] if is_past else []),
        ],
        tables=[
            *([_what_became_of(outlook.alert, request, outlook)] if outlook.alert is not None else []),
            Table(
                title="Silences in force that match",
                headers=["silence", "whose alerts", "made by", in_zone("from"), in_zone("until")],
                rows=[
                    [
                        *(page_link(request, one, one.comment), whose(one), str(one.author or "somebody")),
                        *(one.starts_at, one.ends_at or "the alert is over"),
                    ]
                    for one in outlook.silences
                ],
                empty="None.",
            ),
            Table(
                title="What each channel would do now",
                headers=["channel", "an alert that opens at that moment", "wants", "how the channel does today"],
                rows=[
                    [
                        page_link(request, one.channel, str(one.channel)),
                        describe_outlook(one, outlook=outlook),
                        _wants(one.channel),
                        queries.channel_state(one.channel, now=now, reader=active_reader())[1],
                    ]
                    for one in outlook.channels
                ],
                empty="The rule names none.",
            ),
        ],
    )


def describe_outlook(one: queries.ChannelThen, *, outlook: queries.NotificationOutlook) -> str:
    """Return when an alert of the rule notifies a channel at that moment, or the reason that is decided why not."""
    channel, deferral = one.channel, one.deferral
    until = f"held back {describe_end(deferral.until, reader=active_reader())} by" if deferral is not None else ""
    match one.decision:
        case None:
            return f"not notified: the channel was made later, at {moment(channel.created_at)}"
        case Decision.CHANNEL_DISABLED:
            return "not notified: the channel is disabled"
        case Decision.OWNER_INACTIVE:
            return f"not notified: the account of its owner, {channel.owner}, is not active"
        case Decision.AT_LIMIT:
            return f"waits for room within {describe_limit(channel)}"
        case Decision.SILENCED:
            return f"{until} {_silence_named(outlook, deferral)}"
        case Decision.QUIET_HOURS:
            return f"{until} quiet hours, {_quiet_hours(channel)}"
    wait = wait_for_group(severity=outlook.severity, group_wait_seconds=channel.group_wait_seconds)
    return f"notified, after waiting {wait.seconds} s for more alerts" if wait else "notified at once"


def _silence_named(outlook: queries.NotificationOutlook, deferral: Deferral | None) -> str:
    """Return a silence as a phrase: with its comment where the reader may see it."""
    silence_id = deferral.silence_id if deferral is not None else None
    return next((f"the silence “{one.comment}”" for one in outlook.silences if one.pk == silence_id), "a silence")


def whose(silence: Silence) -> str:
    """Return whose alerts a silence is about."""
    return str(silence.owner) if silence.owner is not None else "everybody's"


def _describe_alert(request: HttpRequest, outlook: queries.NotificationOutlook, *, verb: str) -> Any:
    if outlook.alert is None:
        return f"No alert {verb} open, and none had opened before, so there {verb} nothing to send."
    written_for([outlook.alert], reader=active_reader())
    link = page_link(request, outlook.alert, outlook.alert.summary)
    opened_at = write_time(outlook.alert.opened_at)
    if outlook.is_open:
        return format_html("An alert {} open: {}, since {} by the feed's clock.", verb, link, opened_at)
    return format_html(
        "No alert {} open. The last one before is {}, opened at {} and over at {} by the feed's clock.",
        *(verb, link, opened_at, write_time(outlook.alert.resolved_at)),
    )


def _what_became_of(alert: Alert, request: HttpRequest, outlook: queries.NotificationOutlook) -> Table:
    not_notified: Sequence[Sequence[Any]] = [
        ["opened", page_link(request, one, str(one)), "", "none", _why_not_notified(one, opened=alert.created_at)]
        for one in outlook.not_notified
    ]
    return Table(
        title=f"What became of {'it' if outlook.is_open else 'that alert'}, up to now",
        headers=NOTIFICATION_HEADERS,
        rows=[*notification_rows(request, alert), *not_notified],
        empty="Nobody was notified: the rule named no channel that was enabled. Or old messages are kept no more.",
    )


def _why_not_notified(channel: Channel, *, opened: datetime) -> str:
    if channel.created_at > opened:
        return "not notified: the channel was created after the alert had opened"
    return "nothing on record: when the alert opened, the rule did not name it, or it was off; or it is kept no more"


def _quiet_hours(channel: Channel) -> str:
    return f"{channel.quiet_from:%H:%M} to {channel.quiet_until:%H:%M} in {channel.quiet_zone}"


def _wants(channel: Channel) -> str:
    ends = "openings and ends" if channel.wants_resolved else "openings, no ends"
    return f"{ends}; {f'reminders after {channel.repeat_minutes} min' if channel.repeat_minutes else 'no reminders'}"
