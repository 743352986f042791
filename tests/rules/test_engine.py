"""The engine against an exact brute-force oracle, and against itself: lived, cut and rebuilt."""

import json
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from apps.rules.engine.engine import Engine
from tests.rules import logs, oracle


def live(log: Sequence[oracle.Entry]) -> list[tuple]:
    engine, store, seen = Engine(), logs.Store(log), []
    for entry in log:
        judgement = engine.judge(logs.entry_of(entry), store.before(entry.seq))
        seen += [logs.made(entry.seq, one) for one in judgement.transitions]
    return seen


@settings(max_examples=300)
@given(logs.logs())
def test_the_engine_makes_the_transitions_of_the_oracle_with_the_same_evidence(log):
    assert live(log) == [logs.expected(one) for one in oracle.expected_transitions(log)]


@settings(max_examples=120)
@given(logs.logs(), st.data())
def test_an_engine_rebuilt_from_a_checkpoint_goes_on_as_the_one_that_lived(log, data):
    cut = data.draw(st.integers(0, len(log)))
    store = logs.Store(log)
    lived = Engine()
    specs = {
        change.version_id: logs.spec_of(change.document)
        for entry in log
        if isinstance(entry, oracle.RulesEntry)
        for change in entry.changes
        if change.document
    }
    for entry in log[:cut]:
        lived.judge(logs.entry_of(entry), store.before(entry.seq))

    rebuilt = Engine.load(json.loads(json.dumps(lived.dump())), specs)

    assert json.dumps(rebuilt.dump()) == json.dumps(lived.dump())
    for entry in log[cut:]:
        one = lived.judge(logs.entry_of(entry), store.before(entry.seq))
        other = rebuilt.judge(logs.entry_of(entry), store.before(entry.seq))
        assert other.transitions == one.transitions
        assert other.touched.keys() == one.touched.keys()
