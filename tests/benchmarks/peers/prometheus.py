"""Prometheus, which scrapes prices each second and evaluates recording rules on them each second."""

import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tests.benchmarks.timing import processor_seconds
from tests.rig import free_port, rig, wait_until


class Measured(NamedTuple):
    """samples: scraped in so many seconds, those that its rules made not among them; processor: seconds of processor
    time; megabytes: its memory at the end; evaluations: of all rules."""

    version: str
    samples: int
    seconds: float
    processor: float
    megabytes: float
    evaluations: float

    @property
    def microseconds(self) -> float:
        """Return the processor time of a sample."""
        return self.processor / self.samples * 1e6

    @property
    def cores(self) -> float:
        """Return how many cores it kept at work."""
        return self.processor / self.seconds


class PriceServer(ThreadingHTTPServer):
    """It answers at each path with the prices of so many series, others each second. scrapes: how many it gave."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, series: int) -> None:
        super().__init__(("127.0.0.1", 0), _PriceHandler)
        self.series = series
        self.scrapes = 0
        self.lock = threading.Lock()


class _PriceHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PriceServer

    def do_GET(self) -> None:
        step = int(time.monotonic())
        prices = ((one, 100 + (step * 13 + one * 7) % 100 / 100) for one in range(self.server.series))
        body = "".join(f'price{{symbol="A{one}"}} {price:.2f}\n' for one, price in prices).encode()
        with self.server.lock:
            self.server.scrapes += 1
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def _prices(series: int) -> Iterator[PriceServer]:
    with PriceServer(series) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server
        finally:
            server.shutdown()


def measure_prometheus(folder: Path, *, targets: int, series: int, rules: Sequence[str], seconds: int) -> Measured:
    """Let it scrape so many targets of so many series and evaluate these rules, each second, for so many seconds after
    the first round."""
    port = free_port()
    with _prices(series) as server, rig(folder) as processes:
        _configure(folder, targets=targets, rules=rules, shown=server.server_port)
        program = processes.run(
            *("prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/tsdb"),
            f"--web.listen-address=127.0.0.1:{port}",
            name="prometheus",
        )

        def used() -> tuple[float, ...]:
            evaluations = _metric(port, "prometheus_rule_evaluations_total")
            return server.scrapes, evaluations, processor_seconds(processes=[program.pid]), time.monotonic()

        wait_until(lambda: server.scrapes >= targets and used()[1] >= len(rules), timeout_seconds=120)
        before = used()
        wait_until(lambda: time.monotonic() - before[3] >= seconds, timeout_seconds=seconds + 60)
        scrapes, evaluations, processor, passed = (late - early for early, late in zip(before, used(), strict=True))
        status = Path(f"/proc/{program.pid}/status").read_text()
    kilobytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    printed = subprocess.run(["prometheus", "--version"], check=True, capture_output=True, text=True)
    # Older ones print it to standard error.
    version = (printed.stdout or printed.stderr).split()[2]
    return Measured(version, int(scrapes) * series, passed, processor, kilobytes / 1_000, evaluations)


def _configure(folder: Path, *, targets: int, rules: Sequence[str], shown: int) -> None:
    names = [f"feed-{number}" for number in range(targets)]
    every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    scraped = [
        {"job_name": name, "metrics_path": f"/{name}", "static_configs": [{"targets": [f"127.0.0.1:{shown}"]}]}
        for name in names
    ]
    configured = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": scraped}
    (folder / "prometheus.yml").write_text(yaml.safe_dump(configured))
    # A group for each: rules of one group wait for each other.
    groups = [
        {"name": f"group-{number}", "rules": [{"record": f"rule_{number}", "expr": rule}]}
        for number, rule in enumerate(rules)
    ]
    (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))


def _metric(port: int, name: str) -> float:
    """Return the sum of one of its own metrics; 0 while it does not listen yet."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
    except OSError:
        return 0.0
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name}{{", f"{name} ")))
