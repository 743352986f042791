"""Quotes pushed by HTTP at /ingest/<feed>: who may, what is refused, and what is answered."""

import json
import re
from decimal import Decimal

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.utils import timezone

from apps.api.tokens.models import ApiToken
from apps.api.tokens.services import create_token
from apps.market.models import Feed, FeedEntry, FeedHead, Quote
from apps.market.services import claim_feeds_pushed_to
from apps.sources.models import SenderClock
from tests.api.asking import codes
from tests.builders import make_feed, make_operator, make_owner
from tests.project.test_docs import blocks
from tests.rig import free_port

pytestmark = pytest.mark.django_db

URL = "/ingest/own"
JSON = "application/json"


@pytest.fixture(autouse=True)
def feed():
    return make_feed("A", "B", name="own", provider="push")


@pytest.fixture
def secret():
    """Return the token of somebody who may push quotes and nothing else."""
    _, secret = create_token(owner=make_operator("pusher", "market.push_quotes"), name="script", scope="write")
    return secret


@pytest.fixture
def push(client, secret):
    """Return a function that posts quotes, or any other content, with the token."""

    def post(*quotes, content=None, url=URL, content_type=JSON, **headers):
        body = json.dumps({"quotes": quotes}) if content is None else content
        return client.post(url, body, content_type=content_type, headers=bearer(secret) | headers)

    return post


def bearer(secret):
    return {"Authorization": f"Bearer {secret}"}


def quote(symbol="A", price="1", moment=None):
    return {"symbol": symbol, "price": price} | ({} if moment is None else {"at": moment})


def refused(response, status, code):
    """Assert that the answer has one error in words of ours, and that nothing was stored."""
    assert (response.status_code, codes(response)) == (status, [code]), response.content
    assert list(response.json()) == ["errors"]
    assert not FeedEntry.objects.exists()
    assert FeedHead.objects.get(feed__name="own").seq == 0
    return response.json()["errors"][0]["message"]


# What is taken


def test_quotes_are_stored_and_the_answer_counts_them(push):
    # In the past, as seen from this machine, and within what is kept.
    moments = [f"{Feed.objects.get().created_at:%Y-%m-%dT%H:%M:%S}.{part}Z" for part in ("000001", "000002")]
    push(quote(moment=moments[1]))
    response = push(
        {"symbol": "B", "price": 61230.5, "at": moments[1], "volume": "1.5"},
        quote(moment=moments[1]),
        quote(moment=moments[0]),
        quote("NOBODY"),
    )

    assert response.status_code == 200
    assert response.json() == {
        "entry": 2,
        "accepted": 1,
        "late": 1,
        "repeated": 1,
        "unconfirmed": 0,
        "rejected": {"unknown_asset": 1},
    }
    assert re.fullmatch("[0-9a-f]{16}", response.headers["X-Request-ID"])
    assert "no-store" in response.headers["Cache-Control"]
    assert Quote.objects.get(asset__symbol="B").price == Decimal("61230.5")


def test_a_push_is_seen_by_the_next_tick(push, feed):
    push(quote())

    assert claim_feeds_pushed_to(now=timezone.now()) == [feed.pk]


def test_each_token_and_each_session_has_a_clock_of_its_own(push, client, secret):
    ahead = quote(moment=timezone.now().timestamp() + 20)
    assert push(ahead).json()["accepted"] == 1
    _, other = create_token(owner=make_owner(), name="other", scope="write")
    get_user_model().objects.update(is_superuser=True)
    client.post(URL, json.dumps({"quotes": [ahead]}), content_type=JSON, headers=bearer(other))
    user = get_user_model().objects.get(username="pusher")
    client.force_login(user)
    client.post(URL, json.dumps({"quotes": [ahead]}), content_type=JSON)

    tokens = {f"token:{pk}" for pk in ApiToken.objects.values_list("pk", flat=True)}
    assert len(tokens) == 2
    assert set(SenderClock.objects.values_list("sender", flat=True)) == tokens | {f"user:{user.pk}"}


