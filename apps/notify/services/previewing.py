"""What would be sent, by the same code as what is sent. Nothing is written."""

from dataclasses import dataclass, replace
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.urls import reverse

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Asset
from apps.notify import domain, queries
from apps.notify.models import Channel, Message, Owed
from apps.notify.sealing import SealBroken
from apps.notify.services.planning import told_of, words_of
from apps.notify.services.sending import letter_of
from apps.notify.transports.protocol import Act, ChannelInvalid, Letter
from apps.notify.transports.registry import transport_named
from apps.rules.domain import rule_in_words
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule
from apps.rules.queries import newest_versions

EXAMPLE = "An example"


@dataclass(frozen=True, slots=True)
class WouldSend:
    """What would be sent on a channel now: as its transport says it, what holds it back, and by which silence where it
    is one. is_whole: false where the channel cannot send as it is set, and only subject and text are known."""

    channel: Channel
    text: str
    hold: domain.Hold | None
    is_whole: bool


def last_opening(*, owner: AbstractBaseUser, rule: Rule | None = None, now: datetime) -> AlertEvent:
    """Return the opening of the last alert of a rule, or of any rule of the owner; where none has opened yet, that of
    an example, which is in no table."""
    opened = AlertEvent.objects.filter(kind=AlertEvent.Kind.OPENED, alert__rule__owner=owner)
    opened = opened.select_related("alert__rule", "alert__asset").order_by("-alert__opened_at", "-alert")
    last = opened.filter(alert__rule=rule).first() if rule is not None else opened.first()
    return last or _example(rule or Rule(owner=owner, name=EXAMPLE), now=now)


def would_send(*, channel: Channel, event: AlertEvent, now: datetime) -> WouldSend:
    """Return what telling this event on this channel would send now. The channel may be one that is not saved."""
    debt = Owed(event=event, channel=channel, due_at=now)
    told = [told_of(debt)]
    message = Message(channel=channel, told=[domain.as_data(one) for one in told])
    message.subject, message.text = words_of(message, told, channel=channel)
    hold = queries.hold_on(debt, silences=queries.silences_in_force(now=now), now=now)
    try:
        transport = transport_named(channel.kind)
        text = transport.preview(_unsigned(letter_of(message)), transport.validate(channel.transport_settings))
    except (ChannelInvalid, SealBroken):
        return WouldSend(channel, f"{message.subject}\n\n{message.text}", hold, is_whole=False)
    return WouldSend(channel, text, hold, is_whole=True)


def _unsigned(letter: Letter) -> Letter:
    """Return the letter with links that are none: a signed one would lead to a message that there is not."""
    url = settings.SITE_URL + reverse("act", args=["example"])
    return replace(letter, acts=tuple(Act(one.label, url) for one in letter.acts))


def _example(rule: Rule, *, now: datetime) -> AlertEvent:
    symbol, words = _watched(rule)
    # The number 0 is no row's: the links of an example lead nowhere.
    alert = Alert(
        pk=0,
        rule=rule,
        asset=Asset(symbol=symbol),
        severity=rule.severity,
        opened_at=now,
        words=f"{EXAMPLE}: {words}",
    )
    return AlertEvent(alert=alert, kind=AlertEvent.Kind.OPENED, at=now)


def _watched(rule: Rule) -> tuple[str, str]:
    """Return (an asset that the rule watches, the rule in words), or invented ones."""
    version = newest_versions([rule.pk]).get(rule.pk) if rule.pk is not None else None
    try:
        spec = RuleSpec.read(version.document) if version is not None else None
    except RuleInvalid:
        spec = None
    if spec is None:
        return "BTC-USD", "BTC-USD is above 100 000: 100 001 at 12:00:00"
    state = rule.states.select_related("asset").order_by("asset__symbol").first()
    symbol = state.asset.symbol if state is not None else next(iter(spec.assets.symbols or ()), "BTC-USD")
    return symbol, rule_in_words(spec)
