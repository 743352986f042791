"""What each answer of a server is read as: its values, or the failure that its status, headers and body mean."""

import gzip
import logging
import socket
import ssl
import struct
import subprocess
import threading
import traceback
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.outbound import retry_after_seconds
from apps.sources.providers import http
from apps.sources.providers.http import get_json
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable
from tests.servers import accept_for_ever
from tests.sources.providers.serving import OK_HEAD, answered, read, readers_left, reason_of, send_zeros_for_ever

CANARY = "canary-5f1c9e"


def test_floats_come_back_as_the_decimals_that_were_sent(httpserver):
    url = answered(httpserver, b'{"usd": 67187.330000000001, "at": 1711356300, "text": "\xc3\xa9"}')
    assert get_json(url=url) == {"usd": Decimal("67187.330000000001"), "at": 1711356300, "text": "é"}


def test_a_list_is_an_answer_too(httpserver):
    assert get_json(url=answered(httpserver, b'[{"price":"4.0"}]')) == [{"price": "4.0"}]


def test_headers_and_parameters_are_sent(httpserver):
    httpserver.expect_request("/ids", query_string={"ids": "a,b"}, headers={"X-Key": "k"}).respond_with_json({"a": 1})
    assert get_json(url=httpserver.url_for("/ids"), headers={"X-Key": "k"}, params={"ids": "a,b"}) == {"a": 1}


def test_a_gzipped_answer_is_read(httpserver):
    url = answered(httpserver, gzip.compress(b'{"a": 1}'), headers={"Content-Encoding": "gzip"})
    assert get_json(url=url) == {"a": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"1",
        b'"text"',
        b"<!doctype html><html></html>",
        b'{"data": [{"id": "bit',
        b'{"data": "\x00"}',
        b"\x00" * 1_000_000,
        b'{"price": nan}',
        b'{"price": +Infinity}',
        b'{"price": 1e99999999999999999999}',
        b'{"price": ' + b"1" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"name": "\xff\xfe"}',
        '{"a": 1}'.encode("utf-16"),
    ],
    ids=lambda body: body[:24].hex(),
)
def test_what_is_no_json_object_or_list_is_a_bad_payload(httpserver, body):
    assert reason_of(url=answered(httpserver, body)) == ("ProviderUnavailable", "bad_payload")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "text/plain; charset=utf-8", "application/octet-stream", "application/problem+json"]
)
def test_json_is_read_under_a_type_that_says_nothing_too(httpserver, content_type):
    assert get_json(url=answered(httpserver, b'{"a": 1}', content_type=content_type)) == {"a": 1}


def test_a_byte_order_mark_is_passed_over(httpserver):
    assert get_json(url=answered(httpserver, b'\xef\xbb\xbf{"a": 1}')) == {"a": 1}


def test_a_bare_nan_or_infinity_is_a_number_that_is_not_finite(httpserver):
    answer = get_json(url=answered(httpserver, b"[NaN, Infinity, -Infinity, 1]"))
    assert [str(number) for number in answer] == ["NaN", "Infinity", "-Infinity", "1"]


def test_a_page_that_only_looks_like_json_is_a_bad_payload(httpserver):
    url = answered(httpserver, b"{}", content_type="text/html; charset=utf-8")
    assert reason_of(url=url) == ("ProviderUnavailable", "bad_payload")


