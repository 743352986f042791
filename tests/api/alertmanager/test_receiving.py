"""Alerts about the installation at /alertmanager: who may send them, what is refused, and what is made of them."""

import json
import re
import threading
from urllib.parse import urlsplit

import pytest
import yaml
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from apps.alerts.alertmanager import read_notification
from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import record_system_alerts
from apps.notify.models import Message, Notification
from apps.notify.queries import channels_to_plan
from apps.notify.services import create_channel
from tests.api.alertmanager.posting import DEEP, FIRING, JSON, PAYLOAD, URL, bearer, counts, payload, refused
from tests.builders import at, make_operator, make_owner, notify_all
from tests.project.test_docs import blocks
from tests.rig import free_port, wait_until
from tests.threads import at_once, elsewhere, is_somebody_waiting

pytestmark = pytest.mark.django_db
RESOLVED = FIRING | {"status": "resolved", "endsAt": "2026-03-02T12:05:00Z"}


def steps():
    return list(AlertEvent.objects.order_by("pk").values_list("kind", "at", "reason", "entry", "by"))


def test_an_alert_that_fires_opens(post):
    response = post(content=PAYLOAD % json.dumps(FIRING))

    assert counts(response) == (1, 0, 0)
    assert re.fullmatch("[0-9a-f]{16}", response.headers["X-Request-ID"])
    assert "no-store" in response.headers["Cache-Control"]
    alert = Alert.objects.get()
    assert (alert.kind, alert.severity, alert.summary) == ("system", "warning", "A feed is behind.")
    assert (alert.rule, alert.version, alert.asset, alert.entry) == (None, None, None, None)
    assert (alert.fingerprint, alert.opened_at, alert.resolved_at) == ("9c06435e70f8a761", at(0.123456), None)
    assert (alert.rule_name, alert.symbol, alert.state) == ("FeedBehind", "127.0.0.1:8000", "open")
    assert alert.evidence == {
        "labels": FIRING["labels"],
        "annotations": FIRING["annotations"],
        "generator_url": "http://prometheus.example.org/graph",
    }
    assert steps() == [("opened", at(0.123456), "reported_by_alertmanager", None, None)]


def test_an_alert_that_is_over_ends_the_one_that_opened(post):
    post(FIRING)

    assert counts(post(RESOLVED)) == (0, 1, 0)
    alert = Alert.objects.get()
    assert (alert.resolved_at, alert.resolution, alert.state) == (at(300), "resolved_by_alertmanager", "resolved")
    assert steps()[1:] == [("resolved", at(300), "resolved_by_alertmanager", None, None)]


def test_an_alert_that_is_over_and_was_never_seen_is_recorded_whole(post):
    assert counts(post(RESOLVED)) == (1, 1, 0)
    assert [step[:2] for step in steps()] == [("opened", at(0.123456)), ("resolved", at(300))]
    assert Alert.objects.get().resolved_at == at(300)


def test_what_is_said_again_writes_nothing(post):
    post(FIRING)
    assert counts(post(FIRING)) == (0, 0, 1)
    post(RESOLVED)
    assert counts(post(RESOLVED)) == (0, 0, 1)
    assert counts(post(RESOLVED, RESOLVED)) == (0, 0, 2)
    assert (Alert.objects.count(), AlertEvent.objects.count()) == (1, 2)


def test_what_it_said_first_stands(post):
    post(FIRING)
    assert counts(post(FIRING | {"annotations": {"summary": "Another."}, "labels": {"severity": "critical"}})) == (
        0,
        0,
        1,
    )
    alert = Alert.objects.get()
    assert (alert.summary, alert.severity) == ("A feed is behind.", "warning")


def test_one_that_is_over_stays_over(post):
    post(RESOLVED)
    assert counts(post(FIRING)) == (0, 0, 1)
    assert Alert.objects.get().resolved_at == at(300)
    assert counts(post(RESOLVED | {"endsAt": "2026-03-02T13:00:00Z"})) == (0, 0, 1)
    assert Alert.objects.get().resolved_at == at(300)


