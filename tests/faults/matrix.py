"""The faults of the matrix, each as a function that injects it into a run; and what a run finds, as one line.

A run: a film drawn by the seed, real workers on real servers, three channels, a fault while work is under way, then
quiet, then every set compared with what the oracle says.
"""

import itertools
import json
import os
import random
import re
import signal
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from celery import current_app
from django.core.management import call_command
from django.db import connection
from django.db.models import Max, Q, QuerySet
from django.test import override_settings
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import Batch, Feed, FeedHead, Quote
from apps.notify import domain
from apps.notify import services as notify
from apps.notify.models import Attempt, Channel, Message, Owed
from apps.notify.queries import message_counts_of
from apps.pipeline import flow
from fintech.settings.env import place
from tests.faults import world
from tests.faults.failpoints import JUDGED, PLANNED, STOP
from tests.faults.halves import halves_seen
from tests.faults.receiver import OK, Answer, Asked, Manner, Receiver, Told
from tests.faults.visitor import Visitor
from tests.faults.wiretap import Wiretap
from tests.faults.world import Size
from tests.rig import Rig, queue_lengths, rig, wait_until

CHANNELS = ("one", "two", "inbox")
MODULE = "tests.faults.failpoints"
ROLES = {"watcher": ("assets-tasks",), "analyzer": ("analysis.0",), "notifier": ("notifications", "retries")}
FROZEN_HANDS = 3
HANDS = {"watcher": 2, "analyzer": 1, "notifier": 2}
# Whether somebody of a role is at work just now.
AT_WORK: dict[str, Callable[[], bool]] = {
    "watcher": lambda: FeedHead.objects.exclude(lease_until=None).exists(),
    "analyzer": lambda: Batch.objects.filter(evaluated_at=None).exists(),
    "notifier": lambda: Message.objects.filter(status=Message.Status.SENDING).exists(),
}


@dataclass(slots=True)
class Row:
    """What one run found. Where `allowed` is None, as many repeats are allowed as there were kills of senders."""

    fault: str
    seed: int
    quotes_in: int = 0
    stored: int = 0
    alerts_expected: int = 0
    alerts: int = 0
    deliveries_expected: int = 0
    delivered: int = 0
    lost: int = 0
    dup_alerts: int = 0
    dup_deliveries: int = 0
    repeats_same_id: int = 0
    allowed: int = 0
    dead: int = 0
    # None where nobody visited the site.
    http500: int | None = None
    recover_s: float = 0.0
    injected: int = 0
    in_flight: int = 0
    deviations: list[str] = field(default_factory=list)

    def line(self) -> str:
        """Return it as it is printed."""
        return (
            f"fault={self.fault} seed={self.seed} quotes_in={self.quotes_in} stored={self.stored} "
            f"alerts_expected={self.alerts_expected} alerts={self.alerts} "
            f"deliveries_expected={self.deliveries_expected} delivered={self.delivered} lost={self.lost} "
            f"dup_alerts={self.dup_alerts} dup_deliveries={self.dup_deliveries} "
            f"repeats_same_id={self.repeats_same_id} (allowed<={self.allowed}) dead={self.dead} "
            f"http500={'-' if self.http500 is None else self.http500} "
            f"recover_s={self.recover_s:.1f} injected={self.injected} in_flight={self.in_flight}"
        )

    def want(self, is_so: object, words: str) -> None:
        """Note a deviation where something is not so."""
        if not is_so:
            self.deviations.append(words)


