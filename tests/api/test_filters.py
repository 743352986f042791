"""Arguments of lists that choose among their rows. Nobody finds by them what the list would not show."""

import pytest

from apps.market.models import Asset, AssetAlias
from tests.api.asking import codes
from tests.builders import above, make_backtest, make_feed, make_owned, make_owner, make_rule
from tests.portfolios.rows import bought, make_asset, make_portfolio, record, sold

pytestmark = pytest.mark.django_db


def found(ask, query, name, **named):
    """Return the values of `name` in the first list of an answer."""
    answer = ask(query, **named).json()
    assert "errors" not in answer
    data = answer["data"]
    while "edges" not in data:
        [data] = data.values()
    return [one["node"][name] for one in data["edges"]]


def assets(ask, arguments, **named):
    return found(ask, f"{{ assets({arguments}) {{ edges {{ node {{ symbol }} }} }} }}", "symbol", **named)


def test_assets_by_what_their_names_have_in_them(ask, ada):
    make_feed("BTC-USD", "ETH-USD", "USDT-USD")
    Asset.objects.filter(symbol="USDT-USD").update(name="Tether")
    AssetAlias.objects.create(asset=Asset.objects.get(symbol="BTC-USD"), name="XBT")
    assert assets(ask, 'search: "eth"', user=ada) == ["ETH-USD", "USDT-USD"]
    assert assets(ask, 'search: "xbt"', user=ada) == ["BTC-USD"]
    assert assets(ask, 'search: "%"', user=ada) == []
    assert assets(ask, 'search: "eth", first: 1, order: DESCENDING', user=ada) == ["USDT-USD"]
    assert assets(ask, "search: null", user=ada) == ["BTC-USD", "ETH-USD", "USDT-USD"]


def test_assets_of_a_feed_that_the_reader_may_see(ask, ada, admin_user):
    make_feed("A")
    make_feed("B", name="other")
    mine = make_owned(ada, "MINE").name
    assert assets(ask, 'feed: "other"', user=admin_user) == ["B"]
    assert assets(ask, 'feed: "other"', user=ada) == []
    assert assets(ask, 'feed: "nothing"', user=ada) == []
    assert assets(ask, f'feed: "{mine}"', user=ada) == ["MINE"]
    assert assets(ask, f'feed: "{mine}"', user=make_owner("bob")) == []


def test_backtests_of_a_rule(ask, ada):
    make_feed("A")
    rules = [make_rule(ada, name=name, assets=["A"], condition=above(1)) for name in ("first", "second")]
    runs = [str(make_backtest(ada, rule).pk) for rule in rules]
    query = '{ backtests(rule: "%s") { edges { node { id } } } }'
    assert found(ask, query % rules[0].public_id, "id", user=ada) == runs[:1]
    assert found(ask, query % rules[1].public_id, "id", user=ada) == runs[1:]
    assert found(ask, query % rules[1].public_id, "id", user=make_owner("bob")) == []
    assert codes(ask(query % "1", user=ada)) == ["GRAPHQL_VALIDATION_FAILED"]


def test_transactions_by_asset_kind_and_time(ask, ada):
    acme, bolt, coin = make_asset("ACME"), make_asset("BOLT"), make_asset("COIN")
    portfolio = make_portfolio(ada)
    record(
        portfolio,
        bought(acme, "2024-01-02"),
        bought(bolt, "2024-01-03"),
        sold(acme, "2024-01-04", "1", "10"),
        bought(bolt, "2024-01-05", fee="1", fee_asset=coin, fee_quantity="1"),
        bought(coin, "2024-01-01"),
    )

    def days(arguments, user=ada):
        transactions = f"transactions({arguments}) {{ edges {{ node {{ at }} }} }}"
        query = f'{{ portfolio(id: "{portfolio.public_id}") {{ {transactions} }} }}'
        return [at[:10] for at in found(ask, query, "at", user=user)]

    assert days("first: 9") == ["2024-01-05", "2024-01-04", "2024-01-03", "2024-01-02", "2024-01-01"]
    assert days('asset: "ACME"') == ["2024-01-04", "2024-01-02"]
    assert days('asset: "COIN"') == ["2024-01-05", "2024-01-01"]
    assert days('asset: "NOTHING"') == []
    assert days("kind: SELL") == ["2024-01-04"]
    assert days('since: "2024-01-03T00:00:00Z", until: "2024-01-04T00:00:00Z"') == ["2024-01-03"]
    assert days('asset: "ACME", kind: BUY, order: OLDEST_FIRST') == ["2024-01-02"]
