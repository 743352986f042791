"""Lists by pages."""

import pytest

from apps.alerts.models import Alert
from apps.market.models import Asset
from apps.rules.models import RuleState
from tests.api.asking import codes
from tests.builders import above, append_quotes, at, make_feed, make_notified_alerts, make_owner, make_rule

pytestmark = pytest.mark.django_db

PAGE_INFO = "pageInfo { hasNextPage hasPreviousPage startCursor endCursor }"
ASSETS = f"query ($after: String) {{ assets(first: 3, after: $after) {{ edges {{ node {{ symbol }} }} {PAGE_INFO} }} }}"


def walk(ask, query, *, user):
    """Return the pages of the list that `query` asks for with $after, to its end."""
    pages, after = [], None
    while True:
        [connection] = ask(query, {"after": after}, user=user).json()["data"].values()
        pages.append([one["node"] for one in connection["edges"]])
        assert connection["pageInfo"]["hasPreviousPage"] == (after is not None)
        if not connection["pageInfo"]["hasNextPage"]:
            return pages
        after = connection["pageInfo"]["endCursor"]


def test_pages_follow_each_other_without_gap_or_double(ask):
    make_feed(*(f"A{number}" for number in range(7)))
    pages = walk(ask, ASSETS, user=make_owner())
    assert [[one["symbol"] for one in page] for page in pages] == [["A0", "A1", "A2"], ["A3", "A4", "A5"], ["A6"]]


def test_a_page_that_ends_with_the_list_has_no_next(ask):
    make_feed(*(f"A{number}" for number in range(6)))
    assert len(walk(ask, ASSETS, user=make_owner())) == 2


def test_alerts_are_newest_first_also_where_they_opened_together(ask):
    ada = make_owner()
    make_notified_alerts(ada, 5)
    make_notified_alerts(ada, 2, name="more")
    query = f"query ($after: String) {{ alerts(first: 2, after: $after) {{ edges {{ node {{ id }} }} {PAGE_INFO} }} }}"
    pages = walk(ask, query, user=ada)
    expected = [str(one.public_id) for one in Alert.objects.order_by("-opened_at", "-pk")]
    assert [one["id"] for page in pages for one in page] == expected
    assert len(expected) == 7


ORDERED = {
    "alerts": ("node { summary }", "OLDEST_FIRST", "NEWEST_FIRST"),
    "messages": ("node { subject }", "OLDEST_FIRST", "NEWEST_FIRST"),
    "rules": ("node { name }", "ASCENDING", "DESCENDING"),
}


@pytest.mark.parametrize("field", ORDERED)
def test_a_list_is_walked_in_the_order_that_is_asked_for(ask, field):
    ada = make_owner()
    make_notified_alerts(ada, 3)
    selection, *orders = ORDERED[field]
    query = (
        f"query ($after: String) {{ {field}(first: 2, after: $after, order: %s)"
        f" {{ edges {{ {selection} }} {PAGE_INFO} }} }}"
    )
    up, down = ([one for page in walk(ask, query % order, user=ada) for one in page] for order in orders)
    assert up == down[::-1]
    assert len(up) == 3
    own = ask(f"{{ {field} {{ edges {{ {selection} }} }} }}").json()["data"][field]["edges"]
    assert [one["node"] for one in own] == (up if field == "rules" else down)


def test_a_cursor_is_of_one_order(ask):
    make_feed("A", "B")
    query = "{ assets(order: %s, first: 1%s) { edges { cursor } } }"
    [edge] = ask(query % ("DESCENDING", ""), user=make_owner()).json()["data"]["assets"]["edges"]
    after = f', after: "{edge["cursor"]}"'
    refused = ask(query % ("ASCENDING", after))
    assert (refused.status_code, codes(refused)) == (400, ["BAD_USER_INPUT"])
    assert "errors" not in ask(query % ("DESCENDING", after)).json()


