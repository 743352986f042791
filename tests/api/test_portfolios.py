"""Portfolios by GraphQL."""

import pytest

from tests.builders import make_owner
from tests.portfolios.rows import bought, columns, make_asset, make_portfolio, record, sold

pytestmark = pytest.mark.django_db


def test_a_portfolio_with_its_positions_and_transactions(ask):
    ada, acme = make_owner(), make_asset()
    savings = make_portfolio(ada, method="average", tracks_cash=True)
    split = columns("2024-03-01", "event", event="split", asset=acme, numerator=2, denominator=1)
    record(savings, bought(acme, fee="1.50"), sold(acme), split)
    query = """{ portfolios(first: 5) { edges { node {
        name owner baseCurrency method tracksCash
        positions(first: 5) { edges { node { asset { symbol } quantity cost fees realised pricePart costs income } } }
        transactions(first: 2) { edges { node { kind event at hasTime asset { symbol } quantity amount fee numerator } }
            pageInfo { hasNextPage } }
    } } } }"""
    [edge] = ask(query, user=ada).json()["data"]["portfolios"]["edges"]
    assert edge["node"] == {
        "name": "Savings",
        "owner": "ada",
        "baseCurrency": "EUR",
        "method": "AVERAGE",
        "tracksCash": True,
        "positions": {
            "edges": [
                {
                    "node": {
                        "asset": {"symbol": "ACME"},
                        **{"quantity": "12", "cost": "600", "fees": "0.9", "realised": "100", "pricePart": "100"},
                        **{"costs": "0.6", "income": "0"},
                    }
                }
            ]
        },
        "transactions": {
            "edges": [
                {
                    "node": {
                        **{"kind": "EVENT", "event": "SPLIT", "at": "2024-03-01T12:00:00Z", "hasTime": False},
                        **{"asset": {"symbol": "ACME"}, "quantity": None, "amount": None, "fee": "0", "numerator": 2},
                    }
                },
                {
                    "node": {
                        **{"kind": "SELL", "event": None, "at": "2024-02-01T12:00:00Z", "hasTime": False},
                        **{"asset": {"symbol": "ACME"}, "quantity": "4", "amount": "500", "fee": "0"},
                        "numerator": None,
                    }
                },
            ],
            "pageInfo": {"hasNextPage": True},
        },
    }


def test_a_portfolio_by_its_id(ask):
    ada = make_owner()
    savings = make_portfolio(ada)
    query = f'{{ portfolio(id: "{savings.public_id}") {{ name }} }}'
    assert ask(query, user=ada).json() == {"data": {"portfolio": {"name": "Savings"}}}
    assert ask(query, user=make_owner("eve")).json() == {"data": {"portfolio": None}}
