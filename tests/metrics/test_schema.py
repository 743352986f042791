"""The schema `dashboards`: its role reads prices, candles, feeds and times of alerts, and no table."""

import pytest
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from apps.alerts.models import Alert
from apps.canary import CANARY
from apps.health import canary
from apps.metrics.schema import ROLE, VIEWS, drop_views, make_views
from apps.pipeline import flow
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

OF_OWNERS = {"owner", "owner_id", "rule", "rule_id", "user", "username", "email", "summary", "note", "evidence"}


@pytest.fixture
def cursor():
    """Return a cursor that has the rights of the role."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
        yield cursor
        cursor.execute("RESET ROLE")


def test_the_role_reads_every_view(cursor):
    read = {}
    for name in VIEWS:
        cursor.execute(f"SELECT * FROM dashboards.{name}")
        read[name] = {column.name for column in cursor.description}

    assert set(read) == {"feeds", "assets", "prices", "candles", "entries", "alerts"}
    assert {column for columns in read.values() for column in columns} & OF_OWNERS == set()


def test_the_role_reads_no_table_and_makes_none(cursor):
    cursor.execute("SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')")
    tables = [name for (name,) in cursor.fetchall()]
    refused = set()
    for statement in (*(f"SELECT 1 FROM {name} LIMIT 1" for name in tables), "CREATE TABLE mine (id int)"):
        try:
            with transaction.atomic():
                cursor.execute(statement)
        except ProgrammingError as error:
            assert "permission denied" in str(error)
            refused.add(statement)

    assert len(refused) == len(tables) + 1 > 40


def test_the_canary_is_in_no_view(cursor, settings):
    cursor.execute("RESET ROLE")
    settings.CANARY = True
    canary.append_if_due(now=timezone.now())
    flow.evaluate_pending(feed_id=CANARY)
    assert Alert.objects.filter(asset=CANARY).exists()
    cursor.execute(f"SET LOCAL ROLE {ROLE}")
    shown = {}
    for name in VIEWS:
        cursor.execute(f"SELECT count(*) FROM dashboards.{name}")
        shown[name] = cursor.fetchone()[0]

    assert shown == dict.fromkeys(VIEWS, 0)


def test_an_alert_is_shown_with_its_trace_and_not_with_its_owner(cursor):
    cursor.execute("RESET ROLE")
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=above(100))
    append_quotes(feed, [("A", at(0), "90")])
    append_quotes(feed, [("A", at(1), "101")])
    flow.evaluate_pending(feed_id=feed.pk)
    cursor.execute(f"SET LOCAL ROLE {ROLE}")
    cursor.execute("SELECT symbol, feed, kind, severity, opened_at, resolved_at, trace_id FROM dashboards.alerts")

    assert cursor.fetchall() == [("A", "feed", "condition", "warning", at(1), None, "0" * 32)]


def test_a_migration_finds_no_view_in_its_way_and_makes_them_anew():
    drop_views()
    with connection.cursor() as cursor:
        cursor.execute("SELECT to_regnamespace('dashboards') IS NULL")
        assert cursor.fetchone() == (True,)
        cursor.execute("ALTER TABLE alerts_alert ALTER COLUMN severity TYPE varchar(9)")
    make_views()
    make_views()
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_views WHERE schemaname = 'dashboards'")
        assert cursor.fetchone() == (len(VIEWS),)
