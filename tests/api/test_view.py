"""What comes in at /graphql and is refused: each of it with a 4xx, a stable code and words of our own."""

import json
import logging

import pytest
from django.db import DatabaseError
from graphql import get_introspection_query

from apps.api.graphql import limits
from apps.api.graphql.types import market
from tests.api.asking import NOBODYS, URL, codes
from tests.builders import make_feed, make_owner

pytestmark = pytest.mark.django_db

ME = "{ me { username } }"
ASSETS = "{ assets { edges { node { symbol } } } }"


@pytest.fixture
def ada(client):
    """Return an owner who is signed in."""
    ada = make_owner()
    client.force_login(ada)
    return ada


def refusal(response, *, status=400):
    """Return the code of the only error of an answer that has no data and reveals nothing internal."""
    assert response.status_code == status, response.content
    answer = response.json()
    assert list(answer) == ["errors"]
    assert "Traceback" not in response.text
    [error] = answer["errors"]
    return error["extensions"]["code"]


# How a query comes


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", "query=%7Bme%7Busername%7D%7D"),
        ("multipart/form-data; boundary=x", '--x\r\nContent-Disposition: form-data; name="query"\r\n\r\n{me}\r\n--x--'),
        ("text/plain", json.dumps({"query": ME})),
        ("application/graphql", b"\xff\xfe"),
        ("application/json; charset=utf-16", json.dumps({"query": ME})),
        ("application/jsonp", json.dumps({"query": ME})),
        ("", json.dumps({"query": ME})),
    ],
)
def test_only_json_is_taken(client, ada, content_type, body):
    response = client.post(URL, body, content_type=content_type)
    assert refusal(response, status=415) == "UNSUPPORTED_MEDIA_TYPE"


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON"])
def test_json_is_taken_however_it_is_written(client, ada, content_type):
    response = client.post(URL, json.dumps({"query": ME}), content_type=content_type)
    assert response.json() == {"data": {"me": {"username": "ada"}}}


@pytest.mark.parametrize("content_type", ["text/plain", "application/json"])
def test_a_query_in_the_address_is_not_executed(client, ada, content_type):
    response = client.post(f"{URL}?query=%7Bme%7Busername%7D%7D", json.dumps({"query": ME}), content_type=content_type)
    assert response.status_code in (400, 415)
    assert "ada" not in response.text


def test_a_query_in_the_address_beside_one_in_the_body_is_refused(client, ada):
    response = client.post(f"{URL}?query=%7B__typename%7D", json.dumps({"query": ME}), content_type="application/json")
    assert refusal(response) == "BAD_REQUEST"


@pytest.mark.parametrize("query", ["{ me { username } }", "mutation { x }"])
@pytest.mark.parametrize("method", ["get", "put", "patch", "delete", "options"])
def test_only_post_is_answered(client, ada, method, query):
    response = getattr(client, method)(f"{URL}?query={query}")
    assert refusal(response, status=405) == "METHOD_NOT_ALLOWED"
    assert response.headers["Allow"] == "GET, POST"


DEEP = 20_000
BODIES = [
    b" ",
    b"\xff\xfe",
    b"[" * 60_000,
    b'{"a":' * 12_000,
    b'{"query": "{ me { username } }", "variables": {"a": ' + b"[" * DEEP + b"]" * DEEP + b"}}",
    b'{"query": "{ me { username } }", "variables": {"a": NaN}}',
    b'{"query": "{ me { username } }", "variables": {"a": ' + b"9" * 5_001 + b"}}",
    b"null",
    b"[]",
    b"{}",
    b'"{ me { username } }"',
    b'[{"query": "{ me { username } }"}]',
    b"[" + b",".join([b'{"query": "{ me { username } }"}'] * 10) + b"]",
    *(json.dumps({"query": query}).encode() for query in ({}, [], 1, None, True)),
    *(json.dumps({"query": ME, "variables": variables}).encode() for variables in ([], "a", 1)),
    *(json.dumps({"query": ME, "operationName": name}).encode() for name in ([], {}, 1, "Nobody")),
]


@pytest.mark.parametrize("body", BODIES, ids=[repr(body[:24]) for body in BODIES])
def test_a_body_that_is_no_query_is_refused(client, ada, body):
    assert refusal(client.post(URL, body, content_type="application/json")) == "BAD_REQUEST"


def test_a_body_over_64_kb_is_refused(client, ada):
    body = json.dumps({"query": ME, "padding": "x" * 65_536})
    assert refusal(client.post(URL, body, content_type="application/json")) == "LIMIT_EXCEEDED"


