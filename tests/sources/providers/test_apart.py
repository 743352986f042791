"""Names that a provider refuses together with others: found by halving, in few calls, while the others have prices."""

import json
import random
from dataclasses import replace
from math import log2

import pytest
from werkzeug import Response

from apps.market.domain import RawQuote
from apps.sources.providers.apart import gather
from apps.sources.providers.binance import Binance
from apps.sources.providers.kraken import Kraken
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable
from tests.sources.asking import request_to

PAIRS = ["BTCUSDT", "ETHUSDT", "GONEUSDT"]


class Server:
    """A provider that refuses each call with one of these names in it, and keeps what it was asked."""

    def __init__(self, *refused, reason="http_400"):
        self.refused, self.reason, self.calls = {*refused}, reason, []

    def __call__(self, names):
        self.calls.append(list(names))
        if self.refused.intersection(names):
            raise ProviderRejected(self.reason)
        return [RawQuote(name, "1") for name in names]


def priced(gathered):
    return {quote.external_id for quote in gathered.quotes}


@pytest.mark.parametrize("count", [*range(2, 33), 99, 100, 250])
def test_one_refused_name_is_found_in_two_calls_for_each_halving_and_costs_no_other(count):
    names = [f"N{number:03}" for number in range(count)]
    for seed, gone in enumerate(names):
        server = Server(gone)
        gathered = gather([names], fetch_batch=server, seed=seed)

        assert gathered.refused == {gone: "http_400"}
        assert priced(gathered) == {*names} - {gone}
        assert gathered.extra_calls == len(server.calls) - 1 <= 2 * log2(count)


def test_of_several_refused_names_each_round_finds_one_at_least_within_the_same_calls():
    drawn = random.Random(7)
    for seed in range(300):
        names = [f"N{number}" for number in range(drawn.randint(4, 60))]
        gone = {*drawn.sample(names, 3)}
        server = Server(*gone)
        try:
            gathered = gather([names], fetch_batch=server, seed=seed)
        except ProviderRejected:
            # No other name had a price by then: another order is tried in the next round.
            gathered = None
        assert len(server.calls) - 1 <= 2 * log2(len(names))
        if gathered is not None:
            assert gathered.refused
            assert gathered.refused.keys() <= gone
            assert priced(gathered) <= {*names} - gone


@pytest.mark.parametrize("count", [2, 3, 4, 10, 30])
def test_round_after_round_every_refused_name_is_found_however_many_there_are(count):
    names = [f"N{number}" for number in range(count)]
    server = Server(*names[1:])
    found = set()
    for seed in range(400):
        left = [name for name in names if name not in found]
        try:
            found |= gather([left], fetch_batch=server, seed=seed).refused.keys()
        except ProviderRejected as rejection:
            assert rejection.reason == "http_400"

    assert found == {*names[1:]}


def test_where_every_name_is_refused_none_is_blamed_and_the_calls_are_counted():
    server = Server("A", "B", "C", "D")
    with pytest.raises(ProviderRejected) as caught:
        gather([["A", "B", "C", "D"]], fetch_batch=server, seed=0)

    assert (caught.value.reason, caught.value.extra_calls) == ("http_400", 4)
    assert len(server.calls) == 5


def test_a_price_in_another_call_is_enough_to_blame_a_name():
    gathered = gather([["A", "B"], ["GONE"]], fetch_batch=Server("GONE"), seed=0)

    assert (gathered.refused, gathered.extra_calls) == ({"GONE": "http_400"}, 0)


def test_an_answer_without_any_price_is_not_enough():
    def nothing_but_names(names):
        if "GONE" in names:
            raise ProviderRejected("unknown_symbol")
        return [RawQuote(name, None) for name in names]

    with pytest.raises(ProviderRejected, match="^unknown_symbol$"):
        gather([["A", "GONE"]], fetch_batch=nothing_but_names, seed=0)


