"""Both readings of the rules on whole logs, worked out by hand: steps of instances, corrections, the clock, splits."""

from datetime import UTC, datetime

import pytest

from apps.rules.engine.engine import Engine
from tests.rules import comparing, logs, oracle
from tests.rules.comparing import units

pytestmark = pytest.mark.usefixtures("each_engine")

SECOND = 1_000_000
START = logs.START
UP = {"kind": "crosses_up", "level": 100}


class Log:
    """A log that is written down step by step; times in seconds after START."""

    def __init__(self):
        self.entries = []
        self.as_of = START

    def _next(self, seconds):
        self.as_of = max(self.as_of, START + int(seconds * SECOND))
        return len(self.entries) + 1, self.as_of

    def rule(self, condition, seconds=0, *, version=1, **others):
        change = oracle.Change(1, version, {"condition": condition, **others}, (1,))
        self.entries.append(oracle.RulesEntry(*self._next(seconds), (change,)))
        return self

    def quotes(self, *quotes):
        rows = tuple((1, START + int(seconds * SECOND), units(price)) for seconds, price in quotes)
        self.entries.append(oracle.QuotesEntry(*self._next(max(seconds for seconds, _ in quotes)), rows))
        return self

    def clock(self, seconds):
        self.entries.append(oracle.QuotesEntry(*self._next(seconds), ()))
        return self

    def history(self, *quotes):
        rows = tuple((1, START + int(seconds * SECOND), units(price)) for seconds, price in quotes)
        self.entries.append(oracle.HistoryEntry(*self._next(0), rows))
        return self

    def split(self, ratio, effective, seconds):
        numerator, denominator = map(int, ratio.split(":"))
        terms = (1, START + effective * SECOND, numerator, denominator)
        self.entries.append(oracle.SplitEntry(*self._next(seconds), *terms))
        return self

    def confirm(self, condition, seconds, *, version=1, **others):
        change = oracle.Change(1, version, {"condition": condition, **others}, (1,), resumes=True)
        self.entries.append(oracle.RulesEntry(*self._next(seconds), (change,)))
        return self

    def correction(self, *quotes, removed=()):
        gone = tuple((1, START + seconds * SECOND) for seconds in removed)
        rows = tuple((1, START + int(seconds * SECOND), units(price)) for seconds, price in quotes)
        self.entries.append(oracle.CorrectionEntry(*self._next(0), gone, rows))
        return self


def steps_of_the_oracle(log):
    return oracle.expected_transitions(log)


def steps_of_the_engine(log):
    engine, store = Engine(), comparing.Store(log)
    return [one for entry in log for one in engine.evaluate(store.entry_of(entry), store.before(entry.seq)).transitions]


@pytest.fixture(params=[steps_of_the_oracle, steps_of_the_engine], ids=["oracle", "engine"])
def steps(request):
    """Give the transitions that a log leads to: (to, seconds, reason), and "silent" where it is suppressed."""

    def made(log):
        return [
            (one.to_state, (one.moment - START) / SECOND, one.reason, *(["silent"] if one.suppressed else []))
            for one in request.param(log.entries)
        ]

    return made


def test_an_event_opens_and_resolves_in_one_step(steps):
    log = Log().rule(UP).quotes((0, 99), (10, 100), (20, 101), (30, 99), (40, 100))

    assert steps(log) == [
        ("firing", 10, "became_true"), ("inactive", 10, "event"),
        ("firing", 40, "became_true"), ("inactive", 40, "event"),
    ]  # fmt: skip


def test_an_event_within_the_cooldown_is_silent_and_one_at_its_end_notifies(steps):
    log = Log().rule(UP, cooldown="60s").quotes((0, 99), (10, 100), (20, 99), (69, 100), (69.5, 99), (70, 100))

    assert steps(log) == [
        ("firing", 10, "became_true"), ("inactive", 10, "event"),
        ("firing", 69, "became_true", "silent"), ("inactive", 69, "event", "silent"),
        ("firing", 70, "became_true"), ("inactive", 70, "event"),
    ]  # fmt: skip


def test_once_ends_with_the_first_event(steps):
    log = Log().rule(UP, trigger="once").quotes((0, 99), (10, 100), (20, 99), (30, 100))

    assert steps(log) == [("firing", 10, "became_true"), ("ended", 10, "once")]


def test_a_rule_added_between_two_quotes_sees_what_the_next_one_crosses(steps):
    log = Log().quotes((0, 99)).rule(UP, 5).quotes((10, 100))

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 10, "event")]


