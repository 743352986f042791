"""Rules made, changed, switched and deleted by the API."""

import pytest

from apps.market.models import Asset
from apps.rules.models import Rule, RuleChange, RuleVersion
from apps.rules.queries import newest_versions
from tests.api.asking import codes
from tests.builders import above, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db

FIELDS = "{ rule { id name severity document version deletedAt } errors { field code message } }"
CREATE = f"""mutation ($name: String!, $document: JSON!, $severity: Severity, $channels: [UUID!], $key: String = "k") {{
  createRule(idempotencyKey: $key, name: $name, document: $document, severity: $severity, channels: $channels) {FIELDS}
}}"""
UPDATE = f"""mutation ($id: UUID!, $name: String, $document: JSON, $severity: Severity, $channels: [UUID!]) {{
  updateRule(id: $id, name: $name, document: $document, severity: $severity, channels: $channels) {FIELDS}
}}"""
DOCUMENT = {"assets": ["A"], "condition": {"kind": "above", "level": "10"}}


@pytest.fixture(autouse=True)
def feed():
    return make_feed("A")


@pytest.fixture
def rule(ada):
    return make_rule(ada, name="mine", assets=["A"], condition=above(10))


@pytest.fixture
def inbox(ada):
    return ada.channels.create(name="inbox", kind="inbox")


def answered(response):
    """Return the payload of the one mutation of an answer."""
    [payload] = response.json()["data"].values()
    return payload


def faults(response):
    payload = answered(response)
    assert payload["rule"] is None
    return [(one["field"], one["code"]) for one in payload["errors"]]


def switched(ask, mutation, rule, **options):
    return ask(f'mutation {{ {mutation}(id: "{rule.public_id}") {FIELDS} }}', **options)


def test_a_rule_is_made_enters_the_log_and_names_its_channels(ask, ada, inbox):
    asked = {"name": "new", "document": DOCUMENT, "severity": "CRITICAL", "channels": [inbox.public_id]}
    first, second = (answered(ask(CREATE, asked, user=ada)) for _ in range(2))

    row = Rule.objects.get()
    assert (first, first["errors"]) == (second, [])
    assert (row.owner, row.name, row.severity) == (ada, "new", "critical")
    assert first["rule"]["id"] == str(row.public_id)
    assert first["rule"]["document"] == newest_versions([row.pk])[row.pk].document
    assert [change.asset_ids for change in RuleChange.objects.filter(rule=row)] == [[Asset.objects.get().pk]]
    assert [link.channel for link in row.rule_channels.all()] == [inbox]


def test_a_rule_is_written_in_the_query_too(ask, ada):
    written = '{assets: ["A"], condition: {kind: "above", level: 10}, enabled: false}'
    query = f'mutation {{ createRule(idempotencyKey: "k", name: "new", document: {written}) {FIELDS} }}'
    assert answered(ask(query, user=ada))["rule"]["document"]["enabled"] is False


@pytest.mark.parametrize(
    ("document", "field", "message"),
    [
        ([], "document", "It must be an object"),
        ("above", "document", "It must be an object"),
        ({}, "document.assets", "assets: "),
        (DOCUMENT | {"owner": 1}, "document.owner", "owner: is not known here"),
        (DOCUMENT | {"assets": ["NONE"]}, "document.assets[0]", "assets[0]: there is no asset NONE."),
        (DOCUMENT | {"condition": {"kind": "above", "level": 0.1}}, "document.condition.level", "is not a number"),
        (DOCUMENT | {"condition": {"kind": "falls", "percent": 1, "window": "0s"}}, "document.condition.window", ""),
    ],
)
def test_what_is_wrong_with_a_rule_is_named_by_its_path(ask, ada, document, field, message):
    [fault] = answered(ask(CREATE, {"name": "new", "document": document}, user=ada))["errors"]
    assert (fault["field"], fault["code"], message in fault["message"]) == (field, "INVALID", True)
    assert not Rule.objects.exists()


