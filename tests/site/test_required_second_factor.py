"""Two-factor sign-in that the site requires: without it a person reaches the page that sets it up, and nothing else."""

import re
from datetime import timedelta

import pytest
from django.conf import settings as project_settings
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import URLResolver
from django.utils import timezone

from apps.accounts.queries import users_of_sessions
from apps.accounts.second_factor import must_turn_on, second_factor_of, turn_off, turn_on
from apps.api.tokens.services import create_token
from fintech.urls import urlpatterns
from tests.builders import make_owner
from tests.panel.test_walk import PAGES
from tests.site.test_second_factor import PAGE, PASSWORD, SIGN_IN, give, is_in, sign_in
from tests.totp import TOTP_SECRET, code_now

pytestmark = pytest.mark.django_db
OF_PROGRAMS, PROBES = ("/ingest/x", "/imports", "/alertmanager", "/metrics"), ("/healthz", "/readyz", "/status")
QUERY = {"query": "{ __typename }"}


@pytest.fixture
def ada(client, settings):
    settings.TWO_FACTOR_REQUIRED = "everyone"
    ada = make_owner("ada")
    client.force_login(ada)
    return ada


def addresses():
    own = [str(one.pattern) for one in urlpatterns if not isinstance(one, URLResolver)]
    filled = ["/" + re.sub(r"<int:\w+>", "1", re.sub(r"<(str:|asset:)?\w+>", "x", one)) for one in own]
    return set(filled) | {page.address(key="1") for page in PAGES if page.name != "old_address"}


def test_without_it_every_page_leads_to_where_it_is_set_up(client, ada):
    answers = {one: client.get(one, headers={"accept": "text/html"}) for one in addresses()}
    reached = {one for one, answer in answers.items() if (answer.status_code, answer.get("Location")) != (302, PAGE)}
    # The page itself, signing out, which takes a POST, and what shows nothing to a session.
    assert reached == {PAGE, "/accounts/logout/", *OF_PROGRAMS, *PROBES}
    assert [answers[one].status_code for one in OF_PROGRAMS] == [405, 405, 405, 403]
    assert len(answers) > 100


@pytest.mark.parametrize("address", ["/", "/portfolios/add/", "/admin/rules/rule/add/", "/accounts/profile/"])
def test_nothing_is_changed_without_it(client, ada, address):
    assert client.post(address, {"name": "x"})["Location"] == PAGE


def test_it_is_set_up_after_signing_in_and_then_every_page_opens(client, settings):
    settings.TWO_FACTOR_REQUIRED = "everyone"
    make_owner("ada")
    assert sign_in(client, next="/portfolios/")["Location"] == "/portfolios/"
    assert client.get("/portfolios/")["Location"] == PAGE
    page = client.get(PAGE).text
    assert "This site requires two-factor sign-in of you." in page
    assert "/accounts/profile/" not in page
    secret = client.session["second_factor_secret"]
    answer = client.post(PAGE, {"password": PASSWORD, "code": code_now(secret)})
    assert "recovery codes" in answer.text
    assert [client.get(one).status_code for one in ("/portfolios/", "/accounts/profile/", PAGE)] == [200] * 3


def test_who_wants_to_leave_signs_out(client, ada):
    assert 'action="/accounts/logout/"' in client.get(PAGE).text
    client.post("/accounts/logout/")
    assert not is_in(client)
    assert client.get(SIGN_IN).status_code == 200


def test_static_files_and_visitors_are_as_ever(client, ada):
    assert client.get("/static/site/icon.svg").status_code == 200
    assert [Client().get(one).status_code for one in ("/", SIGN_IN)] == [200] * 2


def test_who_turns_it_off_is_led_to_set_it_up_again(client, ada):
    turn_on(user=ada, secret=TOTP_SECRET, step=0)
    assert client.get("/portfolios/").status_code == 200
    assert give(client, code_now(), page="/accounts/second-factor/off/")["Location"] == PAGE
    assert client.get("/portfolios/")["Location"] == PAGE


def test_whose_was_turned_off_by_an_operator_is_led_there_from_the_next_page_on(client, ada):
    turn_on(user=ada, secret=TOTP_SECRET, step=0)
    turn_off(user=ada)
    assert client.get("/")["Location"] == PAGE


def test_a_session_asks_the_api_for_nothing_and_a_token_still_does(client, ada):
    asked = {"content_type": "application/json", "headers": {"accept": "application/json"}}
    answer = client.post("/graphql", QUERY, **asked)
    assert (answer.status_code, answer.json()["errors"][0]["extensions"]["code"]) == (403, "SECOND_FACTOR_REQUIRED")
    secret = create_token(owner=ada, name="night", expires_at=timezone.now() + timedelta(days=1))[1]
    asked["headers"] |= {"authorization": f"Bearer {secret}"}
    assert client.post("/graphql", QUERY, **asked).json() == {"data": {"__typename": "Query"}}


def test_a_stream_is_not_opened_by_its_session_and_an_open_one_ends(client, ada):
    key, now = client.session.session_key, timezone.now()
    assert users_of_sessions([key], now=now) == {}
    turn_on(user=ada, secret=TOTP_SECRET, step=0)
    assert users_of_sessions([key], now=now) == {key: ada}


def test_of_staff_are_those_who_may_do_more_than_owners(db, settings, django_assert_num_queries):
    root = User.objects.create_superuser("root", "", PASSWORD)
    owner, operator, other, own = (make_owner(name) for name in ("owner", "operator", "other", "own"))
    for one in (owner, operator):
        one.groups.add(Group.objects.get(name="Owner"))
    operator.groups.add(Group.objects.get(name="Operator"))
    other.groups.add(Group.objects.create(name="Auditors"))
    own.user_permissions.add(Permission.objects.get(codename="view_user"))
    everyone = [root, owner, operator, other, own]
    wanted = {"off": set(), "staff": {root, operator, other, own}, "everyone": set(everyone)}
    for setting, users in wanted.items():
        settings.TWO_FACTOR_REQUIRED = setting
        with django_assert_num_queries(0 if setting == "off" else 1):
            assert must_turn_on(everyone) == {one.pk for one in users}
    turn_on(user=root, secret=TOTP_SECRET, step=0)
    assert must_turn_on(everyone) == {one.pk for one in everyone[1:]}


def test_it_is_off_unless_it_is_set(client):
    assert project_settings.TWO_FACTOR_REQUIRED == "off"
    client.force_login(make_owner("ada"))
    assert client.get("/portfolios/").status_code == 200
    assert second_factor_of(User.objects.get()) is None
