"""`make backup` and `make restore FILE=…`: the database of the containers in a file, and .env, encrypted, in another.

Exit status 0; 1 with what is wrong and what to do. A backup that fails leaves no file; a restore that fails leaves the
database as it was.
"""

import argparse
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

PSQL = ("exec", "-T", "postgres", "psql", "-qAtX", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-c")
MANAGE = ("exec", "-T", "web", "/app/compose/start.sh", "manage")
# Those that plan and send messages.
SENDERS = ("notifier", "retries")
WAITING = """
from apps.notify.models import Message, Notification
print(Message.objects.exclude(status__in=["delivered", "failed"]).count())
print(Notification.objects.filter(message=None).count())
"""


class Failed(Exception):
    """What is wrong, and what to do."""


def compose(*arguments: str, reads: IO | None = None, writes: IO | int = subprocess.PIPE) -> str:
    """Return what a command of Compose prints, where nothing else takes it. Raises Failed with what it says."""
    command = ("docker", "compose", *arguments)
    done = subprocess.run(command, stdin=reads or subprocess.DEVNULL, stdout=writes, stderr=subprocess.PIPE)
    if done.returncode:
        raise Failed(done.stderr.decode(errors="replace").strip() or f"{' '.join(command)} failed")
    return (done.stdout or b"").decode()


def backup(folder: Path, *, environment: Path, quote_days: int | None = None) -> list[Path]:
    """Write both files and return them; quote_days: without raw quotes of older days. Raises Failed."""
    if not os.environ.get("BACKUP_PASSPHRASE"):
        raise Failed("set BACKUP_PASSPHRASE: .env has the keys of what channels keep secret, and is encrypted by it")
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"fintech-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    dump, keys = folder / f"{name}.dump", folder / f"{name}.env.enc"
    partial = dump.with_suffix(".partial")
    left_out = [] if quote_days is None else old_quotes(quote_days)
    without = [f"--exclude-table-data={table}" for table in left_out]
    try:
        with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            compose("exec", "-T", "postgres", "pg_dump", "-U", "postgres", "-Fc", *without, "fintech", writes=file)
        # An import of that day may have come before the dump began: its candles are still to be made of those quotes.
        if quote_days is not None and not set(left_out) <= set(old_quotes(quote_days)):
            raise Failed("quotes of older days came meanwhile, and their candles are not made yet; try again tomorrow")
        crypt("-in", str(environment), "-out", str(keys))
        keys.chmod(0o600)
        partial.rename(dump)
    finally:
        partial.unlink(missing_ok=True)
    return [dump, keys]


def old_quotes(days: int) -> list[str]:
    """Return the tables that hold only quotes of days longer ago than that. Raises Failed."""
    return compose(*MANAGE, "old_quotes", "--days", str(days)).split()


def crypt(*arguments: str) -> None:
    """Encrypt a file by BACKUP_PASSPHRASE. Raises Failed."""
    command = (
        "openssl",
        "enc",
        "-aes-256-cbc",
        "-pbkdf2",
        "-iter",
        "600000",
        "-salt",
        "-pass",
        "env:BACKUP_PASSPHRASE",
    )
    try:
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        raise Failed("openssl is missing: install it") from None
    if done.returncode:
        raise Failed(f"openssl: {done.stderr.strip()}")


def restore(dump: Path) -> tuple[int, int]:
    """Put the database of a backup in the place of the one that is there, and start all but what sends.

    Returns how many messages, and how many notifications that are in no message yet, wait. Raises Failed.
    """
    if not dump.is_file():
        raise Failed(f"{dump} is no file: name the .dump of a backup by FILE=")
    compose("up", "-d", "--no-build", "--wait", "postgres")
    compose(*PSQL, "DROP DATABASE IF EXISTS restored WITH (FORCE)")
    compose(*PSQL, "CREATE DATABASE restored OWNER fintech")
    try:
        with dump.open("rb") as file:
            compose(
                "exec",
                "-T",
                "postgres",
                "pg_restore",
                "-U",
                "postgres",
                "-d",
                "restored",
                "--exit-on-error",
                reads=file,
            )
    except Failed:
        compose(*PSQL, "DROP DATABASE restored WITH (FORCE)")
        raise
    services = compose("config", "--services").split()
    compose("stop", *(one for one in services if one != "postgres"))
    compose(*PSQL, "DROP DATABASE IF EXISTS fintech WITH (FORCE)")
    compose(*PSQL, "ALTER DATABASE restored RENAME TO fintech")
    compose(
        "up", "-d", "--no-build", "--wait", "--wait-timeout", "600", *(one for one in services if one not in SENDERS)
    )
    messages, notifications = compose(*MANAGE, "shell", "--no-imports", "-c", WAITING).split()
    return int(messages), int(notifications)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="backup")
    kinds = parser.add_subparsers(dest="kind", required=True)
    one = kinds.add_parser("backup")
    one.add_argument("--folder", type=Path, default=Path("backups"))
    one.add_argument("--environment", type=Path, default=Path(".env"))
    one.add_argument("--quote-days", type=int, help="Leave out the raw quotes of days longer ago than that, 2 or more.")
    kinds.add_parser("restore").add_argument("file", type=Path)
    options = parser.parse_args(arguments)
    try:
        if options.kind == "backup":
            for path in backup(options.folder, environment=options.environment, quote_days=options.quote_days):
                print(f"{path}  {path.stat().st_size / 1e6:.1f} MB")
            return 0
        messages, notifications = restore(options.file)
    except Failed as error:
        print(f"{options.kind}: {error}", file=sys.stderr)
        return 1
    print(
        f"The database is that of {options.file}. Nothing is sent yet: {messages} messages wait, and {notifications} "
        "notifications that are in no message, however old. Look at the page Messages; to send them: make up."
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
