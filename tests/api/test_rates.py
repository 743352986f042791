"""How many requests may come in a minute, and be answered at once."""

import json
import socket

import pytest
from django.conf import settings as django_settings
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.api import rates
from apps.api.rates import Bucket, Local, Shared, Turn
from apps.api.tokens.services import create_token
from tests.api.asking import URL, codes
from tests.builders import make_member
from tests.threads import at_once

ME = "{ me { username } }"
# That of the tests; conftest.py takes it out of the settings of each test.
REDIS_URL = django_settings.REDIS_URL


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.seconds = 1_000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def local(clock):
    return Local(clock)


@pytest.fixture
def at_redis(settings):
    """Return a function that has Redis at an address."""

    def have(url):
        settings.REDIS_URL = url
        rates._client.cache_clear()
        rates._script.cache_clear()

    yield have
    rates._client.cache_clear()
    rates._script.cache_clear()
    rates.forget()


@pytest.fixture
def shared(at_redis, monkeypatch):
    """Return the counter in Redis, with keys of its own."""
    monkeypatch.setattr(rates, "_PREFIX", "fintech:test-of-requests:")
    at_redis(REDIS_URL)
    for key in rates._client().scan_iter(f"{rates._PREFIX}*"):
        rates._client().delete(key)
    return Shared()


@pytest.fixture(params=["local", pytest.param("shared", marks=pytest.mark.servers)])
def counter(request):
    """Return each counter."""
    return Local() if request.param == "local" else request.getfixturevalue("shared")


def user(name="ada", *, per_minute=0, at_once=0):
    return Bucket("user", name, per_minute, at_once)


def test_a_minutes_worth_may_come_together_and_then_one_each_step(local, clock):
    bucket = user(per_minute=3)
    assert [local.take([bucket], str(number)).left for number in range(3)] == [2, 1, 0]
    refused = local.take([bucket], "4")
    assert (refused.refused, 19_999_999 <= refused.wait_microseconds <= 20_000_001) == (0, True)
    clock.seconds += 19.9
    assert local.take([bucket], "5").refused == 0
    clock.seconds += 0.2
    assert local.take([bucket], "6") == (0, None, 0)
    assert local.take([bucket], "7").refused == 0
    clock.seconds += 60
    assert local.take([bucket], "8").left == 2


def test_what_one_bucket_refuses_is_counted_in_none(counter):
    free, full = user("free", per_minute=2), user("full", per_minute=1, at_once=5)
    assert counter.take([full], "1").refused is None
    for number in range(5):
        assert counter.take([free, full], f"refused {number}").refused == 1
    assert [counter.take([free], f"free {number}").left for number in range(2)] == [1, 0]


def test_as_many_are_answered_at_once_as_may_and_a_place_that_is_left_is_free(counter):
    bucket = user(at_once=2)
    assert [counter.take([bucket], one).refused for one in "abc"] == [None, None, 0]
    assert counter.take([bucket], "d") == (None, 0, 0)
    counter.leave([bucket], "a")
    assert [counter.take([bucket], one).refused for one in "ef"] == [None, 0]
    counter.leave([bucket], "e")
    counter.leave([bucket], "b")
    assert [counter.take([bucket], one).refused for one in "gh"] == [None, None]


def test_of_many_at_the_same_time_no_more_pass_than_may(counter):
    bucket = user(per_minute=7, at_once=9)
    taken = at_once(*[lambda number=number: counter.take([bucket], str(number)) for number in range(20)])
    assert sorted(one.left for one in taken if one.refused is None) == list(range(7))


def test_what_is_left_is_exact_whatever_the_clock_says():
    clocks = [number * 7_919.000_123 for number in range(1_000)]
    lefts = {rates.Local(clock=lambda at=at: at).take([user(per_minute=7, at_once=9)], "x").left for at in clocks}
    assert lefts == {6}


def test_a_bucket_without_limits_allows_all(counter):
    assert {counter.take([user()], str(number)) for number in range(50)} == {(None, None, 0)}


def test_what_is_kept_in_the_process_is_bounded(local, monkeypatch):
    monkeypatch.setattr(rates, "_KEYS_KEPT", 10)
    for number in range(50):
        bucket = user(str(number), per_minute=5, at_once=1)
        local.take([bucket], "one")
        local.leave([bucket], "one")
    assert (len(local._used), len(local._open)) == (10, 0)


@pytest.mark.servers
def test_what_is_kept_in_redis_ends_by_itself(shared):
    bucket = user(per_minute=5, at_once=5)
    shared.take([bucket], "one")
    lives = [rates._client().pttl(key) for key in rates._keys(bucket)]
    assert [0 < one <= 60_000 for one in lives] == [True, True]


# A Redis that is away, or slow


def test_without_an_answer_of_redis_requests_are_counted_here_and_it_is_asked_once_in_a_while(at_redis, settings):
    settings.GRAPHQL_REQUESTS_PER_MINUTE = {"token": 0, "user": 2, "address": 0}
    with socket.create_server(("127.0.0.1", 0)) as silent:
        at_redis(f"redis://127.0.0.1:{silent.getsockname()[1]}/0")
        lefts = []
        for _ in range(2):
            with Turn() as turn:
                turn.take(user="ada")
                lefts.append(turn.left)
        with pytest.raises(rates.Refused) as refused, Turn() as turn:
            turn.take(user="ada")
        silent.setblocking(False)
        silent.accept()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert (lefts, refused.value.code) == ([1, 0], "RATE_LIMITED")


