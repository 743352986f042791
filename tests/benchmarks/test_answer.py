"""An answer of 5 000 quotes over HTTP from this machine, until it is stored and cached, beside bare COPY.

One run, ratios; and what of it is parsing, admitting and storing, without the waiting for the server and for Redis.
"""

import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from apps.market import cache, services
from apps.market.models import Asset, Batch
from apps.market.providers import http
from apps.market.providers.coincap import CoinCap
from apps.market.providers.protocol import Limits
from apps.market.providers.registry import PROVIDERS
from tests import builders
from tests.benchmarks.test_pipeline import copy_rate

QUOTES = 5_000
ANSWERS = 30
WARM_UP = 3

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


def test_an_answer_of_5_000_quotes(monkeypatch, tmp_path):
    monkeypatch.setenv("COINCAP_API_KEY", "key")
    monkeypatch.setitem(PROVIDERS, "coincap", Wide())
    clock = [builders.START]
    monkeypatch.setattr(http, "now", lambda: clock[0])
    bodies = [answer(number) for number in range(ANSWERS + WARM_UP)]
    with server_of(bodies, folder=tmp_path) as address:
        sources = [("coincap", {"base_url": address})]
        feed = services.create_feed(name="wide", interval_seconds=1, sources=sources, now=builders.START)
        Asset.objects.bulk_create(Asset(symbol=f"coin-{one}", feed=feed) for one in range(QUOTES))

        def ask(number: int) -> None:
            clock[0] = builders.at(number)
            services.fetch(feed_id=feed.pk, slot=clock[0], now=clock[0], trace_id=builders.TRACE)

        for number in range(WARM_UP):
            ask(number)
        gc.freeze()  # As a worker does.
        elsewhere = 0.0

        def aside(function):
            def timed(*arguments, **named):
                nonlocal elsewhere
                began = time.monotonic()
                try:
                    return function(*arguments, **named)
                finally:
                    elsewhere += time.monotonic() - began

            return timed

        monkeypatch.setattr(http, "_exchange", aside(http._exchange))
        monkeypatch.setattr(cache, "put_latest", aside(cache.put_latest))
        began = time.monotonic()
        for number in range(WARM_UP, ANSWERS + WARM_UP):
            ask(number)
        seconds = time.monotonic() - began
    measured = Batch.objects.filter(slot__gte=builders.at(WARM_UP))
    quotes = sum(measured.values_list("accepted", flat=True))
    assert quotes == QUOTES * ANSWERS
    rate, copied = quotes / seconds, copy_rate(measured)
    print(f"\n  answers of {QUOTES:,}     {rate:>10,.0f} quotes/s   ({ANSWERS} answers in {seconds:.1f} s)")
    here = quotes / (seconds - elsewhere)
    print(f"  parsed and stored    {here:>10,.0f} quotes/s   of them, / COPY = 1/{copied / here:.1f}")
    print(f"  bare COPY            {copied:>10,.0f} quotes/s   answers / COPY = 1/{copied / rate:.1f}")
