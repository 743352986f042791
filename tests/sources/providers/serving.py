"""Servers of providers, invented."""

import threading

import pytest
from werkzeug import Response

from apps.sources.providers.http import get_json
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable

OK_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def read(connection):
    connection.recv(65_536)


def reason_of(**request):
    with pytest.raises((ProviderUnavailable, ProviderRejected)) as caught:
        get_json(**request)
    return type(caught.value).__name__, caught.value.reason


def answered(httpserver, body=b"", *, status=200, headers=None, content_type="application/json"):
    httpserver.expect_request("/quotes").respond_with_response(
        Response(body, status=status, headers=headers, content_type=content_type)
    )
    return httpserver.url_for("/quotes")


def send_zeros_for_ever(connection, sent):
    while True:
        connection.sendall(b"10000\r\n" + b"0" * 65_536 + b"\r\n")
        sent.append(65_536)


def readers_left():
    readers = [thread for thread in threading.enumerate() if thread.name.startswith("get_json")]
    for thread in readers:
        thread.join(timeout=2)
    return [thread for thread in readers if thread.is_alive()]
