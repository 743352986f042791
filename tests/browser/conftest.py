"""A headless Chromium, and a site for it to look at."""

import os
import shutil
from pathlib import Path

import pytest
from playwright.sync_api import sync_playwright

from tests.builders import make_member

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    # No request leaves the machine. Not by a route of each page, with which a browser keeps no file.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost",
]


@pytest.fixture(scope="session", autouse=True)
def _rows_beside_an_event_loop():
    """Playwright keeps an event loop in this thread, beside which Django would refuse to ask the database."""
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    yield
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
    else:
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = before


@pytest.fixture(scope="session")
def browser():
    """Return a headless Chromium. It fails where there is none: a page that nobody looked at is not tested."""
    if not (Path(CHROMIUM).is_file() or shutil.which(CHROMIUM)):
        pytest.fail(f"There is no Chromium at {CHROMIUM}; install it, or set CHROMIUM to where it is.")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """Return a page of a browser that has never been here."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    yield context.new_page()
    context.close()


@pytest.fixture(autouse=True)
def _no_redis(settings):
    """Prices come from the rows: a Redis may still hold those of another test's assets."""
    settings.REDIS_URL = ""


@pytest.fixture
def owner():
    """Return a member of the group Owner who may enter the admin."""
    return make_member("ada", is_staff=True)


@pytest.fixture
def signed_in(client, live_server, page):
    """Return a function that signs a user in on the page, without the form."""

    def sign_in(user):
        client.force_login(user)
        cookie = client.cookies["sessionid"].value
        page.context.add_cookies([{"name": "sessionid", "value": cookie, "url": live_server.url}])

    return sign_in
