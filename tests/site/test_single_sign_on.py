"""Single sign-on by an OpenID Connect provider that runs in the test: who comes in, and what is refused."""

import time
from urllib.parse import parse_qs, urlsplit

import jwt
import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount, SocialToken
from django.contrib.auth import authenticate
from django.contrib.auth.models import User
from django.test import Client

from apps.accounts.domain import DELETED_ACCOUNT_NAME
from apps.accounts.identities import IdentityRefused, user_of_identity
from apps.accounts.second_factor import turn_on
from apps.site import adapters
from tests.builders import make_owner
from tests.site.oidc_provider import CLIENT, KEY, OTHER_KEY, SECRET
from tests.site.test_second_factor import is_in
from tests.threads import at_once
from tests.totp import TOTP_SECRET, code_now

pytestmark = pytest.mark.django_db
SIGN_IN, START, BACK = "/accounts/login/", "/accounts/sso/", "/accounts/sso/callback/"
PASSWORD = "a long enough phrase"
DISCOVERY = "/.well-known/openid-configuration"


def go(client, provider, **query):
    """Sign in by the provider, and return the answer to its redirect."""
    return client.get(BACK, provider.authorize(client.get(START, query)["Location"]))


def refused(client, provider, caplog):
    """Return the reason in the log of a sign-in that was refused, whatever else happened."""
    answer = go(client, provider)
    assert answer.status_code in (403, 503), answer.get("Location")
    assert not is_in(client)
    assert User.objects.count() == SocialAccount.objects.count() == 0
    [record] = [one for one in caplog.records if one.message == "single sign-on refused"]
    return record.reason


def test_without_a_provider_there_is_no_such_page_and_no_button(client, settings):
    settings.OIDC_ISSUER = ""
    assert [client.get(page).status_code for page in (START, BACK)] == [404] * 2
    page = client.get(SIGN_IN).text
    assert START not in page
    assert 'name="password"' in page


def test_the_button_leads_to_the_provider_with_all_that_guards_the_way_back(client, provider):
    page = client.get(SIGN_IN, {"next": "/portfolios/"}).text
    assert f'href="{START}?next=/portfolios/"' in page
    assert "Sign in by Example ID" in page
    answer = client.get(START)
    address = urlsplit(answer["Location"])
    asked = {name: value for name, [value] in parse_qs(address.query).items()}
    assert (answer.status_code, f"{address.scheme}://{address.netloc}{address.path}") == (
        302,
        f"{provider.issuer}/authorize",
    )
    assert set(asked.pop("scope").split()) == {"openid", "email", "profile"}
    assert min(len(asked.pop(name)) for name in ("state", "nonce", "code_challenge")) >= 16
    assert asked == {
        "client_id": CLIENT,
        "redirect_uri": "http://testserver/accounts/sso/callback/",
        "response_type": "code",
        "code_challenge_method": "S256",
    }


def test_a_new_person_gets_an_account_of_the_ordinary_role(client, provider):
    answer = go(client, provider, next="/portfolios/")
    assert (answer.status_code, answer["Location"], is_in(client)) == (302, "/portfolios/", True)
    ada = User.objects.get()
    assert (ada.username, ada.email) == ("ada", "ada@example.org")
    assert (ada.is_staff, ada.is_superuser, ada.is_active, ada.has_usable_password()) == (True, False, True, False)
    assert [group.name for group in ada.groups.all()] == ["Owner"]
    identity = SocialAccount.objects.get()
    assert (identity.user, identity.provider, identity.uid) == (ada, provider.issuer, "ada-at-provider")
    # What else the provider said is not kept.
    assert identity.extra_data == {}
    assert EmailAddress.objects.count() == SocialToken.objects.count() == 0


def test_the_same_person_comes_to_the_same_account_whatever_their_name_is_now(client, provider):
    go(client, provider)
    first = SocialAccount.objects.get().last_login
    provider.person |= {"email": "lovelace@example.org", "preferred_username": "lovelace"}
    go(other := Client(), provider)
    assert User.objects.get().username == "ada"
    assert is_in(other)
    assert SocialAccount.objects.get().last_login > first


