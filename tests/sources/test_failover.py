"""When a provider fails, or gives a part only: the next is asked, and the change of provider is seen."""

import pytest

from apps.alerts.models import Alert
from apps.backtests.evaluation import try_on_stored
from apps.market import domain, services
from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote, Quote
from apps.pipeline.flow import evaluate_pending
from apps.rules.engine.rule import RuleSpec
from apps.rules.services import rebuild_engine
from apps.rules.why import why
from apps.sources import services as sources
from apps.sources.models import FeedSource, Listing
from apps.sources.providers.protocol import Limits
from apps.sources.providers.registry import PROVIDERS
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.sources.pairs import DOWN, LIMITS, fetch, make_pair
from tests.sources.scripted import Scripted, answer_with

pytestmark = pytest.mark.django_db


def entries(feed):
    rows = FeedEntry.objects.filter(feed=feed, kind="quotes").order_by("seq")
    return [(one.slot, one.part, one.provider, one.accepted, one.failure) for one in rows]


def test_what_the_first_does_not_give_is_asked_of_the_next_and_stands_in_a_further_entry(first, second):
    feed = make_pair("A", "B", "C")
    first.gives = [answer_with(("A", START, "1"), ("C", START, "0"), as_of=START)]
    second.gives = [answer_with(("B", START, "2"), ("C", START, "3"), as_of=START)]
    fetch(feed)

    assert entries(feed) == [(START, 1, "first", 1, ""), (START, 2, "second", 2, "")]
    assert second.asked[0].external_ids == ["B", "C"]
    newest = LatestQuote.objects.order_by("asset__symbol").values_list("asset__symbol", "provider")
    assert list(newest) == [("A", "first"), ("B", "second"), ("C", "second")]


def test_where_the_first_gives_all_the_next_is_not_asked(first, second):
    feed = make_pair("A", "B")
    first.gives = [answer_with(("A", START, "1"), ("B", START, "2"), as_of=START)]
    fetch(feed)

    assert (entries(feed), second.asked) == ([(START, 1, "first", 2, "")], [])


def test_a_quote_that_is_late_repeated_or_unconfirmed_is_given(first, second):
    feed = make_pair("A", "B", "C")
    first.gives = [
        answer_with(("A", at(5), "1"), ("B", at(5), "1"), ("C", at(5), "1"), as_of=at(5)),
        answer_with(("A", at(4), "1"), ("B", at(5), "1"), ("C", at(6), "9"), as_of=at(6)),
    ]
    fetch(feed)
    fetch(feed, 6)

    assert second.asked == []


def test_where_the_next_fails_what_the_first_gave_stands(first, second):
    feed = make_pair("A", "B")
    first.gives = [answer_with(("A", START, "1"), as_of=START)]
    second.gives = [DOWN]
    fetch(feed)

    assert entries(feed) == [(START, 1, "first", 1, "")]
    assert FeedHead.objects.get(feed=feed).failures == 0


def test_assets_whose_turn_it_is_not_are_not_missing(first, second):
    first.limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_round=1)
    feed = make_pair("A", "B")
    first.gives = [answer_with(("A", START, "1"), as_of=START), answer_with(as_of=at(1))]
    second.gives = [answer_with(("B", at(1), "1"), as_of=at(1))]
    fetch(feed)
    fetch(feed, 1)

    assert [request.external_ids for request in first.asked] == [["A"], ["B"]]
    assert [request.external_ids for request in second.asked] == [["B"]]


def test_every_asset_has_its_turn_also_where_a_slot_has_two_entries(first, second):
    first.limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_round=1)
    feed = make_pair("A", "B")
    first.gives = [answer_with(as_of=at(one)) for one in range(4)]
    second.gives = [answer_with((("A", "B")[one % 2], at(one), "1"), as_of=at(one)) for one in range(4)]
    for one in range(4):
        fetch(feed, one)

    assert [request.external_ids for request in first.asked] == [["A"], ["B"], ["A"], ["B"]]


def test_what_the_first_does_not_give_in_its_turns_has_its_turn_at_the_next(first, second):
    first.limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_round=2)
    second.limits = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_round=1)
    feed = make_pair("A", "B", "C", "D")
    first.gives = [answer_with(as_of=at(one)) for one in range(4)]
    second.gives = [answer_with(as_of=at(one)) for one in range(4)]
    for one in range(4):
        fetch(feed, one)

    assert [request.external_ids for request in first.asked] == [["A", "B"], ["C", "D"]] * 2
    assert [request.external_ids for request in second.asked] == [["A"], ["C"], ["B"], ["D"]]


def test_a_name_in_another_currency_is_not_asked_for(first, second, monkeypatch):
    feed = make_pair("A", "B")
    Listing.objects.create(asset_id=asset_ids(feed)["A"], provider="second", external_id="A-EUR")
    monkeypatch.setattr(Scripted, "currency_of", lambda self, name, options: name[2:] or "USD", raising=False)
    first.gives = [DOWN]
    second.gives = [answer_with(("B", START, "1"), as_of=START)]
    fetch(feed)

    assert second.asked[0].external_ids == ["B"]


