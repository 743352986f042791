"""An asset that moves from one feed to another: evaluated by exactly one, at one place in each of the two logs."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import connection, transaction
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.replay import replay
from apps.market.domain import RawQuote
from apps.market.models import Asset, EvaluationCursor, FeedEntry, FeedHead, LatestQuote, Quote, UnconfirmedQuote
from apps.market.services import AssetStays
from apps.notify.models import Notification
from apps.notify.services import create_channel, set_channels
from apps.pipeline import flow
from apps.rules import services as rules
from apps.rules.models import RuleChange, RuleState
from apps.sources import services as sources
from apps.sources.providers.protocol import Answer
from apps.sources.services import import_history
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.threads import at_once, elsewhere

pytestmark = pytest.mark.django_db

ALWAYS = {"since": START - timedelta(days=30), "until": START + timedelta(days=30_000)}


@pytest.fixture
def feeds():
    """Return two feeds: A and B are in the first, C in the second."""
    return make_feed("A", "B", name="first"), make_feed("C", name="second")


def asset(symbol="A"):
    return Asset.objects.get(symbol=symbol)


def move(symbol, feed):
    flow.move_asset(asset_id=asset(symbol).pk, feed_id=feed.pk if feed is not None else None, now=START)


def evaluate(*feeds):
    for feed in feeds:
        flow.evaluate_pending(feed_id=feed.pk)


def episodes():
    """Return (feed, kind, seconds, reason) of each event, in the order in which they were made."""
    rows = AlertEvent.objects.order_by("pk").select_related("entry__feed")
    return [(one.entry.feed.name, one.kind, (one.at - START).total_seconds(), one.reason) for one in rows]


def replayed(*feeds):
    """Return (same, missing, extra) of each feed's log, read again from its beginning."""
    reports = [replay(feed, **ALWAYS, progress=lambda done: None) for feed in feeds]
    return [(one.same, one.missing, one.extra) for one in reports]


def watched_in(feed):
    """Return rule -> the assets that its last change in the feed's log names."""
    rows = RuleChange.objects.filter(entry__feed=feed).order_by("entry__seq").values_list("rule__name", "asset_ids")
    names = dict(Asset.objects.values_list("pk", "symbol"))
    return {rule: [names[one] for one in asset_ids] for rule, asset_ids in rows}


def test_an_asset_moves_with_its_quotes_and_its_newest_price(feeds):
    first, second = feeds
    append_quotes(first, [("A", at(0), "10")])
    evaluate(first)
    move("A", second)

    assert asset().feed == second
    assert Quote.objects.filter(asset=asset(), entry__feed=first).count() == 1
    assert LatestQuote.objects.get(asset=asset()).price == 10
    assert append_quotes(second, [("A", at(1), "11"), ("C", at(1), "1")]).accepted == 2


def test_a_rule_goes_on_in_the_other_log_with_full_windows_and_both_logs_replay(feeds):
    first, second = feeds
    make_rule(
        make_owner(),
        assets=["A", "B"],
        condition={"kind": "rises", "percent": "10", "window": "60s"},
    )
    append_quotes(first, [("A", at(0), "10"), ("B", at(0), "10")])
    append_quotes(first, [("A", at(50), "10"), ("B", at(50), "10")])
    evaluate(first)
    move("A", second)
    append_quotes(second, [("A", at(70), "12")])
    append_quotes(first, [("B", at(70), "12")])
    evaluate(second, first)

    assert (watched_in(first), watched_in(second)) == ({"rule": ["B"]}, {"rule": ["A"]})
    assert [one[:3] for one in episodes()] == [("second", "opened", 70), ("first", "opened", 70)]
    assert replayed(first, second) == [(1, [], []), (1, [], [])]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["old log first", "new log first"])
def test_an_open_alert_ends_at_the_move_and_the_next_opens_in_the_other_log(feeds, order):
    first, second = feeds
    owner = make_owner()
    rule = make_rule(owner, assets=["A"], condition=above(10))
    set_channels(rule=rule, channels=[create_channel(owner=owner, name="Inbox", kind="inbox", config={})])
    append_quotes(first, [("A", at(0), "9")])
    append_quotes(first, [("A", at(1), "11")])
    evaluate(first)
    move("A", second)
    assert not Alert.objects.filter(resolved_at=None).exists()
    append_quotes(second, [("A", at(2), "9")])
    append_quotes(second, [("A", at(3), "12")])
    evaluate(*(feeds[one] for one in order))

    assert [one[:3] for one in episodes()] == [
        ("first", "opened", 1),
        ("first", "resolved", 1),
        ("second", "opened", 3),
    ]
    assert AlertEvent.objects.get(kind="resolved").reason == Alert.objects.earliest("pk").resolution == "rule_changed"
    assert Notification.objects.count() == 3
    assert RuleState.objects.values_list("asset__symbol", "state").get() == ("A", "firing")
    assert replayed(first, second) == [(2, [], []), (1, [], [])]


