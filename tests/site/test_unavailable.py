"""503 while the database is away, at every address; and while too many passwords are worked on at once."""

import re
import threading

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from django.db import OperationalError, connection
from django.test import Client
from django.urls import URLResolver

from apps.accounts import hashers
from apps.accounts.hashers import BoundedHasher, TooManyPasswords
from apps.accounts.models import SignInAttempt
from apps.api.tokens.services import create_token
from fintech.urls import urlpatterns
from tests.api.asking import codes
from tests.panel.test_walk import PAGES
from tests.rig import wait_until

LEAK = "server at 10.0.0.1"
# What needs no row, whoever asks.
WITHOUT_ROWS = {
    *("/healthz", "/action/x", "/admin/login/", "/accounts/login/", "/accounts/logout/", "/accounts/reset/"),
    # Without a provider there are no such pages.
    *("/accounts/sso/", "/accounts/sso/callback/"),
    *("/accounts/reset/done/", "/accounts/reset/sent/", "/accounts/reset/x/x/", "/favicon.ico"),
    # By GET they answer 405 before anything else.
    *("/ingest/x", "/imports", "/alertmanager", "/assets/watch"),
}
OF_PROGRAMS = ("/graphql", "/ingest/x", "/imports", "/alertmanager")


def refuse(execute, sql, params, many, context):
    raise OperationalError(f"connection to {LEAK} failed")


def addresses():
    """Return an address of every page that there is."""
    own = [str(one.pattern) for one in urlpatterns if not isinstance(one, URLResolver)]
    filled = [re.sub(r"<int:\w+>", "1", re.sub(r"<(str:)?\w+>", "x", one)) for one in own]
    return [f"/{one}" for one in filled] + [page.address(key="1") for page in PAGES]


@pytest.mark.django_db(transaction=True)
def test_while_the_database_is_away_every_page_says_so(admin_client):
    statuses = {}
    with connection.execute_wrapper(refuse):
        for address in addresses():
            answer = admin_client.get(address, headers={"accept": "text/html"})
            statuses[address] = answer.status_code
            assert LEAK not in answer.text
            if answer.status_code == 503 and address not in ("/readyz", "/status", "/metrics", *OF_PROGRAMS):
                assert "The database does not answer" in answer.text
                assert answer["Retry-After"] == "5"

    assert {address: status for address, status in statuses.items() if status >= 500 and status != 503} == {}
    assert {address for address, status in statuses.items() if status != 503} == WITHOUT_ROWS
    assert len(statuses) > 100


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("address", "form"),
    [
        ("/accounts/login/", {"username": "ada", "password": "x"}),
        ("/accounts/reset/", {"email": "ada@example.org"}),
        ("/admin/", {}),
    ],
)
def test_a_stranger_is_answered_the_same(client, settings, address, form):
    settings.EMAIL_CONFIGURED = True
    client.cookies["sessionid"] = "x" * 32
    with connection.execute_wrapper(refuse):
        assert client.post(address, form).status_code == 503


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("address", OF_PROGRAMS)
def test_programs_read_it_as_json(admin_user, address):
    _, secret = create_token(owner=admin_user, name="script", scope="write")
    with connection.execute_wrapper(refuse):
        answer = Client().post(
            address, {"query": "{ me { username } }"}, "application/json", headers={"Authorization": f"Bearer {secret}"}
        )

    assert (answer.status_code, codes(answer), answer["Retry-After"]) == (503, ["UNAVAILABLE"], "5")
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.django_db(transaction=True)
def test_a_query_that_loses_the_database_half_way_is_answered_the_same(admin_user, settings):
    settings.MARKET_IS_PUBLIC = True
    with connection.execute_wrapper(refuse):
        answer = Client().post(
            "/graphql", {"query": "{ assets(first: 1) { edges { node { symbol } } } }"}, "application/json"
        )

    assert (answer.status_code, codes(answer)) == (503, ["UNAVAILABLE"])


