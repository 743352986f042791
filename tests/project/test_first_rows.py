"""What tests that commit leave behind: the rows of a new database, and no others."""

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import TransactionTestCase

from tests import first_rows
from tests.builders import make_notified_alerts, make_owner
from tests.portfolios.rows import bought, make_portfolio, record
from tests.threads import overlapping


def all_rows():
    """Return table -> its rows, of all tables of the models."""
    names = connection.introspection.django_table_names(only_existing=True, include_views=False)
    found = {}
    with connection.cursor() as cursor:
        for name in names:
            cursor.execute(f"SELECT * FROM {name} ORDER BY 1")
            found[name] = cursor.fetchall()
    return found


@pytest.mark.django_db(transaction=True)
def test_after_a_test_that_commits_the_rows_are_those_of_a_new_database():
    before = all_rows()
    ada = make_owner()
    [alert] = make_notified_alerts(ada, 1)
    record(make_portfolio(ada), bought(alert.asset))
    group = Group.objects.get(name="Owner")
    ada.groups.add(group)
    group.permissions.clear()
    Permission.objects.filter(codename="view_rule").update(name="x")
    Permission.objects.filter(codename="view_alert").delete()
    Group.objects.create(name="Another")

    first_rows.put_back()

    assert all_rows() == before
    assert {name for name, rows in before.items() if rows} == {
        *("auth_group", "auth_group_permissions", "auth_permission", "django_content_type")
    }


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_what_another_connection_has_begun_is_over_before_the_rows_go():
    assert overlapping(lambda: Group.objects.create(name="Late"), first_rows.put_back) is None

    assert not Group.objects.filter(name="Late").exists()


def test_django_calls_it_after_each_test_that_commits():
    assert TransactionTestCase._fixture_teardown is first_rows.put_back
