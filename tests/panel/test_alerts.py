"""The owners' pages: alerts."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import localize

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Quote
from apps.notify.models import Silence
from apps.pipeline.flow import evaluate_pending, notify_due
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

LIST = "admin:alerts_alert_changelist"


@pytest.mark.django_db
def test_the_list_shows_the_summaries_of_alerts(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    answer = admin_client.get(reverse(LIST))
    assert "NOTIFIED-0 is above 10: 11 at 12:00:01 UTC" in answer.text
    assert "still open" in answer.text
    assert "2026-03-02 12:00:01" in answer.text


@pytest.mark.django_db
def test_an_empty_list_says_what_opens_an_alert(admin_client):
    assert "No alerts yet." in admin_client.get(reverse(LIST)).text


@pytest.mark.django_db
def test_a_search_without_a_match_offers_the_way_back(admin_client, admin_user):
    make_notified_alerts(admin_user, 1)
    answer = admin_client.get(reverse(LIST), {"q": "nothing like it"})
    assert "Nothing matches." in answer.text


@pytest.mark.django_db
def test_alerts_are_filtered_and_searched(admin_client, admin_user):
    ended, still_open = make_notified_alerts(admin_user, 2)
    feed = ended.asset.feed
    append_quotes(feed, [(ended.asset.symbol, at(2), "9")])
    evaluate_pending(feed_id=feed.pk)
    Alert.objects.filter(pk=ended.pk).update(created_at=timezone.now() - timedelta(days=8))

    def listed(**parameters):
        return list(admin_client.get(reverse(LIST), parameters).context["cl"].result_list)

    assert [listed(state="open"), listed(state="resolved")] == [[still_open], [ended]]
    assert [listed(kind__exact="condition"), listed(kind__exact="system")] == [[still_open, ended], []]
    assert listed(severity__exact="critical") == []
    assert [listed(rule__id__exact=ended.rule_id), listed(asset__id__exact=ended.asset_id)] == [[ended], [ended]]
    assert [listed(found="today"), listed(found="week")] == [[still_open], [still_open]]
    assert [listed(q="notified-0"), listed(q="rule of NOTIFIED-1")] == [[ended], [still_open]]


@pytest.mark.django_db
def test_each_state_has_its_filter_and_its_label(admin_client, admin_user):
    still_open, known, resolved, expired = make_notified_alerts(admin_user, 4)
    Alert.objects.filter(pk__in=[known.pk, resolved.pk]).update(acknowledged_at=at(2))
    Alert.objects.filter(pk=resolved.pk).update(resolved_at=at(3), resolution="resolved")
    Alert.objects.filter(pk=expired.pk).update(resolved_at=at(3), resolution="expired")
    for state, alert in zip(Alert.State, [still_open, known, resolved, expired], strict=True):
        answer = admin_client.get(reverse(LIST), {"state": state})
        assert list(answer.context["cl"].result_list) == [alert]
        assert alert.__class__.objects.get(pk=alert.pk).state == state


def _acknowledge(client, *alerts, **data):
    asked = {"action": "acknowledge", "_selected_action": [one.pk for one in alerts], "index": "0", **data}
    return client.post(reverse(LIST), asked, follow=True)


def _notes():
    """Return (symbol, who acknowledged it, note) of each alert."""
    return list(Alert.objects.order_by("pk").values_list("asset__symbol", "acknowledged_by__username", "note"))


@pytest.mark.django_db
def test_alerts_are_acknowledged_together_with_a_note_once_it_is_confirmed(admin_client, admin_user):
    first, second = make_notified_alerts(admin_user, 2)
    asked = _acknowledge(admin_client, first, second)
    assert "Nobody is reminded of them any more. It lasts until each is over;" in asked.text
    assert ("Acknowledge these 2 alerts?" in asked.text, 'name="note"' in asked.text) == (True, True)
    assert _notes() == [("NOTIFIED-0", None, ""), ("NOTIFIED-1", None, "")]
    done = _acknowledge(admin_client, first, second, sure="yes", note="I look into it")
    assert "2 alerts are acknowledged." in done.text
    assert _notes() == [("NOTIFIED-0", "admin", "I look into it"), ("NOTIFIED-1", "admin", "I look into it")]
    again = _acknowledge(admin_client, first, second, sure="yes", note="me too")
    assert "None of these waits to be acknowledged" in again.text
    assert _notes()[0] == ("NOTIFIED-0", "admin", "I look into it")


@pytest.mark.django_db
def test_a_note_that_is_too_long_is_refused_beside_its_field_and_nothing_is_done(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    asked = _acknowledge(admin_client, alert, sure="yes", note="x" * 501)
    assert "at most 500 characters" in asked.text
    assert _notes() == [("NOTIFIED-0", None, "")]


@pytest.mark.django_db
def test_an_alert_is_acknowledged_on_its_page_which_says_by_whom_when_and_why(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    page = reverse("admin:alerts_alert_change", args=[alert.pk])
    assert 'value="acknowledge"' in admin_client.get(page).text
    done = _acknowledge(admin_client, alert, sure="yes", note="<b>mine</b>", back="page")
    assert done.request["PATH_INFO"] == page
    alert.refresh_from_db()
    assert f"by admin at {localize(alert.acknowledged_at)}" in done.text
    assert ("&lt;b&gt;mine" in done.text, "<b>mine" in done.text) == (True, False)
    assert _tables(done)["What happened"][1][1:4] == ["acknowledged", "admin", "<b>mine</b>"]
    assert 'value="acknowledge"' not in done.text


@pytest.mark.django_db
def test_nobody_acknowledges_the_alerts_of_others_nor_by_looking_only(client):
    ada, eve = make_operator("ada", "alerts.view_alert"), make_operator("eve", "alerts.view_alert")
    make_notified_alerts(ada, 1)
    (own,) = make_notified_alerts(eve, 1, name="eve")
    client.force_login(eve)
    assert 'value="acknowledge"' not in client.get(reverse("admin:alerts_alert_change", args=[own.pk])).text
    _acknowledge(client, *Alert.objects.all(), sure="yes")
    assert _notes() == [("NOTIFIED-0", None, ""), ("EVE-0", None, "")]
    eve.user_permissions.add(Permission.objects.get(codename="change_alert"))
    _acknowledge(client, *Alert.objects.all(), sure="yes", note="ours", select_across="1")
    assert _notes() == [("NOTIFIED-0", None, ""), ("EVE-0", "eve", "ours")]


def _make_system_alerts(count):
    evidence = {
        "labels": {"alertname": "FeedBehind", "job": "web-1"},
        "annotations": {"summary": "<b>late</b>"},
        "generator_url": "javascript:alert(1)",
    }
    columns = {"kind": "system", "severity": "warning", "opened_at": at(0), "summary": "Feeds are late"}
    alerts = [Alert(**columns, evidence=evidence, fingerprint=f"{number}") for number in range(count)]
    return Alert.objects.bulk_create(alerts)


@pytest.mark.django_db
def test_10_000_alerts_are_acknowledged_together(admin_client, django_assert_max_num_queries):
    _make_system_alerts(10_000)
    with connection.cursor() as cursor:
        # Else PostgreSQL may look for each row in all rows, by what it knows of a table that had few.
        cursor.execute("ANALYZE alerts_alert" if connection.vendor == "postgresql" else "ANALYZE")
    # SQLite takes fewer rows in one statement.
    with django_assert_max_num_queries(130):
        done = _acknowledge(admin_client, Alert.objects.first(), select_across="1", sure="yes", note="maintenance")
    assert "10000 alerts are acknowledged." in done.text
    noted = Alert.objects.filter(note="maintenance").values_list("pk", flat=True)
    acknowledged = AlertEvent.objects.filter(kind="acknowledged").values_list("alert_id", flat=True)
    assert len(noted) == 10_000
    assert sorted(noted) == sorted(acknowledged)


@pytest.mark.django_db
def test_an_alert_about_the_installation_is_text_for_who_may_see_such(client):
    (alert,) = _make_system_alerts(1)
    grace = make_operator("grace", "alerts.view_alert")
    client.force_login(grace)
    page = reverse("admin:alerts_alert_change", args=[alert.pk])
    assert list(client.get(reverse(LIST)).context["cl"].result_list) == []
    assert client.get(page).status_code == 302
    grace.user_permissions.add(Permission.objects.get(codename="view_system_alerts"))
    assert list(client.get(reverse(LIST), {"kind__exact": "system"}).context["cl"].result_list) == [alert]
    for text, found in (("feedbehind", [alert]), ("web-1", [alert]), ("nothing like it", [])):
        assert list(client.get(reverse(LIST), {"q": text}).context["cl"].result_list) == found
    answer = client.get(page)
    tables = _tables(answer)
    assert tables["Labels"] == [("alertname", "FeedBehind"), ("job", "web-1")]
    assert tables["Annotations"] == [("summary", "<b>late</b>")]
    assert tables["What else was said"] == [("generator_url", "javascript:alert(1)")]
    assert ("javascript:alert(1)" in answer.text, 'href="javascript' in answer.text) == (True, False)
    assert ("&lt;b&gt;late" in answer.text, "<b>late" in answer.text) == (True, False)
    assert answer.context["charts"] == []


def _tables(answer):
    return {table.title: table.rows for table in answer.context["tables"]}


@pytest.mark.django_db
def test_an_alert_shows_its_evidence_its_events_and_who_was_notified(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    answer = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert answer.status_code == 200
    tables = _tables(answer)
    assert ["✓ NOTIFIED-0 is above 10", "the price is 11"] in tables["What the rule saw when it opened"]
    assert [row[:2] for row in tables["What happened"]] == [[at(1), "opened"]]
    ((event, channel, deferred, message, status),) = tables["Who is notified"]
    assert (event, deferred, status[:12], status[-9:]) == ("opened", "", "delivered at", "1 attempt")
    assert ("Inbox of notified (inbox)" in channel, reverse("admin:notify_message_changelist") in message) == (
        True,
        True,
    )
    ((message, number, _, _, outcome, *_),) = tables["Attempts"]
    assert ("Inbox of notified (inbox)" in message, number, outcome) == (True, 1, "delivered")
    ((rule, version, asset, entry, trace),) = tables["Where it comes from"]
    assert (version, trace) == ("v1", alert.entry.trace_id)
    for page, row in (("rules_rule", alert.rule), ("market_asset", alert.asset), ("market_feedentry", alert.entry)):
        assert reverse(f"admin:{page}_change", args=[row.pk]) in rule + asset + entry
    assert "still open" in answer.text


@pytest.mark.django_db
def test_an_alert_is_drawn_with_its_level_its_opening_and_its_end(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    append_quotes(
        alert.asset.feed, [("NOTIFIED-0", at(20), "12"), ("NOTIFIED-0", at(30), "9"), ("NOTIFIED-0", at(4_000), "8")]
    )
    page = reverse("admin:alerts_alert_change", args=[alert.pk])
    (lasting,) = admin_client.get(page).context["charts"]
    evaluate_pending(feed_id=alert.asset.feed_id)
    (over,) = admin_client.get(page).context["charts"]
    assert (lasting.levels, lasting.marks) == ([("level", Decimal(10))], [("opened", at(1))])
    assert over.marks == [("opened", at(1)), ("resolved", at(30))]
    assert [(one.at, one.low) for one in over.path] == [(at(0), 9), (at(1), 11), (at(20), 12), (at(30), 9)]


@pytest.mark.django_db
def test_an_alert_whose_quotes_are_no_longer_kept_says_so(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    Quote.objects.all().delete()
    answer = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert "No prices are kept from that time." in answer.text


@pytest.mark.django_db
def test_what_a_rule_is_called_cannot_write_into_the_page(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    Alert.objects.update(summary="<script>alert(1)</script>", evidence={"<script>": "</pre><script>"})
    alert.rule.name = "<script>name"
    alert.rule.save()
    for page in (reverse(LIST), reverse("admin:alerts_alert_change", args=[alert.pk]), reverse("front")):
        text = admin_client.get(page).text
        assert "<script>alert(1)" not in text
        assert "<script>name" not in text
        assert "</pre><script>" not in text


@pytest.mark.django_db
def test_nobody_edits_an_alert(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    assert admin_client.get(reverse("admin:alerts_alert_add")).status_code == 403
    assert admin_client.post(reverse("admin:alerts_alert_change", args=[alert.pk]), {"summary": "x"}).status_code == 403
    assert admin_client.post(reverse("admin:alerts_alert_delete", args=[alert.pk])).status_code == 403
    assert Alert.objects.get().summary == alert.summary


@pytest.mark.django_db
def test_nobody_sees_the_alerts_of_others_nor_the_names_of_their_rules(client):
    ours, theirs = make_operator("grace", "alerts.view_alert"), make_owner("ada")
    (mine,) = make_notified_alerts(ours, 1, name="mine")
    (other,) = make_notified_alerts(theirs, 1, name="other")
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
def test_a_trace_id_leads_operators_to_the_trace_and_its_lines_and_is_a_text_to_owners(client, admin_client, settings):
    settings.TRACES_URL = "http://127.0.0.1:16686/trace/"
    settings.LOGS_URL = "http://127.0.0.1:3000/d/fintech-logs?var-trace="
    ada = make_operator("ada", "alerts.view_alert")
    (alert,) = make_notified_alerts(ada, 1)
    page = reverse("admin:alerts_alert_change", args=[alert.pk])
    link = f'href="http://127.0.0.1:16686/trace/{alert.entry.trace_id}"'
    client.force_login(ada)

    lines = f'href="http://127.0.0.1:3000/d/fintech-logs?var-trace={alert.entry.trace_id}">log lines</a>'
    to_owner = client.get(page).text

    for shown in (page, reverse("admin:market_feedentry_change", args=[alert.entry.pk])):
        text = admin_client.get(shown).text
        assert (link in text, lines in text) == (True, True)
    assert (link in to_owner, lines in to_owner, alert.entry.trace_id in to_owner) == (False, False, True)


@pytest.mark.django_db
def test_an_owner_sees_an_alert_without_links_to_what_is_not_theirs_to_see(client):
    grace = make_operator("grace", "alerts.view_alert")
    (alert,) = make_notified_alerts(grace, 1)
    client.force_login(grace)
    answer = client.get(reverse("admin:alerts_alert_change", args=[alert.pk]))
    assert alert.entry.trace_id in answer.text
    assert "/admin/market/" not in answer.text
    assert "/admin/rules/rule/" not in answer.text


@pytest.mark.django_db
def test_an_assets_page_shows_the_readers_own_rules_and_alerts_and_no_others(client, admin_client):
    grace, ada = make_operator("grace", "market.view_asset"), make_owner("ada")
    (mine,) = make_notified_alerts(grace, 1, name="mine")
    make_rule(ada, name="of ada", assets=["MINE-0"], condition=above(5))
    evaluate_pending(feed_id=mine.asset.feed_id)
    append_quotes(mine.asset.feed, [("MINE-0", at(2), "12")])
    evaluate_pending(feed_id=mine.asset.feed_id)
    page = reverse("admin:market_asset_change", args=[mine.asset_id])
    client.force_login(grace)
    own, all_of_them = client.get(page), admin_client.get(page)
    assert [row[:3] for row in _tables(own)["Your rules that watch it"]] == [["rule of MINE-0", "grace", "firing"]]
    assert [row[2] for row in _tables(own)["Last alerts (at most 20)"]] == [mine.summary]
    assert "of ada" not in own.text
    watching = _tables(all_of_them)["Rules that watch it"]
    assert [(row[1], row[4]) for row in watching] == [
        ("ada", "the condition became true"),
        ("grace", "the condition became true"),
    ]
    assert len(_tables(all_of_them)["Last alerts (at most 20)"]) == 2


@pytest.mark.django_db
def test_an_asset_that_nobody_watches_says_so(admin_client):
    feed = make_feed("QUIET-USD")
    answer = admin_client.get(reverse("admin:market_asset_change", args=[feed.assets.get().pk]))
    assert "No rule watches it." in answer.text
    assert "No alerts on it yet." in answer.text


@pytest.mark.django_db
def test_an_alert_about_health_says_what_stopped_and_what_mends_it(client):
    feed = make_feed("BTC-USD", name="market")
    evidence = {
        "labels": {"alertname": "Health", "instance": "feed market", "code": "paused", "level": "stopped"},
        "annotations": {"problem": "The feed is paused.", "remedy": "Resume it on its page."},
    }
    columns = {"kind": "health", "subject": "feed", "severity": "warning", "opened_at": at(0), "evidence": evidence}
    eve = make_owner("eve")
    ada = make_operator("ada")
    ada.groups.add(Group.objects.get(name="Owner"))
    of_ada = Alert.objects.create(**columns, owner=ada, subject_id=feed.pk, summary="Feed market: paused.")
    Alert.objects.create(**columns, owner=eve, subject_id=feed.pk, summary="Eve's")
    client.force_login(ada)
    listed = client.get(reverse(LIST)).text
    assert "Feed market: paused." in listed
    assert "Eve&#x27;s" not in listed
    page = client.get(reverse("admin:alerts_alert_change", args=[of_ada.pk])).text
    assert "The feed is paused." in page
    assert "Resume it on its page." in page
    assert "feed market" in page


@pytest.mark.django_db
def test_a_superuser_sees_whose_an_alert_is(admin_client):
    columns = {"kind": "health", "subject": "feed", "subject_id": 7, "severity": "warning", "opened_at": at(0)}
    Alert.objects.create(**columns, owner=make_owner("eve"), summary="x")
    Alert.objects.create(**columns, summary="y")
    listed = admin_client.get(reverse(LIST)).text
    assert "the operators&#x27;" in listed
    assert ">eve<" in listed


@pytest.mark.django_db
def test_an_alert_is_silenced_in_one_click_and_its_page_says_until_when(admin_client, admin_user):
    alert, other = make_notified_alerts(admin_user, 2)
    page = reverse("admin:alerts_alert_change", args=[alert.pk])
    before = timezone.now()
    asked = {"action": "silence_4h", "_selected_action": [alert.pk], "index": "0", "back": "page"}
    answer = admin_client.post(reverse(LIST), asked, follow=True)
    assert answer.request["PATH_INFO"] == page
    assert f"Silenced for 4 h: {alert.rule_name} on {alert.symbol}." in answer.text
    silence = Silence.objects.get()
    assert (silence.owner, silence.author, silence.rule, silence.asset) == (
        admin_user,
        admin_user,
        alert.rule,
        alert.asset,
    )
    assert silence.ends_at - silence.starts_at == timedelta(hours=4)
    assert before <= silence.starts_at <= timezone.now()
    assert "by the silence “for 4 h, from an alert”" in answer.text
    assert "by the silence" not in admin_client.get(reverse("admin:alerts_alert_change", args=[other.pk])).text


@pytest.mark.django_db
def test_alerts_of_one_rule_on_one_asset_are_silenced_once(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    append_quotes(alert.asset.feed, [(alert.symbol, at(2), "9"), (alert.symbol, at(3), "11")])
    evaluate_pending(feed_id=alert.asset.feed_id)
    both = list(Alert.objects.values_list("pk", flat=True))
    admin_client.post(reverse(LIST), {"action": "silence_1h", "_selected_action": both, "index": "0"})
    assert (len(both), Silence.objects.count()) == (2, 1)


@pytest.mark.django_db
@pytest.mark.parametrize("action", ["silence_1h", "silence_until_over"])
def test_nobody_silences_the_alerts_of_others_in_one_click(client, action):
    (alert,) = make_notified_alerts(make_owner("ada"), 1)
    client.force_login(make_operator("grace", "alerts.view_alert", "notify.add_silence"))
    client.post(reverse(LIST), {"action": action, "_selected_action": [alert.pk], "index": "0"})
    assert not Silence.objects.exists()


def press(client, action, *alerts):
    """Press a button of an alert's page, or choose an action in the list, and return the page that follows."""
    asked = {"action": action, "_selected_action": [one.pk for one in alerts], "index": "0"}
    return client.post(reverse(LIST), asked | ({"back": "page"} if len(alerts) == 1 else {}), follow=True)


