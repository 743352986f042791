"""The menu of the site: folded on narrow pages, with the keyboard and without JavaScript too."""

import pytest
from playwright.sync_api import expect

from tests.browser.axe import add_to, violations_of
from tests.builders import make_member

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

NARROW = {"width": 390, "height": 844}


@pytest.fixture
def portfolios(signed_in, live_server):
    """Return the address of a page with the menu of a person who may enter the admin."""
    signed_in(make_member("ada", is_staff=True))
    return f"{live_server.url}/portfolios/"


def links_of(page):
    return page.get_by_role("navigation", name="Main").locator("#menu a")


def test_on_a_narrow_page_the_menu_is_one_line_until_it_is_opened(page, portfolios):
    page.set_viewport_size(NARROW)
    page.goto(portfolios)
    assert page.locator("nav.main").bounding_box()["height"] < 60
    expect(links_of(page).first).to_be_hidden()
    for key in ("Tab", "Tab", "Enter"):
        page.keyboard.press(key)
    names = [one.inner_text() for one in links_of(page).all()] + ["Sign out"]
    assert len(names) > 8
    reached = []
    for _ in names:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.innerText"))
        box = page.locator(":focus").bounding_box()
        assert (box["x"] >= 0, box["x"] + box["width"] <= NARROW["width"]) == (True, True)
    assert reached == names
    page.keyboard.press("Escape")
    expect(links_of(page).first).to_be_hidden()


def test_on_a_wide_page_all_of_the_menu_is_there(page, portfolios):
    page.goto(portfolios)
    expect(page.get_by_role("button", name="Menu")).to_be_hidden()
    expect(links_of(page).last).to_be_visible()


def test_the_menu_opens_without_javascript(browser, page, portfolios):
    context = browser.new_context(
        viewport=NARROW, java_script_enabled=False, storage_state=page.context.storage_state()
    )
    plain = context.new_page()
    plain.goto(portfolios)
    plain.get_by_role("button", name="Menu").click()
    links_of(plain).get_by_text("Assets").click()
    assert plain.url.endswith("/assets/")
    context.close()


def test_axe_finds_nothing_serious_in_the_open_menu(page, portfolios):
    add_to(page)
    page.set_viewport_size(NARROW)
    page.goto(portfolios)
    page.evaluate("document.getElementById('menu').showPopover()")
    found = [one for _, one in violations_of(page) if one["impact"] in {"serious", "critical"}]
    assert found == []