def test_another_subject_is_another_person(client, provider):
    go(client, provider)
    provider.person = {"sub": "eva-at-provider", "email": "eva@example.org", "email_verified": True}
    go(Client(), provider)
    assert set(User.objects.values_list("username", flat=True)) == {"ada", "eva"}


def test_the_same_subject_of_another_provider_is_another_person(client, provider):
    root = User.objects.create_superuser("root", "", PASSWORD)
    SocialAccount.objects.create(user=root, provider="https://id.example.org", uid="ada-at-provider")
    go(client, provider)
    assert SocialAccount.objects.get(provider=provider.issuer).user.username == "ada"


def test_who_signs_in_is_sent_to_no_other_site(client, provider):
    assert go(client, provider, next="https://evil.example.com/")["Location"] == "/"


def test_the_session_is_a_new_one_from_signing_in_on(client, provider):
    address = client.get(START)["Location"]
    before = client.session.session_key
    client.get(BACK, provider.authorize(address))
    assert is_in(client)
    assert client.session.session_key != before


def test_the_session_is_short_until_somebody_is_signed_in(client, provider, settings):
    address = client.get(START)["Location"]
    assert client.session.get_expiry_age() == 600
    client.get(BACK, provider.authorize(address))
    assert client.session.get_expiry_age() == settings.SESSION_COOKIE_AGE
    client.get(START)
    assert client.session.get_expiry_age() == settings.SESSION_COOKIE_AGE


def test_whoever_is_signed_in_as_somebody_else_is_not_any_more(client, provider):
    client.force_login(make_owner("eva"))
    go(client, provider)
    assert client.session["_auth_user_id"] == str(User.objects.get(username="ada").pk)


def test_a_second_factor_is_asked_for_here_too(client, provider):
    go(client, provider)
    turn_on(user=User.objects.get(), secret=TOTP_SECRET, step=0)
    other = Client()
    assert go(other, provider, next="/portfolios/")["Location"] == "/accounts/login/code/"
    assert not is_in(other)
    assert other.post("/accounts/login/code/", {"code": code_now()})["Location"] == "/portfolios/"
    assert is_in(other)


def test_an_inactive_account_stays_shut(client, provider):
    go(client, provider)
    User.objects.update(is_active=False)
    other = Client()
    assert go(other, provider).status_code == 403
    assert not is_in(other)


NAMES = {
    "a name": ({"preferred_username": "lovelace"}, "lovelace"),
    "an address": ({"preferred_username": "lovelace@example.org"}, "lovelace"),
    "no name": ({}, "ada"),
    "another script": ({"preferred_username": "\u0430da"}, "ada"),
    "with a space": ({"preferred_username": DELETED_ACCOUNT_NAME}, "ada"),
    "nothing to go by": ({"preferred_username": "Ада Лавлейс", "email_verified": False}, "user"),
    "one that is taken": ({"preferred_username": "Grace"}, "Grace2"),
    "one that looks like it": ({"preferred_username": "gråce"}, "gråce2"),
    "too long": ({"preferred_username": "x" * 500}, "x" * 100),
    "no text": ({"preferred_username": ["lovelace"]}, "ada"),
}


@pytest.mark.parametrize(("claims", "expected"), NAMES.values(), ids=NAMES.keys())
def test_a_new_person_has_a_name_that_nobody_could_take_for_anothers(client, provider, claims, expected):
    make_owner("grace")
    provider.person |= claims
    go(client, provider)
    assert SocialAccount.objects.get().user.username == expected


@pytest.mark.parametrize("verified", [False, None, "false", 1, "yes"])
def test_an_address_that_is_not_verified_is_used_for_nothing(client, provider, settings, verified):
    settings.OIDC_MATCH_EMAIL = True
    ada = make_owner("ada")
    provider.person |= {"email_verified": verified, "preferred_username": "mallory"}
    go(client, provider)
    mallory = SocialAccount.objects.get().user
    assert (mallory.username, mallory.email, mallory != ada) == ("mallory", "", True)


