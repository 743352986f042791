"""The health check of a container. It imports nothing of the application: with a dozen containers that are checked
every 10 s, that would take more CPU than the work.

    check.py http PORT PATH           the process answers there with 200
    check.py port PORT                the process takes connections there
    check.py fresh QUEUE [SECONDS]    a worker of the queue has worked within so many seconds (120), by its mark in
                                      LIVENESS_DIR

Exit status 0, or 1 with one line that says what is wrong; 2 where it was called in another way.
"""

import os
import socket
import sys
import time

TIMEOUT_SECONDS = 4
# A worker without other tasks writes its mark every 30 s, when a canary arrives.
FRESH_SECONDS = 120.0


def check_port(port: int) -> str:
    """Return what is wrong with the process that is to listen at `port` of this machine, or ""."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS):
            return ""
    except OSError as error:
        return f"nothing takes connections at port {port}: {error}"


def check_http(port: int, path: str, *, host: str) -> str:
    """Return what is wrong with the answer at `path`, asked for by the name `host`, or ""."""
    request = f"GET {path} HTTP/1.0\r\nHost: {host}\r\nUser-Agent: check.py\r\n\r\n"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.sendall(request.encode("ascii"))
            line = connection.makefile("rb").readline(1_000).decode("latin-1").strip()
    except OSError as error:
        return f"no answer at port {port}: {error}"
    return "" if line.split(" ")[1:2] == ["200"] else f"port {port}{path} answers: {line or 'nothing'}"


def check_fresh(folder: str, queue: str, *, within_seconds: float) -> str:
    """Return what is wrong with the mark that the workers of `queue` write after each task, or ""."""
    try:
        with open(os.path.join(folder, queue), encoding="ascii") as mark:
            marked_at = float(mark.read())
    except (OSError, ValueError) as error:
        return f"no worker of the queue {queue} has left a mark in {folder}: {error}"
    seconds = time.monotonic() - marked_at
    # A later time is one of before the machine was started anew.
    if 0 <= seconds <= within_seconds:
        return ""
    return f"no worker of the queue {queue} has worked within {within_seconds:g} s"


def site_host(url: str) -> str:
    """Return the host in SITE_URL, which the site answers to whatever else it is given; without one, localhost."""
    place = url.partition("://")[2].partition("/")[0].rpartition("@")[2]
    host = place if place.endswith("]") else place.rpartition(":")[0] or place
    return host if host and host.isascii() else "localhost"


def main(arguments: list[str]) -> int:
    match arguments:
        case ["http", port, path] if port.isdecimal():
            wrong = check_http(int(port), path, host=site_host(os.environ.get("SITE_URL", "")))
        case ["port", port] if port.isdecimal():
            wrong = check_port(int(port))
        case ["fresh", queue, *rest] if len(rest) < 2 and all(one.isdecimal() for one in rest):
            within = float(rest[0]) if rest else FRESH_SECONDS
            wrong = check_fresh(os.environ.get("LIVENESS_DIR", ""), queue, within_seconds=within)
        case _:
            print("check.py: say http PORT PATH, port PORT, or fresh QUEUE [SECONDS]", file=sys.stderr)
            return 2
    if wrong:
        print(f"check.py: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
