"""Where people sign in by single sign-on alone."""

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.core import mail
from django.urls import reverse

from tests.builders import make_operator, make_owner
from tests.site.test_second_factor import PASSWORD, SIGN_IN, is_in
from tests.site.test_single_sign_on import START, go
from tests.totp import code_now

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _without(provider, settings):
    settings.PASSWORD_SIGN_IN = False
    settings.EMAIL_CONFIGURED = True


def test_the_page_has_the_button_alone_and_no_password_is_taken(client):
    make_owner("ada")
    page = client.get(SIGN_IN).text
    assert "password" not in page.lower()
    assert START in page
    client.post(SIGN_IN, {"username": "ada", "password": PASSWORD})
    assert not is_in(client)
    assert authenticate(None, username="ada", password=PASSWORD) is None


def test_the_provider_still_signs_in(client, provider):
    go(client, provider)
    assert is_in(client)


@pytest.mark.parametrize("page", ["/accounts/password/", "/accounts/reset/", "/accounts/reset/x/x/"])
@pytest.mark.parametrize("method", ["get", "post"])
def test_pages_of_passwords_say_so(client, page, method):
    client.force_login(make_owner("ada"))
    answer = getattr(client, method)(page, {"email": "ada@example.org"})
    assert "People sign in here by Example ID." in answer.text
    assert mail.outbox == []


def test_a_new_account_gets_no_mail_and_no_password(client):
    client.force_login(make_operator("grace", "auth.view_user", "auth.add_user", "auth.change_user"))
    assert 'name="password1"' not in client.get(reverse("admin:auth_user_add")).text
    client.post(reverse("admin:auth_user_add"), {"username": "eva", "email": "eva@example.org"})
    assert not User.objects.get(username="eva").has_usable_password()
    assert mail.outbox == []


def test_an_account_is_deleted_by_typing_its_name(client, provider):
    go(client, provider)
    assert "not your user name" in client.post("/accounts/delete/", {"name": "eva"}).text
    client.post("/accounts/delete/", {"name": "ada"})
    assert User.objects.filter(username="ada").count() == SocialAccount.objects.count() == 0


def test_a_second_factor_is_turned_on_by_its_code_alone(client, provider):
    go(client, provider)
    client.get("/accounts/second-factor/")
    secret = client.session["second_factor_secret"]
    assert "recovery codes" in client.post("/accounts/second-factor/", {"code": code_now(secret)}).text
