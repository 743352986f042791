import os
import sqlite3
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest
from django.core.checks import run_checks

from apps.market import calendars
from apps.panel.problems import health_part
from apps.pipeline.flow import prune
from tests.builders import check_all, make_feed

ROOT = Path(__file__).resolve().parents[2]


def migrate(database: Path) -> subprocess.CompletedProcess:
    environment = os.environ | {
        "DATABASE_URL": f"sqlite:///{database}",
        "CELERY_BROKER_URL": "",
        "REDIS_URL": "",
        "VAR_DIR": str(database.parent),
    }
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_a_database_of_an_earlier_version_is_refused_with_the_command_that_makes_a_new_one(tmp_path):
    database = tmp_path / "old.sqlite3"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE django_migrations (id integer PRIMARY KEY, app text, name text, applied text)")
        for name in ("0001_initial", "0002_quote"):
            connection.execute(
                "INSERT INTO django_migrations (app, name, applied) VALUES ('market', ?, '2026-11-01 00:00:00')", [name]
            )

    ended = migrate(database)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        "This database was made by an earlier version (market.0002_quote) and cannot be upgraded. "
        f"Make a new one, which deletes all data: rm {database}\n"
    )
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    assert tables == ["django_migrations"]


def test_a_new_database_is_migrated_and_a_second_migrate_changes_nothing(tmp_path):
    database = tmp_path / "new.sqlite3"
    for _ in range(2):
        ended = migrate(database)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@pytest.mark.django_db
@pytest.mark.parametrize(("day", "warned"), [("2029-10-31", 0), ("2029-11-01", 1), ("2031-01-01", 1)])
def test_a_calendar_that_ends_is_warned_of_by_the_check_the_log_and_the_first_page(
    day, warned, monkeypatch, caplog, admin_user
):
    feed = make_feed("A", "B", "C")
    for symbol, calendar in (("A", "XSAU"), ("B", "XSAU"), ("C", "XNYS")):
        feed.assets.filter(symbol=symbol).update(calendar=calendar)
    now = datetime.fromisoformat(f"{day}T00:00:00Z")
    text = calendars.warning_of("XSAU", now)
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)

    found = [one.msg for one in run_checks(tags=["database"], databases=["default"]) if one.id == "setup.W001"]
    prune(dry_run=True)

    assert found == [text] * warned
    assert [one.detail for one in caplog.records if one.message == "calendar ends"] == [text] * warned
    check_all(now=now)
    reasons = [row[3] for row in health_part(admin_user, now=now).rows]
    assert (text in reasons) == bool(warned)
