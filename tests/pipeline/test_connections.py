"""The database connection that a worker keeps from task to task."""

import os
import socket
from socket import (
    IPPROTO_TCP,
    SO_KEEPALIVE,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_USER_TIMEOUT,
)

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


def test_the_kernel_gives_a_server_up_that_vanished_within_30_seconds():
    """Both ways: while an answer is waited for (keepalives), and while something is sent (TCP_USER_TIMEOUT)."""
    connection.ensure_connection()
    with socket.socket(fileno=os.dup(connection.connection.fileno())) as tcp:
        of_tcp = [TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT, TCP_USER_TIMEOUT]
        idle, interval, probes, unacknowledged_ms = [tcp.getsockopt(IPPROTO_TCP, option) for option in of_tcp]
        assert tcp.getsockopt(SOL_SOCKET, SO_KEEPALIVE) == 1
    assert 0 < idle + interval * probes <= 30
    assert 0 < unacknowledged_ms <= 30_000
