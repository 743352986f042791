"""Circuits: a provider that fails or says that it is asked too often is left alone for a while."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from apps.market.models import FeedHead
from apps.sources import domain as sources_domain
from apps.sources import services as sources
from apps.sources.domain import CircuitState
from apps.sources.models import Circuit, FeedSource
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import fetching
from tests.builders import START, at, make_feed
from tests.sources.pairs import DOWN, fetch, make_pair
from tests.sources.scripted import Scripted, answer_with
from tests.threads import at_once

pytestmark = pytest.mark.django_db


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
