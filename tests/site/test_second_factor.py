"""Two-factor sign-in: turned on from the profile, asked for at every sign-in, limited as passwords are."""

import re
import time

import pytest
from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group, User
from django.contrib.auth.tokens import default_token_generator
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.encoding import force_bytes
from django.utils.http import urlsafe_base64_encode

from apps.accounts.models import SignInAttempt
from apps.accounts.second_factor import AlreadyOn, second_factor_of, turn_on, use_code
from tests.builders import make_operator, make_owner
from tests.threads import at_once
from tests.totp import TOTP_SECRET as SECRET
from tests.totp import code_at, code_now

SIGN_IN, CODE = "/accounts/login/", "/accounts/login/code/"
PAGE, CODES, OFF = "/accounts/second-factor/", "/accounts/second-factor/codes/", "/accounts/second-factor/off/"
PASSWORD = "a long enough phrase"
USED_UP = "There were too many attempts"
WRONG = "This code is wrong, or was used already."


@pytest.fixture
def ada(db):
    return make_owner("ada")


@pytest.fixture
def codes(ada):
    """Ada has a second factor with SECRET; these are her recovery codes."""
    return turn_on(user=ada, secret=SECRET, step=0)


def wrong_code():
    right = {code_now(steps_later=steps) for steps in range(-3, 4)}
    return next(one for one in map(str, range(100_000, 200_000)) if one not in right)


def sign_in(client, password=PASSWORD, address="192.0.2.1", **form):
    return client.post(SIGN_IN, {"username": "ada", "password": password} | form, REMOTE_ADDR=address)


def give(client, code, address="192.0.2.1", page=CODE):
    return client.post(page, {"code": code}, REMOTE_ADDR=address)


def is_in(client):
    return "_auth_user_id" in client.session


def test_who_has_none_signs_in_by_the_password_alone(client, ada):
    answer = sign_in(client, next="/portfolios/")
    assert (answer.status_code, answer["Location"], is_in(client)) == (302, "/portfolios/", True)


def test_it_is_turned_on_from_the_profile_and_asked_for_from_then_on(client, ada):
    client.force_login(ada)
    assert f'href="{PAGE}"' in client.get("/accounts/profile/").text
    page = client.get(PAGE)
    secret = re.search(r'<code class="key">([A-Z2-7]{32})</code>', page.text)[1]
    assert "<svg" in page.text
    assert client.get(PAGE).text.count(secret) == 1

    answer = client.post(PAGE, {"password": PASSWORD, "code": code_now(secret)})

    codes = re.findall(r"<li><code>(\d{8})</code></li>", answer.text)
    assert len(set(codes)) == 10
    assert "no-store" in answer["Cache-Control"]
    assert secret not in client.get(PAGE).text
    other = Client()
    assert sign_in(other, next="/portfolios/")["Location"] == CODE
    assert not is_in(other)
    assert other.get("/portfolios/").status_code == 302
    answer = give(other, code_now(secret, steps_later=1))
    assert (answer.status_code, answer["Location"], is_in(other)) == (302, "/portfolios/", True)


@pytest.mark.parametrize("form", [{"password": "wrong"}, {"code": "000000"}, {"password": ""}, {"code": ""}])
def test_it_is_not_turned_on_without_the_password_and_the_code(client, ada, form):
    client.force_login(ada)
    client.get(PAGE)
    secret = client.session["second_factor_secret"]
    assert client.post(PAGE, {"password": PASSWORD, "code": code_now(secret)} | form).status_code == 200
    assert second_factor_of(ada) is None


def test_a_wrong_password_there_counts_as_one_of_sign_in(client, ada):
    client.force_login(ada)
    for _ in range(10):
        client.post(PAGE, {"password": "wrong", "code": "1"})
    assert USED_UP in client.post(PAGE, {"password": PASSWORD, "code": "1"}).text


def test_the_admin_is_no_way_around_it(client, admin_user):
    turn_on(user=admin_user, secret=SECRET, step=0)
    sign_in_page = client.get("/admin/", follow=True).redirect_chain[-1][0]
    assert sign_in_page == "/accounts/login/?next=%2Fadmin%2F"
    client.post(sign_in_page, {"username": "admin", "password": "password", "next": "/admin/"})
    assert not is_in(client)
    assert client.get("/admin/").status_code == 302
    assert give(client, code_now())["Location"] == "/admin/"
    assert client.get("/admin/").status_code == 200


def test_a_new_password_by_mail_is_no_way_around_it(client, ada, codes):
    link = reverse(
        "password_reset_confirm",
        args=[urlsafe_base64_encode(force_bytes(ada.pk)), default_token_generator.make_token(ada)],
    )
    page = client.get(link, follow=True).redirect_chain[-1][0]
    client.post(page, {"new_password1": "another long phrase", "new_password2": "another long phrase"})
    assert not is_in(client)
    assert sign_in(client, password="another long phrase")["Location"] == CODE


