"""Faults of the network between processes and servers (N1, N2), and of the disk (D1)."""

import json
import time

from django.db import connection
from django.test import RequestFactory

from apps.market.models import FeedEntry
from apps.notify.models import Message
from apps.site.probes import status
from tests.faults.injections import not_done, received_tasks
from tests.faults.network import BROKER, DATABASE, RECEIVER, REDIS
from tests.faults.outages import Publisher
from tests.faults.own import Server
from tests.faults.run import HANDS, ROLES, Run
from tests.rig import wait_until

# Each worker of N1 has every role, with so many processes.
HANDS_EACH = 3
DELAY_SECONDS = 0.05
RESET_SHARE = 0.002
# A statement whose answer is lost ends with the time of its task: 45 s.
LONGEST_WAIT = 240
# RabbitMQ's limit is 50 MB.
ALARM_MEGABYTES = 20


def stopped_codes() -> set[str]:
    """Return the codes that /status gives for what has stopped."""
    answer = status(RequestFactory().get("/status"))
    return {one["code"] for one in json.loads(answer.content)["reasons"]}


def _progress() -> tuple[int, int]:
    return (
        FeedEntry.objects.exclude(evaluated_at=None).count(),
        Message.objects.filter(status=Message.Status.DELIVERED).count(),
    )


def partition(run: Run) -> None:
    """N1: the network of one worker holds everything up for longer than leases and heartbeats, while another worker
    goes on; then nothing gets through for anybody, until health says so."""
    first, second = run.networks
    for number, network in enumerate((first, second)):
        queues = [queue for queues in ROLES.values() for queue in queues]
        run.start(f"worker-{number}", *queues, hands=HANDS_EACH, environment=network.environment)
    run.wait_until_ready()
    run.start_beat(environment=second.environment)
    with run.strike(pause_seconds=1):
        # Its notifications still reach their receivers: what cannot be said is that they did.
        for name in (BROKER, DATABASE, REDIS):
            first.doors[name].hold()
        in_hand = not_done(run, "worker-0")
        before, until = _progress(), time.monotonic() + run.size.freeze_seconds
        wait_until(lambda: _progress() > before, timeout_seconds=60)
        time.sleep(max(until - time.monotonic(), 0))
        # RabbitMQ takes the first for dead, and gives the second what that had in hand.
        wait_until(lambda: in_hand <= set(received_tasks(run, "worker-1")), timeout_seconds=90)
        _wait_until_well(run)
        second.hold()
        wait_until(lambda: "not_checked" in stopped_codes(), timeout_seconds=60, every_seconds=0.5)
        first.release()
        second.release()
    wait_until(run.is_over, timeout_seconds=LONGEST_WAIT, every_seconds=0.2)
    _wait_until_well(run)
    # What each had sent, and could not say.
    run.row.allowed = 3 * HANDS_EACH


def _wait_until_well(run: Run) -> None:
    """Wait until health no longer says that nothing is checked."""
    wait_until(lambda: "not_checked" not in stopped_codes(), timeout_seconds=90, every_seconds=0.5)


def bad_network(run: Run) -> None:
    """N2: everything takes 50 ms each way, one piece in 500 ends its connection, and the connections to one
    server after the other lose whatever goes one way."""
    (network,) = run.networks
    for door in network.doors.values():
        door.delay_seconds = DELAY_SECONDS
    run.start_roles()
    for door in network.doors.values():
        door.reset_share = RESET_SHARE
    run.start_beat()
    names = [BROKER, DATABASE, REDIS, RECEIVER]
    run.rng.shuffle(names)
    lost = dict.fromkeys(names, 0)
    for name in run.strikes(names, pause_seconds=1):
        lost[name] = network.doors[name].swallow(to_server=run.rng.random() < 0.5)
        if name in (BROKER, DATABASE):
            run.row.allowed += HANDS["notifier"]
    wait_until(run.is_over, timeout_seconds=LONGEST_WAIT, every_seconds=0.2)
    # Slow ticks would wait for each other for ever, and what is compared is what has come to rest.
    for door in network.doors.values():
        door.delay_seconds, door.reset_share = 0.0, 0.0
    _wait_until_well(run)
    resets = sum(door.resets for door in network.doors.values())
    run.row.want(resets, "no connection was reset")
    run.row.want(sum(lost.values()), "no connection lost anything")
    # An answer, or its record, may be what was lost.
    run.row.allowed += resets


def fill_disks(run: Run) -> None:
    """D1: the disk of PostgreSQL is full for a while, then that of RabbitMQ, or the other way round."""
    run.start_roles()
    run.start_beat()
    for fill in run.strikes(run.rng.sample([_fill_database, _fill_broker], k=2), pause_seconds=1):
        fill(run)
        run.row.allowed += HANDS["notifier"]
    wait_until(run.is_over, timeout_seconds=LONGEST_WAIT, every_seconds=0.2)
    _wait_until_well(run)


def _fill_database(run: Run) -> None:
    server = run.servers[DATABASE]
    server.fill_disk()
    wait_until(lambda: "No space left on device" in server.log(), timeout_seconds=90)
    # That nothing is checked, or that feeds are behind, if some rows have room left.
    wait_until(stopped_codes, timeout_seconds=90, every_seconds=0.5)
    time.sleep(run.size.outage_seconds)
    _free(server)
    # Django's own connection may have ended with it.
    connection.close()


def _fill_broker(run: Run) -> None:
    server, publisher = run.servers[BROKER], Publisher()
    wait_until(lambda: publisher.confirmed, timeout_seconds=30)
    # To below its limit, at which it takes nothing more. Without any room its queues would die, and stay dead until it
    # is restarted.
    server.fill_disk(room_megabytes=ALARM_MEGABYTES)
    publisher.wait_for_failure()
    wait_until(lambda: "not_checked" in stopped_codes(), timeout_seconds=90, every_seconds=0.5)
    time.sleep(run.size.outage_seconds)
    _free(server)
    # It looks at its disk every few seconds; what waited in its sockets is stored then.
    before = len(publisher.confirmed)
    wait_until(lambda: len(publisher.confirmed) > before, timeout_seconds=60)
    publisher.check(run)


def _free(server: Server) -> None:
    server.free_disk()
    if not server.is_running:
        # As its supervisor does.
        server.start()
    # It may have crashed, and be recovering.
    wait_until(server.answers, timeout_seconds=60)
