"""The examples of docs/api.md, each run as it stands there."""

import json
import re
import runpy
import time

import pytest
import requests

from apps.api.tokens.services import create_token
from apps.backtests.models import BacktestRun
from apps.backtests.services import run_backtest
from tests.api.asking import URL
from tests.builders import append_quotes, at, make_feed, make_notified_alerts
from tests.project.test_docs import blocks

pytestmark = pytest.mark.django_db

DOCUMENT = "docs/api.md"


@pytest.fixture
def token(ada):
    """Return a token of Ada's, who has alerts, and quotes of the asset of the examples."""
    feed = make_feed("BTC-USD", name="coins")
    feed.assets.update(currency="USD")
    append_quotes(feed, [("BTC-USD", at(0), "9")])
    append_quotes(feed, [("BTC-USD", at(60), "11")])
    make_notified_alerts(ada, 3)
    return create_token(owner=ada, name="script", scope="write")[1]


def without_faults(answer):
    return "errors" not in answer and all(not one.get("errors") for one in answer["data"].values())


def test_every_call_by_curl_is_answered(client, token):
    calls = [call for call in blocks(DOCUMENT, "sh") if "/graphql/stream" not in call]
    assert len(calls) == 3
    for call in calls:
        headers = dict(re.findall(r'-H "([\w-]+): ([^"]*)"', call))
        assert headers == {"Authorization": "Bearer $TOKEN", "Content-Type": "application/json"}
        [body] = re.findall(r"-d '([^']*)'", call)
        answer = client.post(URL, body, content_type="application/json", headers={"Authorization": f"Bearer {token}"})
        assert without_faults(answer.json()), answer.text


def test_every_block_of_python_does_what_it_says(client, token, ada, monkeypatch, tmp_path):
    def post(url, *, json: dict, headers, timeout):
        assert url == "http://127.0.0.1:8000/graphql"
        body = dumps(json)
        return client.post(URL, body, content_type="application/json", headers=headers)

    dumps = json.dumps
    monkeypatch.setattr(requests, "post", post)
    # What happens meanwhile: a worker runs the backtest.
    monkeypatch.setattr(time, "sleep", lambda seconds: run_backtest(run_id=BacktestRun.objects.get().pk))
    monkeypatch.setenv("TOKEN", token)
    script = tmp_path / "examples.py"
    script.write_text("\n".join(blocks(DOCUMENT, "python")), encoding="utf-8")
    names = runpy.run_path(str(script))

    assert [one["alert"]["state"] for one in names["acknowledged"]] == ["ACKNOWLEDGED"] * 3
    assert ada.rules.get(name="BTC-USD above 100 000").rule_channels.get().channel.name == "Desk"
    assert (names["backtest"]["status"], names["backtest"]["result"]["openings_count"]) == ("DONE", 1)
    assert len(names["recorded"]) == ada.portfolios.get().transactions.count() == 2