@dataclass(slots=True, repr=False)
class Run:
    """One run under way."""

    row: Row
    rng: random.Random
    size: Size
    folder: Path
    films: list[world.Film]
    receiver: Receiver
    feeds: list[Feed]
    channels: dict[str, Channel]
    processes: Rig
    workers: dict[str, Any] = field(default_factory=dict)
    beat: Any = None
    # Monotonic time of the last injection's end, and what had come about by then.
    struck_at: float = 0.0
    pending: dict[str, Any] = field(default_factory=dict)
    # Channels whose programs refuse everything from some time on.
    refused: set[str] = field(default_factory=set)

    @property
    def failpoints(self) -> Path:
        return self.folder / "failpoints"

    def start(self, name: str, *queues: str, hands: int = 2) -> None:
        """Start a worker, or start it again."""
        self.workers[name] = self.processes.worker(*queues, name=name, concurrency=hands, include=MODULE)

    def start_beat(self) -> None:
        self.beat = self.processes.beat()

    def start_roles(self, *, hands: Mapping[str, int] = HANDS, **others: tuple[str, ...]) -> None:
        """Start a worker for each role. others: the queues of those that differ."""
        for name, queues in (ROLES | others).items():
            self.start(name, *queues, hands=hands.get(name, 2))
        self.wait_until_ready()

    def wait_until_ready(self) -> None:
        """Wait until all workers work: one whose child is killed before that gives up, for its supervisor to see."""
        for name in self.workers:
            wait_until(
                lambda name=name: f"{name}@" in self.processes.log(name) and " ready." in self.processes.log(name)
            )

    def stop_workers(self) -> None:
        """Have all workers end what they are at, and stop."""
        for worker in self.workers.values():
            worker.terminate()
        for worker in self.workers.values():
            worker.wait(timeout=30)

    def arm(self, place: str, *, how: str = "") -> None:
        """Let the next process that comes to a place of failpoints.py kill itself."""
        (self.failpoints / f"{place}.armed").write_text(how)

    def wait_for_fire(self, place: str) -> None:
        """Wait until somebody has come to an armed place."""
        wait_until(lambda: not (self.failpoints / f"{place}.armed").exists(), timeout_seconds=60, every_seconds=0.01)

    def strikes(self, chosen: Iterable[Any], *, pause_seconds: float = 0.0) -> Iterator[Any]:
        """Give one of these after the other, each when enough is under way, at a moment drawn from the seed; what is
        done with it is the injection. After the first, none is given any more once all is over."""
        for one in chosen:
            # At a moment of its own: else each would hit the same stage of the work.
            time.sleep(self.rng.uniform(0, pause_seconds))
            seen = wait_until(self._enough_or_over, timeout_seconds=90, every_seconds=0.01)
            if seen < 0:
                return
            self.row.in_flight = max(self.row.in_flight, seen)
            yield one
            self.row.injected += 1
            self.struck_at = time.monotonic()
            self.pending = {
                "batch": Batch.objects.aggregate(last=Max("pk"))["last"],
                "owed": Owed.objects.aggregate(last=Max("pk"))["last"] or 0,
            }

    @contextmanager
    def strike(self, *, pause_seconds: float = 0.0) -> Iterator[None]:
        """Wait until enough is under way; what is done within is the one injection."""
        yield from self.strikes([None], pause_seconds=pause_seconds)

    def wait_for_work(self, role: str) -> None:
        """Wait until a worker of this role has something in hand, if that is soon."""
        with suppress(AssertionError):
            wait_until(AT_WORK[role], timeout_seconds=2, every_seconds=0.005)

    def _enough_or_over(self) -> int:
        """Return how much is under way where that is enough, 0 where it is not, and -1 where no more will come."""
        seen = in_flight()
        if seen > self.size.in_flight:
            return seen
        return -1 if self.row.injected and self.is_over() else 0

    def is_over(self, *, but: QuerySet[Owed] | None = None) -> bool:
        """The films are stored and judged to their ends, and nothing waits to be told; but: of these debts, where not
        all are looked at."""
        self._note_recovery()
        heads = {head.feed_id: head for head in FeedHead.objects.select_related("feed__judged")}
        for feed, film in zip(self.feeds, self.films, strict=True):
            head = heads[feed.pk]
            if head.as_of is None or head.as_of < film.end or head.feed.judged.seq < head.seq:
                return False
        if but is not None:
            return not but.filter(Q(message=None) | Q(message__status__in=Message.UNSENT)).exists()
        return not _untold()

    def _note_recovery(self) -> None:
        if self.struck_at and not self.row.recover_s:
            judged = not Batch.objects.filter(pk__lte=self.pending["batch"], evaluated_at=None).exists()
            unsent = Q(message=None) | Q(message__status__in=Message.UNSENT)
            if judged and not Owed.objects.filter(unsent, pk__lte=self.pending["owed"]).exists():
                self.row.recover_s = time.monotonic() - self.struck_at

    def drain(self) -> None:
        """Wait until all is done and nothing is on its way."""
        wait_until(self.is_over, timeout_seconds=60, every_seconds=0.1)
        self.wait_for_quiet()

    def wait_for_quiet(self) -> None:
        """Wait until no message waits; beat's own, which come every second, aside."""
        for _ in range(3):
            wait_until(lambda: not any(_work_waiting()), timeout_seconds=60, every_seconds=0.2)
            time.sleep(0.2)


