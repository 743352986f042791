"""Signing in and out, how often one may guess, and a new password by mail."""

import re
from datetime import timedelta

import pytest
from django.contrib.auth import authenticate, get_user_model, hashers
from django.contrib.sessions.models import Session
from django.core import mail
from django.urls import reverse
from django.utils import timezone

from apps.accounts import services
from apps.accounts.models import SignInAttempt
from apps.pipeline.flow import prune
from tests.builders import make_operator, make_owner
from tests.threads import at_once

SIGN_IN = "/accounts/login/"
RESET = "/accounts/reset/"
PASSWORD = "a long enough phrase"
NO_MATCH = "Wrong user name or password."
USED_UP = "There were too many attempts"


@pytest.fixture(autouse=True)
def _site(settings):
    settings.EMAIL_CONFIGURED = True
    settings.SITE_URL = "https://fintech.example.org"
    settings.TRUST_PROXY_HEADERS = False


@pytest.fixture
def ada(db):
    return make_owner("ada")


def sign_in(client, name="ada", password=PASSWORD, address="192.0.2.1", **headers):
    return client.post(SIGN_IN, {"username": name, "password": password}, REMOTE_ADDR=address, headers=headers)


def is_in(client):
    return "_auth_user_id" in client.session


def sent():
    """Return the mails, once the thread that sends them has done so."""
    services._mailer.submit(int).result()
    return mail.outbox


def link_of(rendered):
    return re.search(r"https://fintech\.example\.org(/\S+)", rendered.body.split("Set", 1)[1])[1]


def test_who_signs_in_comes_to_where_they_were_going(client, ada):
    answer = client.post(SIGN_IN, {"username": "ada", "password": PASSWORD, "next": "/admin/"})
    assert (answer.status_code, answer["Location"], is_in(client)) == (302, "/admin/", True)


def test_who_signs_in_is_sent_to_no_other_site(client, ada):
    answer = client.post(SIGN_IN, {"username": "ada", "password": PASSWORD, "next": "https://evil.example.com/"})
    assert answer["Location"] == "/"


def test_the_session_is_a_new_one_from_signing_in_on(client, ada):
    client.session["basket"] = "old"
    session = client.session
    session["seen"] = True
    session.save()
    before = session.session_key
    sign_in(client)
    assert is_in(client)
    assert client.session.session_key not in (None, before)


def test_signing_out_needs_a_post_and_ends_the_session(client, ada):
    client.force_login(ada)
    assert client.get("/accounts/logout/").status_code == 405
    assert is_in(client)
    answer = client.post("/accounts/logout/")
    assert (answer.status_code, answer["Location"], is_in(client)) == (302, "/", False)


def test_the_admin_signs_out_to_the_front_page_too(client, admin_user):
    client.force_login(admin_user)
    assert client.post(reverse("admin:logout"))["Location"] == "/"
    assert not is_in(client)


def test_the_admin_has_no_door_of_its_own(client, ada, admin_user):
    answer = client.get("/admin/login/?next=/admin/market/feed/")
    assert answer["Location"] == "/accounts/login/?next=/admin/market/feed/"
    answer = client.post("/admin/login/", {"username": "admin", "password": "password"})
    assert (answer.status_code, is_in(client)) == (302, False)


def test_who_may_not_enter_the_admin_is_shown_as_whom_they_are_signed_in(client, ada):
    client.force_login(ada)
    answer = client.get("/admin/", follow=True)
    assert answer.status_code == 200
    assert "You are signed in as ada, who may not see that page." in answer.text


def test_a_wrong_password_and_an_unknown_name_are_answered_the_same(client, ada):
    wrong, unknown = sign_in(client, password="wrong"), sign_in(client, name="eva", password="wrong")
    assert (wrong.status_code, unknown.status_code) == (200, 200)
    assert NO_MATCH in wrong.text
    same = [re.sub(r'value="\w+"', "", answer.text) for answer in (wrong, unknown)]
    assert same[0] == same[1]


def test_an_inactive_account_is_answered_the_same(client, ada):
    ada.is_active = False
    ada.save()
    assert NO_MATCH in sign_in(client).text
    assert not is_in(client)