@pytest.mark.parametrize("address", OF_PROGRAMS)
def test_programs_read_a_fault_as_json_too(monkeypatch, address):
    def fail(*args, **kwargs):
        raise RuntimeError(LEAK)

    monkeypatch.setattr("apps.api.tokens.auth.token_in_force", fail)
    client = Client(raise_request_exception=False)
    answer = client.post(address, "{}", "application/json", headers={"Authorization": "Bearer x"})

    assert (answer.status_code, codes(answer)) == (500, ["INTERNAL_ERROR"])
    assert answer.json()["errors"][0]["extensions"]["requestId"] == answer["X-Request-ID"]


@pytest.mark.django_db
def test_a_session_that_cannot_be_saved_is_no_fault(monkeypatch, admin_user):
    """It is saved after the view."""
    client = Client(raise_request_exception=False)
    client.force_login(admin_user)

    def away(self, *args, **kwargs):
        raise OperationalError(LEAK)

    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.save", away)
    monkeypatch.setattr("django.conf.settings.SESSION_SAVE_EVERY_REQUEST", True)
    answer = client.get("/accounts/password/")

    assert (answer.status_code, LEAK in answer.text) == (503, False)


# Passwords


@pytest.fixture
def hashing(monkeypatch, settings):
    """Hash in no time, but not before `go` is set; returns (go, how many are worked on)."""
    settings.PASSWORD_HASHERS = ["apps.accounts.hashers.BoundedHasher"]
    go, at_work = threading.Event(), []

    def encode(self, password, salt, iterations=None):
        at_work.append(password)
        go.wait(20)
        return f"pbkdf2_sha256$1${salt}$x"

    monkeypatch.setattr(PBKDF2PasswordHasher, "encode", encode)
    yield go, at_work
    go.set()


@pytest.fixture
def busy(hashing):
    """Have as many passwords worked on, and waiting, as may be."""
    go, at_work = hashing
    results = []

    def hash_one():
        results.append(BoundedHasher().encode("x", "salt"))

    count = hashers.AT_ONCE + hashers.WAITING
    threads = [threading.Thread(target=hash_one) for _ in range(count)]
    for thread in threads:
        thread.start()
    wait_until(lambda: hashers._here._value == 0 and len(at_work) == hashers.AT_ONCE)
    yield
    go.set()
    for thread in threads:
        thread.join(timeout=20)
    assert len(results) == count


def test_one_password_more_is_refused_at_once(busy):
    with pytest.raises(TooManyPasswords):
        BoundedHasher().encode("y", "salt")


def test_who_waits_too_long_is_refused_and_leaves_the_place(hashing, monkeypatch):
    go, at_work = hashing
    monkeypatch.setattr(hashers, "WAIT_SECONDS", 0.01)
    thread = threading.Thread(target=BoundedHasher().encode, args=("x", "salt"))
    thread.start()
    wait_until(lambda: at_work)
    with pytest.raises(TooManyPasswords):
        BoundedHasher().encode("y", "salt")
    go.set()
    thread.join(timeout=20)
    assert BoundedHasher().encode("z", "salt")


@pytest.mark.django_db
def test_signing_in_says_so_and_is_no_attempt(busy, client):
    answer = client.post("/accounts/login/", {"username": "ada", "password": "wrong"})

    assert (answer.status_code, answer["Retry-After"]) == (503, "2")
    assert "Too many people are signing in" in answer.text
    assert not SignInAttempt.objects.exists()


@pytest.mark.django_db
def test_what_compares_or_sets_a_password_elsewhere_is_bounded_too(admin_user, busy, client):
    form = {"old_password": "x", "new_password1": "a long enough phrase", "new_password2": "a long enough phrase"}
    admin_user.password = "pbkdf2_sha256$1$salt$y"
    admin_user.save()
    client.force_login(admin_user)

    assert client.post("/accounts/password/", form).status_code == 503
