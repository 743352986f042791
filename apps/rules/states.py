"""Rows of where instances stand, many at once."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.db import connection


class State(NamedTuple):
    """Where the instances of one rule on some assets stand: the columns of RuleState but the asset. unknown_since: from
    when on, where it is UNKNOWN and was not before."""

    rule_id: int
    version_id: int
    state: str
    since: datetime | None
    unknown: str
    unknown_since: datetime | None
    reason: str
    detail: str


_COLUMNS = State._fields
_REPLACED = ("version_id", "state", "since", "unknown", "reason", "detail")
_RECORD = f"""
    INSERT INTO rules_rulestate ({", ".join(_COLUMNS)}, asset_id)
    {{rows}}
    ON CONFLICT (rule_id, asset_id) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _REPLACED)},
        unknown_since = CASE WHEN excluded.unknown <> ''
            THEN coalesce(rules_rulestate.unknown_since, excluded.unknown_since) END"""
_FROM_JSON = _RECORD.format(
    rows=f"""SELECT {", ".join(_COLUMNS)}, unnest(asset_ids) FROM json_to_recordset(%s::json) AS alike (
        rule_id bigint, version_id bigint, state text, since timestamptz, unknown text, unknown_since timestamptz,
        reason text, detail text, asset_ids bigint[])"""  # noqa: S608 (constants)
)
_ONE_BY_ONE = _RECORD.format(rows=f"VALUES ({', '.join(['%s'] * len(_COLUMNS))}, %s)")


def record_states(alike: Mapping[State, Sequence[int]]) -> None:
    """Write where instances stand, each over the row that there is of its rule and asset. One that has been UNKNOWN
    before keeps since when, whatever the reason was meanwhile.

    alike: where they stand -> the assets of which that is so.
    """
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            rows = [state._asdict() | {"asset_ids": asset_ids} for state, asset_ids in alike.items()]
            # As JSON, which is written in C: arrays are written value by value in Python.
            cursor.execute(_FROM_JSON, [json.dumps(rows, default=datetime.isoformat)])
        else:
            written = [(list(map(_adapted, state)), asset_ids) for state, asset_ids in alike.items()]
            cursor.executemany(_ONE_BY_ONE, [[*row, pk] for row, asset_ids in written for pk in asset_ids])


def _adapted(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
