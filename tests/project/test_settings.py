"""A wrong setting stops the process at once, with one line that names the variable and never its value."""

import json
import os
import re
import runpy
import stat
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from apps.outbound import target_of
from fintech.settings.env import VARIABLES, ascii_host, place

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = ROOT / "fintech" / "settings" / "__init__.py"
KEY = "k9Q-mD2xV7bN4cZ8wR1tY6uI3oP5aS0dF"
DATABASE = "postgres://fintech:long-and-own@127.0.0.1:5432/fintech"
CANARY = "canary"

SECRET = {"DJANGO_SECRET_KEY": KEY}
OIDC = {"OIDC_ISSUER": "https://id.lan", "OIDC_CLIENT_ID": "fintech", "OIDC_CLIENT_SECRET": "long-and-own"}
NO_PLACES = [
    f"http://{CANARY}", f"{CANARY}/24", f"{CANARY}:0", f"{CANARY}:65536", f"*.{CANARY}", f"{CANARY} lan", ":8080",
    "10.0.0.1/8", "127.1", "0x7f.1", "0x7f", "2130706433", "[::1", "::1:none", "[]:80",
]  # fmt: skip
BAD = [
    ("ANALYSIS_SHARDS", {"ANALYSIS_SHARDS": "0"}),
    ("ANALYSIS_SHARDS", {"ANALYSIS_SHARDS": "65"}),
    ("ANALYSIS_SHARDS", {"ANALYSIS_SHARDS": CANARY}),
    ("ANALYSIS_SHARDS", {"ANALYSIS_SHARDS": "1.5"}),
    ("CELERY_BROKER_URL", {"CELERY_BROKER_URL": f"kafka://{CANARY}:9092"}),
    ("CELERY_BROKER_URL", {"CELERY_BROKER_URL": f"amqp://ada:{CANARY}@127.0.0.1:none/fintech"}),
    ("CELERY_BROKER_URL", {"CELERY_BROKER_URL": f"amqp:///{CANARY}"}),
    ("CELERY_BROKER_URL", SECRET | {"CELERY_BROKER_URL": "amqp://canary:fintech@127.0.0.1:5672/fintech"}),
    ("DATABASE_REPLICA_URL", SECRET | {"DATABASE_URL": DATABASE, "DATABASE_REPLICA_URL": f"sqlite:///{CANARY}"}),
    ("DATABASE_REPLICA_URL", SECRET | {"DATABASE_URL": DATABASE, "DATABASE_REPLICA_URL": CANARY}),
    ("DATABASE_REPLICA_URL", {"DATABASE_REPLICA_URL": f"postgres://ada:{CANARY}@127.0.0.1/fintech"}),
    (
        "DATABASE_REPLICA_URL",
        SECRET | {"DATABASE_URL": DATABASE, "DATABASE_REPLICA_URL": "postgres://canary:fintech@127.0.0.1/fintech"},
    ),
    ("DATABASE_URL", {"DATABASE_URL": f"mysql://ada:{CANARY}@127.0.0.1/fintech"}),
    ("DATABASE_URL", {"DATABASE_URL": f"postgres://ada:{CANARY}@127.0.0.1:99999/fintech"}),
    ("DATABASE_URL", {"DATABASE_URL": f"postgres://ada:{CANARY}@127.0.0.1/"}),
    ("DATABASE_URL", {"DATABASE_URL": CANARY}),
    ("DATABASE_URL", SECRET | {"DATABASE_URL": f"{DATABASE}?{CANARY}=1"}),
    ("DATABASE_URL", SECRET | {"DATABASE_URL": f"{DATABASE}?autocommit=false"}),
    ("DATABASE_URL", {"DATABASE_URL": f"sqlite:////{CANARY}?timeout=1"}),
    ("DATABASE_REPLICA_URL", SECRET | {"DATABASE_URL": DATABASE, "DATABASE_REPLICA_URL": f"{DATABASE}?{CANARY}=1"}),
    ("DATABASE_URL", {"DATABASE_URL": "sqlite://:memory:"}),
    ("DATABASE_URL", SECRET | {"DATABASE_URL": "postgres://canary:postgres@127.0.0.1:5432/fintech"}),
    ("DJANGO_ALLOWED_HOSTS", {"DJANGO_ALLOWED_HOSTS": "fintech.example.org, *"}),
    ("DJANGO_ALLOWED_HOSTS", {"DJANGO_ALLOWED_HOSTS": "."}),
    ("DJANGO_DEBUG", {"DJANGO_DEBUG": "maybe"}),
    ("DJANGO_DEBUG", {"DJANGO_DEBUG": CANARY}),
    ("DJANGO_SECRET_KEY", {"DATABASE_URL": DATABASE}),
    ("DJANGO_SECRET_KEY", {"CELERY_BROKER_URL": "amqp://fintech:long-and-own@127.0.0.1:5672/fintech"}),
    ("DJANGO_SECRET_KEY", {"DATABASE_URL": DATABASE, "DJANGO_DEBUG": "true"}),
    ("DJANGO_SECRET_KEY", {"DJANGO_SECRET_KEY": CANARY}),
    ("DJANGO_SECRET_KEY", {"DJANGO_SECRET_KEY": f"development-only-{CANARY}-{KEY}"}),
    ("EMAIL_URL", {"EMAIL_URL": f"ftp://ada:{CANARY}@127.0.0.1"}),
    ("EMAIL_URL", {"EMAIL_URL": f"smtp://ada:{CANARY}@127.0.0.1:none"}),
    ("ENGINE", {"ENGINE": CANARY}),
    ("LOG_LEVEL", {"LOG_LEVEL": "LOUD"}),
    ("LOG_LEVEL", {"LOG_LEVEL": CANARY}),
    ("MARKET_IS_PUBLIC", {"MARKET_IS_PUBLIC": CANARY}),
    ("DJANGO_ALLOWED_HOSTS", {"DJANGO_ALLOWED_HOSTS": f"{CANARY}…ü"}),
    ("DJANGO_CSRF_TRUSTED_ORIGINS", {"DJANGO_CSRF_TRUSTED_ORIGINS": f"https://{CANARY}…ü"}),
    ("SITE_URL", {"SITE_URL": f"https://{CANARY}..ü.example"}),
    *(("METRICS_LISTEN", {"METRICS_LISTEN": one}) for one in (CANARY, f"{CANARY}:0", f"{CANARY}:none", ":9101")),
    ("MESSAGE_RETENTION_DAYS", {"MESSAGE_RETENTION_DAYS": "7"}),
    ("LOGS_URL", {"LOGS_URL": f"javascript:{CANARY}"}),
    ("LOKI_URL", {"LOKI_URL": f"http://ada:{CANARY}@loki.lan"}),
    ("PROMETHEUS_URL", {"PROMETHEUS_URL": f"ftp://{CANARY}"}),
    ("TRACES_ONE_IN", {"TRACES_ONE_IN": "0"}),
    ("TRACES_ONE_IN", {"TRACES_ONE_IN": CANARY}),
    ("TRACES_URL", {"TRACES_URL": f"javascript:{CANARY}"}),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", {"OTEL_EXPORTER_OTLP_ENDPOINT": f"{CANARY}:4318"}),
    ("MESSAGE_RETENTION_DAYS", {"MESSAGE_RETENTION_DAYS": "36501"}),
    ("MINUTE_CANDLE_RETENTION_DAYS", {"MINUTE_CANDLE_RETENTION_DAYS": "36501"}),
    ("OIDC_ISSUER", OIDC | {"OIDC_ISSUER": f"ftp://{CANARY}"}),
    ("OIDC_ISSUER", OIDC | {"OIDC_ISSUER": f"https://ada:{CANARY}@id.example.org"}),
    ("OIDC_ISSUER", OIDC | {"OIDC_ISSUER": f"https://id.example.org/{CANARY}" + "x" * 200}),
    ("OIDC_CLIENT_ID", OIDC | {"OIDC_CLIENT_ID": ""}),
    ("OIDC_CLIENT_SECRET", OIDC | {"OIDC_CLIENT_SECRET": ""}),
    ("OIDC_MATCH_EMAIL", OIDC | {"OIDC_MATCH_EMAIL": CANARY}),
    ("PASSWORD_SIGN_IN", {"PASSWORD_SIGN_IN": "false"}),
    ("PASSWORD_SIGN_IN", {"PASSWORD_SIGN_IN": CANARY}),
    *(("OUTBOUND_ALLOW", {"OUTBOUND_ALLOW": f"ntfy.lan, {place}"}) for place in NO_PLACES),
    ("OUTBOUND_PORTS", {"OUTBOUND_PORTS": "443,0"}),
    ("OUTBOUND_PORTS", {"OUTBOUND_PORTS": "65536"}),
    ("OUTBOUND_PORTS", {"OUTBOUND_PORTS": f"443,{CANARY}"}),
    ("QUOTE_RETENTION_DAYS", {"QUOTE_RETENTION_DAYS": "0"}),
    ("QUOTE_RETENTION_DAYS", {"QUOTE_RETENTION_DAYS": CANARY}),
    ("PROVIDER_ANSWER_LIMIT_BYTES", {"PROVIDER_ANSWER_LIMIT_BYTES": "9999"}),
    ("PROVIDER_ANSWER_LIMIT_BYTES", {"PROVIDER_ANSWER_LIMIT_BYTES": "100000001"}),
    ("REDIS_URL", {"REDIS_URL": f"memcached://{CANARY}"}),
    ("REDIS_URL", {"REDIS_URL": f"unix:///{CANARY}"}),
    ("REDIS_URL", {"REDIS_URL": f"redis://:{CANARY}@127.0.0.1:none/0"}),
    ("REDIS_URL", SECRET | {"REDIS_URL": "redis://canary:changeme@127.0.0.1:6379/0"}),
    ("DATABASE_URL", SECRET | {"DATABASE_URL": "postgres://canary:%66intech@127.0.0.1:5432/fintech"}),
    ("CELERY_BROKER_URL", SECRET | {"CELERY_BROKER_URL": "amqp://canary:%66intech@127.0.0.1:5672/fintech"}),
    ("CELERY_BROKER_URL", SECRET | {"CELERY_BROKER_URL": "amqp://a:long-and-own@[::1]//;amqp://canary:guest@[::1]//"}),
    ("REDIS_URL", SECRET | {"REDIS_URL": "redis://canary:change%6de@127.0.0.1:6379/0"}),
    ("REDIS_URL", SECRET | {"REDIS_URL": "redis://127.0.0.1:6379/0?db=1&password=%66intech"}),
    ("SITE_URL", {"SITE_URL": CANARY}),
    ("SITE_URL", {"SITE_URL": f"ftp://{CANARY}"}),
    ("STREAM_URL", {"STREAM_URL": f"ftp://{CANARY}/graphql/stream"}),
    ("STREAM_URL", {"STREAM_URL": f"https://ada:{CANARY}@streams.lan/graphql/stream"}),
    ("TELEGRAM_API_URL", {"TELEGRAM_API_URL": f"ftp://{CANARY}"}),
    ("TELEGRAM_API_URL", {"TELEGRAM_API_URL": f"https://ada:{CANARY}@telegram.lan"}),
    ("TELEGRAM_API_URL", {"TELEGRAM_API_URL": f"https://telegram.lan/?key={CANARY}"}),
    ("TRUSTED_DOCUMENTS_ONLY", {"TRUSTED_DOCUMENTS_ONLY": "true"}),
    ("TRUST_PROXY_HEADERS", {"TRUST_PROXY_HEADERS": CANARY}),
    ("TWO_FACTOR_REQUIRED", {"TWO_FACTOR_REQUIRED": CANARY}),
]

