"""Faults of the servers: RabbitMQ, PostgreSQL and Redis are stopped, killed, frozen, full or slow, each in a function
that injects it into a run, some with another that checks what is special to it."""

import json
import os
import re
import signal
import threading
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import psycopg
from amqp.exceptions import AMQPError, MessageNacked
from celery import current_app
from django.db import connection
from django.utils import timezone
from kombu import Producer
from kombu.exceptions import OperationalError

from apps.market import cache, queries
from apps.market.models import Asset, Feed, FeedHead, LatestQuote
from apps.pipeline import flow
from apps.pipeline.queues import EXCHANGE, PUSHED
from tests.faults.failpoints import STOP
from tests.faults.injections import received_tasks
from tests.faults.run import HANDS, ROLES, Run
from tests.rig import dead_letters, wait_until


class Publisher:
    """It publishes numbers with the settings of the application, as fast as they are confirmed, to a queue that nobody
    reads meanwhile."""

    def __init__(self) -> None:
        self.confirmed: set[int] = set()
        self.failures = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._publish, daemon=True)
        self._thread.start()

    def _publish(self) -> None:
        number = 0
        while not self._is_over.is_set():
            try:
                with current_app.connection_for_write() as broker:
                    producer = Producer(broker.channel(), exchange=EXCHANGE, routing_key=PUSHED)
                    while not self._is_over.is_set():
                        number += 1
                        producer.publish(str(number), content_type="text/plain", delivery_mode=2, confirm_timeout=3)
                        self.confirmed.add(number)
                        time.sleep(0.002)
            except (AMQPError, MessageNacked, OperationalError, OSError):
                self.failures += 1
                time.sleep(0.1)

    def wait_for_failure(self) -> None:
        """Wait until a publish that is refused or unanswered has come back with an error."""
        before = self.failures
        wait_until(lambda: self.failures > before, timeout_seconds=60)

    def end(self) -> set[int]:
        """Stop, and return the numbers that are stored, which are taken away."""
        self._is_over.set()
        self._thread.join(60)
        stored = set()
        with current_app.connection_for_write() as broker:
            while (one := broker.default_channel.basic_get(PUSHED, no_ack=True)) is not None:
                stored.add(int(one.body))
        return stored

    def check(self, run: Run) -> None:
        """Check that whatever was confirmed is stored."""
        stored = self.end()
        run.row.want(self.confirmed, "nothing was confirmed")
        run.row.want(self.confirmed <= stored, f"{len(self.confirmed - stored)} confirmed and not stored")


def _begin(run: Run) -> None:
    run.start_roles()
    run.start_beat()


def stop_broker(run: Run) -> None:
    """B1: RabbitMQ is stopped, and started again after a while."""
    _begin(run)
    with run.strike(pause_seconds=1):
        run.servers["broker"].control("stop_app")
        time.sleep(run.size.outage_seconds)
        run.servers["broker"].control("start_app")
    _allow_cancelled(run)


def kill_broker(run: Run) -> None:
    """B2: kill -9 of RabbitMQ while everybody publishes."""
    _kill_broker(run, times=1)


def kill_broker_again_and_again(run: Run) -> None:
    """B3: the same ten times in a row; after each, the workers of each role do work again."""
    _kill_broker(run, times=10)


def _kill_broker(run: Run, *, times: int) -> None:
    _begin(run)
    publisher = Publisher()
    with run.strike(pause_seconds=1):
        for _ in range(times):
            wait_for = len(publisher.confirmed) + 50
            wait_until(lambda wait_for=wait_for: len(publisher.confirmed) > wait_for, timeout_seconds=60)
            run.servers["broker"].end()
            run.servers["broker"].start()
            _wait_for_every_role(run)
    run.row.injected += times - 1
    _allow_cancelled(run, times=times)
    publisher.check(run)


def _allow_cancelled(run: Run, *, times: int = 1) -> None:
    """Allow a repeat for each sender: a worker that loses the broker cancels what it is at, which others do again."""
    run.row.allowed += times * HANDS["notifier"]


