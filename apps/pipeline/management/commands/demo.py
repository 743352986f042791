"""`manage.py demo`: from a clone to a fired alert, in one process."""

import fcntl
import json
import logging
import secrets
import sys
import time
import warnings
from pathlib import Path
from typing import IO, Any

from celery import current_app
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandParser
from django.db import connections
from django.db.models import Max
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.alerts.wording import describe_event_reason
from apps.command_line import refuse
from apps.market.models import EvaluationCursor, FeedEntry
from apps.notify.queries import inbox_of
from apps.pipeline import embedded
from apps.pipeline.demo_portfolio import own_something
from apps.setup import loading
from apps.setup.loading import load_setup, read_setup
from apps.tracing import new_trace_id

SETUP = Path(loading.__file__).resolve().parent / "demo.yaml"
LOOK_EVERY_SECONDS = 0.2
SUM_UP_EVERY_SECONDS = 30
# Feed id -> the last entry that was evaluated, the newest event of an alert, and the messages in the inbox.
_Seen = tuple[dict[int, int], int, set[Any]]


class Command(BaseCommand):
    """Exit status 0; with --until-first-alert 1 when none came in time; 2 where it cannot start."""

    help = "Run the whole system in this process, on a recorded and a simulated market. Without --keep it begins with "
    help += "an empty database."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000, help="of the site on 127.0.0.1; 0 takes a free one")
        parser.add_argument(
            "--until-first-alert", action="store_true", help="stop at the first open alert in the inbox"
        )
        parser.add_argument("--keep", action="store_true", help="go on with what the last demo with --keep had")
        parser.add_argument("--entries", action="store_true", help="print a line for each feed entry")
        parser.add_argument("--timeout", type=float, default=None, help="seconds after which to stop")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.EMBEDDED:
            refuse("demo", "the demo runs embedded; unset DATABASE_URL and CELERY_BROKER_URL")
        if not 0 <= options["port"] <= 65_535:
            refuse("demo", "--port must be from 0 to 65535")
        settings.MARKET_IS_PUBLIC = True  # Its prices are recorded or invented, and the site is on loopback.
        logging.disable(logging.WARNING)  # The lines below are for people; errors still show.
        warnings.simplefilter("ignore")
        started = time.monotonic()
        try:
            # Before the database is made anew: who has the port may be a demo that is using it.
            listener = embedded.listen(host="127.0.0.1", port=options["port"])
            streams = embedded.listen(host="127.0.0.1", port=0)
        except embedded.PortTaken:
            refuse("demo", f"port {options['port']} is taken; choose another with --port, or 0 for any")
        lock = _lock(settings.VAR_DIR)
        database = settings.VAR_DIR / ("kept-demo.sqlite3" if options["keep"] else "demo.sqlite3")
        if options["keep"] and _note_beside(database).exists():
            self._say(f"Going on with {database} …")
        else:
            self._say("Making an empty database and loading the recorded market …")
        try:
            owner, password = _prepare(database, is_kept=options["keep"])
            seen = _seen_before(owner)
            settings.STREAM_URL = f"http://127.0.0.1:{streams.getsockname()[1]}/graphql/stream"
            app = current_app._get_current_object()
            with embedded.running(app, listener=listener, streams=streams) as port:
                settings.SITE_URL = f"http://127.0.0.1:{port}"  # It stands in messages.
                settings.CSRF_TRUSTED_ORIGINS = [settings.SITE_URL]  # Streams are at another port.
                self._say(
                    f"Open http://127.0.0.1:{port}/ and sign in as admin with {_described(password)}\n"
                    f"  alerts     http://127.0.0.1:{port}/admin/alerts/alert/\n"
                    f"  portfolio  http://127.0.0.1:{port}/portfolios/\n"
                    f"  inbox      http://127.0.0.1:{port}/admin/notify/message/\n"
                    f"{_what_remains(options['keep'])} Ctrl-C stops it. Alerts and messages as they come:"
                )
                self._watch(
                    owner,
                    seen,
                    started=started,
                    timeout=options["timeout"],
                    first=options["until_first_alert"],
                    with_entries=options["entries"],
                )
        except KeyboardInterrupt:
            self._say("Stopped.")
            if options["keep"]:
                self._say(f"Its data are in {database}; next time sign in as admin with {_described(password)}")
        finally:
            lock.close()

    def _watch(
        self, owner: Any, seen: _Seen, *, started: float, timeout: float | None, first: bool, with_entries: bool
    ) -> None:
        """Print what the rows say until it is time to stop: alerts and messages, and every half a minute how many
        entries were evaluated, or each of them. Raises SystemExit where --until-first-alert decides."""
        evaluated, event_id, shown = seen
        entries = quotes = 0
        summed_up = time.monotonic()
        while timeout is None or time.monotonic() - started < timeout:
            for feed_id, seq in evaluated.items():
                # By number in each feed's log: two feeds are evaluated side by side, so a later row may be evaluated
                # first.
                news = FeedEntry.objects.filter(feed_id=feed_id, seq__gt=seq, evaluated_at__isnull=False)
                for entry in news.select_related("feed").order_by("seq"):
                    evaluated[feed_id] = entry.seq
                    entries, quotes = entries + 1, quotes + entry.accepted
                    if with_entries or entry.failure:
                        self._say(_entry_line(entry))
            if not with_entries and time.monotonic() - summed_up >= SUM_UP_EVERY_SECONDS:
                self._say(f"{_now()}    evaluated {quotes} quotes in {entries} feed entries")
                entries, quotes, summed_up = 0, 0, time.monotonic()
            for event in AlertEvent.objects.filter(pk__gt=event_id).select_related("alert__rule").order_by("pk"):
                event_id = event.pk
                self._say(_event_line(event))
            for message in inbox_of(owner).exclude(pk__in=shown).order_by("delivered_at"):
                shown.add(message.pk)
                self._say(f"{_now()}    notified  {message.subject}")
            if first and (found := _first_alert(owner)) is not None:
                self._say(json.dumps(found | {"seconds": round(time.monotonic() - started, 1)}))
                return
            time.sleep(LOOK_EVERY_SECONDS)
        if first:
            print(f"demo: no alert within {timeout:g} s", file=sys.stderr)
            raise SystemExit(1)

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _lock(folder: Path) -> IO[str]:
    """Return the file whose lock says that a demo is using the folder's database; it ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = (folder / "demo.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        refuse("demo", "another demo is running on this VAR_DIR; stop it, or set VAR_DIR to another folder")
    return lock


def _prepare(path: Path, *, is_kept: bool) -> tuple[Any, str]:
    """Make the demo's own database anew and load its set-up, where it is not kept from before; returns the owner, and
    the password, "" where that was changed since."""
    note = _note_beside(path)
    connections.settings["default"]["NAME"] = str(path)
    if is_kept and note.exists():
        call_command("migrate", verbosity=0)
        owner = get_user_model().objects.get(username="admin")
        password = note.read_text(encoding="utf-8")
        return owner, password if owner.check_password(password) else ""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    call_command("migrate", verbosity=0)
    password = secrets.token_urlsafe(9)
    owner = get_user_model().objects.create_superuser("admin", password=password)
    load_setup(read_setup(SETUP), owner=owner, now=timezone.now(), trace_id=new_trace_id())
    own_something(owner, now=timezone.now())
    if is_kept:
        # Last, since it says that the database is complete; readable by this user alone.
        note.touch(mode=0o600)
        note.write_text(password, encoding="utf-8")
    return owner, password


def _note_beside(database: Path) -> Path:
    """Return the file with the first password of a kept database."""
    return database.with_suffix(".password")


def _seen_before(owner: Any) -> _Seen:
    """Return what a kept database has from before, which is not printed again."""
    evaluated = dict(EvaluationCursor.objects.values_list("feed_id", "seq"))
    newest = AlertEvent.objects.aggregate(newest=Max("pk"))["newest"] or 0
    return evaluated, newest, set(inbox_of(owner).values_list("pk", flat=True))


def _described(password: str) -> str:
    return f"the password {password}" if password else "the password that you set"


def _what_remains(is_kept: bool) -> str:
    if is_kept:
        return "What you do here is kept for the next time."
    return 'What you do here is forgotten when it stops; make demo ARGS="--keep" keeps it.'


def _first_alert(owner: Any) -> dict[str, Any] | None:
    """Return an open alert and its message in the inbox, as plain data."""
    message = (
        inbox_of(owner)
        .filter(members__event__kind=AlertEvent.Kind.OPENED, members__event__alert__resolved_at=None)
        .order_by("delivered_at")
        .first()
    )
    if message is None:
        return None
    shown = Alert.objects.filter(events__notifications__message=message, events__kind="opened", resolved_at=None)
    alert = shown.select_related("rule", "asset").order_by("pk").first()
    if alert is None:
        return None
    return {
        "alert": {
            "id": alert.pk,
            "rule": alert.rule_name,
            "asset": alert.symbol,
            "severity": alert.severity,
            "opened_at": alert.opened_at.isoformat(),
            "resolved_at": alert.resolved_at.isoformat() if alert.resolved_at else None,
            "summary": alert.summary,
            "evidence": alert.evidence,
        },
        "message": {
            "id": str(message.pk),
            "channel": message.channel.name,
            "subject": message.subject,
            "text": message.text,
            "delivered_at": message.delivered_at.isoformat() if message.delivered_at else None,
        },
    }


def _now() -> str:
    return f"{timezone.now():%H:%M:%S}"


def _entry_line(entry: FeedEntry) -> str:
    what = entry.kind if entry.kind != FeedEntry.Kind.QUOTES else f"{entry.accepted} quotes"
    if entry.kind == FeedEntry.Kind.HISTORY:
        what = f"{entry.accepted} quotes of history"
    if entry.failure:
        what = f"failed: {entry.failure}"
    return f"{_now()}  {entry.feed.name:<20} #{entry.seq:<4} {what}, as of {entry.as_of:%Y-%m-%d %H:%M:%S}"


def _event_line(event: AlertEvent) -> str:
    alert = event.alert
    if event.kind == AlertEvent.Kind.OPENED:
        return f"{_now()}  ▲ ALERT [{alert.severity}] {alert.rule_name}: {alert.summary}"
    if event.kind == AlertEvent.Kind.ACKNOWLEDGED:
        return f"{_now()}  ✓ seen  [{alert.severity}] {alert.rule_name}: acknowledged by {event.by}"
    why = describe_event_reason(event.reason, event.detail, event.correction)
    if event.kind == AlertEvent.Kind.CORRECTED:
        return f"{_now()}  ≠ data  [{alert.severity}] {alert.rule_name}: {why}"
    return f"{_now()}  ▽ over  [{alert.severity}] {alert.rule_name} ({why})"