def test_a_body_that_is_announced_as_too_large_is_not_read(client, ada):
    response = client.post(URL, b"{}", content_type="application/json", CONTENT_LENGTH="70000")
    assert refusal(response) == "LIMIT_EXCEEDED"


def test_a_body_of_64_kb_is_read(client, ada):
    body = json.dumps({"query": ME, "padding": ""})
    padded = body.replace('""', '"' + "x" * (65_536 - len(body)) + '"')
    assert client.post(URL, padded, content_type="application/json").status_code == 200


def test_a_name_of_a_megabyte_is_refused(ask, ada):
    assert refusal(ask('{ asset(id: "%s") { symbol } }' % ("A" * 1_000_000))) == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "\udfffx"])
def test_a_text_that_no_database_takes_is_refused_in_variables(ask, ada, text):
    query = "query ($id: UUID!) { rule(id: $id) { name } }"
    assert refusal(ask(query, {"id": text})) == "BAD_USER_INPUT"
    assert refusal(ask(query, {"id": NOBODYS, "other": [{"key": text}]})) == "BAD_USER_INPUT"
    assert refusal(ask(query, {"id": NOBODYS, text: 1})) == "BAD_USER_INPUT"


@pytest.mark.parametrize("text", [r"\u0000", r"A\u0000", r"\ud800"])
def test_a_text_that_no_database_takes_is_refused_in_the_query(ask, ada, text):
    response = ask(f'{{ asset(id: "{text}") {{ symbol }} }}')
    assert refusal(response) in ("GRAPHQL_VALIDATION_FAILED", "GRAPHQL_PARSE_FAILED")
    assert refusal(ask(f'mutation {{ deleteRule(id: "{text}") {{ errors {{ code }} }} }}')) in (
        "GRAPHQL_VALIDATION_FAILED",
        "GRAPHQL_PARSE_FAILED",
    )


# What a query says


@pytest.mark.parametrize(
    "query", ["", "   ", "{", "}", "query", "{ me { username }", "{ me { username } } garbage", '"']
)
def test_what_is_no_graphql_is_refused(ask, ada, query):
    assert refusal(ask(query)) == "GRAPHQL_PARSE_FAILED"


@pytest.mark.parametrize(
    "query",
    [
        "subscription { x }",
        "query A { me { username } } query B { me { username } }",
        "{ me { username } } mutation { x }",
    ],
)
def test_only_one_query_or_mutation_is_executed(ask, ada, query):
    assert refusal(ask(query)) == "BAD_REQUEST"


@pytest.mark.parametrize("count", [31, 101, 5_000])
def test_more_than_30_root_fields_are_refused(ask, ada, count):
    aliased = "{ " + " ".join(f"a{number}: me {{ username }}" for number in range(count)) + " }"
    assert refusal(ask(aliased)) in ("LIMIT_EXCEEDED", "GRAPHQL_PARSE_FAILED")


def test_30_root_fields_are_answered(ask, ada):
    response = ask("{ " + " ".join(f"a{number}: me {{ username }}" for number in range(30)) + " }")
    assert len(response.json()["data"]) == 30


def test_more_than_30_aliases_are_refused_wherever_they_stand(ask, ada):
    fields = " ".join(f"a{number}: symbol" for number in range(31))
    fragment = f"fragment a on Asset {{ {fields} }}"
    assert refusal(ask(f"{{ assets {{ edges {{ node {{ {fields} }} }} }} }}")) == "LIMIT_EXCEEDED"
    assert refusal(ask("{ assets { edges { node { ...a } } } } " + fragment)) == "LIMIT_EXCEEDED"


def test_31_root_fields_in_fragments_are_refused(ask, ada):
    fragments = " ".join(
        f"fragment f{number} on Query {{ {' '.join(['me { username }'] * 8)} }}" for number in range(4)
    )
    assert refusal(ask("{ ...f0 ...f1 ...f2 ...f3 } " + fragments)) == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("count", [1_000, 5_000])
def test_more_than_1000_tokens_are_refused(ask, ada, count):
    assert refusal(ask("{ me { " + "username " * count + "} }")) == "GRAPHQL_PARSE_FAILED"


@pytest.mark.parametrize("count", [2, 100])
def test_a_field_written_often_is_answered_once(ask, ada, count):
    response = ask("{ me { " + "username " * count + "} }")
    assert response.json() == {"data": {"me": {"username": "ada"}}}


