"""Steps of alerts are read in the order of their places, on SQLite too. tests/api/live reads them on PostgreSQL."""

import pytest
from django.db import connection
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import acknowledge
from apps.api.graphql.context import Context
from apps.api.live.kinds import KINDS
from tests.builders import make_notified_alerts

pytestmark = pytest.mark.django_db
ALERTS = KINDS["alertChanged"]


@pytest.mark.skipif(connection.vendor == "postgresql", reason="there the transaction of the test is under way")
def test_on_sqlite_who_goes_on_from_a_cursor_gets_the_steps_behind_it(ada):
    before = ALERTS.end()
    alerts = make_notified_alerts(ada, 2)
    acknowledge(alerts=Alert.objects.filter(pk=alerts[0].pk), by=ada, note="", now=timezone.now())
    context, end = Context(user=ada), ALERTS.end()
    ids = list(AlertEvent.objects.order_by("pk").values_list("pk", flat=True))
    assert (before, end, len(ids)) == ((0, 0), (0, ids[-1]), 3)

    def followed(after):
        rows, reached = ALERTS.between(after, end, wanted=(), now=timezone.now(), limit=2)
        found = list(ALERTS.updates(rows, after=after, reached=reached, wanted=(), context=context))
        return found + (followed(reached) if reached != end else [])

    updates = followed(before)
    assert [one.place for one in updates] == [(0, id) for id in ids]
    for number, update in enumerate(updates, start=1):
        place = ALERTS.place(update.cursor, end=end, context=context)
        assert [one.place for one in followed(place)] == [(0, id) for id in ids[number:]]
        missed = ALERTS.missed(place, end, wanted=(), context=context, before=timezone.now())
        assert missed == (number < len(ids), len(ids) - number)