def test_a_rule_that_cannot_be_read_stays_behind_until_it_is_edited(feeds):
    first, second = feeds
    rule = make_rule(make_owner(), assets=["A"], condition=above(10))
    rule.versions.update(document={"assets": ["A"], "condition": {"kind": "never heard of"}})
    append_quotes(first, [("A", at(0), "9")])
    evaluate(first)
    assert Alert.objects.get().kind == Alert.Kind.ERROR
    move("A", second)

    # What cannot be read cannot follow.
    assert Alert.objects.get().resolved_at is None
    make_rule(rule.owner, rule=rule, assets=["A"], condition=above(10))
    evaluate(first, second)
    assert Alert.objects.get().resolution == "rule_changed"
    assert (watched_in(first), watched_in(second)) == ({"rule": []}, {"rule": ["A"]})


def test_rules_by_feed_end_in_the_old_one_and_begin_in_the_new_one(feeds):
    first, second = feeds
    owner = make_owner()
    make_rule(owner, name="of first", assets={"feed": "first"}, condition=above(10))
    make_rule(owner, name="of second", assets={"feed": "second"}, condition=above(10))
    append_quotes(first, [("A", at(0), "9"), ("B", at(0), "9")])
    evaluate(first, second)
    move("A", second)
    rules.follow_assets(now=START, trace_id=TRACE)
    evaluate(first, second)

    assert watched_in(first) == {"of first": ["B"]}
    assert watched_in(second) == {"of second": ["A", "C"]}
    assert set(RuleState.objects.values_list("rule__name", "asset__symbol")) == {
        ("of first", "B"),
        ("of second", "A"),
        ("of second", "C"),
    }


def test_an_asset_may_move_there_and_back(feeds):
    first, second = feeds
    make_rule(make_owner(), assets=["A"], condition=above(10))
    for second_now, feed in enumerate([first, second, first, second]):
        if asset().feed != feed:
            move("A", feed)
        append_quotes(feed, [("A", at(10 * second_now), "9")])
        append_quotes(feed, [("A", at(10 * second_now + 5), "11")])
        evaluate(first, second)

    assert [one[:3] for one in episodes()] == [
        *[("first", "opened", 5), ("first", "resolved", 5), ("second", "opened", 15), ("second", "resolved", 15)],
        *[("first", "opened", 25), ("first", "resolved", 25), ("second", "opened", 35)],
    ]
    assert RuleState.objects.values_list("state", "since").get() == ("firing", at(35))
    assert replayed(first, second) == [(4, [], []), (3, [], [])]


def test_an_asset_may_leave_its_feed_and_nothing_evaluates_it_any_more(feeds):
    first, second = feeds
    make_rule(make_owner(), assets=["A"], condition=above(10))
    append_quotes(first, [("A", at(0), "11")])
    evaluate(first)
    move("A", None)
    evaluate(first)
    assert (asset().feed, RuleState.objects.count(), watched_in(first)) == (None, 0, {"rule": []})
    assert Alert.objects.get().resolution == "rule_changed"
    move("A", second)
    rules.follow_assets(now=START, trace_id=TRACE)
    assert asset().feed == second


def test_an_unconfirmed_price_waits_in_the_other_feed(feeds):
    first, second = feeds
    append_quotes(first, [("A", at(0), "10")])
    append_quotes(first, [("A", at(1), "100")])
    evaluate(first)
    move("A", second)
    assert append_quotes(second, [("A", at(2), "101")]).accepted == 2
    assert not UnconfirmedQuote.objects.exists()


def test_what_is_pending_in_the_old_feed_keeps_the_asset(feeds):
    first, second = feeds
    append_quotes(first, [("A", at(0), "10")])
    with pytest.raises(AssetStays, match=r"^The feed first has 1 entry to evaluate; try again in a moment\.$"):
        move("A", second)
    assert asset().feed == first
    evaluate(first)
    append_quotes(second, [("C", at(0), "10")])  # In the new one it does not matter.
    move("A", second)
    assert asset().feed == second


