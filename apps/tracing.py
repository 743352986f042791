"""Trace ids: one for each slot of a feed and for each change that a person makes."""

import secrets


def new_trace_id() -> str:
    """Return a new id: 32 hex digits, as OpenTelemetry writes it.

    An entry of a feed's log, its alerts and their messages share one.
    """
    return secrets.token_hex(16)
