"""The faults, each a function that injects it into a run, some with another that checks what is special to it."""

import itertools
import json
import os
import re
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import StringIO
from pathlib import Path

from celery import current_app
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from apps.market.models import Feed
from apps.market.services import pause_feeds, resume_feeds
from apps.notify import domain
from apps.notify import services as notify
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.queries import message_counts_of
from apps.pipeline import flow
from fintech.celery import PERIODS
from tests.faults.failpoints import EVALUATED, PLANNED, STOP
from tests.faults.halves import halves_seen
from tests.faults.receiver import OK, Answer, Asked, Behaviour, ReceivedRequest
from tests.faults.run import HANDS, ROLES, Run
from tests.faults.wiretap import Wiretap
from tests.rig import queue_lengths, wait_until

FROZEN_HANDS = 3
# After the first try, and after each further one.
RETRY_SECONDS = (0.5, *[1.0] * 40)


def kill_children(run: Run) -> None:
    """K1: kill -9 of a random child of a pool, again and again."""
    run.start_roles()
    run.start_beat()
    for role in run.strikes(run.rng.choices(sorted(run.workers), k=run.size.kills), pause_seconds=1):
        kill_child(run, role)


def kill_child(run: Run, role: str) -> None:
    """Kill one of the children of the worker of a role, while that has something in hand."""
    run.wait_for_work(role)
    # None, for a moment, where its only one has just been killed.
    pids = wait_until(lambda: children(run.workers[role].pid))
    os.kill(run.rng.choice(pids), signal.SIGKILL)
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
    # That a child is gone is sometimes seen after seconds only; until then nobody gives its task back.
    with suppress(AssertionError):
        wait_until(lambda: not not_done(run), every_seconds=0.2)
    lost, received = not_done(run), received_tasks(run)
    run.stop_workers()
    run.row.want(len(received) > run.size.in_flight, f"only {len(received)} tasks received")
    run.row.want(not lost, f"received, and never done: {sorted(lost)}")


def received_tasks(run: Run, *workers: str) -> list[tuple[str, str]]:
    """Return (name, id) of each task as the logs of these workers, or of all, have it, as often as it was received."""
    return [match for name in workers or run.workers for match in _RECEIVED.findall(run.processes.log(name))]


def not_done(run: Run, *workers: str) -> set[tuple[str, str]]:
    """Return those of them that nobody has worked to their end."""
    done = set((run.failpoints / "done").read_text().split())
    # Beat's own come again: their queue is short, and drops the oldest.
    return {one for one in received_tasks(run, *workers) if one[1] not in done and one[0] not in PERIODS}


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
    """K4: the process dies after the first statement of the transaction that evaluates, then after the second, and so
    on; and the same with the one that plans."""
    # That a child is gone is sometimes seen after seconds only; meanwhile its neighbours go on.
    run.start_roles(hands={"watcher": 2, "analyzer": 6, "notifier": 4})
    run.start_beat()
    transactions = {"evaluate": EVALUATED, "plan": PLANNED}
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
        # By name and not by place: who evaluates with a warm engine reads less than who must rebuild it first, and what
        # is to be planned grows meanwhile.
        survived = wanted - {statement for _, statement in deaths}
        run.row.want(not survived, f"{name}: nobody died after {survived}; {deaths}")
        run.row.want(len(deaths) > len(passed), f"{name}: died {len(deaths)} times in {len(passed)} statements")
        for note in notes:
            run.row.want(not note.get("halves"), f"{name}: {note}")
        run.row.injected += len(deaths) - 1


def _have_passed(run: Run, over: Iterable[Path]) -> bool:
    """Tell whether both transactions have passed. Until then they are asked for again and again: a message that came
    back five times is failed, and sweep takes its time."""
    seen = halves_seen()
    assert not seen, f"a half of a transaction: {seen}"
    if all(path.exists() for path in over):
        return True
    if not queue_lengths()["analysis.0"]:
        for feed in run.feeds * 2:
            flow.evaluate_soon(feed_id=feed.pk)
    if not queue_lengths()["notifications"]:
        channel_ids = [channel.pk for channel in run.channels.values()]
        current_app.send_task("pipeline.notify_alerts", [channel_ids], queue="notifications")
    return False


