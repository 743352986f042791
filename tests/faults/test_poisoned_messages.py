"""What cannot be worked ends in the dead-letter queue after a few runs, and holds nobody up."""

import json

import pytest
from celery import current_app

from apps.pipeline.queues import FETCHES, TICKS, other_queues, work_queues
from tests.rig import dead_letters, queue_lengths, rig, wait_until

pytestmark = [pytest.mark.servers, pytest.mark.django_db(transaction=True)]


def test_a_task_that_kills_its_worker_is_dead_lettered_after_five_deliveries_more(tmp_path):
    with rig(tmp_path) as processes:
        processes.worker(FETCHES, include="tests.faults.poison")
        current_app.send_task("faults.poison", [str(tmp_path)], queue=FETCHES)
        current_app.send_task("faults.harmless", [str(tmp_path)], queue=FETCHES)
        wait_until(lambda: queue_lengths()["dead-letters"] == 1, timeout_seconds=60)
        wait_until(lambda: (tmp_path / "harmless").exists())
        left = queue_lengths()

    # What is delivered to a process that dies before it begins is a delivery without a run.
    assert 2 <= len((tmp_path / "runs").read_text()) <= 6
    assert left[FETCHES] == 0


BODIES = ("[]", "null", "5", '"x"', "{}", "{", "[" * 100_000)
BAD_HEADERS = ({"id": None}, {"timelimit": "x"}, {"eta": "2099-01-01T00:00:00+00:00"}, {"task": "no.such.task"})


def test_messages_that_no_worker_understands_are_dead_lettered_once_and_others_go_on(tmp_path):
    headers = {"task": "faults.harmless", "id": "1", "retries": 0, "timelimit": [None, None]}
    whole = json.dumps([[str(tmp_path)], {}, None])
    with rig(tmp_path) as processes:
        worker = processes.worker(FETCHES, include="tests.faults.poison")
        with current_app.connection_for_write() as broker:
            producer = current_app.amqp.Producer(broker)

            def publish(body, sent_headers, content_type="application/json"):
                address = {"exchange": "fintech", "routing_key": FETCHES}
                kind = {"content_type": content_type, "content_encoding": "utf-8"}
                producer.publish(body, headers=sent_headers, **address, **kind)

            for body in BODIES:
                publish(body, {})
                publish(body, headers)
            for wrong in BAD_HEADERS:
                publish(whole, headers | wrong)
            publish(b"\x80\x04N.", headers, "application/x-python-serialize")
        current_app.send_task("faults.harmless", [str(tmp_path)], queue=FETCHES)
        wait_until(lambda: (tmp_path / "harmless").exists())
        wait_until(lambda: queue_lengths()[FETCHES] == 0)
        sent = 2 * len(BODIES) + len(BAD_HEADERS) + 1
        wait_until(lambda: queue_lengths()["dead-letters"] >= sent)
        dead = dead_letters()
        is_alive = worker.poll() is None
        refusals = processes.log("worker").count('"message": "task message refused"')

    assert is_alive
    assert [one.reason for one in dead] == ["rejected"] * sent
    assert refusals == sent


def test_ticks_that_no_worker_takes_are_dropped_and_not_dead_lettered(tmp_path):
    with rig(tmp_path):
        for _ in range(40):
            current_app.send_task("pipeline.tick", queue=TICKS)
        wait_until(lambda: queue_lengths()[TICKS] <= 10)
        # With nothing dead-lettered by then, a message that is refused now comes first.
        current_app.send_task("faults.harmless", queue=FETCHES)
        with current_app.connection_for_write() as broker:
            taken = wait_until(lambda: broker.default_channel.basic_get(FETCHES))
            broker.default_channel.basic_reject(taken.delivery_tag, requeue=False)
        wait_until(lambda: queue_lengths()["dead-letters"] > 0)
        dead = [(message.task, message.queue, message.reason) for message in dead_letters()]

    assert dead == [("faults.harmless", FETCHES, "rejected")]


def test_the_first_worker_on_a_new_broker_declares_what_all_of_them_read(tmp_path):
    with rig(tmp_path) as processes:
        with current_app.connection_for_write() as broker:
            for queue in (*other_queues(), *work_queues()):
                queue.bind(broker.default_channel).delete()
        processes.worker(FETCHES, include="tests.faults.poison")
        wait_until(lambda: " ready." in processes.log("worker"))
        current_app.send_task("faults.harmless", [str(tmp_path)], queue=FETCHES)
        wait_until(lambda: (tmp_path / "harmless").exists())
        there = queue_lengths()
        log = processes.log("worker")

    assert set(there) == {queue.name for queue in (*other_queues(), *work_queues())}
    assert "Failed to" not in log
