"""The form of a feed says what a provider wants as it is chosen, and shows what its sources give before it is saved."""

import pytest
from django.contrib.auth.models import User
from playwright.sync_api import expect

from apps.market.models import Feed

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


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
    assert (said, Feed.objects.exists()) == ([], False)