def test_a_field_written_990_times_is_refused(ask, ada):
    assert refusal(ask("{ me { " + "username " * 990 + "} }")) == "LIMIT_EXCEEDED"


@pytest.mark.parametrize("count", [10, 400])
def test_many_directives_are_one_error(ask, ada, count):
    assert refusal(ask("{ me { username " + "@nope " * count + "} }")) == "GRAPHQL_VALIDATION_FAILED"


def test_5000_directives_are_one_error(ask, ada):
    assert refusal(ask("{ me { username " + "@nope " * 5_000 + "} }")) == "GRAPHQL_PARSE_FAILED"


def test_each_kind_of_error_is_returned_once_and_at_most_five_of_them(ask, ada):
    query = (
        "query ($a: Nope, $b: Nope) { nope nope2 me { username(x: 1) name { x } ...b } rule { id } asset(id: []) @x }"
        " fragment a on Query { me { username } } fragment c on Nope { x }"
    )
    response = ask(query)
    assert response.status_code == 400
    assert set(codes(response)) == {"GRAPHQL_VALIDATION_FAILED"}
    assert len(response.json()["errors"]) == limits.ERRORS_SHOWN


def nested(levels):
    """Return a query so many levels deep that goes from alert to rule and on, round and round."""
    query = "name"
    for number in range(levels - 1):
        query = f"{('alert', 'rule')[number % 2]} {{ {query} }}"
    return "{ " + query + " }"


@pytest.mark.parametrize("levels", [11, 50, 190])
def test_more_than_10_levels_are_refused(ask, ada, levels):
    assert refusal(ask(nested(levels))) == "LIMIT_EXCEEDED"


def test_2000_levels_are_refused(ask, ada):
    assert refusal(ask(nested(2_000))) in ("LIMIT_EXCEEDED", "GRAPHQL_PARSE_FAILED")


def test_levels_are_counted_through_fragments(ask, ada):
    fragments = "".join(f" fragment f{number} on Alert {{ rule {{ ...f{number + 1} }} }}" for number in range(11))
    query = '{ alert(id: "1") { ...f0 } }' + fragments + " fragment f11 on Alert { id }"
    assert refusal(ask(query)) == "LIMIT_EXCEEDED"


def test_10_levels_are_answered(ask, ada):
    query = (
        "{ messages(first: 5) { edges { node { alerts { messages(first: 5) { edges { node { alerts { rule { name } } "
    )
    query += "} } } } } } } }"
    assert ask(query).status_code == 200


def test_lists_nested_100_deep_as_an_argument_are_refused(ask, ada):
    assert refusal(ask("{ asset(id: " + "[" * 100 + "]" * 100 + ") { symbol } }")) == "GRAPHQL_VALIDATION_FAILED"
    assert refusal(ask("{ asset(id: " + "[" * 480 + "]" * 480 + ") { symbol } }")) != ""


def test_fragments_that_double_15_times_cost_what_they_expand_to(ask, ada):
    levels = 15
    fragments = "".join(
        f" fragment f{number} on Asset {{ ...f{number + 1} ...f{number + 1} }}" for number in range(levels)
    )
    query = '{ asset(id: "A") { ...f0 } }' + fragments + f" fragment f{levels} on Asset {{ symbol }}"
    assert refusal(ask(query)) == "LIMIT_EXCEEDED"


@pytest.mark.parametrize(
    "query",
    [
        "{ ...a } fragment a on Query { ...a }",
        "{ ...a } fragment a on Query { ...b } fragment b on Query { ...a }",
        "{ me { username } } fragment a on Query { ...a }",
    ],
)
def test_fragments_in_a_circle_are_refused(ask, ada, query):
    assert refusal(ask(query)) == "LIMIT_EXCEEDED"


def test_pages_multiply_the_cost(ask, ada):
    query = "{ rules(first: %d) { edges { node { states(first: 100) { edges { node { state } } } } } } }"
    assert ask(query % 30).status_code == 200
    assert refusal(ask(query % 40)) == "LIMIT_EXCEEDED"


def test_a_page_size_in_a_variable_costs_as_much(ask, ada):
    states = "states(first: $n) { edges { node { state } } }"
    query = f"query ($n: PageSize) {{ rules(first: $n) {{ edges {{ node {{ {states} }} }} }} }}"
    assert ask(query, {"n": 50}).status_code == 200
    assert refusal(ask(query, {"n": 100})) == "LIMIT_EXCEEDED"


# Arguments