def test_it_ends_no_sooner_than_it_began(post):
    post(RESOLVED | {"endsAt": "2026-03-02T11:00:00Z"})
    assert Alert.objects.get().resolved_at == at(0.123456)


def test_one_that_began_anew_is_another_alert(post):
    post(RESOLVED)
    assert counts(post(FIRING | {"startsAt": "2026-03-02T12:10:00Z"})) == (1, 0, 0)
    assert list(Alert.objects.order_by("pk").values_list("opened_at", "resolved_at")) == [
        (at(0.123456), at(300)),
        (at(600), None),
    ]


def test_one_that_alertmanager_has_forgotten_ends_where_the_next_of_its_labels_begins(post):
    post(FIRING)
    post(FIRING | {"fingerprint": "another"})
    assert counts(post(FIRING | {"startsAt": "2026-03-02T12:10:00Z"})) == (1, 1, 0)
    assert list(Alert.objects.order_by("pk").values_list("fingerprint", "opened_at", "resolved_at")) == [
        ("9c06435e70f8a761", at(0.123456), at(600)),
        ("another", at(0.123456), None),
        ("9c06435e70f8a761", at(600), None),
    ]


def test_one_notification_notifies_of_many(post):
    alerts = [FIRING | {"fingerprint": f"{number:016x}"} for number in range(1_000)]
    assert counts(post(*alerts)) == (1_000, 0, 0)
    over = [RESOLVED | {"fingerprint": f"{number:016x}"} for number in range(500)]
    assert counts(post(*over, *alerts[500:])) == (0, 500, 500)
    assert Alert.objects.filter(resolved_at=None).count() == 500


def test_one_notification_costs_the_same_statements_for_one_alert_and_for_many(post, django_assert_num_queries):
    make_operators_channel()
    post(RESOLVED)
    with django_assert_num_queries(17):
        post(RESOLVED | {"fingerprint": "a"})
    with django_assert_num_queries(17):
        post(*(RESOLVED | {"fingerprint": f"b{number}"} for number in range(40)))


@pytest.mark.parametrize(
    ("given", "severity"),
    [("critical", "critical"), ("CRITICAL", "critical"), ("warning", "warning"), ("page", "info"), ("", "info")],
)
def test_what_is_neither_critical_nor_a_warning_is_information(post, given, severity):
    post(FIRING | {"labels": {"severity": given}})
    assert Alert.objects.get().severity == severity


@pytest.mark.parametrize(
    ("annotations", "text"),
    [
        ({"summary": "short", "description": "long"}, "short"),
        ({"summary": "", "description": "long"}, "long"),
        ({}, "FeedBehind"),
    ],
)
def test_its_summary_is_the_annotation_or_what_comes_next(post, annotations, text):
    post(FIRING | {"annotations": annotations})
    assert Alert.objects.get().summary == text


def test_labels_need_not_name_it(post):
    post({name: value for name, value in FIRING.items() if name != "annotations"} | {"labels": {}})
    alert = Alert.objects.get()
    assert (alert.summary, alert.rule_name, alert.symbol) == ("an alert without a name", "alert", "")


def test_a_long_text_is_cut(post):
    post(FIRING | {"annotations": {"summary": "é" * 5_000}})
    alert = Alert.objects.get()
    assert alert.summary == alert.evidence["annotations"]["summary"] == "é" * 1_999 + "…"


@pytest.mark.parametrize("address", ["javascript:alert(1)", "", "<script>", "data:text/html,x"])
def test_the_address_of_its_origin_is_a_text_and_nothing_more(post, client, admin_user, address):
    post(FIRING | {"generatorURL": address})
    assert Alert.objects.get().evidence["generator_url"] == address
    client.force_login(admin_user)
    page = client.get(f"/admin/alerts/alert/{Alert.objects.get().pk}/change/").text
    assert not re.search(r"""(href|src|action)=["']?(javascript|data):""", page)
    assert "<script>alert" not in page


