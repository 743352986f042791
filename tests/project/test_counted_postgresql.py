"""The connection to PostgreSQL: its times are read by psycopg's compiled loader, in UTC."""

from datetime import UTC, datetime

import psycopg
import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]

TIMES = [
    datetime(1, 1, 2, tzinfo=UTC),
    datetime(2024, 7, 1, 12, 0, 0, 1, tzinfo=UTC),
    datetime(9999, 12, 30, tzinfo=UTC),
]


@pytest.fixture
def users():
    users = get_user_model().objects
    for number, at in enumerate(TIMES):
        users.create(username=f"user-{number}", last_login=at)
    return users.order_by("pk").values_list("last_login", flat=True)


def test_times_are_read_in_utc_by_compiled_code(users):
    found = list(users)
    assert found == TIMES
    assert {at.tzinfo for at in found} == {UTC}
    loader = connection.connection.adapters.get_loader(
        psycopg.adapters.types["timestamptz"].oid, psycopg.pq.Format.TEXT
    )
    assert loader.__module__ == "psycopg_binary._psycopg"


def test_rows_come_in_parts_by_a_cursor_on_the_server(users):
    with transaction.atomic():
        assert list(users.iterator(chunk_size=2)) == TIMES


def test_a_zone_that_the_database_is_set_to_changes_nothing(users):
    name = connection.settings_dict["NAME"]
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {connection.ops.quote_name(name)} SET timezone TO 'America/Sao_Paulo'")
    try:
        connection.close()
        found = list(users.all())
        assert found == TIMES
        assert {at.tzinfo for at in found} == {UTC}
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {connection.ops.quote_name(name)} RESET timezone")
