"""The transaction in which a query reads."""

import pytest
from django.db import DatabaseError, InternalError, connection

from apps.accounts.models import SignInAttempt
from apps.api.graphql.execution import reading
from tests.api.asking import QUERY, codes
from tests.builders import at

pytestmark = [pytest.mark.django_db, pytest.mark.servers]


def write():
    SignInAttempt.objects.create(kind="mail", account="x", at=at(0))


def setting(name):
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


def test_what_is_within_reads_in_one_transaction_and_cannot_write():
    before = setting("statement_timeout")
    with reading():
        assert (setting("transaction_read_only"), setting("statement_timeout")) == ("on", "5s")
        with pytest.raises(InternalError, match="read-only transaction"):
            write()
        with pytest.raises(DatabaseError):
            setting("transaction_read_only")
    assert (setting("transaction_read_only"), setting("statement_timeout")) == ("off", before)
    write()


def test_what_reads_no_rows_begins_nothing(django_assert_num_queries):
    with django_assert_num_queries(0), reading():
        pass


def test_a_query_that_would_write_is_a_fault_and_writes_nothing(ask, admin_user, monkeypatch):
    monkeypatch.setattr(QUERY.fields["me"], "resolve", lambda root, info: write())
    assert codes(ask("{ me { username } }", user=admin_user)) == ["INTERNAL_ERROR"]
    assert not SignInAttempt.objects.exists()
