"""The pages of tokens."""

import re

import pytest
from django.urls import reverse

from apps.accounts.models import Profile
from apps.api.tokens.models import ApiToken
from apps.api.tokens.services import create_token
from tests.builders import make_operator, make_owner

pytestmark = pytest.mark.django_db

PERMISSIONS = [f"api.{verb}_apitoken" for verb in ("view", "add", "delete")]
LIST = "admin:api_apitoken_changelist"


@pytest.fixture
def ada(client):
    """Return a person who may make and revoke tokens, and is signed in."""
    ada = make_operator("ada", *PERMISSIONS)
    client.force_login(ada)
    return ada


def add(client, owner, **fields):
    data = {"owner": owner.pk, "name": "script", "scope": "read", "expires_at_0": "", "expires_at_1": ""} | fields
    return client.post(reverse("admin:api_apitoken_add"), data)


def revoke(client, *tokens):
    return client.post(
        reverse(LIST), {"action": "revoke", "_selected_action": [token.pk for token in tokens]}, follow=True
    )


def test_the_secret_is_shown_once_and_kept_by_nobody(client, ada):
    response = add(client, ada)
    [secret] = re.findall(r"fintech_[\w-]{43}", response.text)
    assert response.status_code == 200
    assert "no-store" in response.headers["Cache-Control"]
    assert secret not in str(response.cookies)
    token = ApiToken.objects.get()
    pages = [reverse("admin:index"), reverse(LIST), reverse("admin:api_apitoken_change", args=[token.pk])]
    assert [secret in client.get(page).text for page in pages] == [False] * 3
    answer = client.post(
        "/graphql",
        '{"query": "{ me { username } }"}',
        content_type="application/json",
        headers={"Authorization": f"Bearer {secret}"},
    )
    assert answer.json() == {"data": {"me": {"username": "ada"}}}


def test_a_token_makes_and_revokes_none(client, ada):
    token, secret = create_token(owner=ada, name="script", scope="write")
    client.logout()
    client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {secret}"
    answers = [add(client, ada), revoke(client, token)]
    assert answers[0].status_code == 302
    assert [answer.wsgi_request.user.is_authenticated for answer in answers] == [False, False]
    assert ApiToken.objects.get().revoked_at is None


def test_the_scope_of_metrics_is_offered_to_whom_may_read_them(client, ada):
    assert "Select a valid choice" in add(client, ada, scope="metrics").text
    assert not ApiToken.objects.exists()
    grace = make_operator("grace", *PERMISSIONS, "api.read_metrics")
    client.force_login(grace)
    form = client.get(reverse("admin:api_apitoken_add")).context["adminform"].form
    assert [value for value, _ in form.fields["scope"].choices] == ["read", "write", "metrics"]
    add(client, grace, scope="metrics")
    assert ApiToken.objects.get().scope == "metrics"


def test_a_token_with_an_end_is_made_with_it(client, ada):
    add(client, ada, expires_at_0="2030-01-31", expires_at_1="12:00:00")
    assert f"{ApiToken.objects.get().expires_at:%Y-%m-%d %H:%M}" == "2030-01-31 12:00"


def test_a_token_that_would_be_over_at_once_is_not_made(client, ada):
    answer = add(client, ada, expires_at_0="2020-01-31", expires_at_1="12:00:00")
    assert ("The end must lie ahead." in answer.text, ApiToken.objects.exists()) == (True, False)


def test_nobody_makes_a_token_for_another(client, ada):
    response = add(client, make_owner("eve"))
    assert "Select a valid choice" in response.text
    assert not ApiToken.objects.exists()


def test_a_superuser_makes_one_for_another(admin_client):
    eve = make_owner("eve")
    add(admin_client, eve)
    assert ApiToken.objects.get().owner == eve


def test_people_see_their_own_tokens_and_superusers_all(client, ada, admin_user):
    create_token(owner=make_owner("eve"), name="eves script")
    create_token(owner=ada, name="adas script")
    text = client.get(reverse(LIST)).text
    assert "adas script" in text
    assert "eves script" not in text
    client.force_login(admin_user)
    assert "eves script" in client.get(reverse(LIST)).text


def test_another_owners_token_is_not_there(client, ada):
    token, _ = create_token(owner=make_owner("eve"), name="eves script")
    page = reverse("admin:api_apitoken_change", args=[token.pk])
    absent = reverse("admin:api_apitoken_change", args=[token.pk + 1])
    assert client.get(page).status_code == client.get(absent).status_code == 302
    revoke(client, token)
    assert ApiToken.objects.get().revoked_at is None


def test_a_token_is_revoked_and_stays(client, ada):
    token, _ = create_token(owner=ada, name="script")
    response = revoke(client, token)
    assert "1 token is revoked." in response.text
    assert ApiToken.objects.get().revoked_at is not None
    assert "0 tokens are revoked." in revoke(client, token).text


def test_a_token_is_neither_edited_nor_deleted(client, admin_client, admin_user):
    token, _ = create_token(owner=admin_user, name="script")
    change = reverse("admin:api_apitoken_change", args=[token.pk])
    assert admin_client.get(change).status_code == 200
    assert admin_client.post(change, {"name": "other"}).status_code == 403
    assert admin_client.post(reverse("admin:api_apitoken_delete", args=[token.pk]), {"post": "yes"}).status_code == 403
    assert ApiToken.objects.get().name == "script"


def test_who_may_not_revoke_is_not_offered_it(client):
    grace = make_operator("grace", "api.view_apitoken")
    token, _ = create_token(owner=grace, name="script")
    client.force_login(grace)
    assert "Revoke these tokens" not in client.get(reverse(LIST)).text
    revoke(client, token)
    assert ApiToken.objects.get().revoked_at is None
    assert client.get(reverse("admin:api_apitoken_add")).status_code == 403


def test_the_form_names_one_zone_which_is_the_readers(client, ada):
    Profile.objects.create(user=ada, time_zone="Europe/Kyiv")
    text = client.get(reverse("admin:api_apitoken_add")).text
    assert "Europe/Kyiv. From then on it is refused. Empty: never by itself." in text
    assert "(UTC)" not in text
