"""The scheduler of beat: by the monotonic clock alone, and without a file."""

from collections import Counter
from datetime import timedelta

import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from apps.pipeline import scheduler
from fintech.celery import app


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self):
        self.seconds = 1_000.0

    def monotonic(self):
        return self.seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(scheduler, "time", clock)
    return clock


def make_scheduler(sent, *, fails=(), **periods):
    """Return a scheduler of entries with these periods in seconds, which adds the names that it sends to `sent`."""
    celery = Celery(broker="memory://", set_as_current=False)
    celery.conf.beat_schedule = {
        name: {"task": name, "schedule": timedelta(seconds=seconds)} for name, seconds in periods.items()
    }
    one = scheduler.Scheduler(app=celery)

    def send(name, *_, **__):
        sent.append(name)
        if name in fails:
            raise OperationalError("no broker")

    one.send_task = send
    return one


def test_each_entry_is_sent_at_once_and_then_once_a_period(clock):
    sent = []
    one = make_scheduler(sent, tick=1, sweep=5)

    for _ in range(50):
        clock.seconds += one.tick()
    assert Counter(sent) == {"tick": 50, "sweep": 10}


def test_after_a_pause_each_entry_is_sent_once(clock):
    sent = []
    one = make_scheduler(sent, tick=1, sweep=5)
    one.tick()
    sent.clear()

    clock.seconds += 3_600
    waits = [one.tick(), one.tick()]
    assert (sorted(sent), waits) == (["sweep", "tick"], [1.0, 1.0])


def test_an_entry_that_cannot_be_sent_stops_no_other_and_is_sent_in_its_next_turn(clock):
    sent = []
    one = make_scheduler(sent, fails={"tick"}, tick=1, sweep=1)

    for _ in range(2):
        clock.seconds += one.tick()
    assert Counter(sent) == {"tick": 2, "sweep": 2}


def test_beat_has_this_scheduler_and_leaves_no_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    beat = app.Beat(quiet=True)
    service = beat.Service(app, scheduler_cls=beat.scheduler_cls)

    assert isinstance(service.scheduler, scheduler.Scheduler)
    service.sync()
    assert list(tmp_path.iterdir()) == []