def test_an_address_that_somebody_has_is_refused_unless_the_setting_allows_it(client, provider, settings):
    ada = make_owner("ada")
    answer = go(client, provider)
    assert (answer.status_code, is_in(client)) == (403, False)
    assert "does not sign in this way" in answer.text
    assert (User.objects.count(), SocialAccount.objects.count()) == (1, 0)
    settings.OIDC_MATCH_EMAIL = True
    provider.person["email"] = "ADA@example.org"
    go(client, provider)
    assert client.session["_auth_user_id"] == str(ada.pk)
    assert SocialAccount.objects.get().user == ada
    # Their password stays.
    assert authenticate(None, username="ada", password=PASSWORD) == ada


def test_an_address_that_only_a_database_takes_for_the_same_is_another(client, provider, settings):
    settings.OIDC_MATCH_EMAIL = True
    User.objects.create_user("grace", "ada@github.example")
    provider.person["email"] = "ada@g\u0131thub.example"
    go(client, provider)
    assert SocialAccount.objects.get().user.username == "ada"


def test_an_address_that_two_accounts_have_matches_none(client, provider, settings):
    settings.OIDC_MATCH_EMAIL = True
    make_owner("ada")
    User.objects.create_user("eva", "ada@example.org")
    assert "Several accounts" in go(client, provider).text
    assert not SocialAccount.objects.exists()


def test_an_account_of_one_identity_is_not_given_to_another_with_its_address(client, provider, settings):
    settings.OIDC_MATCH_EMAIL = True
    go(client, provider)
    provider.person["sub"] = "a later owner of the address"
    other = Client()
    assert "belongs to another identity" in go(other, provider).text
    assert not is_in(other)
    assert SocialAccount.objects.count() == 1


def test_an_inactive_account_is_not_opened_by_its_address(client, provider, settings):
    settings.OIDC_MATCH_EMAIL = True
    make_owner("ada")
    User.objects.update(is_active=False)
    assert go(client, provider).status_code == 403
    assert not is_in(client)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_one_person_who_comes_twice_at_once_there_is_one_account(provider):
    def come():
        try:
            return user_of_identity(issuer=provider.issuer, subject="eva", email="eva@example.org", names=[]).pk
        except IdentityRefused:
            return None

    assert len(set(at_once(*[come] * 5)) - {None}) == 1
    assert User.objects.count() == SocialAccount.objects.count() == 1


WRONG_CLAIMS = {
    "another nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "another audience": {"aud": "another client"},
    "no audience": {"aud": None},
    "authorized for another": {"aud": [CLIENT, "another"], "azp": "another"},
    "another issuer": {"iss": "https://evil.example.com"},
    "no issuer": {"iss": None},
    "expired": {"exp": lambda now: now - 60},
    "no expiry": {"exp": None},
    "from the future": {"iat": lambda now: now + 600},
    "not valid yet": {"nbf": lambda now: now + 600},
    "no subject": {"sub": None},
    "a subject that is no text": {"sub": 7},
    "an empty subject": {"sub": ""},
    "a subject that is too long": {"sub": "x" * 300},
    "an expiry that is no number": {"exp": "soon"},
}


@pytest.mark.parametrize("claims", WRONG_CLAIMS.values(), ids=WRONG_CLAIMS.keys())
def test_an_id_token_that_says_something_else_is_refused(client, provider, caplog, claims):
    now = int(time.time())
    provider.claims = {name: value(now) if callable(value) else value for name, value in claims.items()}
    assert refused(client, provider, caplog)


def test_a_clock_may_be_some_seconds_off(client, provider):
    now = int(time.time())
    provider.claims = {"iat": now + 10, "exp": now - 10}
    go(client, provider)
    assert is_in(client)


def test_an_id_token_signed_by_another_key_is_refused(client, provider, caplog):
    provider.key = OTHER_KEY
    assert refused(client, provider, caplog) == "Signature verification failed"


def test_an_id_token_of_an_unknown_key_is_refused(client, provider, caplog):
    provider.header = {"kid": "third"}
    assert "no key of the provider" in refused(client, provider, caplog)


