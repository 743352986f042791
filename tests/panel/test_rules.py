"""The owners' pages: rules, their states and steps."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.market.models import FeedEntry
from apps.notify.models import Channel
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, RuleState
from tests.builders import (
    above,
    append_quotes,
    at,
    make_feed,
    make_notified_alerts,
    make_operator,
    make_owner,
    make_rule,
)

LIST, STEPS = "admin:rules_rule_changelist", "admin:rules_transition_changelist"


@pytest.mark.django_db
def test_the_list_describes_what_each_rule_watches(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    answer = admin_client.get(reverse(LIST))
    assert "NOTIFIED-0 is above 10" in answer.text
    assert "1 firing" in answer.text
    assert "manage.py load FILE" in answer.text


@pytest.mark.django_db
def test_the_list_shows_the_newest_version(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    make_rule(admin_user, rule=rule, assets=["BTC-USD"], condition=above(20), enabled=False)
    answer = admin_client.get(reverse(LIST))
    assert "BTC-USD is above 20 (disabled)" in answer.text


@pytest.mark.django_db
def test_an_empty_list_says_where_rules_come_from(admin_client):
    assert "No rules yet. Add one here, or load a file" in admin_client.get(reverse(LIST)).text


@pytest.mark.django_db
def test_a_rule_shows_its_states_its_steps_and_its_versions(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    answer = admin_client.get(reverse("admin:rules_rule_change", args=[alert.rule_id]))
    assert answer.status_code == 200
    states, steps, after, versions = answer.context["tables"]
    assert [[row[0], row[2], row[3]] for row in states.rows] == [["NOTIFIED-0", at(1), "the condition became true"]]
    assert "firing" in states.rows[0][1]
    assert [[row[0], row[1], row[4]] for row in steps.rows] == [[at(1), "NOTIFIED-0", "the condition became true"]]
    assert [row[0] for row in after.rows] == ["5 minutes later", "1 hour later", "1 day later", "1 week later"]
    assert [row[:2] for row in versions.rows] == [["v1", "NOTIFIED-0 is above 10"]]


@pytest.mark.django_db
def test_a_rule_that_was_never_evaluated_says_so(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    answer = admin_client.get(reverse("admin:rules_rule_change", args=[rule.pk]))
    assert "Not evaluated yet, or on no asset." in answer.text


@pytest.mark.django_db
def test_a_rule_is_not_deleted_as_a_row(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    delete = reverse("admin:rules_rule_delete", args=[alert.rule_id])
    assert admin_client.post(delete, {"post": "yes"}).status_code == 403
    admin_client.post(reverse(LIST), {"action": "delete_selected", "_selected_action": [alert.rule_id], "post": "yes"})
    assert Rule.objects.get().deleted_at is None


def stop(client, rule_id, **more):
    return client.post(
        reverse(LIST), {"action": "stop_and_delete", "_selected_action": [rule_id], "sure": "yes"} | more, follow=True
    )


@pytest.mark.django_db
def test_before_a_rule_is_stopped_it_is_asked_what_follows(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    asked = stop(admin_client, alert.rule_id, sure="")
    assert "Stop and delete this rule?" in asked.text
    assert "their open alerts close" in asked.text
    assert Rule.objects.get().deleted_at is None


@pytest.mark.django_db
def test_stopping_a_rule_ends_it_at_its_place_in_the_log(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    assert "1 rule is stopped and deleted. Their alerts stay." in stop(admin_client, alert.rule_id).text
    assert Rule.objects.get().deleted_at is not None
    assert FeedEntry.objects.latest("pk").kind == FeedEntry.Kind.RULES
    evaluate_pending(feed_id=alert.asset.feed_id)
    alert.refresh_from_db()
    assert alert.resolved_at is not None
    assert not RuleState.objects.exists()


@pytest.mark.django_db
def test_deleted_rules_show_only_where_they_are_asked_for(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    stop(admin_client, alert.rule_id)
    assert list(admin_client.get(reverse(LIST)).context["cl"].result_list) == []
    assert list(admin_client.get(reverse(LIST), {"deleted": "yes"}).context["cl"].result_list) == [alert.rule]


@pytest.mark.django_db
def test_a_deleted_rule_is_shown_and_not_edited(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    stop(admin_client, alert.rule_id)
    shown = admin_client.get(reverse("admin:rules_rule_change", args=[alert.rule_id]))
    assert "NOTIFIED-0 is above 10" in shown.text
    assert [name for name, _ in shown.context["buttons"]] == ["copy"]
    assert 'name="level"' not in shown.text
    posted = admin_client.post(reverse("admin:rules_rule_change", args=[alert.rule_id]), {"name": "other"})
    assert posted.status_code == 403


def switch(client, word, *rules):
    action = {"action": f"switch_{word}", "_selected_action": [rule.pk for rule in rules]}
    return client.post(reverse(LIST), action, follow=True)


@pytest.mark.django_db
def test_a_rule_is_switched_off_and_on_at_its_place_in_the_log(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    assert "1 rule is disabled. Its open alerts close." in switch(admin_client, "off", alert.rule).text
    evaluate_pending(feed_id=alert.asset.feed_id)
    alert.refresh_from_db()
    assert alert.resolution == "rule_changed"
    assert "1 rule is enabled." in switch(admin_client, "on", alert.rule).text
    assert "Nothing is changed." in switch(admin_client, "on", alert.rule).text
    assert [version.document["enabled"] for version in alert.rule.versions.all()] == [True, False, True]
    assert list(Channel.objects.filter(rule_channels__rule=alert.rule).values_list("name", flat=True)) == [
        "Inbox of notified"
    ]


@pytest.mark.django_db
def test_a_rule_that_cannot_be_read_is_not_switched(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    rule.versions.update(document={"assets": ["BTC-USD"]})
    assert "rule: not disabled. condition: " in switch(admin_client, "off", rule).text
    assert rule.versions.count() == 1


@pytest.mark.django_db
def test_switching_needs_the_permission_to_change(client):
    reader = make_operator("grace", "rules.view_rule")
    (alert,) = make_notified_alerts(reader, 1)
    client.force_login(reader)
    switch(client, "off", alert.rule)
    assert alert.rule.versions.count() == 1


@pytest.mark.django_db
def test_the_list_is_filtered_by_how_rules_stand(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    average = {"kind": "below_average", "percent": "0", "window": "1h"}
    unknown = make_rule(admin_user, name="unknown", assets=["NOTIFIED-0"], condition=average)
    waits = make_rule(admin_user, name="waits", assets=["NOTIFIED-0"], condition=above(10), pending="1h")
    off = make_rule(admin_user, name="off", assets=["NOTIFIED-0"], condition=above(10), enabled=False)
    append_quotes(alert.asset.feed, [("NOTIFIED-0", at(2), "11")])
    evaluate_pending(feed_id=alert.asset.feed_id)

    def found(**query):
        return list(admin_client.get(reverse(LIST), query).context["cl"].result_list)

    assert found(status_of_instance="firing") == [alert.rule]
    assert found(status_of_instance="pending") == [waits]
    assert found(status_of_instance="unknown") == [unknown]
    assert found(status_of_instance="error") == []
    assert found(enabled="off") == [off]
    assert found(enabled="on") == [alert.rule, unknown, waits]
    assert found(q="waits") == [waits]
    assert found(q="NOTIFIED-0") == [alert.rule, unknown, waits]
    assert found(status_of_instance="nonsense", enabled="nonsense") == [off, alert.rule, unknown, waits]


@pytest.mark.django_db
def test_the_list_says_when_a_rule_opened_last(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    (row,) = admin_client.get(reverse(LIST)).context["cl"].result_list
    assert row.opened_last == at(1)


@pytest.mark.django_db
def test_steps_are_shown_to_the_owner_of_their_rule_alone(client):
    ada, grace = (make_operator(name, "rules.view_rule") for name in ("ada", "grace"))
    # Two, since a filter that has one choice alone is not shown.
    alert, _ = make_notified_alerts(ada, 2)
    client.force_login(ada)
    assert "rule of NOTIFIED-1" in client.get(reverse(STEPS)).text
    listed = client.get(reverse(STEPS), {"rule__id__exact": alert.rule_id})
    (step,) = listed.context["cl"].result_list
    assert (step.rule, step.at) == (alert.rule, at(1))
    assert "the condition became true" in listed.text
    page = reverse("admin:rules_transition_change", args=[step.pk])
    assert "NOTIFIED-0" in client.get(page).text
    client.force_login(grace)
    assert list(client.get(reverse(STEPS)).context["cl"].result_list) == []
    assert client.get(page).status_code == 302
    assert "NOTIFIED-0" not in client.get(reverse(STEPS)).text


@pytest.mark.django_db
def test_steps_cost_the_same_statements_for_2_rows_and_for_8(admin_client, admin_user, django_assert_num_queries):
    make_notified_alerts(admin_user, 2, name="few")
    admin_client.get(reverse(STEPS))
    with CaptureQueriesContext(connection) as few:
        admin_client.get(reverse(STEPS))
    make_notified_alerts(admin_user, 6, name="more")
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(reverse(STEPS))
    assert len(answer.context["cl"].result_list) == 8


@pytest.mark.django_db
def test_steps_need_the_permission_to_see_rules(client):
    client.force_login(make_operator("grace"))
    assert client.get(reverse(STEPS)).status_code == 403


@pytest.mark.django_db
def test_stopping_needs_the_permission_to_delete(client):
    reader = make_operator("grace", "rules.view_rule")
    make_notified_alerts(reader, 1)
    client.force_login(reader)
    stop(client, Rule.objects.get().pk)
    assert Rule.objects.get().deleted_at is None


@pytest.mark.django_db
def test_nobody_sees_or_stops_the_rules_of_others(client):
    (alert,) = make_notified_alerts(make_owner("ada"), 1)
    client.force_login(make_operator("grace", "rules.view_rule", "rules.delete_rule"))
    listed = client.get(reverse(LIST))
    opened = client.get(reverse("admin:rules_rule_change", args=[alert.rule_id]))
    stop(client, alert.rule_id)
    assert "NOTIFIED-0" not in listed.text
    assert opened.status_code == 302
    assert Rule.objects.get().deleted_at is None


@pytest.mark.django_db
def test_a_version_that_cannot_be_read_is_shown_and_breaks_nothing(admin_client, admin_user):
    feed = make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    rule.versions.update(document={"assets": ["BTC-USD"]})
    append_quotes(feed, [("BTC-USD", at(0), "9")])
    assert "cannot be read" in admin_client.get(reverse(LIST)).text


@pytest.mark.django_db
def test_a_stranger_is_sent_to_the_sign_in(client):
    assert client.get(reverse(LIST))["Location"].startswith(reverse("admin:login"))


@pytest.mark.django_db
def test_staff_without_the_permission_are_refused(client):
    client.force_login(make_operator("grace"))
    assert client.get(reverse(LIST)).status_code == 403
