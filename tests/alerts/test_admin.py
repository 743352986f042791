"""The owners' pages: alerts."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.market.models import Quote
from apps.pipeline.flow import judge_pending
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule, make_told_alerts

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
def test_alerts_are_filtered_and_searched(admin_client, admin_user):
    ended, still_open = make_told_alerts(admin_user, 2)
    feed = ended.asset.feed
    append_quotes(feed, [(ended.asset.symbol, at(2), "9")])
    judge_pending(feed_id=feed.pk)
    Alert.objects.filter(pk=ended.pk).update(created_at=timezone.now() - timedelta(days=8))

    def listed(**parameters):
        return list(admin_client.get(reverse(LIST), parameters).context["cl"].result_list)

    assert [listed(state="open"), listed(state="resolved")] == [[still_open], [ended]]
    assert listed(severity__exact="critical") == []
    assert [listed(rule__id__exact=ended.rule_id), listed(asset__id__exact=ended.asset_id)] == [[ended], [ended]]
    assert [listed(found="today"), listed(found="week")] == [[still_open], [still_open]]
    assert [listed(q="told-0"), listed(q="rule of TOLD-1")] == [[ended], [still_open]]


def _tables(answer):
    return {table.title: table.rows for table in answer.context["tables"]}


@pytest.mark.django_db
def test_an_alert_shows_its_evidence_its_events_and_who_was_told(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    answer = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert answer.status_code == 200
    tables = _tables(answer)
    assert ("", "price", "11") in tables["What the rule saw when it opened"]
    assert [row[:2] for row in tables["What happened"]] == [[at(1), "opened"]]
    ((event, channel, message, status),) = tables["Who is told"]
    assert (event, status[:12], status[-9:]) == ("opened", "delivered at", "1 attempt")
    assert ("Inbox of told (inbox)" in channel, reverse("admin:notify_message_changelist") in message) == (True, True)
    assert [(row[1], row[4]) for row in tables["Attempts"]] == [(1, "delivered")]
    ((rule, version, asset, entry, trace),) = tables["Where it comes from"]
    assert (version, trace) == ("v1", alert.batch.trace_id)
    for page, row in (("rules_rule", alert.rule), ("market_asset", alert.asset), ("market_batch", alert.batch)):
        assert reverse(f"admin:{page}_change", args=[row.pk]) in rule + asset + entry
    assert "still open" in answer.text


@pytest.mark.django_db
def test_an_alert_is_drawn_with_its_level_its_opening_and_its_end(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    append_quotes(alert.asset.feed, [("TOLD-0", at(20), "12"), ("TOLD-0", at(30), "9"), ("TOLD-0", at(4_000), "8")])
    page = reverse("admin:alerts_alert_change", args=[alert.pk])
    (lasting,) = admin_client.get(page).context["charts"]
    judge_pending(feed_id=alert.asset.feed_id)
    (over,) = admin_client.get(page).context["charts"]
    assert (lasting.levels, lasting.marks) == ([("level", Decimal(10))], [("opened", at(1))])
    assert over.marks == [("opened", at(1)), ("resolved", at(30))]
    assert [(one.at, one.low) for one in over.path] == [(at(0), 9), (at(1), 11), (at(20), 12), (at(30), 9)]


@pytest.mark.django_db
def test_an_alert_whose_quotes_are_no_longer_kept_says_so(admin_client, admin_user):
    (alert,) = make_told_alerts(admin_user, 1)
    Quote.objects.all().delete()
    answer = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert "No prices are kept from that time." in answer.text


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
    assert "rule of OTHER-0" not in answer.text
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


@pytest.mark.django_db
def test_an_owner_sees_an_alert_without_links_to_what_is_not_theirs_to_see(client):
    grace = make_operator("grace", "alerts.view_alert")
    (alert,) = make_told_alerts(grace, 1)
    client.force_login(grace)
    answer = client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert alert.batch.trace_id in answer.text
    assert "/admin/market/" not in answer.text
    assert "/admin/rules/rule/" not in answer.text


@pytest.mark.django_db
def test_an_assets_page_shows_the_readers_own_rules_and_alerts_and_no_others(client, admin_client):
    grace, ada = make_operator("grace", "market.view_asset"), make_owner("ada")
    (mine,) = make_told_alerts(grace, 1, name="mine")
    make_rule(ada, name="of ada", assets=["MINE-0"], condition=above(5))
    judge_pending(feed_id=mine.asset.feed_id)
    append_quotes(mine.asset.feed, [("MINE-0", at(2), "12")])
    judge_pending(feed_id=mine.asset.feed_id)
    page = reverse("admin:market_asset_change", args=[mine.asset_id])
    client.force_login(grace)
    own, all_of_them = client.get(page), admin_client.get(page)
    assert [row[:3] for row in _tables(own)["Your rules that watch it"]] == [["rule of MINE-0", "grace", "firing"]]
    assert [row[2] for row in _tables(own)["Last alerts (at most 20)"]] == [mine.words]
    assert "of ada" not in own.text
    assert [row[1] for row in _tables(all_of_them)["Rules that watch it"]] == ["ada", "grace"]
    assert len(_tables(all_of_them)["Last alerts (at most 20)"]) == 2


@pytest.mark.django_db
def test_an_asset_that_nobody_watches_says_so(admin_client):
    feed = make_feed("QUIET-USD")
    answer = admin_client.get(reverse("admin:market_asset_change", args=[feed.assets.get().pk]))
    assert "No rule watches it." in answer.text
    assert "No alerts on it yet." in answer.text
