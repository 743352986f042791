"""Metrics and log lines by GraphQL. A server on loopback answers in the documented forms of Prometheus and Loki; the
real Prometheus is asked in tests/monitoring/test_gateway.py."""

import json
import socket

import pytest
from django.contrib.auth.models import Group

from apps.api.monitoring import asking
from apps.api.monitoring.asking import NoAnswer, Span
from apps.api.monitoring.loki import ask_lines, expression_of
from apps.api.monitoring.prometheus import chosen_of
from tests.api.asking import codes
from tests.builders import at, make_operator, make_owner

pytestmark = pytest.mark.django_db

RANGE = '{since: "2026-03-02T12:00:00Z", until: "2026-03-02T13:00:00Z"}'
TRACE = "0af7651916cd43dd8448eb211c80319c"
METRICS = "{ unit stepSeconds series { labels { name value } at values } error { code message } }"
LOGS = "{ lines { at service level logger traceId message text } error { code message } }"
PROMETHEUS, LOKI = "/api/v1/query_range", "/loki/api/v1/query_range"
# Field -> the path at which its server is asked, and what it is called with.
FIELDS = {
    "metrics": (PROMETHEUS, "query: QUEUE_MESSAGES"),
    "promql": (PROMETHEUS, 'query: "up"'),
    "logs": (LOKI, ""),
    "logql": (LOKI, 'query: "{service=\\"web\\"}"'),
}
# The forms that the documentation of both gives: prometheus.io/docs/prometheus/latest/querying/api and
# grafana.com/docs/loki/latest/reference/loki-http-api.
MATRIX = {
    "status": "success",
    "data": {
        "resultType": "matrix",
        "result": [
            {"metric": {"__name__": "up", "job": "web"}, "values": [[1772452800, "1"], [1772452830.5, "NaN"]]},
            {"metric": {"__name__": "up", "job": "beat"}, "values": [[1772452800, "0.25"]]},
        ],
    },
}
OWN_LINE = json.dumps(
    {"time": "2026-03-02T12:00:01+00:00", "level": "warning", "logger": "apps.sources", "message": "provider failed"}
)
STREAMS = {
    "status": "success",
    "data": {
        "resultType": "streams",
        "result": [
            {"stream": {"service": "redis"}, "values": [["1772452800000000001", "Ready to accept connections"]]},
            {
                "stream": {"service": "watcher", "level": "warning", "logger": "apps.sources", "trace_id": TRACE},
                "values": [["1772452801123456789", OWN_LINE]],
            },
        ],
        "stats": {},
    },
}


@pytest.fixture
def grace():
    """Return an operator."""
    operator = make_operator("grace")
    operator.groups.add(Group.objects.get(name="Operator"))
    return operator


@pytest.fixture
def server(settings, httpserver):
    """Return a server that stands in for both."""
    settings.PROMETHEUS_URL = settings.LOKI_URL = httpserver.url_for("")
    return httpserver


def asked_of(server):
    """Return the parameters of the one request that came."""
    [(request, _)] = server.log
    return request.args.to_dict()


def field(name, selection, **more):
    _, given = FIELDS[name]
    arguments = ", ".join(filter(None, [given, *(f"{key}: {value}" for key, value in more.items())]))
    return f"{{ {name}{f'({arguments})' if arguments else ''} {selection} }}"


def error_of(response):
    [answer] = response.json()["data"].values()
    return answer["error"]