@pytest.mark.parametrize(
    "size", ["100000", "101", "9" * 300, "0", "-1", "2147483648", "1.5", '"1"', "true", "[1]", "1e400"]
)
def test_a_page_size_that_is_none_is_refused(ask, ada, size):
    assert refusal(ask(f"{{ assets(first: {size}) {{ edges {{ cursor }} }} }}")) == "GRAPHQL_VALIDATION_FAILED"


@pytest.mark.parametrize("size", [100_000, 101, 0, -1, 2**31, 10**400, 1.5, "1", True, [], {}])
def test_a_page_size_that_is_none_is_refused_in_a_variable(ask, ada, size):
    assert (
        refusal(ask("query ($n: PageSize) { assets(first: $n) { edges { cursor } } }", {"n": size})) == "BAD_USER_INPUT"
    )


def test_a_page_size_that_is_left_out_is_the_default_and_null_is_refused(ask, ada):
    make_feed(*(f"A{number}" for number in range(30)))
    query = "query ($first: PageSize) { assets(first: $first) { edges { node { symbol } } } }"
    assert len(ask(query).json()["data"]["assets"]["edges"]) == 20
    assert refusal(ask(query, {"first": None})) == "BAD_USER_INPUT"
    assert refusal(ask("{ assets(first: null) { edges { node { symbol } } } }")) == "GRAPHQL_VALIDATION_FAILED"


@pytest.mark.parametrize("cursor", ["", "x", "WyJBIl0", "WyJBIl0:x", "é", "a" * 5_000, "::", "."])
def test_a_cursor_that_is_none_is_refused(ask, ada, cursor):
    response = ask("query ($after: String) { assets(after: $after) { edges { cursor } } }", {"after": cursor})
    assert refusal(response) == "BAD_USER_INPUT"
    assert response.json()["errors"][0]["message"] == "after is not a cursor of this list in this order."


def test_a_cursor_of_another_list_or_another_reader_is_refused(ask, ada):
    make_feed("A")
    [edge] = ask("{ assets { edges { cursor } } }").json()["data"]["assets"]["edges"]
    query = "query ($after: String) { %s(after: $after) { edges { cursor } } }"
    assert ask(query % "assets", {"after": edge["cursor"]}).json() == {"data": {"assets": {"edges": []}}}
    assert refusal(ask(query % "rules", {"after": edge["cursor"]})) == "BAD_USER_INPUT"
    assert refusal(ask(query % "assets", {"after": edge["cursor"]}, user=make_owner("eve"))) == "BAD_USER_INPUT"


@pytest.mark.parametrize(
    "symbol", ["../..", "A'B", "A" * 65, "", " A", "A\n", "btc", "<script>", "😀", "م", "%00", "A B"]
)
def test_a_symbol_that_is_none_is_refused(ask, ada, symbol):
    query = "query ($id: AssetId!) { asset(id: $id) { symbol } }"
    assert refusal(ask(query, {"id": symbol})) == "BAD_USER_INPUT"


@pytest.mark.parametrize("field", ["rule", "alert"])
@pytest.mark.parametrize(
    "id", ["", "1", "-1", NOBODYS[1:], f"{NOBODYS} ", f"{NOBODYS}\n", f"{{{NOBODYS}}}", "0" * 32, "１"]
)
def test_an_id_that_is_none_is_refused(ask, ada, field, id):
    query = f"query ($id: UUID!) {{ {field}(id: $id) {{ severity }} }}"
    assert refusal(ask(query, {"id": id})) == "BAD_USER_INPUT"


@pytest.mark.parametrize("variables", [{}, {"id": None}, {"id": []}, {"id": {}}, {"id": True}, {"id": 1.5}])
def test_variables_of_another_type_are_refused(ask, ada, variables):
    assert refusal(ask("query ($id: UUID!) { rule(id: $id) { name } }", variables)) == "BAD_USER_INPUT"


def test_variables_nested_deep_are_refused(ask, ada):
    deep = []
    for _ in range(800):
        deep = [deep]
    assert refusal(ask("query ($id: UUID!) { rule(id: $id) { name } }", {"id": deep})) == "BAD_USER_INPUT"


# Errors


def test_suggestions_are_for_development(ask, ada, settings):
    assert "Did you mean" not in ask('{ asset(id: "A") { symbo } }').text
    settings.DEBUG = True
    assert "Did you mean 'symbol'?" in ask('{ asset(id: "A") { symbo } }').text