def in_flight() -> int:
    """Return how many quotes are stored and not judged, debts not planned, and debts whose message is not sent."""
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT (SELECT count(*) FROM market_quote q JOIN market_batch b ON b.id = q.batch_id
                    WHERE b.evaluated_at IS NULL AND b.kind = 'quotes')
                 + (SELECT count(*) FROM notify_owed o LEFT JOIN notify_message m ON m.id = o.message_id
                    WHERE m.id IS NULL OR m.status IN ('pending', 'sending'))""")
        return int(cursor.fetchone()[0])


def _untold() -> bool:
    unsent = Q(message=None) | Q(message__status__in=Message.UNSENT)
    return (
        Owed.objects.filter(unsent).exists()
        or Message.objects.filter(status__in=Message.UNSENT).exists()
        or Batch.objects.filter(evaluated_at=None, kind="quotes", accepted__gt=0).exists()
    )


def _work_waiting() -> Iterable[int]:
    return [count for name, count in queue_lengths().items() if name != "fintech.dead"]


# --- the faults -------------------------------------------------------------------------------------------------


def kill_children(run: Run) -> None:
    """K1: kill -9 of a random child of a pool, again and again."""
    run.start_roles()
    run.start_beat()
    for role in run.strikes(run.rng.choices(sorted(run.workers), k=run.size.kills), pause_seconds=1):
        run.wait_for_work(role)
        # None, for a moment, where its only one has just been killed.
        children = wait_until(lambda role=role: _children(run.workers[role].pid))
        os.kill(run.rng.choice(children), signal.SIGKILL)
        run.row.allowed += role == "notifier"


def kill_workers(run: Run) -> None:
    """K2: kill -9 of a whole worker with its children, which is started again."""
    run.start_roles()
    run.start_beat()
    roles = run.rng.sample(sorted(ROLES) * 2, max(run.size.kills // 3, 3))
    for role in run.strikes(roles, pause_seconds=1):
        run.wait_for_work(role)
        run.processes.kill(run.workers[role])
        # Each of its children may have been between an answer and its commit.
        run.row.allowed += HANDS[role] * (role == "notifier")
        time.sleep(run.rng.uniform(0, 2))
        run.start(role, *ROLES[role], hands=HANDS[role])


def no_task_was_lost(run: Run) -> None:
    """Check the rest of K1 and K2: what a dead process had in hand was delivered again, and done. Rows alone would not
    show it, since sweep makes up for lost tasks."""
    run.processes.kill(run.beat)
    run.wait_for_quiet()
    run.stop_workers()
    received = [match for name in run.workers for match in _RECEIVED.findall(run.processes.log(name))]
    done = set((run.failpoints / "done").read_text().split())
    # Of beat's own, which come again, some expire.
    lost = {one for one in received if one[1] not in done and one[0] not in ("tick", "sweep", "rollup")}
    run.row.want(len(received) > run.size.in_flight, f"only {len(received)} tasks received")
    run.row.want(not lost, f"received, and never done: {sorted(lost)}")


_RECEIVED = re.compile(r"Task pipeline\.(\w+)\[([0-9a-f-]+)\] received")


def kill_between_answer_and_commit(run: Run) -> None:
    """K3: a sender dies after the program has taken the message, before that is on record."""
    run.start_roles()
    run.start_beat()
    for _ in run.strikes(range(max(run.size.kills // 3, 2)), pause_seconds=1):
        run.arm("taken-after-send")
        run.wait_for_fire("taken-after-send")
        run.row.allowed += 1


def kill_after_each_statement(run: Run) -> None:
    """K4: the process dies after the first statement of the transaction that judges, then after the second, and so on;
    and the same with the one that plans."""
    # That a child is gone is sometimes seen after seconds only; meanwhile its neighbours go on.
    run.start_roles(hands={"watcher": 2, "analyzer": 6, "notifier": 4})
    run.start_beat()
    transactions = {"judge": JUDGED, "plan": PLANNED}
    with run.strike():
        # Both at once: what one of them holds up is work for the other to begin with.
        for name in transactions:
            (run.failpoints / f"{name}.after").write_text(json.dumps([0, None]))
        passed_by = [run.failpoints / f"{name}.over" for name in transactions]
        wait_until(lambda: _have_passed(run, passed_by), timeout_seconds=200, every_seconds=0.2)
    for name, wanted in transactions.items():
        notes = [json.loads(line) for line in (run.failpoints / f"{name}.died").read_text().splitlines()]
        deaths = [(note["n"], note["statement"]) for note in notes if "n" in note]
        passed = next(note["passed"] for note in notes if "passed" in note)
        run.row.want(wanted <= set(passed), f"{name}: {wanted - set(passed)} was not among what it died after")
        # By name and not by place: who judges with a warm engine reads less than who must rebuild it first, and what is
        # to be planned grows meanwhile.
        survived = wanted - {statement for _, statement in deaths}
        run.row.want(not survived, f"{name}: nobody died after {survived}; {deaths}")
        run.row.want(len(deaths) > len(passed), f"{name}: died {len(deaths)} times in {len(passed)} statements")
        for note in notes:
            run.row.want(not note.get("halves"), f"{name}: {note}")
        run.row.injected += len(deaths) - 1


def _have_passed(run: Run, over: Iterable[Path]) -> bool:
    """Tell whether both transactions have passed. Until then they are asked for again and again: a message that came
    back five times is dead, and sweep takes its time."""
    seen = halves_seen()
    assert not seen, f"a half of a transaction: {seen}"
    if all(path.exists() for path in over):
        return True
    if not queue_lengths()["analysis.0"]:
        for feed in run.feeds * 2:
            flow.judge_soon(feed_id=feed.pk)
    if not queue_lengths()["notifications"]:
        channel_ids = [channel.pk for channel in run.channels.values()]
        current_app.send_task("pipeline.notify_alerts", [channel_ids], queue="notifications")
    return False


def hold_up_by_bad_receivers(run: Run) -> None:
    """X2: programs that fail, ask for a pause, hang, break off, are gone, and lead elsewhere; others are told all the
    same, and nobody is led anywhere."""
    everybody_told = threading.Event()
    gone_from = run.rng.randint(3, 6)
    to_metadata = (("Location", "http://169.254.169.254/latest/meta-data/"),)
    run.receiver.manners |= {
        "failing": _fails_thrice(),
        "limited": lambda asked: Answer(429, (("Retry-After", "2"),)) if asked.request in (1, 4) else OK,
        "hanging": lambda asked: OK if everybody_told.is_set() else Answer(None, held_by=everybody_told),
        "resetting": lambda asked: Answer(None) if asked.repeat == 1 and asked.request % 3 == 1 else OK,
        "gone": lambda asked: OK if asked.request < gone_from else Answer(410),
        "redirected": lambda asked: Answer(302, to_metadata),
        "trapped": lambda asked: Answer(302, (("Location", run.receiver.url("trap")),)),
    }
    run.refused = {"gone", "redirected", "trapped"}
    run.start_roles(notifier=("notifications",), retrier=("retries",))
    run.start_beat()
    with run.strike():
        others = Owed.objects.exclude(channel=run.channels["hanging"])
        wait_until(lambda: run.is_over(but=others), timeout_seconds=90, every_seconds=0.1)
        wait_until(lambda: sum(one.channel == "hanging" for one in list(run.receiver.requests)) > 4)
    run.row.want(
        Message.objects.filter(channel=run.channels["hanging"], status__in=Message.UNSENT).exists(),
        "nothing waited for the one that hangs",
    )
    everybody_told.set()
    run.drain()
    run.row.injected = sum(not one.is_taken for one in run.receiver.requests)


def _fails_thrice() -> Manner:
    """Fail the first three tries of every third message: long enough for what comes after it to be on its way."""
    seen: list[str] = []

    def manner(asked: Asked) -> Answer:
        if asked.repeat == 1:
            seen.append(asked.message_id)
        return Answer(500) if asked.repeat <= 3 and seen.index(asked.message_id) % 3 == 0 else OK

    return manner


def bad_receivers_were_no_matter(run: Run) -> None:
    """Check the rest of X2: schedule and pauses kept, refusals told, no request led elsewhere."""
    told, row = run.receiver.requests, run.row
    for first, second in _tries(told, channel="failing"):
        least = RETRY_SECONDS[0] * (1 - domain.JITTER)
        row.want(second.at - first.at >= least, f"tried again after {second.at - first.at:.2f} s, not {least:.2f}")
    limited = [one for one in told if one.channel == "limited"]
    for one, after in itertools.pairwise(limited):
        if one.answer.status == 429:
            row.want(after.at - one.at >= 2, f"{after.at - one.at:.2f} s after it was asked to wait for 2")
    row.want(sum(one.answer.status == 429 for one in limited) == 2, "it was not asked to wait twice")
    for name in ("failing", "resetting", "hanging"):
        row.want(any(one.channel == name and not one.is_taken for one in told), f"{name} has failed nothing")
    row.want(not any(one.channel == "trap" for one in told), "a redirect was followed")
    for name in run.refused:
        refused = Channel.objects.get(pk=run.channels[name].pk)
        row.want(not refused.is_enabled and refused.switched_off_because, f"{name} is still on")
        notices = Message.objects.filter(kind=Message.Kind.NOTICE, subject__contains=name)
        ends = [(one.channel.name, one.status) for one in notices]
        row.want([status for _, status in ends] == ["delivered"], f"its owner was told that {name} is off: {ends}")
        row.want(all(one.channel_id != refused.pk for one in notices), f"{name} itself was told that it is off")
        asked = [one for one in told if one.channel == name]
        row.want(sum(not one.is_taken for one in asked) == 1, f"{name} was asked again after it had refused")
    hung = [
        line for line in run.processes.log("notifier").splitlines() if "message tried" in line and "timeout" in line
    ]
    # Until the first failure is on record, one more may have been sent to those who tell the others.
    row.want(len(hung) <= 2, f"the notifier waited {len(hung)} times for the one that hangs")


def close_every_port(run: Run) -> None:
    """X3: nobody listens for as long as the schedule lasts; then everything given up is sent again by its owner."""
    hooks = [channel for name, channel in run.channels.items() if name != "inbox"]
    run.start_roles()
    run.start_beat()
    with run.strike():
        pass

    def is_given_up() -> bool:
        # In place of further ticks: of a channel that fails, each tries one message.
        flow.tell_due()
        return run.is_over()

    wait_until(is_given_up, timeout_seconds=240, every_seconds=0.1)
    dead = Message.objects.filter(status=Message.Status.DEAD)
    given_up = dead.count()
    run.row.injected = given_up
    run.row.want(given_up == Message.objects.filter(channel__in=hooks).count() > 0, "not everything was given up")
    run.row.want(not run.receiver.requests, "somebody listened")
    owner = hooks[0].owner
    seen = message_counts_of(owner, since=owner.date_joined)
    run.row.want(seen.dead == given_up, f"its owner sees {seen.dead} of {given_up}")
    run.receiver.open()
    # By the button of the admin, and by the command.
    again = notify.redeliver(messages=dead.filter(channel=hooks[0]), now=timezone.now())
    call_command("redeliver", channel=hooks[1].name, stdout=StringIO())
    run.row.want(again and not dead.exists(), "not everything was sent again")


def freeze_workers(run: Run) -> None:
    """W1: whole workers stop in the middle of a step for longer than leases and heartbeats, while others go on with
    their work; then they wake up and want to end what they had begun."""
    for number in range(3):
        run.start(f"worker-{number}", *itertools.chain(*ROLES.values()), hands=FROZEN_HANDS)
    run.start_beat()
    is_late = threading.Event()
    failed: list[str] = []

    def fails_once(asked: Asked) -> Answer:
        # One message fails, and its sender freezes with that in its hand. Who tries it next is held up until that one
        # is awake and has said what it knows.
        if not failed:
            failed.append(asked.message_id)
            return Answer(500)
        return Answer(200, held_by=is_late) if asked.message_id == failed[0] else OK

    with run.strike(pause_seconds=1):
        # One of them somewhere; then one with an answer in its hand, so that the third goes on with the work of both.
        other = run.rng.choice(["fetch-answered", "claim-after-commit", "store-after-commit", "judge-after-commit"])
        run.arm(other, how=STOP)
        run.wait_for_fire(other)
        run.arm("failed-after-send", how=STOP)
        run.receiver.manners["one"] = fails_once
        run.wait_for_fire("failed-after-send")
        frozen_at = time.monotonic()
        wait_until(lambda: run.receiver.count(failed[0]) == 2, timeout_seconds=90)
        time.sleep(max(frozen_at + run.size.freeze_seconds - time.monotonic(), 0))
        # First the sender alone, before its worker learns that the broker has given its tasks away, and ends it.
        os.kill(int((run.failpoints / "failed-after-send.stopped").read_text()), signal.SIGCONT)
        late = Attempt.objects.filter(message=failed[0], outcome=Attempt.Outcome.FAILED)
        wait_until(late.exists)
        # Long enough for a third to be sent, if what the late one said had counted.
        time.sleep(1.5)
        tries = run.receiver.count(failed[0])
        run.row.want(tries == 2, f"{tries} tries of what failed late")
        is_late.set()
        for worker in run.workers.values():
            os.killpg(worker.pid, signal.SIGCONT)
    run.row.injected = 2
    # Whatever else they were sending when they froze was sent by others too.
    run.row.allowed = 2 * FROZEN_HANDS


def say_everything_twice(run: Run) -> None:
    """W3: every message is published twice; then all of them again, when all is over."""
    with Wiretap() as tap:
        run.start_roles()
        run.start_beat()
        with run.strike():
            pass
        run.drain()
        Feed.objects.update(is_enabled=False)
        run.processes.kill(run.beat)
        run.wait_for_quiet()
        before = _checksums()
    replayed = tap.replay()
    run.wait_for_quiet()
    run.stop_workers()
    after = _checksums()
    run.row.injected = 2 * replayed
    names = {one.headers["task"] for one in tap.heard}
    run.row.want(names >= TASKS, f"{TASKS - names} was not among the messages")
    for table, rows in before.items():
        run.row.want(after[table] == rows, f"{table}: {rows} before the replay, {after[table]} after it")


TASKS = {
    "pipeline.tick",
    "pipeline.sweep",
    "pipeline.fetch_quotes",
    "pipeline.evaluate_rules",
    "pipeline.notify_alerts",
    "pipeline.deliver",
}
TABLES = (
    *("market_quote", "market_batch", "market_latestquote", "rules_rulestate", "rules_transition"),
    *("alerts_alert", "alerts_alertevent", "notify_owed", "notify_message", "notify_attempt"),
)


def _checksums() -> dict[str, tuple[int, str]]:
    """Return table -> (rows, a digest of all of them)."""
    sums = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t")
            sums[table] = cursor.fetchone()
    return sums


def _children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _tries(told: Iterable[Told], *, channel: str) -> Iterator[tuple[Told, Told]]:
    """Give the tries of each message of a channel, each with the next."""
    by_id: dict[str, list[Told]] = defaultdict(list)
    for one in told:
        if one.channel == channel:
            by_id[one.message_id].append(one)
    for tries in by_id.values():
        yield from itertools.pairwise(tries)


RETRY_SECONDS = (0.5, *[1.0] * 40)


@dataclass(frozen=True, slots=True)
class Fault:
    """inject: starts the processes and does it; check: what is to be looked at besides the sets; has_exact_repeats: as
    many as allowed, not fewer; is_down: nobody listens at first."""

    inject: Callable[[Run], None]
    check: Callable[[Run], None] = lambda run: None
    channels: tuple[str, ...] = CHANNELS
    environment: dict[str, str] = field(default_factory=dict)
    has_exact_repeats: bool = False
    is_down: bool = False


FAULTS = {
    "K1": Fault(kill_children, check=no_task_was_lost),
    "K2": Fault(kill_workers, check=no_task_was_lost),
    "K3": Fault(kill_between_answer_and_commit, has_exact_repeats=True),
    "K4": Fault(kill_after_each_statement),
    "X2": Fault(
        hold_up_by_bad_receivers,
        check=bad_receivers_were_no_matter,
        channels=(*CHANNELS, "failing", "limited", "hanging", "resetting", "gone", "redirected", "trapped"),
        environment={
            "FAULT_RETRY_SECONDS": ",".join(map(str, RETRY_SECONDS)),
            "FAULT_SEND_SECONDS": "2",
            "FAULT_LEASE_SECONDS": "20",
        },
    ),
    "X3": Fault(close_every_port, environment={"FAULT_RETRY_SECONDS": "0.3"}, is_down=True),
    "W1": Fault(freeze_workers, environment={"FAULT_RETRY_SECONDS": "0.5,1,1,1"}),
    "W3": Fault(say_everything_twice, environment={"FAULT_LEASE_SECONDS": "20"}),
}


def run_fault(name: str, *, seed: int, size: Size, folder: Path) -> Row:
    """Run one fault and return what was found, deviations among it."""
    fault, rng = FAULTS[name], random.Random(f"{name} {seed}")
    row = Row(fault=name, seed=seed)
    films = world.draw_films(rng=rng, size=size)
    receiver = Receiver()
    (folder / "failpoints").mkdir()
    environment = {
        "FAILPOINTS_FOLDER": str(folder / "failpoints"),
        "FAULT_BEHIND_SECONDS": "2",
        "OUTBOUND_ALLOW": "127.0.0.1",
    }
    if name == "W1":
        environment |= {
            "FAULT_HEARTBEAT_SECONDS": str(size.heartbeat_seconds),
            "FAULT_LEASE_SECONDS": str(size.freeze_seconds - 2),
        }
    configs = {one: {} if one == "inbox" else {"url": receiver.url(one)} for one in fault.channels}
    if not fault.is_down:
        receiver.open()
    try:
        with (
            override_settings(OUTBOUND_ALLOW=[place("127.0.0.1")]),
            rig(folder, **environment, **fault.environment) as processes,
        ):
            feeds, channels = world.make_world(films, size=size, folder=folder, channels=configs)
            run = Run(row, rng, size, folder, films, receiver, feeds, channels, processes)
            visitor = Visitor(processes) if size.has_visitor else None
            fault.inject(run)
            run.drain()
            if visitor is not None:
                visitor.leave()
                row.http500 = len(visitor.errors)
                row.want(visitor.visits > 10 and not visitor.errors, f"the site: {visitor.errors}")
            _compare(run)
            fault.check(run)
    finally:
        receiver.close()
    if fault.has_exact_repeats:
        row.want(row.repeats_same_id == row.allowed, f"{row.repeats_same_id} repeats, not {row.allowed}")
    return row


def _compare(run: Run) -> None:
    """Compare what is on record, and what was received, with the film and the oracle."""
    row = run.row
    _compare_record(run)
    taken = [one for one in run.receiver.requests if one.is_taken and one.channel != "trap"]
    events = set(AlertEvent.objects.values_list("alert_id", "kind"))
    for name, channel in run.channels.items():
        messages = Message.objects.filter(channel=channel)
        delivered = {str(pk) for pk in messages.filter(status="delivered").values_list("pk", flat=True)}
        if name == "inbox":
            pairs = Owed.objects.filter(message__in=delivered).values_list("event__alert_id", "event__kind")
            told = Counter(pairs)
        else:
            by_id = {one.message_id: one for one in taken if one.channel == name}
            row.want(set(by_id) == delivered, f"{name}: ids received are not those of the messages delivered")
            told = Counter(pair for one in by_id.values() for pair in one.told)
            requests = [one for one in run.receiver.requests if one.channel == name]
            bodies = {one.message_id: one.body for one in requests}
            row.want(all(one.body == bodies[one.message_id] for one in requests), f"{name}: one id, two texts")
            _compare_order(row, [one for one in taken if one.channel == name])
        row.dup_deliveries += sum(times - 1 for times in told.values())
        dead = messages.filter(status="dead")
        row.dead += dead.count()
        if name in run.refused:
            unpaid = set(Owed.objects.filter(message__in=dead).values_list("event__alert_id", "event__kind"))
            owed = set(Owed.objects.filter(channel=channel).values_list("event__alert_id", "event__kind"))
            row.want(set(told) | unpaid == owed and not set(told) & unpaid, f"{name}: neither told nor given up")
        else:
            row.deliveries_expected += len(events)
            row.delivered += len(events & set(told))
            row.lost += len(events - set(told))
            row.want(not set(told) - events, f"{name}: told of what is not on record")
            row.want(not dead.exists(), f"{name}: {dead.count()} given up")
    times = Counter(one.message_id for one in taken)
    row.repeats_same_id = sum(times.values()) - len(times)
    row.want(row.repeats_same_id <= row.allowed, f"{row.repeats_same_id} repeats, {row.allowed} allowed")
    row.want(row.lost == 0, f"{row.lost} lost")
    row.want(row.dup_deliveries == 0, f"{row.dup_deliveries} told in two messages")
    row.want(row.injected > 0, "nothing was injected")
    row.want(row.in_flight > run.size.in_flight, f"only {row.in_flight} under way")


def _compare_record(run: Run) -> None:
    row = run.row
    film = {quote for one in run.films for quote in one.rows}
    stored = set(Quote.objects.values_list("asset__symbol", "at", "price"))
    row.quotes_in, row.stored = len(film), len(stored & film)
    row.want(stored == film, f"quotes: {len(film - stored)} missing, {len(stored - film)} that are not the film's")
    expected = set().union(*(one.expected_alerts() for one in run.films))
    actual = list(Alert.objects.values_list("rule__name", "asset__symbol", "opened_at", "resolved_at"))
    row.alerts_expected, row.alerts = len(expected), len(set(actual) & expected)
    openings = Counter((rule, symbol, opened) for rule, symbol, opened, _ in actual)
    row.dup_alerts = sum(openings.values()) - len(openings)
    row.want(row.dup_alerts == 0, f"{row.dup_alerts} alerts twice")
    row.want(set(actual) == expected, f"alerts: missing {expected - set(actual)}, more {set(actual) - expected}")
    wanted = {(*one[:3], "opened") for one in expected} | {(*one[:3], "resolved") for one in expected if one[3]}
    kinds = AlertEvent.objects.values_list("alert__rule__name", "alert__asset__symbol", "alert__opened_at", "kind")
    row.want(Counter(kinds) == Counter(wanted), "events are not one for each step of each alert")
    debts = Counter(Owed.objects.values_list("event", "channel"))
    row.want(all(times == 1 for times in debts.values()), "a debt twice")
    for feed in run.feeds:
        numbers = list(Batch.objects.filter(feed=feed).order_by("seq").values_list("seq", flat=True))
        row.want(numbers == list(range(1, len(numbers) + 1)), f"the log of {feed} has holes")
    halves = halves_seen()
    row.want(not halves, f"halves: {halves}")


def _compare_order(row: Row, taken: list[Told]) -> None:
    """No program is told that something is over before it was told that it is."""
    opened: set[int] = set()
    for one in taken:
        opened |= {alert for alert, event in one.told if event == "opened"}
        early = {alert for alert, event in one.told if event == "resolved"} - opened
        row.want(not early, f"{one.channel}: the end of {early} before its beginning")
