"""An index serves the orders of lists that grow for years: PostgreSQL reads a page without sorting what is stored."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.builders import append_quotes, at, make_feed, make_notified_alerts

pytestmark = [pytest.mark.servers, pytest.mark.django_db]

TIME, NAME = ("NEWEST_FIRST", "OLDEST_FIRST"), ("ASCENDING", "DESCENDING")
# List -> (query, what the statement has that finds its rows, its orders).
LISTS = {
    "assets": ("{ assets(order: %s) { edges { cursor } } }", 'FROM "market_asset"', NAME),
    "feeds": ("{ feeds(order: %s) { edges { cursor } } }", 'FROM "market_feed"', NAME),
    "alerts": ("{ alerts(order: %s) { edges { cursor } } }", 'FROM "alerts_alert"', TIME),
    "messages": ("{ messages(order: %s) { edges { cursor } } }", 'FROM "notify_message"', TIME),
    "quotes": ("{ assets { edges { node { quotes(order: %s) { edges { cursor } } } } } }", '"edge"', TIME),
    "candles": ("{ assets { edges { node { candles(order: %s) { edges { cursor } } } } } }", '"edge"', TIME),
    "entries": ("{ feeds { edges { node { entries(order: %s) { edges { cursor } } } } } }", '"edge"', TIME),
}


@pytest.mark.parametrize(("name", "order"), [(name, order) for name, (*_, orders) in LISTS.items() for order in orders])
def test_no_page_sorts_what_is_stored(ask, admin_user, name, order):
    make_notified_alerts(admin_user, 2)
    append_quotes(make_feed("A", "B", name="other"), [("A", at(0), "1"), ("B", at(0), "1")])
    query, part, _ = LISTS[name]
    with CaptureQueriesContext(connection) as asked:
        assert "errors" not in ask(query % order, user=admin_user).json()
    [statement] = {one["sql"] for one in asked if one["sql"].startswith("SELECT") and part in one["sql"]}
    with connection.cursor() as cursor:
        # Of a few rows a sort is cheaper: an index is used wherever there is one.
        cursor.execute("SET LOCAL enable_sort = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off")
        cursor.execute(f"EXPLAIN {statement}")
        plan = "\n".join(line for (line,) in cursor.fetchall())
    # An incremental sort sorts rows of one time or one name among themselves.
    assert re.findall(r"^\W*Sort  \(", plan, re.MULTILINE) == [], plan
