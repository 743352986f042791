"""The dashboards in grafana/: written by the generator, of Grafana's types, and asking for what is there."""

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from django.db import connection

from apps.metrics.schema import ROLE
from grafana.build import DASHBOARDS, FOLDER, written
from tests.monitoring.promql import OF_OTHERS, known_names, name_of, parsed, selectors
from tests.monitoring.test_configurations import STREAMS
from tests.monitoring.test_rules import RULES

ROOT = Path(__file__).resolve().parents[2]
FILES = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
PROVISIONED = yaml.safe_load((ROOT / "grafana/provisioning/datasources/fintech.yml").read_text())["datasources"]
PANELS = [
    (f"{uid}: {panel['title'] or 'text'}", panel) for uid, one in sorted(FILES.items()) for panel in one["panels"]
]
TARGETS = [(name, target) for name, panel in PANELS for target in panel.get("targets", [])]
PROMQL = sorted({one["expr"] for _, one in TARGETS if one["datasource"]["type"] == "prometheus"})
LOGQL = sorted({one["expr"] for _, one in TARGETS if one["datasource"]["type"] == "loki"})
# Links of cells.
LINKS = [
    link["url"]
    for _, panel in PANELS
    for override in panel.get("fieldConfig", {}).get("overrides", [])
    for one in override["properties"]
    if one["id"] == "links"
    for link in one["value"]
]
# Panels and annotations alike.
STATEMENTS = [(name, target["rawSql"]) for name, target in TARGETS if "rawSql" in target] + [
    (f"{uid}: {one['name']}", one["target"]["rawSql"])
    for uid, found in FILES.items()
    for one in found["annotations"]["list"]
]


def test_the_files_are_what_the_generator_writes():
    assert {one["uid"]: written(one) for one in DASHBOARDS} == {
        path.stem: path.read_text() for path in FOLDER.glob("*.json")
    }, "run: python -m grafana.build"


def test_uids_titles_and_ids_are_unique_and_each_begins_with_a_text():
    assert len({one["uid"] for one in FILES.values()}) == len({one["title"] for one in FILES.values()}) == len(FILES)
    for one in FILES.values():
        ids = [panel["id"] for panel in one["panels"]]
        assert len(set(ids)) == len(ids)
        assert one["panels"][0]["type"] == "text"
        assert one["panels"][0]["options"]["content"]


def test_no_panel_lies_on_another():
    for one in FILES.values():
        cells = [
            (x, y)
            for panel in one["panels"]
            for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
            for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
        ]
        assert len(set(cells)) == len(cells)
        assert max(x for x, _ in cells) < 24


def test_each_panel_has_a_query_a_description_and_a_unit():
    shown = [(name, panel) for name, panel in PANELS if panel["type"] != "text"]

    assert [name for name, panel in shown if not panel["targets"]] == []
    assert [name for name, panel in shown if not panel["description"].endswith(".")] == []
    assert [name for name, panel in shown if not panel["fieldConfig"]["defaults"]["unit"]] == []


def test_every_datasource_is_provisioned_and_every_link_leads_to_one_or_to_a_dashboard():
    known = {(one["type"], one["uid"]) for one in PROVISIONED}
    asked = [one["datasource"] for _, one in TARGETS]
    asked += [
        one["datasource"]
        for found in FILES.values()
        for kind in ("templating", "annotations")
        for one in found[kind]["list"]
        if one.get("type") != "textbox"
    ]
    explored = [urlsplit(one) for one in LINKS if one.startswith("/explore?")]
    panes = [json.loads(parse_qs(one.query)["panes"][0])["one"] for one in explored]
    asked += [query["datasource"] for pane in panes for query in pane["queries"]]

    assert {(one["type"], one["uid"]) for one in asked} == known
    assert {pane["datasource"] for pane in panes} == {"fintech-jaeger"}
    assert {urlsplit(one).path.removeprefix("/d/") for one in LINKS} - set(FILES) == {"/explore"}


# Text as JSON has it; a value of an enumeration has to be named.
TYPED = """
import { ThresholdsMode, type AnnotationQuery, type Dashboard, type DataQuery } from "@grafana/schema";
type Ours = Partial<Omit<Dashboard, "annotations">> & {
  annotations: { list: AnnotationQuery<DataQuery & Record<string, unknown>>[] };
};
export const dashboard = %s satisfies Ours;
"""


def wrongly_typed(folder, dashboards):
    """Return what TypeScript finds wrong with dashboards, each a text of JSON, held against Grafana's types."""
    (folder / "node_modules").symlink_to(ROOT / "node_modules")
    for name, text in dashboards.items():
        (folder / f"{name}.ts").write_text(TYPED % text.strip().replace('"absolute"', "ThresholdsMode.Absolute"))
    options = ["--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022"]
    files = [f"{name}.ts" for name in dashboards]
    ran = subprocess.run(
        [ROOT / "node_modules/.bin/tsc", *options, *files], cwd=folder, capture_output=True, text=True, timeout=120
    )
    assert bool(ran.returncode) == bool(ran.stdout), ran.stderr
    return ran.stdout.splitlines()


def test_every_dashboard_has_grafanas_types(tmp_path):
    assert wrongly_typed(tmp_path, {path.stem: path.read_text() for path in FOLDER.glob("*.json")}) == []


def test_a_wrong_type_is_found(tmp_path):
    broken = FILES["fintech-logs"] | {"refresh": 10}
    (error,) = wrongly_typed(tmp_path, {"broken": json.dumps(broken)})

    assert error.endswith("error TS2322: Type 'number' is not assignable to type 'string'.")


def unparsed(expressions):
    """Return those that are no LogQL; Grafana's variables are replaced."""
    plain = [re.sub(r"\$(?:__)?\w+", "5m", one) for one in expressions]
    ran = subprocess.run(
        ["node", Path(__file__).with_name("logql.mjs")],
        input=json.dumps(plain),
        capture_output=True,
        check=True,
        text=True,
        timeout=60,
    )
    return json.loads(ran.stdout)


def test_each_expression_of_loki_is_logql_and_asks_for_labels_that_alloy_gives():
    assert LOGQL
    assert unparsed(LOGQL) == []
    assert unparsed(['sum(rate({service="web"}[5m])']) == ['sum(rate({service="web"}[5m])']
    assert {label for one in LOGQL for label in re.findall(r"(\w+)=~?\"", one.partition("}")[0])} <= STREAMS


@pytest.mark.parametrize("expression", PROMQL)
def test_each_expression_is_promql_and_asks_for_a_metric_that_is_documented(expression):
    documented = set(re.findall(r"^\| `(\w+)`", (ROOT / "docs/metrics.md").read_text(), re.MULTILINE))
    documented |= {f"{one}_bucket" for one in documented}
    recorded = {rule["record"] for rule in RULES if "record" in rule}

    asked = {name_of(one) for one in selectors(parsed(expression))}
    assert asked
    assert asked - known_names() - documented - recorded - OF_OTHERS == set()


@pytest.mark.servers
@pytest.mark.django_db
@pytest.mark.parametrize(("name", "statement"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_each_statement_is_one_that_the_role_of_grafana_may_run(name, statement):
    plain = re.sub(r"\$__timeFilter\((\w+)\)", r"\1 BETWEEN now() - interval '1 hour' AND now()", statement)
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
        cursor.execute(plain.replace("$symbol", "BTC-USD"))
        cursor.execute("RESET ROLE")
