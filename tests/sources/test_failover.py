"""When a provider fails, or gives a part only: the next is asked, the circuit opens, and the change is seen."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from apps.alerts.models import Alert
from apps.backtests.evaluation import try_on_stored
from apps.market import domain, services
from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote, Quote
from apps.pipeline.flow import evaluate_pending
from apps.rules.engine.rule import RuleSpec
from apps.rules.services import rebuild_engine
from apps.rules.why import why
from apps.sources import domain as sources_domain
from apps.sources import services as sources
from apps.sources.domain import CircuitState
from apps.sources.models import Circuit, FeedSource, Listing
from apps.sources.providers.protocol import Limits, ProviderRejected, ProviderUnavailable
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import fetching
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed, make_owner, make_rule
from tests.sources.scripted import Scripted, answer_with
from tests.threads import at_once

pytestmark = pytest.mark.django_db
LIMITS = Limits(batch_size=100, shortest_interval_seconds=1)
DOWN = ProviderUnavailable("timeout")


@pytest.fixture
def first(monkeypatch):
    """Return the provider that is asked first."""
    provider = Scripted(slug="first", limits=LIMITS)
    monkeypatch.setitem(PROVIDERS, "first", provider)
    return provider


@pytest.fixture
def second(monkeypatch):
    """Return the provider that is asked next."""
    provider = Scripted(slug="second", limits=LIMITS)
    monkeypatch.setitem(PROVIDERS, "second", provider)
    return provider


def make_pair(*symbols, name="pair"):
    """Return a feed that asks `first`, then `second`."""
    feed = make_feed(*symbols, name=name, provider="first")
    options = {"base_url": "https://public.example"}
    feed.sources.update(options=options)
    FeedSource.objects.create(feed=feed, position=2, provider="second", options=options)
    return feed


def fetch(feed, seconds=0):
    return sources.fetch(feed_id=feed.pk, slot=at(seconds), now=at(seconds), trace_id=TRACE)


def entries(feed):
    rows = FeedEntry.objects.filter(feed=feed, kind="quotes").order_by("seq")
    return [(one.slot, one.part, one.provider, one.accepted, one.failure) for one in rows]


# A further entry


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


# Circuits


def test_a_circuit_opens_at_the_fifth_failure_and_closes_after_two_answers():
    state = CircuitState()
    for _ in range(4):
        state = sources_domain.circuit_after_failure(state, reason="timeout", retry_after_seconds=None, now=START)
    assert state == CircuitState(failures=4)
    state = sources_domain.circuit_after_failure(state, reason="timeout", retry_after_seconds=None, now=START)
    assert state == CircuitState(5, 0, at(60))
    state = sources_domain.circuit_after_success(state)
    assert state == CircuitState(5, 1, at(60))
    assert sources_domain.circuit_after_success(state) == CircuitState()


def test_one_failure_opens_a_circuit_again_that_was_half_open():
    state = CircuitState(5, 1, START)
    state = sources_domain.circuit_after_failure(state, reason="timeout", retry_after_seconds=None, now=at(70))
    assert state == CircuitState(6, 0, at(130))


def test_one_that_was_opened_by_a_single_word_of_the_provider_opens_again_at_once_too():
    state = sources_domain.circuit_after_failure(
        CircuitState(1, 0, START), reason="timeout", retry_after_seconds=None, now=at(70)
    )
    assert state.open_until == at(130)


def test_a_call_that_was_under_way_when_the_circuit_opened_does_not_shorten_it():
    state = sources_domain.circuit_after_failure(
        CircuitState(1, 0, at(3_600)), reason="timeout", retry_after_seconds=None, now=at(5)
    )
    assert state.open_until == at(3_600)


@pytest.mark.parametrize(
    ("retry_after", "seconds"), [(120, 120), (None, 60), (0, 1), (-5, 1), (10**20, 604_800), (259_200, 259_200)]
)
def test_an_answer_that_calls_are_too_many_opens_the_circuit_for_as_long(retry_after, seconds):
    state = sources_domain.circuit_after_failure(
        CircuitState(), reason="rate_limited", retry_after_seconds=retry_after, now=START
    )
    assert state.open_until == START + timedelta(seconds=seconds)


def test_an_answer_forgets_the_failures_before_it():
    assert sources_domain.circuit_after_success(CircuitState(failures=4)) == CircuitState()


def test_five_failures_of_one_feed_keep_every_feed_from_asking(first, second):
    feed, other = make_pair("A"), make_pair("B", name="other")
    first.gives = [DOWN] * 5
    second.gives = [answer_with((name, at(one), "1"), as_of=at(one)) for one, name in enumerate("AAAAAB")]
    for one in range(5):
        fetch(feed, one)
    fetch(other, 5)

    assert (len(first.asked), len(second.asked)) == (5, 6)
    circuit = Circuit.objects.get()
    assert (circuit.provider, circuit.address) == ("first", "https://public.example")
    assert (circuit.failures, circuit.open_until, circuit.reason, circuit.failed_at) == (5, at(64), "timeout", at(4))


def test_a_provider_is_left_alone_from_when_it_said_so(first, second, monkeypatch):
    seconds = [0]

    def hang(self, request, answer=Scripted.fetch):
        seconds[0] += 9
        return answer(self, request)

    monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    monkeypatch.setattr(Scripted, "fetch", hang)
    feed = make_pair("A")
    first.gives, second.gives = [DOWN], [ProviderUnavailable("rate_limited", retry_after_seconds=5)]
    fetch(feed)

    assert Circuit.objects.get(provider="second").open_until == at(18 + 5)


def test_a_half_open_circuit_lets_calls_through_and_two_answers_close_it(first, second):
    feed = make_pair("A")
    options = {"provider": "first", "address": "https://public.example"}
    Circuit.objects.create(**options, failures=5, open_until=at(60))
    first.gives = [answer_with(("A", at(one), "1"), as_of=at(one)) for one in (60, 61)]
    second.gives = [answer_with(("A", at(59), "1"), as_of=at(59))]
    for one in (59, 60, 61):
        fetch(feed, one)

    assert (len(first.asked), len(second.asked)) == (2, 1)
    circuit = Circuit.objects.get()
    assert (circuit.failures, circuit.successes, circuit.open_until) == (0, 0, None)


def test_another_address_of_the_same_provider_has_a_circuit_of_its_own(first):
    Circuit.objects.create(provider="first", address="https://public.example", failures=5, open_until=at(60))
    feed = make_feed("A", provider="first")
    feed.sources.update(options={"base_url": "http://127.0.0.1:1"})
    first.gives = [answer_with(("A", START, "1"), as_of=START)]

    assert fetch(feed).accepted == 1


def test_where_every_circuit_is_open_the_feed_waits_for_the_last_and_says_why(first, second):
    feed = make_pair("A")
    for provider in ("first", "second"):
        Circuit.objects.create(provider=provider, address="https://public.example", failures=5, open_until=at(42.5))
    entry = fetch(feed)

    assert (entry.failure, first.asked, second.asked) == ("circuit_open", [], [])
    assert FeedHead.objects.get(feed=feed).next_slot == at(43)


def test_a_failure_says_more_than_an_open_circuit_behind_it(first, second):
    feed = make_pair("A")
    Circuit.objects.create(provider="second", address="https://public.example", failures=5, open_until=at(42))
    first.gives = [DOWN]

    assert fetch(feed).failure == "timeout"


@pytest.mark.parametrize("reason", ["unknown_symbol", "http_404", "no_key", "premium"])
def test_a_refusal_of_what_one_feed_asks_does_not_open_the_circuit(first, second, reason):
    feed = make_pair("A")
    first.gives = [ProviderRejected(reason)]
    second.gives = [answer_with(("A", START, "1"), as_of=START)]
    fetch(feed)

    assert not Circuit.objects.exists()


def test_a_wrong_key_opens_the_circuit(first, second):
    feed = make_pair("A")
    first.gives = [ProviderRejected("unauthorized")]
    second.gives = [answer_with(("A", START, "1"), as_of=START)]
    fetch(feed)

    assert Circuit.objects.get().failures == 1


def test_an_invented_markets_outage_opens_no_circuit(monkeypatch):
    provider = Scripted(is_live=False, slug="recording", gives=[ProviderUnavailable("outage")])
    monkeypatch.setitem(PROVIDERS, "recording", provider)
    fetch(make_feed("A", provider="recording"))

    assert not Circuit.objects.exists()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_failures_at_once_are_all_counted():
    source = FeedSource(provider="first", options={"base_url": "https://public.example"})

    def fail():
        for _ in range(10):
            failed = {"reason": "timeout", "is_refusal": False, "retry_after_seconds": None, "now": START}
            sources.note_failure(source=source, **failed)

    at_once(*[fail] * 4)
    assert Circuit.objects.get().failures == 40


# Another provider from here on


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


# Whose time


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