def test_a_fetch_under_way_keeps_the_asset_and_one_that_lost_its_lease_writes_nothing(feeds):
    first, second = feeds
    lease = sources.take_fetch_lease(feed_id=first.pk, slot=START)
    with pytest.raises(AssetStays, match=r"^The feed first is being fetched at this moment; try again in a moment\.$"):
        move("A", second)
    FeedHead.objects.filter(feed=first).update(lease_until=timezone.now() - timedelta(seconds=1))
    move("A", second)

    answer = Answer(quotes=[RawQuote("A", "10", at(0))], as_of=at(0))
    part = sources.admit_answer(
        lease=lease, provider="simulated", answer=answer, asset_ids={"A": asset().pk}, signed=()
    )
    assert sources.record_answers(lease=lease, parts=[part], now=at(0), trace_id=TRACE) == []
    assert not Quote.objects.exists()


def test_a_quote_ahead_of_a_recordings_clock_keeps_the_asset_out_of_it(feeds):
    first, second = feeds
    append_quotes(first, [("A", at(3_600), "10")])
    append_quotes(second, [("C", at(0), "1")])
    evaluate(first, second)
    with pytest.raises(AssetStays, match="is of 2026-03-02 13:00:00, ahead of the clock of second"):
        move("A", second)
    assert asset().feed == first


def test_a_move_to_a_live_feed_takes_its_clock_along():
    first, second = make_feed("A", name="first"), make_feed(name="live", provider="coincap")
    append_quotes(first, [("A", at(100), "10")])
    evaluate(first)
    move("A", second)
    assert FeedHead.objects.get(feed=second).as_of == at(100)


def test_a_file_that_was_begun_before_the_move_adds_nothing_to_the_old_log(feeds):
    first, second = feeds
    append_quotes(first, [("A", at(0), "10")])
    evaluate(first)

    def rows():
        yield RawQuote("A", "1", at(-1))
        move("A", second)

    imported = import_history(feed_id=first.pk, quotes=rows(), now=at(0), trace_id=TRACE)
    assert (imported.accepted, imported.rejected) == (0, {"unknown_asset": 1})


def test_a_rule_that_was_entered_in_the_old_log_all_the_same_is_mended_by_sweep(feeds):
    first, second = feeds
    make_rule(make_owner(), assets=["A"], condition=above(10))
    append_quotes(first, [("A", at(0), "9")])
    evaluate(first)
    # As where a rule is saved at the moment of the move.
    Asset.objects.filter(symbol="A").update(feed=second)

    assert rules.follow_assets(now=START, trace_id=TRACE) == 2
    assert rules.follow_assets(now=START, trace_id=TRACE) == 0
    append_quotes(second, [("A", at(1), "11")])
    evaluate(second, first)
    assert [one[:3] for one in episodes()] == [("second", "opened", 1)]
    assert RuleState.objects.values_list("state", flat=True).get() == "firing"
    assert replayed(first, second) == [(0, [], []), (1, [], [])]