def test_the_page_of_the_code_is_for_who_gave_the_password(client, ada, codes):
    assert client.get(CODE)["Location"] == SIGN_IN
    assert give(client, code_now())["Location"] == SIGN_IN
    sign_in(client)
    page = client.get(CODE)
    assert "You are signing in as ada." in page.text
    assert "no-store" in page["Cache-Control"]


def test_a_password_that_was_given_a_quarter_of_an_hour_ago_is_asked_for_again(client, ada, codes, monkeypatch):
    sign_in(client)
    later = time.time() + 901
    monkeypatch.setattr("time.time", lambda: later)
    assert give(client, code_now())["Location"] == SIGN_IN
    assert not is_in(client)


def test_who_is_made_inactive_meanwhile_is_not_let_in(client, ada, codes):
    sign_in(client)
    User.objects.update(is_active=False)
    give(client, code_now())
    assert client.get("/accounts/profile/").status_code == 302


def test_spaces_in_a_code_do_not_matter(client, ada, codes):
    sign_in(client)
    code = code_now()
    give(client, f" {code[:3]} {code[3:]} ")
    assert is_in(client)


@pytest.mark.parametrize("steps_later", [-1, 0, 1])
def test_a_phone_may_be_half_a_minute_fast_or_slow(client, ada, codes, steps_later):
    assert use_code(user=ada, code=code_now(steps_later=steps_later), now=timezone.now()) is not None


@pytest.mark.parametrize("steps_later", [-3, 3])
def test_and_not_more(client, ada, codes, steps_later):
    assert use_code(user=ada, code=code_now(steps_later=steps_later), now=timezone.now()) is None


def test_a_code_works_once_and_none_before_it_afterwards(ada, codes):
    now = timezone.now()
    code, before = code_at(now.timestamp()), code_at(now.timestamp() - 30)
    assert use_code(user=ada, code=code, now=now) is not None
    assert use_code(user=ada, code=code, now=now) is None
    assert use_code(user=ada, code=before, now=now) is None


def test_the_code_that_turned_it_on_is_used_up(ada):
    now = timezone.now()
    step = int(now.timestamp()) // 30
    turn_on(user=ada, secret=SECRET, step=step)
    assert use_code(user=ada, code=code_at(now.timestamp()), now=now) is None


def test_each_recovery_code_works_once(client, ada, codes):
    for code in codes:
        browser = Client()
        sign_in(browser)
        give(browser, code)
        assert is_in(browser)
    assert second_factor_of(ada).recovery_codes_left == 0
    again = Client()
    sign_in(again)
    assert WRONG in give(again, codes[0]).text
    assert not is_in(again)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_the_same_code_at_once_one_comes_in():
    ada = make_owner("ada")
    recovery, *_ = turn_on(user=ada, secret=SECRET, step=0)
    for code in (code_now(), recovery):
        used = at_once(*[lambda code=code: use_code(user=ada, code=code, now=timezone.now()) is not None] * 6)
        assert sum(used) == 1


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_turned_on_twice_at_once_it_is_on_once():
    ada = make_owner("ada")

    def attempt():
        try:
            return turn_on(user=ada, secret=SECRET, step=0)
        except AlreadyOn:
            return None

    assert len([one for one in at_once(*[attempt] * 4) if one]) == 1
    assert Authenticator.objects.count() == 2


def test_wrong_codes_count_as_wrong_passwords_do(client, ada, codes):
    sign_in(client)
    answers = [give(client, wrong_code(), address=f"192.0.2.{number}") for number in range(10)]
    assert [WRONG in answer.text for answer in answers] == [True] * 9 + [False]
    assert USED_UP in answers[9].text
    assert USED_UP in give(client, code_now(), address="192.0.2.99").text
    assert not is_in(client)
    assert USED_UP in sign_in(Client(), address="192.0.2.99").text


def test_wrong_passwords_count_for_codes(client, ada, codes):
    sign_in(client)
    for number in range(10):
        sign_in(Client(), password="wrong", address=f"192.0.2.{number}")
    assert USED_UP in give(client, code_now(), address="192.0.2.99").text
    assert not is_in(client)


def test_twenty_wrong_codes_from_one_address_are_all(client, ada, codes):
    for number in range(20):
        sign_in(Client(), password="wrong", username=f"eva{number}", address="192.0.2.7")
    browser = Client()
    sign_in(browser)
    assert USED_UP in give(browser, code_now(), address="192.0.2.7").text


def test_a_right_code_uses_nothing_up(client, ada, codes):
    sign_in(client)
    give(client, code_now())
    assert SignInAttempt.objects.count() == 0


