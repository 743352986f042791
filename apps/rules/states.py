"""Rows of where instances stand, many at once."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.db import connection

# Column -> its type.
_COLUMNS = {
    "rule_id": "bigint",
    "asset_id": "bigint",
    "version_id": "bigint",
    "state": "text",
    "since": "timestamptz",
    "unknown": "text",
    "unknown_since": "timestamptz",
    "reason": "text",
    "detail": "text",
}
_REPLACED = ("version_id", "state", "since", "unknown", "reason", "detail")
_RECORD = f"""
    INSERT INTO rules_rulestate ({", ".join(_COLUMNS)})
    {{rows}}
    ON CONFLICT (rule_id, asset_id) DO UPDATE SET
        {", ".join(f"{name} = excluded.{name}" for name in _REPLACED)},
        unknown_since = CASE WHEN excluded.unknown <> ''
            THEN coalesce(rules_rulestate.unknown_since, excluded.unknown_since) END"""
_TYPES = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
# As JSON, which is written in C: arrays are written value by value in Python.
_FROM_JSON = _RECORD.format(rows=f"SELECT * FROM json_to_recordset(%s::json) AS made ({_TYPES})")  # noqa: S608 (constants)
_ONE_BY_ONE = _RECORD.format(rows=f"VALUES ({', '.join(['%s'] * len(_COLUMNS))})")
_AT_ONCE = 5_000


def record_states(rows: Sequence[tuple[Any, ...]]) -> None:
    """Write these rows (rule id, asset id, version id, state, since, unknown, unknown_since, reason, detail), each over
    the one that there is of its rule and asset. One that has been UNKNOWN before keeps since when, whatever the reason
    was meanwhile."""
    for start in range(0, len(rows), _AT_ONCE):
        some = rows[start : start + _AT_ONCE]
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                made = [dict(zip(_COLUMNS, row, strict=True)) for row in some]
                cursor.execute(_FROM_JSON, [json.dumps(made, default=datetime.isoformat)])
            else:
                cursor.executemany(_ONE_BY_ONE, [list(map(_adapted, row)) for row in some])


def _adapted(value: Any) -> Any:
    return connection.ops.adapt_datetimefield_value(value) if isinstance(value, datetime) else value
