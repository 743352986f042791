"""The log read again beside the alerts on record."""

import json
import random
from datetime import timedelta

import pytest
from django.core.management import call_command

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.replay import ReplayRefused, replay
from apps.market import partitions, queries
from apps.market.domain import RawQuote
from apps.market.models import FeedEntry
from apps.pipeline import flow
from apps.rules import services as rules
from apps.rules.models import Checkpoint
from apps.sources.services import import_history
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.rules.random_rows import random_entries

pytestmark = pytest.mark.django_db


def replayed(feed, *, since=START):
    return replay(feed, since=since, until=at(10_000_000), progress=lambda done: None)


def evaluated_log(seed, *, entries=60):
    """Return a feed with a random log that has been evaluated, and checkpoints in it."""
    feed = make_feed("BTC-USD", "ETH-USD")
    log = random_entries(random.Random(seed), feed, make_owner(), symbols=["BTC-USD", "ETH-USD"])
    for _ in range(entries):
        next(log)
        flow.evaluate_pending(feed_id=feed.pk)
    return feed


@pytest.fixture
def two_episodes():
    """Return a feed whose log opens an alert at 1 s, resolves it at 2 s, and opens another at 100 s."""
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), name="Peg", assets=["BTC-USD"], condition=above(10))
    for second, price in ((0, "9"), (1, "11"), (2, "9"), (100, "12")):
        append_quotes(feed, [("BTC-USD", at(second), price)])
        flow.evaluate_pending(feed_id=feed.pk)
    return feed


def test_an_event_opens_at_its_assets_quotes_and_not_at_those_of_another():
    feed = make_feed("A", "B")
    condition = {"any": [{"kind": "crosses_up", "level": "100"}, above(100)]}
    make_rule(make_owner(), name="Events", assets=["A"], condition=condition, expires_at=at(10_000))
    append_quotes(feed, [("A", START, "99")])
    append_quotes(feed, [("A", at(1), "101")])
    for second in range(2, 7):
        append_quotes(feed, [("B", at(second), "5")])
    flow.evaluate_pending(feed_id=feed.pk)

    assert list(Alert.objects.values_list("opened_at", flat=True)) == [at(1)]
    report = replayed(feed)
    assert (report.same, report.missing, report.extra) == (2, [], [])


@pytest.mark.parametrize("seed", range(4))
def test_what_was_evaluated_live_is_what_is_found_again_from_any_place_of_the_log(seed, monkeypatch):
    monkeypatch.setattr(rules, "CHECKPOINT_EVERY", timedelta(seconds=40))
    feed = evaluated_log(seed)
    # What a correction notes of an alert is no step of an episode.
    events = AlertEvent.objects.exclude(kind=AlertEvent.Kind.CORRECTED).count()
    moments = [START, *FeedEntry.objects.order_by("as_of").values_list("as_of", flat=True)[10::15]]

    whole = replayed(feed)
    parts = [replayed(feed, since=moment) for moment in moments]

    assert (whole.same, whole.missing, whole.extra) == (events, [], [])
    assert [(part.missing, part.extra) for part in parts] == [([], [])] * len(parts)
    assert whole.same >= parts[-1].same
    assert events > 5
    assert Checkpoint.objects.count() > 2


def test_without_any_checkpoint_the_log_is_read_from_its_beginning(two_episodes):
    Checkpoint.objects.all().delete()

    found = replayed(two_episodes, since=at(50))

    assert (found.entries, found.same, found.missing, found.extra) == (1, 1, [], [])


def test_an_alert_that_was_lost_is_missing(two_episodes):
    Alert.objects.get(resolved_at=None).delete()

    found = replayed(two_episodes)

    assert (found.same, [(one.kind, one.seq) for one in found.missing], found.extra) == (2, [("opened", 5)], [])


def test_an_alert_that_the_log_does_not_give_is_extra(two_episodes):
    lost = FeedEntry.objects.get(seq=3)
    AlertEvent.objects.filter(entry=lost).update(entry=FeedEntry.objects.get(seq=2))

    found = replayed(two_episodes)

    assert ([one.seq for one in found.missing], [one.seq for one in found.extra]) == ([3], [2])


