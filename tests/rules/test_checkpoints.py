"""Engines that are taken warm, rebuilt from checkpoints and from the log, and the checkpoints that are kept."""

import json
import random
import zlib
from datetime import timedelta

import pytest

from apps.alerts.models import Alert
from apps.market.models import FeedEntry
from apps.pipeline import flow
from apps.rules import services
from apps.rules.models import Checkpoint, RuleVersion
from tests.builders import START, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.rules.evaluating import evaluate, made_in, states_of
from tests.rules.random_rows import random_entries

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("seed", range(4))
def test_an_engine_rebuilt_after_any_entry_is_the_one_that_lived(seed, monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_EVERY", timedelta(seconds=40))
    feed = make_feed("BTC-USD", "ETH-USD")
    entries = random_entries(random.Random(seed), feed, make_owner(), symbols=["BTC-USD", "ETH-USD"])

    for _ in range(20):
        next(entries)
        evaluate(feed)
        lived = services._warm[feed.pk]
        rebuilt = services.rebuild_engine(feed_id=feed.pk, seq=lived.seq)
        assert json.dumps(rebuilt.dump()) == json.dumps(lived.dump())

    assert lived.seq == FeedEntry.objects.filter(feed=feed).count()
    assert Checkpoint.objects.filter(feed=feed).count() > 1
    Checkpoint.objects.all().delete()
    from_the_beginning = services.rebuild_engine(feed_id=feed.pk, seq=lived.seq)
    # Without checkpoints the assets stand in another order; what is known of each is the same.
    assert sorted(from_the_beginning.dump()["series"]) == sorted(lived.dump()["series"])
    assert sorted(from_the_beginning.dump()["instances"]) == sorted(lived.dump()["instances"])


@pytest.mark.parametrize("seed", range(3))
def test_a_process_that_starts_cold_before_every_entry_makes_the_same_transitions(seed):
    warm, cold = make_feed("W-1", "W-2", name="warm"), make_feed("C-1", "C-2", name="cold")
    owner = make_owner()
    for feed, symbols in ((warm, ["W-1", "W-2"]), (cold, ["C-1", "C-2"])):
        entries = random_entries(random.Random(seed), feed, owner, symbols=symbols)
        for _ in range(25):
            next(entries)
    evaluate(warm)

    for _ in range(cold.entries.count()):
        services._warm.clear()
        flow.evaluate_next(feed_id=cold.pk)

    assert made_in(cold) == made_in(warm)
    assert len(made_in(warm)) > 0


def test_the_warm_engine_is_taken_only_where_it_stands_at_the_last_evaluated_entry():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    evaluate(feed)
    warm = services._warm[feed.pk]

    taken = services.take_engine(feed_id=feed.pk, seq=1)
    again = services.take_engine(feed_id=feed.pk, seq=1)
    services.keep_engine(feed_id=feed.pk, engine=warm)
    behind = services.take_engine(feed_id=feed.pk, seq=0)

    assert (taken is warm, again is warm, behind is warm) == (True, False, False)
    assert (again.dump(), behind.seq) == (warm.dump(), 0)


def test_an_evaluation_that_is_rolled_back_costs_a_rebuild_and_changes_nothing(monkeypatch):
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100), pending="5s")
    append_quotes(feed, [("BTC-USD", at(1), "101")])
    evaluate(feed)
    append_quotes(feed, [("BTC-USD", at(6), "101")])

    with monkeypatch.context() as broken:
        broken.setattr(flow.notify, "enqueue", lambda events, now: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            flow.evaluate_pending(feed_id=feed.pk)
    after_the_failure = made_in(feed)

    assert after_the_failure == [(2, 1, "inactive", "pending", "became_true")]
    assert evaluate(feed) == [
        (2, 1, "inactive", "pending", "became_true"),
        (3, 1, "pending", "firing", "held_long_enough"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        zlib.compress(json.dumps({"format": 999, "seq": 2}).encode()),
        zlib.compress(json.dumps({"format": 999, "instances": [[1, 2, 3, 4, 5]]}).encode()),
        zlib.compress(b"not JSON"),
        b"not compressed",
    ],
)
def test_a_checkpoint_that_cannot_be_read_is_passed_over(data):
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101")])
    evaluate(feed)
    lived = services._warm[feed.pk]
    Checkpoint.objects.create(feed=feed, seq=2, as_of=at(1), data=data)

    rebuilt = services.rebuild_engine(feed_id=feed.pk, seq=2)

    assert rebuilt.dump() == lived.dump()


def test_a_checkpoint_is_written_once_a_minute_of_the_feeds_clock():
    feed = make_feed("BTC-USD")
    make_rule(make_owner(), assets=["BTC-USD"], condition=above(100))

    for second in (0, 59, 60, 119.999999, 120):
        append_quotes(feed, [("BTC-USD", at(second), "101")])
    evaluate(feed)

    assert list(Checkpoint.objects.order_by("seq").values_list("seq", "as_of")) == [
        (1, at(0)),
        (4, at(60)),
        (6, at(120)),
    ]


def test_checkpoints_are_thinned_for_each_feed_by_its_own_clock(settings):
    settings.QUOTE_RETENTION_DAYS = 1
    one, other = make_feed("BTC-USD", name="one"), make_feed("ETH-USD", name="other")
    ages = {one: [30 * 3_600, 7_300, 7_200, 7_100, 120, 90, 0], other: [10_000_000]}
    for feed, seconds in ages.items():
        Checkpoint.objects.bulk_create(
            Checkpoint(feed=feed, seq=seq, as_of=at(-age), data=b"") for seq, age in enumerate(seconds, start=1)
        )

    dropped = [services.prune_checkpoints(now=START) for _ in range(2)]

    assert dropped == [3, 0]
    # The first is too old, the fourth the second of its hour, the sixth the second of its minute.
    assert sorted(Checkpoint.objects.values_list("feed__name", "seq")) == [
        ("one", 2), ("one", 3), ("one", 5), ("one", 7), ("other", 1),
    ]  # fmt: skip


def test_a_version_that_breaks_behind_a_checkpoint_does_not_stop_the_feed():
    feed = make_feed("BTC-USD")
    owner = make_owner()
    broken = make_rule(owner, name="broken", assets=["BTC-USD"], condition=above(100))
    sound = make_rule(owner, name="sound", assets=["BTC-USD"], condition=above(100))
    append_quotes(feed, [("BTC-USD", at(1), "101")], as_of=at(61))
    evaluate(feed)
    RuleVersion.objects.filter(rule=broken).update(document={})
    services._warm.clear()

    append_quotes(feed, [("BTC-USD", at(62), "99")])
    evaluate(feed)

    assert [row[2] for row in states_of(broken) + states_of(sound)] == ["error", "inactive"]
    assert list(Alert.objects.order_by("pk").values_list("rule__name", "kind", "resolved_at")) == [
        ("broken", "condition", at(62)),
        ("sound", "condition", at(62)),
        ("broken", "error", None),
    ]


def test_a_feed_whose_clock_stands_has_a_checkpoint_after_so_many_entries(monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_ENTRIES", 3)
    feed = make_feed("BTC-USD")
    for _ in range(7):
        append_quotes(feed, [], as_of=START)

    flow.evaluate_pending(feed_id=feed.pk)

    assert list(Checkpoint.objects.values_list("seq", flat=True)) == [1, 4, 7]
