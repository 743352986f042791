"""From signing in to reading why: the mission's first rule, made in the form, fires on an invented pump."""

import re
from datetime import timedelta

import pytest
from playwright.sync_api import expect

from apps.market.models import Asset
from apps.notify.services import create_channel
from apps.pipeline import flow
from apps.rules.models import RuleVersion
from apps.sources import services as sources
from tests.builders import START, TRACE, notify_all

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a long enough phrase"
PUMP = {"kind": "pump", "symbol": "MOON-USD", "after": "4s", "duration": "5s", "percent": 14}


@pytest.fixture
def inbox(owner):
    return create_channel(owner=owner, name="Inbox", kind="inbox", config={})


@pytest.fixture
def simulated():
    """Return a feed of the invented market, in which MOON-USD is pumped up from the fourth second on."""
    options = {"seed": 7, "start_prices": {"MOON-USD": "0.42"}, "script": [PUMP]}
    feed = sources.create_feed(name="simulated", interval_seconds=1, sources=[("simulated", options)], now=START)
    Asset.objects.create(symbol="MOON-USD", feed=feed)
    run(feed, seconds=range(2))
    return feed


def run(feed, *, seconds):
    """Let these seconds of the market pass: fetch, evaluate, tell, deliver, as the tasks do."""
    for second in seconds:
        slot = START + timedelta(seconds=second)
        sources.fetch(feed_id=feed.pk, slot=slot, now=slot, trace_id=TRACE)
        flow.evaluate_pending(feed_id=feed.pk)
        notify_all()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_rule_is_made_in_the_form_fires_and_says_why(owner, inbox, simulated, live_server, page, scheme):
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.emulate_media(color_scheme=scheme)
    page.goto(f"{live_server.url}/accounts/login/?next=/admin/rules/rule/add/")
    page.fill("input[name=username]", owner.username)
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")

    page.fill("#id_name", "Rises more than 10 % in 5 minutes")
    page.select_option("#id_severity", "critical")
    page.click("#id_symbols ~ .select2 .select2-selection")
    page.keyboard.type("moon")
    page.click(".select2-results__option:has-text('MOON-USD')")
    page.select_option("#id_kind", "rises")
    page.fill("#id_percent", "10")
    page.fill("#id_window", "5m")
    page.check("text=Inbox (inbox)")
    expect(page.locator("#rule-preview")).to_contain_text("MOON-USD rises 10 % or more within 5 minutes")
    page.click("button[name=_save]")
    expect(page.locator("body")).to_contain_text("Rises more than 10 % in 5 minutes")
    assert RuleVersion.objects.get().document["condition"] == {
        "kind": "rises",
        "percent": "10",
        "window": "5m",
        "ref": "window_extreme",
    }

    run(simulated, seconds=range(2, 15))

    page.goto(live_server.url)
    page.click("text=MOON-USD rose")
    expect(page.locator("body")).to_contain_text(re.compile(r"MOON-USD rose 1\d\.\d+ % in 5 minutes"))
    expect(page.locator("body")).to_contain_text("MOON-USD rises 10 % or more within 5 minutes")
    page.wait_for_selector("canvas")
    page.goto(f"{live_server.url}/admin/notify/message/")
    expect(page.locator("body")).to_contain_text("Rises more than 10 % in 5 minutes: MOON-USD")
    assert said == []
