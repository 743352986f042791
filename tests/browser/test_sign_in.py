"""Two-factor sign-in as a person does it, by the keyboard alone, and axe on each of its pages."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.axe import add_to
from tests.browser.test_axe import serious_in
from tests.totp import code_now

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

PASSWORD = "a long enough phrase"


def type_into(page, **fields):
    """Type into fields, reached by Tab, and press Enter in the last one."""
    for name, value in fields.items():
        for _ in range(60):
            if page.evaluate("document.activeElement.name") == name:
                break
            page.keyboard.press("Tab")
        else:
            pytest.fail(f"Tab does not reach {name}")
        page.keyboard.type(value)
    page.keyboard.press("Enter")


def follow(page, text):
    """Press Enter on the link with this text, reached by Tab."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.textContent.trim()") == text:
            return page.keyboard.press("Enter")
    pytest.fail(f"Tab does not reach {text}")


def sign_in(page, live_server, owner):
    page.goto(f"{live_server.url}/accounts/login/?next=/accounts/profile/")
    type_into(page, username=owner.username, password=PASSWORD)


def test_it_is_turned_on_used_and_turned_off(live_server, page, owner):
    add_to(page)
    found = []
    title = page.locator("h1")

    sign_in(page, live_server, owner)
    expect(title).to_have_text("Your profile")
    follow(page, "Two-factor sign-in")
    expect(title).to_have_text("Two-factor sign-in")
    found += serious_in(page, "set-up")
    # A scanner needs squares, dark on a light ground, in the dark scheme too.
    box = page.locator("svg.qr").bounding_box()
    assert box["width"] == pytest.approx(box["height"], abs=1)
    assert box["width"] > 150
    colours = "one => [getComputedStyle(one).backgroundColor, getComputedStyle(one).fill]"
    assert page.locator("svg.qr").evaluate(colours) == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"]
    secret = page.locator("code.key").text_content()
    type_into(page, password=PASSWORD, code=code_now(secret))
    expect(title).to_have_text("Two-factor sign-in is on")
    found += serious_in(page, "recovery codes")
    recovery = page.locator("ul.codes code").all_text_contents()
    assert len(recovery) == 10
    follow(page, "I have kept them")
    expect(page.locator("main")).to_contain_text(re.compile(r"Recovery codes left\s*10"))
    found += serious_in(page, "status")

    page.context.clear_cookies()
    sign_in(page, live_server, owner)
    expect(title).to_have_text("Type your code")
    found += serious_in(page, "code")
    # The field has the focus already.
    assert page.evaluate("document.activeElement.name") == "code"
    type_into(page, code="000 000")
    expect(page.locator(".error")).to_contain_text("This code is wrong")
    found += serious_in(page, "wrong code")
    type_into(page, code=recovery[0])
    expect(title).to_have_text("Your profile")

    follow(page, "Two-factor sign-in")
    expect(page.locator("main")).to_contain_text(re.compile(r"Recovery codes left\s*9"))
    follow(page, "Turn it off")
    expect(title).to_have_text("Turn two-factor sign-in off?")
    found += serious_in(page, "turn off")
    type_into(page, code=recovery[1])
    expect(title).to_have_text("Two-factor sign-in is off")
    assert found == []


def test_no_page_of_it_is_blocked_by_the_policy(live_server, page, owner):
    refused = []
    page.on("console", lambda message: refused.append(message.text) if "Content Security" in message.text else None)
    sign_in(page, live_server, owner)
    # Another page, asked for before this one has come, would break it off.
    expect(page.locator("h1")).to_have_text("Your profile")
    page.goto(f"{live_server.url}/accounts/second-factor/")
    page.wait_for_load_state("networkidle")
    assert refused == []
