"""Health in GraphQL: of everything that a reader depends on, and of each thing."""

import pytest

from apps.market.models import Feed
from apps.notify.models import Channel
from apps.notify.services import create_channel, set_channels
from apps.pipeline.flow import evaluate_pending
from tests.builders import above, check_all, make_feed, make_operator, make_owner, make_rule

pytestmark = pytest.mark.django_db

MINE = "{ health { level problems { subject isIntended health { level code reason } } } }"
EACH = """{
    assets { edges { node { symbol health { level reason } } } }
    rules { edges { node { name health { level code remedy } } } }
}"""


@pytest.fixture
def ada():
    """Return the owner of a rule on BTC-USD that notifies an inbox."""
    ada = make_owner()
    feed = make_feed("BTC-USD", interval_seconds=86_400)
    rule = make_rule(ada, assets=["BTC-USD"], condition=above(10))
    set_channels(rule=rule, channels=[create_channel(owner=ada, name="Inbox", kind="inbox", config={})])
    evaluate_pending(feed_id=feed.pk)
    Feed.objects.update(is_enabled=False)
    return ada


def asked(ask, query=MINE):
    return ask(query).json()["data"]


def test_nothing_is_well_before_the_first_check(client, ask, ada):
    client.force_login(ada)
    assert asked(ask)["health"] == {"level": "STOPPED", "problems": []}
    check_all()
    assert asked(ask)["health"]["level"] == "WELL"


def test_an_owner_reads_what_their_rules_depend_on(client, ask, ada):
    check_all()
    client.force_login(ada)
    paused = {"level": "STOPPED", "code": "paused", "reason": "The feed is paused."}
    assert asked(ask)["health"]["problems"] == [{"subject": "FEED", "isIntended": True, "health": paused}]
    found = asked(ask, EACH)
    asset = {"symbol": "BTC-USD", "health": {"level": "STOPPED", "reason": "Feed feed: the feed is paused."}}
    rule = {"name": "rule", "health": {"level": "STOPPED", "code": "paused", "remedy": "Resume it on its page."}}
    assert found == {"assets": {"edges": [{"node": asset}]}, "rules": {"edges": [{"node": rule}]}}


def test_others_read_nothing_of_it_and_strangers_no_reason(client, ask, ada, settings):
    check_all()
    client.force_login(make_owner("eve"))
    assert asked(ask)["health"] == {"level": "WELL", "problems": []}
    client.logout()
    settings.MARKET_IS_PUBLIC = True
    assert asked(ask)["health"] == {"level": "WELL", "problems": []}
    (asset,) = asked(ask, "{ assets { edges { node { health { level reason remedy } } } } }")["assets"]["edges"]
    assert asset["node"]["health"] == {"level": "STOPPED", "reason": "", "remedy": ""}


def test_operators_read_the_health_of_feeds(client, ask, ada):
    check_all()
    client.force_login(make_operator("grace", "market.view_feed"))
    (feed,) = asked(ask, "{ feeds { edges { node { health { level code } } } } }")["feeds"]["edges"]
    assert feed["node"]["health"] == {"level": "STOPPED", "code": "paused"}


def test_an_address_in_a_reason_is_not_shown(client, ask, ada):
    Channel.objects.update(is_enabled=False, switched_off_because="ada@example.org was refused")
    check_all()
    client.force_login(ada)
    reasons = [one["health"]["reason"] for one in asked(ask)["health"]["problems"]]
    assert "It was disabled because … was refused." in reasons
