"""The dashboards in grafana/: written by the generator, complete, and asking for what is there."""

import json
import re
from pathlib import Path

import pytest
import yaml
from django.db import connection

from apps.metrics.schema import ROLE
from grafana.build import DASHBOARDS, FOLDER, written
from tests.monitoring.promql import OF_OTHERS, known_names, name_of, parsed, selectors
from tests.monitoring.test_rules import RULES

ROOT = Path(__file__).resolve().parents[2]
FILES = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
PROVISIONED = yaml.safe_load((ROOT / "grafana/provisioning/datasources/fintech.yml").read_text())["datasources"]
PANELS = [
    (f"{uid}: {panel['title'] or 'text'}", panel) for uid, one in sorted(FILES.items()) for panel in one["panels"]
]
TARGETS = [(name, target) for name, panel in PANELS for target in panel.get("targets", [])]
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


def test_every_datasource_is_provisioned():
    known = {(one["type"], one["uid"]) for one in PROVISIONED}
    asked = {(one["datasource"]["type"], one["datasource"]["uid"]) for _, one in TARGETS}
    asked |= {
        (one["datasource"]["type"], one["datasource"]["uid"])
        for found in FILES.values()
        for kind in ("templating", "annotations")
        for one in found[kind]["list"]
    }

    assert asked == known


@pytest.mark.parametrize("expression", sorted({one["expr"] for _, one in TARGETS if "expr" in one}))
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