def buttons(client, alert):
    """Return the actions that an alert's page offers."""
    text = client.get(reverse("admin:alerts_alert_change", args=[alert.pk])).text
    return {name for name in ("silence_1h", "silence_until_over", "end_silence") if f'value="{name}"' in text}


@pytest.mark.django_db
def test_an_alert_is_silenced_until_it_is_over_and_its_page_ends_that(admin_client, admin_user):
    alert, other = make_notified_alerts(admin_user, 2)
    assert buttons(admin_client, alert) == {"silence_1h", "silence_until_over"}

    answer = press(admin_client, "silence_until_over", alert)

    silence = Silence.objects.get()
    assert (silence.owner, silence.author, silence.alert) == (admin_user, admin_user, alert)
    assert (silence.rule, silence.asset, silence.severity, silence.ends_at) == (None, None, "", None)
    assert "Silenced until it is over:" in answer.text
    assert "until the alert is over, by the silence “until it is over, from an alert”" in answer.text
    assert buttons(admin_client, alert) == {"end_silence"}
    assert buttons(admin_client, other) == {"silence_1h", "silence_until_over"}

    answer = press(admin_client, "end_silence", alert)

    silence.refresh_from_db()
    assert "Silenced no more." in answer.text
    assert silence.ends_at <= timezone.now()
    assert buttons(admin_client, alert) == {"silence_1h", "silence_until_over"}


