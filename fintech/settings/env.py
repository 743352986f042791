"""The environment, read once: every variable with its default in one place. `.env.example` lists the same."""

import os
import re
import secrets
import sys
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import environ
import idna
from psycopg import ProgrammingError
from psycopg.conninfo import make_conninfo

# Passwords that stand in examples; with DJANGO_DEBUG off they are refused.
WELL_KNOWN_PASSWORDS = {"fintech", "guest", "postgres", "password", "changeme", "admin", "secret"}
DEVELOPMENT_KEY_PREFIX = "development-only"

# (network or host name in lower case, port or None for any)
Place = tuple[IPv4Network | IPv6Network | str, int | None]

# name -> (default, what it is). None: required where it is used.
VARIABLES: dict[str, tuple[str | None, str]] = {
    "ALPHAVANTAGE_API_KEY": ("", "key of Alpha Vantage; feeds that use it fail with the reason no_key without it"),
    "ANALYSIS_SHARDS": ("1", "number of analyzer processes; each has a queue analysis.0 to analysis.N-1"),
    "BRAPI_TOKEN": ("", "token of brapi.dev; without one it is asked as anybody may"),
    "CANARY": (
        "true",
        "false: no made-up price goes through the whole chain each 150 s to show that it works; the demo has none",
    ),
    "CELERY_BROKER_URL": ("memory://", "amqp://user:password@host:5672/vhost, or memory:// for the embedded run"),
    "CHANNEL_ENCRYPTION_KEYS": (
        "",
        "keys for what channels and two-factor sign-in keep secret, comma-separated, 32 random characters each: the "
        "first encrypts, all decrypt; empty: made from DJANGO_SECRET_KEY",
    ),
    "COINCAP_API_KEY": ("", "key of the CoinCap v3 API; feeds that use it fail with the reason no_key without it"),
    "COINGECKO_API_KEY": ("", "key of a CoinGecko demo account; without one it is asked as anybody may"),
    "DATABASE_REPLICA_URL": (
        "",
        "postgres://user:password@host:5432/name of a streaming replica, from which candles, history and logs are "
        "read; empty: there is none",
    ),
    "DATABASE_URL": (
        "",
        "postgres://user:password@host:5432/name, and options like ?sslmode=require; empty is a SQLite file in VAR_DIR",
    ),
    "DJANGO_ALLOWED_HOSTS": (
        "localhost,127.0.0.1",
        "host names that the site answers to, comma-separated; that of SITE_URL is always among them",
    ),
    "DJANGO_CSRF_TRUSTED_ORIGINS": ("", "origins with scheme that may post forms, comma-separated"),
    "DJANGO_DEBUG": ("false", "true shows errors to visitors: development only"),
    "DJANGO_SECRET_KEY": ("", "at least 32 random characters; embedded runs make their own and keep it in VAR_DIR"),
    "EMAIL_FROM": ("fintech@localhost", "sender of mail"),
    "EMAIL_URL": (
        "",
        "smtp://user:password@host:587 or smtp+tls://…; empty: no mail is sent, and pages and channels say so",
    ),
    "ENGINE": (
        "auto",
        "auto, or pure: evaluate quotes in Python alone, also where the engine is compiled; slower, and the same",
    ),
    "GRAPHQL_REQUESTS_AT_ONCE": (
        "token=4,user=4,address=8",
        "how many requests to /graphql of a token, of a user and from an address are answered at once; 0: any number",
    ),
    "GRAPHQL_REQUESTS_PER_MINUTE": (
        "token=600,user=1200,address=2400",
        "how many requests to /graphql may come in a minute with a token, of a user and from an address; 0: any number",
    ),
    "HEARTBEAT_URL": (
        "",
        "called each minute while ticks run and work is done, so that a monitor outside (Healthchecks, Uptime Kuma) "
        "notices when nothing here can say so",
    ),
    "LIVENESS_DIR": (
        "",
        "folder in which a worker marks after each task that it works: beat sends a canary to each queue every 30 s; "
        "compose/check.py fresh QUEUE reads the mark; empty: no canaries. The same for beat and workers",
    ),
    "LOG_LEVEL": ("INFO", "DEBUG, INFO, WARNING or ERROR"),
    "LOGS_URL": (
        "",
        "where the log lines of a trace are shown, without its id, like "
        "http://127.0.0.1:3000/d/fintech-logs?var-trace= (Grafana): pages link there; empty: they do not",
    ),
    "LOKI_URL": (
        "",
        "where /graphql asks for log lines, for operators, like http://127.0.0.1:3100 (Loki); empty: it gives none",
    ),
    "MARKET_IS_PUBLIC": ("false", "true shows assets and their prices to visitors who are not signed in"),
    "OIDC_CLIENT_ID": ("", "id of this site as a client of the OpenID Connect provider"),
    "OIDC_CLIENT_SECRET": ("", "secret of this site as a client of the OpenID Connect provider"),
    "OIDC_ISSUER": (
        "",
        "OpenID Connect provider by which people may sign in, as its discovery document names it, like "
        "https://id.example.org/realms/home; empty: there is none",
    ),
    "OIDC_MATCH_EMAIL": (
        "false",
        "true lets a person whom the provider knows by a verified e-mail address into the account here that has this "
        "address; false: such a person is refused",
    ),
    "OIDC_NAME": ("single sign-on", "what the button to sign in by this provider calls it"),
    "OTEL_EXPORTER_OTLP_ENDPOINT": (
        "",
        "address that takes spans by OTLP over HTTP, like http://127.0.0.1:4318 (Jaeger); empty: none are made",
    ),
    "OUTBOUND_ALLOW": (
        "",
        "host names, addresses or networks that channels may send to although they are not public, comma-separated, "
        "each with :port for that port alone: ntfy.lan:8080, 192.168.1.0/24",
    ),
    "OUTBOUND_PORTS": ("80,443", "ports that channels may send to, comma-separated"),
    "PASSWORD_SIGN_IN": ("true", "false: people sign in by the OpenID Connect provider alone"),
    "PROMETHEUS_URL": (
        "",
        "where /graphql asks for metrics, like http://127.0.0.1:9090 (Prometheus); empty: it gives none",
    ),
    "PROVIDER_ANSWER_LIMIT_BYTES": (
        "2000000",
        "bytes of one answer of a provider that are read, unpacked; a longer answer fails with too_large",
    ),
    "MESSAGE_RETENTION_DAYS": (
        "365",
        "days for which messages are kept, with their attempts, once the alerts in them are over; alerts stay",
    ),
    "METRICS_LISTEN": (
        "",
        "host:port at which a worker, beat, ingest or manage.py metrics gives its metrics; empty: not at all, "
        "manage.py metrics at 127.0.0.1:9108",
    ),
    "MINUTE_CANDLE_RETENTION_DAYS": ("365", "days of 1 m candles kept, by each feed's own clock; 1 h and 1 d stay"),
    "QUOTE_RETENTION_DAYS": ("30", "days of raw quotes kept, by each feed's own clock"),
    "REDIS_URL": ("", "redis://host:6379/0 for the cache of latest quotes; empty keeps it in the process"),
    "SITE_URL": (
        "http://127.0.0.1:8000",
        "where people reach the site; stands in messages; https:// makes cookies and redirects https only",
    ),
    "SLACK_HOSTS": ("hooks.slack.com,hooks.slack-gov.com", "hosts of Slack's incoming webhooks, comma-separated"),
    "STREAM_URL": (
        "",
        "where browsers reach manage.py live, with the path /graphql/stream; empty: at SITE_URL, by a proxy",
    ),
    "TELEGRAM_API_URL": ("https://api.telegram.org", "where the Bot API is asked: Telegram's, or a server of your own"),
    "TRACES_ONE_IN": (
        "1",
        "of how many traces one is sent; of the others, what led to an alert is sent all the same, made from its rows",
    ),
    "TRACES_URL": (
        "",
        "where a trace is shown, without its id, like http://127.0.0.1:16686/trace (Jaeger): pages link there; empty: "
        "they do not",
    ),
    "TRANSITION_RETENTION_DAYS": ("90", "days for which each step of a rule is kept; alerts stay"),
    "TRUSTED_DOCUMENTS": (
        "",
        "folder with files NAME.graphql, which clients of /graphql ask for by documentId; empty: there are none",
    ),
    "TRUSTED_DOCUMENTS_ONLY": ("false", "true answers these documents at /graphql and nothing else"),
    "TRUST_PROXY_HEADERS": (
        "false",
        "true behind a reverse proxy that sets X-Forwarded-Proto and adds to X-Forwarded-For; nowhere else",
    ),
    "TWO_FACTOR_REQUIRED": (
        "off",
        "who has to set up two-factor sign-in before anything else: off (nobody), staff (operators, superusers, and "
        "whoever else may do more than the group Owner) or everyone",
    ),
    "VAR_DIR": ("var", "folder for what a run leaves behind: SQLite file, generated key"),
}


