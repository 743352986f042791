"""What all mutations share: who may, one transaction, what is wrong as data, and idempotency keys."""

import json
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import IdempotencyKey
from apps.accounts.services import prune_idempotency_keys
from apps.alerts.models import AlertEvent
from apps.api.tokens.services import create_token
from apps.notify.models import Silence
from tests.api.asking import NOBODYS, URL, codes
from tests.builders import make_member, make_notified_alerts
from tests.threads import at_once

pytestmark = pytest.mark.django_db

ACKNOWLEDGE = """mutation ($id: UUID!, $note: String) {
  acknowledgeAlert(id: $id, note: $note) {
    alert { state note acknowledgedBy timeline { kind by detail } }
    errors { field code message }
  }
}"""
ACKNOWLEDGED = AlertEvent.Kind.ACKNOWLEDGED


@pytest.fixture
def alert(ada):
    return make_notified_alerts(ada, 1)[0]


def body(alert, **variables):
    return json.dumps({"query": ACKNOWLEDGE, "variables": {"id": str(alert.public_id)} | variables})


def nothing_changed():
    return not AlertEvent.objects.filter(kind=ACKNOWLEDGED).exists()


# Who may


def test_a_token_that_only_reads_changes_nothing(ask, ada, alert):
    _, secret = create_token(owner=ada, name="script")
    answer = ask(ACKNOWLEDGE, {"id": alert.public_id}, Authorization=f"Bearer {secret}")

    assert (answer.status_code, codes(answer), nothing_changed()) == (403, ["INSUFFICIENT_SCOPE"], True)
    assert answer.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write"'
    assert ask("{ me { username } }", Authorization=f"Bearer {secret}").json() == {"data": {"me": {"username": "ada"}}}


def test_a_token_of_the_scope_changes_without_a_csrf_token(ada, alert):
    _, secret = create_token(owner=ada, name="script", scope="write")
    browser = Client(enforce_csrf_checks=True)
    headers = {"Authorization": f"Bearer {secret}"}
    answer = browser.post(URL, body(alert), content_type="application/json", headers=headers)

    assert answer.json()["data"]["acknowledgeAlert"]["alert"]["state"] == "ACKNOWLEDGED"


def test_a_session_changes_with_the_csrf_token_alone(ada, alert):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada)
    page = browser.get(URL, headers={"Accept": "text/html"})
    token = page.text.partition('data-csrf="')[2].partition('"')[0]
    answers = [
        browser.post(URL, body(alert), content_type="application/json", headers=headers)
        for headers in ({}, {"Authorization": "Basic eA=="}, {"X-CSRFToken": token, "Origin": "https://evil.example"})
    ]
    assert ([codes(one) for one in answers], nothing_changed()) == ([["CSRF_FAILED"]] * 3, True)

    answer = browser.post(URL, body(alert), content_type="application/json", headers={"X-CSRFToken": token})
    assert answer.json()["data"]["acknowledgeAlert"]["errors"] == []


def test_a_stranger_changes_nothing_whatever_the_id(ask, alert):
    answers = [ask(ACKNOWLEDGE, {"id": id}) for id in (str(alert.public_id), NOBODYS, "x")]

    assert {(one.status_code, one.content) for one in answers} == {(401, answers[0].content)}
    assert (codes(answers[0]), nothing_changed()) == (["UNAUTHENTICATED"], True)


def test_who_lacks_the_permission_changes_nothing_whatever_the_id(ask, ada, alert):
    ada.groups.clear()
    answers = [ask(ACKNOWLEDGE, {"id": id}, user=ada) for id in (str(alert.public_id), NOBODYS)]

    assert answers[0].content == answers[1].content
    assert (codes(answers[0]), answers[0].json()["data"]) == (["FORBIDDEN"], {"acknowledgeAlert": None})
    assert nothing_changed()


@pytest.mark.parametrize(
    ("content", "content_type", "path", "status"),
    [
        (f"query={ACKNOWLEDGE}", "application/x-www-form-urlencoded", URL, 415),
        (ACKNOWLEDGE, "application/graphql", URL, 415),
        ("", "text/plain", f"{URL}?query=mutation", 415),
        ("{}", "application/json", f"{URL}?query=mutation", 400),
    ],
)
def test_a_form_and_an_address_change_nothing(client, ada, alert, content, content_type, path, status):
    client.force_login(ada)
    answer = client.post(path, content.replace("$id", str(alert.public_id)), content_type=content_type)
    assert (answer.status_code, nothing_changed()) == (status, True)
    assert client.get(f"{URL}?query=mutation").status_code == 405


# Idempotency keys

CREATE = """mutation ($key: String!, $comment: String!) {
  createSilence(idempotencyKey: $key, endsAt: "2999-01-01T00:00:00Z", comment: $comment) {
    silence { id comment } errors { field code message }
  }
}"""


def created(answer):
    return answer.json()["data"]["createSilence"]