def hold_up_by_bad_receivers(run: Run) -> None:
    """X2: programs that fail, ask for a pause, hang, break off, are gone, and lead elsewhere; others get their
    messages all the same, and no redirect is followed."""
    others_are_done = threading.Event()
    # Not the first: it is there before it is gone.
    gone_from = run.rng.randint(2, len(run.feeds))
    to_metadata = (("Location", "http://169.254.169.254/latest/meta-data/"),)
    run.receiver.defaults |= {
        "failing": _fails_thrice(),
        "limited": lambda asked: Answer(429, (("Retry-After", "2"),)) if asked.request in (1, 3) else OK,
        "hanging": lambda asked: OK if others_are_done.is_set() else Answer(None, waits_for=others_are_done),
        "resetting": lambda asked: Answer(None) if asked.repeat == 1 and asked.request % 3 == 1 else OK,
        "gone": lambda asked: OK if asked.request < gone_from else Answer(410),
        # As a proxy does while it is restarted.
        "redirected": lambda asked: Answer(302, to_metadata) if asked.request == 1 else OK,
        "trapped": lambda asked: Answer(302, (("Location", run.receiver.url("trap")),)) if asked.repeat == 1 else OK,
    }
    run.refused = {"gone"}
    run.start_roles(notifier=("notifications",), retrier=("retries",))
    # A slow machine plans all alerts of its feeds in one message. Each feed waits for messages about the one before.
    pause_feeds(feed.pk for feed in run.feeds[1:])
    run.start_beat()
    for number, feed in enumerate(run.feeds[1:], start=1):
        wait_until(lambda number=number: _asked(run, "gone") >= number)
        resume_feeds([feed.pk])
    with run.strike():
        others = Notification.objects.exclude(channel=run.channels["hanging"])
        wait_until(lambda: run.is_over(but=others), timeout_seconds=90, every_seconds=0.1)
        wait_until(lambda: _asked(run, "hanging") > 4)
    run.row.want(
        Message.objects.filter(channel=run.channels["hanging"], status__in=Message.UNSENT).exists(),
        "nothing waited for the one that hangs",
    )
    others_are_done.set()
    run.drain()
    run.row.injected = sum(not one.is_taken for one in run.receiver.requests)


def _asked(run: Run, channel: str) -> int:
    """Return how many requests have come to a channel."""
    return sum(one.channel == channel for one in list(run.receiver.requests))


def _fails_thrice() -> Behaviour:
    """Fail the first three tries of every third message: long enough for what comes after it to be on its way."""
    seen: list[str] = []

    def behaviour(asked: Asked) -> Answer:
        if asked.repeat == 1:
            seen.append(asked.message_id)
        return Answer(500) if asked.repeat <= 3 and seen.index(asked.message_id) % 3 == 0 else OK

    return behaviour


def bad_receivers_were_no_matter(run: Run) -> None:
    """Check the rest of X2: schedule and pauses kept, owners notified of refusals, no redirect followed."""
    received, row = run.receiver.requests, run.row
    for first, second in _tries(received, channel="failing"):
        least = RETRY_SECONDS[0] * (1 - domain.JITTER)
        row.want(second.at - first.at >= least, f"tried again after {second.at - first.at:.2f} s, not {least:.2f}")
    limited = [one for one in received if one.channel == "limited"]
    for one, after in itertools.pairwise(limited):
        if one.answer.status == 429:
            row.want(after.at - one.at >= 2, f"{after.at - one.at:.2f} s after it was asked to wait for 2")
    row.want(sum(one.answer.status == 429 for one in limited) == 2, "it was not asked to wait twice")
    for name in ("failing", "resetting", "hanging", "redirected", "trapped"):
        row.want(any(one.channel == name and not one.is_taken for one in received), f"{name} has failed nothing")
    row.want(not any(one.channel == "trap" for one in received), "a redirect was followed")
    row.want(any(one.channel == "gone" and one.is_taken for one in received), "gone was never there")
    for name in run.refused:
        refused = Channel.objects.get(pk=run.channels[name].pk)
        row.want(not refused.is_enabled and refused.switched_off_because, f"{name} is still on")
        asked = [one for one in received if one.channel == name]
        row.want(sum(not one.is_taken for one in asked) == 1, f"{name} was asked again after it had refused")
    hanging = {str(pk) for pk in Message.objects.filter(channel=run.channels["hanging"]).values_list("pk", flat=True)}
    lines = [line for line in run.processes.log("notifier").splitlines() if '"message": "message tried"' in line]
    hung = [one for one in map(json.loads, lines) if one["reason"] == "timeout" and one["message_id"] in hanging]
    # Until the first failure is on record. Whoever was sent for before that leaves it to the retrier.
    row.want(len(hung) == 1, f"the notifier waited {len(hung)} times for the one that hangs")