def test_the_key_is_known_by_its_id_or_is_the_only_one(client, provider):
    provider.key, provider.header = OTHER_KEY, {"kid": "second"}
    go(client, provider)
    provider.key, provider.header, provider.published = KEY, {}, [("first", KEY)]
    go(other := Client(), provider)
    assert is_in(client)
    assert is_in(other)


def test_without_an_id_a_key_among_several_is_not_guessed(client, provider, caplog):
    provider.header = {}
    assert "no key of the provider" in refused(client, provider, caplog)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_id_token_that_the_public_key_would_have_signed_is_refused(client, provider, caplog, algorithm):
    provider.algorithm, provider.key = algorithm, None if algorithm == "none" else "a shared secret of 32 characters"
    assert refused(client, provider, caplog) == "The specified alg value is not allowed"


def test_an_id_token_that_was_changed_is_refused(client, provider, caplog, monkeypatch):
    right = jwt.encode

    def changed(*given, **options):
        head, body, signature = right(*given, **options).split(".")
        return f"{head}.{body[:-4]}AAAA.{signature}"

    monkeypatch.setattr(jwt, "encode", changed)
    assert refused(client, provider, caplog)


def test_the_state_of_another_browser_is_refused(client, provider, caplog):
    query = provider.authorize(Client().get(START)["Location"])
    answer = client.get(BACK, query)
    assert (answer.status_code, is_in(client)) == (403, False)
    assert "/token" not in provider.calls
    client.get(START)
    assert client.get(BACK, query).status_code == 403


@pytest.mark.parametrize("query", [{}, {"code": "a code"}, {"state": ""}, {"state": "x", "code": "a code"}])
def test_whoever_comes_back_without_having_gone_is_refused(client, provider, query):
    answer = client.get(BACK, query)
    assert answer.status_code == 403
    assert "could not accept" in answer.text
    assert provider.calls == []


def test_the_way_back_works_once(client, provider):
    query = provider.authorize(client.get(START)["Location"])
    assert client.get(BACK, query).status_code == 302
    client.post("/accounts/logout/")
    assert client.get(BACK, query).status_code == 403
    assert not is_in(client)


def test_ten_minutes_at_the_provider_are_the_most(client, provider, monkeypatch):
    query = provider.authorize(client.get(START)["Location"])
    later = time.time() + 601
    monkeypatch.setattr("time.time", lambda: later)
    assert client.get(BACK, query).status_code == 403


def test_whoever_cancels_reads_that(client, provider):
    state = provider.authorize(client.get(START)["Location"])["state"]
    answer = client.get(BACK, {"error": "access_denied", "error_description": "<b>no</b>", "state": state})
    assert (answer.status_code, "You may have cancelled" in answer.text) == (403, True)
    assert "<b>" not in answer.text


def test_a_code_is_worth_nothing_without_the_verifier_of_this_browser(client, provider):
    """Proof Key for Code Exchange: a code that was overheard signs nobody else in."""
    overheard = provider.authorize(Client().get(START)["Location"])["code"]
    state = dict(part.split("=") for part in urlsplit(client.get(START)["Location"]).query.split("&"))["state"]
    assert client.get(BACK, {"code": overheard, "state": state}).status_code == 403


def test_what_is_not_in_the_id_token_is_asked_for(client, provider):
    provider.claims = {"email": None, "email_verified": None}
    provider.userinfo = {"sub": "ada-at-provider", "email": "ada@example.org", "email_verified": True}
    go(client, provider)
    assert User.objects.get().email == "ada@example.org"


def test_userinfo_about_somebody_else_is_refused(client, provider, caplog):
    provider.claims = {"email": None}
    provider.userinfo = {"sub": "eva-at-provider", "email": "ada@example.org", "email_verified": True}
    assert refused(client, provider, caplog) == "userinfo is about another subject"


def test_userinfo_changes_nothing_that_is_signed(client, provider):
    provider.claims = {"email": None, "preferred_username": "lovelace"}
    provider.userinfo = {"sub": "ada-at-provider", "preferred_username": "mallory", "iss": "x"}
    go(client, provider)
    assert User.objects.get().username == "lovelace"