def refuse(name: str, what: str) -> "Any":
    """Stop the process with one line that names the variable and never its value."""
    print(f"settings: {name} {what}", file=sys.stderr)
    raise SystemExit(2)


def text(name: str) -> str:
    """Return the variable, or its default where it is absent or blank."""
    default = VARIABLES[name][0]
    return os.environ.get(name, "").strip() or (default or "")


def read(name: str, parse: Callable[[str], Any], expected: str) -> Any:
    """Return the variable as `parse` reads it; anything that `parse` raises stops the process."""
    try:
        return parse(text(name))
    except Exception:
        return refuse(name, f"is not {expected}")


def boolean(name: str) -> bool:
    """Return true or false; nothing else is taken for either."""
    return read(name, {"true": True, "1": True, "false": False, "0": False}.__getitem__, "true or false")


def integer(name: str, *, lowest: int, highest: int) -> int:
    """Return a whole number within [lowest, highest]."""

    def parse(value: str) -> int:
        number = int(value)
        if not lowest <= number <= highest:
            raise ValueError
        return number

    return read(name, parse, f"a whole number from {lowest} to {highest}")


def numbers_of(name: str, keys: list[str]) -> dict[str, int]:
    """Return key -> whole number from 0 to 1 000 000, of a comma-separated list that names each of the keys once."""

    def parse(value: str) -> dict[str, int]:
        found = [part.partition("=") for part in value.split(",")]
        numbers = {key.strip(): int(number) for key, _, number in found}
        if sorted(key.strip() for key, _, _ in found) != sorted(keys):
            raise ValueError
        if not all(0 <= number <= 1_000_000 for number in numbers.values()):
            raise ValueError
        return numbers

    return read(name, parse, f"like {','.join(f'{key}=100' for key in keys)}, from 0 to 1000000 each")


