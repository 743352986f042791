"""A channel's form shows what its kind asks for and what would be sent; a silence's form asks for an end or a while."""

import pytest
from playwright.sync_api import expect

from apps.notify.models import Channel, Message, Silence
from apps.notify.services import create_channel
from tests.builders import START, make_notified_alerts, notify_all

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture(autouse=True)
def _has_mail(settings):
    settings.EMAIL_CONFIGURED = True


@pytest.fixture
def said(page, owner, signed_in):
    """Sign the owner in, and return a list that fills with what the page's console says against it."""
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    signed_in(owner)
    return said


def test_a_channel_is_made_with_a_preview_that_follows_what_is_written(owner, said, live_server, page):
    make_notified_alerts(owner, 1)
    page.goto(f"{live_server.url}/admin/notify/channel/add/")
    page.select_option("#id_kind", "telegram")
    expect(page.locator("#id_telegram_token")).to_be_visible()
    expect(page.locator("#id_email_to")).to_be_hidden()
    page.select_option("#id_kind", "email")
    expect(page.locator("#id_telegram_token")).to_be_hidden()
    page.fill("#id_name", "Mail")
    page.fill("#id_email_to", "ada@example.org")
    page.fill("#id_text_template", "{rule} saw {level}")
    preview = page.locator("#channel-preview")
    expect(preview).to_contain_text("Text: {level} is no placeholder")
    expect(preview).to_contain_text("NOTIFIED-0 is above 10")
    page.fill("#id_text_template", "{rule} saw it")
    expect(preview.locator("pre")).to_contain_text("rule of NOTIFIED-0 saw it")
    expect(preview.locator("[data-part=errors]")).to_be_hidden()
    page.click("button[name=_save]")
    expect(page.locator("body")).to_contain_text("was added successfully")
    made = Channel.objects.get(name="Mail")
    assert (made.config, made.text_template, made.group_wait_seconds) == (
        {"to": "ada@example.org"},
        "{rule} saw it",
        10,
    )
    assert said == []


def test_the_form_of_a_new_channel_asks_for_no_newer_parts(said, live_server, page):
    page.clock.install()
    page.goto(f"{live_server.url}/admin/notify/channel/add/")
    page.clock.run_for(10_000)
    assert page.title() == "Add channel | Fake Fintech OSS"
    assert said == []


def test_the_result_of_a_test_appears_on_the_page_of_its_channel(owner, said, live_server, page):
    channel = create_channel(owner=owner, name="Inbox", kind="inbox", config={})
    page.goto(f"{live_server.url}/admin/notify/channel/{channel.pk}/change/")
    page.click("button[value=send_test]")
    result = page.locator("section", has_text="Last test")
    expect(result).to_contain_text("due since")
    # On the page that has come: what is typed into the one before goes with it.
    page.fill("#id_name", "Being renamed")

    Message.objects.update(next_attempt_at=START)
    notify_all()

    expect(result).to_contain_text("delivered at", timeout=60_000)
    # What is being typed stays.
    expect(page.locator("#id_name")).to_have_value("Being renamed")
    assert said == []


def test_a_silence_asks_for_a_while_or_for_an_end(owner, said, live_server, page):
    (alert,) = make_notified_alerts(owner, 1)
    page.goto(f"{live_server.url}/admin/alerts/alert/{alert.pk}/change/")
    page.click("button[value=silence]")
    end = page.locator("#id_ends_at_0")
    expect(end).to_be_hidden()
    page.select_option("#id_lasts", "")
    expect(end).to_be_visible()
    page.select_option("#id_lasts", "8")
    page.fill("#id_comment", "works")
    page.click("button[name=_continue]")
    expect(end).to_be_visible()
    silence = Silence.objects.get()
    assert (silence.rule, silence.asset, silence.owner) == (alert.rule, alert.asset, owner)
    page.click("button[value=end_now]")
    expect(page.locator("body")).to_contain_text("1 silence is over.")
    assert said == []
