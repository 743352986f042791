"""Servers on loopback that say what a test wants, the leave to reach them, and posts to them."""

import re
import socket

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult

from apps.notify.transports import posting
from apps.notify.transports.protocol import TransportFailure
from fintech.settings.env import place
from tests.notify.transports.mailing import Server, free_port
from tests.servers import talking_servers

CANARY = "canary-5f1c9e"
OK_HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.fixture
def on_loopback(settings):
    """Let channels send to this machine."""
    settings.OUTBOUND_ALLOW = [place("127.0.0.1")]
    return settings


@pytest.fixture
def serve():
    """Return a function that starts a server which gives each connection to `talk`, and returns its port."""
    with talking_servers(read_request) as start:
        yield start


def read_request(connection):
    """Return a whole request: who closes over what is unread takes his answer back."""
    received = b""
    while b"\r\n\r\n" not in received:
        part = connection.recv(65_536)
        if not part or part[0] == 0x16:  # A TLS handshake is no request.
            return part
        received += part
    head, _, body = received.partition(b"\r\n\r\n")
    length = int(re.search(rb"Content-Length: (\d+)", head)[1])
    while len(body) < length:
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


@pytest.fixture
def connections(monkeypatch):
    """Return the endpoints that this process connects to, in order; those that are not this machine are refused."""
    endpoints = []

    class Recorded(socket.socket):
        def connect(self, endpoint):
            endpoints.append(endpoint[:2])
            if endpoint[0] != "127.0.0.1":
                raise ConnectionRefusedError
            return super().connect(endpoint)

    monkeypatch.setattr(socket, "socket", Recorded)
    return endpoints


@pytest.fixture
def names(monkeypatch):
    """Return the names that are looked up, in order, and a function that says what the lookups find, one after the
    other."""
    asked, answers = [], []

    def look_up(host, port, *arguments, **options):
        asked.append(host)
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (address, port, 0, 0) if ":" in address else (address, port),
            )
            for address in answers[min(len(asked), len(answers)) - 1]
        ]

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    return asked, lambda *found: answers.extend(found)


def post(url, *, deadline_seconds=5.0, **options):
    return posting.post(url, body=b"{}", headers={}, deadline_seconds=deadline_seconds, **options)


def failure_of(url, **options):
    with pytest.raises(TransportFailure) as caught:
        posting.receipt_of(post(url, **options))
    return caught.value


@pytest.fixture
def mail_settings(settings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_CONFIGURED = True
    settings.EMAIL_HOST = "127.0.0.1"
    settings.EMAIL_PORT = free_port()
    settings.EMAIL_HOST_USER = settings.EMAIL_HOST_PASSWORD = ""
    settings.EMAIL_USE_TLS = settings.EMAIL_USE_SSL = False
    settings.EMAIL_TIMEOUT = 5
    settings.DEFAULT_FROM_EMAIL = "Fintech <alerts@fintech.example>"
    return settings


@pytest.fixture
def server(mail_settings):
    handler = Server()
    refuse = lambda *_: AuthResult(success=False, handled=False)  # noqa: E731
    controller = Controller(
        handler, hostname="127.0.0.1", port=mail_settings.EMAIL_PORT, authenticator=refuse, auth_require_tls=False
    )
    controller.start()
    yield handler
    controller.stop()
