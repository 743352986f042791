"""Django's PostgreSQL, its statements counted and timed by django-prometheus, and its times read by psycopg's compiled
loader: Django's own, in Python, takes ten times as long, which is a tenth of a page of a hundred rows."""

from functools import cache
from typing import Any

from django.db.backends.postgresql.base import ServerSideCursor
from django_prometheus.db.backends.postgresql import base
from psycopg.adapt import AdaptersMap
from psycopg.types.datetime import TimestamptzLoader


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection in UTC, as all of this project are: psycopg gives its times in UTC then, as Django's loader does."""

    def get_connection_params(self) -> dict[str, Any]:
        parameters = super().get_connection_params()
        return parameters | {"context": _with_compiled_times(parameters["context"])}

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor, as Django does, but without its loader. name: of a cursor on the server."""
        if name is None:
            return self.connection.cursor()
        return ServerSideCursor(self.connection, name=name, scrollable=False, withhold=self.connection.autocommit)


@cache
def _with_compiled_times(adapters: AdaptersMap) -> AdaptersMap:
    own = AdaptersMap(adapters)
    # psycopg takes the compiled class of this name where it is installed.
    own.register_loader("timestamptz", TimestamptzLoader)
    return own
