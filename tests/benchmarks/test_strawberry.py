"""Pages of the API beside Strawberry's, which serves types of the same names from the same queries of the apps, in an
environment of its own; each in a process of its own, in turns in one run. The answers are the same."""

import pytest

from tests.benchmarks.serving import compare, serving
from tests.benchmarks.sizes import PAGE_ROWS as ROWS
from tests.benchmarks.test_graphql import ALERTS, ASSETS, PORTFOLIO, make_alerts, make_positions, make_prices

pytestmark = [pytest.mark.benchmark, pytest.mark.servers, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("name", "query", "make"),
    [
        ("assets", ASSETS, lambda owner: make_prices(ROWS)),
        ("alerts", ALERTS, make_alerts),
        ("positions", PORTFOLIO, make_positions),
    ],
    ids=["assets", "alerts", "positions"],
)
def test_pages_beside_strawberry(admin_user, name, query, make):
    make(admin_user)
    with serving("graphene", admin_user) as (version, ask), serving("strawberry-graphql", admin_user) as other:
        answer, count, _ = ask(query=query, runs=0)
        other_version, ask_other = other
        other_answer, other_count, _ = ask_other(query=query, runs=0)
        assert other_answer["data"] == answer["data"]
        print(f"\n  {version}, {count} reads; {other_version}, {other_count} reads")
        compare(
            (f"{ROWS} {name}, ours", lambda runs: ask(query=query, runs=runs)[2]),
            (f"{ROWS} {name}, Strawberry's", lambda runs: ask_other(query=query, runs=runs)[2]),
        )
