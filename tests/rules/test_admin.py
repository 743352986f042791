"""The owners' pages: rules, their states and steps."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.market.models import Batch
from apps.pipeline.flow import judge_pending
from apps.rules.models import Rule, RuleState
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule, make_told_alerts

LIST = "admin:rules_rule_changelist"


@pytest.mark.django_db
def test_the_list_says_what_each_rule_watches_in_words(admin_client, admin_user):
    make_told_alerts(admin_user, 1)
    answer = admin_client.get(reverse(LIST))
    assert "TOLD-0 is above 10" in answer.text
    assert "1, 1 firing" in answer.text
    assert "manage.py load FILE" in answer.text


@pytest.mark.django_db
def test_the_list_shows_the_newest_version(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    make_rule(admin_user, rule=rule, assets=["BTC-USD"], condition=above(20), enabled=False)
    answer = admin_client.get(reverse(LIST))
    assert "BTC-USD is above 20 (switched off)" in answer.text


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
def test_an_empty_list_says_where_rules_come_from(admin_client):
    assert "No rules yet. Rules are loaded with" in admin_client.get(reverse(LIST)).text


@pytest.mark.django_db
def test_a_rule_shows_its_states_its_steps_and_its_versions(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    answer = admin_client.get(reverse("admin:rules_rule_change", args=[alert.rule_id]))
    assert answer.status_code == 200
    states, steps, versions = answer.context["tables"]
    assert [row[:3] for row in states.rows] == [["TOLD-0", "firing", at(1)]]
    assert [row[:4] for row in steps.rows] == [[at(1), "TOLD-0", "inactive", "firing"]]
    assert [row[:2] for row in versions.rows] == [["v1", "TOLD-0 is above 10"]]


@pytest.mark.django_db
def test_a_rule_that_was_never_judged_says_so(admin_client, admin_user):
    make_feed("BTC-USD")
    rule = make_rule(admin_user, assets=["BTC-USD"], condition=above(10))
    answer = admin_client.get(reverse("admin:rules_rule_change", args=[rule.pk]))
    assert "Not judged yet, or on no asset." in answer.text


@pytest.mark.django_db
def test_a_rule_is_neither_added_nor_edited_nor_deleted_as_a_row(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    change = reverse("admin:rules_rule_change", args=[alert.rule_id])
    assert admin_client.get(reverse("admin:rules_rule_add")).status_code == 403
    assert admin_client.post(change, {"name": "other"}).status_code == 403
    assert (
        admin_client.post(reverse("admin:rules_rule_delete", args=[alert.rule_id]), {"post": "yes"}).status_code == 403
    )
    admin_client.post(reverse(LIST), {"action": "delete_selected", "_selected_action": [alert.rule_id], "post": "yes"})
    assert Rule.objects.get().name == "rule of TOLD-0"


@pytest.mark.django_db
def test_stopping_a_rule_ends_it_at_its_place_in_the_log(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    answer = admin_client.post(
        reverse(LIST), {"action": "stop_and_delete", "_selected_action": [alert.rule_id]}, follow=True
    )
    assert "1 rule is stopped and deleted. Their alerts stay." in answer.text
    assert Rule.objects.get().deleted_at is not None
    assert Batch.objects.latest("pk").kind == Batch.Kind.RULES
    judge_pending(feed_id=alert.asset.feed_id)
    alert.refresh_from_db()
    assert alert.resolved_at is not None
    assert not RuleState.objects.exists()


@pytest.mark.django_db
def test_deleted_rules_show_only_where_they_are_asked_for(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    admin_client.post(reverse(LIST), {"action": "stop_and_delete", "_selected_action": [alert.rule_id]})
    assert list(admin_client.get(reverse(LIST)).context["cl"].result_list) == []
    assert list(admin_client.get(reverse(LIST), {"deleted": "yes"}).context["cl"].result_list) == [alert.rule]
    assert admin_client.get(reverse("admin:rules_rule_change", args=[alert.rule_id])).status_code == 200


@pytest.mark.django_db
def test_stopping_needs_the_permission_to_delete(client):
    reader = make_operator("grace", "rules.view_rule")
    make_told_alerts(reader, 1)
    client.force_login(reader)
    client.post(reverse(LIST), {"action": "stop_and_delete", "_selected_action": [Rule.objects.get().pk]})
    assert Rule.objects.get().deleted_at is None


@pytest.mark.django_db
def test_nobody_sees_or_stops_the_rules_of_others(client):
    (alert,) = make_told_alerts(make_owner("ada"), 1)
    client.force_login(make_operator("grace", "rules.view_rule", "rules.delete_rule"))
    listed = client.get(reverse(LIST))
    opened = client.get(reverse("admin:rules_rule_change", args=[alert.rule_id]))
    client.post(reverse(LIST), {"action": "stop_and_delete", "_selected_action": [alert.rule_id]})
    assert "TOLD-0" not in listed.text
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