@pytest.mark.django_db
def test_a_silence_of_the_rule_on_the_asset_is_ended_from_the_alert_and_no_wider_one(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    now = timezone.now()
    wide = Silence.objects.create(owner=admin_user, starts_at=now, ends_at=now + timedelta(days=1), comment="all")
    press(admin_client, "silence_1h", alert)

    press(admin_client, "end_silence", alert)

    assert {one.comment for one in Silence.objects.filter(ends_at__gt=timezone.now())} == {"all"}
    assert "See Silences." in press(admin_client, "end_silence", alert).text
    wide.refresh_from_db()
    assert wide.ends_at == now + timedelta(days=1)


@pytest.mark.django_db
def test_of_chosen_alerts_those_that_are_open_and_not_silenced_are(admin_client, admin_user):
    first, second, over = make_notified_alerts(admin_user, 3)
    Alert.objects.filter(pk=over.pk).update(resolved_at=over.opened_at)
    press(admin_client, "silence_until_over", first)

    press(admin_client, "silence_until_over", first, second, over)

    assert list(Silence.objects.order_by("pk").values_list("alert", flat=True)) == [first.pk, second.pk]
    assert "not silenced yet" in press(admin_client, "silence_until_over", first, over).text


@pytest.mark.django_db
def test_a_silenced_alert_that_is_over_says_so_and_offers_nothing(admin_client, admin_user):
    (alert,) = make_notified_alerts(admin_user, 1)
    press(admin_client, "silence_until_over", alert)
    append_quotes(alert.asset.feed, [(alert.symbol, at(2), "9")])
    evaluate_pending(feed_id=alert.asset.feed_id)
    notify_due()

    text = admin_client.get(reverse("admin:alerts_alert_change", args=[alert.pk])).text

    assert "until it was over, by the silence" in text
    assert "silenced, not sent" in text
    assert buttons(admin_client, alert) == set()
