"""Streams of quotes and alerts as clients see them: what comes, what does not, and how one goes on."""

import asyncio
import json
from collections import Counter
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import get_user_model
from django.db import transaction
from django.test import Client
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.services import acknowledge
from apps.api.graphql.connections import place_of
from apps.api.graphql.context import Context
from apps.api.live import application, hub
from apps.api.live.application import PATH
from apps.api.live.kinds import KINDS
from apps.api.tokens.models import ApiToken
from apps.api.tokens.services import create_token, revoke_token
from apps.market.models import FeedEntry
from tests.api.live.following import ALERTS, QUOTES, append, running
from tests.builders import append_owned, at, make_feed, make_member, make_notified_alerts, make_owned
from tests.rig import wait_until
from tests.threads import elsewhere

# The process has connections of its own, so what it reads is committed.
pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def live():
    with running() as service:
        yield service


@pytest.fixture
def feed():
    return make_feed("A", "B", "C", name="coins")


def token_of(user):
    return create_token(owner=user, name="follower")[1]


@pytest.fixture
def ada():
    return make_member("ada")


@pytest.fixture
def token(ada):
    return token_of(ada)


def prices(follower, count):
    return [follower.data()["price"] for _ in range(count)]


def test_new_quotes_of_the_assets_come_in_the_order_of_the_log(live, feed, token):
    append(feed, [("A", at(0), "101")])
    follower = live.follow(QUOTES, {"assets": ["A", "B"]}, token=token)
    assert (follower.response.status, follower.response.headers["Content-Type"]) == (
        200,
        "text/event-stream; charset=utf-8",
    )
    append(feed, [("A", at(1), "102"), ("C", at(1), "108"), ("B", at(1), "103")])
    append(feed, [("C", at(2), "109")])
    append(feed, [("A", at(3), "104")])
    assert prices(follower, 3) == ["102", "103", "104"]


def test_an_owner_follows_an_asset_of_their_own_beside_others(live, feed, ada, token):
    series = make_owned(ada, "MINE")
    follower = live.follow(QUOTES, {"assets": ["MINE", "A"]}, token=token)
    other = live.follow(QUOTES, {"assets": ["MINE"]}, token=token_of(make_member("eve")))
    assert other.next().data["errors"][0]["message"] == "No asset is called MINE."
    append_owned(series, [("MINE", at(1), "7")])
    assert prices(follower, 1) == ["7"]
    append(feed, [("A", at(2), "102")])
    assert prices(follower, 1) == ["102"]


def test_who_goes_on_from_a_cursor_gets_the_rest_and_nothing_twice_but_the_entry_it_was_in(live, feed, token):
    follower = live.follow(QUOTES, {"assets": ["A", "B"]}, token=token)
    append(feed, [("A", at(1), "101"), ("B", at(1), "102")])
    append(feed, [("A", at(2), "103")])
    events = [follower.next() for _ in range(3)]
    follower.close()
    append(feed, [("A", at(3), "104")])
    for event, rest in zip(events, (["101", "102", "103", "104"], ["103", "104"], ["104"]), strict=True):
        cursor = event.data["data"]["quoteUpdated"]["cursor"]
        assert event.id == cursor
        again = live.follow(QUOTES, {"assets": ["A", "B"], "after": cursor}, token=token)
        assert prices(again, len(rest)) == rest
        again.close()
    # What comes then, comes too; and what a browser sends by itself goes before.
    last = live.follow(
        QUOTES, {"assets": ["A"], "after": events[0].id}, token=token, headers={"Last-Event-ID": events[2].id}
    )
    append(feed, [("A", at(4), "105")])
    assert prices(last, 2) == ["104", "105"]


def test_a_quote_is_not_lost_where_several_feeds_go_on(live, token):
    one, other = make_feed("A", name="one"), make_feed("B", name="other")
    follower = live.follow(QUOTES, {"assets": ["A", "B"]}, token=token)
    append(one, [("A", at(1), "101")])
    cursor = follower.data()["cursor"]
    follower.close()
    append(other, [("B", at(1), "102")])
    append(one, [("A", at(2), "103")])
    again = live.follow(QUOTES, {"assets": ["A", "B"], "after": cursor}, token=token)
    assert sorted(prices(again, 2)) == ["102", "103"]


