"""Rules, alerts and messages as their owner reads them."""

import pytest

from apps.alerts.alertmanager import SystemAlert
from apps.alerts.models import Alert
from apps.alerts.services import acknowledge, record_system_alerts
from apps.notify.models import Message, Notification
from apps.notify.services import create_channel, create_silence, set_channels, switch_off
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import RuleVersion
from tests.builders import (
    above,
    append_quotes,
    at,
    make_feed,
    make_notified_alerts,
    make_owner,
    make_rule,
    notify_all,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client):
    """Return an owner who is signed in, with one alert that has a message."""
    ada = make_owner()
    make_notified_alerts(ada, 1)
    client.force_login(ada)
    return ada


def first(ask, field, selection):
    """Return the only row of a list."""
    answer = ask(f"{{ {field} {{ edges {{ node {{ {selection} }} }} }} }}").json()["data"]
    [edge] = answer[field.partition("(")[0]]["edges"]
    return edge["node"]


def test_an_alert_explains_itself(ask, ada):
    alert = Alert.objects.get()
    answer = first(
        ask,
        "alerts",
        "id kind severity state version isOpen openedAt resolvedAt resolution summary evidence rule { name owner }"
        " asset { symbol } entry { feed seq asOf traceId } timeline { kind at reason by entry { seq } }"
        " acknowledgedAt acknowledgedBy note",
    )
    assert answer.pop("evidence") == alert.evidence
    assert alert.evidence["price"] == "11"
    assert answer.pop("timeline") == [
        {
            "kind": "OPENED",
            "at": "2026-03-02T12:00:01Z",
            "reason": alert.events.get().reason,
            "by": None,
            "entry": {"seq": alert.entry.seq},
        }
    ]
    assert answer == {
        "id": str(alert.public_id),
        "kind": "CONDITION",
        "severity": "WARNING",
        "state": "OPEN",
        "version": 1,
        "isOpen": True,
        "openedAt": "2026-03-02T12:00:01Z",
        "resolvedAt": None,
        "resolution": "",
        "acknowledgedAt": None,
        "acknowledgedBy": None,
        "note": "",
        "summary": alert.summary,
        "rule": {"name": "rule of NOTIFIED-0", "owner": "ada"},
        "asset": {"symbol": "NOTIFIED-0"},
        "entry": {"feed": "notified", "seq": alert.entry.seq, "asOf": "2026-03-02T12:00:01Z", "traceId": "0" * 32},
    }


def test_an_alert_that_is_over_says_so(ask, ada):
    alert = Alert.objects.get()
    append_quotes(alert.asset.feed, [("NOTIFIED-0", at(60), "6")])
    evaluate_pending(feed_id=alert.asset.feed_id)
    answer = first(ask, "alerts", "state isOpen resolvedAt resolution timeline { kind }")
    assert (answer["state"], answer["isOpen"]) == ("RESOLVED", False)
    assert answer["resolvedAt"] == "2026-03-02T12:01:00Z"
    assert answer["resolution"] != ""
    assert answer["timeline"] == [{"kind": "OPENED"}, {"kind": "RESOLVED"}]


def test_open_alerts_and_those_that_are_over_can_be_asked_for(ask, ada):
    make_notified_alerts(ada, 1, name="more")
    alert = Alert.objects.get(asset__symbol="NOTIFIED-0")
    append_quotes(alert.asset.feed, [("NOTIFIED-0", at(60), "6")])
    evaluate_pending(feed_id=alert.asset.feed_id)
    assert first(ask, "alerts(isOpen: true)", "asset { symbol }") == {"asset": {"symbol": "MORE-0"}}
    assert first(ask, "alerts(isOpen: false)", "asset { symbol }") == {"asset": {"symbol": "NOTIFIED-0"}}
    assert len(ask("{ alerts(isOpen: null) { edges { cursor } } }").json()["data"]["alerts"]["edges"]) == 2


