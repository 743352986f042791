"""The log as the engine reads it, many entries at a time; and what is asked of stored quotes."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.market.models import Asset, FeedEntry
from apps.pipeline.flow import evaluate_pending
from apps.rules import queries, services
from apps.rules.engine.entries import HistoryEntry, QuotesEntry, RulesEntry
from apps.rules.engine.rule import RuleSpec
from apps.sources.services import record_failure, take_fetch_lease
from tests.builders import TRACE, above, append_quotes, asset_ids, at, make_feed, make_owner, make_rule


@pytest.fixture
def feed(db):
    """A feed whose log has every kind of entry: 8 of them, with a late quote, a failure and an empty answer."""
    feed = make_feed("BTC-USD", "ETH-USD")
    owner = make_owner()
    rule = make_rule(owner, assets=["BTC-USD", "ETH-USD"], condition=above(10))
    append_quotes(
        feed,
        [("ETH-USD", at(1), "9"), ("BTC-USD", at(1), "9.5")],
        history=[("BTC-USD", at(-9), "8"), ("BTC-USD", at(-8), "8"), ("ETH-USD", at(-7), "7")],
    )
    append_quotes(feed, [("BTC-USD", at(2), "11"), ("BTC-USD", at(0), "12")])
    make_rule(owner, name="other", assets=["ETH-USD"], condition={"kind": "rises", "percent": "1", "window": "1m"})
    lease = take_fetch_lease(feed_id=feed.pk, slot=feed.head.__class__.objects.get(feed=feed).next_slot)
    record_failure(lease=lease, failure="timeout", retry_after_seconds=None, now=at(3), trace_id=TRACE)
    append_quotes(feed, [], as_of=at(4))
    services.delete_rule(rule=rule, now=at(5), trace_id=TRACE)
    return feed


def entries_of(feed, **options):
    options = {"after_seq": 0, "up_to_seq": 99} | options
    return list(queries.entries(feed_id=feed.pk, **options))


def test_entries_are_those_that_are_read_one_by_one(feed):
    one_by_one = [queries.entry_of(entry) for entry in FeedEntry.objects.filter(feed=feed).order_by("seq")]
    assert [type(entry) for entry in one_by_one] == [
        RulesEntry, HistoryEntry, QuotesEntry, QuotesEntry, RulesEntry, QuotesEntry, QuotesEntry, RulesEntry,
    ]  # fmt: skip
    assert entries_of(feed) == one_by_one


@pytest.mark.parametrize(("entries_at_once", "quotes_at_once"), [(1, 20_000), (3, 20_000), (200, 1), (200, 2)])
def test_entries_are_the_same_however_many_are_read_at_once(feed, monkeypatch, entries_at_once, quotes_at_once):
    whole = entries_of(feed)
    monkeypatch.setattr(queries, "ENTRIES_AT_ONCE", entries_at_once)
    monkeypatch.setattr(queries, "QUOTES_AT_ONCE", quotes_at_once)
    assert entries_of(feed) == whole


def test_entries_begin_after_one_and_end_with_another(feed):
    assert [entry.seq for entry in entries_of(feed, after_seq=2, up_to_seq=5)] == [3, 4, 5]
    assert entries_of(feed, after_seq=5, up_to_seq=5) == []


def test_entries_of_one_asset_leave_out_the_others(feed):
    bitcoin = asset_ids(feed)["BTC-USD"]
    added, past, first, second, other, failed, empty, deleted = entries_of(feed, asset_ids={bitcoin})
    assert [change.asset_ids for change in added.changes] == [[bitcoin]]
    assert past.asset_ids == [bitcoin]
    assert [asset_id for asset_id, _, _ in first.quotes + second.quotes] == [bitcoin, bitcoin]
    assert [change.asset_ids for change in other.changes] == [[]]
    assert failed.quotes == empty.quotes == []
    assert [(change.version_id, change.asset_ids) for change in deleted.changes] == [(None, [])]


def test_a_log_of_a_hundred_entries_costs_the_statements_of_one_of_ten(feed, django_assert_num_queries):
    for second in range(10, 110):
        append_quotes(feed, [("BTC-USD", at(second), "9")])
    with CaptureQueriesContext(connection) as few:
        assert len(entries_of(feed, up_to_seq=10)) == 10
    with django_assert_num_queries(len(few)):
        assert len(entries_of(feed)) == 99


def test_an_engine_rebuilt_for_one_asset_stands_there_as_the_whole_one(feed, monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_ENTRIES", 3)
    evaluate_pending(feed_id=feed.pk)
    ids = asset_ids(feed)
    rule_ids = list(range(1, 1 + max(queries.Rule.objects.values_list("pk", flat=True))))
    for seq in range(1, 9):
        whole = services.rebuild_engine(feed_id=feed.pk, seq=seq)
        alone = services.rebuild_engine(feed_id=feed.pk, seq=seq, asset_ids={ids["ETH-USD"]})
        assert alone.seq == whole.seq == seq
        assert {asset_id for asset_id, *_ in alone.dump()["series"]} <= {ids["ETH-USD"]}
        of_ethereum = [whole.status_of_instance(rule_id, ids["ETH-USD"]) for rule_id in rule_ids]
        assert [alone.status_of_instance(rule_id, ids["ETH-USD"]) for rule_id in rule_ids] == of_ethereum
        assert [alone.status_of_instance(rule_id, ids["BTC-USD"]) for rule_id in rule_ids] == [None] * len(rule_ids)


def prospect_of(**document):
    return queries.first_evaluated(RuleSpec.read({"condition": above(1)} | document))


def test_a_rule_says_from_when_it_is_evaluated_on_each_asset_in_a_feed(feed):
    Asset.objects.create(symbol="STRAY-USD")
    average = {"kind": "above_average", "percent": "0", "window": "1m"}
    prospect = prospect_of(assets=["STRAY-USD", "ETH-USD", "BTC-USD"], condition=average)
    assert [(one.asset.symbol, one.outlook.summary) for one in prospect.assets] == [
        ("BTC-USD", "needs 30 of 60 seconds; 11 are stored: known from 2026-03-02 12:00:21 UTC"),
        ("ETH-USD", "needs 30 of 60 seconds; 8 are stored: known from 2026-03-02 12:00:23 UTC"),
    ]
    assert (prospect.count, prospect.warnings) == (2, [])


def test_late_quotes_count_for_nothing(feed):
    append_quotes(feed, [("ETH-USD", at(-60), "7")])
    average = {"kind": "above_average", "percent": "0", "window": "1m"}
    (ethereum,) = prospect_of(assets=["ETH-USD"], condition=average).assets
    assert "8 are stored" in ethereum.outlook.summary


def test_many_assets_are_listed_up_to_a_limit_in_the_statements_of_one(feed, monkeypatch, django_assert_num_queries):
    with CaptureQueriesContext(connection) as one:
        prospect_of(assets=["BTC-USD"])
    with django_assert_num_queries(len(one)):
        assert len(prospect_of(assets={"feed": "feed"}).assets) == 2
    monkeypatch.setattr(queries, "OUTLOOKS_MOST", 1)
    limited = prospect_of(assets={"feed": "feed"})
    assert ([one.asset.symbol for one in limited.assets], limited.count) == (["BTC-USD"], 2)


@pytest.mark.django_db
def test_the_pace_of_a_feed_is_measured_by_its_own_clock():
    recording = make_feed("FILM-USD", name="recording")
    for minute in range(3):
        append_quotes(recording, [("FILM-USD", at(60 * minute), "1")])
    rises = {"kind": "rises", "percent": "1", "window": "1m"}
    (warning,) = prospect_of(assets=["FILM-USD"], condition=rises).warnings
    assert "twice the pace of recording, where a quote comes every 60 s" in warning