def test_where_the_next_has_no_name_for_what_is_missing_it_is_not_called(first, second, monkeypatch):
    feed = make_pair("A", "B")
    Listing.objects.create(asset_id=asset_ids(feed)["B"], provider="second", external_id="B-EUR")
    monkeypatch.setattr(Scripted, "currency_of", lambda self, name, options: name[2:] or "USD", raising=False)
    first.gives = [answer_with(("A", START, "1"), as_of=START)]
    fetch(feed)

    assert (entries(feed), second.asked) == ([(START, 1, "first", 1, "")], [])


def test_what_the_first_calls_by_a_name_in_another_currency_is_asked_of_the_next(first, second, monkeypatch):
    feed = make_pair("A", "B")
    Asset.objects.update(currency="USD")
    Listing.objects.create(asset_id=asset_ids(feed)["B"], provider="first", external_id="B-EUR")
    monkeypatch.setattr(Scripted, "currency_of", lambda self, name, options: name[2:] or "USD", raising=False)
    first.gives = [answer_with(("A", START, "1"), as_of=START)]
    second.gives = [answer_with(("B", START, "2"), as_of=START)]
    fetch(feed)

    assert entries(feed) == [(START, 1, "first", 1, ""), (START, 2, "second", 1, "")]
    assert second.asked[0].external_ids == ["B"]


def test_what_the_next_has_no_name_for_is_asked_of_the_one_after(first, second, monkeypatch):
    third = Scripted(slug="third", limits=LIMITS, gives=[answer_with(("B", START, "2"), as_of=START)])
    monkeypatch.setitem(PROVIDERS, "third", third)
    feed = make_pair("A", "B", "C")
    FeedSource.objects.create(feed=feed, position=3, provider="third")
    Listing.objects.create(asset_id=asset_ids(feed)["B"], provider="second", external_id="B-EUR")
    monkeypatch.setattr(Scripted, "currency_of", lambda self, name, options: name[2:] or "USD", raising=False)
    first.gives = [answer_with(("A", START, "1"), as_of=START)]
    second.gives = [answer_with(("C", START, "3"), as_of=START)]
    fetch(feed)

    assert [request.external_ids for request in (*second.asked, *third.asked)] == [["C"], ["B"]]


def test_the_entries_of_a_slot_are_stored_together_or_not_at_all(first, second, monkeypatch):
    feed = make_pair("A", "B")
    first.gives = [answer_with(("A", START, "1"), as_of=START)]
    second.gives = [answer_with(("B", START, "2"), as_of=START)]
    store, stored = services.log.store_quotes, []

    def breaks_at_the_second(**arguments):
        stored.append(arguments)
        if arguments["entry"].part == 2:
            raise RuntimeError
        store(**arguments)

    monkeypatch.setattr(services.log, "store_quotes", breaks_at_the_second)
    with pytest.raises(RuntimeError):
        fetch(feed)

    assert (FeedEntry.objects.count(), Quote.objects.count()) == (0, 0)
    assert len(stored) > 1


def test_an_entry_says_whose_quotes_come_from_another_provider_since(first, second):
    feed = make_pair("A", "B")
    first.gives = [
        answer_with(("A", START, "1"), ("B", START, "1"), as_of=START),
        DOWN,
        answer_with(("A", at(2), "1"), as_of=at(2)),
    ]
    second.gives = [answer_with(("A", at(1), "1"), as_of=at(1)), answer_with(("B", at(2), "1"), as_of=at(2))]
    for one in range(3):
        fetch(feed, one)

    ids = asset_ids(feed)
    switched = FeedEntry.objects.order_by("seq").values_list("provider", "switched")
    assert list(switched) == [
        ("first", None),
        ("second", {"first": [ids["A"]]}),
        ("first", {"second": [ids["A"]]}),
        ("second", {"first": [ids["B"]]}),
    ]


def test_the_first_quote_after_an_import_is_no_change_of_provider():
    feed = make_feed("A")
    rows = [domain.RawQuote("A", "1", START)]
    sources.import_history(feed_id=feed.pk, quotes=rows, now=START, trace_id=TRACE)
    assert append_quotes(feed, [("A", at(1), "1")]).switched is None


CROSSES = {"kind": "crosses_up", "level": "10"}


def opened(feed):
    evaluate_pending(feed_id=feed.pk)
    return list(Alert.objects.order_by("opened_at").values_list("opened_at", flat=True))


def test_no_crossing_is_seen_between_the_prices_of_two_providers():
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=CROSSES)
    for second, (price, provider) in enumerate([("9", "first"), ("11", "second"), ("9", "second"), ("12", "second")]):
        append_quotes(feed, [("A", at(second), price)], provider=provider)

    assert opened(feed) == [at(3)]


