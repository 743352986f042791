"""What the webhook of Alertmanager refuses, and how it says so."""

import json

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from apps.alerts.models import Alert
from apps.api.tokens.services import create_token
from tests.api.alertmanager.posting import DEEP, FIRING, JSON, URL, bearer, counts, payload, refused
from tests.builders import make_operator

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YWRhOnBhc3M="}, {"Authorization": "Bearerx"}])
def test_a_stranger_is_refused(client, headers):
    response = client.post(URL, payload(FIRING), content_type=JSON, headers=headers)

    refused(response, 401, "UNAUTHENTICATED")
    assert response.headers["WWW-Authenticate"] == "Bearer"
    assert "no-store" in response.headers["Cache-Control"]


@pytest.mark.parametrize("secret", ["", "x", "fintech_" + "0" * 40])
def test_a_token_that_is_none_is_refused(client, secret):
    response = client.post(URL, payload(FIRING), content_type=JSON, headers=bearer(secret))

    refused(response, 401, "INVALID_TOKEN")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_who_lacks_the_permission_is_refused(client):
    grace = make_operator("grace", "alerts.view_system_alerts", "alerts.view_alert", "market.push_quotes")
    grace.groups.set(Group.objects.all())
    _, secret = create_token(owner=grace, name="script", scope="write")

    response = client.post(URL, payload(FIRING), content_type=JSON, headers=bearer(secret))
    assert refused(response, 403, "FORBIDDEN") == "The owner of the token may not send alerts about the installation."


def test_a_session_needs_the_csrf_token(admin_user):
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(admin_user)

    refused(browser.post(URL, payload(FIRING), content_type=JSON), 403, "CSRF_FAILED")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "head"])
def test_only_post_is_answered(client, secret, method):
    response = getattr(client, method)(URL, headers=bearer(secret))

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_only_json_is_taken(post, content_type):
    refused(post(FIRING, content_type=content_type), 415, "UNSUPPORTED_MEDIA_TYPE")


def test_nothing_is_taken_from_the_address(post):
    refused(post(FIRING, url=f"{URL}?token=1"), 400, "BAD_REQUEST")


def test_a_body_over_ten_megabytes_is_refused(post):
    content = payload(FIRING)

    refused(post(content=content + " " * (10_000_001 - len(content))), 413, "LIMIT_EXCEEDED")
    assert counts(post(content=content + " " * (10_000_000 - len(content)))) == (1, 0, 0)


def test_a_body_that_is_announced_as_too_large_is_not_read(client, secret):
    response = client.post(URL, b"{}", content_type=JSON, headers=bearer(secret), CONTENT_LENGTH="10000001")

    refused(response, 413, "LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b" ", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b'{"version": "4", "alerts": NaN}', "the body is not JSON"),
        (b"[]", 'the body must be an object like {"version": "4", "alerts": […]}'),
        (b"{}", 'version: must be "4"'),
        (payload(FIRING, version="3"), 'version: must be "4"'),
        (payload(FIRING, version=4), 'version: must be "4"'),
        (payload(FIRING, truncatedAlerts="0"), "truncatedAlerts: must be a number of alerts"),
        (payload(FIRING, truncatedAlerts=-1), "truncatedAlerts: must be a number of alerts"),
        (payload(FIRING, truncatedAlerts=None), "truncatedAlerts: must be a number of alerts"),
        (payload(FIRING, alerts=None), "alerts: must be a list of alerts"),
        (payload(), "alerts: must be a list of alerts"),
        (payload(FIRING, groupKey=1), "groupKey: must be a text"),
        (payload([]), "alerts[0]: must be an object"),
        (payload({}, []), "alerts[0].status: must be firing or resolved"),
    ],
    ids=range(16),
)
def test_what_is_malformed_is_refused_as_a_whole_with_its_place(post, content, text):
    assert refused(post(content=content), 400, "BAD_USER_INPUT") == text


A_TIME = "must be a time like 2026-03-02T12:00:00Z"
AFTER_1990 = "must be a time after 1990"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"status": "suppressed"}, "status: must be firing or resolved"),
        ({"status": ["firing"]}, "status: must be firing or resolved"),
        ({"fingerprint": ""}, "fingerprint: must have 1 to 64 characters"),
        ({"fingerprint": "a" * 65}, "fingerprint: must have 1 to 64 characters"),
        ({"fingerprint": None}, "fingerprint: must be a text"),
        ({"fingerprint": 1}, "fingerprint: must be a text"),
        ({"fingerprint": "a\0"}, "fingerprint: contains an invalid character"),
        ({"startsAt": None}, "startsAt: must be a text"),
        ({"startsAt": 1772452800}, "startsAt: must be a text"),
        ({"startsAt": "yesterday"}, f"startsAt: {A_TIME}"),
        ({"startsAt": "9" * 5_000}, f"startsAt: {A_TIME}"),
        ({"startsAt": "2026-02-30T12:00:00Z"}, f"startsAt: {A_TIME}"),
        ({"startsAt": "2026-03-02T12:00:00"}, "startsAt: must have its zone"),
        ({"startsAt": "2026-03-02"}, "startsAt: must have its zone"),
        ({"startsAt": "0001-01-01T00:00:00+14:00"}, f"startsAt: {AFTER_1990}"),
        ({"startsAt": "1989-12-31T23:59:59Z"}, f"startsAt: {AFTER_1990}"),
        ({"status": "resolved"}, f"endsAt: {AFTER_1990}"),
        ({"status": "resolved", "endsAt": None}, "endsAt: must be a text"),
        ({"labels": None}, "labels: must be an object of texts"),
        ({"labels": ["a"]}, "labels: must be an object of texts"),
        ({"labels": {"a": 1}}, "labels: must be a text"),
        ({"labels": {"a": None}}, "labels: must be a text"),
        ({"labels": {"a": {"b": "c"}}}, "labels: must be a text"),
        ({"labels": {"a": json.loads(DEEP)}}, "labels: must be a text"),
        ({"labels": {"a\0": "b"}}, "labels: contains an invalid character"),
        ({"labels": {"a": "\0"}}, "labels: contains an invalid character"),
        ({"labels": {"a": "\ud800"}}, "labels: contains an invalid character"),
        ({"annotations": {"summary": "\udfff"}}, "annotations: contains an invalid character"),
        ({"annotations": {"summary": True}}, "annotations: must be a text"),
        ({"generatorURL": "\0"}, "generatorURL: contains an invalid character"),
        ({"generatorURL": {}}, "generatorURL: must be a text"),
    ],
    ids=range(31),
)
def test_a_malformed_alert_is_refused_with_its_place_and_takes_no_other_down_with_it(post, changes, text):
    answer = post(FIRING, FIRING | changes)

    assert (answer.status_code, answer.json()) == (
        200,
        {"opened": 1, "resolved": 0, "repeated": 0, "left_out": 0, "refused": 1, "reasons": [f"alerts[1].{text}"]},
    )
    assert Alert.objects.get().fingerprint == FIRING["fingerprint"]


def test_of_many_malformed_alerts_the_first_reasons_are_answered(post):
    answer = post(FIRING, *[FIRING | {"status": "?"}] * 30).json()

    assert (answer["opened"], answer["refused"]) == (1, 30)
    assert answer["reasons"] == [f"alerts[{number}].status: must be firing or resolved" for number in range(1, 21)]


@pytest.mark.parametrize("field", ["status", "fingerprint", "startsAt", "labels"])
def test_what_every_alert_has_may_not_be_missing(post, field):
    refused(post({name: value for name, value in FIRING.items() if name != field}), 400, "BAD_USER_INPUT")
