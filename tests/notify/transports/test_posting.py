"""What a user's URL may reach, and that nothing else is reached on the way."""

import socket
from ipaddress import ip_address

import pytest

from apps.notify.transports import posting
from apps.notify.transports.protocol import (
    ChannelRefused,
    RefusedForNow,
    TransportUnavailable,
)
from fintech.settings.env import place
from tests.notify.transports.conftest import CANARY, failure_of, post

PUBLIC = "93.184.216.34"


NO_URL = [
    "", "example.org", "//example.org", "https:example.org", "file:///etc/passwd", "gopher://example.org/",
    "ftp://example.org/", "data:text/plain,a", "javascript:alert(1)", "httpx://example.org", "http+unix://example.org",
    "http://user:pass@example.org/", "http://user@example.org/", "http:///etc", "http://", "http://[::1",
    "http://example.org\\@127.0.0.1/", "http://example.org/a b", "http://example.org/\n", "http://exa\0mple.org",
    "http://*.example.org", "http://.example.org", "http://-a.org", "http://1.2.3.4.5", "http://256.0.0.1",
    "http://0x", "http://[:::]", "http://127.0.0.1%00.example.org", "http://example.org:99999", "http://example.org:a",
]  # fmt: skip
NOT_PUBLIC = [
    "127.0.0.1", "0", "127.1", "0x7f.1", "2130706433", "017700000001", "0177.0.0.1", "127.0.0.1.", "%31%32%37.0.0.1",
    "0.0.0.0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::7f00:1]", "[64:ff9b:1::1]",
    "[2002:7f00:1::]", "[2001:0:1::]", "[fec0::1]", "[::127.0.0.1]", "[5f00::1]", "[fe80::1]", "[fe80::1%25eth0]",
    "[fd00::1]", "[ff02::1]", "[100::1]", "[2001:db8::1]", "[4000::1]", "10.0.0.1", "172.16.0.1", "192.168.1.1",
    "169.254.169.254", "100.64.0.1", "192.88.99.1", "192.0.0.8", "198.18.0.1", "224.0.0.1", "240.0.0.1",
    "255.255.255.255", "localhost", "LOCALHOST", "localhost.", "a.localhost", "metadata.google.internal", "a.internal.",
    "postgres", "redis", "rabbitmq",
]  # fmt: skip
# Digits in circles, and full stops of other scripts: requests refuses the first ones; neither may come to be 127.0.0.1.
DISGUISED = ["①②⑦.⓪.⓪.①", "１２７.0.0.1", "127。0。0。1", "127．0．0．1", "ⓛocalhost", "ｌocalhost"]


def is_written_out(host):
    try:
        return bool(ip_address(host))
    except ValueError:
        return False


class TestWebhookUrlTable:
    @pytest.mark.parametrize("url", NO_URL)
    def test_what_is_no_url_of_ours_is_refused(self, url):
        assert posting.why_not(url) in (
            "has a character that stands in no URL",
            "must begin with https:// or http://",
            "must not carry a user or a password",
            "cannot be read",
            "has no host that could be reached",
        )

    @pytest.mark.parametrize("host", NOT_PUBLIC)
    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_what_is_not_on_the_public_internet_is_refused_without_a_lookup(self, names, scheme, host):
        assert posting.why_not(f"{scheme}://{host}/hook").endswith(
            ", which is not on the public internet; OUTBOUND_ALLOW can allow it"
        )
        assert names[0] == []

    @pytest.mark.parametrize("host", DISGUISED)
    def test_a_host_in_disguise_is_refused(self, host):
        assert posting.why_not(f"http://{host}/hook") != ""

    @pytest.mark.parametrize("port", [22, 8080, 5432, 1])
    def test_another_port_is_refused(self, port):
        why = f"leads to port {port}, which is not among OUTBOUND_PORTS"
        assert posting.why_not(f"https://example.org:{port}/") == why
        assert posting.why_not(f"https://{PUBLIC}:{port}/") == why

    def test_another_port_may_be_set(self, settings):
        settings.OUTBOUND_PORTS = frozenset({8443})
        assert posting.why_not("https://example.org:8443/") == ""
        assert posting.why_not("https://example.org/") == "leads to port 443, which is not among OUTBOUND_PORTS"

    @pytest.mark.parametrize(
        "url",
        [
            "https://example.org", "http://example.org:80/a?b=c#d", "HTTPS://EXAMPLE.ORG:443/", "https://example.org./",
            "https://bücher.example/", "https://a_b.example.org/", "https://0x7f.example.org", f"https://{PUBLIC}/",
            "https://[2606:4700::1111]/", "https://[::ffff:8.8.8.8]/", "https://internal.example.org",
        ],
    )  # fmt: skip
    def test_the_public_internet_is_allowed(self, url):
        assert posting.why_not(url) == ""

    @pytest.mark.parametrize("host", NOT_PUBLIC)
    def test_what_is_refused_when_saved_is_refused_when_sent_and_nothing_is_reached(self, connections, host):
        failure = failure_of(f"http://{host}/{CANARY}")

        assert (type(failure), failure.reason) == (ChannelRefused, "forbidden_address")
        assert CANARY not in failure.detail
        assert connections == []

    @pytest.mark.parametrize(
        "address",
        [host.strip("[]").partition("%25")[0] for host in NOT_PUBLIC if is_written_out(host.strip("[]"))],
    )
    def test_a_name_that_leads_to_such_an_address_is_refused(self, names, connections, address):
        names[1]([str(ip_address(address))])

        failure = failure_of("https://hooks.example.org/")

        assert (type(failure), failure.reason) == (ChannelRefused, "forbidden_address")
        assert connections == []


