"""The containers of compose/docker-compose.yml, started as a person would: `make compose-test`.

They run by the images of the tags that the file names, or by stand-ins of them where no registry of images is reached.
"""

import csv
import gzip
import json
import os
import re
import signal
import subprocess
import time
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest
import requests
import yaml

from compose import environment, up

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SITE = "http://localhost:18080"
PROMETHEUS, FLOWER = 19090, 15555
FILES = ["compose/docker-compose.yml", "tests/compose/override.yml"]
if os.environ.get("COMPOSE_TEST_STAND_INS"):
    FILES.append("tests/compose/stand-ins.yml")
# They end by themselves, or nothing depends on them.
NOT_KILLED = {"migrate", "tokens", "receiver", "flower", "celery-exporter", "prometheus", "alertmanager"} | {
    f"{name}-exporter" for name in ("node", "postgres", "redis")
}
STATES = {"migrate": "exited", "tokens": "exited", "alloy": "running", "jaeger": "running", "loki": "running"}
WITHIN_SECONDS = 600
RECORDING = ROOT / "apps/sources/recordings/usdc-depeg-2023-03.csv.gz"
SYMBOLS = {"BTC-USD", "BTC-USDT", "BTC-USDC"}
START = "2023-03-11T00:00:00Z"
# These containers have no stand-in: the test counts the memory limit of each.
NOT_MEASURED = {"alloy", "grafana", "jaeger", "loki"}
UNITS = {"B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
MANAGE = ("exec", "-T", "web", "/app/compose/start.sh", "manage")


class Containers:
    """One project of Compose, with secrets and ports of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        env_file = folder / ".env"
        env_file.write_text(
            f"SITE_URL={SITE}\nSITE_PORT=127.0.0.1:18080\nRABBITMQ_PORT=18672\nCOMPOSE_PROJECT_NAME=fintech-test\n"
            f"COMPOSE_FILE={':'.join(FILES)}\nCOMPOSE_PROFILES=observability\nOUTBOUND_ALLOW=receiver:9000\n"
            f"PROMETHEUS_PORT={PROMETHEUS}\nALERTMANAGER_PORT=19093\nFLOWER_PORT={FLOWER}\n"
            "OUTBOUND_PORTS=9000\nCANARY=false\n",
            encoding="utf-8",
        )
        environment.main(env_file)
        lines = [line for line in env_file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
        self.environment = os.environ | dict(line.split("=", 1) for line in lines)

    def run(self, *command: str) -> str:
        """Return what a command prints. Raises AssertionError with what it says where it fails."""
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command[:6])}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    def compose(self, *arguments: str) -> str:
        return self.run("docker", "compose", *arguments)

    def facts(self) -> dict:
        """Return what is on record."""
        text = (HERE / "facts.py").read_text(encoding="utf-8")
        return json.loads(self.compose(*MANAGE, "shell", "--no-imports", "-c", text))

    def received(self) -> list[dict]:
        """Return what the receiver was sent, in order."""
        return [
            json.loads(line) for line in self.compose("exec", "-T", "receiver", "cat", "/tmp/received").splitlines()
        ]

    def states(self) -> dict[str, tuple[str, str, int]]:
        """Return service -> (id of the container, its state or health, how often it was started again)."""
        ids = self.compose("ps", "-a", "-q").split()
        found = {}
        for one in json.loads(self.run("docker", "inspect", *ids)):
            state = one["State"]
            health = state.get("Health", {}).get("Status", state["Status"])
            found[one["Config"]["Labels"]["com.docker.compose.service"]] = (one["Id"], health, one["RestartCount"])
        return found

    def memory(self) -> dict[str, int]:
        """Return service -> bytes that its containers take, without what is only cached from files."""
        text = self.run("docker", "stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}")
        found = {}
        for name, number, unit in re.findall(r"^fintech-test-(\S+)-1 ([\d.]+)(\w+) /", text, re.MULTILINE):
            found[name] = int(float(number) * UNITS[unit])
        return found

    def load(self, text: str) -> None:
        """Load a set-up file for the account admin."""
        write = f"open('/tmp/market.yaml', 'w').write({text!r})"
        self.compose("exec", "-T", "web", "python", "-c", write)
        self.compose(*MANAGE, "load", "/tmp/market.yaml", "--owner", "admin")

    def kill(self, service: str) -> None:
        """Kill a container's first process from outside: what `docker kill` ends counts as stopped by a person."""
        container = self.compose("ps", "-q", service).strip()
        os.kill(int(self.run("docker", "inspect", "-f", "{{.State.Pid}}", container)), signal.SIGKILL)


def wait_for(what, *, seconds: float = WITHIN_SECONDS):
    """Return what `what` returns once that is true. Raises AssertionError after some time."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"{what.__name__} is not so after {seconds} s"
        time.sleep(0.5)
    return found


def signed_in(said: str) -> requests.Session:
    """Return a session of admin, whose password is in what `make up` has printed."""
    session = requests.Session()
    page = session.get(f"{SITE}/accounts/login/", timeout=30).text
    form = {
        "username": "admin",
        "password": re.search(r"as admin with the password (\S+)", said)[1],
        "csrfmiddlewaretoken": re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page)[1],
    }
    session.post(f"{SITE}/accounts/login/", data=form, headers={"Referer": SITE}, timeout=30)
    return session


def starter_market() -> str:
    """Return the starter set as a set-up file with an invented price of every asset each second, and with rules."""
    market = yaml.safe_load((ROOT / "apps/setup/starter.yaml").read_text(encoding="utf-8"))
    for feed in market["feeds"]:
        feed |= {"interval": "1s", "sources": [{"provider": "simulated"}]}
    for asset in market["assets"]:
        asset.pop("listings", None)
    tags = sorted({tag for asset in market["assets"] for tag in asset["tags"]})
    condition = {"any": [{"kind": one, "percent": 0.1, "window": "5m"} for one in ("rises", "falls")]}
    market["channels"] = [{"name": "Receiver", "kind": "webhook", "url": "http://receiver:9000/"}]
    market["rules"] = [
        {"name": f"Moves: {tag}", "assets": {"tag": tag}, "condition": condition, "channels": ["Receiver"]}
        for tag in tags
    ]
    return json.dumps(market)


@pytest.fixture(scope="module")
def containers(tmp_path_factory):
    """Start everything, and take it away with its data at the end."""
    one = Containers(tmp_path_factory.mktemp("compose"))
    one.run("docker", "compose", "down", "-v", "--remove-orphans")
    try:
        one.said = one.run("python3", "compose/up.py", "--no-build")
        yield one
    finally:
        one.run("docker", "compose", "down", "-v", "-t", "10", "--remove-orphans")


def test_everything_becomes_healthy_and_one_account_is_made(containers):
    states = containers.states()
    assert {service: state for service, (_, state, _) in states.items()} == {
        service: STATES.get(service, "healthy") for service in states
    }
    assert f"Site       {SITE}" in containers.said

    session = signed_in(containers.said)
    assert session.get(f"{SITE}/admin/", timeout=30).url == f"{SITE}/admin/"
    assert session.get(f"{SITE}/metrics", timeout=30).status_code == 404


def test_no_process_may_do_more_than_it_needs(containers):
    for service in ("web", "watcher", "beat"):
        status = containers.compose("exec", "-T", service, "cat", "/proc/1/status")
        assert re.search(r"^Uid:\s+10001\s", status, re.MULTILINE), service
        assert re.search(r"^CapEff:\s+0+$", status, re.MULTILINE), service
        assert re.search(r"^NoNewPrivs:\s+1$", status, re.MULTILINE), service
    write = "open('/app/x', 'w')"
    with pytest.raises(AssertionError, match="Read-only file system"):
        containers.compose("exec", "-T", "web", "python", "-c", write)


def test_beat_does_not_reach_the_database(containers):
    ask = "import socket; socket.create_connection(('postgres', 5432), timeout=2)"
    containers.compose("exec", "-T", "web", "python", "-c", ask)
    with pytest.raises(AssertionError, match="Name or service not known|Temporary failure in name resolution"):
        containers.compose("exec", "-T", "beat", "python", "-c", ask)


def test_the_production_environment_passes_djangos_checks_for_a_deployment(containers):
    command = ["exec", "-T", "-e", "SITE_URL=https://fintech.example.org", *MANAGE[2:]]
    containers.compose(*command, "check", "--deploy", "--fail-level", "WARNING")


def test_prometheus_reads_every_target_and_flower_shows_every_worker(containers):
    def every_target_is_up() -> bool:
        answer = requests.get(f"http://localhost:{PROMETHEUS}/api/v1/targets", timeout=30).json()
        print([(one["labels"]["job"], one["lastError"]) for one in answer["data"]["activeTargets"]])
        return {one["health"] for one in answer["data"]["activeTargets"]} == {"up"}

    wait_for(every_target_is_up, seconds=120)
    login = ("fintech", containers.environment["FLOWER_PASSWORD"])
    workers = requests.get(f"http://localhost:{FLOWER}/api/workers?refresh=true", auth=login, timeout=30).json()
    assert {name.partition("@")[0] for name in workers} == {"watcher", "analyzer0", "notifier", "retries", "backtests"}
    assert requests.get(f"http://localhost:{FLOWER}/api/workers", timeout=30).status_code == 401


def test_every_container_is_killed_under_load_and_nothing_is_lost_or_doubled(containers):
    containers.load((HERE / "market.yaml").read_text(encoding="utf-8"))
    wait_for(containers.received)

    before = containers.states()
    killed = sorted(set(before) - NOT_KILLED - NOT_MEASURED)
    for service in killed:
        containers.kill(service)
        wait_for(lambda one=service: containers.states()[one][2] == before[one][2] + 1)
    last_killed_at = datetime.now(UTC)

    def all_are_healthy_again() -> bool:
        return all(containers.states()[one][1] == "healthy" for one in killed)

    wait_for(all_are_healthy_again)
    with gzip.open(RECORDING, "rt", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["symbol"] in SYMBOLS and row["time"] >= START]
    recorded = sorted((row["symbol"], row["time"], Decimal(row["price"])) for row in rows)

    def everything_is_done() -> dict | None:
        facts = containers.facts()
        facts["quotes"] = [(symbol, at, Decimal(price)) for symbol, at, price in facts["quotes"] if at >= START]
        is_over = len(facts["quotes"]) >= len(recorded) and not facts["not_evaluated"] and not facts["not_delivered"]
        return facts if is_over else None

    facts = wait_for(everything_is_done)
    assert facts["quotes"] == recorded
    assert datetime.fromisoformat(facts["last_fetched_at"]) > last_killed_at  # The recording went on meanwhile.
    containers.compose(*MANAGE, "replay", "--from", START)
    assert facts["notified"] == facts["events"]
    received = {one["id"]: one["body"] for one in containers.received()}
    assert sorted(received) == facts["delivered"]
    events = [[one["alert_id"], one["event"]] for body in received.values() for one in body["data"]["events"]]
    assert sorted(events) == facts["events"]
    assert len(events) > 20


def test_a_backup_brings_everything_back_and_nothing_is_sent_before_somebody_says_so(containers, tmp_path):
    before = containers.facts()
    env_file = containers.folder / ".env"
    containers.environment |= {"BACKUP_PASSPHRASE": "of this test alone"}
    to = ("--folder", str(tmp_path), "--environment", str(env_file))
    # The recording's day is its feed's newest, so its quotes are in the backup all the same.
    containers.run("python3", "compose/backup.py", "backup", "--quote-days", "2", *to)
    [dump], [keys] = tmp_path.glob("*.dump"), tmp_path.glob("*.env.enc")
    decrypt = ("openssl", "enc", "-d", "-aes-256-cbc", "-pbkdf2", "-iter", "600000", "-pass", "env:BACKUP_PASSPHRASE")
    assert containers.run(*decrypt, "-in", str(keys)) == env_file.read_text(encoding="utf-8")
    assert {path.stat().st_mode & 0o077 for path in (dump, keys)} == {0}

    containers.compose("down", "-v", "-t", "10")
    broken = tmp_path / "broken.dump"
    broken.write_bytes(dump.read_bytes()[:-1_000])
    with pytest.raises(AssertionError, match="restore: pg_restore: error"):
        containers.run("python3", "compose/backup.py", "restore", str(broken))
    said = containers.run("python3", "compose/backup.py", "restore", str(dump))

    assert "0 messages wait, and 0 notifications" in said
    assert containers.facts() == before
    assert {"notifier", "retries"}.isdisjoint(containers.compose("ps", "--services").split())


def test_the_core_takes_2_gb_of_memory_and_everything_6_gb(containers):
    """With the assets of the starter set, a price of each every second, for three minutes, while pages are read."""
    containers.compose("down", "-v", "-t", "10")
    session = signed_in(containers.run("python3", "compose/up.py", "--no-build"))
    containers.load(starter_market())
    count = "from apps.market.models import FeedEntry as E; print(E.objects.exclude(evaluated_at=None).count())"
    most: dict[str, int] = {}

    def three_feeds_have_three_minutes() -> bool:
        for path in (
            "/",
            "/assets/",
            "/assets/BTC-USD/",
            "/admin/",
            "/admin/alerts/alert/",
            "/admin/market/feed/",
            "/admin/market/asset/",
        ):
            assert session.get(f"{SITE}{path}", timeout=60).status_code == 200, path
        for name, taken in containers.memory().items():
            most[name] = max(most.get(name, 0), taken)
        return int(containers.compose(*MANAGE, "shell", "--no-imports", "-c", count)) >= 3 * 180

    wait_for(three_feeds_have_three_minutes)
    assert containers.received()
    services = yaml.safe_load((ROOT / "compose/docker-compose.yml").read_text(encoding="utf-8"))["services"]
    core = {name for name, service in services.items() if "profiles" not in service}
    for name in NOT_MEASURED - set(most):
        most[name] = int(re.search(r":-(\d+)m\}", services[name]["mem_limit"])[1]) * 2**20
    for name, taken in sorted(most.items(), key=lambda item: (item[0] not in core, -item[1])):
        print(f"{taken / 2**20:6.0f} MiB {'core' if name in core else ''} {name}")
    most.pop("receiver")
    assert set(most) == set(services) - {"migrate", "tokens"}
    in_core = sum(taken for name, taken in most.items() if name in core)
    print(f"core {in_core / 1e9:.2f} GB, everything {sum(most.values()) / 1e9:.2f} GB")
    assert in_core <= up.MEMORY_NEEDED[False]
    assert sum(most.values()) <= up.MEMORY_NEEDED[True]