def test_the_session_is_a_new_one_from_the_code_on(client, ada, codes):
    sign_in(client)
    before = client.session.session_key
    give(client, code_now())
    assert client.session.session_key not in (None, before)


def test_new_recovery_codes_take_a_code_and_end_the_old_ones(client, ada, codes):
    client.force_login(ada)
    assert WRONG in give(client, wrong_code(), page=CODES).text
    answer = give(client, codes[0], page=CODES)
    new = re.findall(r"<li><code>(\d{8})</code></li>", answer.text)
    assert len(set(new)) == 10
    assert set(new) & set(codes) == set()
    now = timezone.now()
    assert use_code(user=ada, code=codes[1], now=now) is None
    assert use_code(user=ada, code=new[1], now=now) is not None


def test_turning_it_off_takes_a_code(client, ada, codes):
    client.force_login(ada)
    assert WRONG in give(client, wrong_code(), page=OFF).text
    assert second_factor_of(ada) is not None
    assert "Two-factor sign-in is off" in give(client, code_now(), page=OFF).text
    assert Authenticator.objects.count() == 0
    sign_in(other := Client())
    assert is_in(other)


@pytest.mark.parametrize("page", [CODES, OFF])
def test_without_one_these_pages_lead_to_the_way_to_one(client, ada, page):
    client.force_login(ada)
    assert client.get(page)["Location"] == PAGE


@pytest.mark.parametrize("page", [PAGE, CODES, OFF])
def test_these_pages_are_for_who_is_signed_in(client, db, page):
    assert client.get(page)["Location"] == f"{SIGN_IN}?next={page}"


def test_the_secrets_are_encrypted_in_the_database(ada, codes):
    rows = list(Authenticator.objects.values_list("data", flat=True))
    assert SECRET not in str(rows)
    assert [rows_of for rows_of in rows if len(rows_of.get("secret", rows_of.get("seed"))) < 60] == []


def test_with_another_key_the_page_says_so_and_counts_nothing(client, ada, codes, settings):
    settings.CHANNEL_ENCRYPTION_KEYS = ["another key of thirty-two characters"]
    sign_in(client)
    assert "its key was changed" in give(client, code_now()).text
    assert SignInAttempt.objects.count() == 0
    client.force_login(ada)
    assert client.get(PAGE).status_code == 200


def test_when_it_was_used_is_shown(client, ada, codes):
    assert second_factor_of(ada).last_used_at is None
    now = timezone.now()
    use_code(user=ada, code=codes[0], now=now)
    factor = second_factor_of(ada)
    assert (factor.last_used_at, factor.recovery_codes_left) == (now, 9)
    assert factor.since <= now


def test_a_person_with_a_second_factor_deletes_the_account_with_it(client, ada, codes):
    client.force_login(ada)
    assert "Authenticator app and recovery codes: 2" in client.get("/accounts/delete/").text
    client.post("/accounts/delete/", {"password": PASSWORD})
    assert (User.objects.filter(username="ada").count(), Authenticator.objects.count()) == (0, 0)


@pytest.fixture
def grace(db):
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    return grace


def page_of(user):
    return reverse("admin:auth_user_second_factor", args=[user.pk])


def test_a_lost_one_is_turned_off_and_that_is_recorded(client, grace, ada, codes):
    client.force_login(grace)
    change = reverse("admin:auth_user_change", args=[ada.pk])
    assert page_of(ada) in client.get(change).text
    assert "First make sure that it is ada" in client.get(page_of(ada)).text
    assert second_factor_of(ada) is not None
    assert client.post(page_of(ada)).url == change
    assert second_factor_of(ada) is None
    assert "Turned two-factor sign-in off." in client.get(f"{change[:-7]}history/").text
    assert "Only the person can turn it on" in client.get(change).text
    sign_in(other := Client())
    assert is_in(other)


def test_an_operator_does_it_to_nobody_who_may_do_more(client, grace):
    root = User.objects.create_superuser("root", "root@example.org", PASSWORD)
    turn_on(user=root, secret=SECRET, step=0)
    client.force_login(grace)
    assert [client.get(page_of(root)).status_code, client.post(page_of(root)).status_code] == [403] * 2
    assert second_factor_of(root) is not None
    assert "two-factor" not in client.get(reverse("admin:auth_user_change", args=[root.pk])).text.lower()


def test_ones_own_takes_a_code(client, grace):
    turn_on(user=grace, secret=SECRET, step=0)
    client.force_login(grace)
    client.post(page_of(grace))
    assert second_factor_of(grace) is not None


def test_no_page_of_the_admin_shows_the_rows(admin_client, ada, codes):
    for model in ("mfa/authenticator", "socialaccount/socialaccount", "account/emailaddress"):
        assert admin_client.get(f"/admin/{model}/").status_code == 404