GOOD = [
    {},
    {"DJANGO_DEBUG": "1", "DJANGO_SECRET_KEY": "development-only", "DJANGO_ALLOWED_HOSTS": "*"},
    {"DATABASE_URL": "postgres://fintech:fintech@127.0.0.1/fintech", "DJANGO_DEBUG": "true"} | SECRET,
    {
        "ANALYSIS_SHARDS": "64",
        "CELERY_BROKER_URL": "amqps://fintech:long-and-own@127.0.0.1:5671/fintech",
        "DATABASE_REPLICA_URL": DATABASE,
        "DATABASE_URL": DATABASE,
        "EMAIL_URL": "smtp+tls://ada:long-and-own@127.0.0.1:587",
        "LOG_LEVEL": "WARNING",
        "MESSAGE_RETENTION_DAYS": "8",
        "OUTBOUND_ALLOW": "ntfy.lan:8080, Printer, 192.168.1.0/24, 10.0.0.5:8443, fd00::/8, [::1]:8080",
        "OUTBOUND_PORTS": "443, 8443",
        "PASSWORD_SIGN_IN": "false",
        "QUOTE_RETENTION_DAYS": "3650",
        "REDIS_URL": "rediss://:long-and-own@127.0.0.1:6379/0",
        "SITE_URL": "https://fintech.example.org/",
        "TRUST_PROXY_HEADERS": "true",
        "TWO_FACTOR_REQUIRED": "staff",
    }
    | SECRET
    | OIDC,
]


