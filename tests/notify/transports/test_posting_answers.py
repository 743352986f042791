"""What becomes of each answer to a post: TLS, servers that misbehave, deadlines, statuses."""

import logging
import socket
import ssl
import struct
import subprocess
import threading
import time
import traceback
from http import HTTPStatus

import pytest
from werkzeug import Response

from apps.notify.transports import posting
from apps.notify.transports.protocol import (
    ANSWER_KEPT,
    ChannelRefused,
    Receipt,
    RefusedForNow,
    TooLarge,
    TransportFailure,
    TransportRejected,
    TransportUnavailable,
)
from apps.outbound import Wire
from fintech.settings.env import place
from tests.notify.transports.conftest import CANARY, OK_HEAD, failure_of, post, read_request


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """Return the files of a key and of a certificate for hooks.example.org that only itself vouches for."""
    folder = tmp_path_factory.mktemp("certificate")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=hooks.example.org"
        f" -addext subjectAltName=DNS:hooks.example.org -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    return key, certificate


@pytest.fixture
def tls(serve, certificate):
    """Return the port of a server that speaks TLS, the names that it is asked for, and what it is sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate[1], certificate[0])
    asked, sent = [], []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    listener = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                with context.wrap_socket(connection, server_side=True) as wrapped:
                    sent.append(read_request(wrapped))
                    wrapped.sendall(OK_HEAD + b"Content-Length: 2\r\n\r\nok")
            except OSError:
                connection.close()

    threading.Thread(target=accept, daemon=True).start()
    yield listener.getsockname()[1], asked, sent
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


class TestTls:
    @pytest.fixture(autouse=True)
    def _allowed(self, settings, names):
        settings.OUTBOUND_ALLOW = [place("127.0.0.1")]
        names[1](["127.0.0.1"])

    def test_a_certificate_that_nobody_vouches_for_is_refused_for_now(self, tls):
        port, _, sent = tls

        failure = failure_of(f"https://hooks.example.org:{port}/{CANARY}")

        assert (type(failure), failure.reason) == (TransportUnavailable, "tls")
        assert failure.detail == "hooks.example.org has no certificate that can be trusted"
        assert sent == []

    def test_name_and_certificate_are_those_of_the_url_though_an_address_is_reached(
        self, tls, certificate, monkeypatch
    ):
        monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate[1]))
        port, asked, sent = tls

        assert post(f"https://hooks.example.org:{port}/hook").status == 200
        assert asked == ["hooks.example.org"]
        assert f"Host: hooks.example.org:{port}\r\n".encode() in sent[0]

    def test_a_certificate_for_another_name_is_refused(self, tls, certificate, monkeypatch):
        monkeypatch.setattr("requests.adapters.DEFAULT_CA_BUNDLE_PATH", str(certificate[1]))
        port, asked, sent = tls

        assert failure_of(f"https://other.example.org:{port}/hook").reason == "tls"
        assert (asked, sent) == (["other.example.org"], [])


def _drip(connection, payload):
    for byte in payload:
        connection.sendall(bytes([byte]))
        time.sleep(0.02)


def _hang(connection):
    while connection.recv(65_536):
        pass


def _reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _senders_left():
    senders = [thread for thread in threading.enumerate() if thread.name.startswith("outbound")]
    for thread in senders:
        thread.join(timeout=2)
    return [thread for thread in senders if thread.is_alive()]


@pytest.mark.usefixtures("on_loopback")
class TestWhateverTheServerDoes:
    @pytest.mark.parametrize(
        ("scheme", "at_once", "dripped"),
        [
            ("http", b"", b""),
            ("http", b"", b"HTTP/1.1 200 OK\r\nX-Slow: " + b"a" * 1_000),
            ("http", b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n" * 90),
            ("https", b"\x16\x03\x03\x40\x00", b"\x02\x00\x3f\xfc" + b"\x03" * 1_000),
        ],
        ids=["silence", "status line", "headers", "TLS handshake"],
    )
    def test_it_is_left_at_the_deadline_with_no_thread_behind(self, serve, scheme, at_once, dripped):
        def talk(connection):
            connection.sendall(at_once)
            _drip(connection, dripped)
            _hang(connection)

        failure = failure_of(f"{scheme}://127.0.0.1:{serve(talk)}/{CANARY}", deadline_seconds=0.3)

        assert (type(failure), failure.reason) == (TransportUnavailable, "timeout")
        assert failure.detail == "127.0.0.1 did not answer within 0.3 s"
        assert _senders_left() == []

    def test_a_status_that_is_cut_off_at_the_deadline_is_no_answer(self, serve, monkeypatch):
        cut = Wire.cut

        def cut_and_wait(wire):
            cut(wire)
            _senders_left()

        def talk(connection):
            connection.sendall(b"HTTP/1.1 200 OK")
            _hang(connection)

        monkeypatch.setattr(Wire, "cut", cut_and_wait)
        failure = failure_of(f"http://127.0.0.1:{serve(talk)}/{CANARY}", deadline_seconds=0.3)

        assert (type(failure), failure.reason) == (TransportUnavailable, "timeout")

    def test_a_name_lookup_that_hangs_meets_the_deadline_and_then_nothing_is_sent(self, names, httpserver, monkeypatch):
        is_over = threading.Event()
        names[1](["127.0.0.1"])
        look_up = socket.getaddrinfo

        def hang(*arguments, **options):
            is_over.wait(timeout=5)
            return look_up(*arguments, **options)

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        reason = failure_of(f"http://slow.example.org:{httpserver.port}/", deadline_seconds=0.2).reason
        is_over.set()

        assert reason == "timeout"
        assert _senders_left() == []
        assert httpserver.log == []

    @pytest.mark.parametrize(
        "talk",
        [
            _reset,
            lambda connection: None,
            lambda connection: connection.sendall(b"hello\r\n\r\n"),
            lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"X: 1\r\n" * 2_000 + b"\r\n"),
            lambda connection: connection.sendall(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100),
        ],
        ids=["reset", "closed", "no HTTP", "endless headers", "endless announcements"],
    )
    def test_without_an_answer_it_may_be_tried_again(self, serve, talk):
        failure = failure_of(f"http://127.0.0.1:{serve(talk)}/")

        assert (type(failure), failure.reason) == (TransportUnavailable, "connection")
        assert failure.detail == "127.0.0.1 could not be reached, or broke off"

    def test_what_is_announced_before_the_status_and_many_headers_are_no_failure(self, serve):
        early = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        last = OK_HEAD + b"X: 1\r\n" * 200 + b"Content-Length: 2\r\n\r\nok"

        answer = post(f"http://127.0.0.1:{serve(lambda one: one.sendall(early * 2 + last))}/")

        assert (answer.status, answer.text) == (200, "ok")

    def test_a_closed_port_may_be_open_again_later(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

        failure = failure_of(f"http://127.0.0.1:{port}/")

        assert (type(failure), failure.reason) == (TransportUnavailable, "connection")

    @pytest.mark.parametrize("ending", [_reset, _hang], ids=["reset", "hang"])
    @pytest.mark.parametrize(
        "head", [b"Content-Length: 9000\r\n\r\nthe", b"Transfer-Encoding: chunked\r\n\r\n3\r\nthe\r\n"]
    )
    def test_an_answer_that_breaks_off_after_its_status_is_an_answer(self, serve, ending, head):
        def talk(connection):
            connection.sendall(OK_HEAD + head)
            time.sleep(0.05)
            ending(connection)

        receipt = posting.receipt_of(post(f"http://127.0.0.1:{serve(talk)}/", deadline_seconds=0.5))

        assert (receipt.detail, receipt.status) == ("taken by 127.0.0.1", 200)
        assert _senders_left() == []

    @pytest.mark.parametrize("status", [b"200 OK", b"500 No"])
    def test_response_capped_64k(self, serve, status):
        sent = []

        def talk(connection):
            connection.sendall(b"HTTP/1.1 " + status + b"\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(1_000):
                connection.sendall(b"F4240\r\n" + b"a" * 1_000_000 + b"\r\n")
                sent.append(1_000_000)

        answer = post(f"http://127.0.0.1:{serve(talk)}/")

        assert answer.text == "a" * 65_536
        assert sum(sent) < 16_000_000

    def test_what_is_packed_is_not_unpacked(self, httpserver):
        httpserver.expect_request("/hook").respond_with_response(
            Response(b"\x1f\x8b\x08packed", headers={"Content-Encoding": "gzip"})
        )

        answer = post(f"http://127.0.0.1:{httpserver.port}/hook")

        assert answer.text == "\x1f�\x08packed"
        assert httpserver.log[0][0].headers["Accept-Encoding"] == "identity"

    def test_what_is_no_text_is_kept_as_text_without_nul_and_without_what_is_hidden(self, httpserver):
        httpserver.expect_request("/hook").respond_with_data(b"a\0\xff" + CANARY.encode() + b"\xc3\xa9", status=400)
        url = f"http://127.0.0.1:{httpserver.port}/hook"

        assert failure_of(url, hide=[CANARY]).answer == "a�…é"

    def test_the_beginning_of_an_answer_is_kept(self, httpserver):
        httpserver.expect_request("/hook").respond_with_data("é" * 5_000)

        receipt = posting.receipt_of(post(f"http://127.0.0.1:{httpserver.port}/hook"))

        assert receipt.answer == "é" * ANSWER_KEPT

    @pytest.mark.parametrize(
        "talk",
        [
            _reset,
            _hang,
            lambda connection: connection.sendall(b"HTTP/1.1 400 " + CANARY.encode() + b"\r\n\r\n" + CANARY.encode()),
            lambda connection: connection.sendall(b"HTTP/1.1 500 No\r\nRetry-After: canary-5f1c9e\r\n\r\n"),
            lambda connection: connection.sendall(b"HTTP/1.1 302 No\r\nLocation: /canary-5f1c9e\r\n\r\n"),
            lambda connection: connection.sendall(b"HTTP/1.1 999 canary-5f1c9e\r\n\r\n"),
        ],
        ids=["reset", "silence", "400", "500", "302", "999"],
    )
    def test_no_failure_and_no_log_line_reveals_the_url_or_the_answer(self, serve, talk, caplog, capfd):
        caplog.set_level(logging.DEBUG)

        failure = failure_of(f"http://127.0.0.1:{serve(talk)}/{CANARY}?a={CANARY}", deadline_seconds=0.3, hide=[CANARY])

        assert _senders_left() == []
        items = repr(failure) + failure.detail + failure.answer + "".join(traceback.format_exception(failure))
        assert CANARY not in items + repr(failure.__context__) + caplog.text + "".join(capfd.readouterr())


def answered(status, **headers):
    return posting.Answer(host="hooks.example.org", status=status, headers=headers, text="said")


class TestReceiptOf:
    @pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
    def test_2xx_is_taken(self, status):
        assert posting.receipt_of(answered(status)) == Receipt("taken by hooks.example.org", status, "said")

    @pytest.mark.parametrize(
        ("status", "kind", "reason", "detail"),
        [
            (102, TransportUnavailable, "http_102", "answered 102 Processing"),
            (300, RefusedForNow, "redirect", "answered 300 Multiple Choices; redirects are not followed"),
            (304, RefusedForNow, "redirect", "answered 304 Not Modified; redirects are not followed"),
            (400, TransportRejected, "http_400", "answered 400 Bad Request"),
            (401, RefusedForNow, "http_401", "answered 401 Unauthorized"),
            (402, TransportRejected, "http_402", "answered 402 Payment Required"),
            (403, RefusedForNow, "http_403", "answered 403 Forbidden"),
            (404, RefusedForNow, "http_404", "answered 404 Not Found"),
            (405, RefusedForNow, "http_405", "answered 405 Method Not Allowed"),
            (408, TransportUnavailable, "http_408", "answered 408 Request Timeout"),
            (410, ChannelRefused, "http_410", "answered 410 Gone"),
            # Python 3.13 has other names for two of them.
            (413, TooLarge, "http_413", f"answered 413 {HTTPStatus(413).phrase}"),
            (422, TransportRejected, "http_422", f"answered 422 {HTTPStatus(422).phrase}"),
            (425, TransportUnavailable, "http_425", "answered 425 Too Early"),
            (429, TransportUnavailable, "http_429", "answered 429 Too Many Requests"),
            (499, TransportRejected, "http_499", "answered 499"),
            (500, TransportUnavailable, "http_500", "answered 500 Internal Server Error"),
            (503, TransportUnavailable, "http_503", "answered 503 Service Unavailable"),
            (599, TransportUnavailable, "http_599", "answered 599"),
            (999, TransportUnavailable, "http_999", "answered 999"),
        ],
    )
    def test_a_status_separates_what_will_never_work_from_what_may(self, status, kind, reason, detail):
        with pytest.raises(TransportFailure) as caught:
            posting.receipt_of(answered(status))

        assert (type(caught.value), caught.value.reason, caught.value.status) == (kind, reason, status)
        assert caught.value.detail.startswith(f"hooks.example.org {detail}")
        assert caught.value.answer == "said"

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [
            ("120", 120), ("0", 1), ("-5", 1), ("1e9", 3600), ("nan", None), ("soon", None), ("", None),
            ("Fri, 10 Mar 2023 11:00:00 GMT", 1), ("Sat, 10 Mar 2063 12:00:00 GMT", 3600),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("status", [429, 503])
    def test_it_is_left_alone_as_long_as_it_asks_within_an_hour(self, status, header, seconds):
        with pytest.raises(TransportUnavailable) as caught:
            posting.receipt_of(answered(status, **{"Retry-After": header}))
        assert caught.value.retry_after_seconds == seconds

    def test_what_the_body_asks_for_stands_over_the_header(self):
        with pytest.raises(TransportUnavailable) as caught:
            posting.receipt_of(answered(429, **{"Retry-After": "5"}), retry_after="35")
        assert caught.value.retry_after_seconds == 35
