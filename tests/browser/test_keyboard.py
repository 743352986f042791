"""With the keyboard alone: everything that can be used is reached, and is seen while it has the focus."""

import pytest
from playwright.sync_api import expect

from tests.browser.addresses import make_world

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# What a person could use with a mouse.
USABLE = """
() => {
    const kinds = "a[href], button, input:not([type=hidden]), select, textarea, summary, [role=combobox]";
    const isShown = one => one.checkVisibility({visibilityProperty: true, opacityProperty: true})
        && one.getBoundingClientRect().width > 1 && !one.disabled && !one.matches(".select2-hidden-accessible");
    // Of a group of radio buttons the arrows choose; what Select2 opens has its own field.
    const isStop = one => one.type !== "radio" && one.tabIndex >= 0;
    window.usable = [...document.querySelectorAll(kinds)].filter(one => isShown(one) && isStop(one));
    return window.usable.length;
}
"""
# What has the focus, its number among what is usable, and what is wrong with how it is seen.
FOCUS = """
() => {
    const element = document.activeElement;
    if (!element || element === document.body) return null;
    const box = element.getBoundingClientRect();
    const isTall = box.height > innerHeight / 2;
    const x = Math.min(Math.max(box.left + box.width / 2, 0), innerWidth - 1);
    const y = isTall ? Math.max(box.top, 0) + 5 : box.top + box.height / 2;
    const top = document.elementFromPoint(x, y);
    const covers = one => one.contains(top) || top.contains(one);
    const isSeen = top && (covers(element) || [...(element.labels ?? [])].some(covers));
    const isMarked = one => {
        const {outlineStyle, outlineWidth, outlineColor} = getComputedStyle(one);
        return outlineStyle !== "none" && parseFloat(outlineWidth) > 0 && !outlineColor.endsWith(", 0)");
    };
    // A frame around a field may be what is marked.
    const around = [element, element.parentElement, element.parentElement.parentElement];
    return {
        number: window.usable.indexOf(element),
        html: element.outerHTML.slice(0, 120),
        faults: [
            ...(isTall || box.top >= -1 && box.bottom <= innerHeight + 1 ? [] : ["is outside of the window"]),
            ...(isSeen ? [] : [`is covered by ${top?.outerHTML.slice(0, 80)}`]),
            ...(around.some(isMarked) ? [] : ["is not marked"]),
        ],
    };
}
"""
MISSED = "seen => window.usable.filter((_, number) => !seen.includes(number)).map(one => one.outerHTML.slice(0, 120))"


def settled(page):
    """Return what has the focus when the page has come to it: what is wrong then is wrong."""
    for _ in range(100):
        focus = page.evaluate(FOCUS)
        if focus is None or not focus["faults"]:
            break
        page.wait_for_timeout(20)
    return focus


def faults_of(page, address):
    """Press Tab through a whole page. Return what had the focus without being seen, and what never had it."""
    page.goto(address)
    count, faults, reached = page.evaluate(USABLE), [], []
    for _ in range(count + 50):
        page.keyboard.press("Tab")
        focus = settled(page)
        if focus is None or (reached and focus["number"] == reached[0]):
            break
        faults += [f"{focus['html']} {fault}" for fault in focus["faults"]]
        reached.append(focus["number"])
    # With what is folded into the menu: tests of the menu walk through that.
    assert (
        count + page.locator("#menu:not(:popover-open)").locator("a:not(:visible), button:not(:visible)").count() > 10
    )
    return faults, page.evaluate(MISSED, reached)


@pytest.mark.parametrize("width", [1440, 390])
def test_the_keyboard_reaches_all_of_long_forms_and_is_seen_to(signed_in, live_server, page, width):
    person = make_world()
    signed_in(person)
    page.set_viewport_size({"width": width, "height": 700})
    # Newer parts would come at any moment of the walk: what they do to the focus has a test of its own.
    page.clock.install()
    forms = (
        f"/admin/rules/rule/{person.rules.order_by('pk')[0].pk}/change/",
        f"/admin/notify/channel/{person.channels.order_by('pk')[0].pk}/change/",
        "/series/new/",
        "/portfolios/add/",
    )

    assert {form: faults_of(page, live_server.url + form) for form in forms} == dict.fromkeys(forms, ([], []))


def test_the_focus_stays_where_it_came_to_while_newer_parts_were_asked_for(signed_in, live_server, page):
    person = make_world()
    signed_in(person)
    page.clock.install()
    page.goto(f"{live_server.url}/admin/notify/channel/{person.channels.order_by('pk')[0].pk}/change/")
    held = []
    page.route("**/live/", lambda route: held.append(route))
    with page.expect_request("**/live/"):
        page.clock.run_for(3_000)
    link = page.locator("[data-live] a").first
    link.focus()
    with page.expect_response("**/live/") as newer:
        held[0].continue_()
    newer.value.finished()
    # What follows the answer comes before what follows a later one.
    page.evaluate("fetch('/healthz').then(answer => answer.text())")

    expect(link).to_be_focused()


def test_the_first_stop_in_the_administration_skips_the_navigation(signed_in, owner, live_server, page):
    signed_in(owner)
    page.goto(f"{live_server.url}/admin/")
    page.keyboard.press("Tab")
    expect(page.locator("a.skip")).to_be_focused()
    expect(page.locator("a.skip")).to_be_in_viewport(ratio=1)

    page.keyboard.press("Enter")

    expect(page.locator("#content")).to_be_focused()


def test_the_focus_stays_in_view_where_something_is_drawn_above_it(signed_in, live_server, page):
    person = make_world()
    signed_in(person)
    page.set_viewport_size({"width": 390, "height": 700})
    held = []
    page.route("**/past/", lambda route: held.append(route))
    with page.expect_request("**/past/"):
        page.goto(f"{live_server.url}/admin/rules/rule/{person.rules.order_by('pk')[0].pk}/change/")
    page.locator("[name=pending]").focus()
    page.keyboard.press("Tab")
    field = page.locator("[name=keep_firing]")
    expect(field).to_be_focused()
    before = page.evaluate("document.body.scrollHeight")
    held[0].continue_()
    page.wait_for_function("before => document.body.scrollHeight > before", arg=before)

    expect(field).to_be_in_viewport(ratio=0.9)
    # A reader who has scrolled away stays there.
    page.mouse.wheel(0, -600)
    expect(field).not_to_be_in_viewport()
    page.evaluate("document.getElementById('rule-past').hidden = true")
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(field).not_to_be_in_viewport()