def test_the_password_is_hashed_for_an_unknown_name_too(client, ada, monkeypatch):
    """Otherwise the time would tell which names there are."""
    hashed = []
    hasher = hashers.get_hasher()
    encode = type(hasher).encode
    monkeypatch.setattr(type(hasher), "encode", lambda *given, **more: hashed.append(1) or encode(*given, **more))
    sign_in(client, password="wrong")
    known = len(hashed)
    sign_in(client, name="eva", password="wrong")
    assert (known, len(hashed) - known) == (1, 1)


def test_ten_attempts_an_hour_on_one_account_wherever_they_come_from(client, ada):
    for number in range(10):
        sign_in(client, password="wrong", address=f"192.0.2.{number}")
    answer = sign_in(client, address="192.0.2.99")
    assert USED_UP in answer.text
    assert not is_in(client)
    assert sign_in(client, name="eva", password="wrong", address="192.0.2.99").text.count(NO_MATCH) == 1


def test_an_account_that_nobody_has_is_shut_just_the_same(client, db):
    answers = [sign_in(client, name="eva", password="x", address=f"192.0.2.{number}") for number in range(11)]
    assert [USED_UP in answer.text for answer in answers] == [False] * 9 + [True] * 2


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_attempts_side_by_side_count_each_other():
    def attempt():
        return services.begin_attempt(kind="password", name="ada", address="192.0.2.1", now=timezone.now()) is not None

    for _ in range(6):
        attempt()
    assert sum(at_once(*[attempt] * 8)) <= 4
    assert SignInAttempt.objects.count() <= 10


@pytest.mark.parametrize("name", ["ADA", "ａｄａ", "Ada"])
def test_another_spelling_is_no_other_account(client, ada, name):
    for number in range(10):
        sign_in(client, name=name, password="wrong", address=f"192.0.2.{number}")
    sign_in(client, address="192.0.2.99")
    assert not is_in(client)


def test_twenty_attempts_an_hour_from_one_address_whatever_the_account(client, ada):
    for number in range(20):
        sign_in(client, name=f"eva{number}", password="wrong")
    assert USED_UP in sign_in(client).text
    assert not is_in(client)
    sign_in(client, address="192.0.2.2")
    assert is_in(client)


def test_what_a_visitor_writes_into_x_forwarded_for_is_not_believed(client, ada):
    for number in range(20):
        sign_in(client, name=f"eva{number}", password="x", **{"x-forwarded-for": f"198.51.100.{number}"})
    sign_in(client, **{"x-forwarded-for": "198.51.100.99"})
    assert not is_in(client)


@pytest.mark.parametrize(
    ("entry", "again"),
    [
        ("203.0.113.7:{}", "203.0.113.7:9"),
        ("[2001:db8::7]:{}", "2001:db8::8"),
        ('"[2001:db8::7]:{}"', "[2001:db8::9]"),
        ("unknown{}", "_hidden"),
    ],
)
def test_behind_a_proxy_that_adds_a_port_or_nothing_readable_the_limit_counts(client, ada, settings, entry, again):
    settings.TRUST_PROXY_HEADERS = True
    for number in range(20):
        forwarded = f"198.51.100.{number}, {entry.format(5_000 + number)}"
        sign_in(client, name=f"eva{number}", password="x", **{"x-forwarded-for": forwarded})
    sign_in(client, **{"x-forwarded-for": again})
    assert not is_in(client)


def test_behind_a_proxy_the_entry_that_it_added_counts(client, ada, settings):
    settings.TRUST_PROXY_HEADERS = True
    for number in range(20):
        spoofed = f"198.51.100.{number}, 203.0.113.7"
        sign_in(client, name=f"eva{number}", password="x", **{"x-forwarded-for": spoofed})
    sign_in(client, **{"x-forwarded-for": "198.51.100.99, 203.0.113.7"})
    assert not is_in(client)
    sign_in(client, **{"x-forwarded-for": "203.0.113.8"})
    assert is_in(client)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", ""),
        ("unix:", ""),
        ("192.0.2.1:443", "192.0.2.1"),
    ],
)
def test_an_address_is_a_machines_or_a_customers_network(rf, written, meant):
    assert services.address_of(rf.get("/", REMOTE_ADDR=written)) == meant