def test_a_body_that_is_not_the_gzip_it_claims_to_be_is_a_bad_payload(httpserver):
    url = answered(httpserver, b'{"a": 1}', headers={"Content-Encoding": "gzip"})
    assert reason_of(url=url) == ("ProviderUnavailable", "bad_payload")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (301, ("ProviderUnavailable", "redirect")),
        (304, ("ProviderUnavailable", "redirect")),
        (400, ("ProviderRejected", "http_400")),
        (401, ("ProviderRejected", "unauthorized")),
        (403, ("ProviderRejected", "unauthorized")),
        (404, ("ProviderRejected", "http_404")),
        (429, ("ProviderUnavailable", "rate_limited")),
        (500, ("ProviderUnavailable", "http_500")),
        (503, ("ProviderUnavailable", "http_503")),
    ],
)
def test_a_status_separates_what_will_never_work_from_what_may(httpserver, status, outcome):
    assert reason_of(url=answered(httpserver, b'{"a": 1}', status=status)) == outcome


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("259200", 259_200),
        ("1.5", 2),
        ("0", 1),
        ("-5", 1),
        ("1e9", 604_800),
        ("1" + "0" * 20, 604_800),
        ("inf", 604_800),
        ("Fri, 10 Mar 2023 12:02:00 GMT", 120),
        ("Fri, 10 Mar 2023 11:00:00 GMT", 1),
        ("Sat, 10 Mar 2063 12:00:00 GMT", 604_800),
        ("nan", None),
        ("soon", None),
        ("", None),
        ("1" * 5_000, 604_800),
    ],
)
def test_retry_after_is_read_defensively(httpserver, monkeypatch, header, seconds):
    monkeypatch.setattr(http, "now", lambda: datetime(2023, 3, 10, 12, tzinfo=UTC))
    url = answered(httpserver, status=429, headers={"Retry-After": header})
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(url=url)
    assert caught.value.retry_after_seconds == seconds


@pytest.mark.parametrize(("header", "seconds"), [("120", 120), ("259200", 3_600)])
def test_only_who_asked_too_often_waits_for_longer_than_an_hour(httpserver, header, seconds):
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(url=answered(httpserver, b"for 3 days", status=503, headers={"Retry-After": header}))
    assert caught.value.retry_after_seconds == seconds


# The first is the text of Binance's errors.md.
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Way too much request weight used; IP banned until 1659146400000. Please use WebSocket Streams.", 259_200),
        ("banned until 1659146400.", 259_200),
        ("banned until 2022-07-30T02:00:00Z", 259_200),
        ("banned until: 2022-07-30 04:00:00+02:00", 259_200),
        ("You are banned for 3 days.", 259_200),
        ("Try again in 90 seconds", 90),
        ("retry after 2 hours, or in 5 minutes", 7_200),
        ("banned until 1659146400000, retry in 5 minutes", 259_200),
        ("banned until 9999999999999", 604_800),
        ("banned until 1000000000", 1),
        ("banned for 9999999 days", 604_800),
        ("25 requests per day", None),
        ("1 request per second", None),
        ("until 2022-07-30T02:00:00", None),
        ("until 2022-17-30T02:00:00Z", None),
        ("until 165914640000000", None),
        ("", None),
    ],
)
@pytest.mark.parametrize("status", [429, 418])
def test_a_ban_lasts_as_long_as_its_text_says(httpserver, monkeypatch, text, seconds, status):
    monkeypatch.setattr(http, "now", lambda: datetime(2022, 7, 27, 2, tzinfo=UTC))
    url = answered(httpserver, text.encode(), status=status)
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(url=url, ban_status=418)
    assert (caught.value.reason, caught.value.retry_after_seconds) == ("rate_limited", seconds)


@pytest.mark.parametrize(("header", "seconds"), [("60", 259_200), ("604800", 604_800)])
def test_of_a_header_and_a_text_the_longer_wait_counts(httpserver, header, seconds):
    url = answered(httpserver, b"banned for 3 days", status=429, headers={"Retry-After": header})
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(url=url)
    assert caught.value.retry_after_seconds == seconds


@settings(max_examples=200)
@given(st.text(max_size=80) | st.from_regex(r"until [0-9T:.Z+ -]{0,30}|for [0-9]{0,9} days"))
def test_no_text_of_a_ban_raises_or_leaves_its_bounds(text):
    assert (http.wait_said_in(text, now=datetime(2023, 3, 10, 12, tzinfo=UTC)) or 1) in range(1, 604_801)


def test_without_retry_after_there_is_none(httpserver):
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(url=answered(httpserver, status=503))
    assert caught.value.retry_after_seconds is None


@settings(max_examples=200)
@given(st.text(max_size=80))
def test_no_retry_after_raises_or_leaves_its_bounds(header):
    assert (retry_after_seconds(header, now=datetime(2023, 3, 10, 12, tzinfo=UTC)) or 1) in range(1, 3601)