class TestDnsRebinding:
    def test_a_name_is_looked_up_once_and_what_was_checked_is_what_is_reached(self, names, connections):
        names[1]([PUBLIC], ["127.0.0.1"])

        failure = failure_of("http://rebind.example.org/")

        assert (type(failure), failure.reason) == (TransportUnavailable, "connection")
        assert names[0] == ["rebind.example.org"]
        assert connections == [(PUBLIC, 80)]

    @pytest.mark.parametrize("found", [[PUBLIC, "127.0.0.1"], ["2606:4700::1111", "::1"]])
    def test_all_addresses_of_a_name_must_be_allowed(self, names, connections, found):
        names[1](found)

        assert failure_of("http://two.example.org/").reason == "forbidden_address"
        assert connections == []

    def test_the_next_address_is_tried_where_one_does_not_answer(self, names, connections):
        names[1]([PUBLIC, "93.184.216.35"])

        assert failure_of("https://two.example.org/").detail == "two.example.org could not be reached"
        assert connections == [(PUBLIC, 443), ("93.184.216.35", 443)]

    def test_a_name_that_is_not_found_may_be_found_later(self, monkeypatch):
        def look_up(*arguments, **options):
            raise socket.gaierror

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        failure = failure_of("https://gone.example.org/")

        assert (type(failure), failure.reason) == (TransportUnavailable, "name_lookup")
        assert failure.detail == "gone.example.org was not found"


class TestPrivateAllowedOnlyBySetting:
    @pytest.fixture
    def url(self, httpserver):
        httpserver.expect_request("/hook").respond_with_data("ok")
        return httpserver.url_for("/hook").replace("localhost", "127.0.0.1")

    @pytest.mark.parametrize("allowed", ["127.0.0.1", "127.0.0.1:PORT", "127.0.0.0/8", "10.0.0.1,127.0.0.0/30:PORT"])
    def test_what_is_allowed_is_reached_at_its_port(self, settings, httpserver, url, allowed):
        settings.OUTBOUND_ALLOW = [place(one.replace("PORT", str(httpserver.port))) for one in allowed.split(",")]

        assert posting.why_not(url) == ""
        assert post(url).status == 200

    @pytest.mark.parametrize("allowed", ["127.0.0.2", "127.0.0.1:1", "10.0.0.0/8", "::1", "loop.lan"])
    def test_anything_else_that_is_allowed_opens_nothing(self, settings, httpserver, url, allowed):
        settings.OUTBOUND_ALLOW = [place(allowed)]

        assert posting.why_not(url) != ""
        assert failure_of(url).reason == "forbidden_address"
        assert httpserver.log == []

    def test_an_allowed_name_may_lead_anywhere(self, settings, httpserver, names, url):
        settings.OUTBOUND_ALLOW = [place(f"printer:{httpserver.port}")]
        names[1](["127.0.0.1"])

        assert posting.why_not("http://printer/") != ""
        assert post(f"http://PRINTER:{httpserver.port}/hook").status == 200
        assert httpserver.log[0][0].headers["Host"].lower() == f"printer:{httpserver.port}"

    def test_a_name_may_lead_to_an_allowed_network(self, settings, httpserver, names, url):
        settings.OUTBOUND_ALLOW = [place(f"127.0.0.0/8:{httpserver.port}")]
        names[1](["127.0.0.1"], ["127.0.0.1", PUBLIC])
        named = f"http://nas.example.org:{httpserver.port}/hook"

        assert posting.why_not(named) == ""
        assert posting.why_not("http://nas.example.org:1/hook") != ""
        assert post(named).status == 200
        # The second address is public, but its port is not one of OUTBOUND_PORTS.
        assert failure_of(named).reason == "forbidden_address"

    def test_a_mapped_address_is_the_one_that_it_maps(self, settings):
        settings.OUTBOUND_ALLOW = [place("10.0.0.0/8")]
        assert posting.why_not("http://[::ffff:10.0.0.1]/") == ""
        assert posting.why_not("http://[::ffff:11.0.0.1]:81/") != ""


@pytest.mark.usefixtures("on_loopback")
class TestNothingElseIsReached:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("there", ["http://169.254.169.254/latest", "/again", "//example.org/"])
    def test_redirect_not_followed(self, httpserver, connections, status, there):
        httpserver.expect_request("/hook").respond_with_data("gone", status=status, headers={"Location": there})

        failure = failure_of(f"http://127.0.0.1:{httpserver.port}/hook")

        assert (type(failure), failure.reason, failure.status) == (RefusedForNow, "redirect", status)
        assert "; redirects are not followed" in failure.detail
        assert there not in failure.detail
        assert [request.path for request, _ in httpserver.log] == ["/hook"]
        assert connections == [("127.0.0.1", httpserver.port)]

    def test_env_proxy_ignored(self, httpserver, monkeypatch, tmp_path):
        (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login ada password {CANARY}\n")
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        httpserver.expect_request("/hook").respond_with_data("ok")

        assert post(f"http://127.0.0.1:{httpserver.port}/hook").status == 200
        assert "Authorization" not in httpserver.log[0][0].headers

    def test_body_and_headers_are_sent_as_they_are(self, httpserver):
        httpserver.expect_request("/hook").respond_with_data("ok")

        posting.post(
            f"http://127.0.0.1:{httpserver.port}/hook?a=b",
            body=b'{"a": "\xc3\xa9"}',
            headers={"Content-Type": "application/json", "X-Own": "1"},
        )

        request = httpserver.log[0][0]
        assert (request.method, request.url) == ("POST", f"http://127.0.0.1:{httpserver.port}/hook?a=b")
        assert request.get_data() == b'{"a": "\xc3\xa9"}'
        assert (request.headers["Content-Type"], request.headers["X-Own"]) == ("application/json", "1")
        assert request.headers["User-Agent"] == "Fake-Fintech-OSS"
