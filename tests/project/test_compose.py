"""What `make env` and `make up` do before a container is started, and what the Compose file says."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from compose import environment, up
from fintech.settings.env import VARIABLES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "compose/docker-compose.yml").read_text(encoding="utf-8")
FILE = yaml.safe_load(TEXT)
SERVICES = FILE["services"]
# Files of the machine, and what differs from process to process.
NOT_OF_ALL = {"DJANGO_DEBUG", "METRICS_LISTEN", "VAR_DIR"}


def made(path: Path) -> dict[str, str]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_env_makes_every_variable_that_must_be_set(tmp_path):
    assert environment.main(tmp_path / ".env") == 0
    values = made(tmp_path / ".env")
    required = set(re.findall(r"\$\{(\w+):\?run make env first\}", TEXT))

    assert required - set(values) == set()
    assert all(len(values[name]) >= 32 for name in required)
    assert len({values[name] for name in required}) == len(required)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


def test_env_changes_no_line_and_adds_what_is_missing(tmp_path):
    path = tmp_path / ".env"
    environment.main(path)
    mine = "REDIS_PASSWORD=mine\n# BROKER_PASSWORD=no\nSITE_URL=https://mine.example"
    path.write_text(mine, encoding="utf-8")
    environment.main(path)
    first = path.read_text(encoding="utf-8")
    environment.main(path)

    assert first.startswith(mine + "\n")
    assert set(made(path)) == set(environment.VARIABLES)
    assert path.read_text(encoding="utf-8") == first


def test_env_says_where_it_may_not_write(tmp_path, capsys):
    assert environment.main(tmp_path / "absent/.env") == 1
    assert capsys.readouterr().err == f"env: {tmp_path}/absent/.env cannot be written: No such file or directory\n"


def test_every_variable_of_the_settings_reaches_the_processes():
    assert set(VARIABLES) - set(FILE["x-environment"]) == NOT_OF_ALL
    assert set(FILE["x-environment"]) - set(VARIABLES) == set()


def test_every_container_is_hardened():
    for name, service in SERVICES.items():
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"] is True, name
        assert "mem_limit" in service, name
        # Those whose images have no program that could ask them, and those that end.
        assert ("healthcheck" in service) != (name in {"alloy", "jaeger", "loki", "migrate", "tokens"}), name
        assert service.get("read_only") or name == "rabbitmq", name
        # An interval for the time of the start needs Docker 25.
        assert "start_interval" not in service.get("healthcheck", {}), name


def test_only_the_site_is_open_to_other_machines():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert ports.pop("proxy") == ["${SITE_PORT:-8080}:8080"]
    assert [port for found in ports.values() for port in found if not port.startswith("127.0.0.1:")] == []


def test_only_who_reads_rows_reaches_the_database():
    reach = {name for name, service in SERVICES.items() if "data" in service["networks"]}

    assert reach.isdisjoint({"proxy", "redis", "rabbitmq", "beat", "flower", "celery-exporter", "prometheus"})
    assert FILE["networks"]["data"] == {"internal": True}


def test_every_tag_is_pinned():
    tags = [re.sub(r"\$\{\w+:-([^@]*).*\}", r"\1", service["image"]) for service in SERVICES.values()]

    assert [tag for tag in tags if not re.fullmatch(r"[\w./-]+:(local|v?\d+\.\d+\.\d+(-\w+)?|18\.\d+)", tag)] == []


@pytest.mark.parametrize(
    ("engine", "compose", "said"),
    [
        ("28.2.2", "2.26.1-4", []),
        ("20.10.24+dfsg1", "v2.24.0", []),
        ("19.3.6", "2.24", ["Docker engine 19.3.6: install 20.10 or later"]),
        ("28.2.2", "1.29.2", ["Docker Compose 1.29.2: install 2.24 or later"]),
        ("28.2.2", "", ["Docker Compose is missing: install 2.24 or later"]),
    ],
)
def test_versions_are_checked(engine, compose, said):
    assert up.version_problems(engine=engine, compose=compose) == said


def test_memory_is_checked():
    assert up.memory_problems(total=2_000_000_000, has_observability=False) == []
    assert up.memory_problems(total=2_000_000_000, has_observability=True) == [
        "the machine has 2.0 GB of memory: 6 GB are needed with the profile observability"
    ]


def test_a_port_that_is_taken_is_named_with_its_service():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        [problem] = up.port_problems([("127.0.0.1", port, "rabbitmq")])

    assert problem == f"port {port} of rabbitmq cannot be opened (Address already in use): set another in .env"
    assert up.port_problems([("127.0.0.1", port, "rabbitmq")]) == []


def test_the_ports_of_what_runs_already_are_not_asked_for():
    services = {"proxy": {"ports": [{"published": "8080", "target": 8080}]}, "redis": {}}

    assert up.ports_of({"services": services}, running=set()) == [("", 8080, "proxy")]
    assert up.ports_of({"services": services}, running={"proxy"}) == []


def test_without_docker_up_says_so(tmp_path):
    done = subprocess.run([sys.executable, "compose/up.py"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True)

    assert (done.returncode, done.stderr) == (1, b"up: docker is missing: install Docker with Compose\n")


def without_addresses(node):
    """Return a document of YAML without what differs between addresses."""
    if isinstance(node, dict):
        left_out = ("targets", "url", "credentials_file", "http_headers")
        return {key: without_addresses(value) for key, value in node.items() if key not in left_out}
    return [without_addresses(one) for one in node] if isinstance(node, list) else node


@pytest.mark.parametrize("name", ["prometheus.yml", "alertmanager.yml"])
def test_prometheus_and_alertmanager_do_in_containers_what_they_do_elsewhere(name):
    elsewhere, here = (
        yaml.safe_load((ROOT / folder / name).read_text(encoding="utf-8"))
        for folder in ("prometheus", "compose/prometheus")
    )

    assert without_addresses(here) == without_addresses(elsewhere)


def test_prometheus_asks_every_process_at_its_port():
    configured = yaml.safe_load((ROOT / "compose/prometheus/prometheus.yml").read_text(encoding="utf-8"))
    targets = {one["static_configs"][0]["targets"][0] for one in configured["scrape_configs"]}
    listening = {
        f"{name}:{service['environment']['METRICS_LISTEN'].rpartition(':')[2]}"
        for name, service in SERVICES.items()
        if "METRICS_LISTEN" in (service.get("environment") or {})
    }

    assert listening <= targets
    assert {target.partition(":")[0] for target in targets} - set(SERVICES) == {"localhost"}
    assert [
        one.partition(":")[0]
        for one in targets
        if "observed" not in SERVICES.get(one.partition(":")[0], {"networks": "observed"})["networks"]
    ] == []


def test_the_kustomize_base_starts_every_role_with_the_limits_of_memory_of_compose():
    folder = ROOT / "compose/kubernetes"
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text(encoding="utf-8"))["resources"]
    documents = [one for name in listed for one in yaml.safe_load_all((folder / name).read_text(encoding="utf-8"))]
    containers = [
        one["spec"]["template"]["spec"]["containers"][0]
        for one in documents
        if one["kind"] in ("Deployment", "StatefulSet", "Job")
    ]
    limits = {one["args"][0]: one["resources"]["limits"]["memory"] for one in containers}
    in_compose = {
        service["command"][0]: re.sub(r"\$\{\w+:-(\d+)m\}", r"\1Mi", service["mem_limit"])
        for service in SERVICES.values()
        if service["image"].startswith("${FINTECH_IMAGE") and "profiles" not in service
    }

    assert sorted(listed) == sorted({path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"})
    assert limits == in_compose
