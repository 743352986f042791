"""The database connection that a worker keeps from task to task."""

import pytest
from django.db import connection, connections

from fintech.celery import forget_broken_connections

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def statements_of_a_task():
    """Return what a task sends to the database that reads one number."""
    forget_broken_connections()
    sent = []

    def note(execute, sql, *rest):
        sent.append(sql)
        return execute(sql, *rest)

    with connection.execute_wrapper(note), connection.cursor() as cursor:
        cursor.execute("SELECT 2")
        assert cursor.fetchone() == (2,)
    return sent


def backend():
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@pytest.fixture
def _kept(monkeypatch):
    """Let the connection be checked as in a worker, and close it in the end."""
    monkeypatch.setattr(connection, "health_check_enabled", True)
    yield
    connection.close()


@pytest.mark.usefixtures("_kept")
def test_a_task_does_not_ask_a_connection_whose_other_end_is_there(monkeypatch):
    asked = []
    monkeypatch.setattr(connection, "is_usable", lambda: asked.append(1) or True)
    before = backend()
    assert statements_of_a_task() == ["SELECT 2"]
    assert (backend(), asked) == (before, [])


@pytest.mark.usefixtures("_kept")
def test_a_task_begins_on_a_new_connection_where_the_server_has_closed_the_old_one():
    gone = backend()
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [gone])
    finally:
        other.close()
    assert statements_of_a_task() == ["SELECT 2"]
    assert backend() != gone