def test_messages_and_rules_are_walked_whole(ask):
    ada = make_owner()
    make_notified_alerts(ada, 5)
    for field, node in [("messages", "subject"), ("rules", "name")]:
        query = (
            f"query ($after: String) {{ {field}(first: 2, after: $after)"
            f" {{ edges {{ node {{ {node} }} }} {PAGE_INFO} }} }}"
        )
        found = [one[node] for page in walk(ask, query, user=ada) for one in page]
        assert len(found) == len(set(found)) == 5


def test_a_row_that_came_meanwhile_moves_no_page(ask):
    ada = make_owner()
    make_feed("B", "C", "D")
    query = "query ($after: String) { assets(first: 1, after: $after) { edges { cursor node { symbol } } } }"
    [edge] = ask(query, user=ada).json()["data"]["assets"]["edges"]
    Asset.objects.create(symbol="A")
    [following] = ask(query, {"after": edge["cursor"]}).json()["data"]["assets"]["edges"]
    assert (edge["node"]["symbol"], following["node"]["symbol"]) == ("B", "C")


def test_an_empty_list_is_an_empty_page(ask):
    answer = ask(f"{{ rules {{ edges {{ cursor }} {PAGE_INFO} }} }}", user=make_owner()).json()
    assert answer["data"]["rules"] == {
        "edges": [],
        "pageInfo": {"hasNextPage": False, "hasPreviousPage": False, "startCursor": None, "endCursor": None},
    }


@pytest.fixture
def two_rules():
    """Return Ada, who has two rules with states: on 5 assets, and on 2."""
    ada = make_owner()
    symbols = [f"A{number}" for number in range(5)]
    feed = make_feed(*symbols)
    make_rule(ada, name="five", assets=symbols, condition=above(10))
    make_rule(ada, name="two", assets=symbols[:2], condition=above(20))
    append_quotes(feed, [(symbol, at(0), "1") for symbol in symbols])
    for rule in ada.rules.all():
        for asset in Asset.objects.order_by("pk")[: 5 if rule.name == "five" else 2]:
            RuleState.objects.get_or_create(
                rule=rule, asset=asset, defaults={"version": rule.versions.get(), "state": "inactive"}
            )
    return ada


def test_each_row_has_its_own_page_of_rows(ask, two_rules):
    states = f"states(first: 2) {{ edges {{ node {{ asset {{ symbol }} }} }} {PAGE_INFO} }}"
    query = f"{{ rules {{ edges {{ node {{ name {states} }} }} }} }}"
    rules = [one["node"] for one in ask(query, user=two_rules).json()["data"]["rules"]["edges"]]
    assert [
        (
            rule["name"],
            [state["node"]["asset"]["symbol"] for state in rule["states"]["edges"]],
            rule["states"]["pageInfo"]["hasNextPage"],
        )
        for rule in rules
    ] == [("five", ["A0", "A1"], True), ("two", ["A0", "A1"], False)]


def test_a_page_of_one_row_goes_on_behind_its_cursor(ask, two_rules):
    rule = two_rules.rules.get(name="five")
    query = (
        f'query ($after: String) {{ rule(id: "{rule.public_id}")'
        f" {{ states(first: 2, after: $after) {{ edges {{ node {{ asset {{ symbol }} }} }} {PAGE_INFO} }} }} }}"
    )
    symbols, after = [], None
    for _ in range(3):
        states = ask(query, {"after": after}, user=two_rules).json()["data"]["rule"]["states"]
        symbols.append([one["node"]["asset"]["symbol"] for one in states["edges"]])
        after = states["pageInfo"]["endCursor"]
    assert symbols == [["A0", "A1"], ["A2", "A3"], ["A4"]]


def test_two_pages_of_one_list_in_one_query_are_two_pages(ask, two_rules):
    pages = "a: states(first: 1) { edges { cursor } } b: states(first: 3) { edges { cursor } }"
    query = f"{{ rules {{ edges {{ node {{ {pages} }} }} }} }}"
    [five, two] = [one["node"] for one in ask(query, user=two_rules).json()["data"]["rules"]["edges"]]
    assert [len(five["a"]["edges"]), len(five["b"]["edges"])] == [1, 3]
    assert [len(two["a"]["edges"]), len(two["b"]["edges"])] == [1, 2]
