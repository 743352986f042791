"""Identities of the single sign-on: connected from the profile and removed there, or by an administrator."""

import re

import pytest
from allauth.socialaccount.models import SocialAccount
from django.contrib.auth import authenticate
from django.contrib.auth.models import Group, User
from django.test import Client
from django.urls import reverse

from apps.accounts.identities import IdentityRefused, connect_identity, remove_identity
from apps.accounts.second_factor import turn_on
from tests.builders import make_operator, make_owner
from tests.site.test_second_factor import PASSWORD, USED_UP, is_in
from tests.site.test_single_sign_on import BACK, go
from tests.threads import at_once
from tests.totp import TOTP_SECRET

pytestmark = pytest.mark.django_db
PROFILE, CONNECT = "/accounts/profile/", "/accounts/identities/connect/"


@pytest.fixture
def ada(client):
    ada = make_owner("ada")
    client.force_login(ada)
    return ada


def connect_link(client, password=PASSWORD):
    """Return the link to the provider that the page shows once it has the password; None where it shows none."""
    page = client.post(CONNECT, {"password": password})
    found = re.search(r'class="button" href="([^"]+)"', page.text)
    return found[1].replace("&amp;", "&") if found else None


def connect(client, provider):
    """Connect an identity as a person does, and return the answer to the way back."""
    return client.get(BACK, provider.authorize(connect_link(client)))


def identity_of(user, provider, uid="ada-at-provider"):
    return SocialAccount.objects.create(user=user, provider=provider.issuer, uid=uid)


def remove_page(identity):
    return f"/accounts/identities/{identity.pk}/remove/"


def test_an_identity_is_connected_from_the_profile_and_signs_in_from_then_on(client, provider, ada):
    assert f'href="{CONNECT}"' in client.get(PROFILE).text
    assert connect_link(client).startswith(f"{provider.issuer}/authorize?")
    answer = connect(client, provider)
    assert (answer.status_code, answer["Location"]) == (302, PROFILE)
    identity = SocialAccount.objects.get()
    assert (identity.user, identity.provider, identity.uid) == (ada, provider.issuer, "ada-at-provider")
    page = client.get(PROFILE).text
    assert "ada-at-provider" in page
    assert CONNECT not in page
    go(other := Client(), provider)
    assert other.session["_auth_user_id"] == str(ada.pk)
    # The password stays.
    assert authenticate(None, username="ada", password=PASSWORD) == ada


def test_reading_the_page_does_not_begin_it_nor_a_wrong_password(client, provider, ada):
    page = client.get(CONNECT)
    assert (provider.issuer in page.text, provider.calls) == (False, [])
    assert connect_link(client, "wrong") is None
    assert provider.calls == []
    assert "socialaccount_states" not in client.session
    assert "no-store" in page["Cache-Control"]


def test_wrong_passwords_there_count_as_those_of_sign_in(client, provider, ada):
    for _ in range(10):
        connect_link(client, "wrong")
    assert USED_UP in client.post(CONNECT, {"password": PASSWORD}).text


def test_a_form_of_another_site_does_not_begin_it(provider, ada):
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(ada)
    assert strict.post(CONNECT, {"password": PASSWORD}).status_code == 403
    assert provider.calls == []


def test_the_way_back_of_a_sign_in_connects_nothing(client, provider, ada):
    go(client, provider)
    # ada@example.org is an address that somebody has here.
    assert not SocialAccount.objects.exists()


def test_the_way_back_works_once_and_in_this_browser_alone(client, provider, ada):
    query = provider.authorize(connect_link(client))
    other = Client()
    other.force_login(make_owner("eva"))
    assert other.get(BACK, query).status_code == 403
    assert client.get(BACK, query).status_code == 302
    assert client.get(BACK, query).status_code == 403
    assert SocialAccount.objects.get().user == ada


@pytest.mark.parametrize("becomes", ["eva", None])
def test_who_signs_in_as_somebody_else_meanwhile_connects_nothing(client, provider, ada, becomes):
    query = provider.authorize(connect_link(client))
    session = client.session
    if becomes:
        eva = make_owner("eva")
        session["_auth_user_id"], session["_auth_user_hash"] = str(eva.pk), eva.get_session_auth_hash()
    else:
        del session["_auth_user_id"]
    session.save()
    answer = client.get(BACK, query)
    assert (answer.status_code, "Example ID is not connected" in answer.text) == (403, True)
    assert not SocialAccount.objects.exists()


def test_an_identity_of_another_account_is_not_taken_from_it(client, provider, ada):
    eva = make_owner("eva")
    identity_of(eva, provider)
    answer = connect(client, provider)
    assert (answer.status_code, "signs in another account here" in answer.text) == (403, True)
    assert SocialAccount.objects.get().user == eva


def test_a_second_identity_of_one_provider_is_refused_and_the_first_again_is_not(client, provider, ada):
    identity_of(ada, provider, "first")
    assert "Remove that one first" in connect(client, provider).text
    assert SocialAccount.objects.get().uid == "first"
    provider.person["sub"] = "first"
    assert connect(client, provider)["Location"] == PROFILE


