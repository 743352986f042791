"""Clients that others have written, and many at once."""

import http.client
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests
from django.db import connection

from apps.api.live.application import PATH
from apps.api.live.hub import STREAMS_PER_VIEWER
from apps.api.tokens.services import create_token
from tests.api.live.following import PATIENCE_SECONDS, QUOTES, append, running
from tests.builders import at, make_feed, make_owner
from tests.project.test_docs import blocks
from tests.rig import rig, wait_until

CLIENT = Path(__file__).with_name("client.mjs")
STREAMS = 1_000

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def feed():
    return make_feed("A", name="coins")


def follow_by_node(port, token, query, variables):
    arguments = [f"http://127.0.0.1:{port}{PATH}", token, query, json.dumps(variables)]
    return subprocess.Popen(["node", CLIENT, *arguments], stdout=subprocess.PIPE, text=True)


def test_the_client_of_graphql_sse_follows_and_gets_the_reason_where_it_cannot(feed):
    token = create_token(owner=make_owner(), name="follower")[1]
    with running() as live:
        node = follow_by_node(live.port, token, QUOTES, {"assets": ["A"]})
        with node:
            assert wait_until(lambda: live.opened() == 1)
            append(feed, [("A", at(1), "101")])
            append(feed, [("A", at(2), "102")])
            results = [json.loads(node.stdout.readline()) for _ in range(2)]
            assert [one["data"]["quoteUpdated"]["price"] for one in results] == ["101", "102"]
            live.server.should_exit = True
            # It knows that this was not the end.
            assert node.stdout.readline().startswith("failed: ")
    with running() as live, follow_by_node(live.port, token, QUOTES, {"assets": ["ABSENT"]}) as node:
        [error] = json.loads(node.stdout.readline())["errors"]
        assert error["extensions"]["code"] == "BAD_USER_INPUT"
        assert node.stdout.readline() == "complete\n"


def test_the_examples_of_the_documentation_follow(monkeypatch):
    feed = make_feed("BTC-USD")
    token = create_token(owner=make_owner(), name="follower")[1]
    [call] = [call for call in blocks("docs/api.md", "sh") if "/graphql/stream" in call]
    [python] = [block for block in blocks("docs/api.md", "python") if "def follow" in block]
    with running() as live:
        address = f"http://127.0.0.1:{live.port}{PATH}"
        environment = os.environ | {"TOKEN": token}
        command = ["sh", "-c", call.replace(f"http://127.0.0.1:8100{PATH}", address)]
        curl = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        monkeypatch.setenv("TOKEN", token)
        monkeypatch.setenv("STREAM", address)
        names = {"os": os, "requests": requests, "time": time}
        exec(python, names)  # noqa: S102
        followed = names["follow"](names["PRICES"], assets=["BTC-USD"])
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(next, followed)
            assert wait_until(lambda: live.opened() == 2)
            append(feed, [("BTC-USD", at(1), "61230.5")])
            assert first.result(PATIENCE_SECONDS)["price"] == "61230.5"
        lines = iter(curl.stdout.readline, "")
        assert '"price":"61230.5"' in next(line for line in lines if line.startswith("data"))
        # Cut, it goes on by itself, and misses nothing.
        live.hub._loop.call_soon_threadsafe(live.hub.cut_all)
        append(feed, [("BTC-USD", at(2), "61231")])
        assert next(followed)["price"] == "61231"
        followed.close()
        curl.wait(PATIENCE_SECONDS)
        curl.stdout.close()


def tokens_of_many():
    """Return a token for each stream, of as many owners as that needs."""
    owners = [make_owner(f"owner-{number}") for number in range(STREAMS // STREAMS_PER_VIEWER)]
    tokens = [create_token(owner=owner, name="follower")[1] for owner in owners]
    return tokens * STREAMS_PER_VIEWER


def open_stream(port, token):
    """Return the socket of a stream whose head has come."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    body = json.dumps({"query": QUOTES, "variables": {"assets": ["A"]}})
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Authorization": f"Bearer {token}"}
    client.request("POST", PATH, body, headers)
    response = client.getresponse()
    assert response.status == 200, response.read()
    return response


def connections_of(process):
    """Return how many connections to the database a process has."""
    inodes = {os.readlink(one.path) for one in os.scandir(f"/proc/{process.pid}/fd") if one.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    port = int(connection.settings_dict["PORT"])
    return sum(f"socket:[{row[9]}]" in inodes and int(row[2].rpartition(":")[2], 16) == port for row in rows)


def test_a_thousand_streams_take_few_threads_and_few_connections(feed, tmp_path):
    tokens = tokens_of_many()
    with rig(tmp_path) as processes:
        process = processes.start("manage", "live", "--listen", "127.0.0.1:0", name="live")
        assert wait_until(lambda: "/graphql/stream" in processes.log("live"))
        port = int(processes.log("live").split("127.0.0.1:")[1].split("/")[0])
        with ThreadPoolExecutor(8) as pool:
            streams = list(pool.map(lambda token: open_stream(port, token), tokens))
        append(feed, [("A", at(1), "101")])
        for stream in streams:
            while not (line := stream.readline()).startswith(b"data"):
                assert line
            assert b'"price":"101"' in line
        threads = int(Path(f"/proc/{process.pid}/status").read_text().split("Threads:")[1].split()[0])
        assert threads <= 20
        assert 1 <= connections_of(process) <= 5
        process.terminate()
        assert process.wait(20) == 0
        for stream in streams:
            assert b"event" not in stream.read()