# Who may


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic YWRhOnBhc3M="}, {"Authorization": "Bearerx"}])
def test_a_stranger_is_refused(client, headers):
    response = client.post(URL, json.dumps({"quotes": [quote()]}), content_type=JSON, headers=headers)

    refused(response, 401, "UNAUTHENTICATED")
    assert response.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("secret", ["", "x", "fft_" + "0" * 40])
def test_a_token_that_is_none_is_refused(client, secret):
    response = client.post(URL, json.dumps({"quotes": [quote()]}), content_type=JSON, headers=bearer(secret))

    refused(response, 401, "INVALID_TOKEN")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="invalid_token"'


def test_a_token_that_only_reads_pushes_nothing(client):
    _, secret = create_token(owner=make_operator("grace", "market.push_quotes"), name="script")
    response = client.post(URL, json.dumps({"quotes": [quote()]}), content_type=JSON, headers=bearer(secret))

    refused(response, 403, "INSUFFICIENT_SCOPE")
    assert response.headers["WWW-Authenticate"] == 'Bearer error="insufficient_scope", scope="write"'


def test_who_lacks_the_permission_is_refused_whatever_the_feed(client):
    grace = make_operator("grace", "market.view_feed", "market.change_feed")
    _, secret = create_token(owner=grace, name="script", scope="write")
    answers = [
        client.post(url, json.dumps({"quotes": [quote()]}), content_type=JSON, headers=bearer(secret))
        for url in (URL, "/ingest/nobody")
    ]

    assert {refused(answer, 403, "FORBIDDEN") for answer in answers} == {"The owner of the token may not push quotes."}


def test_operators_may(client):
    ada = make_owner()
    ada.groups.add(Group.objects.get(name="Operator"))
    _, secret = create_token(owner=ada, name="script", scope="write")

    response = client.post(URL, json.dumps({"quotes": [quote()]}), content_type=JSON, headers=bearer(secret))
    assert response.status_code == 200


def test_a_session_needs_the_csrf_token():
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(make_operator("pusher", "market.push_quotes"))

    refused(browser.post(URL, json.dumps({"quotes": [quote()]}), content_type=JSON), 403, "CSRF_FAILED")
    page = browser.get("/graphql", headers={"Accept": "text/html"})
    token = page.text.partition('data-csrf="')[2].partition('"')[0]
    response = browser.post(URL, json.dumps({"quotes": [quote()]}), content_type=JSON, headers={"X-CSRFToken": token})
    assert response.status_code == 200


@pytest.mark.parametrize("name", ["nobody", "recording", "paused", "OWN", "a%00b", "%F0%9F%98%80"])
def test_a_feed_that_takes_no_quotes_is_as_if_it_were_not_there(push, name):
    make_feed("X", name="recording", provider="simulated")
    make_feed("Y", name="paused", provider="push")
    Feed.objects.filter(name="paused").update(is_enabled=False)

    message = refused(push(quote(), url=f"/ingest/{name}"), 404, "NOT_FOUND")
    assert message == "there is no feed of this name that takes quotes now"


# How


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options", "head"])
def test_only_post_is_answered(client, secret, method):
    response = getattr(client, method)(URL, headers=bearer(secret))

    assert (response.status_code, response.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "content_type",
    [
        *("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/csv", "text/html", ""),
        *("application/json; charset=utf-16", "text/plain; charset=latin-1", "application/jsonp", "text/plain-ish"),
    ],
)
def test_only_json_is_taken(push, content_type):
    refused(push(quote(), content_type=content_type), 415, "UNSUPPORTED_MEDIA_TYPE")


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "text/plain; charset=utf-8", "application/octet-stream", 'Application/JSON ; charset="UTF-8"'],
)
def test_json_is_taken_under_a_type_that_says_nothing_too(push, content_type):
    assert push(quote(), content_type=content_type).json()["accepted"] == 1


def test_json_with_a_byte_order_mark_is_taken(push):
    content = json.dumps({"quotes": [quote()]}).encode("utf-8-sig")

    assert push(content=content).json()["accepted"] == 1


def test_nothing_is_taken_from_the_address(push):
    refused(push(quote(), url=f"{URL}?quotes=1"), 400, "BAD_REQUEST")