@pytest.mark.parametrize("reason", ["unauthorized", "premium", "no_key", "http_451"])
def test_a_refusal_that_is_about_no_name_is_not_searched(reason):
    server = Server("GONE", reason=reason)
    with pytest.raises(ProviderRejected, match=f"^{reason}$"):
        gather([["A", "GONE"]], fetch_batch=server, seed=0)

    assert len(server.calls) == 1


def test_a_call_that_is_refused_once_blames_nobody():
    server = Server()
    calls = iter([ProviderRejected("http_400")])

    def refuse_once(names):
        for error in calls:
            raise error
        return server(names)

    gathered = gather([["A", "B"]], fetch_batch=refuse_once, seed=0)
    assert (gathered.refused, priced(gathered)) == ({}, {"A", "B"})


@pytest.mark.parametrize(("reason", "is_kept"), [("timeout", True), ("rate_limited", False), ("http_503", False)])
def test_a_search_that_runs_out_of_time_keeps_what_it_found(reason, is_kept):
    calls = []

    def fetch_batch(names):
        calls.append(names)
        if len(calls) == 1:
            raise ProviderRejected("http_400")
        if len(calls) == 2:
            return [RawQuote(name, "1") for name in names]
        raise ProviderUnavailable(reason)

    batches = [["A", "B", "C", "D", "E", "F", "G", "H"]]
    if is_kept:
        assert len(priced(gather(batches, fetch_batch=fetch_batch, seed=0))) == 4
    else:
        with pytest.raises(ProviderUnavailable, match=f"^{reason}$"):
            gather(batches, fetch_batch=fetch_batch, seed=0)


def serve_binance(httpserver, *listed):
    def answer(request):
        symbols = json.loads(request.args["symbols"])
        if {*symbols} - {*listed}:
            return Response('{"code":-1121,"msg":"Invalid symbol."}', status=400, content_type="application/json")
        items = [{"symbol": symbol, "price": "1"} for symbol in symbols]
        return Response(json.dumps(items), content_type="application/json")

    httpserver.expect_request("/api/v3/ticker/price").respond_with_handler(answer)
    return request_to(Binance(), httpserver.url_for(""), PAIRS)


def serve_kraken(httpserver, *listed):
    def answer(request):
        pairs = request.args["pair"].split(",")
        if {*pairs} - {*listed}:
            return Response('{"error":["EQuery:Unknown asset pair"]}', content_type="application/json")
        payload = {"error": [], "result": {pair: {"c": ["1", "1"]} for pair in pairs}}
        return Response(json.dumps(payload), content_type="application/json")

    httpserver.expect_request("/0/public/Ticker").respond_with_handler(answer)
    return request_to(Kraken(), httpserver.url_for(""), PAIRS)


@pytest.mark.parametrize(
    ("provider", "serve", "reason"),
    [(Binance(), serve_binance, "http_400"), (Kraken(), serve_kraken, "unknown_symbol")],
    ids=["binance", "kraken"],
)
def test_a_pair_that_was_delisted_costs_no_other_pair(provider, serve, reason, httpserver):
    answer = provider.fetch(serve(httpserver, "BTCUSDT", "ETHUSDT"))

    assert {(quote.external_id, quote.price) for quote in answer.quotes} == {
        ("BTCUSDT", "1"),
        ("ETHUSDT", "1"),
        ("GONEUSDT", None),
    }
    assert answer.refused == {"GONEUSDT": reason}
    assert answer.extra_calls == len(httpserver.log) - 1 <= 3


def test_a_name_that_was_refused_lately_is_asked_for_in_a_call_of_its_own(httpserver):
    request = replace(serve_binance(httpserver, "BTCUSDT", "ETHUSDT"), apart={"GONEUSDT"})
    answer = Binance().fetch(request)

    assert (answer.refused, answer.extra_calls) == ({"GONEUSDT": "http_400"}, 1)
    asked = {call.args["symbols"] for call, _ in httpserver.log}
    assert asked == {'["BTCUSDT","ETHUSDT"]', '["GONEUSDT"]'}