def test_conflated_an_asset_waits_with_its_newest_quote_alone(live, feed, token):
    query = 'subscription { quoteUpdated(assets: ["A", "B"], conflate: true) { price } }'
    follower = live.follow(query, token=token)
    [stream] = live.hub._streams()
    place = (feed.pk, 10)
    stream.put([hub.Message(place, 1, b"1"), hub.Message(place, 2, b"2"), hub.Message(place, 1, b"3")])
    assert stream._waiting == {("subject", 2): b"2", ("subject", 1): b"3"}
    follower.close()


@pytest.fixture
def opened(ada):
    """Return Ada's open alert."""
    return make_notified_alerts(ada, 1)[0]


def test_a_step_of_an_alert_comes_to_whom_it_may_be_shown(live, ada, token, opened, admin_user):
    eve = make_member("eve")
    followers = {user: live.follow(ALERTS, token=token_of(user)) for user in (ada, eve, admin_user)}
    acknowledge(alerts=Alert.objects.filter(pk=opened.pk), by=ada, note="", now=timezone.now())
    for user in (ada, admin_user):
        change = followers[user].data()
        assert (change["event"], change["alert"]) == ({"kind": "ACKNOWLEDGED"}, {"summary": opened.summary})
    [hers] = make_notified_alerts(eve, 1, name="eves")
    assert followers[eve].data()["alert"] == {"summary": hers.summary}


def note(alert, entry=None):
    """Write one more step, as a correction is noted."""
    entry = entry or append(alert.asset.feed, [(alert.asset.symbol, at(60 + AlertEvent.objects.count()), "11")])
    return AlertEvent.objects.create(alert=alert, kind="corrected", at=at(0), entry=entry)


def test_an_event_that_commits_before_one_with_a_smaller_id_loses_nobody_the_other(live, token, opened):
    follower = live.follow(ALERTS, token=token)
    note(opened)
    cursor = follower.data()["cursor"]
    follower.close()
    entries = [append(opened.asset.feed, [(opened.asset.symbol, at(100 + n), "11")]) for n in range(2)]
    with transaction.atomic():
        first = note(opened, entries[0])
        second_id = elsewhere(lambda: note(opened, entries[1]).pk)
        assert first.pk < second_id
        # The reader looks before and after a client connects, all between the two commits: neither event is over yet.
        elsewhere(lambda: live.hub._read(KINDS["alertChanged"]))
        again = live.follow(ALERTS, {"after": cursor}, token=token)
        elsewhere(lambda: live.hub._read(KINDS["alertChanged"]))
    got = [again.data()["cursor"] for _ in range(2)]
    context = Context(user=get_user_model().objects.get(username="ada"))
    assert [place_of(one, name="alertChanged", context=context)[1] for one in got] == [first.pk, second_id]


def refused(follower):
    """Return the code with which a stream ends at once."""
    assert follower.response.status == 200
    event = follower.next()
    assert follower.next().name == "complete"
    assert follower.next() is None
    [error] = event.data["errors"]
    return error["extensions"]["code"]


def test_a_cursor_behind_which_too_much_was_missed_is_too_old(live, feed, token, monkeypatch):
    follower = live.follow(QUOTES, {"assets": ["A"]}, token=token)
    append(feed, [("A", at(1), "1")])
    cursor = follower.data()["cursor"]
    append(feed, [("B", at(2), "1")])
    FeedEntry.objects.update(received_at=timezone.now() - timedelta(hours=2))
    # Nothing of A was missed, however old its cursor is.
    again = live.follow(QUOTES, {"assets": ["A"], "after": cursor}, token=token)
    append(feed, [("A", at(3), "1.1")])
    assert prices(again, 1) == ["1.1"]
    monkeypatch.setattr("apps.api.live.application.MISSED_LARGEST", 0)
    assert refused(live.follow(QUOTES, {"assets": ["A"], "after": cursor}, token=token)) == "CURSOR_TOO_OLD"
    monkeypatch.undo()
    FeedEntry.objects.update(received_at=timezone.now() - timedelta(hours=2))
    assert refused(live.follow(QUOTES, {"assets": ["A"], "after": cursor}, token=token)) == "CURSOR_TOO_OLD"