STRANGE = {
    "an error": (500, {}, "no"),
    "no JSON": (200, {}, "no"),
    "a list": (200, {}, "[]"),
    "null": (200, {}, "null"),
    "nothing": (200, {}, "{}"),
    "a redirect": (302, {"Location": "/elsewhere"}, ""),
    "packed nonsense": (200, {"Content-Encoding": "gzip"}, "no"),
}


@pytest.mark.parametrize("answer", STRANGE.values(), ids=STRANGE.keys())
@pytest.mark.parametrize("path", [DISCOVERY, "/keys", "/token", "/userinfo"])
def test_a_provider_that_answers_otherwise_signs_nobody_in(client, provider, caplog, path, answer):
    provider.claims = {"email": None}
    if path == DISCOVERY:
        provider.answers[path] = answer
        page = client.get(START)
        assert (page.status_code, "Try again" in page.text) == (503, True)
    else:
        provider.answers[path] = answer
        refused(client, provider, caplog)
    assert "/elsewhere" not in provider.calls


def test_a_provider_that_is_away_is_said_so(client, provider, settings):
    settings.OIDC_ISSUER = "http://127.0.0.1:9"
    answer = client.get(START)
    assert (answer.status_code, "It does not answer as it should" in answer.text) == (503, True)


def test_a_provider_that_is_slow_is_not_waited_for(client, provider, monkeypatch):
    monkeypatch.setattr(adapters, "CALL_SECONDS", 0.2)
    body = provider.discovery
    monkeypatch.setattr(provider, "discovery", lambda: (time.sleep(1), body())[1])
    began = time.monotonic()
    assert client.get(START).status_code == 503
    assert time.monotonic() - began < 1


def test_a_slow_provider_takes_a_few_threads_and_no_more(client, provider, monkeypatch):
    monkeypatch.setattr(adapters, "TURN_SECONDS", 0.01)
    for _ in range(adapters.CALLS_AT_ONCE):
        adapters._calls.acquire()
    try:
        assert client.get(START).status_code == 503
        assert provider.calls == []
    finally:
        for _ in range(adapters.CALLS_AT_ONCE):
            adapters._calls.release()
    assert client.get(START).status_code == 302


def test_a_discovery_document_of_another_issuer_is_refused(client, provider):
    provider.config = {"issuer": "https://evil.example.com"}
    assert client.get(START).status_code == 503


def test_an_answer_that_is_too_large_is_not_read(client, provider):
    provider.config = {"more": "x" * adapters.ANSWER_LARGEST_BYTES}
    assert client.get(START).status_code == 503


def test_a_slash_at_the_end_of_the_issuer_is_no_other_one(client, provider, settings):
    settings.OIDC_ISSUER += "/"
    go(client, provider)
    assert is_in(client)


ELSEWHERE = {
    "another port here": "http://127.0.0.1:9",
    "a private network": "http://10.0.0.1",
    "the cloud's metadata": "http://169.254.169.254",
    "a file": "file:///etc",
    "a name of this machine": "http://localhost:9",
}


@pytest.mark.parametrize("place", ELSEWHERE.values(), ids=ELSEWHERE.keys())
@pytest.mark.parametrize("endpoint", ["token_endpoint", "jwks_uri", "userinfo_endpoint"])
def test_the_provider_cannot_have_this_site_call_a_private_address(client, provider, caplog, endpoint, place):
    provider.claims = {"email": None}
    provider.config = {endpoint: f"{place}/x"}
    reason = refused(client, provider, caplog)
    assert "the URL leads to" in reason or "must begin with" in reason


def test_where_the_issuer_has_tls_its_endpoints_do(settings):
    settings.OIDC_ISSUER = "https://id.example.org"
    with pytest.raises(Exception, match="without TLS"):
        adapters.ProviderSession().get("http://id.example.org:443/keys")


def test_the_secret_of_the_client_and_the_tokens_are_in_no_log_line(client, provider, caplog):
    caplog.set_level("DEBUG")
    go(client, provider)
    provider.answers["/token"] = (200, {}, '{"error": "an access token"}')
    go(Client(), provider)
    assert [secret for secret in (SECRET, "an access token", "code=a") if secret in caplog.text] == []
