"""Milliseconds of pages of the API, of two beside a bare view that reads the same rows with values() and writes JSON.

On PostgreSQL and Redis, through Django's test client: middleware, session, query, answer. The ratios are those of
processes of their own, in turns in one run.
"""

import json
import logging
import time
from datetime import timedelta
from decimal import Decimal
from statistics import quantiles

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.benchmarks.serving import compare, serving
from tests.benchmarks.sizes import PAGE_ROWS as ROWS
from tests.benchmarks.sizes import PAGE_RUNS as RUNS
from tests.benchmarks.sizes import PAGE_WARM_UP as WARM_UP
from tests.builders import append_quotes, at, make_feed, make_notified_alerts
from tests.portfolios.rows import bought, make_portfolio, record

DAY = timedelta(hours=24)

ASSETS = f"{{ assets(first: {ROWS}) {{ edges {{ node {{ symbol name price variation24h }} }} }} }}"
ALERTS = f"""{{ alerts(first: {ROWS}) {{ edges {{ node {{
  id severity openedAt summary evidence rule {{ name }} asset {{ symbol }} timeline {{ kind at reason }}
}} }} }} }}"""

PORTFOLIO = f"""{{ portfolios(first: 1) {{ edges {{ node {{
  name worth {{ value knownValue missing {{ what of }} parts {{ unrealised realised income }} }}
  positions(first: {ROWS}) {{ edges {{ node {{
    quantity cost realised income worth {{ value gain pricePart currencyPart }} asset {{ symbol price variation24h }}
  }} }} }}
}} }} }} }}"""
MANY_ASSETS = f"""query ($after: String) {{ assets(first: {ROWS}, after: $after) {{
  edges {{ node {{ symbol name price variation24h }} }} pageInfo {{ endCursor hasNextPage }}
}} }}"""
STATEMENTS_MOST = 10
# That read who asks.
OF_SESSION = 2

pytestmark = [
    pytest.mark.benchmark,
    pytest.mark.servers,
    pytest.mark.django_db,
]


def milliseconds(call) -> tuple[float, float]:
    """Return p50 and p95 of so many calls."""
    for _ in range(WARM_UP):
        call()
    taken = []
    for _ in range(RUNS):
        began = time.perf_counter()
        response = call()
        taken.append((time.perf_counter() - began) * 1_000)
        assert response.status_code == 200
    parts = quantiles(taken, n=20)
    return parts[9], parts[18]


def reads(asked) -> int:
    """Return how many statements read rows, those of session and user among them: not those around the transaction."""
    return sum(one["sql"].startswith("SELECT") for one in asked)


def asker(client):
    def ask(query, **variables):
        body = json.dumps({"query": query, "variables": variables})
        return client.post("/graphql", body, content_type="application/json")

    return ask


def make_prices(count):
    """Make assets with a price of 100, and of 110.25 a day later; return their feed."""
    feed = make_feed(*(f"A{number:04}" for number in range(count)))
    for days, price in enumerate(("100", "110.25")):
        append_quotes(feed, [(asset.symbol, at(days * 60 * 60 * 24), price) for asset in feed.assets.all()])
    return feed


def make_alerts(owner):
    """Make so many alerts that were notified."""
    logging.disable(logging.INFO)
    make_notified_alerts(owner, ROWS)
    logging.disable(logging.NOTSET)


def make_positions(owner):
    """Make a portfolio that holds 10 of each of so many assets, in euros."""
    feed = make_prices(ROWS)
    feed.assets.update(currency="EUR")
    record(make_portfolio(owner), *(bought(asset) for asset in feed.assets.all()))


def test_a_portfolio_with_its_positions(client, admin_user, settings):
    settings.GRAPHQL_REQUESTS_PER_MINUTE = dict.fromkeys(settings.GRAPHQL_REQUESTS_PER_MINUTE, 0)
    make_positions(admin_user)
    client.force_login(admin_user)
    ask = asker(client)
    ask(PORTFOLIO)
    with CaptureQueriesContext(connection) as asked:
        [portfolio] = ask(PORTFOLIO).json()["data"]["portfolios"]["edges"]
    positions = [one["node"] for one in portfolio["node"]["positions"]["edges"]]
    assert [(one["quantity"], one["asset"]["price"]) for one in positions] == [("10", "110.25")] * ROWS
    assert {(one["worth"]["value"], one["asset"]["variation24h"]) for one in positions} == {("1102.5", "10.25")}
    assert Decimal(portfolio["node"]["worth"]["value"]) == ROWS * Decimal("1102.5")
    count = reads(asked)
    assert 0 < count <= STATEMENTS_MOST + OF_SESSION
    half, most = milliseconds(lambda: ask(PORTFOLIO))
    print(f"\n  a portfolio of {ROWS} positions  p50 {half:>6.1f} ms   p95 {most:>6.1f} ms   {count} reads")


def test_many_assets_by_pages(client, admin_user, settings):
    settings.GRAPHQL_REQUESTS_PER_MINUTE = dict.fromkeys(settings.GRAPHQL_REQUESTS_PER_MINUTE, 0)
    symbols = sorted(asset.symbol for asset in make_prices(5 * ROWS).assets.all())
    client.force_login(admin_user)
    ask = asker(client)

    def walk():
        after, found = None, []
        for _ in range(5):
            answer = ask(MANY_ASSETS, after=after)
            page = answer.json()["data"]["assets"]
            found += [one["node"]["symbol"] for one in page["edges"]]
            after = page["pageInfo"]["endCursor"]
        assert (found, page["pageInfo"]["hasNextPage"]) == (symbols, False)
        return answer

    walk()
    with CaptureQueriesContext(connection) as asked:
        walk()
    count = reads(asked)
    assert 0 < count <= 5 * STATEMENTS_MOST
    half, most = milliseconds(walk)
    print(f"\n  {5 * ROWS} assets in 5 pages  p50 {half:>6.1f} ms   p95 {most:>6.1f} ms   {count} reads")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("name", "query", "make", "column"),
    [("assets", ASSETS, lambda owner: make_prices(ROWS), "symbol"), ("alerts", ALERTS, make_alerts, "summary")],
    ids=["assets", "alerts"],
)
def test_a_page_of_rows_beside_a_bare_view(admin_user, name, query, make, column):
    make(admin_user)
    with serving("graphene", admin_user) as (_, ask), serving("django", admin_user) as (_, ask_bare):
        answer, count, _ = ask(query=query, runs=0)
        bare, _, _ = ask_bare(view=name, runs=0)
        assert 0 < count <= STATEMENTS_MOST
        ours, theirs = ([one["node"] for one in answer["data"][name]["edges"]], bare[name])
        assert [one[column] for one in ours] == [one[column] for one in theirs]
        assert len(ours) == ROWS
        compare(
            (f"{ROWS} {name} by GraphQL", lambda runs: ask(query=query, runs=runs)[2]),
            (f"{ROWS} {name} by a bare view", lambda runs: ask_bare(view=name, runs=runs)[2]),
        )
