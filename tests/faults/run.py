"""What a run of a fault finds, as one line; and a run under way, of which a fault drives the processes."""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from django.db import connection
from django.db.models import F, Max, Q, QuerySet

from apps.market.models import Feed, FeedEntry, FeedHead
from apps.notify.models import Channel, Message, Notification
from tests.faults import world
from tests.faults.network import Network
from tests.faults.receiver import Receiver
from tests.faults.world import Size
from tests.rig import Rig, queue_lengths, wait_until

MODULE = "tests.faults.failpoints"
ROLES = {"watcher": ("ticks", "assets-tasks"), "analyzer": ("analysis.0",), "notifier": ("notifications", "retries")}
HANDS = {"watcher": 2, "analyzer": 1, "notifier": 2}
# Whether somebody of a role is at work just now.
AT_WORK: dict[str, Callable[[], bool]] = {
    "watcher": lambda: FeedHead.objects.exclude(lease_until=None).exists(),
    "analyzer": lambda: FeedEntry.objects.filter(evaluated_at=None).exists(),
    "notifier": lambda: Message.objects.filter(status=Message.Status.SENDING).exists(),
}


@dataclass(slots=True)
class Row:
    """What one run found. allowed: as many repeats, one for each process that may have died over what it sent."""

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
    failed: int = 0
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
            f"repeats_same_id={self.repeats_same_id} (allowed<={self.allowed}) failed={self.failed} "
            f"http500={'-' if self.http500 is None else self.http500} "
            f"recover_s={self.recover_s:.1f} injected={self.injected} in_flight={self.in_flight}"
        )

    def want(self, is_so: object, text: str) -> None:
        """Note a deviation where something is not so."""
        if not is_so:
            self.deviations.append(text)


@dataclass(slots=True, repr=False)
class Run:
    """One run under way."""

    row: Row
    rng: random.Random
    size: Size
    folder: Path
    recordings: list[world.Recording]
    receiver: Receiver
    feeds: list[Feed]
    channels: dict[str, Channel]
    processes: Rig
    # Its own, by name, where its fault is one of servers.
    servers: dict[str, Any]
    # The first is that of every process that is given no other.
    networks: list[Network] = field(default_factory=list)
    workers: dict[str, Any] = field(default_factory=dict)
    beat: Any = None
    # Monotonic time of the last injection's end, and what had come about by then.
    struck_at: float = 0.0
    pending: dict[str, Any] = field(default_factory=dict)
    # From when to when PostgreSQL was away, by the wall clock.
    outages: list[tuple[datetime, datetime]] = field(default_factory=list)
    # Channels whose programs refuse everything from some time on.
    refused: set[str] = field(default_factory=set)

    @property
    def failpoints(self) -> Path:
        return self.folder / "failpoints"

    def start(
        self, name: str, *queues: str, hands: int = 2, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Start a worker, or start it again."""
        worker = self.processes.worker(*queues, name=name, concurrency=hands, include=MODULE, **environment)
        self.workers[name] = worker

    def start_beat(self, *, environment: Mapping[str, str] = MappingProxyType({})) -> None:
        # Without canaries, which would be work that never ends.
        self.beat = self.processes.beat(**environment, LIVENESS_DIR="")

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
                "entry": FeedEntry.objects.aggregate(last=Max("pk"))["last"],
                "notifications": Notification.objects.aggregate(last=Max("pk"))["last"] or 0,
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

    def is_over(self, *, but: QuerySet[Notification] | None = None) -> bool:
        """The recordings are stored and evaluated to their ends, and no notification waits; but: of these
        notifications, where not all are looked at."""
        self._note_recovery()
        if not self.is_stored() or FeedHead.objects.filter(feed__evaluation_cursor__seq__lt=F("seq")).exists():
            return False
        if but is not None:
            return not but.filter(Q(message=None) | Q(message__status__in=Message.UNSENT)).exists()
        return not _has_work_left()

    def is_stored(self) -> bool:
        """The recordings are stored to their ends."""
        as_of = dict(FeedHead.objects.values_list("feed_id", "as_of"))
        pairs = zip(self.feeds, self.recordings, strict=True)
        return all((at := as_of[feed.pk]) is not None and at >= recording.end for feed, recording in pairs)

    def _note_recovery(self) -> None:
        if self.struck_at and not self.row.recover_s:
            evaluated = not FeedEntry.objects.filter(pk__lte=self.pending["entry"], evaluated_at=None).exists()
            unsent = Q(message=None) | Q(message__status__in=Message.UNSENT)
            if evaluated and not Notification.objects.filter(unsent, pk__lte=self.pending["notifications"]).exists():
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
    """Return how many quotes are stored and not evaluated, notifications not planned, and notifications whose message
    is not sent."""
    with connection.cursor() as cursor:
        cursor.execute("""
            SELECT (SELECT count(*) FROM market_quote q JOIN market_feedentry b ON b.id = q.entry_id
                    WHERE b.evaluated_at IS NULL AND b.kind = 'quotes')
                 + (SELECT count(*) FROM notify_notification o LEFT JOIN notify_message m ON m.id = o.message_id
                    WHERE m.id IS NULL OR m.status IN ('pending', 'sending'))""")
        return int(cursor.fetchone()[0])


def _has_work_left() -> bool:
    unsent = Q(message=None) | Q(message__status__in=Message.UNSENT)
    return (
        Notification.objects.filter(unsent).exists()
        or Message.objects.filter(status__in=Message.UNSENT).exists()
        or FeedEntry.objects.filter(evaluated_at=None, kind="quotes", accepted__gt=0).exists()
    )


def _work_waiting() -> Iterable[int]:
    return [count for name, count in queue_lengths().items() if name != "dead-letters"]