def test_an_alert_that_somebody_acknowledged_says_who_and_when(ask, ada):
    bob = make_owner("bob")
    acknowledge(alerts=Alert.objects.all(), by=bob, note="On it.", now=at(30))
    answer = first(
        ask,
        "alerts",
        "state isOpen acknowledgedAt acknowledgedBy note timeline { kind at reason reasonText by entry { seq } }",
    )
    assert answer.pop("timeline")[1:] == [
        {
            "kind": "ACKNOWLEDGED",
            "at": "2026-03-02T12:00:30Z",
            "reason": "",
            "reasonText": "On it.",
            "by": "bob",
            "entry": None,
        }
    ]
    assert answer == {
        "state": "ACKNOWLEDGED",
        "isOpen": True,
        "acknowledgedAt": "2026-03-02T12:00:30Z",
        "acknowledgedBy": "bob",
        "note": "On it.",
    }


def test_alerts_can_be_asked_for_by_where_they_stand(ask, ada):
    open_one, acknowledged, over, expired = [Alert.objects.get(), *make_notified_alerts(ada, 3, name="more")]
    acknowledge(alerts=Alert.objects.filter(pk=acknowledged.pk), by=ada, note="", now=at(30))
    Alert.objects.filter(pk=over.pk).update(resolved_at=at(30), resolution="recovered")
    # Acknowledged before.
    Alert.objects.filter(pk=expired.pk).update(resolved_at=at(30), resolution="expired", acknowledged_at=at(20))
    states = {"OPEN": open_one, "ACKNOWLEDGED": acknowledged, "RESOLVED": over, "EXPIRED": expired}
    for state, alert in states.items():
        assert first(ask, f"alerts(state: {state})", "id state") == {"id": str(alert.public_id), "state": state}
    assert len(ask("{ alerts(state: null) { edges { cursor } } }").json()["data"]["alerts"]["edges"]) == 4
    assert ask("{ alerts(state: OPEN, isOpen: false) { edges { cursor } } }").json()["data"]["alerts"]["edges"] == []


def test_an_alert_about_health_names_its_subject(ask, ada):
    Alert.objects.all().delete()
    about = {"kind": "health", "owner": ada, "severity": "warning", "opened_at": at(90), "summary": "x"}
    feed, channel = make_feed("A", name="coins"), create_channel(owner=ada, name="desk", kind="inbox", config={})
    for subject, row, named in (
        ("feed", feed, "feed:coins"),
        ("asset", feed.assets.get(), "asset:A"),
        ("channel", channel, f"channel:{channel.public_id}"),
        ("rule", None, None),
        ("system", None, None),
    ):
        Alert.objects.create(**about, subject=subject, subject_id=row.pk if row is not None else 0)
        answer = first(ask, "alerts", "kind subject subjectId rule { name } entry { seq }")
        asked = {"kind": "HEALTH", "subject": subject.upper(), "subjectId": named}
        assert answer == asked | {"rule": None, "entry": None}
        Alert.objects.all().delete()
    make_notified_alerts(ada, 1, name="second")
    assert first(ask, "alerts", "kind subject subjectId") == {"kind": "CONDITION", "subject": None, "subjectId": None}


def test_an_alert_about_the_installation_has_no_rule_and_no_asset(ask, admin_user, client):
    found = SystemAlert(
        fingerprint="f",
        opened_at=at(0),
        resolved_at=at(60),
        severity="critical",
        summary="A feed is behind.",
        evidence={"labels": {}, "annotations": {}, "generator_url": "javascript:alert(1)"},
    )
    record_system_alerts([found])
    client.force_login(admin_user)
    answer = first(
        ask,
        "alerts",
        "kind severity state version summary evidence rule { name } asset { symbol } entry { seq }"
        " resolution resolutionText"
        " timeline { kind at reason reasonText by entry { seq } } messages { edges { cursor } }",
    )
    assert answer == {
        "kind": "SYSTEM",
        "severity": "CRITICAL",
        "state": "RESOLVED",
        "version": None,
        "summary": "A feed is behind.",
        "evidence": found.evidence,
        "rule": None,
        "asset": None,
        "entry": None,
        "resolution": "resolved_by_alertmanager",
        "resolutionText": "resolved by Alertmanager",
        "timeline": [
            {
                "kind": kind,
                "at": moment,
                "reason": f"{word}_by_alertmanager",
                "reasonText": f"{word} by Alertmanager",
                "by": None,
                "entry": None,
            }
            for kind, moment, word in (
                ("OPENED", "2026-03-02T12:00:00Z", "reported"),
                ("RESOLVED", "2026-03-02T12:01:00Z", "resolved"),
            )
        ],
        "messages": {"edges": []},
    }