def test_a_body_over_a_megabyte_is_refused(push):
    content = json.dumps({"quotes": [quote()]})

    assert push(content=content + " " * (1_000_000 - len(content))).status_code == 200
    assert push(content=content + " " * (1_000_001 - len(content))).status_code == 413
    assert FeedEntry.objects.count() == 1


def test_a_body_that_is_announced_as_too_large_is_not_read(client, secret):
    response = client.post(URL, b"{}", content_type=JSON, headers=bearer(secret), CONTENT_LENGTH="1000001")

    refused(response, 413, "LIMIT_EXCEEDED")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b" ", "the body is not JSON"),
        (b"\xff\xfe", "the body is not JSON"),
        (b"[" * 100_000, "the body is not JSON"),
        (b"[]", 'the body must be an object like {"quotes": […]}'),
        (b'{"quotes": []}', "quotes: must be a list of 1 to 5000 quotes"),
        (
            json.dumps({"quotes": [quote(), quote(), quote(), quote(price="abc")]}).encode(),
            "quotes[3].price: must be a number, or a text that is one",
        ),
        (b'{"quotes": [{"symbol": "A", "price": "1"}], "feed": "own"}', '"feed": is not known; known are quotes'),
    ],
    ids=range(7),
)
def test_what_is_malformed_is_refused_as_a_whole_with_its_place(push, content, message):
    assert refused(push(content=content), 400, "BAD_USER_INPUT") == message


@pytest.mark.parametrize("symbol", ["\0", "a\0b", "\ud800", "😀", "<script>", "x" * 900_000])
def test_a_symbol_that_no_asset_can_have_is_counted(push, symbol):
    response = push(quote(symbol), quote())

    assert (response.status_code, response.json()["accepted"]) == (200, 1)
    assert response.json()["rejected"] == {"unknown_asset": 1}


@pytest.mark.parametrize("value", ["0", "-0", "-1", "1e-30", "1e400", "1E999999", 2**63 * 10**6], ids=str)
def test_a_price_that_cannot_be_is_counted(push, value):
    assert push(quote(price=value)).json()["rejected"] == {"out_of_range": 1}
    assert not Quote.objects.exists()


@pytest.mark.parametrize(
    ("moment", "reason"),
    [
        ("yesterday", "time_malformed"),
        ("9" * 5_000, "time_malformed"),
        ("2026-11-25T12:00:00", "time_naive"),
        ("9999-12-31T23:59:59Z", "time_in_future"),
        ("1989-12-31T23:59:59Z", "time_out_of_range"),
        ("0001-01-01T00:00:00+14:00", "time_out_of_range"),
        (-1, "time_out_of_range"),
        (10**60, "time_out_of_range"),
        ("2001-01-01T00:00:00Z", "too_old"),
    ],
)
def test_a_time_that_cannot_be_is_counted(push, moment, reason):
    assert push(quote(moment=moment)).json()["rejected"] == {reason: 1}


# The example of the documents


def test_the_call_that_is_documented_is_taken(client, secret):
    [call] = [block for block in blocks("docs/feeds.md", "sh") if "curl" in block]
    [path] = re.findall(r"(/ingest/\S+)", call)
    headers = dict(re.findall(r"-H [\"']([\w-]+): ([^\"']*)[\"']", call))
    [content] = re.findall(r"-d '([^']*)'", call)
    make_feed("BTC-USD", name=path.rpartition("/")[2], provider="push")

    response = client.post(path, content, content_type=headers["Content-Type"], headers=bearer(secret))
    assert (headers["Authorization"], response.status_code) == ("Bearer $TOKEN", 200)
    assert sum(response.json()["rejected"].values(), response.json()["accepted"]) == 1


@pytest.mark.django_db(transaction=True)
@pytest.mark.servers
def test_while_the_database_is_away_it_says_so_and_stores_nothing(push):
    where = connection.settings_dict
    port = where["PORT"]
    connection.close()
    where["PORT"] = str(free_port())
    try:
        response = push(quote())
    finally:
        connection.close()
        where["PORT"] = port

    refused(response, 503, "UNAVAILABLE")
    assert response.headers["Retry-After"] == "5"
    assert push(quote()).json()["accepted"] == 1
