"""Places where a worker kills or stops itself, once each: imported by the workers of a test with `-I`, driven by
FAILPOINTS_FOLDER.

A place fires when the file NAME.armed can be taken away, so a kill happens once whatever is run again. Leases and what
else takes minutes are short here.
"""

import json
import os
import re
import signal
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

from celery import current_app
from celery.signals import task_success
from django.db import connection

from apps.health import services as health
from apps.market.services import log
from apps.notify import domain
from apps.notify.services import sending
from apps.notify.transports import posting
from apps.notify.transports.protocol import Receipt, TransportUnavailable
from apps.pipeline import flow
from apps.rules import services as rules
from apps.sources.services import answers, fetching, leasing, together
from tests.faults.halves import halves_seen

FOLDER = Path(os.environ.get("FAILPOINTS_FOLDER", "/nonexistent"))
STOP = "stop"

PLACES = (
    "store-before-commit",
    "store-after-commit",
    "judge-before-commit",
    "judge-after-commit",
    "plan-before-commit",
    "claim-after-commit",
    "deliver-after-send",
)
# The places in tasks that fetch or evaluate several small feeds.
TOGETHER = (
    "together-leased",
    "together-asked",
    "together-stored",
    "together-taken",
    "together-marked",
    "judge-before-commit",
    "judge-after-commit",
)


def arm(folder: Path, places: Sequence[str] = PLACES) -> None:
    """Make each of these places fire once."""
    for place in places:
        (folder / f"{place}.armed").touch()


def fired(folder: Path, places: Sequence[str] = PLACES) -> set[str]:
    """Return those of these places that have killed their process."""
    return {place for place in places if not (folder / f"{place}.armed").exists()}