def choice(name: str, choices: set[str]) -> str:
    """Return one of `choices`."""
    return read(name, {value: value for value in choices}.__getitem__, f"one of {', '.join(sorted(choices))}")


def names(name: str) -> list[str]:
    """Return a comma-separated list."""
    return [part.strip() for part in text(name).split(",") if part.strip()]


def keys(name: str, *, debug: bool) -> list[str]:
    """Return a comma-separated list of keys; short ones are for development only."""
    found = names(name)
    if not debug and any(len(key) < 32 for key in found):
        refuse(name, "has a key that is too short; set at least 32 random characters each")
    return found


def ascii_host(host: str) -> str:
    """Return a host's name as DNS, browsers and requests write it: münchen.example is xn--mnchen-3ya.example. Raises
    ValueError."""
    return host if host.isascii() else idna.encode(host, uts46=True).decode()


def hosts(name: str) -> list[str]:
    """Return a comma-separated list of host names in lower case and ASCII; one that begins with a dot is every name
    below it."""

    def parse(value: str) -> list[str]:
        found = [part.strip().lower() for part in value.split(",") if part.strip()]
        return ["." * host.startswith(".") + ascii_host(host.removeprefix(".")) for host in found]

    return read(name, parse, "a list of host names")


def site_hosts(name: str, *, debug: bool) -> list[str]:
    """Return a comma-separated list of host names; one that lets every name in is for development only."""
    found = hosts(name)
    if not debug and {"*", "."} & set(found):
        refuse(name, "lets every host name in; name yours")
    return found


