"""The engine against an exact brute-force oracle, and against itself: lived, cut and rebuilt, and filled anew."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.rules.engine import entries
from tests.rules import comparing, logs, oracle
from tests.rules.comparing import Engine

pytestmark = pytest.mark.usefixtures("each_engine")

MANY = settings.default.max_examples


def specs_of(log: Sequence[oracle.Entry]) -> dict[int, Any]:
    changes = [change for entry in log if isinstance(entry, oracle.RulesEntry) for change in entry.changes]
    return {change.version_id: comparing.spec_of(change.document) for change in changes if change.document}


def reborn(engine: Engine, *, specs: dict[int, Any]) -> Engine:
    """Return the engine that a checkpoint of this one gives."""
    return Engine.load(json.loads(json.dumps(engine.dump())), specs)


@settings(max_examples=4 * MANY)
@given(logs.logs())
def test_the_engine_makes_the_transitions_of_the_oracle_with_the_same_evidence_and_states(log):
    engine, reader, store, saved = Engine(), oracle.Reader(logs.CALENDARS), comparing.Store(log), {}
    for entry in log:
        evaluation = engine.evaluate(store.entry_of(entry), store.before(entry.seq))
        saved |= {(asset, rule): comparing.state_of(one) for (rule, asset), one in evaluation.touched.items()}

        made = [comparing.made(entry.seq, one) for one in evaluation.transitions]
        assert made == [comparing.expected(one) for one in reader.read(entry)]
        states = {key: comparing.expected_state(instance) for key, instance in reader.instances.items()}
        assert {key: comparing.state_of(engine.status_of_instance(key[1], key[0])) for key in states} == states
        # Who writes down what was touched, after each entry, has it all.
        assert {key: saved.get(key) for key in states} == states


@settings(max_examples=MANY)
@given(logs.logs(), st.one_of(st.sets(st.integers(1, 30)), st.just(set(range(31)))))
def test_an_engine_rebuilt_from_checkpoints_goes_on_as_the_one_that_lived(log, cuts):
    lived, rebuilt, store, specs = Engine(), Engine(), comparing.Store(log), specs_of(log)
    for entry in log:
        one = lived.evaluate(store.entry_of(entry), store.before(entry.seq))
        other = rebuilt.evaluate(store.entry_of(entry), store.before(entry.seq))
        assert other.transitions == one.transitions
        assert other.touched.keys() == one.touched.keys()
        rebuilt = reborn(rebuilt, specs=specs) if entry.seq in cuts else rebuilt
        assert json.dumps(rebuilt.dump()) == json.dumps(lived.dump())
        instances = [(rule_id, asset_id) for rule_id, _, asset_id, _ in lived.dump()["instances"]]
        assert [rebuilt.status_of_instance(*one) for one in instances] == [
            lived.status_of_instance(*one) for one in instances
        ]


@settings(max_examples=MANY)
@given(logs.logs())
def test_windows_filled_anew_after_every_entry_see_what_those_that_lived_see(log):
    lived, filled, store = Engine(), Engine(), comparing.Store(log)
    for index, entry in enumerate(log):
        seq = 2 * index + 1
        one = lived.evaluate(store.entry_of(entry), store.before(entry.seq))
        other = filled.evaluate(replace(store.entry_of(entry), seq=seq), store.before(entry.seq))
        anew = filled.evaluate(entries.HistoryEntry(seq + 1, entry.as_of, logs.ASSETS), store.before(entry.seq))
        assert (other.transitions, anew.transitions, anew.touched) == (one.transitions, [], {})


def test_rules_that_come_to_an_asset_together_are_evaluated_in_the_order_of_their_ids():
    begin, second = 1_678_500_000_000_000, 1_000_000
    document = {"condition": {"kind": "above", "level": "100"}, "trigger": "edge", "cooldown": "0s"}

    def change(rule_id):
        given = {"document": document, "asset_ids": (1,), "calendars": {}, "resumes": False}
        return oracle.Change(rule_id=rule_id, version_id=10 * rule_id, **given)

    def quote(seq, price):
        at = begin + seq * second
        return oracle.QuotesEntry(seq=seq, as_of=at, quotes=((1, at, price * 10**18),), provider="a", switches=())

    log = [
        quote(1, 50),
        oracle.RulesEntry(seq=2, as_of=begin + 2 * second, changes=(change(1),)),
        oracle.RulesEntry(seq=3, as_of=begin + 3 * second, changes=(change(3), change(2))),
        quote(4, 150),
    ]
    engine, store = Engine(), comparing.Store(log)
    made = [engine.evaluate(store.entry_of(entry), store.before(entry.seq)).transitions for entry in log]

    assert [one.rule_id for one in made[-1]] == [1, 2, 3]
