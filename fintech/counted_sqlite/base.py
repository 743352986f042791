"""Django's SQLite, its statements counted and timed by django-prometheus, which would make a class for each cursor."""

from functools import cache
from typing import Any

from django.db.backends.sqlite3.base import SQLiteCursorWrapper
from django_prometheus.db.backends.sqlite3 import base
from django_prometheus.db.common import ExportingCursorWrapper


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose cursors are all of one class."""

    def create_cursor(self, name: str | None = None) -> Any:
        return self.connection.cursor(factory=_cursor_class(self.alias, self.vendor))


@cache
def _cursor_class(alias: str, vendor: str) -> Any:
    return ExportingCursorWrapper(SQLiteCursorWrapper, alias, vendor)