def test_other_evidence_is_not_the_same_alert(two_episodes):
    alert = Alert.objects.get(resolved_at=None)
    Alert.objects.filter(pk=alert.pk).update(evidence=alert.evidence | {"price": "12.5"})

    found = replayed(two_episodes)

    assert (found.same, len(found.missing), len(found.extra)) == (2, 1, 1)


def test_entries_that_nobody_has_evaluated_yet_are_left_out(two_episodes):
    append_quotes(two_episodes, [("BTC-USD", at(101), "9")])

    found = replayed(two_episodes)

    assert (found.entries, found.same, found.missing, found.extra) == (5, 3, [], [])


def test_a_range_that_needs_forgotten_quotes_is_refused_and_says_from_when_it_can_be(two_episodes):
    day = timedelta(days=1).total_seconds()
    append_quotes(two_episodes, [("BTC-USD", at(day), "9")])
    flow.evaluate_pending(feed_id=two_episodes.pk)
    partitions.drop([START.date()])

    with pytest.raises(ReplayRefused, match="needs quotes from before 2026-03-03T00:00:00Z") as refused:
        replayed(two_episodes, since=at(50))

    assert str(refused.value).endswith("; begin after 2026-03-02T12:01:40Z")
    assert replayed(two_episodes, since=at(101)).same == 1


def test_days_that_other_feeds_keep_do_not_hide_what_this_one_has_lost(two_episodes):
    day = timedelta(days=1).total_seconds()
    recording = make_feed("OLD", name="recording")
    append_quotes(recording, [("OLD", at(-1_000 * day), "9")])
    append_quotes(two_episodes, [("BTC", at(day), "9")])
    flow.evaluate_pending(feed_id=two_episodes.pk)
    partitions.drop([START.date()])

    assert queries.forgotten_before(two_episodes.pk) == at(day / 2)
    assert queries.forgotten_before(recording.pk) is None


def test_a_day_made_again_for_the_past_does_not_hide_what_was_lost(two_episodes):
    day = timedelta(days=1).total_seconds()
    append_quotes(two_episodes, [("BTC", at(day), "9")])
    partitions.drop([START.date()])
    import_history(feed_id=two_episodes.pk, quotes=[RawQuote("BTC", "9", at(5))], now=at(day), trace_id=TRACE)

    assert queries.forgotten_before(two_episodes.pk) == at(day / 2)


def test_a_rule_whose_windows_reach_to_forgotten_quotes_is_refused(two_episodes):
    day = timedelta(days=1).total_seconds()
    append_quotes(two_episodes, [("BTC-USD", at(day), "9")])
    make_rule(make_owner("bob"), assets=["BTC-USD"], condition={"kind": "below_average", "percent": 0, "window": "2d"})
    append_quotes(two_episodes, [("BTC-USD", at(day + 60), "8")])
    flow.evaluate_pending(feed_id=two_episodes.pk)
    Checkpoint.objects.filter(seq__gt=6).delete()
    partitions.drop([START.date()])

    with pytest.raises(ReplayRefused, match="a rule that begins at entry 7 looks back to before 2026-03-03"):
        replayed(two_episodes, since=at(day + 60))


def run(*args):
    with pytest.raises(SystemExit) as stopped:
        call_command("replay", *args)
    return stopped.value.code


def test_the_command_says_what_it_found_and_ends_with_0_where_all_is_the_same(two_episodes, capsys):
    call_command("replay", "--from", START.isoformat(), "--to", at(200).isoformat())

    assert capsys.readouterr().out == "feed: 5 entries, 3 same, 0 missing, 0 extra\n"


def test_the_command_ends_with_1_where_an_alert_is_missing(two_episodes, capsys):
    Alert.objects.get(resolved_at=None).delete()

    assert run("--from", START.isoformat(), "--json") == 1

    (found,) = json.loads(capsys.readouterr().out)["feeds"]
    assert (found["same"], found["extra"]) == (2, [])
    assert found["missing"] == ["entry 5, 2026-03-02T12:01:40Z: Peg on BTC-USD opened (the condition became true)"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", "2026-03-02", "--to", "2026-03-01"], "replay: --from is after --to\n"),
        (["--from", "2026-03-02", "--feed", "none"], "replay: there is no feed none\n"),
    ],
)
def test_the_command_ends_with_2_and_one_line_where_it_cannot_compare(args, said, two_episodes, capsys):
    assert run(*args) == 2

    assert capsys.readouterr().err == said
