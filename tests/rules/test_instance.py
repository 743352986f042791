"""The state machine by example, through the engine: when it fires, holds, resolves, keeps quiet and ends."""

import json
from dataclasses import dataclass

import pytest

from apps.rules.engine.codes import Unknown
from apps.rules.engine.engine import FORMAT, Engine
from apps.rules.engine.entries import HistoryEntry, QuotesEntry, RuleChange, RulesEntry
from apps.rules.engine.leaves.binding import Bound, Leaf
from apps.rules.engine.rule import Assets, RuleSpec
from apps.rules.engine.written import RuleInvalid

pytestmark = pytest.mark.usefixtures("each_engine")

SECOND = 1_000_000
START = 1_678_500_000 * SECOND
NO, YES, UNKNOWN, BROKEN = 1_000, 2_000, 3_000, 4_000  # prices, and what Spoken says of them


@dataclass(frozen=True)
class Spoken(Leaf):
    """A condition that says what the price tells it to."""

    def window_keys(self):
        return []

    def bind(self, places):
        def test(price, windows, firing):
            return {NO: False, YES: True, UNKNOWN: Unknown.NO_PRICE}[price]

        return Bound(test, lambda *seen: {"result": test(*seen)})


def why_of(step):
    return (step.reason, step.detail) if step.detail else step.reason


def nothing_stored(reach):
    return {}


def rule(**changes):
    return RuleSpec(assets=Assets(symbols=("ANY",)), condition=Spoken(), **changes)


BROKE = ("evaluation_failed", "KeyError: 4000")
UNREADABLE = ("evaluation_failed", "RuleInvalid: condition.kind: is not known")


class Feed:
    """An engine with rules on one or two assets, and the log that it reads."""

    def __init__(self, *specs, asset_ids=(1,)):
        self.engine = Engine()
        self.specs = dict(enumerate(specs, start=1))
        changes = [RuleChange(number, number, spec, asset_ids) for number, spec in self.specs.items()]
        self.evaluate(RulesEntry(1, START, changes))

    def evaluate(self, entry):
        evaluation = self.engine.evaluate(entry, nothing_stored)
        return [
            (one.from_state, one.to_state, one.moment - START, why_of(one), one.suppressed)
            for one in evaluation.transitions
        ]

    def quote(self, offset, price, *, as_of=None, asset_id=1):
        as_of = offset if as_of is None else as_of
        return self.evaluate(QuotesEntry(self.engine.seq + 1, START + as_of, [(asset_id, START + offset, price)]))

    def quotes(self, *pairs):
        return [made for offset, price in pairs for made in self.quote(offset, price)]

    def clock(self, offset):
        return self.evaluate(QuotesEntry(self.engine.seq + 1, START + offset, []))

    def change(self, *changes, offset=0):
        return self.evaluate(RulesEntry(self.engine.seq + 1, START + offset, changes))

    def instance(self, rule_id=1, asset_id=1):
        dumped = {(rule, asset): rest for rule, _, asset, rest in self.engine.dump()["instances"]}
        return dumped[rule_id, asset_id]


def test_without_for_it_fires_at_once_and_resolves_at_once():
    feed = Feed(rule())

    made = feed.quotes((1, NO), (2, YES), (3, YES), (4, NO))

    assert made == [("inactive", "firing", 2, "became_true", False), ("firing", "inactive", 4, "recovered", False)]


def test_with_for_it_fires_at_the_first_evaluation_that_is_exactly_that_long_after():
    feed = Feed(rule(pending=30 * SECOND))

    early = feed.quotes((0, YES), (30 * SECOND - 1, YES))
    made = feed.quote(30 * SECOND, YES)

    assert early == [("inactive", "pending", 0, "became_true", False)]
    assert made == [("pending", "firing", 30 * SECOND, "held_long_enough", False)]


