"""No page has a serious fault of accessibility: axe looks at each, wide and narrow, light and dark."""

import pytest
from django.template.loader import render_to_string

from tests.browser.addresses import addresses_of, make_world
from tests.browser.axe import add_to, violations_of

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SERIOUS = {"serious", "critical"}
IS_PAGE = "document.doctype !== null && document.contentType === 'text/html'"
# Addresses at which there is no page: they answer programs, or with a part of a page, a file, or the way to a page.
NO_PAGES = {
    *("imports", "ingest", "alertmanager", "metrics", "healthz", "readyz", "status", "favicon.ico"),
    *("live", "asset_live", "asset_list_live", "portfolio_performance_part", "portfolio_drift_sentence", "series_pick"),
    *("asset_quotes", "asset_alerts", "account_download", "portfolio_download", "portfolio_as_ghostfolio"),
    # Where nobody is half signed in, and the page of one's own second factor.
    *("mfa_authenticate", "auth.User:auth_user_second_factor", "auth.User:auth_user_identities"),
    *("logout", "watch_asset", "series_preview", "admin/login/", "site:login", "site:jsi18n", "site:search"),
    "password_reset_confirm",
    *("backtests.BacktestRun:backtests_backtestrun_status", "market.DerivedSeries:market_derivedseries_add"),
    # The past of an asset leads back to its page where its feed has none; else it is a form like that of a split.
    *(f"market.Asset:market_asset_{name}" for name in ("live", "past")),
    *(f"market.Feed:market_feed_{name}" for name in ("test_fetch", "test_fetch_new")),
    *(f"notify.Channel:notify_channel_{name}" for name in ("live", "preview", "preview_new")),
    *(f"rules.Rule:rules_rule_{name}" for name in ("condition", "past", "preview", "sample")),
}
SIGNED_OUT = {
    "login": "/accounts/login/",
    "password_reset": "/accounts/reset/",
    "password_reset_confirm": "/accounts/reset/x/x/",
    "action of no message": "/action/x",
}
ERRORS = ("400", "403", "403_csrf", "404", "500", "503")


def serious_in(page, name):
    """Return the serious violations on the page that is open, each as a line that says where it is."""
    return [
        f"{name} ({view}): {one['rule']}, {one['impact']}: {one['element']}: {one['html']}: {one['why']}"
        for view, one in violations_of(page)
        if one["impact"] in SERIOUS
    ]


def has_page(page, address):
    """Return whether there is a page at an address. It is not opened: after a file, or an answer without a text, the
    browser opens a page of its own, at a moment of its own."""
    answer = page.request.get(address, max_redirects=0, headers={"accept": "text/html"})
    is_text = answer.headers.get("content-type", "").startswith("text/html")
    return is_text and answer.text().lstrip().lower().startswith("<!doctype html")


def open_page(page, address):
    """Return the status of the page at an address; None where the way leads elsewhere."""
    answer = page.goto(address)
    return answer.status if answer.request.redirected_from is None and page.evaluate(IS_PAGE) else None


def answering(body):
    """Return what answers a request of the browser with this page."""
    return lambda route: route.fulfill(content_type="text/html; charset=utf-8", body=body)


def test_axe_finds_nothing_serious_on_any_page(signed_in, live_server, page):
    page.set_default_navigation_timeout(300_000)
    person = make_world()
    signed_in(person)
    add_to(page)
    found, names, wrong, refused = [], set(), set(), 0
    for name, address in addresses_of(person):
        names.add(name)
        if name in NO_PAGES or name.endswith(":old_address"):
            if has_page(page, live_server.url + address):
                wrong.add(name)
            continue
        status = open_page(page, live_server.url + address)
        assert status is None or status < 500, name
        refused += status == 403
        if status is None:
            wrong.add(name)
        # Each page that nobody may open is the same one.
        elif status != 403 or refused == 1:
            found += serious_in(page, name)
    assert found == []
    assert wrong == set(), "a page in NO_PAGES, or no page and not in it"
    assert NO_PAGES - names == set()


def test_axe_finds_nothing_serious_on_pages_for_strangers_and_of_errors(live_server, page, settings):
    settings.EMAIL_CONFIGURED = True
    add_to(page)
    found = []
    for name, address in SIGNED_OUT.items():
        assert open_page(page, live_server.url + address) is not None
        found += serious_in(page, name)
    for name in ERRORS:
        address = f"{live_server.url}/error-{name}"
        context = {"title": "Not now", "text": "The database does not answer.", "request_id": "1"}
        body = render_to_string(f"{name}.html", context)
        page.route(address, answering(body))
        page.goto(address)
        found += serious_in(page, f"{name}.html")
    assert found == []


def test_a_serious_violation_is_found_in_the_view_in_which_it_is(live_server, page):
    add_to(page)
    page.goto(f"{live_server.url}/accounts/login/")
    style = "@media (prefers-color-scheme: dark) and (max-width: 500px) { h1 { color: #333 } }"
    page.evaluate("() => { document.adoptedStyleSheets = [new CSSStyleSheet()] }")
    page.evaluate("style => document.adoptedStyleSheets[0].replaceSync(style)", style)

    lines = serious_in(page, "login")

    assert [line.partition(": ")[0] for line in lines] == ["login (390 px, dark)"]
    assert "color-contrast" in lines[0]