def test_a_redirect_loop_is_asked_once(httpserver):
    url = answered(httpserver, status=302, headers={"Location": httpserver.url_for("/quotes")})
    assert reason_of(url=url) == ("ProviderUnavailable", "redirect")
    assert len(httpserver.log) == 1


def test_the_body_of_a_redirect_is_not_read(serve):
    sent = []

    def talk(connection):
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /quotes\r\nTransfer-Encoding: chunked\r\n\r\n")
        send_zeros_for_ever(connection, sent)

    assert reason_of(url=serve(talk), deadline_seconds=2) == ("ProviderUnavailable", "redirect")
    assert sum(sent) < 16_000_000


def _reset(connection):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize(
    "talk",
    [
        _reset,
        lambda connection: None,
        lambda connection: connection.sendall(b"hello\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n"),
        lambda connection: connection.sendall(OK_HEAD + b'Content-Length: 100\r\n\r\n{"a": 1}'),
        lambda connection: connection.sendall(OK_HEAD + b'Transfer-Encoding: chunked\r\n\r\n8\r\n{"a": 1}\r\n'),
        lambda connection: connection.sendall(OK_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"1" * 100_000),
    ],
    ids=["reset", "closed", "no HTTP", "long header", "short body", "cut chunks", "long chunk line"],
)
def test_a_broken_conversation_is_a_connection_failure(serve, talk):
    assert reason_of(url=serve(talk), deadline_seconds=2) == ("ProviderUnavailable", "connection")


def test_a_closed_port_is_a_connection_failure():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert reason_of(url=f"http://127.0.0.1:{port}/") == ("ProviderUnavailable", "connection")


def test_a_certificate_that_nobody_vouches_for_is_refused(serve, tmp_path):
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1"
        f" -addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = context.wrap_socket(socket.create_server(("127.0.0.1", 0)), server_side=True)
    received = []
    threading.Thread(target=accept_for_ever, args=(listener, read, received.append), daemon=True).start()
    assert reason_of(url=f"https://127.0.0.1:{listener.getsockname()[1]}/") == ("ProviderUnavailable", "connection")
    listener.close()
    assert received == []


def test_no_proxy_is_taken_from_the_environment(httpserver, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert get_json(url=answered(httpserver, b'{"a": 1}')) == {"a": 1}


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (f"nonsense {CANARY}", CANARY),
        (f"ftp://{CANARY}.invalid/", CANARY),
        (f"http://[{CANARY}", CANARY),
        ("http://127.0.0.1:9/", f"{CANARY}\n"),
        ("http://127.0.0.1:9/", f"{CANARY}€"),
    ],
)
def test_what_cannot_be_sent_is_rejected_without_revealing_it(url, key, caplog):
    with pytest.raises(ProviderRejected) as caught:
        get_json(url=url, headers={"Authorization": key})
    assert caught.value.reason == "bad_request"
    assert CANARY not in _notified(caught.value) + caplog.text


def _notified(error):
    return repr(error) + str(error) + "".join(traceback.format_exception(error)) + repr(error.__context__)


@pytest.mark.parametrize(
    "talk",
    [
        _reset,
        lambda connection: connection.recv(1),
        lambda connection: connection.sendall(OK_HEAD + b"broken header\r\n: \r\n\r\nnull"),
        lambda connection: connection.sendall(b"HTTP/1.1 500 No\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 302 No\r\nLocation: http://[/\r\n\r\n"),
        lambda connection: connection.sendall(OK_HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnull"),
    ],
    ids=["reset", "silence", "broken header", "500", "bad redirect", "not gzip"],
)
def test_no_failure_and_no_log_line_reveals_the_key(serve, talk, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    with pytest.raises(ProviderUnavailable) as caught:
        get_json(url=serve(talk), headers={"X-Key": CANARY}, params={"apikey": CANARY}, deadline_seconds=0.3)
    assert readers_left() == []
    assert caught.value.__context__ is None
    assert CANARY not in _notified(caught.value) + caplog.text + "".join(capfd.readouterr())