def test_curated_metrics_are_answered_to_whoever_is_signed_in(ask, ada, server):
    server.expect_request(PROMETHEUS).respond_with_json(MATRIX)
    answer = ask(field("metrics", METRICS, range=RANGE, stepSeconds=30), user=ada).json()["data"]["metrics"]
    assert answer == {
        "unit": "messages",
        "stepSeconds": 30,
        "series": [
            {
                "labels": [{"name": "__name__", "value": "up"}, {"name": "job", "value": "beat"}],
                "at": ["2026-03-02T12:00:00Z"],
                "values": [0.25],
            },
            {
                "labels": [{"name": "__name__", "value": "up"}, {"name": "job", "value": "web"}],
                "at": ["2026-03-02T12:00:00Z", "2026-03-02T12:00:30.500000Z"],
                "values": [1.0, None],
            },
        ],
        "error": None,
    }
    asked = asked_of(server)
    assert 0 < int(asked.pop("timeout").removesuffix("ms")) <= 5_000
    assert asked == {
        "query": "max by (queue) (fintech_queue_messages)",
        "start": "1772452800.0",
        "end": "1772456400.0",
        "step": "30",
    }


def test_lines_are_answered_the_newest_first_with_what_they_say(ask, grace, server):
    server.expect_request(LOKI).respond_with_json(STREAMS)
    query = field(
        "logs",
        LOGS,
        query='{service: "watcher", level: WARNING, contains: "it\'s \\"§\\""}',
        traceId=f'"{TRACE}"',
        range=RANGE,
    )
    answer = ask(query, user=grace).json()["data"]["logs"]
    assert answer == {
        "lines": [
            {
                "at": "2026-03-02T12:00:01.123456Z",
                "service": "watcher",
                "level": "warning",
                "logger": "apps.sources",
                "traceId": TRACE,
                "message": "provider failed",
                "text": OWN_LINE,
            },
            {
                "at": "2026-03-02T12:00:00Z",
                "service": "redis",
                "level": "",
                "logger": "",
                "traceId": "",
                "message": "Ready to accept connections",
                "text": "Ready to accept connections",
            },
        ],
        "error": None,
    }
    assert asked_of(server) == {
        "query": f'{{service="watcher", level="warning"}} |= "it\'s \\"§\\"" | trace_id="{TRACE}"',
        "start": "1772452800000000000",
        "end": "1772456400000000000",
        "limit": "100",
        "direction": "backward",
    }


@pytest.mark.parametrize(
    ("name", "may"),
    [
        ("metrics", {"ada", "grace", "root"}),
        ("promql", {"grace", "root"}),
        ("logs", {"grace", "root"}),
        ("logql", {"root"}),
    ],
)
def test_only_those_who_may_are_answered_and_nobody_else_has_the_server_asked(
    ask, ada, grace, admin_user, server, name, may
):
    path, _ = FIELDS[name]
    server.expect_request(path).respond_with_json(MATRIX if path == PROMETHEUS else STREAMS)
    selection = "{ error { code } }"
    assert codes(ask(field(name, selection))) == ["UNAUTHENTICATED"]
    for reader, user in (("ada", ada), ("grace", grace), ("root", admin_user)):
        expected = None if reader in may else {"code": "FORBIDDEN"}
        assert error_of(ask(field(name, selection), user=user)) == expected, reader
    assert len(server.log) == len(may)


def test_an_operator_who_left_the_staff_is_none(ask, grace, server):
    grace.is_staff = False
    grace.save()
    assert error_of(ask(field("logs", "{ error { code } }"), user=grace)) == {"code": "FORBIDDEN"}
    assert server.log == []


@pytest.mark.parametrize("name", FIELDS)
def test_what_is_not_set_up_says_which_variable_is_missing(ask, admin_user, settings, name):
    settings.PROMETHEUS_URL = settings.LOKI_URL = ""
    path, _ = FIELDS[name]
    server, variable = ("Prometheus", "PROMETHEUS_URL") if path == PROMETHEUS else ("Loki", "LOKI_URL")
    assert error_of(ask(field(name, "{ error { code message } }"), user=admin_user)) == {
        "code": "NOT_CONFIGURED",
        "message": f"{server} is not set up for this site: {variable} has no address.",
    }


