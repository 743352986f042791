"""One migrated database for all processes of pytest-xdist: the first process makes it, and the others copy it.

Each process would run every migration anew, which takes four seconds of its processor's time.
"""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from django.db import connection

_SUFFIX = "template"


@contextmanager
def copied(folder: Path) -> Iterator[None]:
    """Make the database of this process, in the body of `with`, as a copy; let others copy it where it is the first.

    folder: the folder that the processes of one run share, so that no run sees the database of another.
    """
    with (folder / "database.lock").open("w") as lock:
        # Given back at the end of the block; the system gives it back for a process that dies.
        fcntl.flock(lock, fcntl.LOCK_EX)
        copy = _copy_of_sqlite if connection.vendor == "sqlite" else _copy_of_postgresql
        with copy(folder):
            yield


def drop(folder: Path) -> None:
    """Drop the copy that this process has made for others. A process that comes later makes one of its own."""
    with (folder / "database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        note = folder / "database"
        if connection.vendor == "postgresql" and note.exists() and note.read_text() == _name_of_copy():
            note.unlink()
            connection.creation.destroy_test_db(suffix=_SUFFIX, verbosity=0)


@contextmanager
def _copy_of_postgresql(folder):
    # The file says which database is whole and may be copied.
    note = folder / "database"
    if note.exists():
        connection.settings_dict["TEST"]["TEMPLATE"] = note.read_text()
        yield
    else:
        yield
        # A database that is in use cannot be copied; this one nobody opens.
        connection.creation.clone_test_db(suffix=_SUFFIX, verbosity=0, autoclobber=True)
        note.write_text(_name_of_copy())


@contextmanager
def _copy_of_sqlite(folder):
    file = folder / "database.sqlite3"
    if file.exists():
        # It is in memory, and lives as long as a connection to it is open.
        with closing(sqlite3.connect(connection.creation._get_test_db_name(), uri=True)) as memory:
            with closing(sqlite3.connect(file)) as source:
                source.backup(memory)
            yield
    else:
        yield
        connection.ensure_connection()
        with closing(sqlite3.connect(folder / "database.part")) as target:
            connection.connection.backup(target)
        (folder / "database.part").rename(file)


def _name_of_copy():
    return connection.creation.get_test_db_clone_settings(_SUFFIX)["NAME"]