def make_operators_channel(**columns):
    """Return an inbox of somebody who wants alerts about the installation."""
    channel = create_channel(
        owner=make_operator("olga", "alerts.view_system_alerts"), name="Inbox of olga", kind="inbox", config={}
    )
    type(channel).objects.filter(pk=channel.pk).update(wants_system=True, **columns)
    return channel


def test_it_is_due_to_the_channels_that_want_it(post):
    wanting = make_operators_channel()
    create_channel(owner=make_owner("bob"), name="Inbox of bob", kind="inbox", config={})
    post(FIRING)
    assert list(Notification.objects.values_list("event__kind", "channel")) == [("opened", wanting.pk)]
    post(FIRING)
    assert Notification.objects.count() == 1
    assert not Message.objects.exists()


def test_the_next_tick_plans_it_and_a_notifier_sends_it(post):
    channel = make_operators_channel(group_wait_seconds=0)
    post(FIRING)
    assert channels_to_plan(now=timezone.now()) == [channel.pk]
    notify_all()
    message = Message.objects.get()
    assert (message.status, message.subject) == ("delivered", "[warning] FeedBehind: 127.0.0.1:8000")
    post(RESOLVED)
    notify_all()
    assert [one.subject for one in Message.objects.order_by("created_at")][1:] == [
        "[warning] Resolved: FeedBehind, 127.0.0.1:8000"
    ]


def test_alerts_and_what_is_due_commit_together_or_not_at_all(post, monkeypatch):
    make_operators_channel()
    with monkeypatch.context() as patched, pytest.raises(RuntimeError):
        patched.setattr(Notification.objects.__class__, "bulk_create", raise_here)
        post(FIRING)
    assert not (Alert.objects.exists() or AlertEvent.objects.exists())
    assert counts(post(FIRING)) == (1, 0, 0)
    assert Notification.objects.count() == 1


def raise_here(manager, rows, **options):
    """Stand in for bulk_create of every kind of row: it fails at notifications."""
    if manager.model is Notification:
        raise RuntimeError
    return manager.get_queryset().bulk_create(rows, **options)


@pytest.mark.parametrize("start", ["2026-03-02T12:05:00Z", "2026-03-05T12:00:00Z", "9999-12-31T23:59:59-14:00"])
def test_what_begins_ahead_of_our_clock_begins_at_its_receipt_and_is_one_alert(post, monkeypatch, start):
    alert = FIRING | {"startsAt": start}
    for moment, expected in ((0, (1, 0, 0)), (60, (0, 0, 1)), (86_400, (0, 0, 1)), (1_000_000, (0, 0, 1))):
        monkeypatch.setattr("apps.api.intake.inbound.timezone.now", lambda moment=moment: at(moment))
        assert counts(post(alert)) == expected

    opened = Alert.objects.get()
    assert (opened.opened_at, opened.resolved_at) == (at(0), None)
    assert opened.evidence["note"].startswith("startsAt was ")
    over = alert | {"status": "resolved", "endsAt": "9999-12-31T23:59:59Z"}
    assert counts(post(over)) == (0, 1, 0)
    assert counts(post(over)) == (0, 0, 1)
    assert Alert.objects.get().resolved_at == at(1_000_000)


def many(count, **changes):
    return [FIRING | {"fingerprint": f"{changes}{number}"[-64:]} | changes for number in range(count)]


def test_of_too_many_the_most_severe_are_taken_and_one_alert_says_how_many_were_not(post):
    channel = make_operators_channel(group_wait_seconds=0)
    info = many(600, labels={"severity": "none"})
    worse = many(500, labels={"severity": "warning"}) + many(2, labels={"severity": "critical"})

    answers = [post(*info, *worse).json() for _ in range(2)]

    assert [(one["opened"], one["repeated"], one["left_out"]) for one in answers] == [(1_000, 0, 102), (0, 1_000, 102)]
    by_severity = {name: Alert.objects.filter(severity=name).count() for name in ("critical", "warning", "info")}
    assert by_severity == {"critical": 3, "warning": 500, "info": 498}
    left_out = Alert.objects.get(fingerprint__startswith="left-out:")
    assert (left_out.rule_name, left_out.resolved_at) == ("AlertsLeftOut", None)
    assert left_out.summary.startswith("102 alerts of one notification of Alertmanager are not here")
    assert Notification.objects.filter(event__alert=left_out, channel=channel).count() == 1
    # It lasts until a notification of the same group comes whole.
    post(content=payload(*worse, groupKey="another"))
    assert Alert.objects.get(pk=left_out.pk).resolved_at is None
    assert counts(post(*worse)) == (0, 0, 502)
    assert Alert.objects.get(pk=left_out.pk).resolved_at is not None