def test_a_price_already_beyond_when_the_rule_comes_crosses_nothing(steps):
    log = Log().quotes((0, 99), (1, 100)).rule(UP, 5).quotes((10, 101), (20, 100))

    assert steps(log) == []


def test_a_new_version_of_a_rule_sees_the_quote_before_it(steps):
    log = Log().rule(UP).quotes((0, 99)).rule(UP, 5, version=2).quotes((10, 100))

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 10, "event")]


@pytest.mark.parametrize(
    ("past", "expected"),
    [((5, 101), []), ((-5, 101), [("firing", 10, "became_true"), ("inactive", 10, "event")])],
    ids=["newer", "older"],
)
def test_history_that_is_newer_than_the_newest_quote_comes_before_the_next_one(steps, past, expected):
    log = Log().rule(UP).quotes((0, 99)).history(past).quotes((10, 102))

    assert steps(log) == expected


def test_nothing_opens_at_a_correction_and_the_next_quote_is_evaluated_by_it(steps):
    log = Log().rule({"kind": "above", "level": 100}).quotes((0, 99)).correction((0, 101)).clock(5).quotes((10, 101))

    assert steps(log) == [("firing", 10, "became_true")]


def test_nothing_resolves_at_a_correction(steps):
    log = Log().rule({"kind": "above", "level": 100}).quotes((0, 101)).correction((0, 99)).clock(5).quotes((10, 99))

    assert steps(log) == [("firing", 0, "became_true"), ("inactive", 10, "recovered")]


def test_what_is_deleted_is_not_the_quote_before_and_its_time_may_come_again(steps):
    log = Log().rule(UP).quotes((0, 99), (10, 500)).correction(removed=(10,)).quotes((10, 101))

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 10, "event")] * 2


def test_where_all_quotes_are_deleted_the_next_one_is_the_first(steps):
    log = Log().rule(UP).quotes((0, 99), (10, 500)).correction(removed=(0, 10)).quotes((5, 101), (6, 99), (7, 101))

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 10, "event")] * 2


def test_a_change_is_measured_from_the_corrected_price(steps):
    rise = {"kind": "rises", "percent": 10, "window": "60s"}
    log = Log().rule(rise).quotes((0, 100), (10, 100)).correction((0, 90)).quotes((20, 99), (69, 99), (70, 99))

    assert steps(log) == [("firing", 20, "became_true"), ("inactive", 70, "recovered")]


def test_a_rule_that_comes_after_a_correction_sees_what_it_left(steps):
    log = Log().quotes((0, 99), (10, 101)).correction((10, 98), removed=(0,)).rule(UP, 11).quotes((20, 100))

    assert steps(log) == [("firing", 20, "became_true"), ("inactive", 20, "event")]


def test_late_and_second_quotes_are_not_the_quote_before(steps):
    log = Log().rule(UP).quotes((10, 99), (10, 101), (5, 101), (20, 101))

    assert steps(log) == [("firing", 20, "became_true"), ("inactive", 20, "event")]


def test_what_has_crossed_has_not_crossed_again_when_the_clock_moves_on(steps):
    log = Log().rule(UP, expires_at="2030-01-01T00:00:00Z").quotes((0, 99)).quotes((10, 100)).clock(20)
    log.quotes((30, 101)).clock(40)

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 10, "event")]


def test_an_event_beside_a_state_opens_once_for_each_quote_and_never_by_the_clock(steps):
    above = {"kind": "above", "level": 100}
    log = Log().rule({"any": [UP, above]}, expires_at="2030-01-01T00:00:00Z").quotes((0, 99)).quotes((10, 101))
    for seconds in range(11, 16):
        log.clock(seconds)

    assert steps(log.quotes((20, 102)).clock(21)) == [
        ("firing", 10, "became_true"), ("inactive", 10, "event"),
        ("firing", 20, "became_true"), ("inactive", 20, "event"),
    ]  # fmt: skip