def test_a_false_evaluation_in_between_starts_the_wait_again():
    feed = Feed(rule(pending=30 * SECOND))

    made = feed.quotes((0, YES), (29 * SECOND, NO), (30 * SECOND, YES), (60 * SECOND - 1, YES), (60 * SECOND, NO))

    assert made == [
        ("inactive", "pending", 0, "became_true", False),
        ("pending", "inactive", 29 * SECOND, "became_false", False),
        ("inactive", "pending", 30 * SECOND, "became_true", False),
        ("pending", "inactive", 60 * SECOND, "became_false", False),
    ]


def test_the_clock_alone_does_not_fire_what_is_pending():
    feed = Feed(rule(pending=30 * SECOND))

    made = feed.quotes((0, YES)) + feed.clock(60 * SECOND)

    assert made == [("inactive", "pending", 0, "became_true", False)]


def test_with_an_expiry_it_is_evaluated_at_as_of_too():
    feed = Feed(rule(pending=30 * SECOND, expires_at=START + 3_600 * SECOND))

    made = feed.quotes((0, YES)) + feed.clock(30 * SECOND - 1) + feed.clock(30 * SECOND)

    assert made[1:] == [("pending", "firing", 30 * SECOND, "held_long_enough", False)]


def test_unknown_keeps_pending_counting():
    feed = Feed(rule(pending=30 * SECOND))

    made = feed.quotes((0, YES), (10 * SECOND, UNKNOWN), (29 * SECOND, UNKNOWN), (30 * SECOND, YES))

    assert made == [
        ("inactive", "pending", 0, "became_true", False),
        ("pending", "firing", 30 * SECOND, "held_long_enough", False),
    ]


def test_unknown_never_fires_and_never_resolves_and_can_be_seen():
    feed = Feed(rule())

    made = feed.quotes((1, UNKNOWN), (2, YES), (3, UNKNOWN))

    assert made == [("inactive", "firing", 2, "became_true", False)]
    moments = [START + 2] * 3
    assert feed.instance() == ["firing", *moments, False, "became_true", "", "no_price", START + 1]
    assert feed.quotes((4, UNKNOWN), (5, NO)) == [("firing", "inactive", 5, "recovered", False)]


def test_keep_firing_resolves_at_the_first_false_evaluation_that_is_exactly_that_long_after():
    feed = Feed(rule(keep_firing=30 * SECOND))

    early = feed.quotes((0, YES), (SECOND, NO), (31 * SECOND - 1, NO))
    made = feed.quote(31 * SECOND, NO)

    assert early == [
        ("inactive", "firing", 0, "became_true", False),
        ("firing", "recovering", SECOND, "became_false", False),
    ]
    assert made == [("recovering", "inactive", 31 * SECOND, "recovered", False)]


def test_true_again_while_recovering_is_the_same_episode():
    feed = Feed(rule(keep_firing=30 * SECOND, cooldown=3_600 * SECOND))

    made = feed.quotes((0, YES), (SECOND, NO), (31 * SECOND, YES), (32 * SECOND, NO), (62 * SECOND, NO))

    assert made[1:] == [
        ("firing", "recovering", SECOND, "became_false", False),
        ("recovering", "firing", 31 * SECOND, "became_true", False),
        ("firing", "recovering", 32 * SECOND, "became_false", False),
        ("recovering", "inactive", 62 * SECOND, "recovered", False),
    ]


def test_the_recovery_is_in_force_while_firing_and_while_recovering():
    document = {"kind": "above", "level": "100", "recovery": "90"}
    spec = RuleSpec.read({"assets": ["ANY"], "condition": document, "keep_firing": "30s"})
    feed = Feed(spec)

    made = feed.quotes((1, 95 * 10**18), (2, 101 * 10**18), (3, 95 * 10**18), (4, 90 * 10**18), (5, 95 * 10**18))
    made += feed.quotes((6, 90 * 10**18), (6 + 30 * SECOND, 90 * 10**18), (7 + 30 * SECOND, 95 * 10**18))

    assert [(from_state, to_state, offset) for from_state, to_state, offset, _, _ in made] == [
        ("inactive", "firing", 2),
        ("firing", "recovering", 4),
        ("recovering", "firing", 5),
        ("firing", "recovering", 6),
        ("recovering", "inactive", 6 + 30 * SECOND),
    ]


