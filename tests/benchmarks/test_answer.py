"""A large answer over HTTP from this machine, until it is stored and cached, beside bare COPY of its rows.

In turns, so that the ratios hold on a busy machine too; what of it is ours, without the exchange with the server and
the writing to Redis; and what of that is parsing, admitting and storing, without what comes before a call is made.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pytest
from django.db import connection, transaction

from apps.market import cache
from apps.market.models import Asset, FeedEntry, Quote
from apps.sources import services as sources
from apps.sources.providers import http
from apps.sources.providers.coincap import CoinCap
from apps.sources.providers.protocol import Limits
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import fetching
from tests import builders
from tests.benchmarks.sizes import ANSWER_QUOTES as QUOTES
from tests.benchmarks.sizes import ANSWER_WARM_UP as WARM_UP
from tests.benchmarks.sizes import ANSWERS

COPY = "COPY bare (asset_id, at, price, volume, entry_id, late) FROM STDIN"

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


class Wide(CoinCap):
    """CoinCap's form of an answer, all of it in one call."""

    limits = Limits(batch_size=QUOTES, shortest_interval_seconds=1)


def answer(number: int) -> bytes:
    """Return the body of the answer of that number, with prices of its own."""
    items = [
        {"id": f"coin-{one}", "symbol": f"C{one}", "priceUsd": f"{100 + (one * 7 + number * 13) % 1000 / 1000:.16f}"}
        for one in range(QUOTES)
    ]
    return json.dumps({"data": items, "timestamp": 0}).encode()


# In a process of its own: what the server does is not the market's time.
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import cycle
from pathlib import Path

bodies = cycle([path.read_bytes() for path in sorted(Path(sys.argv[1]).iterdir())])

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = next(bodies)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""


@contextmanager
def server_of(bodies: list[bytes], *, folder: Path) -> Iterator[str]:
    """Give the address of a server that answers each call with the next body."""
    for number, body in enumerate(bodies):
        (folder / f"{number:04}").write_bytes(body)
    process = subprocess.Popen([sys.executable, "-c", SERVER, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def timed(seconds: list[float]) -> Iterator[None]:
    """Append how long the block took."""
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds.append(time.perf_counter() - began)


def copy_again(entry: FeedEntry, *, seconds: list[float]) -> int:
    """COPY the rows of an entry into the table `bare`, their text made beforehand, and return how many there are."""
    rows = Quote.objects.filter(entry=entry).values_list("asset_id", "at", "price")
    texts = [f"{asset_id}\t{at}\t{price}\t\\N\t{entry.pk}\tf\n" for asset_id, at, price in rows]
    text = "".join(texts)
    with (
        timed(seconds),
        transaction.atomic(),
        connection.cursor() as cursor,
        cursor.copy(COPY) as copy,
    ):
        copy.write(text)
    return len(texts)


def test_a_large_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("COINCAP_API_KEY", "key")
    monkeypatch.setitem(PROVIDERS, "coincap", Wide())
    clock = [builders.START]
    monkeypatch.setattr(http, "now", lambda: clock[0])
    elsewhere: list[float] = []

    steps: list[float] = []

    def noted(function, seconds):
        def called(*arguments, **named):
            with timed(seconds):
                return function(*arguments, **named)

        return called

    monkeypatch.setattr(http, "_exchange", noted(http._exchange, elsewhere))
    monkeypatch.setattr(cache, "put_latest", noted(cache.put_latest, elsewhere))
    # From the body to the commit; around them are the lease, the feed's assets and sources, and the provider's limits.
    monkeypatch.setattr(Wide, "fetch", noted(Wide.fetch, steps))
    monkeypatch.setattr(fetching, "admit_answer", noted(fetching.admit_answer, steps))
    monkeypatch.setattr(fetching, "record_answers", noted(fetching.record_answers, steps))
    whole, here, core, copied = [], [], [], []
    bodies = [answer(number) for number in range(ANSWERS + WARM_UP)]
    with server_of(bodies, folder=tmp_path) as address:
        coincap = [("coincap", {"base_url": address})]
        feed = sources.create_feed(name="wide", interval_seconds=1, sources=coincap, now=builders.START)
        Asset.objects.bulk_create(Asset(symbol=f"coin-{one}", feed=feed) for one in range(QUOTES))
        for number in range(ANSWERS + WARM_UP):
            if number == WARM_UP:
                gc.freeze()  # As a worker does.
                with connection.cursor() as cursor:
                    cursor.execute("CREATE TABLE bare (LIKE market_quote INCLUDING ALL)")
            clock[0] = builders.at(number)
            elsewhere.clear()
            steps.clear()
            with timed(whole):
                entry = sources.fetch(feed_id=feed.pk, slot=clock[0], now=clock[0], trace_id=builders.TRACE)
            assert (entry.accepted, len(elsewhere), len(steps)) == (QUOTES, 2, 3)
            here.append(whole[-1] - sum(elsewhere))
            core.append(sum(steps) - sum(elsewhere))
            if number >= WARM_UP:
                # In turns, so that what else the machine does falls on both.
                assert copy_again(entry, seconds=copied) == QUOTES
    gc.unfreeze()
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE bare")
    seconds = {
        "the whole fetch": whole[WARM_UP:],
        "without server, cache": here[WARM_UP:],
        "parsed, admitted, stored": core[WARM_UP:],
        "bare COPY": copied,
    }
    print(f"\n  {ANSWERS} answers of {QUOTES:,}, the median of each")
    for name, taken in seconds.items():
        ratio = median(taken) / median(copied)
        print(f"  {name:<25} {QUOTES / median(taken):>10,.0f} quotes/s   / COPY = 1/{ratio:.1f}")
