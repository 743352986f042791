"""What Loki, Alloy, Jaeger and Grafana are started with: as far as can be said without these programs."""

import json
import logging
import re
from pathlib import Path

import pytest
import yaml
from structlog.contextvars import bound_contextvars

from fintech.logs import json_lines

ROOT = Path(__file__).resolve().parents[2]
ALLOY = (ROOT / "compose/alloy/config.alloy").read_text()
LOKI = yaml.safe_load((ROOT / "compose/loki/loki.yml").read_text())
JAEGER = yaml.safe_load((ROOT / "compose/jaeger/jaeger.yml").read_text())


def keys_of(stage):
    """Return the keys that a stage of Alloy names."""
    (block,) = re.findall(rf"stage\.{stage} \{{(.*?)^  \}}", ALLOY, re.MULTILINE | re.DOTALL)
    return set(re.findall(r'"(\w+)"\s*=', block))


# The labels of what Alloy sends: each combination of their values is a stream of its own.
STREAMS = keys_of("labels") | set(re.findall(r'target_label\s*=\s*"(\w+)"', ALLOY))


def test_alloy_takes_from_a_line_what_our_lines_have():
    with bound_contextvars(trace_id="t", request_id="r", task_id="k"):
        line = json.loads(json_lines().format(logging.makeLogRecord({"msg": "x", "levelname": "INFO"})))

    assert keys_of("json") - set(line) == set()
    assert keys_of("labels") | keys_of("structured_metadata") | {"time"} == keys_of("json")


def test_alloy_sends_few_labels_and_the_trace_id_beside_them():
    assert {"level", "service"} == STREAMS
    assert "trace_id" in keys_of("structured_metadata")


def test_the_components_of_alloy_are_joined():
    made = {".".join(one) for one in re.findall(r'^([\w.]+) "(\w+)" \{', ALLOY, re.MULTILINE)}
    asked = set(re.findall(r"\b((?:discovery|loki)\.[\w.]+)\.(?:targets|output|receiver)\b", ALLOY))

    assert asked - made == set()
    assert made - asked == {"loki.source.docker.containers"}
    assert ALLOY.count("{") == ALLOY.count("}")
    assert ALLOY.count("[") == ALLOY.count("]")


def test_loki_keeps_lines_for_days_and_can_keep_the_trace_id_beside_them():
    (stored,) = LOKI["schema_config"]["configs"]

    # Structured metadata is for these alone.
    assert (stored["store"], stored["schema"], stored["index"]["period"]) == ("tsdb", "v13", "24h")
    assert LOKI["limits_config"]["allow_structured_metadata"] is True
    # Without the compactor, lines stay for ever, and it wants to be said where it notes what to delete.
    assert LOKI["limits_config"]["retention_period"] == "${LOGS_RETENTION:-168h}"
    assert (LOKI["compactor"]["retention_enabled"], LOKI["compactor"]["delete_request_store"]) == (True, "filesystem")
    assert LOKI["analytics"] == {"reporting_enabled": False}


def test_every_component_that_jaeger_names_is_configured_and_every_one_configured_is_named():
    service = JAEGER["service"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(service["pipelines"]["traces"][kind]) == set(JAEGER[kind])
    assert set(service["extensions"]) == set(JAEGER["extensions"])
    backends = JAEGER["extensions"]["jaeger_storage"]["backends"]
    assert JAEGER["exporters"]["jaeger_storage_exporter"]["trace_storage"] in backends
    assert JAEGER["extensions"]["jaeger_query"]["storage"]["traces"] in backends
    assert [one["memory"]["max_traces"] > 0 for one in backends.values()] == [True]


@pytest.mark.parametrize(
    ("port", "path"),
    [
        (4318, ("receivers", "otlp", "protocols", "http")),
        (16686, ("extensions", "jaeger_query", "http")),
        (13133, ("extensions", "healthcheckv2", "http")),
    ],
)
def test_jaeger_listens_where_it_is_asked(port, path):
    found = JAEGER
    for name in path:
        found = found[name]

    assert found["endpoint"] == f"${{env:JAEGER_LISTEN_HOST:-localhost}}:{port}"


def test_every_address_that_provisioning_reads_has_a_default():
    read = {
        name
        for path in (ROOT / "grafana/provisioning").rglob("*.yml")
        for name in re.findall(r"(?<!\$)\$(\w+)", path.read_text())
    }
    given = set(re.findall(r"^export (\w+)=", (ROOT / "compose/grafana.env").read_text(), re.MULTILINE))

    assert read == given - {"GF_PATHS_PROVISIONING"}


def test_lines_and_spans_lead_to_each_other():
    of = {
        one["type"]: one
        for one in yaml.safe_load((ROOT / "grafana/provisioning/datasources/fintech.yml").read_text())["datasources"]
    }
    (field,) = of["loki"]["jsonData"]["derivedFields"]
    to_lines = of["jaeger"]["jsonData"]["tracesToLogsV2"]

    assert (field["datasourceUid"], to_lines["datasourceUid"]) == (of["jaeger"]["uid"], of["loki"]["uid"])
    assert field["matcherRegex"] in keys_of("structured_metadata")