def test_a_repeat_under_a_key_makes_nothing_more(ask, ada):
    first, second = (created(ask(CREATE, {"key": "k", "comment": "works"}, user=ada)) for _ in range(2))
    assert (first, first["errors"], Silence.objects.count()) == (second, [], 1)

    other = created(ask(CREATE, {"key": "k", "comment": "other"}, user=ada))
    assert [(one["field"], one["code"]) for one in other["errors"]] == [("idempotencyKey", "IDEMPOTENCY_KEY_REUSED")]
    eves = created(ask(CREATE, {"key": "k", "comment": "works"}, user=make_member("eve")))
    assert (eves["errors"], eves["silence"]["id"] != first["silence"]["id"]) == ([], True)

    prune_idempotency_keys(now=timezone.now() + timedelta(hours=23))
    assert IdempotencyKey.objects.count() == 2
    later = timezone.now() + timedelta(hours=25)
    assert [prune_idempotency_keys(now=later, dry_run=dry_run) for dry_run in (True, False)] == [2, 2]
    assert created(ask(CREATE, {"key": "k", "comment": "other"}, user=ada))["errors"] == []


def test_a_repeat_of_what_is_gone_since_makes_nothing_new(ask, ada):
    ask(CREATE, {"key": "k", "comment": "works"}, user=ada)
    Silence.objects.all().delete()
    assert created(ask(CREATE, {"key": "k", "comment": "works"}, user=ada)) == {"silence": None, "errors": []}


def test_a_call_that_failed_stores_nothing(ask, ada):
    refused = created(ask(CREATE, {"key": "k", "comment": ""}, user=ada))

    assert [(one["field"], one["code"]) for one in refused["errors"]] == [("comment", "REQUIRED")]
    assert (Silence.objects.exists(), IdempotencyKey.objects.exists()) == (False, False)
    assert created(ask(CREATE, {"key": "k", "comment": "works"}, user=ada))["errors"] == []


@pytest.mark.parametrize("key", ["", "a b", "x" * 65, "é"])
def test_what_is_no_key_is_refused(ask, ada, key):
    refused = created(ask(CREATE, {"key": key, "comment": "works"}, user=ada))
    assert [(one["field"], one["code"]) for one in refused["errors"]] == [("idempotencyKey", "INVALID")]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_twenty_calls_at_once_under_a_key_make_one(settings):
    settings.GRAPHQL_REQUESTS_AT_ONCE = dict.fromkeys(settings.GRAPHQL_REQUESTS_AT_ONCE, 0)
    _, secret = create_token(owner=make_member("ada"), name="script", scope="write")
    body = json.dumps({"query": CREATE, "variables": {"key": "k", "comment": "works"}})

    def call():
        headers = {"Authorization": f"Bearer {secret}"}
        return Client().post(URL, body, content_type="application/json", headers=headers).content

    assert len(set(at_once(*[call] * 20))) == 1
    assert Silence.objects.count() == 1


# Acknowledging


def test_an_alert_is_acknowledged_with_a_note_once(ask, ada, alert):
    first, second = (ask(ACKNOWLEDGE, {"id": alert.public_id, "note": "on it"}, user=ada).json() for _ in range(2))

    made = first["data"]["acknowledgeAlert"]
    assert made["errors"] == []
    assert made["alert"] == {
        **{"state": "ACKNOWLEDGED", "note": "on it", "acknowledgedBy": "ada"},
        "timeline": [
            {"kind": "OPENED", "by": None, "detail": ""},
            {"kind": "ACKNOWLEDGED", "by": "ada", "detail": "on it"},
        ],
    }
    fault = {"field": None, "code": "CONFLICT", "message": "It is acknowledged already, or over."}
    assert second["data"]["acknowledgeAlert"] == {"alert": None, "errors": [fault]}
    assert AlertEvent.objects.filter(kind=ACKNOWLEDGED).count() == 1


def test_an_id_of_nothing_is_named_by_its_argument(ask, ada):
    fault = {"field": "id", "code": "NOT_FOUND", "message": "There is none, or it is not yours."}
    assert ask(ACKNOWLEDGE, {"id": NOBODYS}, user=ada).json() == {
        "data": {"acknowledgeAlert": {"alert": None, "errors": [fault]}}
    }


@pytest.mark.parametrize("id", ["999999", "0", "x", "-1", NOBODYS[:-1], f"{NOBODYS}\n", "١", "", 1, True, []])
def test_what_is_no_id_is_refused_before_anything_is_executed(ask, ada, id):
    answer = ask(ACKNOWLEDGE, {"id": id}, user=ada)
    assert (answer.status_code, codes(answer)) == (400, ["BAD_USER_INPUT"])


def test_a_note_that_is_too_long_is_refused_by_its_name(ask, ada, alert):
    answer = ask(ACKNOWLEDGE, {"id": alert.public_id, "note": "x" * 501}, user=ada).json()["data"]["acknowledgeAlert"]

    assert [(one["field"], one["code"]) for one in answer["errors"]] == [("note", "INVALID")]
    assert nothing_changed()


@pytest.mark.parametrize("written", ["\\u0000", "\\ud800"])
def test_a_literal_that_no_database_takes_is_refused(ask, ada, alert, written):
    query = f'mutation {{ acknowledgeAlert(id: "{alert.public_id}", note: "{written}") {{ errors {{ code }} }} }}'
    answer = ask(query, user=ada)

    assert (answer.status_code, nothing_changed()) == (400, True)
    assert codes(answer) in (["BAD_USER_INPUT"], ["GRAPHQL_PARSE_FAILED"])
