"""Rules, alerts and messages as they are told to their owner."""

import pytest

from apps.alerts.models import Alert
from apps.pipeline.flow import judge_pending
from apps.rules.models import RuleVersion
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule, make_told_alerts

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(client):
    """Return an owner who is signed in, with one alert that was told."""
    ada = make_owner()
    make_told_alerts(ada, 1)
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
        "id kind severity version isOpen openedAt resolvedAt resolution words evidence rule { name owner }"
        " asset { symbol } entry { feed seq asOf traceId } timeline { kind at reason entry { seq } }",
    )
    assert answer.pop("evidence") == alert.evidence
    assert alert.evidence["price"] == "11"
    assert answer.pop("timeline") == [
        {
            "kind": "OPENED",
            "at": "2026-03-02T12:00:01Z",
            "reason": alert.events.get().reason,
            "entry": {"seq": alert.batch.seq},
        }
    ]
    assert answer == {
        "id": str(alert.pk),
        "kind": "CONDITION",
        "severity": "WARNING",
        "version": 1,
        "isOpen": True,
        "openedAt": "2026-03-02T12:00:01Z",
        "resolvedAt": None,
        "resolution": "",
        "words": alert.words,
        "rule": {"name": "rule of TOLD-0", "owner": "ada"},
        "asset": {"symbol": "TOLD-0"},
        "entry": {"feed": "told", "seq": alert.batch.seq, "asOf": "2026-03-02T12:00:01Z", "traceId": "0" * 32},
    }


def test_an_alert_that_is_over_says_so(ask, ada):
    alert = Alert.objects.get()
    append_quotes(alert.asset.feed, [("TOLD-0", at(60), "6")])
    judge_pending(feed_id=alert.asset.feed_id)
    answer = first(ask, "alerts", "isOpen resolvedAt resolution timeline { kind }")
    assert answer["isOpen"] is False
    assert answer["resolvedAt"] == "2026-03-02T12:01:00Z"
    assert answer["resolution"] != ""
    assert answer["timeline"] == [{"kind": "OPENED"}, {"kind": "RESOLVED"}]


def test_open_alerts_and_those_that_are_over_can_be_asked_for(ask, ada):
    make_told_alerts(ada, 1, name="more")
    alert = Alert.objects.get(asset__symbol="TOLD-0")
    append_quotes(alert.asset.feed, [("TOLD-0", at(60), "6")])
    judge_pending(feed_id=alert.asset.feed_id)
    assert first(ask, "alerts(isOpen: true)", "asset { symbol }") == {"asset": {"symbol": "MORE-0"}}
    assert first(ask, "alerts(isOpen: false)", "asset { symbol }") == {"asset": {"symbol": "TOLD-0"}}
    assert len(ask("{ alerts(isOpen: null) { edges { cursor } } }").json()["data"]["alerts"]["edges"]) == 2


def test_an_alert_has_its_messages_and_a_message_its_alert(ask, ada):
    alert = first(ask, "alerts", "id messages { edges { node { subject status channel { name kind isEnabled } } } }")
    [message] = [one["node"] for one in alert["messages"]["edges"]]
    assert message["status"] == "DELIVERED"
    assert message["channel"] == {"name": "Inbox of told", "kind": "inbox", "isEnabled": True}
    answer = first(ask, "messages", "subject attempts alert { id }")
    assert answer == {"subject": message["subject"], "attempts": 1, "alert": {"id": alert["id"]}}


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
        "name severity owner words document version deletedAt"
        " states { edges { node { asset { symbol } state since unknown reason version } } }",
    )
    [state] = [one["node"] for one in answer.pop("states")["edges"]]
    assert answer.pop("document") == RuleVersion.objects.get().document
    assert answer == {
        "name": "rule of TOLD-0",
        "severity": "WARNING",
        "owner": "ada",
        "words": "TOLD-0 is above 10",
        "version": 1,
        "deletedAt": None,
    }
    assert state.pop("reason") != ""
    assert state == {
        "asset": {"symbol": "TOLD-0"},
        "state": "FIRING",
        "since": "2026-03-02T12:00:01Z",
        "unknown": "",
        "version": 1,
    }


def test_a_rule_is_told_as_its_newest_version_says(ask, ada):
    rule = ada.rules.get()
    make_rule(ada, name=rule.name, rule=rule, assets=["TOLD-0"], condition=above(20), enabled=False)
    answer = first(ask, "rules", "words version")
    assert answer == {"words": "TOLD-0 is above 20 (switched off)", "version": 2}


def test_a_rule_that_cannot_be_read_says_so(ask, ada):
    RuleVersion.objects.update(document={"nonsense": True})
    assert first(ask, "rules", "words")["words"].startswith("cannot be read: ")


def test_who_asks_is_told(ask, ada, admin_user):
    assert ask("{ me { username isSuperuser } }").json()["data"]["me"] == {"username": "ada", "isSuperuser": False}
    hers = ask("{ me { username isSuperuser } }", user=admin_user).json()["data"]["me"]
    assert hers == {"username": "admin", "isSuperuser": True}


def test_a_feed_without_judgements_has_rules_without_states(ask, client):
    bob = make_owner("bob")
    client.force_login(bob)
    make_feed("B")
    make_rule(bob, assets=["B"], condition=above(10))
    assert first(ask, "rules", "states { edges { cursor } }") == {"states": {"edges": []}}
