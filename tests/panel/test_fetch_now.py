"""The lever *Fetch now* while a provider bans: who presses it is asked first."""

import pytest
from django.urls import reverse
from django.utils import timezone

from apps.market.models import FeedHead
from apps.sources.models import Circuit, FeedSource
from apps.sources.queries import address_of
from tests.builders import make_feed


def _press(client, *feeds, back=True, sure=False):
    """Ask for it as the button on a feed's page does, or as the list does."""
    asked = {"action": "fetch_now", "_selected_action": [feed.pk for feed in feeds]}
    asked |= (
        {"index": "0", "select_across": "0"} | ({"back": "page"} if back else {}) | ({"sure": "yes"} if sure else {})
    )
    return client.post(reverse("admin:market_feed_changelist"), asked, follow=True)


def _banned(feed, *, until):
    address = address_of(feed.sources.get(provider="kraken"))
    Circuit.objects.create(provider="kraken", address=address, failures=1, reason="rate_limited", open_until=until)
    FeedHead.objects.filter(feed=feed).update(next_slot=until)


@pytest.mark.django_db
@pytest.mark.parametrize("back", [True, False], ids=["page", "list"])
def test_fetch_now_asks_first_where_the_provider_bans_and_names_the_end_of_the_ban(admin_client, back):
    feed, other = make_feed(provider="kraken"), make_feed(name="other", provider="coinbase")
    until = timezone.now() + timezone.timedelta(days=3)
    _banned(feed, until=until)
    FeedHead.objects.update(next_slot=until)
    feeds = [feed] if back else [feed, other]
    asked = _press(admin_client, *feeds, back=back)

    assert f"kraken is left alone until {until:%Y-%m-%d %H:%M:%S} UTC (rate_limited)" in asked.text
    assert {*FeedHead.objects.values_list("next_slot", flat=True)} == {until}
    assert Circuit.objects.get().let_through is None

    done = _press(admin_client, *feeds, back=back, sure=True)
    assert f"{', '.join(one.name for one in feeds)}: due now." in done.text
    assert all(FeedHead.objects.get(feed=one).next_slot <= timezone.now() for one in feeds)
    assert Circuit.objects.get().let_through == feed


@pytest.mark.django_db
def test_fetch_now_asks_another_provider_without_a_question_and_says_who_is_left_alone(admin_client):
    feed = make_feed(provider="kraken")
    FeedSource.objects.create(feed=feed, position=2, provider="coinbase")
    until = timezone.now() + timezone.timedelta(days=3)
    _banned(feed, until=until)
    done = _press(admin_client, feed)

    assert "feed: due now." in done.text
    assert f"kraken is left alone until {until:%Y-%m-%d %H:%M:%S} UTC (rate_limited), and is not asked." in done.text
    assert Circuit.objects.get().let_through is None
