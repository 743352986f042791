"""The files in prometheus/: valid for the programs of this machine, and for those of newer Debians where
compose/prometheus-versions.sh has reached them; each alert with a test and a runbook."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.monitoring.promql import OF_OTHERS, known_names, name_of, parsed, selectors

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "prometheus"
RULES = [
    rule
    for path in sorted((FOLDER / "rules").glob("*.yml"))
    for group in yaml.safe_load(path.read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
TESTS = [one for path in sorted((FOLDER / "tests").glob("*.yml")) for one in yaml.safe_load(path.read_text())["tests"]]
# Each process that gives metrics of its own, by its job.
JOBS = {"metrics": "rows", "analyzer0": "analyzer"}
EXPORTERS = {"node", "postgres", "redis", "celery"}
# That of the plugin in RabbitMQ.
BROKER_PORT = 15692
# promtool and amtool of each version: the names alone are those on the PATH.
VERSIONS = {"here": "", **{path.name: f"{path}/usr/bin/" for path in (ROOT / "var/prometheus-versions").glob("*")}}
on_each_version = pytest.mark.parametrize("programs", VERSIONS.values(), ids=VERSIONS)


def run(*command):
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the folder, with the tokens that its files name."""
    shutil.copytree(FOLDER, tmp_path / "prometheus")
    (tmp_path / "var").mkdir()
    for name in ("prometheus.token", "alertmanager.token"):
        (tmp_path / "var" / name).write_text("fintech_x")
    return tmp_path / "prometheus"


@on_each_version
def test_prometheus_takes_its_configuration_and_every_rule(folder, programs):
    run(f"{programs}promtool", "check", "config", str(folder / "prometheus.yml"))


@on_each_version
def test_alertmanager_takes_its_configuration(folder, programs):
    run(f"{programs}amtool", "check-config", str(folder / "alertmanager.yml"))


def test_no_route_of_alertmanager_is_out_of_reach_and_no_inhibition_reaches_too_far():
    amlint = Path(sys.executable).with_name("amlint")
    rules = ["--rules", str(FOLDER / "rules/alerts.yml")]
    run(str(amlint), "check", "--strict", *rules, str(FOLDER / "alertmanager.yml"))


@on_each_version
@pytest.mark.parametrize(
    ("name", "severity", "receivers"),
    [
        ("Watchdog", "info", "dead-mans-switch"),
        ("FeedFails", "warning", "record,operators"),
        ("DatabaseDown", "critical", "record,operators"),
    ],
)
def test_each_alert_is_recorded_and_mailed_and_the_watchdog_is_neither(name, severity, receivers, programs):
    config = f"--config.file={FOLDER}/alertmanager.yml"
    found = run(f"{programs}amtool", "config", "routes", "test", config, f"alertname={name}", f"severity={severity}")

    assert found.strip() == receivers


@on_each_version
def test_each_alert_fires_and_does_not_fire_where_its_tests_say_so(programs):
    run(f"{programs}promtool", "test", "rules", *(str(path) for path in sorted((FOLDER / "tests").glob("*.yml"))))


def test_each_alert_has_a_test_in_which_it_fires_and_one_in_which_it_does_not():
    tried = {(one["alertname"], bool(one["exp_alerts"])) for test in TESTS for one in test["alert_rule_test"]}

    # This one fires always.
    assert {(name, fires) for name in ALERTS for fires in (True, False)} - tried == {("Watchdog", False)}


@pytest.mark.parametrize("name", sorted(ALERTS))
def test_each_alert_says_what_is_wrong_and_has_a_runbook(name):
    rule = ALERTS[name]
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    sections = re.findall(r"^### (\w+)\n(.+)", (ROOT / path).read_text(), re.MULTILINE)

    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    assert [heading for heading, text in sections if heading.lower() == anchor and len(text) > 30] == [name]


def test_no_runbook_is_of_an_alert_that_is_gone():
    text = (ROOT / "docs/operations.md").read_text()
    section = re.search(r"^## Prometheus\n(.*?)^## ", text, re.MULTILINE | re.DOTALL).group(1)

    assert re.findall(r"^### (\w+)$", section, re.MULTILINE) == list(ALERTS)


def test_every_selector_of_a_rule_names_a_metric_or_a_recorded_one():
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    asked = {name_of(one) for rule in RULES for one in selectors(parsed(str(rule["expr"])))}

    assert asked - known_names() - recorded - OF_OTHERS == set()
    # A rule that nobody reads would be evaluated for nothing.
    assert recorded - asked == set()


def test_every_exporter_is_scraped_at_its_port():
    lines = (ROOT / "compose/Procfile.monitoring").read_text().splitlines()
    started = {
        line.partition(":")[0]: re.search(r"(?:web.listen-address[= ]|CE_LISTEN=)(\S+)", line).group(1)
        for line in lines
        if not line.startswith("#")
    }
    configured = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    targets = {one["job_name"]: one["static_configs"][0]["targets"] for one in configured["scrape_configs"]}
    (alertmanager,) = configured["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"]

    assert set(started) == EXPORTERS | {"prometheus", "alertmanager"}
    assert started.pop("alertmanager") == alertmanager
    assert {name: [listen] for name, listen in started.items()} == {name: targets[name] for name in started}


def test_every_process_with_metrics_is_scraped_at_its_port():
    processes = re.findall(r"^(\w+): METRICS_LISTEN=(\S+) ", (ROOT / "compose/Procfile").read_text(), re.MULTILINE)
    configured = yaml.safe_load((FOLDER / "prometheus.yml").read_text())["scrape_configs"]
    targets = {one["job_name"]: one["static_configs"][0]["targets"] for one in configured}

    assert {JOBS.get(name, name): [listen] for name, listen in processes} == {
        name: found for name, found in targets.items() if name not in ("web", "prometheus", "rabbitmq", *EXPORTERS)
    }
