"""Many rows at once: writing them, and computing without pauses."""

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from django.db import connection
from django.db.models import Model

_AT_ONCE = 1_000


@contextmanager
def without_collections() -> Iterator[None]:
    """Pause the garbage collector. Many thousand rows and numbers have no cycle, and each collection would look at all
    of them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def insert(rows: Sequence[Model]) -> None:
    """Store new rows of one model, which have ids afterwards; by COPY on PostgreSQL. No column of it holds JSON."""
    if not rows:
        return
    model = type(rows[0])
    if connection.vendor != "postgresql":
        model._default_manager.bulk_create(rows, batch_size=_AT_ONCE)
        return
    meta, quoted = model._meta, connection.ops.quote_name
    fields = list(meta.concrete_fields)
    columns = ", ".join(quoted(field.column) for field in fields)
    with connection.wrap_database_errors, connection.cursor() as cursor:
        new_ids = "SELECT nextval(pg_get_serial_sequence(%s, %s)) FROM generate_series(1, %s)"
        cursor.execute(new_ids, [meta.db_table, meta.pk.column, len(rows)])
        for row, (number,) in zip(rows, cursor.fetchall(), strict=True):
            row.pk = number
        with cursor.copy(f"COPY {quoted(meta.db_table)} ({columns}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row([field.pre_save(row, add=True) for field in fields])
        for row in rows:
            row._state.adding, row._state.db = False, connection.alias
