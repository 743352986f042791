"""A link in a message, opened by somebody who is not signed in."""

from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

from apps.alerts.models import Alert
from apps.notify.models import Message, Silence
from apps.notify.services import action_links
from tests.builders import make_notified_alerts, make_owner

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_link_waits_for_its_button_and_then_acts(live_server, page, scheme):
    make_notified_alerts(make_owner(), 1)
    links = action_links(message_id=Message.objects.get().pk)
    acknowledge, silence, until_over = (urlsplit(one.url).path for one in links)
    page.emulate_media(color_scheme=scheme)

    page.goto(live_server.url + acknowledge)
    expect(page.locator("h1")).to_have_text("Acknowledge?")
    assert Alert.objects.get().acknowledged_at is None
    # The page's Referrer-Policy must not keep its own form out.
    page.click("button")
    expect(page.locator("h1")).to_have_text("Done")
    assert Alert.objects.get().acknowledged_at is not None

    for address in (silence, until_over):
        page.goto(live_server.url + address)
        page.click("button")
        expect(page.locator("h1")).to_have_text("Done")
    assert {one.alert for one in Silence.objects.all()} == {None, Alert.objects.get()}


def test_for_its_owner_who_is_signed_in_the_link_is_the_one_click(live_server, page, client):
    owner = make_owner()
    make_notified_alerts(owner, 1)
    client.force_login(owner)
    page.context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )

    page.goto(live_server.url + urlsplit(action_links(message_id=Message.objects.get().pk)[0].url).path)

    expect(page.locator("h1")).to_have_text("Done")
    assert Alert.objects.get().acknowledged_by == owner


def test_for_somebody_else_who_is_signed_in_it_waits(live_server, page, client):
    make_notified_alerts(make_owner(), 1)
    client.force_login(make_owner("eve"))
    page.context.add_cookies(
        [{"name": "sessionid", "value": client.cookies["sessionid"].value, "url": live_server.url}]
    )

    page.goto(live_server.url + urlsplit(action_links(message_id=Message.objects.get().pk)[0].url).path)
    page.wait_for_load_state("networkidle")

    assert page.locator("h1").inner_text() == "Acknowledge?"
    assert Alert.objects.get().acknowledged_at is None
