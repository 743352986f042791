"""Why a rule did or did not fire, by GraphQL: what the page in the admin answers, from the same service."""

import pytest
from django.utils import timezone

from apps.market.models import Asset
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule
from apps.rules.why import why
from tests.api.asking import NOBODYS, codes
from tests.builders import above, append_quotes, at, make_feed, make_member, make_rule

pytestmark = pytest.mark.django_db

QUERY = """query ($rule: UUID!, $asset: AssetId!, $at: DateTime) { why(rule: $rule, asset: $asset, at: $at) {
    refusal summary state unknown unknownText since openedAt isSuppressed coolingUntil evaluatedAt
    parts { depth summary result figures } evidence newest { at price } previous { at price }
    version description entry { feed seq asOf } } }"""


@pytest.fixture
def rule(ada):
    """Above 100 for a minute, on BTC-USD, which rose above it at the tenth second."""
    feed = make_feed("BTC-USD", "ETH-USD", name="spot")
    condition = {"all": [above(100), {"not": above(200)}]}
    rule = make_rule(ada, assets=["BTC-USD"], condition=condition, pending="1m")
    for second, price in ((0, "99"), (10, "101"), (30, "102.5")):
        append_quotes(feed, [("BTC-USD", at(second), price)])
    evaluate_pending(feed_id=feed.pk)
    return rule


def asked(ask, rule, user, *, asset="BTC-USD", **variables):
    response = ask(QUERY, {"rule": str(rule.public_id), "asset": asset, **variables}, user=user)
    assert "errors" not in response.json()
    return response.json()["data"]["why"]


def test_it_says_where_the_rule_stands_and_what_each_part_saw(ask, ada, rule):
    answer = asked(ask, rule, ada)
    found = why(ada, rule=rule, asset=Asset.objects.get(symbol="BTC-USD"), now=timezone.now())
    assert answer.pop("evidence") == found.evidence
    assert answer == {
        "refusal": None,
        "summary": "pending for 20 s of 60 s since 2026-03-02 12:00:10 UTC",
        "state": "PENDING",
        "unknown": "",
        "unknownText": "",
        "since": "2026-03-02T12:00:10Z",
        "openedAt": None,
        "isSuppressed": False,
        "coolingUntil": None,
        "evaluatedAt": "2026-03-02T12:00:30Z",
        "parts": [
            {"depth": 0, "summary": "all of these", "result": True, "figures": ""},
            {"depth": 1, "summary": "is above 100", "result": True, "figures": "the price is 102.5"},
            {"depth": 1, "summary": "not", "result": True, "figures": ""},
            {"depth": 2, "summary": "is above 200", "result": False, "figures": "the price is 102.5"},
        ],
        "newest": {"at": "2026-03-02T12:00:30Z", "price": "102.5"},
        "previous": {"at": "2026-03-02T12:00:10Z", "price": "101"},
        "version": 1,
        "description": "BTC-USD is above 100 and not (is above 200), for 1 minute",
        "entry": {"feed": "spot", "seq": 4, "asOf": "2026-03-02T12:00:30Z"},
    }


def test_a_moment_of_the_past_is_answered_as_it_was(ask, ada, rule):
    answer = asked(ask, rule, ada, at="2026-03-02T12:00:05Z")
    assert (answer["summary"], answer["newest"]["price"]) == ("not firing: the condition is false", "99")


@pytest.mark.parametrize(
    ("asset", "moment", "said"),
    [
        ("ETH-USD", None, "did not watch ETH-USD at that moment"),
        ("BTC-USD", "2999-01-01T00:00:00Z", "that time is in the future"),
        ("BTC-USD", "2020-01-01T00:00:00Z", "that moment lies before the feed's log begins"),
    ],
)
def test_what_cannot_be_answered_says_why(ask, ada, rule, asset, moment, said):
    answer = asked(ask, rule, ada, asset=asset, at=moment)
    assert said in answer.pop("refusal")
    assert set(answer.values()) == {None}


def test_a_deleted_rule_can_be_asked_about(ask, ada, rule):
    Rule.objects.filter(pk=rule.pk).update(deleted_at=timezone.now())
    assert asked(ask, rule, ada)["state"] == "PENDING"


def test_another_owners_rule_or_asset_is_answered_as_none(ask, ada, rule, admin_user):
    eve = make_member("eve")
    theirs = ask(QUERY, {"rule": str(rule.public_id), "asset": "BTC-USD"}, user=eve)
    absent = ask(QUERY, {"rule": NOBODYS, "asset": "BTC-USD"}, user=eve)
    assert theirs.content == absent.content
    assert absent.json() == {"data": {"why": None}}
    assert asked(ask, rule, ada, asset="NONE") is None
    assert asked(ask, rule, admin_user)["state"] == "PENDING"


def test_a_request_asks_a_few_times_only(ask, ada, rule):
    one = f'why(rule: "{rule.public_id}", asset: "BTC-USD") {{ refusal }}'
    response = ask("{ " + " ".join(f"a{number}: {one}" for number in range(6)) + " }", user=ada)
    assert codes(response) == ["LIMIT_EXCEEDED"]
    assert response.json()["data"] == {f"a{number}": {"refusal": None} for number in range(5)} | {"a5": None}