def _wait_for_every_role(run: Run) -> None:
    """Wait until a worker of each role has done a task that was sent now."""
    marks = run.folder / "marks"
    queues = [queues[-1] for queues in ROLES.values()]
    for queue in queues:
        (marks / queue).unlink(missing_ok=True)
    with current_app.connection_for_write() as broker:
        for queue in queues:
            signed = current_app.signature("pipeline.mark_alive", (queue,), immutable=True)
            signed.apply_async(queue=queue, connection=broker)
    wait_until(lambda: all((marks / queue).exists() for queue in queues), timeout_seconds=60)


def raise_memory_alarm(run: Run) -> None:
    """B4: RabbitMQ has too little memory, and stops reading what is published."""
    _begin(run)
    publisher = Publisher()
    with run.strike(pause_seconds=1):
        run.servers["broker"].control("set_vm_memory_high_watermark", "absolute", "1")
        publisher.wait_for_failure()
        time.sleep(run.size.outage_seconds)
        run.servers["broker"].control("set_vm_memory_high_watermark", "0.4")
    publisher.check(run)


def freeze_broker(run: Run) -> None:
    """B5: RabbitMQ is stopped in the middle of its work, answers nobody, and goes on."""
    _begin(run)
    publisher = Publisher()
    with run.strike(pause_seconds=1):
        run.servers["broker"].send(signal.SIGSTOP)
        publisher.wait_for_failure()
        time.sleep(run.size.outage_seconds)
        run.servers["broker"].send(signal.SIGCONT)
    _allow_cancelled(run)
    publisher.check(run)


def fill_queues(run: Run) -> None:
    """B6: queues are full while nobody evaluates or notifies, so the broker refuses what is published. All is fetched
    meanwhile and nothing afterwards, so that no fetch dispatches again what was refused."""
    _begin(run)
    with run.strike(pause_seconds=1):
        for role in ("analyzer", "notifier"):
            run.processes.kill(run.workers[role])
            run.row.allowed += HANDS[role] * (role == "notifier")
        run.servers["broker"].control("set_policy", "short", "^(analysis.*|notifications|quotes)$", '{"max-length":1}')
        publisher = Publisher()
        wait_until(lambda: publisher.failures > 10, timeout_seconds=60)
        time.sleep(run.size.outage_seconds)
        publisher.check(run)
        wait_until(run.is_stored, timeout_seconds=120, every_seconds=0.2)
        Feed.objects.update(is_enabled=False)
        # It ends what it is at, and publishes no evaluation any more.
        run.workers["watcher"].terminate()
        run.workers["watcher"].wait(timeout=60)
        run.servers["broker"].control("clear_policy", "short")
        # A full queue still takes the first message of each connection, and one evaluation does the work of all that
        # were refused; so would that of a fetch that was given back.
        with current_app.connection_for_write() as broker:
            for queue in ("assets-tasks", "analysis.0"):
                broker.default_channel.queue_purge(queue)
        for role in ROLES:
            run.start(role, *ROLES[role], hands=HANDS[role])


