"""`make up`: checks what would make a start fail, starts the containers, waits until all are healthy, prints addresses.

Exit status 0; 1 with what is wrong and what to do, where nothing was started or something did not become healthy.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterable

LOWEST_COMPOSE = (2, 24)
LOWEST_ENGINE = (20, 10)
# In bytes, measured with the starter set; with the profile observability, and without.
MEMORY_NEEDED = {True: 6_000_000_000, False: 2_000_000_000}
WAIT_SECONDS = 600


class CannotStart(Exception):
    """What is wrong, and what to do."""


def version_of(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version like v2.26.1-4, or (0, 0)."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def version_problems(*, engine: str, compose: str) -> list[str]:
    """Return what is wrong with the versions of the Docker engine and of Compose."""
    wanted = (("Docker engine", engine, LOWEST_ENGINE), ("Docker Compose", compose, LOWEST_COMPOSE))
    return [
        f"{name} {text or 'is missing'}: install {lowest[0]}.{lowest[1]} or later"
        for name, text, lowest in wanted
        if version_of(text) < lowest
    ]


def memory_problems(*, total: int, has_observability: bool) -> list[str]:
    """Return what is wrong with the machine's memory, in bytes."""
    needed = MEMORY_NEEDED[has_observability]
    if total >= needed:
        return []
    what = "with the profile observability" if has_observability else "without further profiles"
    return [f"the machine has {total / 1e9:.1f} GB of memory: {needed / 1e9:.0f} GB are needed {what}"]


def port_problems(ports: Iterable[tuple[str, int, str]]) -> list[str]:
    """Return what is wrong with the ports (address, port, service) that are to be opened."""
    found = []
    for address, port, service in ports:
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                one.bind((address or "0.0.0.0", port))  # noqa: S104 (where Docker would bind it)
            except OSError as error:
                found.append(f"port {port} of {service} cannot be opened ({error.strerror}): set another in .env")
    return found


def ports_of(configuration: dict, *, running: set[str]) -> list[tuple[str, int, str]]:
    """Return (address, port, service) of all ports that services open which do not run yet."""
    return [
        (port.get("host_ip", ""), int(port["published"]), name)
        for name, service in sorted(configuration["services"].items())
        if name not in running
        for port in service.get("ports", ())
        if port.get("published")
    ]


def output(*command: str) -> str:
    """Return what a command prints. Raises CannotStart with what it says where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        raise CannotStart(f"{command[0]} is missing: install Docker with Compose") from None
    if done.returncode:
        raise CannotStart((done.stderr or done.stdout).strip() or f"{' '.join(command)} failed")
    return done.stdout


def check() -> dict:
    """Return the configuration of Compose. Raises CannotStart with all that is wrong."""
    engine, total = output("docker", "info", "--format", "{{.ServerVersion}} {{.MemTotal}}").split()
    compose = output("docker", "compose", "version", "--short").strip()
    wrong = version_problems(engine=engine, compose=compose)
    if not wrong:
        configuration = json.loads(output("docker", "compose", "config", "--format", "json"))
        running = set(output("docker", "compose", "ps", "--services", "--status", "running").split())
        has_observability = "grafana" in configuration["services"]
        wrong += memory_problems(total=int(total), has_observability=has_observability)
        wrong += port_problems(ports_of(configuration, running=running))
    if wrong:
        raise CannotStart("\nup: ".join(wrong))
    return configuration


def address_of(configuration: dict, service: str) -> str:
    """Return where a service's first port is opened, or ""."""
    ports = configuration["services"].get(service, {}).get("ports", ())
    return next((f"http://localhost:{port['published']}" for port in ports if port.get("published")), "")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="up")
    parser.add_argument("--no-build", action="store_true", help="take the images that are there")
    parser.add_argument(
        "--demo", action="store_true", help="load an invented and a recorded market for the account admin"
    )
    options = parser.parse_args(arguments)
    try:
        configuration = check()
        command = ["docker", "compose", "up", "-d", "--wait", "--wait-timeout", str(WAIT_SECONDS)]
        built = os.environ.get("FINTECH_IMAGE") or options.no_build
        if subprocess.run([*command, "--no-build" if built else "--build"]).returncode:
            raise CannotStart("not everything became healthy: see docker compose ps, and docker compose logs SERVICE")
        manage = ["docker", "compose", "exec", "-T", "web", "/app/compose/start.sh", "manage"]
        password = output(*manage, "first_account").strip()
        if options.demo:
            output(*manage, "load", "apps/setup/demo.yaml", "--owner", "admin")
    except CannotStart as error:
        print(f"up: {error}", file=sys.stderr)
        return 1
    site = configuration["services"]["web"]["environment"]["SITE_URL"]
    print(f"Site       {site}  (GraphQL: {site}/graphql)")
    for name, service in (
        ("RabbitMQ", "rabbitmq"), ("Grafana", "grafana"), ("Prometheus", "prometheus"),
        ("Alertmanager", "alertmanager"), ("Flower", "flower"), ("Jaeger", "jaeger"),
    ):  # fmt: skip
        if address := address_of(configuration, service):
            print(f"{name:<10} {address}")
    if password:
        print(f"Sign in as admin with the password {password}  (shown this once; change it on the page Profile)")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
