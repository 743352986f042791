"""A page costs the same statements, however many rows it has. Connections are enumerated from the schema."""

import pytest
from django.contrib.auth import get_user_model
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.alerts.models import Alert
from apps.alerts.services import acknowledge
from apps.api.graphql import limits
from apps.api.graphql.schema import schema
from apps.market.models import AssetAlias
from apps.market.services import roll_up
from apps.notify.services import create_channel, create_silence, set_channels
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule
from apps.sources.models import RefusedListing
from tests.api.asking import QUERY, asking_by, connections, everything
from tests.builders import (
    above,
    append_quotes,
    asset_ids,
    at,
    make_backtest,
    make_feed,
    make_notified_alerts,
    make_owner,
    make_rule,
)
from tests.portfolios.rows import bought, make_portfolio, record

pytestmark = pytest.mark.django_db

# Connection -> how a query comes to it, with everything that hangs on its rows.
WAYS = {
    "Query.assets": "{ assets(first: 100) %s }",
    "Query.feeds": "{ feeds(first: 100) %s }",
    "Query.rules": "{ rules(first: 100) %s }",
    "Query.backtests": "{ backtests(first: 100) %s }",
    "Query.alerts": "{ alerts(first: 100) %s }",
    "Query.portfolios": "{ portfolios(first: 100) %s }",
    "Query.channels": "{ channels(first: 100) %s }",
    "Query.messages": "{ messages(first: 100) %s }",
    "Query.silences": "{ silences(first: 100) %s }",
    "Asset.candles": "{ assets(first: 100) { edges { node { candles(first: 100) %s } } } }",
    "Asset.quotes": "{ assets(first: 100) { edges { node { quotes(first: 100) %s } } } }",
    "Asset.alerts": "{ assets(first: 100) { edges { node { alerts(first: 100) %s } } } }",
    "Feed.entries": "{ feeds(first: 100) { edges { node { entries(first: 100) %s } } } }",
    "Feed.assets": "{ feeds(first: 100) { edges { node { assets(first: 100) %s } } } }",
    "Portfolio.positions": "{ portfolios(first: 100) { edges { node { positions(first: 100) %s } } } }",
    "Position.lots": "{ portfolios(first: 100) { edges { node { positions(first: 9) { edges { node {"
    " lots(first: 9) %s } } } } } } }",
    "Portfolio.transactions": "{ portfolios(first: 100) { edges { node { transactions(first: 100) %s } } } }",
    "Rule.states": "{ rules(first: 100) { edges { node { states(first: 100) %s } } } }",
    "Alert.messages": "{ alerts(first: 100) { edges { node { messages(first: 100) %s } } } }",
    "Alert.notifications": "{ alerts(first: 100) { edges { node { notifications(first: 100) %s } } } }",
}


def test_every_connection_is_listed():
    assert sorted(WAYS) == connections()


def fill(owner, count, *, name):
    """Make feeds, assets with aliases and quotes of two days, rules, alerts, some acknowledged, messages and
    silences."""
    alerts = make_notified_alerts(owner, count, name=name)
    for number, alert in enumerate(alerts):
        by = make_owner(f"{name}-{number}")
        acknowledge(alerts=Alert.objects.filter(pk=alert.pk), by=by, note="seen", now=at(2))
        match = {"owner": by, "rule": alert.rule, "asset": alert.asset, "comment": "known"}
        create_silence(author=by, starts_at=at(0), ends_at=at(1), **match)
    symbols = [f"{name}-MORE-{number}".upper() for number in range(count)]
    feed = make_feed(*symbols, name=f"{name}-more")
    for symbol, asset_id in asset_ids(feed).items():
        AssetAlias.objects.create(asset_id=asset_id, name=f"{symbol}-ALIAS")
        refused = {"provider": "simulated", "external_id": symbol, "reason": "http_400"}
        RefusedListing.objects.create(asset_id=asset_id, **refused, since=at(0), next_ask_at=at(600))
    make_rule(owner, name=f"{name} of all", assets=symbols, condition=above(10))
    append_quotes(feed, [(symbol, at(0), "9") for symbol in symbols])
    append_quotes(feed, [(symbol, at(90_000), "9.5") for symbol in symbols])
    evaluate_pending(feed_id=feed.pk)
    roll_up(feed_id=feed.pk)
    for number in range(count):
        record(make_portfolio(owner, f"{name} {number}"), bought(feed.assets.first()))
        make_feed(f"{name}-{number}-ONLY".upper(), name=f"{name}-{number}")
    for alert in alerts:
        make_backtest(owner, alert.rule)
    inbox = {"owner": owner, "kind": "inbox", "config": {}}
    channels = [create_channel(name=f"{name} {number}", **inbox) for number in range(count)]
    set_channels(rule=Rule.objects.get(name=f"{name} of all"), channels=channels)


def query_by(way):
    kind, _, field = way.partition(".")
    owner_type = schema.type_map[kind]
    return WAYS[way] % everything(owner_type.fields[field].type, path=() if kind == QUERY.name else (kind,))


@pytest.fixture(scope="module")
def no_limits():
    """Answer queries for everything."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(limits, "COST", 10**9)
        patched.setattr(limits, "DEPTH", 100)
        yield


@pytest.fixture(scope="module")
def few(module_rows, no_limits):
    """Return how many statements each way takes, and how long its answer is, with few rows; then make many more."""
    root = get_user_model().objects.create_superuser("root")
    fill(root, 2, name="few")
    ask = asking_by(Client())
    ask("{ me { username } }", user=root)
    found = {}
    for way in WAYS:
        with CaptureQueriesContext(connection) as statements:
            answer = ask(query_by(way))
        found[way] = len(statements), len(answer.content)
    fill(root, 20, name="more")
    return found


@pytest.mark.parametrize("way", WAYS)
def test_a_page_costs_the_same_statements_for_few_rows_and_for_many(ask, few, django_assert_num_queries, way):
    statements, length = few[way]
    ask("{ me { username } }", user=get_user_model().objects.get(username="root"))
    with django_assert_num_queries(statements):
        answer = ask(query_by(way))
    assert "errors" not in answer.json()
    assert len(answer.content) > 4 * length


def test_30_assets_by_name_cost_two_statements_and_one_for_their_prices(ask, admin_user):
    feed = make_feed(*(f"A{number}" for number in range(30)))
    append_quotes(feed, [(f"A{number}", at(0), "1") for number in range(30)])
    query = "{ " + " ".join(f'a{number}: asset(id: "A{number}") {{ price }}' for number in range(30)) + " }"
    ask(query, user=admin_user)
    with CaptureQueriesContext(connection) as asked:
        answer = ask(query).json()
    read = [one["sql"] for one in asked if one["sql"].startswith("SELECT")]
    assert len(read) == 2 + 2 + 1  # of session and user, of names, of prices
    assert answer["data"]["a29"] == {"price": "1"}