def test_what_alertmanager_itself_has_cut_off_is_said_too(post):
    answer = post(content=payload(FIRING, truncatedAlerts=1)).json()

    assert (answer["opened"], answer["left_out"]) == (1, 1)
    left_out = Alert.objects.get(fingerprint__startswith="left-out:")
    assert left_out.summary.startswith("1 alert of one notification of Alertmanager is not here")
    assert left_out.severity == "critical"


def test_fields_that_a_newer_alertmanager_may_add_are_let_pass(post):
    more = {"notificationReason": {"a": json.loads(DEEP)}}
    assert counts(post(content=payload(FIRING | more, **more))) == (1, 0, 0)


def test_the_receiver_that_is_documented_is_right():
    [config] = [yaml.safe_load(block) for block in blocks("docs/operations.md", "yaml") if "webhook_configs" in block]
    [[webhook]] = [receiver["webhook_configs"] for receiver in config["receivers"]]
    assert (urlsplit(webhook["url"]).path, webhook["send_resolved"], webhook["max_alerts"]) == (URL, True, 0)
    assert "authorization" in webhook["http_config"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_who_says_the_same_at_the_same_moment_waits_and_writes_nothing(post):
    """In whatever order it says it: neither has what the other waits for."""
    first, second = FIRING | {"fingerprint": "1"}, FIRING | {"fingerprint": "2"}
    answers = []

    def say_both():
        try:
            answers.append(counts(post(second, first)))
        finally:
            connection.close()

    other = threading.Thread(target=say_both)
    with transaction.atomic():
        assert len(record_system_alerts(read_notification(payload(first).encode(), now=timezone.now()).alerts)) == 1
        other.start()
        wait_until(is_somebody_waiting)
        assert len(record_system_alerts(read_notification(payload(second).encode(), now=timezone.now()).alerts)) == 1
    other.join(timeout=30)

    assert answers == [(0, 0, 2)]
    assert (Alert.objects.count(), AlertEvent.objects.count()) == (2, 2)


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_of_many_at_once_each_alert_opens_and_ends_once(secret):
    one_way = [RESOLVED | {"fingerprint": f"{number:016x}"} for number in range(50)]

    def say(alerts):
        return counts(Client().post(URL, payload(*alerts), content_type=JSON, headers=bearer(secret)))

    answers = at_once(*[lambda: say(one_way), lambda: say(one_way[::-1])] * 2)

    assert [sum(counts) for counts in zip(*answers, strict=True)] == [50, 50, 150]
    assert (Alert.objects.count(), AlertEvent.objects.count()) == (50, 100)


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_while_the_database_is_away_it_says_so_and_stores_nothing(post):
    where = connection.settings_dict
    port = where["PORT"]
    connection.close()
    where["PORT"] = str(free_port())
    try:
        response = post(FIRING)
    finally:
        connection.close()
        where["PORT"] = port

    refused(response, 503, "UNAVAILABLE")
    assert response.headers["Retry-After"] == "5"
    assert counts(post(FIRING)) == (1, 0, 0)


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_while_the_database_is_too_busy_it_is_to_be_said_again(post):
    """Not 429: Alertmanager does not try again what is answered by a 4xx."""

    def say():
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = '50ms'")
        return post(FIRING)

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("LOCK TABLE alerts_alert IN EXCLUSIVE MODE")
        response = elsewhere(say)

    refused(response, 503, "UNAVAILABLE")
    assert counts(post(FIRING)) == (1, 0, 0)