def test_an_opening_exactly_at_the_end_of_the_cooldown_notifies():
    feed = Feed(rule(cooldown=60 * SECOND))

    made = feed.quotes((0, YES), (SECOND, NO), (60 * SECOND, YES))

    assert made[-1] == ("inactive", "firing", 60 * SECOND, "became_true", False)


def test_an_opening_within_the_cooldown_is_silent_to_the_end_of_its_episode():
    feed = Feed(rule(cooldown=60 * SECOND, keep_firing=10 * SECOND))

    first = feed.quotes((0, YES), (SECOND, NO), (11 * SECOND, NO))
    silent = feed.quotes((60 * SECOND - 1, YES), (61 * SECOND, NO), (62 * SECOND, YES), (63 * SECOND, NO))
    silent += feed.quotes((73 * SECOND, NO))
    after = feed.quotes((74 * SECOND, YES))

    assert [suppressed for *_, suppressed in first] == [False, False, False]
    assert silent == [
        ("inactive", "firing", 60 * SECOND - 1, "became_true", True),
        ("firing", "recovering", 61 * SECOND, "became_false", True),
        ("recovering", "firing", 62 * SECOND, "became_true", True),
        ("firing", "recovering", 63 * SECOND, "became_false", True),
        ("recovering", "inactive", 73 * SECOND, "recovered", True),
    ]
    assert after == [("inactive", "firing", 74 * SECOND, "became_true", False)]


def test_the_cooldown_counts_from_the_last_opening_that_notified():
    feed = Feed(rule(cooldown=60 * SECOND))

    made = feed.quotes((0, YES), (1, NO), (59 * SECOND, YES), (59 * SECOND + 1, NO), (60 * SECOND, YES))

    assert [suppressed for _, to_state, *_, suppressed in made if to_state == "firing"] == [False, True, False]


def test_a_suppressed_episode_neither_opens_nor_resolves():
    feed = Feed(rule(cooldown=60 * SECOND))
    feed.quotes((0, YES), (1, NO))

    entry = QuotesEntry(4, START + 3, [(1, START + 2, YES), (1, START + 3, NO)])
    transitions = feed.engine.evaluate(entry, nothing_stored).transitions

    assert [(one.opens, one.resolves) for one in transitions] == [(False, False), (False, False)]


def test_once_ends_with_its_first_opening_and_is_evaluated_no_more():
    feed = Feed(rule(once=True))

    made = feed.quotes((1, NO), (2, YES), (3, NO), (4, YES), (5, BROKEN))

    assert made == [("inactive", "firing", 2, "became_true", False), ("firing", "ended", 2, "once", False)]


def test_once_opens_and_resolves_in_one_step():
    feed = Feed(rule(once=True))

    transitions = feed.engine.evaluate(QuotesEntry(2, START, [(1, START, YES)]), nothing_stored).transitions

    assert [(one.opens, one.resolves) for one in transitions] == [(True, False), (False, True)]


def test_a_quote_exactly_at_the_expiry_ends_it_unevaluated():
    feed = Feed(rule(expires_at=START + 60 * SECOND))

    before = feed.quote(60 * SECOND - 1, NO)
    made = feed.quote(60 * SECOND, YES)

    assert (before, made) == ([], [("inactive", "ended", 60 * SECOND, "expired", False)])
    assert feed.quote(61 * SECOND, YES) == []


def test_a_quote_just_before_the_expiry_is_evaluated():
    feed = Feed(rule(expires_at=START + 60 * SECOND))

    assert feed.quote(60 * SECOND - 1, YES) == [("inactive", "firing", 60 * SECOND - 1, "became_true", False)]