def test_a_crossing_after_the_first_quote_of_the_other_provider_within_one_entry_is_seen():
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition=CROSSES)
    append_quotes(feed, [("A", START, "9")], provider="first")
    append_quotes(feed, [("A", at(1), "11"), ("A", at(2), "9"), ("A", at(3), "11")], provider="second")

    assert opened(feed) == [at(3)]


def test_a_state_that_opens_at_the_change_says_so_in_its_evidence_and_summary():
    feed = make_feed("A")
    make_rule(make_owner(), assets=["A"], condition={"kind": "above", "level": "10"})
    append_quotes(feed, [("A", START, "9")], provider="first")
    append_quotes(feed, [("A", at(1), "11")], provider="second")
    evaluate_pending(feed_id=feed.pk)

    alert = Alert.objects.get()
    assert alert.evidence["switched"] == {"from": "first", "to": "second"}
    assert alert.summary.endswith(" (the first price from second, after first)")


def test_an_engine_rebuilt_at_the_change_evaluates_as_one_that_lived_through_it(monkeypatch):
    monkeypatch.setattr("apps.rules.services.CHECKPOINT_ENTRIES", 1)
    feed, owner = make_feed("A"), make_owner()
    rule = make_rule(owner, assets=["A"], condition={"any": [CROSSES, {"kind": "below", "level": "5"}]})
    append_quotes(feed, [("A", START, "9")], provider="first")
    append_quotes(feed, [("A", at(1), "11")], provider="second")
    evaluate_pending(feed_id=feed.pk)
    seq = FeedHead.objects.get(feed=feed).seq
    rebuilt = rebuild_engine(feed_id=feed.pk, seq=seq)

    asset = Asset.objects.get()
    status_of_instance = rebuilt.status_of_instance(rule.pk, asset.pk)
    assert status_of_instance.evidence["switched"] == {"from": "first", "to": "second"}
    assert status_of_instance.evidence["any"][0]["result"] is None
    answer = why(owner, rule=rule, asset=asset, now=at(1))
    assert answer.evidence == status_of_instance.evidence


def test_why_sees_no_crossing_at_the_change_also_once_the_clock_has_gone_on():
    feed, owner = make_feed("A"), make_owner()
    rule = make_rule(owner, assets=["A"], condition=CROSSES)
    make_rule(owner, name="quiet", assets=["A"], condition={"kind": "stale", "after": "1h"})
    append_quotes(feed, [("A", START, "9")], provider="first")
    append_quotes(feed, [("A", at(1), "11")], provider="second")
    append_quotes(feed, [], as_of=at(5), provider="second")
    evaluate_pending(feed_id=feed.pk)

    assert why(owner, rule=rule, asset=Asset.objects.get(), now=at(5)).evidence["result"] is None


def test_why_sees_no_crossing_at_the_change_also_once_the_windows_are_filled_anew():
    feed, owner = make_feed("A"), make_owner()
    rule = make_rule(owner, assets=["A"], condition=CROSSES)
    append_quotes(feed, [("A", START, "9")], provider="first")
    append_quotes(feed, [("A", at(1), "11")], provider="second")
    append_quotes(feed, [], as_of=at(5), provider="second", history=[("A", at(-60), "8")])
    evaluate_pending(feed_id=feed.pk)

    assert why(owner, rule=rule, asset=Asset.objects.get(), now=at(5)).evidence["result"] is None


def test_a_backtest_on_what_is_stored_sees_no_crossing_between_two_providers():
    feed = make_feed("A")
    for second, (price, provider) in enumerate([("9", "first"), ("11", "second"), ("9", "second"), ("12", "second")]):
        append_quotes(feed, [("A", at(second), price)], provider=provider)
    spec = RuleSpec.read({"assets": ["A"], "condition": CROSSES})
    assets = [Asset.objects.get()]
    found = try_on_stored(spec, assets=assets, since=START, until=at(9), progress=lambda done: None)

    assert [one["opened_at"] for one in found["openings"]] == ["2026-03-02T12:00:03Z"]


@pytest.mark.parametrize(("time_policy", "moment"), [("event", at(-30)), ("receipt", START)])
def test_a_feed_goes_by_event_time_or_by_receipt(first, time_policy, moment):
    feed = make_feed("A", provider="first", time_policy=time_policy)
    first.gives = [answer_with(("A", at(-30), "1"), as_of=START)]
    fetch(feed)

    assert Quote.objects.get().at == moment


def test_by_receipt_a_time_that_cannot_be_believed_costs_no_quote(first):
    feed = make_feed("A", provider="first", time_policy="receipt")
    first.gives = [answer_with(("A", "soon", "1"), as_of=START)]

    assert fetch(feed).accepted == 1


def test_a_recording_keeps_its_own_times(monkeypatch):
    provider = Scripted(is_live=False, slug="recording", gives=[answer_with(("A", at(-30), "1"), as_of=START)])
    monkeypatch.setitem(PROVIDERS, "recording", provider)
    fetch(make_feed("A", provider="recording", time_policy="receipt"))

    assert Quote.objects.get().at == at(-30)