def origins(name: str) -> list[str]:
    """Return a comma-separated list of origins like https://fintech.example.org or https://*.example.org."""

    def parse(value: str) -> list[str]:
        return [_with_ascii_host(part.strip()) for part in value.split(",") if part.strip()]

    return read(name, parse, "a list of origins like https://fintech.example.org")


def ports(name: str) -> frozenset[int]:
    """Return a comma-separated list of port numbers."""
    return read(name, lambda value: frozenset(map(_port, value.split(","))), "a list of ports from 1 to 65535")


def places(name: str) -> list[Place]:
    """Return a comma-separated list of places."""
    return read(
        name,
        lambda value: [place(part.strip()) for part in value.split(",") if part.strip()],
        "a list of host names, addresses or networks like 10.0.0.0/8, each with or without a :port",
    )


def place(value: str) -> Place:
    """Return the place that a text like ntfy.lan:8080, 10.0.0.0/8 or [::1]:8080 names. Raises ValueError."""
    # Without brackets an IPv6 address has no port: its colons are its own.
    split = re.fullmatch(r"(?:\[([^\[\]]+)\]|([^:\[\]]+))(?::([0-9]+))?", value)
    host = ascii_host((split[1] or split[2] if split else value).lower()).rstrip(".")
    port = _port(split[3]) if split and split[3] else None
    try:
        return ip_network(host), port
    except ValueError:
        # A name that ends in a number is an address in some other spelling, or a mistake.
        if not re.fullmatch(r"([a-z0-9_-]+\.)*(?!0x|[0-9]+$)[a-z0-9_-]+", host):
            raise
        return host, port


def listen(name: str) -> tuple[str, int] | None:
    """Return (host, port) of a text like 127.0.0.1:9101; None where it is empty."""

    def parse(value: str) -> tuple[str, int] | None:
        host, _, port = value.rpartition(":")
        if value and not host:
            raise ValueError
        return (ascii_host(host.strip("[]")), _port(port)) if value else None

    return read(name, parse, "host:port, like 127.0.0.1:9101")


def _port(value: str) -> int:
    number = int(value)
    if not 1 <= number <= 65_535:
        raise ValueError
    return number


def url(name: str, *, schemes: set[str], optional: bool = False, bare: bool = False) -> str:
    """Return a URL of one of `schemes`, with a host unless the scheme needs none; bare: without user, query or
    fragment."""

    def parse(value: str) -> str:
        if optional and not value:
            return ""
        parts = urlsplit(value)
        if parts.scheme not in schemes or (parts.scheme != "memory" and not parts.hostname):
            raise ValueError
        if bare and any(mark in value for mark in "@?#"):
            raise ValueError
        _ = parts.port
        return _with_ascii_host(value)

    expected = f"a URL starting with {' or '.join(sorted(f'{scheme}://' for scheme in schemes))}"
    return read(name, parse, f"{expected}, without user, query or fragment" if bare else expected)


def _with_ascii_host(value: str) -> str:
    """Return a URL with the host's name in ASCII. Raises ValueError."""
    parts = urlsplit(value)
    if (parts.hostname or "").isascii():
        return value
    user, separator, place = parts.netloc.rpartition("@")
    wildcard, host, port = re.fullmatch(r"(\*\.|)([^:]*)(:[0-9]*|)", place).groups("")  # type: ignore[union-attr]
    return parts._replace(netloc=f"{user}{separator}{wildcard}{ascii_host(host)}{port}").geturl()