@pytest.mark.parametrize(
    ("query", "variables"),
    [
        (
            'query ($of: CandleResolution) { asset(id: "A") { candles(resolution: $of) { edges { cursor } } } }',
            {"of": "HOURS"},
        ),
        ("query ($at: AlertState) { alerts(state: $at) { edges { cursor } } }", {"at": "OPENED"}),
        ("{ alerts(state: OPENED) { edges { cursor } } }", None),
        ("{ alerts(stat: OPEN) { edges { cursor } } }", None),
        ("query ($at: AlertStat) { alerts(state: $at) { edges { cursor } } }", {"at": "OPEN"}),
    ],
)
def test_no_refusal_names_what_was_not_asked_for(ask, settings, query, variables):
    answer = ask(query, variables)
    assert (answer.status_code, "id you mean" in answer.text) == (400, False)
    settings.DEBUG = True
    assert "Did you mean" in ask(query, variables).text


@pytest.mark.parametrize("query", [get_introspection_query(), '{ __type(name: "Asset") { name } }'])
def test_the_schema_is_for_those_whom_the_market_is_open_to(ask, settings, query):
    assert refusal(ask(query)) == "GRAPHQL_VALIDATION_FAILED"
    settings.MARKET_IS_PUBLIC = True
    assert list(ask(query).json()) == ["data"]
    settings.MARKET_IS_PUBLIC = False
    assert list(ask(query, user=make_owner()).json()) == ["data"]


def test_a_strangers_typename_is_no_secret(ask):
    assert ask("{ __typename }").json() == {"data": {"__typename": "Query"}}


@pytest.mark.parametrize(
    "query",
    [
        "{ __schema { types { fields { type { fields { type { fields { type { name } } } } } } } } }",
        "{ a: __schema { types { name } } b: __schema { types { name } } }",
        "{ __schema { a: types { name } b: types { name } } }",
    ],
)
def test_introspection_in_a_circle_or_many_times_is_refused(ask, ada, query):
    assert refusal(ask(query)) in ("LIMIT_EXCEEDED", "GRAPHQL_VALIDATION_FAILED")


def test_what_a_resolver_raises_is_logged_and_not_returned(ask, ada, monkeypatch, caplog):
    def fail(context, names):
        raise DatabaseError("password=hunter2")

    monkeypatch.setattr(market, "assets_by_name", fail)
    with caplog.at_level(logging.ERROR, logger="apps.api.graphql.errors"):
        response = ask('{ me { username } asset(id: "A") { symbol } }')
    assert response.status_code == 200
    [error] = response.json()["errors"]
    request_id = response.headers["X-Request-ID"]
    assert error["message"] == "internal error"
    assert error["path"] == ["asset"]
    assert error["extensions"] == {"code": "INTERNAL_ERROR", "requestId": request_id}
    assert response.json()["data"] == {"me": {"username": "ada"}, "asset": None}
    assert "hunter2" not in response.text
    [record] = caplog.records
    assert (record.getMessage(), record.request_id) == ("graphql field failed", request_id)
    assert "hunter2" in str(record.exc_info[1])


def test_an_error_in_one_of_many_rows_leaves_the_others(ask, ada, monkeypatch):
    make_feed("A", "B")

    def fail(context, asset_ids):
        raise DatabaseError("password=hunter2")

    monkeypatch.setattr(market, "_aliases", fail)
    response = ask("{ assets { edges { node { symbol aliases } } } }")
    assert [one["node"] for one in response.json()["data"]["assets"]["edges"]] == [
        {"symbol": "A", "aliases": None},
        {"symbol": "B", "aliases": None},
    ]
    assert codes(response) == ["INTERNAL_ERROR", "INTERNAL_ERROR"]


def test_a_query_is_parsed_and_validated_once(ask, monkeypatch):
    validated = []
    validate = limits.validate
    monkeypatch.setattr(limits, "validate", lambda *args, **more: validated.append(args) or validate(*args, **more))
    for _ in range(3):
        assert ask("{ me { username isSuperuser } again: me { username } }").status_code == 200
        assert ask("{ me { nothing } }").status_code == 400
    # One that was refused is looked at again.
    assert len(validated) == 1 + 3


def test_an_error_of_the_executor_is_an_internal_error(ask, ada, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("apps.api.graphql.operations.execute", fail)
    response = ask(ME)
    assert codes(response) == ["INTERNAL_ERROR"]
    assert "hunter2" not in response.text


def test_no_answer_is_kept_by_a_cache(ask, ada):
    assert "no-store" in ask(ME).headers["Cache-Control"]