def test_a_cursor_of_an_alert_is_too_old_after_an_hour(live, token, opened):
    follower = live.follow(ALERTS, token=token)
    note(opened)
    cursor = follower.data()["cursor"]
    note(opened)
    assert follower.data()["cursor"] != cursor
    AlertEvent.objects.update(created_at=timezone.now() - timedelta(minutes=61))
    assert refused(live.follow(ALERTS, {"after": cursor}, token=token)) == "CURSOR_TOO_OLD"


# (query, variables, the code of the refusal)
NOT_FOLLOWED = [
    ("subscription {", {}, "GRAPHQL_PARSE_FAILED"),
    ("subscription { nothing }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("subscription { quoteUpdated(assets: []) { price } }", {}, "BAD_USER_INPUT"),
    ('subscription { quoteUpdated(assets: ["ABSENT"]) { price } }', {}, "BAD_USER_INPUT"),
    (QUOTES, {"assets": ["A"] * 101}, "BAD_USER_INPUT"),
    (QUOTES, {"assets": ["A"], "after": "none"}, "BAD_USER_INPUT"),
    (ALERTS, {"after": "none"}, "BAD_USER_INPUT"),
    ("{ me { username } }", {}, "BAD_REQUEST"),
    ("subscription { alertChanged { cursor } a: alertChanged { cursor } }", {}, "GRAPHQL_VALIDATION_FAILED"),
    ("subscription { alertChanged @skip(if: true) { cursor } }", {}, "BAD_REQUEST"),
]


def test_what_cannot_be_followed_is_said_by_an_event(live, feed, token):
    codes = [refused(live.follow(query, variables, token=token)) for query, variables, _ in NOT_FOLLOWED]
    assert codes == [code for _, _, code in NOT_FOLLOWED]
    assert live.opened() == 0


def answer(follower):
    """Return status and code of a request that got no stream."""
    [error] = json.loads(follower.response.read())["errors"]
    return follower.response.status, error["extensions"]["code"]


def test_who_may_not_follow_gets_no_stream(live, feed, ada, token):
    assert answer(live.follow(ALERTS)) == (401, "UNAUTHENTICATED")
    assert answer(live.follow(QUOTES, {"assets": ["A"]})) == (401, "UNAUTHENTICATED")
    assert answer(live.follow(ALERTS, token="fintech_none")) == (401, "INVALID_TOKEN")
    of_metrics = create_token(owner=ada, name="prometheus", scope=ApiToken.Scope.METRICS)[1]
    assert answer(live.follow(ALERTS, token=of_metrics)) == (403, "INSUFFICIENT_SCOPE")
    assert answer(live.follow(ALERTS, token=token, headers={"Accept": "application/json"})) == (406, "NOT_ACCEPTABLE")
    assert answer(live.follow(ALERTS, token=token, path="/graphql")) == (404, "NOT_FOUND")
    assert answer(live.follow(ALERTS, token=token, headers={"Content-Type": "text/plain"}))[0] == 415


def test_an_open_market_is_followed_by_strangers(live, feed, settings):
    settings.MARKET_IS_PUBLIC = True
    follower = live.follow(QUOTES, {"assets": ["A"]})
    append(feed, [("A", at(1), "1")])
    assert prices(follower, 1) == ["1"]
    assert answer(live.follow(ALERTS)) == (401, "UNAUTHENTICATED")


def test_a_viewer_has_a_bounded_number_of_streams(live, feed, token, ada, monkeypatch):
    monkeypatch.setattr(hub, "STREAMS_PER_VIEWER", 2)
    followers = [live.follow(QUOTES, {"assets": ["A"]}, token=one) for one in (token, token_of(ada))]
    assert answer(live.follow(ALERTS, token=token)) == (429, "TOO_MANY_STREAMS")
    assert live.follow(ALERTS, token=token_of(make_member("eve"))).response.status == 200
    followers[0].close()
    assert wait_until(lambda: live.opened() == 2)
    assert live.follow(ALERTS, token=token).response.status == 200


def test_strangers_of_an_address_have_a_bounded_number_of_streams_together(live, feed, token, settings, monkeypatch):
    settings.MARKET_IS_PUBLIC = True
    monkeypatch.setattr(hub, "STREAMS_PER_VIEWER", 1)
    assert live.follow(QUOTES, {"assets": ["A"]}).response.status == 200
    assert answer(live.follow(QUOTES, {"assets": ["B"]})) == (429, "TOO_MANY_STREAMS")
    assert live.follow(QUOTES, {"assets": ["A"]}, token=token).response.status == 200


def test_a_request_that_does_not_come_whole_in_time_is_refused(live, token, monkeypatch):
    monkeypatch.setattr(application, "BODY_WITHIN_SECONDS", 0.1)
    late = live.follow(ALERTS, token=token, headers={"Content-Length": "60000"})
    assert answer(late) == (408, "REQUEST_TIMEOUT")
    assert live.opened() == 0


def test_a_process_has_a_bounded_number_of_streams(feed, token):
    with running(streams_largest=1) as live:
        assert live.follow(ALERTS, token=token).response.status == 200
        other = live.follow(ALERTS, token=token_of(make_member("eve")))
        assert (other.response.headers["Retry-After"], answer(other)) == ("5", (503, "UNAVAILABLE"))


def test_what_several_streams_of_a_viewer_follow_is_made_once(live, feed, ada, token, monkeypatch):
    made, write = Counter(), hub.Group._written

    def written(group, update, context):
        made[context.user.username] += 1
        return write(group, update, context)

    monkeypatch.setattr(hub.Group, "_written", written)
    tokens = [token, token_of(ada), token, token_of(make_member("eve"))]
    followers = [live.follow(QUOTES, {"assets": ["A"]}, token=one) for one in tokens]
    append(feed, [("A", at(1), "101"), ("B", at(1), "102")])
    assert [prices(one, 1) for one in followers] == [["101"]] * 4
    assert made == {"ada": 1, "eve": 1}


def check(live):
    asyncio.run_coroutine_threadsafe(live.hub.check(), live.hub._loop).result(10)


def test_a_check_that_fails_is_made_again(live, token, ada, monkeypatch):
    follower = live.follow(ALERTS, token=token)
    checks = []

    def in_force(credentials, *, now):
        checks.append(credentials)
        if len(checks) == 1:
            raise ValueError("unforeseen")
        return {}

    monkeypatch.setattr(hub, "in_force", in_force)
    monkeypatch.setattr(hub, "CHECK_EVERY_SECONDS", 0.01)
    checking = asyncio.run_coroutine_threadsafe(live.hub._check_for_ever(), live.hub._loop)
    assert refused(follower) == "INVALID_TOKEN"
    checking.cancel()


def test_a_comment_comes_while_nothing_happens(live, token, monkeypatch):
    monkeypatch.setattr(application, "HEARTBEAT_SECONDS", 0.05)
    follower = live.follow(ALERTS, token=token)
    lines = iter(follower.response.readline, b"")
    assert [line for line, _ in zip((line for line in lines if line == b":\n"), range(2), strict=False)] == [b":\n"] * 2


def test_a_stream_ends_when_its_token_is_in_force_no_more(live, token):
    users = [make_member(name) for name in ("revoked", "expired", "inactive", "well")]
    followers = [live.follow(ALERTS, token=token_of(user)) for user in users]
    revoked, expired, inactive, _ = users
    revoke_token(token=revoked.api_tokens.get(), now=timezone.now())
    expired.api_tokens.update(expires_at=timezone.now())
    get_user_model().objects.filter(pk=inactive.pk).update(is_active=False)
    check(live)
    assert [refused(follower) for follower in followers[:3]] == ["INVALID_TOKEN"] * 3
    assert wait_until(lambda: live.opened() == 1)
    [well] = make_notified_alerts(users[3], 1)
    assert followers[3].data()["alert"] == {"summary": well.summary}


@pytest.fixture
def session(ada):
    """Return the cookies of Ada's session, and its CSRF token."""
    browser = Client(enforce_csrf_checks=True)
    browser.force_login(ada)
    csrf = "a" * 32
    return (
        browser,
        f"{django_settings.SESSION_COOKIE_NAME}={browser.cookies['sessionid'].value}; csrftoken={csrf}",
        csrf,
    )


def by_get(query, **more):
    return f"{PATH}?{urlencode({'query': query} | more)}"


def test_a_session_follows_by_get_from_a_page_of_the_site_alone(live, feed, session, settings):
    _, cookie, _ = session
    own = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    path = by_get(QUOTES, variables=json.dumps({"assets": ["A"]}))
    follower = live.follow("", headers=own, method="GET", path=path)
    append(feed, [("A", at(1), "1")])
    assert prices(follower, 1) == ["1"]
    # In development the pages come from another port.
    settings.SITE_URL = "http://127.0.0.1:8000"
    elsewhere_served = {"Cookie": cookie, "Sec-Fetch-Site": "same-site", "Origin": settings.SITE_URL}
    follower = live.follow("", headers=elsewhere_served, method="GET", path=path)
    assert follower.response.status == 200
    assert follower.response.headers["Access-Control-Allow-Origin"] == settings.SITE_URL
    assert follower.response.headers["Access-Control-Allow-Credentials"] == "true"
    for headers in (
        {"Cookie": cookie},
        {"Cookie": cookie, "Sec-Fetch-Site": "cross-site"},
        {"Cookie": cookie, "Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9999"},
    ):
        other = live.follow("", headers=headers, method="GET", path=path)
        assert answer(other) == (403, "CSRF_FAILED")
        assert "Access-Control-Allow-Origin" not in other.response.headers
    assert refused(live.follow("", headers=own, method="GET", path=by_get(ALERTS, token="x"))) == "BAD_REQUEST"


def test_a_token_is_not_taken_by_get(live, token, session):
    _, cookie, _ = session
    own = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    assert refused(live.follow("", token=token, headers=own, method="GET", path=by_get(ALERTS))) == "BAD_REQUEST"
    assert live.opened() == 0


def test_a_page_of_the_site_alone_may_ask_from_another_port(live, settings):
    """A browser asks by OPTIONS before it posts to another port, as in development."""
    settings.SITE_URL = "http://127.0.0.1:8000"
    found = {}
    for origin in (settings.SITE_URL, "http://127.0.0.1:9999"):
        asked = live.follow("", headers={"Origin": origin}, method="OPTIONS").response
        assert (asked.status, asked.headers["Access-Control-Allow-Methods"]) == (204, "GET, POST")
        found[origin] = asked.headers["Access-Control-Allow-Origin"], asked.headers["Access-Control-Allow-Credentials"]
    assert found == {settings.SITE_URL: (settings.SITE_URL, "true"), "http://127.0.0.1:9999": (None, None)}


def test_a_trusted_document_is_followed_by_its_name_and_nothing_else_where_that_is_wanted(
    live, feed, session, settings, tmp_path
):
    _, cookie, _ = session
    own = {"Cookie": cookie, "Sec-Fetch-Site": "same-origin"}
    settings.TRUSTED_DOCUMENTS, settings.TRUSTED_DOCUMENTS_ONLY = str(tmp_path), True
    (tmp_path / "prices.graphql").write_text(QUOTES)
    path = f"{PATH}?{urlencode({'documentId': 'prices', 'variables': json.dumps({'assets': ['A']})})}"
    follower = live.follow("", headers=own, method="GET", path=path)
    append(feed, [("A", at(1), "101")])
    assert prices(follower, 1) == ["101"]
    assert refused(live.follow("", headers=own, method="GET", path=by_get(ALERTS))) == "DOCUMENT_REQUIRED"


def test_a_session_posts_with_its_csrf_token_and_ends_with_the_password(live, ada, session):
    _, cookie, csrf = session
    assert answer(live.follow(ALERTS, headers={"Cookie": cookie})) == (403, "CSRF_FAILED")
    follower = live.follow(ALERTS, headers={"Cookie": cookie, "X-CSRFToken": csrf})
    assert follower.response.status == 200
    check(live)
    ada.set_password("another long phrase")
    ada.save()
    check(live)
    assert refused(follower) == "INVALID_TOKEN"


def test_a_stop_cuts_the_connections_without_complete(live, token):
    follower = live.follow(ALERTS, token=token)
    live.server.should_exit = True
    assert follower.next() is None


def test_who_takes_nothing_is_cut(live, feed, token, monkeypatch):
    monkeypatch.setattr(hub, "WAITING_BYTES", 10)
    follower = live.follow(QUOTES, {"assets": ["A"]}, token=token)
    append(feed, [("A", at(1), "1")])
    # More waits at once than may: it is cut whether or not the rest was sent.
    assert follower.next() is None or follower.next() is None
