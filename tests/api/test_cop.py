"""The probes of graphql-cop, a scanner of GraphQL servers, each with its own idea of what a finding is. It finds none.

Its package at PyPI is an empty placeholder, so the probes are written down here."""

import json
from urllib.parse import quote

import pytest

from tests.api.asking import URL

pytestmark = pytest.mark.django_db

TYPES = "fields { type { " * 5 + "name" + " } }" * 5


def posted(client, query):
    return client.post(URL, json.dumps({"query": query}), content_type="application/json")


def data_of(response):
    answer = response.json()
    return answer.get("data") if isinstance(answer, dict) else answer


def alias_overloading(client):
    return data_of(posted(client, "{ " + " ".join(f"alias{number}: __typename" for number in range(101)) + " }"))


def array_based_batching(client):
    body = json.dumps([{"query": "{ __typename }"}] * 10)
    return isinstance(client.post(URL, body, content_type="application/json").json(), list)


def directive_overloading(client):
    return len(posted(client, "{ __typename " + "@aa" * 10 + " }").json()["errors"]) == 10


def circular_introspection(client):
    return data_of(posted(client, f"{{ __schema {{ types {{ name {TYPES} }} }} }}"))


def introspection(client):
    return data_of(posted(client, "{ __schema { types { name fields { name } } } }"))


def field_duplication(client):
    return data_of(posted(client, "{ " + "__typename " * 500 + "}"))


def field_suggestions(client):
    return any("Did you mean" in posted(client, f"{{ {name} }}").text for name in ("__schem", "asset_", "rulez", "ms"))


def get_based_query(client):
    return data_of(client.get(f"{URL}?query={quote('{ __typename }')}"))


def get_based_mutation(client):
    return data_of(client.get(f"{URL}?query={quote('mutation { __typename }')}"))


def post_based_query_by_a_form(client):
    return data_of(client.post(URL, {"query": "{ __typename }"}))


def post_based_query_by_an_encoded_form(client):
    return data_of(client.post(URL, "query=%7B__typename%7D", content_type="application/x-www-form-urlencoded"))


def trace_mode(client):
    return "tracing" in posted(client, "{ __typename }").json().get("extensions", {})


def unhandled_errors(client):
    errors = posted(client, "queryy { __typename }").json()["errors"]
    return any("exception" in one.get("extensions", {}) or "Traceback" in str(one) for one in errors)


def graphiql(client):
    page = client.get(URL, headers={"Accept": "text/html"}).text
    return any(name in page for name in ("graphiql.min.css", "GraphQL Playground", "GraphiQL"))


PROBES = [
    alias_overloading,
    array_based_batching,
    directive_overloading,
    circular_introspection,
    introspection,
    field_duplication,
    field_suggestions,
    get_based_query,
    get_based_mutation,
    post_based_query_by_a_form,
    post_based_query_by_an_encoded_form,
    trace_mode,
    unhandled_errors,
    graphiql,
]


def test_graphql_cop_finds_nothing(client):
    assert [probe.__name__ for probe in PROBES if probe(client)] == []


def test_the_probes_would_find_what_is_open(client, settings):
    """Else an error of theirs would pass for no finding."""
    settings.MARKET_IS_PUBLIC = True
    assert [probe.__name__ for probe in PROBES if probe(client)] == ["introspection", "graphiql"]
