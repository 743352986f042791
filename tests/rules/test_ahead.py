"""The past read before a rule enters the log, and what comes until it is evaluated."""

import random
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.market import queries as market
from apps.market.domain import RawQuote
from apps.market.models import FeedEntry
from apps.pipeline import flow
from apps.rules import ahead, queries
from apps.rules.engine.windows import Newest, filled
from apps.rules.models import FilledWindows, RuleChange
from apps.rules.services import _warm, prune_checkpoints
from apps.setup.loading import load_setup
from apps.sources.services import import_history
from tests.builders import START, TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.rules.test_candles import seen

pytestmark = pytest.mark.django_db


@pytest.fixture
def reads(monkeypatch):
    """Return the assets of each reading of the stored past, from now on."""
    read = []
    stored_path = market.stored_path

    def counted(needs, **place):
        read.append(sorted(needs))
        return stored_path(needs, **place)

    monkeypatch.setattr(market, "stored_path", counted)
    return read


def rises(window, **more):
    return {"kind": "rises", "percent": "5", "window": window, **more}


def pending(feed):
    """Give each entry that waits, before it is evaluated."""
    while True:
        seq = feed.evaluation_cursor.__class__.objects.get(feed=feed).seq
        entry = FeedEntry.objects.filter(feed=feed, seq=seq + 1).first()
        if entry is None:
            return
        yield entry


@pytest.mark.parametrize("seed", range(8))
def test_windows_that_were_filled_ahead_see_what_is_stored_at_the_place_of_the_change(seed):
    chance = random.Random(seed)
    feed, owner = make_feed("BTC", "ETH", jump_percent=0), make_owner()
    now = 0.0
    compared = 0
    for number in range(12):
        for _ in range(chance.randint(0, 4)):
            now += chance.choice([1, 20, 61, 3_600])
            some = chance.sample(["BTC", "ETH"], chance.randint(0, 2))
            append_quotes(feed, [(one, at(now), str(chance.randint(5, 15))) for one in some], as_of=at(now))
            if chance.random() < 0.3:
                past = [RawQuote("BTC", str(chance.randint(5, 15)), at(now - chance.uniform(1, 9_000)))]
                import_history(feed_id=feed.pk, quotes=past, now=at(now), trace_id=TRACE)
            if chance.random() < 0.5:
                kind = chance.choice(["falls", "zscore", "below_average"])
                extent = {"n": "2"} if kind == "zscore" else {"percent": "5"}
                condition = {"kind": kind, "window": chance.choice(["30s", "20m", "2h"]), **extent}
                make_rule(owner, name=f"{number}-{now}", assets=["BTC", "ETH"], condition=condition)
        for entry in pending(feed):
            flow.evaluate_next(feed_id=feed.pk)
            for series in _warm[feed.pk]._series.values() if entry.kind == FeedEntry.Kind.RULES else ():
                history = queries.history_of(feed_id=feed.pk, seq=entry.seq)
                path = history({series.asset_id: series.keys}).get(series.asset_id, [])
                for key, window in zip(series.keys, series.windows, strict=True):
                    if not isinstance(window, Newest) and path:
                        assert seen(window) == seen(filled(key, path)), (entry.seq, series.asset_id, key)
                        compared += 1
    assert compared > 5
    assert RuleChange.objects.exclude(filled=None).exists()


def test_the_feed_reads_nothing_of_what_was_read_before_the_rule_entered_its_log(reads):
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", at(0), "10"), ("ETH", at(0), "10")])
    make_rule(make_owner(), assets={"feed": "feed"}, condition=rises("1h"))
    append_quotes(feed, [("BTC", at(60), "11")])
    assert reads == [sorted(asset_ids(feed).values())]

    flow.evaluate_pending(feed_id=feed.pk)

    assert len(reads) == 1
    (series, _) = (_warm[feed.pk]._series[one] for one in asset_ids(feed).values())
    assert [window.best for window in series.windows] == [10 * 10**18]
    assert len(reads) == 1


def test_an_edit_that_needs_the_same_windows_reads_nothing_and_they_go_on(reads):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(0), "10")])
    owner = make_owner()
    rule = make_rule(owner, assets=["BTC"], condition=rises("1h"))
    flow.evaluate_pending(feed_id=feed.pk)
    (before,) = _warm[feed.pk]._series.values()
    windows = before.windows
    reads.clear()

    make_rule(owner, rule=rule, assets=["BTC"], condition=rises("1h", recovery="2"))
    flow.evaluate_pending(feed_id=feed.pk)

    assert reads == []
    (after,) = _warm[feed.pk]._series.values()
    assert [one is other for one, other in zip(after.windows, windows, strict=True)] == [True]


def test_a_file_of_many_rules_on_one_asset_reads_its_past_once(reads):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(0), "10")])
    rules = [{"name": f"r{hours}", "assets": ["BTC"], "condition": rises(f"{hours}h")} for hours in range(1, 21)]
    load_setup({"rules": rules}, owner=make_owner(), now=START, trace_id=TRACE)
    flow.evaluate_pending(feed_id=feed.pk)

    assert reads == [sorted(asset_ids(feed).values())]
    (series,) = _warm[feed.pk]._series.values()
    assert len(series.windows) == 20


def test_what_was_read_ahead_and_is_gone_or_unreadable_is_read_again(reads):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", at(0), "10")])
    owner = make_owner()
    make_rule(owner, name="gone", assets=["BTC"], condition=rises("1h"))
    FilledWindows.objects.update(created_at=timezone.now() - timedelta(hours=2))
    prune_checkpoints(now=timezone.now())
    make_rule(owner, name="unreadable", assets=["BTC"], condition=rises("2h"))
    FilledWindows.objects.update(data=b"")
    flow.evaluate_pending(feed_id=feed.pk)

    assert len(reads) == 4
    (series,) = _warm[feed.pk]._series.values()
    assert [window.at for window in series.windows] == [series.at] * 2


def test_a_rule_that_looks_back_nowhere_reads_nothing_ahead():
    make_feed("BTC")
    make_rule(make_owner(), assets=["BTC"], condition=above(1))
    assert ahead.read_ahead([], owner_id=1) == {}
    assert not FilledWindows.objects.exists()