@pytest.mark.parametrize("name", FIELDS)
def test_a_server_that_is_down_is_unavailable_and_the_other_fields_are_answered(ask, admin_user, settings, name):
    settings.PROMETHEUS_URL = settings.LOKI_URL = "http://127.0.0.1:9"
    answer = ask(f"{{ me {{ username }} {field(name, '{ error { code message } }')[1:]}", user=admin_user).json()
    server = "Prometheus" if FIELDS[name][0] == PROMETHEUS else "Loki"
    assert answer == {
        "data": {
            "me": {"username": "admin"},
            name: {"error": {"code": "UNAVAILABLE", "message": f"{server} cannot be reached. Try again later."}},
        }
    }


@pytest.mark.parametrize("name", FIELDS)
def test_slow_servers_take_as_long_for_several_fields_as_for_one(ask, admin_user, settings, monkeypatch, name):
    monkeypatch.setattr(asking, "SECONDS_ALLOWED", 0.2)
    one = field(name, "{ error { code } }")[1:-1]
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.PROMETHEUS_URL = settings.LOKI_URL = f"http://127.0.0.1:{silent.getsockname()[1]}"
        answer = ask(f"{{ first: {one} second: {one} }}", user=admin_user).json()["data"]
        silent.setblocking(False)
        silent.accept()
        with pytest.raises(BlockingIOError):
            silent.accept()
    assert answer == {"first": {"error": {"code": "TIMEOUT"}}, "second": {"error": {"code": "TIMEOUT"}}}


# (status, body, code, what the message says)
ANSWERS = [
    (
        400,
        '{"status": "error", "errorType": "bad_data", "error": "parse error"}',
        "INVALID",
        "refuses the query: parse",
    ),
    (
        400,
        "parse error at line 1, col 2:\n syntax error",
        "INVALID",
        "refuses the query: parse error at line 1, col 2: s",
    ),
    (422, '{"status": "error", "errorType": "execution", "error": "too many samples"}', "INVALID", "too many samples"),
    (503, '{"status": "error", "errorType": "timeout", "error": "query timed out"}', "TIMEOUT", "within 5 s"),
    (503, "not ready", "UNAVAILABLE", "the status 503"),
    (302, "", "UNAVAILABLE", "the status 302"),
    (401, "who is it?", "UNAVAILABLE", "the status 401"),
    (200, "<html>", "UNAVAILABLE", "in a form"),
    (200, "[]", "UNAVAILABLE", "in a form"),
    (200, '{"status": "success", "data": []}', "UNAVAILABLE", "in a form"),
    (200, '{"status": "success", "data": {"resultType": "matrix"}}', None, "in a form"),
    (200, f'"{"x" * 4_000_001}"', "LIMIT_EXCEEDED", "larger than 4000000 bytes"),
]


@pytest.mark.parametrize("name", ["promql", "logql"])
@pytest.mark.parametrize(("status", "body", "code", "said"), ANSWERS, ids=range(len(ANSWERS)))
def test_every_other_answer_is_a_clear_error(ask, admin_user, server, name, status, body, code, said):
    server.expect_request(FIELDS[name][0]).respond_with_data(body, status=status, headers={"Location": "/elsewhere"})
    error = error_of(ask(field(name, "{ error { code message } }"), user=admin_user))
    assert error["code"] == (code or "UNAVAILABLE")
    assert said in error["message"]
    assert len(server.log) == 1


def test_more_series_than_are_answered_are_refused(ask, grace, server):
    found = [{"metric": {"n": str(number)}, "values": [[1772452800, "1"]]} for number in range(51)]
    body = {"status": "success", "data": {"resultType": "matrix", "result": found}}
    server.expect_request(PROMETHEUS).respond_with_json(body)
    error = error_of(ask(field("promql", "{ error { code message } }"), user=grace))
    assert error["code"] == "LIMIT_EXCEEDED"
    assert error["message"].startswith("The query gives 51 series, at most 50 are answered")


