"""What is wider than the page, or longer than a line, is not cut off."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from apps.alerts.models import Alert
from apps.sources import services as sources
from tests.builders import START, TRACE, make_feed, make_notified_alerts

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

# How far the table reaches beyond what is seen of it, and how far it was scrolled when its last column was called for.
REACH = """
table => {
    const frame = table.parentElement;
    const seen = Math.min(...[frame, frame.parentElement].map(one => one.getBoundingClientRect().right));
    const beyond = table.getBoundingClientRect().right - seen;
    table.querySelector("tbody td:last-child").scrollIntoView({inline: "end"});
    return [beyond > 1, frame.scrollLeft > 0];
}
"""


@pytest.fixture
def superuser(signed_in):
    user = User.objects.create_superuser("root")
    signed_in(user)
    return user


def test_a_table_below_a_form_that_is_wider_than_the_page_scrolls(superuser, live_server, page):
    feed = make_feed("OWN-USD")
    slot = START + timedelta(seconds=60)
    sources.fetch(feed_id=feed.pk, slot=slot, now=slot, trace_id=TRACE)
    page.goto(f"{live_server.url}/admin/market/feed/{feed.pk}/change/")

    reach = page.locator("section", has_text="Last entries of its log").locator("table").evaluate(REACH)

    assert reach == [True, True]


def test_the_form_of_a_group_is_no_wider_than_the_page(superuser, live_server, page):
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(f"{live_server.url}/admin/auth/group/add/")
    page.wait_for_selector(".selector-chosen")

    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("path", ["alerts/alert/", "notify/message/{message}/change/"])
def test_on_a_narrow_page_long_words_are_seen_whole(superuser, live_server, page, path):
    (alert,) = make_notified_alerts(superuser, 1)
    Alert.objects.update(summary="it rose and it rose and it rose, " * 9)
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(f"{live_server.url}/admin/{path.format(message=alert.events.get().notifications.get().message_id)}")

    cell = page.locator("td, th", has_text="it rose and it rose").first

    assert cell.evaluate("cell => cell.scrollHeight <= cell.clientHeight")