def die(place: str) -> None:
    """Kill this process as an out-of-memory killer would, if the place is still armed; where "stop" is written there,
    stop its whole worker instead, and say who did."""
    armed = FOLDER / f"{place}.armed"
    try:
        how = armed.read_text()
        armed.unlink()
    except FileNotFoundError:
        return
    if how == STOP:
        (FOLDER / f"{place}.stopped").write_text(str(os.getpid()))
        os.killpg(os.getpgrp(), signal.SIGSTOP)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def before(function: Callable[..., Any], place: str, *, when: Callable[..., bool] = lambda *a, **k: True) -> Any:
    """Return `function` with a failpoint before it."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        if when(*args, **kwargs):
            die(place)
        return function(*args, **kwargs)

    return failing


def after(function: Callable[..., Any], place: str, *, when: Callable[..., bool] = lambda result: True) -> Any:
    """Return `function` with a failpoint after it."""

    def failing(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        if when(result):
            die(place)
        return result

    return failing


class Statements:
    """Kills this process after the first statement of a transaction, after the second of the same one begun again, and
    so on, until it passes: then a process has died after each of its statements.

    It picks one that does all that `wanted` says, which it knows when that is done: the first death. key: the argument
    that names its feed or channel. NAME.after holds n and the key, n of 0 while it looks for one; NAME.died has a line
    of JSON for each death, with n and the statement, and for each next attempt, with the halves that were seen before
    it; NAME.over says that it has passed.
    """

    def __init__(self, name: str, *, key: str, wanted: set[str]) -> None:
        self.name = name
        self.key = key
        self.wanted = wanted
        self.seen: list[str] = []
        self.of: int | None = None

    @property
    def _after(self) -> Path:
        return FOLDER / f"{self.name}.after"

    def _note(self, **facts: Any) -> None:
        with (FOLDER / f"{self.name}.died").open("a") as file:
            file.write(json.dumps(facts) + "\n")

    def around(self, function: Callable[..., Any]) -> Any:
        """Return `function`, a transaction, with this around it."""

        def dying(**arguments: Any) -> Any:
            n, key = self._state()
            if n is None or key not in (None, arguments[self.key]):
                return function(**arguments)
            self._note(halves=halves_seen())
            self.seen = []
            self.of = arguments[self.key]
            with connection.execute_wrapper(self):
                result = function(**arguments)
            # None: somebody else is evaluating.
            if result is not None:
                self._passed()
            return result

        return dying

    def _state(self) -> tuple[int | None, int | None]:
        """Return n and the key; n of None: it has not begun, or is over."""
        if not self._after.exists() or (FOLDER / f"{self.name}.over").exists():
            return None, None
        n, key = json.loads(self._after.read_text())
        return n, key

    def _put(self, n: int, key: int | None) -> None:
        # In one step: neighbours read it at any moment.
        written = FOLDER / f"{self.name}.{os.getpid()}"
        written.write_text(json.dumps([n, key]))
        written.replace(self._after)

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        self.seen.append(_what(sql))
        n, key = self._state()
        if key not in (None, self.of):
            # A neighbour has picked another feed or channel since this transaction began.
            return result
        if len(self.seen) == n or (n == 0 and self.wanted <= set(self.seen)):
            self._note(n=n, statement=self.seen[-1])
            self._put(n + 1, self.of)
            os._exit(9)
        return result

    def _passed(self) -> None:
        n, key = self._state()
        if key != self.of:
            return
        if self.wanted <= set(self.seen) and n == len(self.seen) + 1:
            self._note(passed=self.seen)
            (FOLDER / f"{self.name}.over").touch()
        elif n:
            # It was another one, of the same feed or channel.
            self._put(0, None)


def _what(sql: str) -> str:
    """Return the verb and the first table of a statement."""
    table = re.search(r'(?:FROM|INTO|UPDATE) "?(\w+)', sql)
    return f"{sql.split()[0]} {table[1] if table else ''}".strip()


# With what each does last.
EVALUATED = {
    *("INSERT alerts_alert", "UPDATE alerts_alert", "INSERT alerts_alertevent", "INSERT notify_notification"),
    *("INSERT rules_transition", "WITH market_feedentry"),
}
PLANNED = {"INSERT notify_message", "UPDATE notify_notification", "UPDATE notify_channel"}


def note_done(sender: Any, **_: Any) -> None:
    """Say in the file `done` which task has been worked to its end."""
    with (FOLDER / "done").open("a") as file:
        file.write(f"{sender.request.id}\n")


if FOLDER.is_dir():
    task_success.connect(note_done)
    lease = timedelta(seconds=float(os.environ.get("FAULT_LEASE_SECONDS", "2")))
    fetching.FETCH_LEASE = leasing.FETCH_LEASE = sending.SEND_LEASE = lease
    log._advance_latest = after(log._advance_latest, "store-before-commit")
    log._store_few_in_step = after(log._store_few_in_step, "store-before-commit")
    fetching.record_answers = before(fetching.record_answers, "fetch-answered")
    answers.cache_latest = before(answers.cache_latest, "store-after-commit")
    together.take_fetch_leases = after(together.take_fetch_leases, "together-leased", when=bool)
    together.store_in_step = before(
        after(together.store_in_step, "together-stored", when=bool), "together-asked", when=bool
    )
    flow.market.take_pending_of = after(
        flow.market.take_pending_of,
        "together-taken",
        when=lambda taken: sum(one.entry is not None for one in taken.values()) > 1,
    )
    flow.market.mark_all_evaluated = after(flow.market.mark_all_evaluated, "together-marked")
    # With alerts and notifications written and not committed: the state that must not be seen by halves.
    flow.notify.enqueue = after(flow.notify.enqueue, "judge-before-commit", when=bool)
    rules.keep_engine = before(rules.keep_engine, "judge-after-commit")
    flow.notify.plan = before(flow.notify.plan, "plan-before-commit")
    sending._claim = after(sending._claim, "claim-after-commit", when=lambda attempt: attempt is not None)
    sending._finish = before(
        before(
            before(
                sending._finish, "deliver-after-send", when=lambda attempt, **_: attempt.message.channel.kind == "email"
            ),
            "taken-after-send",
            when=lambda attempt, came, **_: attempt.message.channel.kind == "webhook" and isinstance(came, Receipt),
        ),
        "failed-after-send",
        when=lambda attempt, came, **_: isinstance(came, TransportUnavailable),
    )
    # What is compared is what rules open.
    health.record_alerts = lambda *_, **__: []
    flow.evaluate_next = Statements("evaluate", key="feed_id", wanted=EVALUATED).around(flow.evaluate_next)
    flow.notify.plan = Statements("plan", key="channel_id", wanted=PLANNED).around(flow.notify.plan)

if seconds := os.environ.get("FAULT_RETRY_SECONDS"):
    domain.RETRY_AFTER_SECONDS = tuple(map(float, seconds.split(",")))
if seconds := os.environ.get("FAULT_SEND_SECONDS"):
    posting.post = partial(posting.post, deadline_seconds=float(seconds))
if seconds := os.environ.get("FAULT_BEHIND_SECONDS"):
    flow.BEHIND = timedelta(seconds=float(seconds))
if seconds := os.environ.get("FAULT_HEARTBEAT_SECONDS"):
    current_app.conf.broker_heartbeat = int(seconds)
