"""Slow clients, busy threads and long queues keep nobody from hearing within a second whether the site is well."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, contextmanager

import requests

from apps import web_server
from apps.web_server import WebServer
from tests.rig import ROOT, free_port, wait_until

WITHIN_SECONDS = 1.0
SLOW = 40


def send_slowly(port):
    """Return connections on which requests begin and do not end: half of them in the headers, half in the body."""
    begun = []
    for number in range(SLOW):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.sendall(
            b"POST /graphql HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            + (b"X-Slow: " if number % 2 else b"Content-Type: application/json\r\nContent-Length: 50\r\n\r\n{")
        )
        begun.append(connection)
    return begun


def seconds_of(port, path="/healthz"):
    begun = time.monotonic()
    assert requests.get(f"http://127.0.0.1:{port}{path}", timeout=20).text == "ok"
    return time.monotonic() - begun


def is_up(port):
    try:
        return requests.get(f"http://127.0.0.1:{port}/healthz", timeout=5).text == "ok"
    except requests.RequestException:
        return False


def test_slow_clients_do_not_stop_the_site_of_make_dev(tmp_path):
    """The very command of the Procfile, but for its folder of metrics."""
    port = free_port()
    [command] = re.findall(r"(?m)^web: (.*)$", (ROOT / "compose/Procfile").read_text())
    own = {"PORT": str(port), "VAR_DIR": str(tmp_path), "PATH": os.environ["PATH"]}
    with (tmp_path / "web.log").open("wb") as log:
        web = subprocess.Popen(
            [shutil.which("bash"), "-c", command.replace("var/web-metrics", f"{tmp_path}/metrics")],
            cwd=ROOT, env=own, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until(lambda: is_up(port))
        slow = send_slowly(port)

        assert [took for _ in range(8) if (took := seconds_of(port)) > WITHIN_SECONDS] == []
        # And who is in the middle of something ends it.
        slow[0].sendall(b"x" * 49)
        assert slow[0].recv(100).startswith(b"HTTP/1.1 400")
        web.send_signal(signal.SIGTERM)
        assert web.wait(timeout=20) == 0
    finally:
        if web.poll() is None:
            os.killpg(web.pid, signal.SIGKILL)


@contextmanager
def serving(application, *, threads=4):
    """Serve an application in this process; gives its port."""
    server = WebServer(application, listeners=[socket.create_server(("127.0.0.1", 0))], threads=threads)
    is_over = threading.Event()

    def serve():
        while not is_over.is_set():
            server.turn()
        server.close(within_seconds=5)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server.port
    finally:
        is_over.set()
        thread.join(timeout=20)
        assert not thread.is_alive()


class Application:
    """Answers /healthz at once, "/" after a while of work, and anything else when it is let go."""

    def __init__(self):
        self.let_go = threading.Event()
        self.waiting = threading.Semaphore(0)

    def __call__(self, environ, start_response):
        path = environ["PATH_INFO"]
        if path == "/":
            sum(number * number for number in range(200_000))
        elif path != "/healthz":
            self.waiting.release()
            self.let_go.wait(20)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]


def test_health_is_answered_within_a_second_while_every_thread_is_at_work():
    application = Application()
    with serving(application) as port, ExitStack() as clients:
        for _ in range(60):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        took = [seconds_of(port) for _ in range(5)]

    assert max(took) < WITHIN_SECONDS


def test_health_is_answered_while_every_other_thread_hangs():
    application = Application()
    with serving(application, threads=2) as port, ExitStack() as clients:
        for path in ("/a", "/b", "/c", "/readyz", "/readyz", "/status"):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        for _ in range(4):
            assert application.waiting.acquire(timeout=10)
        took = seconds_of(port)
        application.let_go.set()

    assert took < WITHIN_SECONDS


def test_a_request_that_does_not_end_is_cut_off(monkeypatch):
    monkeypatch.setattr(web_server, "REQUEST_SECONDS", 1)
    with serving(Application()) as port:
        slow = socket.create_connection(("127.0.0.1", port))
        slow.settimeout(20)
        slow.sendall(b"GET /healthz HTTP/1.1\r\nX-Slow: ")
        ends = time.monotonic() + 15

        def is_cut():
            try:
                # A byte now and then is no reason to wait longer.
                slow.sendall(b"x")
            except OSError:
                return True
            return time.monotonic() > ends

        wait_until(is_cut)
        assert time.monotonic() < ends


def test_a_body_that_is_too_large_is_refused():
    body = b"x" * (web_server.BODY_LARGEST_BYTES + 1)
    with serving(Application()) as port:
        answer = requests.post(f"http://127.0.0.1:{port}/healthz", data=body, timeout=20)

    assert answer.status_code == 413


def test_headers_of_a_proxy_come_through_and_the_server_names_itself_nowhere():
    def say(environ, start_response):
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ.get("HTTP_X_FORWARDED_FOR", "").encode()]

    with serving(say) as port:
        answer = requests.get(f"http://127.0.0.1:{port}/", headers={"X-Forwarded-For": "192.0.2.1"}, timeout=20)

    assert (answer.text, answer.headers.get("Server")) == ("192.0.2.1", None)
