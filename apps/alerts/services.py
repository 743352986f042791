"""Episodes opened and resolved from what the engine found, in the caller's transaction."""

from collections.abc import Sequence

from apps.alerts.models import Alert, AlertEvent
from apps.market.domain import from_epoch_microseconds
from apps.market.models import Asset, Batch
from apps.rules.domain import evidence_in_words
from apps.rules.engine.written import RuleInvalid
from apps.rules.engine.instance import ERROR, Transition
from apps.rules.models import Rule
from apps.rules.queries import Specs, specs_of


def record_episodes(*, batch: Batch, transitions: Sequence[Transition]) -> list[AlertEvent]:
    """Open and resolve alerts as these transitions of one batch say, in their order; return the events made.

    A judgement that failed opens an alert of kind error, which ends when the rule is changed.
    """
    steps = [one for one in transitions if one.opens or one.resolves or ERROR in (one.from_state, one.to_state)]
    if not steps:
        return []
    rules = Rule.objects.in_bulk({one.rule_id for one in steps})
    symbols = dict(Asset.objects.filter(pk__in={one.asset_id for one in steps}).values_list("pk", "symbol"))
    specs = specs_of({one.version_id for one in steps})
    open_alerts = {
        (alert.rule_id, alert.asset_id): alert
        for alert in Alert.objects.filter(rule__in=rules, asset__in=symbols, resolved_at=None)
    }
    opened: list[Alert] = []
    resolved: list[Alert] = []
    events: list[AlertEvent] = []

    def note(alert: Alert, kind: str, step: Transition) -> None:
        at = from_epoch_microseconds(step.moment)
        events.append(AlertEvent(alert=alert, kind=kind, at=at, reason=step.reason, batch=batch))

    for step in steps:
        key = (step.rule_id, step.asset_id)
        if (step.resolves or step.from_state == ERROR) and key in open_alerts:
            alert = open_alerts.pop(key)
            alert.resolved_at = max(from_epoch_microseconds(step.moment), alert.opened_at)
            alert.resolution = step.reason[:200]
            if alert.pk is not None:
                resolved.append(alert)
            note(alert, AlertEvent.Kind.RESOLVED, step)
        if step.opens or step.to_state == ERROR:
            alert = _alert_of(step, batch=batch, rule=rules[step.rule_id], symbol=symbols[step.asset_id], specs=specs)
            open_alerts[key] = alert
            opened.append(alert)
            note(alert, AlertEvent.Kind.OPENED, step)
    # Resolved ones first: the database lets only one be open per rule and asset.
    Alert.objects.bulk_update(resolved, ["resolved_at", "resolution"], batch_size=1_000)
    Alert.objects.bulk_create(opened, batch_size=1_000)
    return AlertEvent.objects.bulk_create(events, batch_size=1_000)


def _alert_of(step: Transition, *, batch: Batch, rule: Rule, symbol: str, specs: Specs) -> Alert:
    spec = specs[step.version_id]
    if step.to_state == ERROR or isinstance(spec, RuleInvalid):
        kind = Alert.Kind.ERROR
        words = f"{rule.name} cannot be judged on {symbol}: {step.reason}. Edit the rule to start it again."
    else:
        kind = Alert.Kind.CONDITION
        words = evidence_in_words(symbol=symbol, condition=spec.condition, evidence=step.evidence or {})
    return Alert(
        rule=rule,
        version_id=step.version_id,
        asset_id=step.asset_id,
        batch=batch,
        kind=kind,
        severity=rule.severity,
        opened_at=from_epoch_microseconds(step.moment),
        evidence=step.evidence or {},
        words=words,
    )