def test_a_move_that_fails_leaves_both_logs_as_they_were(feeds, monkeypatch):
    first, second = feeds
    make_rule(make_owner(), assets=["A"], condition=above(10))
    append_quotes(first, [("A", at(0), "11")])
    evaluate(first)
    before = list(FeedEntry.objects.values_list("pk", flat=True)), episodes()

    def fails(events, now):
        raise ValidationError("no")

    with monkeypatch.context() as patch, pytest.raises(ValidationError):
        patch.setattr(flow.notify, "enqueue", fails)
        move("A", second)
    assert (list(FeedEntry.objects.values_list("pk", flat=True)), episodes(), asset().feed) == (*before, first)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_move_waits_for_the_evaluate_and_then_sees_what_he_has_evaluated(feeds):
    first, second = feeds
    append_quotes(first, [("A", at(0), "10")])
    evaluated = EvaluationCursor.objects.filter(feed=first)

    def evaluate_slowly():
        with transaction.atomic():
            position = evaluated.select_for_update(no_key=True).get()
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.5)")
            position.seq = 1
            position.save()

    def move_meanwhile():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.2)")
        move("A", second)

    at_once(evaluate_slowly, move_meanwhile)
    assert asset().feed == second


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_two_moves_that_cross_do_not_wait_for_each_other(feeds):
    for _ in range(5):
        there, back = asset("A").feed, asset("C").feed
        at_once(lambda to=back: move("A", to), lambda to=there: move("C", to))
        assert (asset("A").feed, asset("C").feed) == (back, there)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_a_rule_saved_at_the_moment_of_a_move_is_evaluated_in_exactly_one_log(feeds):
    owner = make_owner()
    for number in range(5):
        there = next(feed for feed in feeds if feed != asset().feed)

        def moved(to=there):
            try:
                move("A", to)
            except AssetStays:
                return

        def saved(name=f"rule {number}"):
            make_rule(owner, name=name, assets=["A"], condition=above(10))

        at_once(moved, saved)
        rules.follow_assets(now=START, trace_id=TRACE)
        evaluate(*feeds)
    here = asset().feed
    elsewhere_now = next(feed for feed in feeds if feed != here)
    assert watched_in(here) == {f"rule {number}": ["A"] for number in range(5)}
    assert all(chosen == [] for chosen in watched_in(elsewhere_now).values())
    assert RuleState.objects.count() == 5
    assert replayed(*feeds) == [(0, [], []), (0, [], [])]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_while_an_asset_moves_nothing_is_appended_to_either_log(feeds):
    with transaction.atomic():
        move("A", feeds[1])
        for feed in feeds:
            heads = FeedHead.objects.filter(feed=feed)
            taken = elsewhere(lambda heads=heads: _locked(heads))
            assert taken == []


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_what_is_pushed_into_the_old_feed_at_the_moment_of_the_move_is_of_no_asset_there():
    first, second = make_feed("A", name="first", provider="push"), make_feed(name="second", provider="push")

    def move_slowly():
        with transaction.atomic(), connection.cursor() as cursor:
            move("A", second)
            cursor.execute("SELECT pg_sleep(0.6)")

    def push_meanwhile():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.2)")
        pushed = [sources.Pushed(at(0), [RawQuote("A", "10", at(0))], "token:1")]
        return sources.record_pushed(feed_name="first", pushes=pushed, now=at(0), trace_id=TRACE)

    _, entry = at_once(move_slowly, push_meanwhile)
    assert (entry.feed, entry.accepted, entry.rejected) == (first, 0, {"unknown_asset": 1})
    assert not Quote.objects.exists()


def _locked(heads):
    with transaction.atomic():
        return list(heads.select_for_update(no_key=True, skip_locked=True).values_list("pk", flat=True))


def test_the_assets_page_moves_it_or_says_why_not(admin_client, feeds):
    first, second = feeds
    make_rule(make_owner(), assets=["A"], condition=above(10))
    append_quotes(first, [("A", at(0), "11")])
    page = reverse("admin:market_asset_change", args=[asset().pk])
    form = {
        **{"feed": second.pk, "name": "moved", "tags": "", "currency": "", "calendar": ""},
        **{f"{prefix}-{count}_FORMS": "0" for prefix in ("listings", "aliases") for count in ("TOTAL", "INITIAL")},
    }
    answer = admin_client.post(page, form)
    assert "The feed first has 2 entries to evaluate; try again in a moment." in answer.text
    assert (asset().feed, asset().name) == (first, "")

    evaluate(first)
    assert admin_client.post(page, form).status_code == 302
    assert (asset().feed, asset().name) == (second, "moved")
    assert watched_in(second) == {"rule": ["A"]}


def test_a_move_refused_under_the_locks_is_reported_and_nothing_is_saved(admin_client, feeds, monkeypatch):
    first, second = feeds
    append_quotes(first, [("A", at(0), "11")])
    monkeypatch.setattr("apps.panel.assets.refuse_to_move", lambda row, feed: None)  # As it was a moment ago.
    form = {
        **{"feed": second.pk, "name": "moved", "tags": "", "currency": "", "calendar": ""},
        **{f"{prefix}-{count}_FORMS": "0" for prefix in ("listings", "aliases") for count in ("TOTAL", "INITIAL")},
    }
    answer = admin_client.post(reverse("admin:market_asset_change", args=[asset().pk]), form, follow=True)
    assert "The feed first has 1 entry to evaluate; try again in a moment." in answer.text
    assert (asset().feed, asset().name) == (first, "")
