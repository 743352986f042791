from apps.market.providers.protocol import Limits


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
