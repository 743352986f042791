"""Which messages a worker takes."""

import json

import pytest
from celery.worker import consumer

from apps.pipeline.consumer import Consumer, why_refused

KNOWN = ("pipeline.tick",)
HEADERS = {
    "task": "pipeline.tick", "id": "5", "eta": None, "expires": None, "retries": 0, "timelimit": [None, None],
    "argsrepr": "()", "kwargsrepr": "{}", "root_id": "5", "parent_id": None, "shadow": None, "origin": "beat",
}  # fmt: skip
BODY = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]


def refused(body=BODY, **headers):
    return why_refused(HEADERS | headers, lambda: body, known=KNOWN)


def test_of_celerys_steps_only_that_for_later_tasks_is_left_out():
    left_out = set(consumer.Consumer.Blueprint.default_steps) - set(Consumer.Blueprint.default_steps)
    assert left_out == {"celery.worker.consumer.delayed_delivery:DelayedDelivery"}


def test_what_celery_sends_is_taken():
    assert refused() == ""
    assert refused(timelimit=[60, 45.5], expires="2026-11-29T12:00:00+00:00", retries=3) == ""


@pytest.mark.parametrize("headers", [None, {}, [], {"task": 5}, {"task": None}])
def test_what_names_no_task_is_refused(headers):
    assert why_refused(headers, lambda: BODY, known=KNOWN) == "it has no header `task`"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"task": "os.system"}, "there is no such task"),
        ({"id": None}, "its header `id` is no text of 1 to 255 characters"),
        ({"id": ""}, "its header `id` is no text of 1 to 255 characters"),
        ({"id": 5}, "its header `id` is no text of 1 to 255 characters"),
        ({"id": "x" * 256}, "its header `id` is no text of 1 to 255 characters"),
        ({"eta": "2099-01-01T00:00:00"}, "it has an `eta`; tasks run at once"),
        ({"eta": 0}, "it has an `eta`; tasks run at once"),
        ({"expires": 5}, "its header `expires` is no text"),
        ({"shadow": []}, "its header `shadow` is no text"),
        ({"retries": "1"}, "its header `retries` is no whole number"),
        ({"retries": True}, "its header `retries` is no whole number"),
        ({"timelimit": "x"}, "its header `timelimit` is no pair of seconds"),
        ({"timelimit": [1]}, "its header `timelimit` is no pair of seconds"),
        ({"timelimit": ["1", None]}, "its header `timelimit` is no pair of seconds"),
        ({"timelimit": [-1, None]}, "its header `timelimit` is no pair of seconds"),
    ],
)
def test_a_header_that_no_worker_can_use_is_refused(headers, why):
    assert refused(**headers) == why


@pytest.mark.parametrize("body", [[], None, 5, "x", {}, [[], {}], [1, {}, {}], [[], [], {}], [[], {}, []]])
def test_a_body_that_is_no_call_is_refused(body):
    assert refused(body=body).startswith("its ")


@pytest.mark.parametrize("text", ["{", "[" * 100_000])
def test_a_body_that_cannot_be_read_is_refused(text):
    why = why_refused(HEADERS, lambda: json.loads(text), known=KNOWN)
    assert why.startswith("its body cannot be read (")
