"""Streams of quotes: how long a quote takes from its commit to those who follow it, where ten streams want each,
and where all streams want one. The service is a process of its own."""

import asyncio
import json
import time
from collections import defaultdict
from decimal import Decimal
from statistics import quantiles

import pytest
from django.db import connection
from django.utils import timezone

from apps.api.tokens.services import create_token
from apps.market.cache import put_latest
from tests.api.live.following import QUOTES, append
from tests.benchmarks.sizes import STREAM_BATCHES, STREAM_BATCHES_PER_SECOND, STREAMS
from tests.builders import asset_ids, at, make_feed, make_member
from tests.rig import rig, wait_until

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.servers,
    pytest.mark.django_db(transaction=True),
]

OF_ONE_VIEWER = 10
WANTED_BY = 10
# 1,000 streams follow 100 assets, and a tenth of these has a quote each tenth of a second.
ASSETS = max(1, STREAMS // WANTED_BY)
QUOTES_OF_A_BATCH = max(1, ASSETS // STREAM_BATCHES_PER_SECOND)
PATIENCE_SECONDS = 60


class Followers:
    """Open streams, read by one loop of asyncio. came: stream -> (price, when it came) of each event."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.came: dict[int, list[tuple[str, float]]] = defaultdict(list)
        self.opened = 0

    async def follow(self, number: int, token: str, symbols: list[str]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        body = json.dumps({"query": QUOTES, "variables": {"assets": symbols}}).encode()
        head = (
            f"POST /graphql/stream HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nAuthorization: Bearer {token}\r\n"
            "Accept: text/event-stream\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        try:
            assert b" 200 " in await reader.readline()
            self.opened += 1
            while line := await reader.readline():
                if line.startswith(b"data: {"):
                    update = json.loads(line.removeprefix(b"data: "))["data"]["quoteUpdated"]
                    self.came[number].append((update["price"], time.monotonic()))
        finally:
            writer.close()

    def count(self) -> int:
        return sum(map(len, self.came.values()))


async def measured(followers: Followers, follows: list[tuple[str, list[str]]], work) -> None:
    """Follow, do the work in a thread once all streams are open, and leave when it returns."""
    tasks = [asyncio.ensure_future(followers.follow(number, *one)) for number, one in enumerate(follows)]
    try:
        await asyncio.to_thread(work)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
def service(tmp_path):
    """Return the port of the process."""
    with rig(tmp_path) as processes:
        processes.start("manage", "live", "--listen", "127.0.0.1:0", name="live")
        assert wait_until(lambda: "/graphql/stream" in processes.log("live"))
        yield int(processes.log("live").split("127.0.0.1:")[1].split("/")[0])


def test_quotes_reach_those_who_follow_them(service):
    symbols = [f"A{number:03}" for number in range(ASSETS)]
    feed, others = make_feed(*symbols, name="many"), make_feed("ALL", name="all")
    tokens = [
        create_token(owner=make_member(f"viewer-{number}"), name="stream")[1]
        for number in range(-(-STREAMS // OF_ONE_VIEWER))
    ]
    follows = [(tokens[number // OF_ONE_VIEWER], [symbols[number % ASSETS], "ALL"]) for number in range(STREAMS)]
    followers, ids = Followers(service), asset_ids(feed)
    sent: dict[str, float] = {}
    wanted = defaultdict(list)

    def work() -> None:
        assert wait_until(lambda: followers.opened == STREAMS, timeout_seconds=PATIENCE_SECONDS)
        price = 1_000
        began = time.monotonic()
        for batch in range(STREAM_BATCHES):
            chosen = [symbols[(batch * QUOTES_OF_A_BATCH + place) % ASSETS] for place in range(QUOTES_OF_A_BATCH)]
            quotes = []
            for symbol in chosen:
                price += 1
                quotes.append((symbol, at(batch + 1), str(price)))
                wanted[symbol].append(str(price))
            append(feed, quotes)
            # As whoever stores quotes does: it wakes the service.
            newest = [(ids[symbol], moment, Decimal(one)) for symbol, moment, one in quotes]
            assert put_latest(newest, seconds_to_live=60, now=timezone.now())
            sent.update(dict.fromkeys((one for _, _, one in quotes), time.monotonic()))
            time.sleep(max(0, began + (batch + 1) / STREAM_BATCHES_PER_SECOND - time.monotonic()))
        total = sum(len(wanted[names[0]]) for _, names in follows)
        assert wait_until(lambda: followers.count() == total, timeout_seconds=PATIENCE_SECONDS)
        append(others, [("ALL", at(1), "7")])
        assert put_latest([(others.assets.get().pk, at(1), Decimal(7))], seconds_to_live=60, now=timezone.now())
        sent["7"] = time.monotonic()
        assert wait_until(lambda: followers.count() == total + STREAMS, timeout_seconds=PATIENCE_SECONDS)
        connection.close()

    asyncio.run(measured(followers, follows, work))

    for number, (_, names) in enumerate(follows):
        assert [price for price, _ in followers.came[number]] == [*wanted[names[0]], "7"]
    came = [(price, when) for events in followers.came.values() for price, when in events]
    some = [(when - sent[price]) * 1_000 for price, when in came if price != "7"]
    of_all = max(when for price, when in came if price == "7") - sent["7"]
    rate, parts = QUOTES_OF_A_BATCH * STREAM_BATCHES_PER_SECOND, quantiles(some, n=100)
    print(f"\n  {STREAMS:,} streams, {rate} quotes/s, each for {WANTED_BY} of them")
    print(f"  p50 {parts[49]:>6.0f} ms   p99 {parts[98]:>6.0f} ms")
    print(f"  one quote for all of them: the last has it after {of_all:.2f} s")