def test_a_redis_that_goes_while_a_request_is_answered_does_no_harm(at_redis, monkeypatch):
    at_redis("redis://127.0.0.1:1/0")
    monkeypatch.setattr(rates._shared, "take", lambda buckets, request_id: rates.Taken(5))
    with Turn() as turn:
        turn.take(user="ada")
    assert (turn.left, rates._counter()) == (5, rates._local)


# At /graphql


pytestmark = pytest.mark.django_db


def limited(settings, *, per_minute=None, at_once=None):
    none = dict.fromkeys(("token", "user", "address"), 0)
    settings.GRAPHQL_REQUESTS_PER_MINUTE = none | (per_minute or {})
    settings.GRAPHQL_REQUESTS_AT_ONCE = none | (at_once or {})


def test_too_many_of_a_user_are_refused_until_a_time_and_those_of_others_are_not(ask, ada, settings):
    limited(settings, per_minute={"user": 2})
    assert [ask(ME, user=ada).status_code for _ in range(2)] == [200, 200]
    refused = ask(ME, user=ada)
    assert (refused.status_code, codes(refused)) == (429, ["RATE_LIMITED"])
    assert refused.headers["Retry-After"] == "30"
    assert refused.json()["errors"][0]["message"] == "This user sends more than 2 requests a minute. Try again in 30 s."
    assert ask(ME, user=make_member("eve")).status_code == 200


def test_a_token_has_a_limit_of_its_own(ask, ada, settings):
    limited(settings, per_minute={"token": 1, "user": 3})
    first, second = (create_token(owner=ada, name=name)[1] for name in ("first", "second"))
    asked = [ask(ME, Authorization=f"Bearer {secret}") for secret in (first, first, second)]
    assert [one.status_code for one in asked] == [200, 429, 200]
    assert ask(ME, user=ada).status_code == 200
    assert ask(ME, user=ada).status_code == 429


def test_tokens_that_are_tried_are_counted_by_address_before_they_are_looked_for(ask, settings):
    limited(settings, per_minute={"address": 2})
    tried = [ask(ME, Authorization=f"Bearer {number}") for number in range(2)]
    with CaptureQueriesContext(connection) as statements:
        refused = ask(ME, Authorization="Bearer 3")
    assert ([one.status_code for one in tried], codes(refused)) == ([401, 401], ["RATE_LIMITED"])
    assert len(statements) == 0


def test_an_address_that_a_visitor_writes_is_not_believed(ask, settings):
    limited(settings, per_minute={"address": 1})
    asked = [ask(ME, **{"X-Forwarded-For": f"192.0.2.{number}"}) for number in range(2)]
    assert [one.status_code for one in asked] == [200, 429]


def test_one_more_at_once_than_may_is_refused_and_after_them_it_is_answered(ask, ada, settings):
    limited(settings, at_once={"user": 1})
    with Turn() as turn:
        turn.take(user=str(ada.pk))
        refused = ask(ME, user=ada)
    assert (refused.status_code, codes(refused), refused.headers["Retry-After"]) == (429, ["TOO_MANY_AT_ONCE"], "1")
    assert [ask(ME, user=ada).status_code for _ in range(2)] == [200, 200]


def test_a_request_that_is_refused_or_fails_leaves_its_place(ask, ada, settings):
    limited(settings, at_once={"user": 1, "address": 1})
    assert [ask(query, user=ada).status_code for query in ("{", "{ nothing }", ME)] == [400, 400, 200]


def test_the_page_and_the_rest_of_the_site_are_not_counted(client, ada, settings):
    limited(settings, per_minute={"user": 1, "address": 1})
    client.force_login(ada)
    for _ in range(3):
        assert client.get(URL, headers={"Accept": "text/html"}).status_code == 200


# Cost


def test_the_cost_is_said_to_whoever_asks_for_it(client, ada, settings):
    limited(settings, per_minute={"user": 10})
    client.force_login(ada)
    body = {"query": "{ rules(first: 5) { edges { node { name } } } }", "extensions": {"cost": True}}
    answers = [client.post(URL, json.dumps(body), content_type="application/json").json() for _ in range(2)]
    assert [one["extensions"] for one in answers] == [
        {"cost": {"requested": 1 + 5 * (1 + 1 + 1), "most": 10_000, "requestsLeft": left}} for left in (9, 8)
    ]
    for extensions in ({}, {"cost": False}, {"cost": 1}, {"other": True}):
        answer = client.post(URL, json.dumps(body | {"extensions": extensions}), content_type="application/json")
        assert "extensions" not in answer.json()


def test_without_a_limit_nothing_is_left_to_say(client, settings):
    limited(settings)
    body = {"query": ME, "extensions": {"cost": True}}
    answer = client.post(URL, json.dumps(body), content_type="application/json").json()
    assert answer["extensions"] == {"cost": {"requested": 2, "most": 10_000, "requestsLeft": None}}