def test_the_clock_exactly_at_the_expiry_ends_it_without_a_quote():
    feed = Feed(rule(expires_at=START + 60 * SECOND))
    feed.quote(0, YES)

    before = feed.clock(60 * SECOND - 1)
    made = feed.clock(60 * SECOND)

    assert (before, made) == ([], [("firing", "ended", 60 * SECOND, "expired", False)])


def test_a_rule_expires_though_its_asset_never_had_a_quote():
    feed = Feed(rule(expires_at=START + 60 * SECOND))

    assert feed.clock(60 * SECOND) == [("inactive", "ended", 60 * SECOND, "expired", False)]


@pytest.mark.parametrize(
    ("quotes", "state"),
    [([], "inactive"), ([(0, YES)], "pending"), ([(0, YES), (SECOND, YES)], "firing"),
     ([(0, YES), (SECOND, YES), (2 * SECOND, NO)], "recovering")],
)  # fmt: skip
def test_it_expires_from_any_state(quotes, state):
    feed = Feed(rule(pending=SECOND, keep_firing=60 * SECOND, expires_at=START + 10 * SECOND))
    feed.quotes(*quotes)

    assert feed.clock(10 * SECOND) == [(state, "ended", 10 * SECOND, "expired", False)]


def test_late_and_second_quotes_are_not_evaluated():
    feed = Feed(rule())

    made = feed.quotes((10, NO), (10, YES), (9, YES))

    assert made == []


def test_a_transition_is_never_dated_before_the_one_before():
    feed = Feed(rule(expires_at=START + 3_600 * SECOND, pending=1))
    feed.quote(0, YES, as_of=100)

    made = feed.quote(50, NO, as_of=100)

    assert made == [("firing", "inactive", 100, "recovered", False)]


def test_a_change_of_rules_ends_what_has_begun_and_the_new_version_begins_anew():
    feed = Feed(rule())
    feed.quote(1, YES)

    made = feed.change(RuleChange(1, 2, rule(), (1,)), offset=2)

    assert made == [("firing", "ended", 2, "rule_changed", False)]
    assert feed.instance()[0] == "inactive"
    assert feed.quote(3, YES) == [("inactive", "firing", 3, "became_true", False)]


def test_a_rule_that_is_evaluated_no_more_leaves_nothing_behind():
    feed = Feed(rule(expires_at=START + 60 * SECOND))
    feed.quote(1, YES)

    made = feed.change(RuleChange(1, None, None, ()), offset=2)

    assert made == [("firing", "ended", 2, "rule_changed", False)]
    assert feed.engine.dump() == {"format": FORMAT, "seq": 3, "series": [], "instances": []}
    assert feed.clock(60 * SECOND) == []


def test_what_the_same_version_keeps_goes_on_undisturbed_when_its_assets_change():
    spec = rule(pending=30 * SECOND)
    feed = Feed(spec, asset_ids=(1, 2))
    feed.quote(0, YES, asset_id=1)
    feed.quote(0, YES, asset_id=2)

    made = feed.change(RuleChange(1, 1, spec, (1, 3)), offset=10 * SECOND)
    kept = feed.quote(30 * SECOND, YES, asset_id=1)
    gone = feed.quote(30 * SECOND, YES, asset_id=2)
    new = feed.quote(30 * SECOND, YES, asset_id=3)

    assert made == [("pending", "ended", 10 * SECOND, "rule_changed", False)]
    assert (kept, gone) == ([("pending", "firing", 30 * SECOND, "held_long_enough", False)], [])
    assert new == [("inactive", "pending", 30 * SECOND, "became_true", False)]


def test_one_that_raises_becomes_error_and_the_others_go_on():
    sturdy = RuleSpec.read({"assets": ["ANY"], "condition": {"kind": "above", "level": "0.000000000000001"}})
    feed = Feed(rule(), rule(), sturdy)
    feed.quote(1, YES)

    made = feed.quote(2, BROKEN)

    assert made == [
        ("firing", "error", 2, BROKE, False),
        ("firing", "error", 2, BROKE, False),
    ]
    assert feed.instance(rule_id=3)[0] == "firing"
    assert feed.quote(3, NO) == [("firing", "inactive", 3, "recovered", False)]


