"""A stream of alerts gives their steps in order, and goes on from a cursor, on PostgreSQL and on SQLite."""

import pytest
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import acknowledge
from apps.api.graphql.context import Context
from apps.api.live.kinds import KINDS
from tests.builders import make_notified_alerts
from tests.rig import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
ALERTS = KINDS["alertChanged"]


def test_who_goes_on_from_a_cursor_gets_the_steps_behind_it(ada):
    before = ALERTS.end()
    alerts = make_notified_alerts(ada, 2)
    acknowledge(alerts=Alert.objects.filter(pk=alerts[0].pk), by=ada, note="", now=timezone.now())
    places = sorted(AlertEvent.objects.values_list("transaction", "pk"))
    assert len(places) == 3
    # A transaction of another database of the server may be under way: on PostgreSQL the end is not behind it.
    assert wait_until(lambda: ALERTS.end() >= places[-1])
    context, end = Context(user=ada), ALERTS.end()
    assert before < places[0]

    def followed(after):
        rows, reached = ALERTS.between(after, end, wanted=(), now=timezone.now(), limit=2)
        found = list(ALERTS.updates(rows, after=after, reached=reached, wanted=(), context=context))
        return found + (followed(reached) if reached != end else [])

    updates = followed(before)
    assert [one.place for one in updates] == places
    for number, update in enumerate(updates, start=1):
        place = ALERTS.place(update.cursor, end=end, context=context)
        assert [one.place for one in followed(place)] == places[number:]
        missed = ALERTS.missed(place, end, wanted=(), context=context, before=timezone.now())
        assert missed == (number < len(places), len(places) - number)