def test_numbers_of_loki_are_refused(ask, admin_user, server):
    server.expect_request(LOKI).respond_with_json(MATRIX)
    error = error_of(ask(field("logql", "{ error { code message } }"), user=admin_user))
    assert (error["code"], error["message"].split(":")[0]) == ("INVALID", "The query gives numbers")


@pytest.mark.parametrize(
    ("name", "given", "code", "said"),
    [
        ("metrics", {"range": '{since: "2026-01-01T00:00:00Z", until: "2026-03-02T13:00:00Z"}'}, "LIMIT", "31 days"),
        ("metrics", {"range": '{since: "2026-03-02T13:00:00Z", until: "2026-03-02T13:00:00Z"}'}, "INVALID", "before"),
        ("metrics", {"range": '{until: "0001-01-01T00:00:00Z"}'}, "INVALID", "too early"),
        ("metrics", {"stepSeconds": 4}, "INVALID", "from 5 to 86400"),
        ("metrics", {"range": RANGE, "stepSeconds": 5}, "LIMIT", "stepSeconds of 8 or more"),
        ("logs", {"limit": 0}, "INVALID", "from 1 to 500"),
        ("logs", {"limit": 501}, "INVALID", "from 1 to 500"),
        ("logs", {"range": '{since: "2026-02-01T00:00:00Z", until: "2026-03-01T00:00:00Z"}'}, "LIMIT", "7 days"),
        ("logs", {"traceId": '"1"'}, "INVALID", "32 digits"),
        ("logs", {"query": '{service: "a\\"b"}'}, "INVALID", "query.service"),
        ("logs", {"query": f'{{contains: "{"x" * 201}"}}'}, "INVALID", "200 characters"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_the_server_is_asked(ask, admin_user, server, name, given, code, said):
    error = error_of(ask(field(name, "{ error { code message } }", **given), user=admin_user))
    assert (error["code"].startswith(code), said in error["message"]) == (True, True), error
    assert server.log == []


def test_an_expression_that_is_too_long_is_refused(ask, admin_user, server):
    query = "query ($q: String!) { promql(query: $q) { error { code } } logql(query: $q) { error { code } } }"
    for text in ("", "x" * 2_001):
        answer = ask(query, {"q": text}, user=admin_user).json()["data"]
        assert answer == {"promql": {"error": {"code": "INVALID"}}, "logql": {"error": {"code": "INVALID"}}}
    assert server.log == []


def test_a_step_that_is_left_out_gives_at_most_121_values():
    assert [chosen_of(at(0), at(seconds), None, now=at(0)).step_seconds for seconds in (60, 1_800, 3_601)] == [
        15,
        15,
        31,
    ]


def test_a_trace_is_looked_for_a_day_back(ask, grace, server):
    server.expect_request(LOKI).respond_with_json(STREAMS)
    until = '{until: "2026-03-02T12:00:00Z"}'
    ask(field("logs", "{ error { code } }", traceId=f'"{TRACE}"', range=until), user=grace)
    assert asked_of(server)["start"] == "1772366400000000000"


def test_a_text_cannot_leave_its_place_in_the_expression():
    expression = expression_of(service=None, level=None, contains='" |= `x` \\', trace_id=None)
    assert expression == '{service=~".+"} |= "\\" |= `x` \\\\"'


def test_an_error_names_no_address(settings):
    settings.LOKI_URL = "http://127.0.0.1:9/secret"
    with pytest.raises(NoAnswer) as raised:
        ask_lines("{}", Span(at(0), at(1)), limit=1, allowance=asking.Allowance())
    assert "secret" not in str(raised.value)
    assert raised.value.__context__ is None


def test_an_owner_who_is_no_operator_may_not_ask_promql(ask, server):
    assert error_of(ask(field("promql", "{ error { code } }"), user=make_owner("olga"))) == {"code": "FORBIDDEN"}
    assert server.log == []