def test_without_an_address_only_the_account_is_counted(client, ada):
    for number in range(30):
        sign_in(client, name=f"eva{number}", password="x", address="")
    sign_in(client, address="")
    assert is_in(client)


def test_after_an_hour_all_is_as_before(client, ada):
    for number in range(10):
        sign_in(client, password="wrong", address=f"192.0.2.{number}")
    SignInAttempt.objects.update(at=timezone.now() - timedelta(minutes=59))
    sign_in(client)
    assert not is_in(client)
    SignInAttempt.objects.update(at=timezone.now() - timedelta(minutes=60))
    sign_in(client)
    assert is_in(client)


def test_what_is_older_than_an_hour_is_dropped_by_the_next_attempt(client, ada):
    sign_in(client, password="wrong")
    SignInAttempt.objects.update(at=timezone.now() - timedelta(minutes=61))
    sign_in(client, name="eva", password="wrong")
    assert SignInAttempt.objects.count() == 1


def test_who_signs_in_rightly_uses_nothing_up(client, ada):
    for _ in range(25):
        sign_in(client)
    assert SignInAttempt.objects.count() == 0


def test_what_is_refused_makes_nobody_wait_longer(client, ada):
    for _ in range(15):
        sign_in(client, password="wrong")
    assert SignInAttempt.objects.count() == 10


def test_no_name_and_no_password_is_kept_with_an_attempt(client, ada):
    sign_in(client, name="hunter2-typed-as-a-name", password="wrong")
    [attempt] = SignInAttempt.objects.values_list("account", "address", "kind")
    assert "hunter2" not in str(attempt)
    assert len(attempt[0]) == 64


def test_every_door_that_asks_for_a_password_is_counted(ada):
    answers = [authenticate(None, username="ada", password="wrong") for _ in range(10)]
    assert answers == [None] * 10
    assert authenticate(None, username="ada", password=PASSWORD) is None
    assert authenticate(None, username="eva", password=PASSWORD) is None


def test_a_name_with_a_nul_is_a_form_error(client, db):
    assert sign_in(client, name="a\0b").status_code == 200


def test_a_changed_password_signs_out_everywhere_else(client, ada):
    client.force_login(ada)
    other = type(client)()
    other.force_login(ada)
    new = "another long phrase"
    answer = client.post(
        "/accounts/password/", {"old_password": PASSWORD, "new_password1": new, "new_password2": new}, follow=True
    )
    assert "Your password is changed" in answer.text
    assert is_in(client)
    assert other.get("/accounts/password/").status_code == 302


def test_the_password_page_is_for_who_is_signed_in(client, db):
    assert client.get("/accounts/password/")["Location"] == "/accounts/login/?next=/accounts/password/"


def test_a_link_to_a_new_password_comes_by_mail_and_works_once(client, ada):
    client.post(RESET, {"email": "ADA@example.org"})
    [rendered] = sent()
    assert rendered.to == ["ada@example.org"]
    link = link_of(rendered)
    form = client.get(link, follow=True)
    assert "Set your password" in form.text
    new = "another long phrase"
    page = form.redirect_chain[-1][0]
    answer = client.post(page, {"new_password1": new, "new_password2": new}, follow=True)
    assert "Your new password is set" in answer.text
    assert "does not work any more" in type(client)().get(link, follow=True).text
    sign_in(client, password=new)
    assert is_in(client)


def test_a_weak_password_is_refused_with_the_reason(client, ada):
    client.post(RESET, {"email": "ada@example.org"})
    page = client.get(link_of(sent()[0]), follow=True).redirect_chain[-1][0]
    answer = client.post(page, {"new_password1": "password", "new_password2": "password"})
    assert "too common" in answer.text


def test_the_link_begins_with_site_url_whatever_the_request_says(client, ada, settings):
    settings.ALLOWED_HOSTS = ["*"]
    client.post(RESET, {"email": "ada@example.org"}, headers={"host": "evil.example.com"})
    [rendered] = sent()
    assert "https://fintech.example.org/accounts/reset/" in rendered.body
    assert "evil" not in rendered.body + rendered.subject