def close_every_port(run: Run) -> None:
    """X3: nobody listens for as long as the schedule lasts; then everything given up is sent again by its owner."""
    hooks = [channel for name, channel in run.channels.items() if name != "inbox"]
    run.start_roles()
    run.start_beat()
    with run.strike():
        pass

    def is_given_up() -> bool:
        # In place of further ticks: of a channel that fails, each tries one message.
        flow.notify_due()
        return run.is_over()

    wait_until(is_given_up, timeout_seconds=240, every_seconds=0.1)
    failed = Message.objects.filter(status=Message.Status.FAILED)
    given_up = failed.count()
    run.row.injected = given_up
    run.row.want(given_up == Message.objects.filter(channel__in=hooks).count() > 0, "not everything was given up")
    run.row.want(not run.receiver.requests, "somebody listened")
    owner = hooks[0].owner
    seen = message_counts_of(owner, since=owner.date_joined)
    run.row.want(seen.failed == given_up, f"its owner sees {seen.failed} of {given_up}")
    run.receiver.open()
    # By the button of the admin, and by the command.
    again = notify.redeliver(messages=failed.filter(channel=hooks[0]), now=timezone.now())
    call_command("redeliver", channel=hooks[1].name, stdout=StringIO())
    run.row.want(again and not failed.exists(), "not everything was sent again")


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
        return Answer(200, waits_for=is_late) if asked.message_id == failed[0] else OK

    with run.strike(pause_seconds=1):
        # One of them somewhere; then one with an answer in its hand, so that the third goes on with the work of both.
        other = run.rng.choice(["fetch-answered", "claim-after-commit", "store-after-commit", "judge-after-commit"])
        run.arm(other, how=STOP)
        run.wait_for_fire(other)
        run.arm("failed-after-send", how=STOP)
        run.receiver.defaults["one"] = fails_once
        run.wait_for_fire("failed-after-send")
        frozen_at = time.monotonic()
        wait_until(lambda: run.receiver.count(failed[0]) >= 2, timeout_seconds=90)
        leased_until = Message.objects.get(pk=failed[0]).lease_until
        time.sleep(max(frozen_at + run.size.freeze_seconds - time.monotonic(), 0))
        # First the sender alone, before its worker learns that the broker has given its tasks away, and ends it.
        os.kill(int((run.failpoints / "failed-after-send.stopped").read_text()), signal.SIGCONT)
        late = Attempt.objects.filter(message=failed[0], outcome=Attempt.Outcome.TRANSIENT_FAILURE)
        wait_until(late.exists)
        # Long enough for a third to be sent, if what the late one said had counted.
        time.sleep(1.5)
        message = Message.objects.get(pk=failed[0])
        # On a slow machine the second may have outlived its lease, and then there is a third for that reason.
        is_untouched = message.attempts == 2 or timezone.now() > leased_until
        run.row.want(
            message.status == Message.Status.SENDING and is_untouched,
            f"{message.attempts} tries of what failed late, and it is {message.status}",
        )
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
    *("market_quote", "market_feedentry", "market_latestquote", "rules_rulestate", "rules_transition"),
    *("alerts_alert", "alerts_alertevent", "notify_notification", "notify_message", "notify_attempt"),
)


def _checksums() -> dict[str, tuple[int, str]]:
    """Return table -> (rows, a digest of all of them)."""
    sums = {}
    with connection.cursor() as cursor:
        for table in TABLES:
            cursor.execute(f"SELECT count(*), md5(string_agg(t::text, '' ORDER BY t::text)) FROM {table} t")
            sums[table] = cursor.fetchone()
    return sums


def children(pid: int) -> list[int]:
    """Return the ids of the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _tries(received: Iterable[ReceivedRequest], *, channel: str) -> Iterator[tuple[ReceivedRequest, ReceivedRequest]]:
    """Give the tries of each message of a channel, each with the next."""
    by_id: dict[str, list[ReceivedRequest]] = defaultdict(list)
    for one in received:
        if one.channel == channel:
            by_id[one.message_id].append(one)
    for tries in by_id.values():
        yield from itertools.pairwise(tries)
