"""The circuit breakers: who fails too often in a row is left alone for a while, by all feeds and workers together."""

import logging
from datetime import datetime

from django.db import transaction

from apps.market.models import Feed
from apps.sources import domain, queries
from apps.sources.domain import CircuitState
from apps.sources.models import Circuit, FeedSource

logger = logging.getLogger(__name__)

# What a provider refuses because of what one feed asks says nothing about the provider.
_OF_THE_PROVIDER = ("unauthorized",)


def note_failure(
    *, source: FeedSource, reason: str, is_refusal: bool, retry_after_seconds: int | None, now: datetime
) -> None:
    """Count a failed call of a provider. is_refusal: it has refused this request, which counts only where it would
    refuse any."""
    if is_refusal and reason not in _OF_THE_PROVIDER:
        return
    with transaction.atomic():
        key = {"provider": source.provider, "address": queries.address_of(source)}
        Circuit.objects.bulk_create([Circuit(**key)], ignore_conflicts=True)
        circuit = Circuit.objects.select_for_update(no_key=True).get(**key)
        before = _state_of(circuit)
        state = domain.circuit_after_failure(before, reason=reason, retry_after_seconds=retry_after_seconds, now=now)
        circuit.reason, circuit.failed_at = reason, now
        if state.open_until != before.open_until:
            # Whoever let a feed through did not know of this.
            circuit.let_through = None
        _write(circuit, state)
    if state.open_until != before.open_until:
        facts = {"provider": source.provider, "reason": reason, "until": state.open_until, "failures": state.failures}
        logger.warning("circuit opened", extra=facts)


def note_success(*, source: FeedSource, asked_at: datetime) -> None:
    """Count an answer of a provider that has failed lately; of others nothing is written.

    An answer to what was asked before the last failure says nothing about the time after it: it ends no ban.
    """
    with transaction.atomic():
        rows = Circuit.objects.select_for_update(no_key=True)
        circuit = rows.filter(provider=source.provider, address=queries.address_of(source)).first()
        if circuit is not None and (circuit.failed_at is None or circuit.failed_at <= asked_at):
            _write(circuit, domain.circuit_after_success(_state_of(circuit)))


def let_through(*, feed: Feed, circuit: Circuit) -> None:
    """Let a feed ask a provider once although it is left alone."""
    Circuit.objects.filter(pk=circuit.pk).update(let_through=feed)


def is_let_through(circuit: Circuit, *, feed: Feed) -> bool:
    """Tell whether a feed may ask a provider that is left alone; it may once."""
    if circuit.let_through_id != feed.pk:
        return False
    return bool(Circuit.objects.filter(pk=circuit.pk, let_through=feed).update(let_through=None))


def _state_of(circuit: Circuit) -> CircuitState:
    return CircuitState(circuit.failures, circuit.successes, circuit.open_until)


def _write(circuit: Circuit, state: CircuitState) -> None:
    circuit.failures, circuit.successes, circuit.open_until = state
    circuit.save()