def database(name: str, *, default_file: Path) -> dict[str, Any]:
    """Return Django's connection settings for a postgres:// or sqlite:// URL."""
    if not text(name):
        return _connection(f"sqlite:///{default_file.resolve()}", schemes={"sqlite"})
    parse = partial(_connection, schemes={"postgres", "postgresql", "sqlite"})
    settings = read(name, parse, "a URL starting with postgres:// or sqlite://")
    _refuse_other_options(name, settings)
    return settings


def replica(name: str, *, primary: dict[str, Any]) -> dict[str, Any] | None:
    """Return Django's connection settings for a postgres:// URL of a replica; None where there is none."""
    if not text(name):
        return None
    if primary["ENGINE"].endswith("sqlite3"):
        return refuse(name, "is set, and DATABASE_URL names no PostgreSQL")
    settings = read(name, partial(_connection, schemes={"postgres", "postgresql"}), "a URL starting with postgres://")
    _refuse_other_options(name, settings)
    return settings


def _refuse_other_options(name: str, settings: dict[str, Any]) -> None:
    """Stop the process where the URL has options that are not of a connection to PostgreSQL."""
    if settings["ENGINE"].endswith("sqlite3"):
        known = "OPTIONS" not in settings
    else:
        try:
            make_conninfo(**settings.get("OPTIONS", {}))
            known = True
        except ProgrammingError:
            known = False
    # environ takes some names out of the options, which Django has besides.
    if not known or settings.keys() - {"ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT", "OPTIONS"}:
        refuse(name, "has an option, behind its question mark, that is none of a connection to PostgreSQL")


def _connection(value: str, *, schemes: set[str]) -> dict[str, Any]:
    if urlsplit(value).scheme not in schemes:
        raise ValueError
    settings = dict(environ.Env.db_url_config(value))
    settings["HOST"] = ascii_host(settings["HOST"] or "")
    # In memory, every connection would have an empty database of its own.
    if settings["NAME"] in ("", ":memory:"):
        raise ValueError
    return settings


def email(name: str) -> dict[str, Any]:
    """Return Django's EMAIL_* settings for an smtp:// URL."""

    def parse(value: str) -> dict[str, Any]:
        if urlsplit(value).scheme not in {"smtp", "smtp+tls", "smtp+ssl", "smtps"}:
            raise ValueError
        settings = dict(environ.Env.email_url_config(value))
        return settings | {"EMAIL_HOST": ascii_host(settings["EMAIL_HOST"] or "")}

    return read(name, parse, "a URL starting with smtp://, smtp+tls://, smtp+ssl:// or smtps://") if text(name) else {}


def secret_key(name: str, *, debug: bool, embedded: bool, folder: Path) -> str:
    """Return the secret key; an embedded run without one makes its own and keeps it readable by its owner only."""
    key = text(name)
    if key:
        if not debug and (len(key) < 32 or key.startswith(DEVELOPMENT_KEY_PREFIX)):
            refuse(name, "is too short or an example's; set at least 32 random characters")
        return key
    if not embedded:
        refuse(name, "is missing; set at least 32 random characters")
    path = folder / "secret-key"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(secrets.token_urlsafe(48))
        return path.read_text()
    except OSError:
        return refuse("VAR_DIR", "is not a folder that this process can write to")


def refuse_well_known_passwords(name: str) -> None:
    """Stop the process where a URL, or one of several with semicolons between them, carries a password that stands in
    an example, however it is written: fintech, %66intech, or ?password=fintech."""
    for one in text(name).split(";"):
        parts = urlsplit(one)
        if {unquote(parts.password or ""), *parse_qs(parts.query).get("password", ())} & WELL_KNOWN_PASSWORDS:
            refuse(name, "carries an example's password; set your own, or DJANGO_DEBUG=true for development")
