"""The owners' pages: alerts."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.alerts.models import Alert
from apps.pipeline.flow import judge_pending
from tests.builders import append_quotes, at, make_operator, make_owner, make_told_alerts

LIST = "admin:alerts_alert_changelist"


@pytest.mark.django_db
def test_the_list_shows_alerts_in_words(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    answer = admin_client.get(reverse(LIST))
    assert "TOLD-0 is above 10: 11 at 12:00:01" in answer.text
    assert "still open" in answer.text
    assert "2026-03-02 12:00:01" in answer.text


@pytest.mark.django_db
def test_the_list_costs_the_same_statements_for_3_rows_and_for_30(admin_client, admin_user, django_assert_num_queries):
    make_told_alerts(admin_user, 3, name="few")
    admin_client.get(reverse(LIST))
    with CaptureQueriesContext(connection) as few:
        admin_client.get(reverse(LIST))
    make_told_alerts(admin_user, 27, name="more")
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(reverse(LIST))
    assert len(answer.context["cl"].result_list) == 30


@pytest.mark.django_db
def test_an_empty_list_says_what_opens_an_alert(admin_client):
    assert "No alerts yet." in admin_client.get(reverse(LIST)).text


@pytest.mark.django_db
def test_a_search_without_a_match_offers_the_way_back(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    answer = admin_client.get(reverse(LIST), {"q": "nothing like it"})
    assert "Nothing matches." in answer.text


@pytest.mark.django_db
def test_alerts_are_filtered_by_open_severity_and_rule(admin_client, admin_user):
    ended, still_open = make_told_alerts(admin_user, 2)
    feed = ended.asset.feed
    append_quotes(feed, [(ended.asset.symbol, at(2), "9")])
    judge_pending(feed_id=feed.pk)

    def listed(**parameters):
        return list(admin_client.get(reverse(LIST), parameters).context["cl"].result_list)

    assert listed(state="open") == [still_open]
    assert listed(state="resolved") == [ended]
    assert listed(severity__exact="critical") == []
    assert listed(rule__id__exact=str(ended.rule_id)) == [ended]


@pytest.mark.django_db
def test_an_alert_shows_its_evidence_its_events_and_who_was_told(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    answer = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert answer.status_code == 200
    events, told, tries = answer.context["tables"]
    assert [row[:2] for row in events.rows] == [[at(1), "opened"]]
    assert [(row[0], row[1], row[3], row[4]) for row in told.rows] == [
        ("opened", "Inbox of told (inbox)", "delivered", 1)
    ]
    assert [(row[1], row[4]) for row in tries.rows] == [(1, "delivered")]
    assert "&quot;price&quot;: &quot;11&quot;" in answer.text
    assert alert.batch.trace_id in answer.text


@pytest.mark.django_db
def test_what_a_rule_is_called_cannot_write_into_the_page(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    Alert.objects.update(words="<script>alert(1)</script>", evidence={"<script>": "</pre><script>"})
    alert.rule.name = "<script>name"
    alert.rule.save()
    for page in (reverse(LIST), reverse("admin:alerts_alert_change", args=[alert.pk]), reverse("front")):
        text = admin_client.get(page).text
        assert "<script>alert(1)" not in text
        assert "<script>name" not in text
        assert "</pre><script>" not in text


@pytest.mark.django_db
def test_nobody_edits_an_alert(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    assert admin_client.get(reverse("admin:alerts_alert_add")).status_code == 403
    assert admin_client.post(reverse("admin:alerts_alert_change", args=[alert.pk]), {"words": "x"}).status_code == 403
    assert admin_client.post(reverse("admin:alerts_alert_delete", args=[alert.pk])).status_code == 403
    assert Alert.objects.get().words == alert.words


@pytest.mark.django_db
def test_nobody_sees_the_alerts_of_others_nor_the_names_of_their_rules(client):
    ours, theirs = make_operator("grace", "alerts.view_alert"), make_owner("ada")
    (mine,) = make_told_alerts(ours, 1, name="mine")
    (other,) = make_told_alerts(theirs, 1, name="other")
    client.force_login(ours)
    answer = client.get(reverse(LIST))
    assert list(answer.context["cl"].result_list) == [mine]
    assert "OTHER-0" not in answer.text
    by_rule = client.get(reverse(LIST), {"rule__id__exact": other.rule_id})
    assert other not in by_rule.context["cl"].result_list
    assert client.get(reverse("admin:alerts_alert_change", args=[mine.pk])).status_code == 200
    assert client.get(reverse("admin:alerts_alert_change", args=[other.pk])).status_code == 302


@pytest.mark.django_db
def test_a_stranger_is_sent_to_the_sign_in(client):
    assert client.get(reverse(LIST))["Location"].startswith(reverse("admin:login"))


@pytest.mark.django_db
def test_staff_without_the_permission_are_refused(client):
    client.force_login(make_operator("grace"))
    assert client.get(reverse(LIST)).status_code == 403