def check(folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run `manage.py check` with these variables and no others of ours."""
    return run_python(folder, "manage.py", "check", **variables)


def run_python(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "VAR_DIR": str(folder)} | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "variables"), BAD, ids=[f"{index}-{name}" for index, (name, _) in enumerate(BAD, start=1)]
)
def test_a_bad_setting_is_refused_with_one_line_that_names_it_and_not_its_value(
    tmp_path, monkeypatch, capsys, name, variables
):
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in ({"VAR_DIR": str(tmp_path)} | variables).items():
        monkeypatch.setenv(variable, value)

    with pytest.raises(SystemExit) as stop:
        runpy.run_path(str(SETTINGS))

    assert stop.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.splitlines()
    assert line.startswith(f"settings: {name} ")
    assert CANARY not in line
    assert not [value for value in variables.values() if len(value) > 5 and value in line]


def test_a_bad_setting_stops_the_process(tmp_path):
    done = check(tmp_path, DATABASE_URL=f"mysql://ada:{CANARY}@127.0.0.1/fintech")

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "settings: DATABASE_URL is not a URL starting with postgres:// or sqlite://\n"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ntfy.lan:8080", ("ntfy.lan", 8080)),
        ("Printer.", ("printer", None)),
        ("ntfy.0xf.lan", ("ntfy.0xf.lan", None)),
        ("192.168.1.0/24", (ip_network("192.168.1.0/24"), None)),
        ("10.0.0.5:8443", (ip_network("10.0.0.5/32"), 8443)),
        ("::1", (ip_network("::1/128"), None)),
        ("[fd00::/8]:443", (ip_network("fd00::/8"), 443)),
    ],
)
def test_a_place_is_a_name_or_a_network_with_or_without_a_port(text, named):
    assert place(text) == named


@pytest.mark.parametrize(
    "host", ["münchen.example", "MÜNCHEN.example", "faß.example", "例え.テスト", "пример.lan", "a_b.lan"]
)
def test_a_setting_names_a_host_as_an_outbound_url_does(host):
    assert ascii_host(host) == target_of(f"https://{host}/").host
    assert place(f"{host}:8080") == (target_of(f"https://{host}/").host, 8080)


def test_hosts_may_have_names_beyond_ascii(tmp_path, monkeypatch):
    written = {
        "CELERY_BROKER_URL": "amqp://ada:schlüssel@münchen.lan:5672/fintech",
        "DATABASE_URL": "postgres://ada:schlüssel@münchen.lan/fintech",
        "DJANGO_ALLOWED_HOSTS": "München.lan, .münchen.example, 127.0.0.1, [::1]",
        "DJANGO_CSRF_TRUSTED_ORIGINS": "https://münchen.example:8443, https://*.münchen.example",
        "EMAIL_URL": "smtp://ada:schlüssel@münchen.lan:25",
        "METRICS_LISTEN": "münchen.lan:9101",
        "OUTBOUND_ALLOW": "münchen.lan:8080",
        "SITE_URL": "http://münchen.example:8000/",
        "SLACK_HOSTS": "Hooks.münchen.lan",
        "VAR_DIR": str(tmp_path),
    } | SECRET  # fmt: skip
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in written.items():
        monkeypatch.setenv(variable, value)

    found = runpy.run_path(str(SETTINGS))

    assert found["SITE_URL"] == "http://xn--mnchen-3ya.example:8000"
    assert found["ALLOWED_HOSTS"] == [
        *("xn--mnchen-3ya.lan", ".xn--mnchen-3ya.example", "127.0.0.1", "[::1]", "xn--mnchen-3ya.example"),
    ]
    assert found["CSRF_TRUSTED_ORIGINS"] == [
        "https://xn--mnchen-3ya.example:8443",
        "https://*.xn--mnchen-3ya.example",
        "http://xn--mnchen-3ya.example:8000",
    ]
    assert found["CELERY_BROKER_URL"] == "amqp://ada:schlüssel@xn--mnchen-3ya.lan:5672/fintech"
    assert found["DATABASES"]["default"]["HOST"] == found["EMAIL_HOST"] == "xn--mnchen-3ya.lan"
    assert found["METRICS_LISTEN"] == ("xn--mnchen-3ya.lan", 9101)
    assert found["OUTBOUND_ALLOW"] == [("xn--mnchen-3ya.lan", 8080)]
    assert found["SLACK_HOSTS"] == ["hooks.xn--mnchen-3ya.lan"]


# -c statement_timeout=20000, as a URL has it.
MORE = "options=-c%20statement_timeout%3D20000"
# Prints what psycopg is given to connect to each of the servers.
PARAMETERS = (
    "import django, json; django.setup(); from django.db import connections as c; "
    "print(json.dumps({name: c[name].get_connection_params() for name in c}, default=str))"
)


def test_options_of_a_databases_url_are_added_to_ours_and_win(tmp_path):
    done = run_python(
        tmp_path,
        "-c",
        PARAMETERS,
        **SECRET,
        DJANGO_SETTINGS_MODULE="fintech.settings",
        DATABASE_URL=f"{DATABASE}?sslmode=require&connect_timeout=7",
        DATABASE_REPLICA_URL=f"{DATABASE}?sslmode=verify-full&sslrootcert=/ca.pem&{MORE}",
    )
    found = json.loads(done.stdout)
    primary, replica = found["default"], found["replica"]

    assert (primary["sslmode"], primary["connect_timeout"], primary["tcp_user_timeout"]) == ("require", 7, 30_000)
    assert (replica["sslmode"], replica["sslrootcert"]) == ("verify-full", "/ca.pem")
    assert (replica["connect_timeout"], replica["tcp_user_timeout"]) == (3, 8_000)
    # The server takes the last of the same name.
    assert replica["options"] == f"{primary['options']} -c statement_timeout=20000"


@pytest.mark.servers
def test_a_connection_has_the_options_of_its_url(tmp_path):
    """With TLS where that is asked for; ours besides."""
    url = urlsplit(os.environ["DATABASE_URL"])
    statement = (
        "SELECT ssl, current_setting('statement_timeout'), current_setting('jit'), current_setting('application_name') "
        "FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    )
    ask = (
        "import django; django.setup(); from django.db import connection; cursor = connection.cursor(); "
        f'cursor.execute("{statement}"); print(*cursor.fetchone())'
    )
    options = "sslmode={}&application_name=mine&" + MORE
    said = {}
    for mode in ("disable", "require"):
        variables = {
            "DATABASE_URL": url._replace(path="/postgres", query=options.format(mode)).geturl(),
            "DJANGO_DEBUG": "true",
        }
        done = run_python(tmp_path, "-c", ask, **SECRET, **variables, DJANGO_SETTINGS_MODULE="fintech.settings")
        said[mode] = done.stdout.strip() or done.stderr.splitlines()[-1]

    assert said["disable"] == "False 20s off mine"
    # A server without TLS is refused.
    assert said["require"] == "True 20s off mine" or "server does not support SSL" in said["require"]


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path):
    file = tmp_path / "file"
    file.touch()

    done = check(file / CANARY)

    assert done.returncode == 2
    assert done.stderr == "settings: VAR_DIR is not a folder that this process can write to\n"


@pytest.mark.parametrize("variables", GOOD, ids=["defaults", "development", "example-password-in-debug", "all-set"])
def test_good_settings_start(tmp_path, variables):
    done = check(tmp_path, **variables)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("variables", [{"LOG_LEVEL": ""}, {"LOG_LEVEL": "  "}], ids=["empty", "blank"])
def test_a_blank_variable_is_its_default(tmp_path, variables):
    assert check(tmp_path, **variables).returncode == 0


def test_an_embedded_run_makes_a_key_that_only_its_owner_reads_and_keeps_it(tmp_path):
    check(tmp_path / "new")
    path = tmp_path / "new" / "secret-key"
    key = path.read_text()
    check(tmp_path / "new")

    assert len(key) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_text() == key


@pytest.mark.parametrize(
    ("broker", "message_of"),
    [
        ("amqp://127.0.0.1:9", lambda line: json.loads(line)["message"]),
        ("memory://", lambda line: re.fullmatch(r"[0-9T:.-]+Z \[warning +\] (.+?) +\[django\.request\] .*", line)[1]),
    ],
    ids=["json", "readable-when-embedded"],
)
def test_what_is_refused_is_one_line_in_debugging_too_and_hides_a_link_that_acts(tmp_path, broker, message_of):
    visit = "from django.test import Client; Client().get('/action/canary', headers={'host': '127.0.0.1'})"

    done = run_python(
        *(tmp_path, "manage.py", "shell", "-v0", "-c", visit),
        DJANGO_DEBUG="true",
        DJANGO_SECRET_KEY="development-only",
        CELERY_BROKER_URL=broker,
    )
    (line,) = done.stdout.splitlines()

    assert (done.returncode, done.stderr, message_of(line)) == (0, "", "Not Found: /action/***")