def test_an_event_expires_by_the_clock(steps):
    expires_at = datetime.fromtimestamp(START // SECOND + 30, UTC).isoformat()
    log = Log().rule(UP, expires_at=expires_at).quotes((0, 99)).clock(29.999999).clock(30).quotes((40, 101))

    assert steps(log) == [("ended", 30, "expired")]


def test_an_event_under_a_state_counts_where_both_hold(steps):
    log = Log().rule({"all": [UP, {"kind": "inside", "low": 90, "high": 110}]})
    log.quotes((0, 99), (10, 120), (20, 105), (30, 99), (40, 105))

    assert steps(log) == [("firing", 40, "became_true"), ("inactive", 40, "event")]


def test_stale_begins_by_the_clock_and_ends_with_a_quote(steps):
    log = Log().rule({"kind": "stale", "after": "60s"}).quotes((0, 1)).clock(59).clock(60).clock(70).quotes((65, 1))

    assert steps(log) == [("firing", 60, "became_true"), ("inactive", 65, "recovered")]


def test_a_quote_from_before_the_opening_ends_it_at_the_opening_and_the_clock_after_it_begins_the_next(steps):
    log = Log().rule({"kind": "stale", "after": "60s"}).quotes((0, 1)).clock(70).quotes((5, 1)).quotes((60, 1))

    assert steps(log) == [
        ("firing", 70, "became_true"), ("inactive", 70, "recovered"),
        ("firing", 70, "became_true"), ("inactive", 70, "recovered"),
    ]  # fmt: skip


def test_stale_waits_by_the_clock_too(steps):
    log = Log().rule({"kind": "stale", "after": "60s"}, **{"for": "30s", "keep_firing": "20s"})
    log.quotes((0, 1)).clock(60).clock(89).clock(90).quotes((95, 1)).clock(114).clock(115)

    assert steps(log) == [
        ("pending", 60, "became_true"), ("firing", 90, "held_long_enough"),
        ("recovering", 95, "became_false"), ("inactive", 115, "recovered"),
    ]  # fmt: skip


def test_where_nothing_was_ever_quoted_nothing_is_stale(steps):
    assert steps(Log().rule({"kind": "stale", "after": "1s"}).clock(3_600)) == []


def test_not_stale_is_false_by_the_clock(steps):
    log = Log().rule({"not": {"kind": "stale", "after": "60s"}}).quotes((0, 1)).clock(60)

    assert steps(log) == [("firing", 0, "became_true"), ("inactive", 60, "recovered")]


def test_windows_do_not_move_with_the_clock(steps):
    rise = {"kind": "rises", "percent": 10, "window": "60s"}
    log = Log().rule({"all": [rise, {"not": {"kind": "stale", "after": "1h"}}]}).quotes((0, 100), (10, 110)).clock(900)

    assert steps(log.quotes((910, 110))) == [("firing", 10, "became_true"), ("inactive", 910, "recovered")]


def test_the_recovery_of_a_leaf_is_in_force_within_a_combination(steps):
    log = Log().rule({"all": [{"kind": "above", "level": 100, "recovery": 90}, {"kind": "below", "level": 1000}]})

    assert steps(log.quotes((0, 95), (10, 101), (20, 95), (30, 90))) == [
        ("firing", 10, "became_true"), ("inactive", 30, "recovered"),
    ]  # fmt: skip


def test_a_calm_of_six_hours_is_not_seen_in_a_minute(steps):
    calm = [{"not": {"kind": kind, "percent": "0.01", "window": "6h"}} for kind in ("rises", "falls")]
    minutes = [*range(0, 183)]
    log = Log().rule({"all": calm}).quotes(*((60 * minute, 100) for minute in minutes))

    # The window begins on a grid of five minutes: at 3 h it reaches back 6 h and not a microsecond further.
    assert steps(log) == [("firing", 3 * 3_600, "became_true")]


def test_a_calm_begins_to_wait_only_when_it_is_known(steps):
    calm = {"not": {"kind": "rises", "percent": 1, "window": "60s"}}
    log = Log().rule(calm, **{"for": "20s"}).quotes(*((10 * place, 100) for place in range(7)))

    assert steps(log) == [("pending", 30, "became_true"), ("firing", 50, "held_long_enough")]


def test_unchanged_does_not_go_by_the_clock(steps):
    calm = {"any": [{"kind": "unchanged", "after": "20s"}, {"kind": "stale", "after": "1h"}]}
    log = Log().rule(calm).quotes((0, 1), (10, 1)).clock(500).quotes((501, 1), (502, 2))

    assert steps(log) == [("firing", 501, "became_true"), ("inactive", 502, "recovered")]


def test_history_that_is_added_moves_the_beginning_of_a_run(steps):
    log = Log().rule({"kind": "unchanged", "after": "20s"}).quotes((100, 1), (105, 1))
    log.history((85, 1), (80, 2)).quotes((106, 1))

    assert steps(log) == [("firing", 106, "became_true")]


def test_unknown_neither_fires_nor_resolves(steps):
    known = {"kind": "rises", "percent": 1, "window": "10s", "ref": "window_start"}
    log = Log().rule({"any": [{"kind": "above", "level": 100}, known]}).quotes((0, 101), (5, 99), (9, 99), (15, 99))

    assert steps(log) == [("firing", 0, "became_true"), ("inactive", 15, "recovered")]


FALL = {"kind": "falls", "percent": 50, "window": "60s"}


def test_a_split_that_is_known_in_time_is_no_fall(steps):
    log = Log().rule(FALL).quotes((0, 100), (10, 101)).split("20:1", 15, 20).quotes((30, "5.05"), (40, "2.5"))

    assert steps(log) == [("firing", 40, "became_true")]


def test_a_split_that_is_known_too_late_ends_what_it_opened(steps):
    log = Log().rule(FALL, **{"keep_firing": "60s"}).quotes((0, 100), (10, 5)).split("20:1", 10, 20)

    assert steps(log.quotes((30, 5), (35, "2.5"))) == [
        ("firing", 10, "became_true"), ("inactive", 20, "split"), ("firing", 35, "became_true"),
    ]  # fmt: skip


def test_an_episode_from_before_the_split_goes_on_by_adjusted_prices(steps):
    log = Log().rule(FALL).quotes((0, 100), (10, 40)).split("20:1", 15, 20).quotes((30, "2.4"), (40, "3"))

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 40, "recovered")]