def test_an_alert_has_its_messages_and_a_message_its_alerts(ask, ada):
    alert = first(ask, "alerts", "id messages { edges { node { subject status channel { name kind isEnabled } } } }")
    [message] = [one["node"] for one in alert["messages"]["edges"]]
    assert message["status"] == "DELIVERED"
    assert message["channel"] == {"name": "Inbox of notified", "kind": "inbox", "isEnabled": True}
    answer = first(ask, "messages", "subject attempts alerts { id }")
    assert answer == {"subject": message["subject"], "attempts": 1, "alerts": [{"id": alert["id"]}]}


@pytest.fixture
def storm(ask, ada):
    """Return the ids of three alerts, each open and over in one message, and one of them in a second message too."""
    symbols = ["S0", "S1", "S2"]
    feed = make_feed(*symbols, name="storm")
    rule = make_rule(ada, name="storm", assets=symbols, condition=above(10))
    set_channels(rule=rule, channels=[ada.channels.get()])
    for second, price in enumerate(["9", "11", "9"]):
        append_quotes(feed, [(symbol, at(second), price) for symbol in symbols])
    evaluate_pending(feed_id=feed.pk)
    notify_all()
    alerts = list(Alert.objects.filter(rule=rule).order_by("pk"))
    again = Message.objects.create(channel=ada.channels.get(), subject="again", next_attempt_at=at(0))
    for event in alerts[0].events.all():
        Notification.objects.create(event=event, channel=again.channel, repeat=1, due_at=at(0), message=again)
    return [str(alert.public_id) for alert in alerts]


def test_a_message_about_several_alerts_has_each_once(ask, storm):
    edges = ask("{ messages(first: 2) { edges { node { alerts { id } } } } }").json()["data"]["messages"]["edges"]
    assert [[one["id"] for one in edge["node"]["alerts"]] for edge in edges] == [storm[:1], storm]


@pytest.mark.parametrize("size", [1, 10])
def test_each_alert_has_the_message_about_several_once(ask, storm, size):
    """Its opening and its end are two of the message's members."""
    pages = [messages_of(ask, alert_id, size=size) for alert_id in storm]
    both = pages[1][0]
    assert pages == [["again", both], [both], [both]]


def messages_of(ask, alert_id, *, size):
    """Return the subjects of the messages about an alert, asked for by pages of this size."""
    subjects, after = [], "null"
    while after is not None:
        selection = "edges { node { subject } } pageInfo { hasNextPage endCursor }"
        query = f'{{ alert(id: "{alert_id}") {{ messages(first: {size}, after: {after}) {{ {selection} }} }} }}'
        page = ask(query).json()["data"]["alert"]["messages"]
        subjects += [edge["node"]["subject"] for edge in page["edges"]]
        after = f'"{page["pageInfo"]["endCursor"]}"' if page["pageInfo"]["hasNextPage"] else None
    return subjects


def test_a_test_is_about_no_alert(ask, ada):
    Message.objects.create(channel=ada.channels.get(), kind="test", subject="[test]", next_attempt_at=at(0))
    edges = ask("{ messages(first: 1) { edges { node { subject alerts { id } } } } }").json()["data"]["messages"][
        "edges"
    ]
    assert edges == [{"node": {"subject": "[test]", "alerts": []}}]


def test_a_channel_that_does_not_work_says_so_without_its_address(ask, ada):
    channel = "channel { isEnabled isFailing switchedOffBecause }"
    working = {"isEnabled": True, "isFailing": False, "switchedOffBecause": ""}
    assert first(ask, "messages", channel)["channel"] == working
    because = "550 <ada@example.org>: no such user; see https://mail.example.org/ada"
    switch_off(channel=ada.channels.get(), because=because, now=at(0))
    ada.channels.filter(switched_off_because=because).update(failing_since=at(0))
    edges = ask(f"{{ messages {{ edges {{ node {{ {channel} }} }} }} }}").json()["data"]["messages"]["edges"]
    assert edges[-1]["node"]["channel"] == {
        "isEnabled": False,
        "isFailing": True,
        "switchedOffBecause": "550 … no such user; see …",
    }


