"""Alerts that saw a price which is corrected later: what their timeline says, and who is notified."""

import pytest
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.replay import replay
from apps.market import services as market
from apps.market.domain import AdmittedQuote
from apps.market.models import Quote
from apps.notify.decision import Decision
from apps.notify.models import Message, Notification
from apps.notify.services import create_channel, plan, set_channels
from apps.notify.services.sending import render
from apps.pipeline import corrections, flow
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule, notify_all
from tests.pipeline.test_corrections import delete, replace, rolled_up

pytestmark = pytest.mark.django_db

OTHER_TRACE = "1" * 32


@pytest.fixture
def channels():
    """Return a channel that wants resolutions, and one that does not."""
    owner = make_owner()
    return [
        create_channel(owner=owner, name=name, kind="inbox", config={}, wants_resolved=name == "both")
        for name in ("both", "openings")
    ]


@pytest.fixture
def feed(channels):
    """Return a feed with quotes of A at 0, 10 and 20 s, and an alert of the second that is over with the third."""
    feed = make_feed("A", "B", jump_percent=0)
    rule = make_rule(channels[0].owner, name="High", assets=["A"], condition=above(100))
    set_channels(rule=rule, channels=channels)
    for seconds, price in ((0, "90"), (10, "900"), (20, "91")):
        append_quotes(feed, [("A", at(seconds), price), ("B", at(seconds), price)])
    flow.evaluate_pending(feed_id=feed.pk)
    notify_all()
    return feed


def evaluated(feed):
    """Evaluate what is pending, and return what was noted of the alerts, in order: the correction, when, in which
    entry."""
    flow.evaluate_pending(feed_id=feed.pk)
    events = AlertEvent.objects.filter(kind=AlertEvent.Kind.CORRECTED).order_by("pk")
    return [(event.correction, event.at, event.entry.kind) for event in events]


def of(seconds, before, after):
    return {"at": at(seconds).isoformat(), "before": before, "after": after}


def test_an_alert_whose_price_is_corrected_says_the_old_and_the_new_one(feed):
    alert = Alert.objects.get()
    replace(feed, ("A", at(10), "95"))

    assert evaluated(feed) == [(of(10, "900", "95"), at(20), "correction")]
    again = Alert.objects.get()
    assert (again.evidence, again.summary, again.resolved_at) == (alert.evidence, alert.summary, at(20))
    report = replay(feed, since=START, until=at(100), progress=lambda done: None)
    assert (report.same, report.missing, report.extra) == (2, [], [])


@pytest.mark.parametrize(
    ("correct", "noted"),
    [
        (lambda feed: delete(feed, "A", at(10), at(11)), of(10, "900", None)),
        (lambda feed: delete(feed, "A", at(0), at(11)), of(10, "900", None)),
        # Of its evidence, the quote before.
        (lambda feed: replace(feed, ("A", at(0), "80")), of(0, "90", "80")),
        # What is named there goes before what only lies between.
        (lambda feed: replace(feed, ("A", at(0), "80"), ("A", at(9), "70")), of(0, "90", "80")),
        (lambda feed: replace(feed, ("A", at(9), "70")), of(9, None, "70")),
    ],
    ids=["deleted", "deleted with others", "the quote before", "named", "added"],
)
def test_what_is_corrected_between_the_first_and_the_last_moment_of_the_evidence_is_noted(feed, correct, noted):
    correct(feed)
    assert [correction for correction, _, _ in evaluated(feed)] == [noted]


@pytest.mark.parametrize(
    "correct",
    [
        lambda feed: replace(feed, ("A", at(20), "99")),
        lambda feed: replace(feed, ("A", at(-1), "99")),
        lambda feed: replace(feed, ("B", at(10), "99")),
        lambda feed: replace(feed, ("A", at(10), "900")),
    ],
    ids=["after it", "before it", "another asset", "the same price"],
)
def test_other_alerts_are_left(feed, correct):
    correct(feed)
    assert evaluated(feed) == []


def test_a_window_of_the_past_is_seen_from_its_beginning(feed):
    condition = {"kind": "rises", "percent": "10", "window": "60s", "ref": "window_start"}
    make_rule(make_owner("grace"), name="Rise", assets=["B"], condition=condition)
    append_quotes(feed, [("B", at(70), "2000")])
    flow.evaluate_pending(feed_id=feed.pk)
    assert Alert.objects.get(rule__name="Rise").evidence["reference"]["price"] == "900"

    replace(feed, ("B", at(10), "890"), ("B", at(15), "1"))
    assert [correction for correction, _, _ in evaluated(feed)] == [of(10, "900", "890")]


def test_the_price_in_force_where_a_window_begins_is_seen_and_the_one_before_it_is_not(feed):
    condition = {"kind": "above_average", "percent": "10", "window": "60s"}
    make_rule(make_owner("grace"), name="Mean", assets=["B"], condition=condition)
    append_quotes(feed, [("B", at(90), "2000")])
    flow.evaluate_pending(feed_id=feed.pk)
    assert Alert.objects.get(rule__name="Mean").evidence["window_from"].startswith(at(30).isoformat()[:19])

    replace(feed, ("B", at(10), "890"))
    assert evaluated(feed) == []
    delete(feed, "B", at(20), at(21))
    assert [correction for correction, _, _ in evaluated(feed)] == [of(20, "91", None)]


