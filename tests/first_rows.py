"""The rows that a new database has, put back after each test that commits.

Django would truncate all tables, which makes some hundred files anew, and then send `post_migrate`, which makes the
permissions and groups once more. Here the rows of a test go by DELETE, and the first rows stay unless a test changed
them. That takes a tenth of the time.
"""

from typing import Any

from django.db import connection, transaction
from django.test import TransactionTestCase

from apps.market.models import AssetsChange

_tables: list[str] = []
# Table -> its rows, in order, where it has any.
_first_rows: dict[str, list[tuple[Any, ...]]] = {}


def remember() -> None:
    """Note the tables of the new database and their rows, and have them put back after each test that commits."""
    # Deleting assets writes a row here.
    last = AssetsChange._meta.db_table
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    _tables[:] = sorted(names, key=lambda name: (name == last, name))
    with connection.cursor() as cursor:
        for table in _tables:
            if rows := _rows_of(cursor, table):
                _first_rows[table] = rows
    TransactionTestCase._fixture_teardown = put_back


def put_back(_: TransactionTestCase | None = None) -> None:
    """Make the rows those that `remember` has noted."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # As TRUNCATE does: what another connection has begun is over by then.
            cursor.execute(f"LOCK TABLE {', '.join(_tables)} IN ACCESS EXCLUSIVE MODE")
        changed = [table for table, rows in _first_rows.items() if _rows_of(cursor, table) != rows]
        emptied = [f"DELETE FROM {table}" for table in _tables if table in changed or table not in _first_rows]
        if connection.vendor == "postgresql":
            cursor.execute(";".join(emptied))
        else:
            for statement in emptied:
                cursor.execute(statement)
        for table in changed:
            places = ", ".join(["%s"] * len(_first_rows[table][0]))
            cursor.executemany(f"INSERT INTO {table} VALUES ({places})", _first_rows[table])


def _rows_of(cursor: Any, table: str) -> list[tuple[Any, ...]]:
    cursor.execute(f"SELECT * FROM {table} ORDER BY 1")
    return cursor.fetchall()
