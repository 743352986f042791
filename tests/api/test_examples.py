"""The examples of docs/api.md, each run as it stands there."""

import json
import re
import runpy
import time
from io import BytesIO
from urllib.parse import urlsplit

import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from apps.api.tokens.services import create_token
from apps.backtests.models import BacktestRun
from apps.backtests.services import run_backtest
from apps.market.models import Feed
from apps.pipeline.flow import evaluate_pending
from tests.api.asking import URL
from tests.builders import append_quotes, at, make_feed, make_notified_alerts
from tests.project.test_docs import ROOT, blocks

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
    calls = [call for call in blocks(DOCUMENT, "sh") if "8000/graphql " in call]
    assert len(calls) == 3
    for call in calls:
        headers = dict(re.findall(r'-H "([\w-]+): ([^"]*)"', call))
        assert headers == {"Authorization": "Bearer $TOKEN", "Content-Type": "application/json"}
        [body] = re.findall(r"-d '([^']*)'", call)
        answer = client.post(URL, body, content_type="application/json", headers={"Authorization": f"Bearer {token}"})
        assert without_faults(answer.json()), answer.text


def work_meanwhile():
    """Do what workers do while the examples wait: run the backtest, fetch and evaluate a quote."""
    run_backtest(run_id=BacktestRun.objects.get().pk)
    feed = Feed.objects.get(name="coins")
    append_quotes(feed, [("BTC-USD", at(120), "11")])
    evaluate_pending(feed_id=feed.pk)


@pytest.fixture
def site(client, monkeypatch):
    """Have what requests sends answered by the site, however it is called: gql calls it too."""

    def send(self, request, **options):
        address = urlsplit(request.url)
        assert (address.scheme, address.netloc) == ("http", "127.0.0.1:8000")
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        answered = client.generic(
            request.method, address.path, request.body, request.headers["Content-Type"], headers=headers
        )
        answer = requests.Response()
        answer.status_code, answer.headers, answer.request = answered.status_code, answered.headers, request
        answer.url = request.url
        # As urllib3 gives it, which reads what is compressed.
        answer.raw = HTTPResponse(BytesIO(answered.content), dict(answered.headers), preload_content=False)
        return answer

    monkeypatch.setattr(HTTPAdapter, "send", send)


def test_a_file_is_sent_by_curl(client, token, tmp_path):
    [call] = [call for call in blocks(DOCUMENT, "sh") if "/imports" in call]
    assert re.search(r"^curl http://127.0.0.1:8000/imports ", call)
    headers = dict(re.findall(r'-H "([\w-]+): ([^"]*)"', call))
    assert headers == {"Authorization": "Bearer $TOKEN", "Content-Type": "text/csv"}
    assert "--data-binary @trades.csv" in call
    [content] = re.findall(r'FILE = """(.*?)"""', "\n".join(blocks(DOCUMENT, "python")), re.DOTALL)
    answer = client.post("/imports", content, content_type="text/csv", headers={"Authorization": f"Bearer {token}"})
    [said] = [json.loads(block) for block in blocks(DOCUMENT, "json") if '"expires_at"' in block]
    assert answer.json().keys() == said.keys()
    assert {name: answer.json()[name] for name in ("source", "rows", "accounts", "symbols")} == {
        "source": "Ghostfolio",
        "rows": 1,
        "accounts": [""],
        "symbols": ["BTC-USD"],
    }


def test_there_are_twelve_in_order():
    text = (ROOT / DOCUMENT).read_text(encoding="utf-8").partition("## Examples\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\d+)\. ", text, re.MULTILINE) == [str(number) for number in range(1, 13)]


def test_every_block_of_python_does_what_it_says(site, token, ada, monkeypatch, settings, tmp_path):
    settings.PROMETHEUS_URL = ""
    monkeypatch.setattr(time, "sleep", lambda seconds: work_meanwhile())
    monkeypatch.setenv("TOKEN", token)
    script = tmp_path / "examples.py"
    script.write_text("\n".join(blocks(DOCUMENT, "python")), encoding="utf-8")
    names = runpy.run_path(str(script))

    assert [one["alert"]["state"] for one in names["acknowledged"]] == ["ACKNOWLEDGED"] * 3
    assert ada.rules.get(name="BTC-USD above 100 000").rule_channels.get().channel.name == "Desk"
    assert (names["backtest"]["status"], names["backtest"]["result"]["openings_count"]) == ("DONE", 1)
    assert len(names["recorded"]) == 2
    assert names["preview"]["portfolios"] == names["imported"]["portfolios"] == [{"added": 1, "known": 0}]
    assert ada.portfolios.get().transactions.count() == 3
    [position] = names["held"]["portfolio"]["positions"]["edges"]
    assert (position["node"]["quantity"], position["node"]["worth"]["price"]) == ("0.4", "11")
    assert names["held"]["performance"]["unknown"] in ("", "no_days", "unknown_value")
    assert names["explained"]["why"]["summary"] == "not firing: the condition is false"
    assert names["explained"]["metrics"]["error"]["code"] == "NOT_CONFIGURED"