def test_a_quote_after_the_one_that_raised_is_still_evaluated_in_the_same_batch():
    feed = Feed(rule(), asset_ids=(1, 2))

    made = feed.evaluate(QuotesEntry(2, START + 2, [(1, START + 1, BROKEN), (2, START + 2, YES)]))

    assert made == [("inactive", "error", 1, BROKE, False), ("inactive", "firing", 2, "became_true", False)]


def test_error_at_the_clock_does_not_stop_the_others_either():
    feed = Feed(rule(expires_at=START + 60 * SECOND), rule(expires_at=START + 60 * SECOND))
    feed.quote(1, BROKEN)

    assert feed.clock(60 * SECOND) == []
    assert [feed.instance(rule_id)[0] for rule_id in (1, 2)] == ["error", "error"]


def test_error_survives_a_dump_and_is_evaluated_no_more():
    feed = Feed(rule())
    feed.quote(1, BROKEN)

    rebuilt = Engine.load(json.loads(json.dumps(feed.engine.dump())), feed.specs)

    assert rebuilt.dump() == feed.engine.dump()
    assert feed.instance() == ["error", START + 1, START + 1, -(1 << 62), False, *BROKE, None, None]
    assert rebuilt.evaluate(QuotesEntry(3, START + 2, [(1, START + 2, YES)]), nothing_stored).transitions == []


def test_error_ends_when_the_rule_is_changed():
    feed = Feed(rule())
    feed.quote(1, BROKEN)

    made = feed.change(RuleChange(1, 2, rule(), (1,)), offset=2)

    assert made == [("error", "ended", 2, "rule_changed", False)]
    assert feed.quote(3, YES) == [("inactive", "firing", 3, "became_true", False)]


def test_a_version_that_cannot_be_read_is_in_error_from_the_start():
    feed = Feed(rule())

    made = feed.change(RuleChange(2, 2, RuleInvalid("condition.kind", "is not known"), (1, 2)), offset=5)

    assert made == [("inactive", "error", 5, UNREADABLE, False)] * 2
    assert feed.quote(6, YES) == [("inactive", "firing", 6, "became_true", False)]


def test_a_version_that_can_be_read_no_more_is_in_error_after_a_rebuild_and_the_others_go_on():
    feed = Feed(rule(), rule())
    feed.quote(1, YES)
    specs = {1: RuleInvalid("condition.kind", "is not known"), 2: feed.specs[2]}

    feed.engine = Engine.load(json.loads(json.dumps(feed.engine.dump())), specs)
    made = feed.quote(2, NO)

    assert made == [
        ("firing", "error", 2, UNREADABLE, False),
        ("firing", "inactive", 2, "recovered", False),
    ]


@pytest.mark.parametrize("seq", [0, 1, 3])
def test_an_entry_out_of_turn_is_refused_and_changes_nothing(seq):
    feed = Feed(rule())
    before = feed.engine.dump()

    with pytest.raises(ValueError, match=f"entry {seq} after 1"):
        feed.engine.evaluate(QuotesEntry(seq, START, [(1, START, YES)]), nothing_stored)

    assert feed.engine.dump() == before


def test_a_checkpoint_of_another_format_is_refused():
    with pytest.raises(ValueError, match="checkpoint format 999"):
        Engine.load({"format": 999}, {})


def test_history_moves_the_newest_quote_and_opens_nothing():
    feed = Feed(rule())
    feed.quote(1, NO)

    evaluation = feed.engine.evaluate(
        HistoryEntry(3, START + 9, [1]), lambda reach: {asset_id: [(START + 5, YES)] for asset_id in reach}
    )

    assert evaluation.transitions == []
    assert feed.quotes((5, YES), (6, NO), (7, YES)) == [("inactive", "firing", 7, "became_true", False)]
