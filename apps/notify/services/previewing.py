"""Previews of messages, made by the code that makes what is sent. Nothing is written."""

from dataclasses import dataclass, replace
from datetime import datetime

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser
from django.urls import reverse

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Asset
from apps.market.queries import assets_chosen
from apps.notify import domain, queries
from apps.notify.decision import Decision, decide
from apps.notify.encryption import DecryptionError
from apps.notify.models import Channel, Message, Notification
from apps.notify.services.channels import send_test
from apps.notify.services.planning import compose_message, item_of
from apps.notify.services.sending import render
from apps.notify.transports.protocol import Action, ChannelInvalid, RenderedMessage
from apps.notify.transports.registry import transport_named
from apps.rules.domain import describe_rule
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule
from apps.rules.queries import newest_versions

EXAMPLE = "An example"


@dataclass(frozen=True, slots=True)
class WouldSend:
    """What would be sent on a channel now. text: in the form of its transport; decision: whether it would be sent at
    once, or why not; deferral: what would defer it; is_whole: false where the channel cannot send with its settings,
    and text is only subject and text."""

    channel: Channel
    text: str
    decision: Decision
    deferral: domain.Deferral | None
    is_whole: bool


def last_opening(*, owner: AbstractBaseUser, rule: Rule | None = None, now: datetime) -> AlertEvent:
    """Return the opening of the last alert of a rule, or of any rule of the owner; where none has opened yet, that of
    an example, which is not saved."""
    opened = AlertEvent.objects.filter(kind=AlertEvent.Kind.OPENED, alert__rule__owner=owner)
    opened = opened.select_related("alert__rule", "alert__asset").order_by("-alert__opened_at", "-alert")
    last = opened.filter(alert__rule=rule).first() if rule is not None else opened.first()
    return last or _example(rule or Rule(owner=owner, name=EXAMPLE), now=now)


def sample_opening(*, owner: AbstractBaseUser, name: str, severity: str, spec: RuleSpec, now: datetime) -> AlertEvent:
    """Return the opening of an example of a rule that need not be saved."""
    named = spec.assets
    chosen = assets_chosen(symbols=named.symbols, tag=named.tag, feed=named.feed, owner_id=owner.pk)
    symbol = next((asset.symbol for asset in chosen), "BTC-USD")
    return _opening_of(
        Rule(owner=owner, name=name, severity=severity), symbol=symbol, text=describe_rule(spec), now=now
    )


def send_sample(*, channel: Channel, event: AlertEvent, asked_by: str, now: datetime) -> Message:
    """Return a new message that shows an opening as this channel would send it, and says that it is a test.

    It is sent as a test is. Raises TestRefused.
    """
    items = [item_of(Notification(event=event, channel=channel, due_at=now))]
    subject, text = compose_message(Message(channel=channel), items, channel=channel)
    said = f"This is a sample, asked for by {asked_by}: nothing has happened."
    return send_test(channel=channel, asked_by=asked_by, now=now, content=(f"[test] {subject}", f"{said}\n\n{text}"))


def would_send(*, channel: Channel, event: AlertEvent, now: datetime) -> WouldSend:
    """Return what would be sent of this event on this channel now. The channel may be unsaved."""
    notification = Notification(event=event, channel=channel, due_at=now)
    items = [item_of(notification)]
    message = Message(channel=channel, items=[domain.as_data(one) for one in items])
    message.subject, message.text = compose_message(message, items, channel=channel)
    silences = queries.silences_in_force(now=now, alert_ids=[event.alert.pk])
    deferral = queries.deferral_now(notification, silences=silences, now=now)
    # A channel that is not saved yet has no owner, and has sent nothing.
    is_made = channel.pk is not None
    decision = decide(
        refusal=queries.refusal_of(channel) if is_made else None,
        is_at_limit=is_made and queries.is_at_its_limit(channel, now=now),
        deferral=deferral,
    )
    try:
        transport = transport_named(channel.kind)
        text = transport.preview(_unsigned(render(message)), transport.validate(channel.transport_settings))
    except (ChannelInvalid, DecryptionError):
        return WouldSend(channel, f"{message.subject}\n\n{message.text}", decision, deferral, is_whole=False)
    return WouldSend(channel, text, decision, deferral, is_whole=True)


def _unsigned(rendered: RenderedMessage) -> RenderedMessage:
    """Return it with placeholder links."""
    url = settings.SITE_URL + reverse("action", args=["example"])
    return replace(rendered, actions=tuple(Action(one.label, url) for one in rendered.actions))


def _example(rule: Rule, *, now: datetime) -> AlertEvent:
    symbol, text = _watched(rule)
    return _opening_of(rule, symbol=symbol, text=text, now=now)


def _opening_of(rule: Rule, *, symbol: str, text: str, now: datetime) -> AlertEvent:
    # The number 0 is no row's: the links of an example lead nowhere.
    alert = Alert(
        pk=0,
        owner=rule.owner,
        rule=rule,
        asset=Asset(symbol=symbol),
        severity=rule.severity,
        opened_at=now,
        summary=f"{EXAMPLE}: {text}",
    )
    return AlertEvent(alert=alert, kind=AlertEvent.Kind.OPENED, at=now)


def _watched(rule: Rule) -> tuple[str, str]:
    """Return (the symbol of an asset of the rule, the rule as a sentence), or invented ones."""
    version = newest_versions([rule.pk]).get(rule.pk) if rule.pk is not None else None
    try:
        spec = RuleSpec.read(version.document) if version is not None else None
    except RuleInvalid:
        spec = None
    if spec is None:
        return "BTC-USD", "BTC-USD is above 100 000: 100 001 at 12:00:00 UTC"
    state = rule.states.select_related("asset").order_by("asset__symbol").first()
    symbol = state.asset.symbol if state is not None else next(iter(spec.assets.symbols or ()), "BTC-USD")
    return symbol, describe_rule(spec)