@pytest.mark.parametrize(
    "leaf",
    [
        {"kind": "above", "level": 1},
        {"kind": "below", "level": 1},
        {"kind": "inside", "low": 1, "high": 2},
        {"kind": "outside", "low": 1, "high": 1000},
        UP,
        {"kind": "crosses_down", "level": 1},
        {"kind": "crosses", "level": 1},
        {"kind": "enters", "low": 1, "high": 2},
        {"kind": "exits", "low": 1, "high": 2},
        {"any": [FALL, {"not": {"kind": "above", "level": 1000}}]},
        {"kind": "above_average", "by": 5, "window": "60s"},
    ],
)
def test_a_condition_with_a_price_of_its_own_is_paused_until_it_is_confirmed(steps, leaf):
    log = Log().rule(leaf).quotes((0, 50)).split("20:1", 15, 20).quotes((30, "2.5"), (40, 2000), (50, "0.1"))

    after = [one for one in steps(log.confirm(leaf, 60)) if one[1] > 0]

    assert after == [("paused", 20, "split"), ("ended", 60, "confirmed")]


def test_what_is_confirmed_begins_anew_and_its_open_alert_has_ended_at_the_split(steps):
    above = {"kind": "above", "level": 10}
    log = Log().rule(above).quotes((0, 100)).split("20:1", 15, 20).quotes((30, 11)).confirm(above, 40).quotes((50, 12))

    assert steps(log) == [
        ("firing", 0, "became_true"), ("paused", 20, "split"),
        ("ended", 40, "confirmed"), ("firing", 50, "became_true"),
    ]  # fmt: skip


def test_another_meaning_begins_anew_without_being_confirmed_and_the_same_one_does_not(steps):
    above = {"kind": "above", "level": 100}
    log = Log().rule(above).quotes((0, 50)).split("20:1", 15, 20).rule(above, 25).quotes((30, 101))
    assert steps(log) == [("paused", 20, "split")]

    changed = log.rule({"kind": "above", "level": 5}, 40, version=2).quotes((50, 6))

    assert steps(changed)[1:] == [("ended", 40, "rule_changed"), ("firing", 50, "became_true")]


def test_a_rule_that_came_after_the_split_is_left_as_it_is_and_one_that_came_with_the_last_price_before_is_not(steps):
    above = {"kind": "above", "level": 100}
    after = Log().quotes((0, 50), (20, "2.5")).rule(above, 25).quotes((30, "2.6")).split("20:1", 15, 40)
    before = Log().quotes((0, 50)).rule(above, 25).split("20:1", 15, 40)
    without_price = Log().rule(above).split("20:1", 15, 40)

    assert [steps(log) for log in (after, before, without_price)] == [[], [("paused", 40, "split")], []]


def test_stale_is_about_no_price_and_does_not_hear_of_a_split(steps):
    log = Log().rule({"kind": "stale", "after": "10s"}).quotes((0, 50)).clock(10).split("20:1", 5, 20).quotes((30, 2))

    assert steps(log) == [("firing", 10, "became_true"), ("inactive", 30, "recovered")]