def test_an_alert_has_one_event_of_a_correction_in_pieces_and_another_of_the_next(feed, monkeypatch):
    monkeypatch.setattr(corrections, "QUOTES_AT_ONCE", 1)
    replace(feed, ("A", at(0), "89"), ("A", at(10), "95"))
    assert len(evaluated(feed)) == 1

    quotes = corrections.admit_file(feed, [], now=START)
    quotes.quotes = [quote._replace(price=quote.price + 1) for quote in _stored_at(at(10))]
    corrections.replace_quotes(feed, quotes, now=START, trace_id=OTHER_TRACE)
    assert [correction for correction, _, _ in evaluated(feed)][1:] == [of(10, "95", "96")]


def _stored_at(moment):
    return [
        AdmittedQuote(one.asset_id, one.at, one.price) for one in Quote.objects.filter(at=moment, asset__symbol="A")
    ]


def test_an_alert_that_opens_before_the_correction_is_evaluated_is_noted_too(feed):
    append_quotes(feed, [("A", at(30), "130")])
    replace(feed, ("A", at(30), "99"))

    assert [correction for correction, _, _ in evaluated(feed)] == [of(30, "130", "99")]
    assert Alert.objects.get(opened_at=at(30)).resolved_at is None


def test_it_says_the_prices_as_they_counted_when_it_opened(feed):
    (asset,) = feed.assets.filter(symbol="A")
    append_quotes(feed, [], as_of=at(120))
    market.append_split(asset_id=asset.pk, effective_at=at(60), numerator=2, denominator=1, now=START, trace_id=TRACE)
    replace(feed, ("A", at(10), "95"))

    assert [correction for correction, _, _ in evaluated(feed)] == [of(10, "900", "95")]


def test_of_a_day_that_is_kept_as_candles_alone_the_day_is_noted(feed, settings):
    settings.QUOTE_RETENTION_DAYS = 2
    append_quotes(feed, [("A", at(4 * 86_400), "91"), ("B", at(4 * 86_400), "91")])
    append_quotes(feed, [], as_of=at(4 * 86_400 + 60))
    rolled_up(feed)
    market.prune_quotes(now=START)
    delete(feed, "A", START.replace(hour=0), at(86_400).replace(hour=0))

    assert [correction for correction, _, _ in evaluated(feed)] == [{"day": "2026-03-02"}]


def test_who_was_notified_and_wants_resolutions_is_notified_of_it_as_of_a_resolution(feed, channels):
    replace(feed, ("A", at(10), "95"))
    flow.evaluate_pending(feed_id=feed.pk)
    notify_all()

    notifications = Notification.objects.filter(event__kind=AlertEvent.Kind.CORRECTED)
    assert [one.channel for one in notifications] == [channels[0]]
    message = Message.objects.get(pk=notifications.get().message_id)
    assert (message.status, message.subject) == ("delivered", "[warning] Corrected: High, A")
    assert message.text.splitlines()[1] == ("Corrected afterwards: the price of 2026-03-02 12:00:10 UTC: 900 → 95.")
    # Whether the alert is open, this message does not say: nothing is to be acknowledged by it.
    assert render(message).actions == ()


def test_it_joins_the_message_with_the_opening_that_nobody_has_tried_to_send(feed, channels):
    append_quotes(feed, [("A", at(30), "130")])
    flow.evaluate_pending(feed_id=feed.pk)
    assert plan(channel_id=channels[0].pk, now=timezone.now()) is Decision.SEND
    replace(feed, ("A", at(30), "99"))
    flow.evaluate_pending(feed_id=feed.pk)
    notify_all()

    message = Notification.objects.get(event__kind=AlertEvent.Kind.CORRECTED).message
    assert [item["event"] for item in message.items] == ["opened", "corrected"]
    assert message.subject == "[warning] Corrected: High, A"
    # It is still open.
    assert [action.label for action in render(message).actions] != []


def test_the_page_of_the_alert_and_graphql_say_it(feed, admin_client):
    replace(feed, ("A", at(10), "95"))
    flow.evaluate_pending(feed_id=feed.pk)
    sentence = "the price of 2026-03-02 12:00:10 UTC: 900 → 95"

    assert sentence in admin_client.get(f"/admin/alerts/alert/{Alert.objects.get().pk}/change/").text
    answer = admin_client.post(
        "/graphql",
        {"query": "{ alerts(first: 1) { edges { node { timeline { kind reasonText correction } } } } }"},
        content_type="application/json",
    ).json()
    last = answer["data"]["alerts"]["edges"][0]["node"]["timeline"][-1]
    assert last == {"kind": "CORRECTED", "reasonText": sentence, "correction": of(10, "900", "95")}
