"""Silences made and ended by the API."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apps.alerts.models import Alert
from apps.notify.models import Notification, Silence
from apps.notify.services import create_silence
from tests.api.asking import NOBODYS, codes
from tests.builders import make_member, make_notified_alerts

pytestmark = pytest.mark.django_db

CREATE = """mutation ($rule: UUID, $asset: AssetId, $severity: Severity, $startsAt: DateTime, $endsAt: DateTime!) {
  createSilence(
    idempotencyKey: "k", rule: $rule, asset: $asset, severity: $severity, startsAt: $startsAt, endsAt: $endsAt,
    comment: "works"
  ) {
    silence { id owner author rule { name } asset { symbol } severity startsAt endsAt comment }
    errors { field code }
  }
}"""
END = "mutation ($id: UUID!) { endSilence(id: $id) { silence { id endsAt } errors { field code } } }"
FAR = "2999-01-01T00:00:00Z"


def faults(response, name):
    """Return the faults of an answer that changed nothing."""
    answer = response.json()["data"][name]
    assert answer["silence"] is None
    return [(one["field"], one["code"]) for one in answer["errors"]]


def test_a_silence_is_made_as_it_is_asked_for(ask, ada):
    alert = make_notified_alerts(ada, 1)[0]
    asked = {"rule": alert.rule.public_id, "asset": alert.asset.symbol, "severity": "WARNING", "endsAt": FAR}
    made = ask(CREATE, asked, user=ada).json()["data"]["createSilence"]["silence"]

    row = Silence.objects.get()
    assert timezone.now() - row.starts_at < timedelta(minutes=1)
    assert made == {
        **{"id": str(row.public_id), "owner": "ada", "author": "ada", "rule": {"name": alert.rule.name}, "endsAt": FAR},
        **{"asset": {"symbol": alert.asset.symbol}, "severity": "WARNING", "comment": "works"},
        "startsAt": f"{row.starts_at:%Y-%m-%dT%H:%M:%S.%fZ}",
    }


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"endsAt": "2020-01-01T00:00:00Z"}, ("endsAt", "INVALID")),
        ({"startsAt": FAR, "endsAt": FAR}, ("endsAt", "INVALID")),
        ({"asset": "NOBODY", "endsAt": FAR}, ("asset", "NOT_FOUND")),
        ({"rule": NOBODYS, "endsAt": FAR}, ("rule", "NOT_FOUND")),
    ],
)
def test_what_is_wrong_is_named(ask, ada, asked, found):
    assert faults(ask(CREATE, asked, user=ada), "createSilence") == [found]
    assert not Silence.objects.exists()


def test_a_superuser_makes_none_that_would_never_match(ask, ada, admin_user):
    asked = {"rule": make_notified_alerts(ada, 1)[0].rule.public_id, "endsAt": FAR}
    assert faults(ask(CREATE, asked, user=admin_user), "createSilence") == [("rule", "INVALID")]


OF_ALERT = """mutation ($alert: UUID, $rule: UUID, $endsAt: DateTime) {
  createSilence(idempotencyKey: "k", alert: $alert, rule: $rule, endsAt: $endsAt, comment: "known") {
    silence { id rule { id } alert { id } endsAt } errors { field code }
  }
}"""


def test_one_alert_is_silenced_until_it_is_over(ask, ada):
    alert = make_notified_alerts(ada, 1)[0]

    answers = [ask(OF_ALERT, {"alert": alert.public_id}, user=ada).json()["data"]["createSilence"] for _ in range(2)]

    row = Silence.objects.get()
    assert (row.alert, row.owner, row.author, row.ends_at) == (alert, ada, ada, None)
    made = {"id": str(row.public_id), "rule": None, "alert": {"id": str(alert.public_id)}, "endsAt": None}
    assert answers == [{"silence": made, "errors": []}] * 2
    ended = ask(END, {"id": row.public_id}, user=ada).json()["data"]["endSilence"]
    assert (ended["errors"], ended["silence"]["endsAt"] is None) == ([], False)


@pytest.mark.parametrize(
    ("more", "found"),
    [
        ({"endsAt": FAR}, ("alert", "INVALID")),
        ({"rule": NOBODYS}, ("alert", "INVALID")),
        ({"alert": None}, ("endsAt", "REQUIRED")),
        ({"alert": NOBODYS}, ("alert", "NOT_FOUND")),
    ],
)
def test_what_is_wrong_with_a_silence_of_an_alert_is_named(ask, ada, more, found):
    alert = make_notified_alerts(ada, 1)[0]
    assert faults(ask(OF_ALERT, {"alert": alert.public_id} | more, user=ada), "createSilence") == [found]
    assert not Silence.objects.exists()


def test_an_alert_that_is_over_or_silenced_or_somebody_elses_is_not_silenced(ask, ada, admin_user):
    others, over, silenced = make_notified_alerts(make_member("bob"), 1, name="bob") + make_notified_alerts(ada, 2)
    Alert.objects.filter(pk=over.pk).update(resolved_at=over.opened_at)
    create_silence(author=ada, owner=ada, alert=silenced, starts_at=timezone.now(), comment="known")

    found = [
        faults(ask(OF_ALERT, {"alert": alert.public_id}, user=user), "createSilence")
        for alert, user in [(others, ada), (others, admin_user), (over, ada), (silenced, ada)]
    ]

    assert found == [[("alert", "NOT_FOUND")], [("alert", "INVALID")], [("alert", "INVALID")], [(None, "INVALID")]]


@pytest.mark.parametrize(
    "moment", ["2999-01-01", "2999-01-01T00:00:00", "tomorrow", 5, "9999-12-31T23:59:59-10:00", FAR * 9]
)
def test_what_is_no_moment_is_refused(ask, ada, moment):
    answer = ask(CREATE, {"endsAt": moment}, user=ada)
    assert (answer.status_code, codes(answer)) == (400, ["BAD_USER_INPUT"])


def test_a_silence_is_ended_once_and_what_it_deferred_is_due(ask, ada):
    now = timezone.now()
    times = {"starts_at": now - timedelta(hours=1), "ends_at": now + timedelta(hours=1)}
    silence = create_silence(author=ada, owner=ada, comment="works", **times)
    make_notified_alerts(ada, 1)
    Notification.objects.update(silence=silence, message=None, due_at=now + timedelta(hours=1))

    assert ask(END, {"id": silence.public_id}, user=ada).json()["data"]["endSilence"]["errors"] == []
    assert Notification.objects.get().due_at <= timezone.now()
    assert faults(ask(END, {"id": silence.public_id}, user=ada), "endSilence") == [(None, "CONFLICT")]


def test_everybodys_silence_is_ended_by_superusers_alone(ask, ada, admin_user):
    silence = create_silence(author=admin_user, owner=None, comment="works", starts_at=timezone.now(), ends_at=FAR)
    assert "works" in ask("{ silences { edges { node { comment } } } }", user=ada).text
    assert faults(ask(END, {"id": silence.public_id}, user=ada), "endSilence") == [("id", "NOT_FOUND")]
    assert ask(END, {"id": silence.public_id}, user=admin_user).json()["data"]["endSilence"]["errors"] == []


def test_who_may_only_see_silences_makes_none(ask):
    eve = make_member("eve")
    eve.groups.clear()
    assert codes(ask(CREATE, {"endsAt": FAR}, user=eve)) == ["FORBIDDEN"]
