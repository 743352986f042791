"""Writes .env with new secrets, so that nothing runs with those of an example: `make env`. Lines that are there are
never changed; what a newer version needs besides is added at the end."""

import os
import secrets
import sys
from collections.abc import Callable
from pathlib import Path

HEAD = """\
# Made by `make env`. Keep a copy elsewhere: without these keys a backup's channels cannot be read.
# docs/operations.md says what else may stand here; the variables of .env.example as well.
"""
# name -> its first value
VARIABLES: dict[str, Callable[[], str]] = {
    "COMPOSE_FILE": lambda: "compose/docker-compose.yml",
    "COMPOSE_PROJECT_NAME": lambda: "fintech",
    "COMPOSE_PROFILES": lambda: "",
    "SITE_URL": lambda: "http://localhost:8080",
    "SITE_PORT": lambda: "8080",
    "DJANGO_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "CHANNEL_ENCRYPTION_KEYS": lambda: secrets.token_urlsafe(32),
    "POSTGRES_PASSWORD": lambda: secrets.token_urlsafe(24),
    "DATABASE_PASSWORD": lambda: secrets.token_urlsafe(24),
    "GRAFANA_DATABASE_PASSWORD": lambda: secrets.token_urlsafe(24),
    "BROKER_PASSWORD": lambda: secrets.token_urlsafe(24),
    "BROKER_OPERATOR_PASSWORD": lambda: secrets.token_urlsafe(24),
    "BROKER_PUSHER_PASSWORD": lambda: secrets.token_urlsafe(24),
    "REDIS_PASSWORD": lambda: secrets.token_urlsafe(24),
    "FLOWER_PASSWORD": lambda: secrets.token_urlsafe(24),
    "GRAFANA_ADMIN_PASSWORD": lambda: secrets.token_urlsafe(24),
}


def lines_to_add(text: str) -> list[str]:
    """Return a line NAME=value for each variable that the text of a .env does not set."""
    there = {line.partition("=")[0].strip() for line in text.splitlines() if "=" in line and not line.startswith("#")}
    return [f"{name}={first()}" for name, first in VARIABLES.items() if name not in there]


def main(path: Path) -> int:
    """Exit status 0, or 1 with one line where the file cannot be written."""
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        added = lines_to_add(text)
        if not text:
            # Readable by its owner alone from its first moment on.
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
        if added:
            separator = "" if not text or text.endswith("\n") else "\n"
            with path.open("a", encoding="utf-8") as file:
                file.write(separator + ("" if text else HEAD) + "".join(f"{line}\n" for line in added))
    except OSError as error:
        print(f"env: {path} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    names = ", ".join(line.partition("=")[0] for line in added)
    print(f"env: {path.name} has all it needs" if not added else f"env: wrote {names} to {path.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1] if len(sys.argv) > 1 else ".env")))
