"""The fault matrix: each fault with its surroundings, and what carries one out.

A run: a recording drawn by the seed, real workers on real servers, three channels, a fault while work is under way,
then quiet, then every set compared with what the oracle says.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from django.test import override_settings

from fintech.settings.env import place
from tests.faults import injections, networks, outages, world
from tests.faults.comparing import compare
from tests.faults.network import RECEIVER, Network
from tests.faults.own import own_servers
from tests.faults.receiver import Receiver
from tests.faults.run import Row, Run
from tests.faults.visitor import Visitor
from tests.faults.world import Size
from tests.rig import rig

CHANNELS = ("one", "two", "inbox")


@dataclass(frozen=True, slots=True)
class Fault:
    """inject: starts the processes and does it; check: what is to be looked at besides the sets; has_exact_repeats: as
    many as allowed, not fewer; is_down: nobody listens at first; servers: which are the run's own; disk_megabytes: the
    size of the disk of each of those, 0 for that of the machine; networks: how many there are between processes and
    servers; is_long: `make faults` has 5 seeds of it at most; is_in_test: `make test` has one small run of it."""

    inject: Callable[[Run], None]
    check: Callable[[Run], None] = lambda run: None
    channels: tuple[str, ...] = CHANNELS
    environment: dict[str, str] = field(default_factory=dict)
    has_exact_repeats: bool = False
    is_down: bool = False
    servers: tuple[str, ...] = ()
    disk_megabytes: int = 0
    networks: int = 0
    is_long: bool = False
    is_in_test: bool = True


FAULTS = {
    "K1": Fault(injections.kill_children, check=injections.no_task_was_lost),
    "K2": Fault(injections.kill_workers, check=injections.no_task_was_lost),
    "K3": Fault(injections.kill_between_answer_and_commit, has_exact_repeats=True),
    "K4": Fault(injections.kill_after_each_statement),
    "X2": Fault(
        injections.hold_up_by_bad_receivers,
        check=injections.bad_receivers_were_no_matter,
        channels=(*CHANNELS, "failing", "limited", "hanging", "resetting", "gone", "redirected", "trapped"),
        environment={
            "FAULT_RETRY_SECONDS": ",".join(map(str, injections.RETRY_SECONDS)),
            "FAULT_SEND_SECONDS": "2",
            "FAULT_LEASE_SECONDS": "20",
        },
    ),
    "X3": Fault(injections.close_every_port, environment={"FAULT_RETRY_SECONDS": "0.3"}, is_down=True),
    "W1": Fault(injections.freeze_workers, environment={"FAULT_RETRY_SECONDS": "0.5,1,1,1"}),
    "W3": Fault(injections.say_everything_twice, environment={"FAULT_LEASE_SECONDS": "20"}),
    "B1": Fault(outages.stop_broker, servers=("broker",), is_long=True, is_in_test=False),
    "B2": Fault(outages.kill_broker, servers=("broker",), is_in_test=False),
    "B3": Fault(outages.kill_broker_again_and_again, servers=("broker",), is_long=True, is_in_test=False),
    "B4": Fault(outages.raise_memory_alarm, servers=("broker",), is_long=True, is_in_test=False),
    "B5": Fault(outages.freeze_broker, servers=("broker",), is_long=True, is_in_test=False),
    "B6": Fault(outages.fill_queues, servers=("broker",), is_long=True, is_in_test=False),
    "P1": Fault(outages.restart_database, check=outages.no_task_began_on_a_dead_connection, servers=("database",)),
    "P2": Fault(outages.stop_database, check=outages.no_task_was_hot, servers=("database",), is_long=True),
    "P3": Fault(outages.terminate_backends, servers=("database",)),
    "P4": Fault(outages.evaluate_in_eight),
    "P5": Fault(outages.hold_locks, servers=("database",)),
    "P6": Fault(
        outages.take_every_connection,
        check=outages.no_task_began_on_a_dead_connection,
        servers=("database",),
        is_long=True,
    ),
    "R1": Fault(outages.take_redis_away, servers=("redis",), is_long=True, is_in_test=False),
    "R2": Fault(outages.flush_redis, servers=("redis",), is_in_test=False),
    "R3": Fault(outages.write_the_cache_late, servers=("redis",), is_in_test=False),
    "N1": Fault(networks.partition, networks=2, is_long=True, is_in_test=False),
    "N2": Fault(
        networks.bad_network,
        environment={"FAULT_LEASE_SECONDS": "20", "FAULT_HEARTBEAT_SECONDS": "2", "FAULT_RETRY_SECONDS": "0.5,1,1,1"},
        networks=1,
        is_long=True,
        is_in_test=False,
    ),
    "D1": Fault(
        networks.fill_disks, servers=("broker", "database"), disk_megabytes=200, is_long=True, is_in_test=False
    ),
}


@contextmanager
def _networks(count: int, *, receiver: Receiver, rng: random.Random) -> Iterator[list[Network]]:
    made = [Network(receiver_port=receiver.port, rng=rng) for _ in range(count)]
    try:
        for network in made:
            network.open()
        yield made
    finally:
        for network in made:
            network.close()


def run_fault(name: str, fault: Fault, *, seed: int, size: Size, folder: Path) -> Row:
    """Run one fault and return what was found, deviations among it."""
    rng = random.Random(f"{name} {seed}")
    row = Row(fault=name, seed=seed)
    recordings = world.draw_recordings(rng=rng, size=size)
    receiver = Receiver()
    (folder / "failpoints").mkdir()
    environment = {
        "FAILPOINTS_FOLDER": str(folder / "failpoints"),
        "FAULT_BEHIND_SECONDS": "2",
        "OUTBOUND_ALLOW": "127.0.0.1",
        "LIVENESS_DIR": str(folder / "marks"),
    }
    if name in ("W1", "N1"):
        environment |= {
            "FAULT_HEARTBEAT_SECONDS": str(size.heartbeat_seconds),
            "FAULT_LEASE_SECONDS": str(size.freeze_seconds - 2),
        }
    if not fault.is_down:
        receiver.open()
    try:
        with (
            own_servers(fault.servers, disk_megabytes=fault.disk_megabytes) as servers,
            override_settings(OUTBOUND_ALLOW=[place("127.0.0.1")]),
            _networks(fault.networks, receiver=receiver, rng=rng) as between,
            rig(folder, **environment, **fault.environment, **(between[0].environment if between else {})) as processes,
        ):
            port = between[0].doors[RECEIVER].port if between else receiver.port
            urls = {one: f"http://127.0.0.1:{port}/{one}" for one in fault.channels}
            configs = {one: {} if one == "inbox" else {"url": url} for one, url in urls.items()}
            feeds, channels = world.make_world(recordings, size=size, folder=folder, channels=configs)
            run = Run(row, rng, size, folder, recordings, receiver, feeds, channels, processes, servers, between)
            visitor = Visitor(processes, may_be_unavailable="database" in servers) if size.has_visitor else None
            fault.inject(run)
            run.drain()
            if visitor is not None:
                visitor.leave()
                row.http500 = len(visitor.errors)
                row.want(visitor.visits > 10 and not visitor.errors, f"the site: {visitor.errors}")
            compare(run)
            fault.check(run)
    finally:
        receiver.close()
    if fault.has_exact_repeats:
        row.want(row.repeats_same_id == row.allowed, f"{row.repeats_same_id} repeats, not {row.allowed}")
    return row
