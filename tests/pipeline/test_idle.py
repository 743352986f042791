"""A tick and a sweep with nothing to do read the same rows, however many rules, feeds, channels, assets, and alerts,
open or over, there are."""

import json

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apps.alerts.models import Alert
from apps.pipeline import flow
from tests.builders import make_feed, make_owner
from tests.idle_rows import make_idle

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

KINDS = ["feeds", "assets", "rules", "channels", "alerts"]


def rows_read(plan):
    """Return how many rows the nodes of a plan have read, those that a filter dropped among them.

    A bitmap of an index counts entries of rows that were rolled back until a vacuum takes them away; the scan of the
    table above it counts the rows."""
    if plan["Node Type"] in ("Bitmap Index Scan", "BitmapOr", "BitmapAnd"):
        return 0
    own = plan["Actual Rows"] + sum(plan.get(f"Rows Removed by {by}", 0) for by in ("Filter", "Index Recheck"))
    return own * plan["Actual Loops"] + sum(map(rows_read, plan.get("Plans", ())))


def read_by(work):
    """Return statement -> how many rows it reads where it may use each index."""
    with CaptureQueriesContext(connection) as caught:
        work()
    found = {}
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for query in caught.captured_queries:
            statement = query["sql"]
            if statement.startswith(("SELECT", "UPDATE")):
                cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement}")
                (answer,) = cursor.fetchone()
                plan = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
                found[statement.split(" WHERE ")[0].split(" SET ")[0]] = rows_read(plan)
        cursor.execute("SET LOCAL enable_seqscan = on")
    return found


def make_rows(owner, *, name, count):
    """Make so many idle rows of each kind, every other alert over."""
    known = set(Alert.objects.values_list("pk", flat=True))
    make_idle(owner=owner, name=name, **dict.fromkeys(KINDS, count))
    made = Alert.objects.exclude(pk__in=known).order_by("pk").values_list("pk", flat=True)
    Alert.objects.filter(pk__in=list(made)[::2]).update(resolved_at=timezone.now())
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def leave_dead_rows():
    """Leave the index entries of feeds that were due and are rolled back, as tests that ran before do."""
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        for number in range(5):
            make_feed(name=f"due-{number}")
        raise ZeroDivisionError


@pytest.mark.parametrize("work", [flow.start_due, flow.sweep])
def test_what_is_read_does_not_grow_with_what_there_is(work):
    owner = make_owner()
    make_rows(owner, name="few", count=400)
    few = read_by(work)
    leave_dead_rows()
    make_rows(owner, name="many", count=1_600)

    assert read_by(work) == few
    assert len(few) > 2