def test_where_the_provider_refuses_or_is_away_the_page_says_that_nothing_is_connected(client, provider, ada):
    state = provider.authorize(connect_link(client))["state"]
    answer = client.get(BACK, {"state": state, "error": "access_denied"})
    assert (answer.status_code, "Example ID is not connected" in answer.text) == (403, True)
    provider.answers["/.well-known/openid-configuration"] = (500, {}, "")
    answer = client.post(CONNECT, {"password": PASSWORD})
    assert (answer.status_code, "Example ID is not connected" in answer.text) == (503, True)


def test_without_a_provider_nothing_can_be_connected(client, ada, settings):
    settings.OIDC_ISSUER = ""
    assert CONNECT not in client.get(PROFILE).text
    assert client.get(CONNECT).status_code == 404


def test_an_identity_is_removed_by_the_password(client, provider, ada):
    identity = identity_of(ada, provider)
    page = remove_page(identity)
    assert page in client.get(PROFILE).text
    assert "ada-at-provider" in client.get(page).text
    assert "not your password" in client.post(page, {"password": "wrong"}).text
    assert SocialAccount.objects.exists()
    assert client.post(page, {"password": PASSWORD})["Location"] == PROFILE
    assert not SocialAccount.objects.exists()
    assert "does not sign in this way" in go(Client(), provider).text


def test_of_others_nothing_is_shown_or_removed(client, provider, ada):
    page = remove_page(identity_of(make_owner("eva"), provider, "eva"))
    assert [client.get(page).status_code, client.post(page, {"password": PASSWORD}).status_code] == [404] * 2
    assert SocialAccount.objects.count() == 1


@pytest.mark.parametrize("page", [CONNECT, "/accounts/identities/1/remove/"])
def test_these_pages_are_for_who_is_signed_in(client, provider, page):
    assert client.get(page)["Location"] == f"/accounts/login/?next={page}"


@pytest.mark.parametrize("has_passwords", [True, False])
def test_the_last_way_in_is_kept(client, provider, settings, has_passwords):
    go(client, provider)
    settings.PASSWORD_SIGN_IN = has_passwords
    identity = SocialAccount.objects.get()
    for answer in (client.get(remove_page(identity)), client.post(remove_page(identity))):
        assert "It cannot be removed. You sign in by nothing else" in answer.text
        assert "<form" not in answer.text.split("</header>")[1]
    with pytest.raises(IdentityRefused, match="nothing else"):
        remove_identity(user=identity.user, identity_id=identity.pk)
    assert SocialAccount.objects.get() == identity


def test_one_of_a_provider_of_before_is_no_other_way_in(client, provider):
    go(client, provider)
    ada = User.objects.get()
    before = SocialAccount.objects.create(user=ada, provider="https://before.example.org", uid="ada")
    today = SocialAccount.objects.get(provider=provider.issuer)
    with pytest.raises(IdentityRefused):
        remove_identity(user=ada, identity_id=today.pk)
    assert client.post(remove_page(before))["Location"] == PROFILE
    assert SocialAccount.objects.get() == today


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_who_connect_two_identities_at_once_one_is_connected(provider):
    ada = make_owner("ada")

    def attempt(subject):
        try:
            connect_identity(user=ada, issuer=provider.issuer, subject=subject)
        except IdentityRefused:
            return False
        return True

    done = at_once(*[lambda one=one: attempt(f"subject {one}") for one in range(4)])
    assert sum(done) == SocialAccount.objects.count() == 1


@pytest.fixture
def grace(client):
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    client.force_login(grace)
    return grace


def admin_page(user):
    return reverse("admin:auth_user_identities", args=[user.pk])


def test_an_operator_removes_all_even_the_last_and_that_is_recorded(client, provider, grace):
    go(Client(), provider)
    ada = SocialAccount.objects.get().user
    SocialAccount.objects.create(user=ada, provider="https://old.example", uid="ada-before")
    change = reverse("admin:auth_user_change", args=[ada.pk])
    assert admin_page(ada) in client.get(change).text
    question = client.get(admin_page(ada)).text
    assert "Without a password, ada cannot sign in" in question
    assert [name for name in ("ada-at-provider of", "ada-before of") if name not in question] == []
    assert SocialAccount.objects.count() == 2
    assert client.post(admin_page(ada)).url == change
    assert not SocialAccount.objects.exists()
    history = client.get(f"{change[:-7]}history/").text
    assert "Removed of single sign-on: ada-at-provider, ada-before." in history
    assert "No identity of a provider signs in here." in client.get(change).text
    assert client.get(admin_page(ada)).url == change


def test_who_has_a_password_is_not_said_to_be_shut_out(client, provider, grace):
    identity = identity_of(make_owner("ada"), provider)
    assert "Without a password" not in client.get(admin_page(identity.user)).text


def test_an_operator_removes_none_of_who_may_do_more_nor_an_own_one(client, provider, grace):
    root = User.objects.create_superuser("root", "root@example.org", PASSWORD)
    kept = {identity_of(root, provider, "root"), identity_of(grace, provider, "grace")}
    assert [client.get(admin_page(root)).status_code, client.post(admin_page(root)).status_code] == [403] * 2
    client.post(admin_page(grace))
    client.post(admin_page(make_owner("ada")))
    assert set(SocialAccount.objects.all()) == kept


def test_a_second_factor_is_asked_for_by_a_connected_identity_too(client, provider, ada):
    connect(client, provider)
    turn_on(user=ada, secret=TOTP_SECRET, step=0)
    assert go(other := Client(), provider)["Location"] == "/accounts/login/code/"
    assert not is_in(other)