def restart_database(run: Run) -> None:
    """P1: PostgreSQL ends at once, as in a crash, and recovers."""
    _begin(run)
    for _ in run.strikes(range(max(run.size.kills // 3, 2)), pause_seconds=1):
        began_at = timezone.now()
        run.servers["database"].end(signal.SIGQUIT)
        run.servers["database"].start()
        run.outages.append((began_at, timezone.now()))
        run.row.allowed += HANDS["notifier"]


def stop_database(run: Run) -> None:
    """P2: PostgreSQL is stopped, and started again after a while."""
    _begin(run)
    with run.strike(pause_seconds=1):
        run.servers["database"].end(signal.SIGINT)
        time.sleep(run.size.outage_seconds)
        run.servers["database"].start()
    run.row.allowed += HANDS["notifier"]


def no_task_was_hot(run: Run) -> None:
    """Check the rest of P1, P2 and P6: no task was tried again and again, and none became a dead letter."""
    times = Counter(task_id for _, task_id in received_tasks(run))
    hot = {task_id: count for task_id, count in times.items() if count > 2 + run.size.outage_seconds}
    run.row.want(not hot, f"received too often: {hot}")
    dead = dead_letters()
    run.row.want(not dead, f"dead letters: {dead}")


def no_task_began_on_a_dead_connection(run: Run) -> None:
    """Check the rest of P1 and P6: what was received after PostgreSQL was back found a live connection. Rows alone
    would not show it, since sweep makes up for failed tasks."""
    no_task_was_hot(run)
    received: dict[str, datetime] = {}
    failed = []
    for line in _logs(run).splitlines():
        match = _OF_TASK.search(line)
        if match is None:
            continue
        at = datetime.fromisoformat(json.loads(line)["time"])
        if match[2] == "received":
            received[match[1]] = at
        elif "Error(" in line and not any(
            received[match[1]] <= back_at and at >= began_at for began_at, back_at in run.outages
        ):
            failed.append(line[-200:])
    run.row.want(len(received) > run.size.in_flight, f"only {len(received)} tasks received")
    run.row.want(not failed, f"failed though PostgreSQL was there: {failed}")


_OF_TASK = re.compile(r'"message": "Task pipeline\.\w+\[([0-9a-f-]+)\] (received|raised unexpected)')


def terminate_backends(run: Run) -> None:
    """P3: every connection to PostgreSQL is ended by the server, again and again."""
    _begin(run)
    with run.servers["database"].connect() as admin:
        for _ in run.strikes(range(run.size.kills), pause_seconds=2):
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'site'")
            # Django's own is among them.
            connection.close()
            run.row.allowed += HANDS["notifier"]


def evaluate_in_eight(run: Run) -> None:
    """P4: eight processes evaluate the same feeds at once."""
    run.start_roles(hands=HANDS | {"analyzer": 8})
    run.start_beat()
    for _ in run.strikes(range(run.size.kills), pause_seconds=1):
        for feed in run.feeds * 8:
            flow.evaluate_soon(feed_id=feed.pk)


LOCKED = ("rules_rulestate", "alerts_alert", "notify_message", "market_feedhead")


def hold_locks(run: Run) -> None:
    """P5: somebody holds a table that the chain writes to, for longer than a statement waits for a lock."""
    _begin(run)
    table = run.rng.choice(LOCKED)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'site' AND wait_event_type = 'Lock'"
    server = run.servers["database"]
    with server.connect() as admin, server.connect() as holder, run.strike(pause_seconds=1), holder.transaction():
        holder.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE".encode())
        wait_until(lambda: admin.execute(waiting).fetchone() != (0,), timeout_seconds=30)
        # Without the limit it waits for as long as the lock is held.
        wait_until(lambda: "canceling statement due to lock timeout" in _logs(run), timeout_seconds=60)
    run.row.allowed += HANDS["notifier"]


def _logs(run: Run) -> str:
    return "".join(run.processes.log(name) for name in run.workers)


def take_every_connection(run: Run) -> None:
    """P6: PostgreSQL has no connection left: those of the workers are ended, and others take them."""
    _begin(run)
    server = run.servers["database"]
    taken: list[psycopg.Connection[Any]] = []
    with server.connect() as admin, run.strike(pause_seconds=1):
        began_at = timezone.now()
        connection.close()
        admin.execute("ALTER ROLE site CONNECTION LIMIT 0")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'site'")
        with suppress(psycopg.OperationalError):
            while True:
                taken.append(server.connect())
        admin.execute("ALTER ROLE site CONNECTION LIMIT -1")
        wait_until(lambda: "sorry, too many clients" in _logs(run) or "remaining connection slots" in _logs(run))
        time.sleep(run.size.outage_seconds)
        pids = [one.info.backend_pid for one in taken]
        for one in taken:
            one.close()
        # The server ends them a moment later.
        left = "SELECT pid FROM pg_stat_activity WHERE pid = ANY(%s)"
        wait_until(lambda: not admin.execute(left, [pids]).fetchall())
        run.outages.append((began_at, timezone.now()))
    run.row.allowed += HANDS["notifier"]


class Reader:
    """It reads the newest prices all the time; `wrong` are prices that were never quoted, assets that had a price and
    have none, and, of the cache, prices older than one that it has given before."""

    def __init__(self, run: Run) -> None:
        self.wrong: list[str] = []
        self.reads = 0
        self._quotes = {quote for one in run.recordings for quote in one.rows}
        self._symbols = dict(Asset.objects.values_list("pk", "symbol"))
        self._seen: dict[int, datetime] = {}
        self._given: set[int] = set()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        ids = list(self._symbols)
        while not self._is_over.is_set():
            cached = cache.get_latest(ids, now=timezone.now())
            for asset_id, (at, price) in cached.items():
                self._look(asset_id, at, price)
                if at < self._seen.get(asset_id, at):
                    self.wrong.append(f"the cache went back to {at} of {self._symbols[asset_id]}")
                self._seen[asset_id] = at
            latest = queries.latest_prices(ids, now=timezone.now())
            for asset_id, (at, price) in latest.items():
                self._look(asset_id, at, price)
            self.wrong += [f"no price of {self._symbols[asset_id]} any more" for asset_id in self._given - set(latest)]
            self._given |= set(latest)
            self.reads += 1
            time.sleep(0.02)
        connection.close()

    def _look(self, asset_id: int, at: datetime, price: Decimal) -> None:
        if (self._symbols[asset_id], at, price) not in self._quotes:
            self.wrong.append(f"{self._symbols[asset_id]} had never {price} at {at}")

    def wait_for_reads(self) -> None:
        """Wait until reads that begin now have ended."""
        before = self.reads
        wait_until(lambda: self.reads > before + 2, timeout_seconds=30)

    def check(self, run: Run) -> None:
        """Stop, and check what was read, and that the cache says what the rows say in the end."""
        run.drain()
        wait_until(lambda: not FeedHead.objects.filter(is_cache_stale=True).exists(), timeout_seconds=60)
        self._is_over.set()
        self._thread.join(30)
        run.row.want(self.reads > 5 and not self.wrong, f"{self.reads} reads: {self.wrong[:5]}")
        rows = {one.asset_id: (one.at, one.price) for one in LatestQuote.objects.all()}
        found = cache.get_latest(list(rows), now=timezone.now())
        differing = {asset_id: (one, rows[asset_id]) for asset_id, one in found.items() if one != rows[asset_id]}
        run.row.want(not differing, f"the cache differs from the rows: {differing}")


def take_redis_away(run: Run) -> None:
    """R1: Redis is frozen for a while, then killed and started anew."""
    _begin(run)
    reader, server = Reader(run), run.servers["redis"]
    with run.strike(pause_seconds=1):
        server.send(signal.SIGSTOP)
        # Prices are read and quotes are stored meanwhile.
        reader.wait_for_reads()
        time.sleep(run.size.outage_seconds)
        server.send(signal.SIGCONT)
        server.end()
        reader.wait_for_reads()
        time.sleep(run.size.outage_seconds)
        server.start()
    reader.check(run)


def flush_redis(run: Run) -> None:
    """R2: every key of Redis vanishes, each second."""
    _begin(run)
    reader = Reader(run)
    reader.wait_for_reads()
    for _ in run.strikes(range(run.size.kills), pause_seconds=1):
        cache._client().flushall()
    reader.check(run)


def write_the_cache_late(run: Run) -> None:
    """R3: a worker stops between storing quotes and writing the cache, and writes it when newer ones are there."""
    for number in range(2):
        run.start(f"watcher-{number}", *ROLES["watcher"])
    run.start("analyzer", *ROLES["analyzer"], hands=1)
    run.start("notifier", *ROLES["notifier"])
    run.wait_until_ready()
    run.start_beat()
    reader = Reader(run)
    with run.strike(pause_seconds=1):
        run.arm("store-after-commit", how=STOP)
        run.wait_for_fire("store-after-commit")
        before = dict(FeedHead.objects.values_list("feed_id", "as_of"))
        # By the other worker.
        wait_until(lambda: all(as_of > before[pk] for pk, as_of in FeedHead.objects.values_list("feed_id", "as_of")))
        reader.wait_for_reads()
        for worker in run.workers.values():
            os.killpg(worker.pid, signal.SIGCONT)
        reader.wait_for_reads()
    reader.check(run)
