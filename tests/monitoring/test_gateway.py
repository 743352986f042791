"""The real Prometheus, asked by GraphQL. What it has recorded is made beforehand, so that each value is known."""

import re
import subprocess

import pytest
from django.contrib.auth.models import Group
from django.test import Client

from apps.api.monitoring.prometheus import CURATED, curated_expression
from apps.owned_ids import LABEL
from tests.api.asking import URL
from tests.builders import make_member, make_operator
from tests.monitoring.promql import known_names, name_of, parsed, selectors
from tests.monitoring.test_live import asked
from tests.rig import free_port, wait_until

BEGIN = 1_772_452_800
RANGE = {"since": "2026-03-02T12:05:00Z", "until": "2026-03-02T12:06:00Z"}
ANSWER = "{ unit stepSeconds series { labels { name value } at values } error { code message } }"
# Of django-prometheus, in docs/metrics.md.
OF_WEB = {
    "django_http_responses_total_by_status_total",
    "django_http_requests_latency_including_middlewares_seconds_bucket",
}


@pytest.mark.parametrize("name", CURATED)
def test_curated_queries_ask_for_what_is_there_and_for_no_feed_of_an_owner(name):
    expression = curated_expression(name, step_seconds=15)
    found = list(selectors(parsed(expression)))
    assert {name_of(one) for one in found} - known_names() - OF_WEB == set()
    by_feed = [one for one in found if re.search(r"fintech_(quotes?|fetches|feed)_", one)]
    assert [one for one in by_feed if f'feed!="{LABEL}"' not in one] == []
    assert "$" not in expression
    assert "asset" not in expression


def recorded(folder):
    """Write ten minutes of metrics into a folder as Prometheus keeps them."""
    lines = ["# TYPE fintech_quotes counter"]
    for feed, rate in (("coins", 2), (LABEL, 7)):
        lines += [
            f'fintech_quotes_total{{feed="{feed}",outcome="accepted"}} {rate * second} {BEGIN + second}'
            for second in range(0, 601, 5)
        ]
    lines += ["# TYPE fintech_queue_messages gauge"]
    lines += [f'fintech_queue_messages{{queue="ticks"}} {second} {BEGIN + second}' for second in range(0, 601, 5)]
    (folder / "metrics.txt").write_text("\n".join([*lines, "# EOF", ""]))
    command = ["promtool", "tsdb", "create-blocks-from", "openmetrics", folder / "metrics.txt", folder / "tsdb"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(scope="module")
def port(tmp_path_factory):
    """Return the port of a Prometheus that has recorded something."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    recorded(folder)
    (folder / "prometheus.yml").write_text("global: {}\n")
    options = [f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"]
    options += ["--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"]
    with subprocess.Popen(["prometheus", *options]) as process:
        try:
            wait_until(lambda: asked(port, "vector(1)"), timeout_seconds=30)
            yield port
        finally:
            process.terminate()


@pytest.fixture
def ask(db, settings, port):
    """Return a function that asks as somebody, and returns what the one field gives."""
    settings.PROMETHEUS_URL = f"http://127.0.0.1:{port}"

    def post(user, field, *, step=30, range=RANGE):
        client = Client()
        client.force_login(user)
        query = f"query ($range: TimeRange, $step: Int) {{ {field} {ANSWER} }}"
        body = {"query": query, "variables": {"range": range, "step": step}}
        [answer] = client.post(URL, body, content_type="application/json").json()["data"].values()
        return answer

    return post


def operator():
    grace = make_operator("grace")
    grace.groups.add(Group.objects.get(name="Operator"))
    return grace


@pytest.mark.servers
def test_a_curated_query_gives_each_feed_but_those_of_owners(ask):
    answer = ask(make_member("ada"), "metrics(query: QUOTES_ACCEPTED, range: $range, stepSeconds: $step)")
    [series] = answer.pop("series")
    assert answer == {"unit": "quotes/s", "stepSeconds": 30, "error": None}
    assert series["labels"] == [{"name": "feed", "value": "coins"}]
    assert series["at"] == ["2026-03-02T12:05:00Z", "2026-03-02T12:05:30Z", "2026-03-02T12:06:00Z"]
    assert series["values"] == pytest.approx([2, 2, 2])


@pytest.mark.servers
def test_prometheus_takes_every_curated_query(ask):
    ada = make_member("ada")
    for name in CURATED:
        answer = ask(ada, f"metrics(query: {name.upper()}, range: $range, stepSeconds: $step)")
        assert answer["error"] is None, name


@pytest.mark.servers
def test_operators_ask_any_promql_and_see_why_one_is_refused(ask):
    grace = operator()
    field = 'promql(query: "%s", range: $range, stepSeconds: $step)'
    [series] = ask(grace, field % "fintech_queue_messages * 2")["series"]
    assert (series["labels"], series["values"]) == ([{"name": "queue", "value": "ticks"}], [600, 660, 720])
    refused = ask(grace, field % "sum(")["error"]
    assert refused["code"] == "INVALID"
    assert refused["message"].startswith("Prometheus refuses the query: ")
    assert "parse error" in refused["message"]
    assert ask(make_member("ada"), field % "up")["error"]["code"] == "FORBIDDEN"


@pytest.mark.servers
def test_nothing_recorded_is_an_answer_without_series(ask):
    before = {"since": "2020-01-01T00:00:00Z", "until": "2020-01-01T00:01:00Z"}
    answer = ask(make_member("ada"), "metrics(query: QUEUE_MESSAGES, range: $range, stepSeconds: $step)", range=before)
    assert (answer["series"], answer["error"]) == ([], None)
