"""How much of a server's answer is read, and for how long it is waited for."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib

import pytest

from apps.sources.providers import http
from apps.sources.providers.http import get_json
from fintech.settings.env import VARIABLES
from tests.sources.providers.serving import OK_HEAD, answered, readers_left, reason_of, send_zeros_for_ever


def _drip(connection, payload):
    for byte in payload:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def test_an_endless_body_is_left_at_the_limit(serve):
    sent = []

    def talk(connection):
        connection.sendall(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        send_zeros_for_ever(connection, sent)

    assert reason_of(url=serve(talk), deadline_seconds=2) == ("ProviderUnavailable", "too_large")
    assert sum(sent) < 16_000_000


def test_the_limit_itself_is_allowed(httpserver):
    body = json.dumps(["0" * 96]).encode()
    assert get_json(url=answered(httpserver, body), limit_bytes=100) == ["0" * 96]


def test_one_byte_above_the_limit_is_too_large(httpserver):
    body = json.dumps(["0" * 97]).encode()
    assert reason_of(url=answered(httpserver, body), limit_bytes=100) == ("ProviderUnavailable", "too_large")


def test_a_gzip_bomb_is_left_while_it_unpacks(httpserver):
    url = answered(httpserver, gzip.compress(b"0" * 60_000_000), headers={"Content-Encoding": "gzip"})
    tracemalloc.start()
    reason = reason_of(url=url)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reason == ("ProviderUnavailable", "too_large")
    assert peak_bytes < 20_000_000


# Asks once for something small, so that everything is loaded, and then for what is too large. Its own high-water mark,
# since that of getrusage begins with what the process was that started it.
MEASURED = """
import sys
from apps.sources.providers.http import get_json
from apps.sources.providers.protocol import ProviderUnavailable

def highest_bytes():
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024

small, large = sys.argv[1:]
get_json(url=small)
before = highest_bytes()
try:
    get_json(url=large)
except ProviderUnavailable as error:
    print(error.reason, highest_bytes() - before)
"""


def _measured(small, large):
    """Return (reason, bytes of memory) of a call of its own process."""
    done = subprocess.run([sys.executable, "-c", MEASURED, small, large], check=True, capture_output=True, text=True)
    reason, grown_bytes = done.stdout.split()
    return reason, int(grown_bytes)


def test_a_gigabyte_in_chunks_costs_no_memory(httpserver, serve):
    def talk(connection):
        connection.sendall(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        for _ in range(1_000):
            connection.sendall(b"F4240\r\n" + b" " * 1_000_000 + b"\r\n")
        connection.sendall(b"0\r\n\r\n")

    reason, grown_bytes = _measured(answered(httpserver, b"{}"), serve(talk))

    assert reason == "too_large"
    assert grown_bytes < 20_000_000


def test_a_gigabyte_in_a_megabyte_of_gzip_costs_no_memory(httpserver, serve):
    packer = zlib.compressobj(wbits=31)
    head = packer.compress(b"[") + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush a block refers to nothing before it, so the same one may come again and again.
    block = packer.compress(b" " * 1_000_000) + packer.flush(zlib.Z_FULL_FLUSH)
    bomb = head + block * 1_000

    def talk(connection):
        connection.sendall(OK_HEAD + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb)

    reason, grown_bytes = _measured(answered(httpserver, b"{}"), serve(talk))

    assert len(bomb) < 2_000_000
    assert reason == "too_large"
    assert grown_bytes < 20_000_000


def test_the_limit_is_that_of_the_environment(httpserver, monkeypatch):
    url = answered(httpserver, json.dumps(["0" * 19_996]).encode())
    monkeypatch.setenv("PROVIDER_ANSWER_LIMIT_BYTES", "20000")
    assert get_json(url=url) == ["0" * 19_996]
    monkeypatch.setenv("PROVIDER_ANSWER_LIMIT_BYTES", "19999")
    assert reason_of(url=url) == ("ProviderUnavailable", "too_large")


@pytest.mark.parametrize("value", ["", " "])
def test_the_limit_that_is_not_set_is_the_default_of_the_settings(monkeypatch, value):
    monkeypatch.setenv("PROVIDER_ANSWER_LIMIT_BYTES", value)
    assert http.answer_limit_bytes() == int(VARIABLES["PROVIDER_ANSWER_LIMIT_BYTES"][0])


@pytest.mark.parametrize(
    ("scheme", "at_once", "dripped"),
    [
        ("http", b"", b""),
        ("http", b"", b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1_000),
        ("http", b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n" * 90),
        ("http", OK_HEAD + b"Content-Length: 900\r\n\r\n", b'{"a": "' + b"a" * 1_000),
        ("http", OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 200),
        ("https", b"\x16\x03\x03\x40\x00", b"\x02\x00\x3f\xfc" + b"\x03" * 1_000),
    ],
    ids=["silence", "status line", "headers", "body", "chunks", "TLS handshake"],
)
def test_a_dripping_server_meets_the_total_deadline_and_leaves_no_thread(serve, scheme, at_once, dripped):
    def talk(connection):
        connection.sendall(at_once)
        _drip(connection, dripped)
        connection.recv(1)

    url = serve(talk, scheme=scheme)
    started = time.monotonic()
    assert reason_of(url=url, deadline_seconds=0.2) == ("ProviderUnavailable", "timeout")
    assert time.monotonic() - started < 1
    assert readers_left() == []


def test_a_slow_name_lookup_meets_the_total_deadline(monkeypatch):
    is_over = threading.Event()

    def lookup(*args, **kwargs):
        is_over.wait(timeout=5)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    started = time.monotonic()
    assert reason_of(url="http://quotes.invalid/", deadline_seconds=0.2) == ("ProviderUnavailable", "timeout")
    assert time.monotonic() - started < 1
    is_over.set()
    assert readers_left() == []


def test_a_connection_that_comes_up_after_the_deadline_sends_nothing(httpserver, monkeypatch):
    is_over = threading.Event()
    connect = socket.getaddrinfo

    def lookup(*args, **kwargs):
        is_over.wait(timeout=5)
        return connect(*args, **kwargs)

    url = answered(httpserver, b"{}")
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    assert reason_of(url=url, deadline_seconds=0.1) == ("ProviderUnavailable", "timeout")
    is_over.set()
    assert readers_left() == []
    assert httpserver.log == []


def test_the_deadline_holds_in_a_thread_that_is_not_the_main_one(serve):
    reasons = []
    url = serve(lambda connection: connection.recv(1))
    thread = threading.Thread(target=lambda: reasons.append(reason_of(url=url, deadline_seconds=0.1)))
    thread.start()
    thread.join(timeout=2)
    assert reasons == [("ProviderUnavailable", "timeout")]