def test_known_and_unknown_addresses_get_the_same_answer(client, ada):
    known = client.post(RESET, {"email": "ada@example.org"}, follow=True)
    unknown = client.post(RESET, {"email": "eva@example.org"}, follow=True)
    assert known.redirect_chain == unknown.redirect_chain == [("/accounts/reset/sent/", 302)]
    assert known.text == unknown.text
    assert [rendered.to for rendered in sent()] == [["ada@example.org"]]


def test_nobody_waits_for_the_mail_server(client, ada, monkeypatch):
    """Who waited would know that there is an account."""
    begun = []
    monkeypatch.setattr(services._mailer, "submit", lambda *given, **more: begun.append(given))
    assert client.post(RESET, {"email": "ada@example.org"}).status_code == 302
    assert len(begun) == 1
    assert mail.outbox == []


def test_a_mail_server_that_refuses_is_a_line_in_the_log_without_the_address(client, ada, settings, caplog):
    settings.EMAIL_BACKEND = "tests.site.test_accounts.Refusing"
    assert client.post(RESET, {"email": "ada@example.org"}, follow=True).status_code == 200
    assert sent() == []
    [record] = [one for one in caplog.records if one.message == "password mail not sent"]
    assert (record.reason, record.user_id) == ("ConnectionRefusedError", ada.pk)
    assert "ada@example.org" not in caplog.text


class Refusing:
    """A connection to a mail server that is not there."""

    def __init__(self, **options):
        pass

    def send_messages(self, messages):
        raise ConnectionRefusedError("ada@example.org")


def test_who_is_switched_off_gets_no_link(client, ada):
    ada.is_active = False
    ada.save()
    client.post(RESET, {"email": "ada@example.org"})
    assert sent() == []


def test_who_has_never_set_a_password_gets_another_link(client, ada):
    ada.set_unusable_password()
    ada.save()
    client.post(RESET, {"email": "ada@example.org"})
    assert len(sent()) == 1


def test_five_mails_an_hour_and_then_the_same_answer_without_one(client, ada):
    written = ["ada@example.org", "Ada@example.org", "ADA@example.org"] * 3
    answers = [client.post(RESET, {"email": address}, follow=True).text for address in written]
    assert len(set(answers)) == 1
    assert len(sent()) == 5


def test_who_sets_a_new_password_may_sign_in_at_once_though_others_used_the_attempts_up(client, ada):
    for number in range(10):
        sign_in(client, password="wrong", address=f"192.0.2.{number}")
    client.post(RESET, {"email": "ada@example.org"})
    page = client.get(link_of(sent()[0]), follow=True).redirect_chain[-1][0]
    new = "another long phrase"
    client.post(page, {"new_password1": new, "new_password2": new})
    sign_in(client, password=new, address="192.0.2.99")
    assert is_in(client)


@pytest.mark.parametrize("method", ["get", "post"])
def test_a_site_without_mail_says_so_and_sends_nothing(client, ada, settings, method):
    settings.EMAIL_CONFIGURED = False
    answer = getattr(client, method)(RESET, {"email": "ada@example.org"})
    assert "This site sends no mail." in answer.text
    assert sent() == []
    assert SignInAttempt.objects.count() == 0


def test_an_address_that_is_none_is_a_form_error(client, db):
    answer = client.post(RESET, {"email": "a@b.c,evil@x"})
    assert (answer.status_code, "valid email" in answer.text) == (200, True)


def test_an_account_that_an_operator_makes_is_opened_by_the_link_in_its_mail(client, db):
    client.force_login(make_operator("grace", "auth.view_user", "auth.add_user", "auth.change_user"))
    client.post(reverse("admin:auth_user_add"), {"username": "eva", "email": "eva@example.org"})
    eva = get_user_model().objects.get(username="eva")
    assert not eva.has_usable_password()
    [rendered] = sent()
    assert (rendered.to, rendered.subject) == (["eva@example.org"], "Your account at Fake Fintech OSS")
    assert "Set your password" in type(client)().get(link_of(rendered), follow=True).text


@pytest.mark.django_db
def test_sessions_that_are_over_are_pruned(client):
    client.force_login(make_owner())
    Session.objects.update(expire_date=timezone.now() - timedelta(seconds=1))
    client.cookies.clear()
    client.force_login(make_owner("eve"))
    prune()
    assert Session.objects.count() == 1
