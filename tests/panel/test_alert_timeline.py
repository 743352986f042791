"""What the page of an alert says of the silences over it, in its timeline and beside its fields."""

from datetime import timedelta

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Silence
from apps.notify.queries import silences_about
from apps.notify.services import end_silences
from apps.pipeline.flow import evaluate_pending
from tests.builders import append_quotes, at, make_member, make_notified_alerts, make_owner
from tests.panel.test_alerts import press

pytestmark = pytest.mark.django_db


@pytest.fixture
def alert(admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    return Alert.objects.get(pk=alert.pk)


def page_of(client, alert):
    return client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))


def happened(client, alert):
    """Return (event, by, why) of each row of the timeline, without links."""
    table = next(one for one in page_of(client, alert).context["tables"] if one.title == "What happened")
    return [(row[1], row[2], str(row[3])) for row in table.rows]


def silence(owner, *, hours_from=0, hours_to=1, **columns):
    now = timezone.now()
    given = {"starts_at": now + timedelta(hours=hours_from), "ends_at": now + timedelta(hours=hours_to)}
    return Silence.objects.create(**{"owner": owner, "author": owner, "comment": "works"} | given | columns)


def resolve(alert):
    append_quotes(alert.asset.feed, [(alert.symbol, at(2), "9")])
    evaluate_pending(feed_id=alert.asset.feed_id)


def test_making_and_ending_a_silence_leave_a_trace_that_leads_to_it(admin_client, admin_user, alert):
    press(admin_client, "silence_1h", alert)
    made = Silence.objects.get()
    link = f'href="{reverse("admin:notify_silence_change", args=[made.pk])}"'
    assert [row[:2] for row in happened(admin_client, alert)] == [("opened", ""), ("silenced", "admin")]
    assert link in happened(admin_client, alert)[1][2]
    assert "until " in happened(admin_client, alert)[1][2]
    # The field beside leads there too.
    assert page_of(admin_client, alert).text.count(link) == 2

    press(admin_client, "end_silence", alert)

    rows = happened(admin_client, alert)
    assert [row[:2] for row in rows] == [("opened", ""), ("silenced", "admin"), ("silence over", "")]
    assert " until " not in rows[1][2]
    assert link in rows[2][2]


def test_a_silence_of_the_alert_alone_ends_with_it_and_is_no_row_of_its_own_then(admin_client, alert):
    press(admin_client, "silence_until_over", alert)
    assert "until the alert is over" in happened(admin_client, alert)[1][2]
    resolve(alert)
    assert [row[0] for row in happened(admin_client, alert)] == ["opened", "silenced", "resolved"]


def test_of_those_that_cover_it_each_is_there_and_no_other(admin_client, admin_user, alert):
    eve = make_owner("eve")
    covering = [
        silence(admin_user, hours_from=-2, comment="of any rule"),
        silence(None, comment="everybody's"),
        silence(admin_user, severity=alert.severity, comment="of the severity"),
        silence(admin_user, rule=alert.rule, asset=alert.asset, comment="of both"),
    ]
    other_rule = make_notified_alerts(admin_user, 1, name="other")[0]
    silence(admin_user, rule=other_rule.rule, comment="of another rule")
    silence(admin_user, severity="info", comment="of another severity")
    silence(eve, comment="of another owner")
    silence(admin_user, hours_from=-3, hours_to=-2, comment="over before it opened")
    silence(admin_user, hours_from=1, hours_to=2, comment="to come")
    begun = silence(admin_user, hours_from=1, hours_to=2, comment="ended before it began")
    end_silences(silences=[begun], now=timezone.now())
    silence(admin_user, alert=other_rule, ends_at=None, comment="of another alert")
    found = silences_about(alert, seen_by=admin_user, until=timezone.now() + timedelta(minutes=1))
    assert {one.comment for _, one, _ in found} == {one.comment for one in covering}
    later = silences_about(alert, seen_by=admin_user, until=timezone.now() + timedelta(hours=3))
    assert {one.comment for _, one, _ in later} == {"to come", *(one.comment for one in covering)}


def test_one_that_begins_after_its_end_is_not_of_it_and_one_that_ends_later_has_no_end_there(admin_client, alert):
    press(admin_client, "silence_1h", alert)
    resolve(alert)
    silence(alert.owner)
    assert [row[0] for row in happened(admin_client, alert)] == ["opened", "silenced", "resolved"]
    Silence.objects.update(ends_at=timezone.now())
    assert [row[0] for row in happened(admin_client, alert)] == ["opened", "silenced", "resolved"]


def test_who_may_see_no_silences_gets_no_link(client):
    ada = make_member("ada", is_staff=True)
    (alert,) = make_notified_alerts(ada, 1)
    made = silence(ada)
    client.force_login(ada)
    assert reverse("admin:notify_silence_change", args=[made.pk]) in page_of(client, alert).text
    for group in ada.groups.all():
        group.permissions.remove(*group.permissions.filter(codename="view_silence"))
    text = page_of(client, alert).text
    assert reverse("admin:notify_silence_change", args=[made.pk]) not in text
    assert "by the silence “works”" in text


def test_what_somebody_calls_a_silence_cannot_write_into_the_page(admin_client, admin_user, alert):
    silence(admin_user, comment="<b>x</b>")
    assert "<b>x</b>" not in page_of(admin_client, alert).text


def test_a_filter_that_the_list_does_not_have_is_refused_without_a_traceback(admin_client, caplog):
    answer = admin_client.get("/admin/alerts/alert/", {"rule": "x"})
    assert answer.status_code == 400
    assert [(one.levelname, one.exc_info) for one in caplog.records] == [("WARNING", None)]


def test_what_is_secondary_is_folded_and_blank_fields_are_left_out(admin_client, alert):
    answer = page_of(admin_client, alert)
    folded = {one.title for one in answer.context["tables"] if one.is_folded}
    assert folded == {"What happened after", "Where it comes from", "Attempts"}
    assert answer.text.count("<details>") == len(folded)
    assert "Reason resolved" not in answer.text
    resolve(alert)
    assert "Reason resolved" in page_of(admin_client, alert).text
