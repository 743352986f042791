"""System checks: refuse a database that an earlier version made, and warn of calendars that end."""

import sys
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.core.checks import Tags, Warning, register
from django.db import DatabaseError, connections
from django.db.migrations.loader import MigrationLoader
from django.utils import timezone

from apps.market.queries import calendar_warnings

_NEW_DATABASE = {
    "sqlite": "rm {name}",
    "postgresql": "dropdb {name} && createdb {name}",
}


@register(Tags.database)
def refuse_old_database(app_configs: Any, databases: Iterable[str] | None, **kwargs: Any) -> list[Any]:
    """End the process with status 2 and one line where the database has migrations that no file describes any more.

    The migrations were squashed without a way from the old ones to the new: `migrate` would take the old tables for the
    new ones, since both began with 0001_initial.
    """
    for alias in databases or []:
        connection = connections[alias]
        ours = {config.label for config in apps.get_app_configs() if config.name.startswith("apps.")}
        loader = MigrationLoader(connection, ignore_no_migrations=True)
        applied = loader.applied_migrations
        unknown = sorted(key for key in applied if key[0] in ours and key not in loader.disk_migrations)
        if unknown:
            command = _NEW_DATABASE[connection.vendor].format(name=connection.settings_dict["NAME"])
            first = ".".join(unknown[0])
            print(
                f"This database was made by an earlier version ({first}) and cannot be upgraded. "
                f"Make a new one, which deletes all data: {command}",
                file=sys.stderr,
            )
            raise SystemExit(2)
    return []


@register(Tags.database)
def warn_of_calendars_that_end(app_configs: Any, databases: Iterable[str] | None, **kwargs: Any) -> list[Any]:
    """Warn where an asset's trading hours are soon known no more, or are so already."""
    if "default" not in (databases or []):
        return []
    try:
        return [Warning(warning, id="setup.W001") for warning in calendar_warnings(now=timezone.now())]
    except DatabaseError:
        # There are no tables before the first migration.
        return []
