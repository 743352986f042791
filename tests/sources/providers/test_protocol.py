from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.sources.providers.protocol import (
    DAY,
    HOUR,
    MINUTE,
    HistoryLimits,
    HistoryRange,
    HistoryRequest,
    Limits,
    step_for,
)

NOON = datetime(2026, 3, 17, 12, tzinfo=UTC)


def test_a_round_takes_a_call_per_batch():
    limits = Limits(batch_size=200, shortest_interval_seconds=1)

    assert [limits.calls_for(count) for count in (0, 1, 200, 201, 401)] == [0, 1, 1, 2, 3]


def test_rounds_lie_so_far_apart_that_each_limit_holds():
    by_day = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_minute=5, calls_per_day=25)
    by_minute = Limits(batch_size=1, shortest_interval_seconds=7, calls_per_minute=30)

    assert [by_day.interval_seconds_for(calls) for calls in (0, 1, 3)] == [1, 3_456, 10_368]
    assert [by_minute.interval_seconds_for(calls) for calls in (0, 3, 4, 5)] == [7, 7, 8, 10]
    assert Limits(batch_size=1, shortest_interval_seconds=60).interval_seconds_for(1_000) == 60


def test_where_a_round_takes_a_share_of_them_each_has_its_turn():
    one = Limits(batch_size=1, shortest_interval_seconds=1, calls_per_round=1)
    four = Limits(batch_size=2, shortest_interval_seconds=1, calls_per_round=2)
    names = ["a", "b", "c", "d", "e"]

    assert ["".join(one.round_of(names, turn=turn)) for turn in range(6)] == ["a", "b", "c", "d", "e", "a"]
    assert ["".join(four.round_of(names, turn=turn)) for turn in range(3)] == ["abcd", "eabc", "deab"]
    assert [four.calls_for(count) for count in (0, 1, 3, 5, 100)] == [0, 1, 2, 2, 2]


def test_all_are_asked_for_where_a_round_takes_them():
    some = Limits(batch_size=2, shortest_interval_seconds=1, calls_per_round=2)
    every = Limits(batch_size=2, shortest_interval_seconds=1)

    assert some.round_of(["a", "b", "c", "d"], turn=3) == ["a", "b", "c", "d"]
    assert every.round_of(["a", "b", "c", "d", "e"], turn=3) == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("span", "step"),
    [
        (timedelta(), MINUTE),
        (2 * DAY, MINUTE),
        (2 * DAY + MINUTE, HOUR),
        (60 * DAY, HOUR),
        (60 * DAY + MINUTE, DAY),
        (5_000 * DAY, DAY),
    ],
)
def test_the_longer_a_span_is_the_longer_is_its_step(span, step):
    assert step_for(span, [MINUTE, HOUR, DAY]) == step


def test_a_step_that_a_provider_does_not_have_is_the_next_longer_one_or_the_longest():
    assert step_for(DAY, [HOUR, DAY]) == HOUR
    assert step_for(DAY, [DAY]) == DAY
    assert step_for(100 * DAY, [MINUTE, HOUR]) == HOUR


def test_the_candles_of_a_stretch_end_inside_it():
    history_range = HistoryRange(since=NOON + timedelta(minutes=10), reached=NOON + timedelta(hours=3), step=HOUR)

    assert (history_range.first_start, history_range.last_start) == (NOON, NOON + HOUR)
    assert not history_range.is_empty


@pytest.mark.parametrize(
    ("since", "reached", "is_empty"),
    [
        (NOON, NOON + timedelta(microseconds=1), False),
        (NOON - timedelta(microseconds=1), NOON, True),
        (NOON + timedelta(microseconds=1), NOON + HOUR, True),
        (NOON + HOUR, NOON, True),
    ],
)
def test_a_stretch_is_empty_where_no_candle_ends_in_it(since, reached, is_empty):
    assert HistoryRange(since=since, reached=reached, step=HOUR).is_empty == is_empty


@given(
    since=st.datetimes(datetime(1990, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC)),
    span=st.timedeltas(timedelta(microseconds=1), timedelta(days=4_000)),
    points=st.integers(1, 2_000),
)
def test_pages_follow_each_other_and_none_has_more_candles_than_a_call_gives(since, span, points):
    limits = HistoryLimits(steps=[MINUTE, HOUR, DAY], points=points)
    request = HistoryRequest(external_id="A", since=since, until=since + span, options={})

    history_range = limits.range_of(request, now=since)

    assert since < history_range.reached <= request.until
    assert (history_range.last_start - history_range.first_start) // history_range.step < points
    assert since <= history_range.first_start + history_range.step < since + history_range.step
    # Where more is wanted, the page is full and the next one begins with the next candle.
    assert (
        history_range.reached == request.until
        or history_range.reached == history_range.last_start + 2 * history_range.step
    )


def test_nothing_is_asked_from_before_the_reach():
    limits = HistoryLimits(steps=[DAY], points=100, reach=30 * DAY)
    request = HistoryRequest(external_id="A", since=NOON - 90 * DAY, until=NOON, options={})

    assert limits.range_of(request, now=NOON).since == NOON - 30 * DAY
    assert limits.page_for(90 * DAY) == 100 * DAY
