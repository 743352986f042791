"""Who is asking: tokens and sessions."""

import json
from datetime import timedelta

import pytest
from django.core.management import call_command
from django.test import Client
from django.utils import timezone

from apps.api.tokens.models import ApiToken
from apps.api.tokens.queries import digest_of
from apps.api.tokens.services import create_token, revoke_token
from tests.api.asking import URL, codes
from tests.builders import make_owner

pytestmark = pytest.mark.django_db

ME = "{ me { username } }"
BODY = json.dumps({"query": ME})


def name_of(response):
    """Return the name of who was answered."""
    assert response.status_code == 200, response.content
    me = response.json()["data"]["me"]
    return me and me["username"]


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


# Tokens


def test_a_token_stands_for_its_owner(ask):
    _, secret = create_token(owner=make_owner(), name="script")
    assert name_of(ask(ME, **bearer(secret))) == "ada"
    assert name_of(ask(ME, Authorization=f"bearer   {secret} ")) == "ada"


def test_only_a_digest_of_a_token_is_kept():
    token, secret = create_token(owner=make_owner(), name="script")
    row = ApiToken.objects.values().get()
    assert len(secret) == len("fintech_") + 43
    assert row["digest"] == digest_of(secret)
    assert secret.removeprefix("fintech_") not in str(row)
    assert str(token) == "script"


def test_two_tokens_are_never_the_same():
    ada = make_owner()
    secrets = {create_token(owner=ada, name="script")[1] for _ in range(20)}
    assert len(secrets) == ApiToken.objects.count() == 20


def refused(response):
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'
    assert codes(response) == ["INVALID_TOKEN"]
    return response.json()


def test_what_is_no_token_in_force_is_refused_with_the_same_message(ask):
    ada, eve, now = make_owner("ada"), make_owner("eve"), timezone.now()
    revoked, revoked_secret = create_token(owner=ada, name="revoked")
    revoke_token(token=revoked, now=now)
    _, over = create_token(owner=ada, name="over", expires_at=now - timedelta(seconds=1))
    _, inactive = create_token(owner=eve, name="inactive")
    eve.is_active = False
    eve.save()
    secrets = [revoked_secret, over, inactive, "", "fintech_", "x" * 4_000, digest_of(revoked_secret), "é"]
    answers = [refused(ask(ME, **bearer(secret))) for secret in secrets]
    assert answers == [answers[0]] * len(secrets)


def test_a_token_is_in_force_until_it_expires(ask):
    _, secret = create_token(owner=make_owner(), name="short", expires_at=timezone.now() + timedelta(minutes=1))
    assert name_of(ask(ME, **bearer(secret))) == "ada"


def test_with_a_token_the_cookie_is_not_looked_at(ask, client):
    _, secret = create_token(owner=make_owner("ada"), name="script")
    client.force_login(make_owner("eve"))
    assert name_of(ask(ME, **bearer(secret))) == "ada"
    refused(ask(ME, **bearer("wrong")))


def test_another_scheme_is_no_token(ask):
    assert name_of(ask(ME, user=make_owner(), Authorization="Basic YWRhOnBhc3M=")) == "ada"


def test_the_use_of_a_token_is_noted_once_a_minute(ask, django_assert_num_queries):
    token, secret = create_token(owner=make_owner(), name="script")
    began = timezone.now()
    with django_assert_num_queries(2):
        ask(ME, **bearer(secret))
    token.refresh_from_db()
    assert token.last_used_at >= began
    with django_assert_num_queries(1):
        ask(ME, **bearer(secret))
    ApiToken.objects.update(last_used_at=began - timedelta(minutes=2))
    with django_assert_num_queries(2):
        ask(ME, **bearer(secret))


def test_a_refused_token_is_not_noted_as_used(ask):
    token, secret = create_token(owner=make_owner(), name="script")
    revoke_token(token=token, now=timezone.now())
    refused(ask(ME, **bearer(secret)))
    assert ApiToken.objects.get().last_used_at is None


def test_a_token_is_revoked_once():
    token, _ = create_token(owner=make_owner(), name="script")
    first = timezone.now()
    assert revoke_token(token=token, now=first)
    assert not revoke_token(token=token, now=first + timedelta(hours=1))
    assert ApiToken.objects.get().revoked_at == first


def test_a_token_outlives_the_session_and_the_password(ask, client):
    ada = make_owner()
    _, secret = create_token(owner=ada, name="script")
    client.force_login(ada)
    client.logout()
    ada.set_password("another long enough phrase")
    ada.save()
    assert name_of(ask(ME, **bearer(secret))) == "ada"


# Sessions


@pytest.fixture
def browser():
    """Return a client with Ada's session, for which CSRF is checked as for any browser, and its CSRF token."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(make_owner())
    page = browser.get(URL, headers={"Accept": "text/html"})
    return browser, page.text.partition('data-csrf="')[2].partition('"')[0]


def post(browser, **headers):
    return browser.post(URL, BODY, content_type="application/json", headers=headers)


def test_a_session_needs_the_csrf_token(browser):
    client, token = browser
    response = post(client)
    assert (response.status_code, codes(response)) == (403, ["CSRF_FAILED"])
    assert post(client, **{"X-CSRFToken": "x" * 64}).status_code == 403
    assert name_of(post(client, **{"X-CSRFToken": token})) == "ada"


def test_a_header_that_is_no_bearer_does_not_spare_the_csrf_token(browser):
    client, _ = browser
    assert post(client, Authorization="Basic YWRhOnBhc3M=").status_code == 403
    assert post(client, Authorization="Bearerx").status_code == 403


def test_a_session_from_another_origin_is_refused(browser):
    client, token = browser
    assert post(client, **{"X-CSRFToken": token, "Origin": "https://evil.example"}).status_code == 403
    assert name_of(post(client, **{"X-CSRFToken": token, "Origin": "http://testserver"})) == "ada"


def test_a_csrf_token_in_the_body_is_no_token(browser):
    client, token = browser
    body = json.dumps({"query": ME, "csrfmiddlewaretoken": token})
    assert client.post(URL, body, content_type="application/json").status_code == 403


def test_a_bearer_needs_no_csrf_token(browser):
    client, _ = browser
    _, secret = create_token(owner=make_owner("eve"), name="script")
    assert name_of(post(client, **bearer(secret))) == "eve"


def test_a_stranger_needs_no_csrf_token():
    assert name_of(post(Client(enforce_csrf_checks=True))) is None


# manage.py create_token


def test_the_command_prints_a_token_that_works(ask, capsys):
    make_owner()
    call_command("create_token", owner="ada", name="script", days=30)
    secret = capsys.readouterr().out.strip()
    assert name_of(ask(ME, **bearer(secret))) == "ada"
    token = ApiToken.objects.get()
    assert token.name == "script"
    assert timedelta(days=29) < token.expires_at - timezone.now() <= timedelta(days=30)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"owner": "nobody"}, "--owner: there is no such active user"),
        ({"name": ""}, "--name: This field cannot be blank."),
        ({"name": "x" * 65}, "--name: Ensure this value has at most 64 characters (it has 65)."),
        ({"name": "a\0b"}, "--name: Null characters are not allowed."),
        ({"days": 0}, "--days must be from 1 to 3650"),
        ({"days": 10**9}, "--days must be from 1 to 3650"),
    ],
)
def test_the_command_refuses_in_one_line(capsys, options, text):
    make_owner()
    with pytest.raises(SystemExit) as stopped:
        call_command("create_token", **{"owner": "ada", "name": "script"} | options)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out, printed.err) == (2, "", f"create_token: {text}\n")
    assert not ApiToken.objects.exists()
