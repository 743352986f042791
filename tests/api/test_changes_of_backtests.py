"""Backtests started and cancelled by the API."""

import pytest

from apps.backtests.models import BacktestRun
from apps.backtests.services import run_backtest
from tests.api.asking import NOBODYS
from tests.builders import above, append_quotes, at, make_feed, make_rule

pytestmark = pytest.mark.django_db

FIELDS = "{ backtest { id status progressPercent document rule { name } result } errors { field code } }"
START = f"""mutation ($key: String!, $rule: UUID!, $since: DateTime!, $until: DateTime!, $document: JSON) {{
  startBacktest(idempotencyKey: $key, rule: $rule, since: $since, until: $until, document: $document) {FIELDS}
}}"""
CANCEL = f"mutation ($id: UUID!) {{ cancelBacktest(id: $id) {FIELDS} }}"


@pytest.fixture
def asked(ada):
    """Return what a backtest of a rule of Ada's is started with."""
    feed = make_feed("A")
    append_quotes(feed, [("A", at(0), "9")])
    append_quotes(feed, [("A", at(60), "11")])
    rule = make_rule(ada, name="mine", assets=["A"], condition=above(10))
    return {"key": "k", "rule": rule.public_id, "since": moment(0), "until": moment(61)}


def moment(seconds):
    return f"{at(seconds):%Y-%m-%dT%H:%M:%SZ}"


def answered(response):
    """Return the payload of the one mutation of an answer."""
    [payload] = response.json()["data"].values()
    return payload


def faults(response):
    payload = answered(response)
    assert payload["backtest"] is None
    return [(one["field"], one["code"]) for one in payload["errors"]]


def test_a_backtest_is_started_once_run_and_read(ask, ada, asked):
    first, repeated = (answered(ask(START, asked, user=ada)) for _ in range(2))
    assert (first["errors"], first["backtest"]["status"], first["backtest"]["result"]) == ([], "QUEUED", None)
    assert (repeated, first["backtest"]["rule"]) == (first, {"name": "mine"})

    run_backtest(run_id=BacktestRun.objects.get().pk)
    read = ask(f'{{ backtest(id: "{first["backtest"]["id"]}") {{ status failureText result }} }}').json()
    assert (read["data"]["backtest"]["status"], read["data"]["backtest"]["failureText"]) == ("DONE", "")
    assert read["data"]["backtest"]["result"]["openings_count"] == 1


def test_another_form_is_tried_and_what_cannot_be_tried_is_named(ask, ada, asked):
    document = {"assets": ["A"], "condition": {"kind": "above", "level": "12"}}
    assert faults(ask(START, asked | {"document": {}}, user=ada)) == [("document.assets", "INVALID")]
    assert faults(ask(START, asked | {"document": "x"})) == [("document", "INVALID")]
    assert faults(ask(START, asked | {"until": moment(0)})) == [(None, "CONFLICT")]
    assert answered(ask(START, asked | {"document": document}))["backtest"]["document"]["condition"]["level"] == "12"
    assert faults(ask(START, asked | {"key": "l"})) == [(None, "CONFLICT")]
    assert BacktestRun.objects.count() == 1


def test_a_backtest_is_cancelled_once(ask, ada, asked):
    id = answered(ask(START, asked, user=ada))["backtest"]["id"]
    assert answered(ask(CANCEL, {"id": id}))["backtest"]["status"] == "CANCELLED"
    assert faults(ask(CANCEL, {"id": id})) == [(None, "CONFLICT")]
    assert faults(ask(CANCEL, {"id": NOBODYS})) == [("id", "NOT_FOUND")]
