"""The form of a feed says what a provider wants as it is chosen, and shows what its sources give before it is saved."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from apps.market.models import Feed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_each_option_of_the_provider_is_a_field_and_what_was_written_comes_back(signed_in, live_server, page):
    signed_in(User.objects.create_superuser("root"))
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{live_server.url}/admin/market/feed/add/")
    page.fill("#id_name", "invented")
    page.fill("#id_interval_seconds", "60")
    written = page.locator("#id_sources-0-options")
    page.select_option("#id_sources-0-provider", "simulated")
    page.fill("#id_sources-0-option_seed", "abc")
    page.fill("#id_sources-0-option_volatility", "7")
    page.fill("#id_sources-0-option_start_prices", '{"A": 5}')
    page.select_option("#id_sources-0-provider", "recording")
    page.fill("#id_sources-0-option_path", "gone.csv")
    expect(written).to_have_value('{"path": "gone.csv"}')
    page.select_option("#id_sources-0-provider", "simulated")
    expect(page.locator("#id_sources-0-option_seed")).to_have_value("abc")
    expect(written).to_have_value('{"seed": "abc", "volatility": 7, "start_prices": {"A": 5}}')

    page.click("[name=_save]")

    for name, text in (("seed", "a whole number"), ("volatility", "a number from 0 to 1")):
        field = page.locator(f"#id_sources-0-option_{name}")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator(f"#id_sources-0-option_{name}_error")).to_have_text(f"{name} must be {text}")
    page.fill("#id_sources-0-option_seed", "9007199254740993")
    page.click("summary:has-text('The options as JSON')")
    written.fill(written.input_value().replace('"volatility": 7', '"volatility": 0.01'))
    expect(page.locator("#id_sources-0-option_volatility")).to_have_value("0.01")
    page.click("[name=_save]")
    expect(page.locator("#id_sources-0-option_seed")).to_have_count(0)
    options = Feed.objects.get(name="invented").sources.get().options
    assert (options["volatility"], options["start_prices"], said) == (0.01, {"A": 5}, [])


def test_a_source_is_tested_before_the_feed_is_saved(signed_in, live_server, page, monkeypatch):
    monkeypatch.delenv("COINCAP_API_KEY", raising=False)
    signed_in(User.objects.create_superuser("root"))
    said = []
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{live_server.url}/admin/market/feed/add/")
    page.fill("#id_interval_seconds", "1")
    page.select_option("#id_sources-0-provider", "alphavantage")
    note = page.locator(".provider-note").first
    expect(note).to_contain_text("so a shorter interval has no effect")
    page.select_option("#id_sources-0-provider", "coincap")
    expect(note).to_contain_text("COINCAP_API_KEY is not set")
    page.fill("#try_names", "bitcoin")
    page.click("#feed-test button")
    results = page.locator("#feed-test [data-part=results]")
    expect(results).to_contain_text("no_key: set COINCAP_API_KEY")
    page.select_option("#id_sources-0-provider", "simulated")
    page.click("#feed-test button")
    expect(results).to_contain_text("bitcoin: ")
    # Not under the bar with the buttons of the form.
    bar = page.locator("[name=_save]").bounding_box()
    result = results.bounding_box()
    assert result["y"] + result["height"] <= bar["y"] or result["y"] >= bar["y"] + bar["height"]
    assert (said, Feed.objects.exists()) == ([], False)