def test_silences_say_what_they_hold_back(ask, ada, admin_user):
    rule = ada.rules.get()
    wide = {"author": admin_user, "starts_at": at(0), "ends_at": at(60), "comment": "Maintenance."}
    narrow = {"owner": ada, "rule": rule, "asset": Alert.objects.get().asset, "severity": "critical"}
    create_silence(**wide)
    create_silence(**narrow, author=ada, starts_at=at(1), ends_at=at(61), comment="Known.")
    selection = "owner author rule { name } asset { symbol } severity startsAt endsAt comment"
    edges = ask(f"{{ silences {{ edges {{ node {{ {selection} }} }} }} }}").json()["data"]["silences"]["edges"]
    assert [edge["node"] for edge in edges] == [
        {
            "owner": "ada",
            "author": "ada",
            "rule": {"name": "rule of NOTIFIED-0"},
            "asset": {"symbol": "NOTIFIED-0"},
            "severity": "CRITICAL",
            "startsAt": "2026-03-02T12:00:01Z",
            "endsAt": "2026-03-02T12:01:01Z",
            "comment": "Known.",
        },
        {
            "owner": None,
            "author": "admin",
            "rule": None,
            "asset": None,
            "severity": None,
            "startsAt": "2026-03-02T12:00:00Z",
            "endsAt": "2026-03-02T12:01:00Z",
            "comment": "Maintenance.",
        },
    ]


def test_the_inbox_holds_what_was_delivered_there(ask, ada):
    assert first(ask, "messages(inboxOnly: true)", "status") == {"status": "DELIVERED"}
    ada.channels.update(kind="email")
    assert ask("{ messages(inboxOnly: true) { edges { cursor } } }").json()["data"]["messages"]["edges"] == []
    assert first(ask, "messages", "status") == {"status": "DELIVERED"}


def test_no_address_of_a_channel_is_shown(ask, ada):
    ada.channels.update(kind="email", config={"to": "ada@example.org"})
    answer = ask("{ messages { edges { node { text channel { name kind } } } } }").text
    assert "ada@example.org" not in answer


def test_a_rule_says_what_it_means_and_where_it_stands(ask, ada):
    answer = first(
        ask,
        "rules",
        "name severity owner description document version deletedAt"
        " states { edges { node {"
        " asset { symbol } state since unknown unknownText reason reasonText detail version } } }",
    )
    [state] = [one["node"] for one in answer.pop("states")["edges"]]
    assert answer.pop("document") == RuleVersion.objects.get().document
    assert answer == {
        "name": "rule of NOTIFIED-0",
        "severity": "WARNING",
        "owner": "ada",
        "description": "NOTIFIED-0 is above 10",
        "version": 1,
        "deletedAt": None,
    }
    assert (state.pop("reason"), state.pop("reasonText")) == ("became_true", "the condition became true")
    assert (state.pop("unknownText"), state.pop("detail")) == ("", "")
    assert state == {
        "asset": {"symbol": "NOTIFIED-0"},
        "state": "FIRING",
        "since": "2026-03-02T12:00:01Z",
        "unknown": "",
        "version": 1,
    }


def test_a_rule_is_returned_as_its_newest_version_says(ask, ada):
    rule = ada.rules.get()
    make_rule(ada, name=rule.name, rule=rule, assets=["NOTIFIED-0"], condition=above(20), enabled=False)
    answer = first(ask, "rules", "description version")
    assert answer == {"description": "NOTIFIED-0 is above 20 (disabled)", "version": 2}


def test_a_rule_that_cannot_be_read_says_so(ask, ada):
    RuleVersion.objects.update(document={"nonsense": True})
    assert first(ask, "rules", "description")["description"].startswith("cannot be read: ")


def test_the_viewer_is_the_user_who_asks(ask, ada, admin_user):
    assert ask("{ me { username isSuperuser } }").json()["data"]["me"] == {"username": "ada", "isSuperuser": False}
    hers = ask("{ me { username isSuperuser } }", user=admin_user).json()["data"]["me"]
    assert hers == {"username": "admin", "isSuperuser": True}


def test_a_feed_without_evaluations_has_rules_without_states(ask, client):
    bob = make_owner("bob")
    client.force_login(bob)
    make_feed("B")
    make_rule(bob, assets=["B"], condition=above(10))
    assert first(ask, "rules", "states { edges { cursor } }") == {"states": {"edges": []}}
