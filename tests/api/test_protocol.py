"""GraphQL over HTTP, as npm's graphql-http audits a server."""

import json
import subprocess
from pathlib import Path
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.handlers.wsgi import WSGIHandler

AUDIT = Path(__file__).with_name("audit.mjs")


class Quiet(WSGIRequestHandler):
    def log_message(self, *arguments):
        """Say nothing."""


@pytest.fixture
def address(settings):
    """Serve the site without a database, which a stranger who asks for no rows does not need."""
    settings.MARKET_IS_PUBLIC = True
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    with make_server("127.0.0.1", 0, WSGIHandler(), handler_class=Quiet) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/graphql"
        server.shutdown()
        thread.join()


# What the audit would have otherwise, and why it is as it is.
BY_DESIGN = {
    "5A70": "GET gives the page: a query in an address would stand in logs",
    "D6D5": "the same, of variables in the address",
    "6A70": "the same",
    "572B": "what cannot be parsed is a 400, whatever is accepted: programs look at the status first",
    "FDE2": "the same, of what is not valid",
    "7B9B": "the same, of variables",
}


def test_the_audit_finds_nothing_but_what_is_so_by_design(address):
    ran = subprocess.run(["node", AUDIT, address], capture_output=True, check=True, timeout=60, text=True)
    results = json.loads(ran.stdout)

    assert len(results) == 61
    found = [one for one in results if one[2] != "ok"]
    assert {one[0] for one in found} == BY_DESIGN.keys(), found
    assert {one[2] for one in found} == {"warn", "notice"}


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "application/json"),
        ("*/*", "application/json"),
        ("application/graphql-response+json", "application/graphql-response+json"),
        ("application/graphql-response+json, application/json;q=0.9", "application/graphql-response+json"),
        ("application/json, application/graphql-response+json;q=0.9", "application/json"),
        ("text/plain", "application/json"),
    ],
)
def test_an_answer_comes_as_what_is_asked_for(client, accept, content_type):
    for query, status in (("{ __typename }", 200), ("{", 400)):
        body = json.dumps({"query": query})
        answer = client.post("/graphql", body, content_type="application/json", headers={"Accept": accept})
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, f"{content_type}; charset=utf-8")


@pytest.mark.parametrize("extensions", ["x", 0, False, []])
def test_extensions_that_are_no_object_are_refused(client, extensions):
    body = json.dumps({"query": "{ __typename }", "extensions": extensions})
    assert client.post("/graphql", body, content_type="application/json").status_code == 400
