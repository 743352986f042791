"""Servers on loopback that say what a test wants, and the leave to reach them."""

import re
import socket
import threading

import pytest

from fintech.settings.env import place


@pytest.fixture
def on_loopback(settings):
    """Let channels send to this machine."""
    settings.OUTBOUND_ALLOW = [place("127.0.0.1")]
    return settings


@pytest.fixture
def serve():
    """Return a function that starts a server which gives each connection to `talk`, and returns its port."""
    listeners = []

    def start(talk):
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)
        threading.Thread(target=_accept_for_ever, args=(listener, talk), daemon=True).start()
        return listener.getsockname()[1]

    yield start
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _accept_for_ever(listener, talk):
    try:
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_talk_and_close, args=(connection, talk), daemon=True).start()
    except OSError:
        return


def _talk_and_close(connection, talk):
    with connection:
        try:
            read_request(connection)
            talk(connection)
        except OSError:
            return


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