@pytest.mark.parametrize("name", ["😀 BTC", "قاعدة", "<script>alert(1)</script>", "' OR 1=1 --"])
def test_a_name_is_stored_and_given_back_as_it_was_written(ask, ada, name):
    answer = ask(CREATE, {"name": name, "document": DOCUMENT}, user=ada)
    assert (answered(answer)["errors"], answered(answer)["rule"]["name"]) == ([], name)
    assert Rule.objects.get().name == name
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_rule_that_is_nested_too_deep_is_refused(ask, ada):
    condition = above(1)
    for _ in range(40):
        condition = {"not": condition}
    deep = {"name": "new", "document": DOCUMENT | {"condition": condition}}
    assert codes(ask(CREATE, deep, user=ada)) == ["BAD_USER_INPUT"]
    literal = "[" * 100 + "]" * 100
    query = f'mutation {{ createRule(idempotencyKey: "k", name: "new", document: {literal}) {FIELDS} }}'
    assert codes(ask(query, user=ada)) == ["GRAPHQL_VALIDATION_FAILED"]


def test_a_second_name_and_a_rule_too_many_are_refused(ask, ada, rule, settings):
    assert faults(ask(CREATE, {"name": "mine", "document": DOCUMENT}, user=ada)) == [("name", "TAKEN")]
    assert faults(ask(CREATE, {"name": "", "document": DOCUMENT}, user=ada)) == [("name", "REQUIRED")]
    assert faults(ask(CREATE, {"name": "x" * 129, "document": DOCUMENT}, user=ada)) == [("name", "INVALID")]
    settings.RULES_PER_OWNER = 1
    assert faults(ask(CREATE, {"name": "new", "document": DOCUMENT}, user=ada)) == [(None, "LIMIT_REACHED")]


def test_what_is_left_out_of_a_change_stays(ask, ada, rule, inbox):
    answer = answered(ask(UPDATE, {"id": rule.public_id, "name": "other", "channels": [inbox.public_id]}, user=ada))
    assert (answer["errors"], answer["rule"]["name"], answer["rule"]["version"]) == ([], "other", 1)

    answer = answered(
        ask(UPDATE, {"id": rule.public_id, "severity": "INFO", "document": DOCUMENT | {"for": "5m"}}, user=ada)
    )
    assert (answer["rule"]["name"], answer["rule"]["severity"], answer["rule"]["version"]) == ("other", "INFO", 2)
    assert answer["rule"]["document"]["for"] == "5m"
    assert rule.rule_channels.count() == 1

    answered(ask(UPDATE, {"id": rule.public_id, "channels": []}, user=ada))
    assert (rule.rule_channels.count(), RuleVersion.objects.count()) == (0, 2)


def test_a_rule_notifies_no_channel_of_another_even_for_a_superuser(ask, ada, rule, admin_user):
    channel = make_owner("eve").channels.create(name="eves", kind="inbox")
    answer = ask(UPDATE, {"id": rule.public_id, "name": "other", "channels": [channel.public_id]}, user=admin_user)

    assert faults(answer) == [("channels[0]", "NOT_FOUND")]
    assert (Rule.objects.get().name, rule.rule_channels.exists()) == ("mine", False)


def test_a_rule_is_switched_off_and_on_once(ask, ada, rule):
    answers = [switched(ask, name, rule, user=ada) for name in ("disableRule", "enableRule")]
    assert [answered(one)["rule"]["document"]["enabled"] for one in answers] == [False, True]
    assert faults(switched(ask, "enableRule", rule)) == [(None, "CONFLICT")]


def test_a_rule_is_deleted_and_stays_on_record(ask, ada, rule):
    assert answered(switched(ask, "deleteRule", rule, user=ada))["rule"]["deletedAt"] is not None
    assert RuleChange.objects.filter(rule=rule, version=None).count() == 1
    assert faults(switched(ask, "deleteRule", rule)) == [("id", "NOT_FOUND")]
