"""Nobody sees another owner's rows, by whatever way. Root fields and types are enumerated from the schema: a new one
fails until it is listed here."""

import json

import pytest
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group

from apps.alerts.alertmanager import SystemAlert
from apps.alerts.models import Alert
from apps.alerts.services import record_system_alerts
from apps.api.graphql.nodes import kinds_of_nodes, node_id_of
from apps.api.graphql.schema import schema
from apps.backtests.models import BacktestRun
from apps.market.models import Asset, Feed
from apps.notify.models import Channel, Message, Notification, Silence
from apps.notify.services import create_channel, create_silence
from apps.portfolios.models import Portfolio
from apps.rules.models import Rule
from tests.api.asking import (
    MUTATION,
    NOBODYS,
    QUERY,
    SUBSCRIPTION,
    codes,
    everything,
    object_types,
    selected_types,
)
from tests.builders import at, make_backtest, make_notified_alerts, make_operator, make_owner
from tests.portfolios.rows import bought, make_portfolio, record

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("at_any_cost")]

CANARY = "ADASOWN"
EVERYBODY = {"ada", "eve", "grace", "root"}
# Root field, of `node` with each kind -> who sees what make_notified_alerts made for Ada.
SEEN_BY = {
    "alert": {"ada", "root"},
    "alerts": {"ada", "root"},
    "backtest": {"ada", "root"},
    "backtests": {"ada", "root"},
    "asset": EVERYBODY,
    "assets": EVERYBODY,
    "channels": {"ada", "root"},
    "feed": {"grace", "root"},
    "feeds": {"grace", "root"},
    "health": set(),
    "logql": set(),
    "logs": set(),
    "me": set(),
    "messages": {"ada", "root"},
    "metrics": set(),
    "node:alert": {"ada", "root"},
    "node:asset": EVERYBODY,
    "node:backtest": {"ada", "root"},
    "node:channel": {"ada", "root"},
    "node:feed": {"grace", "root"},
    "node:message": {"ada", "root"},
    "node:portfolio": {"ada", "root"},
    "node:rule": {"ada", "root"},
    "node:silence": {"ada", "root"},
    "node:transaction": {"ada", "root"},
    "performance": set(),
    "portfolio": {"ada", "root"},
    "portfolios": {"ada", "root"},
    "promql": set(),
    "rule": {"ada", "root"},
    "rules": {"ada", "root"},
    "silences": {"ada", "root"},
    "sumParts": {"ada", "root"},
    "why": {"ada", "root"},
}
# What a stranger reads: nothing is there, or that they should sign in.
OPEN_TO_STRANGERS = {"health", "me"}
# What root fields need besides.
NEEDED = {"logql": 'query: "{}"', "metrics": "query: QUEUE_MESSAGES", "promql": 'query: "up"'}
# Ids that may be, and are not there.
_NOT_THERE = {"asset": "ABSENT", "feed": "absent"}
ABSENT = {
    field: f"{kind}:{_NOT_THERE.get(kind, NOBODYS)}" if kind else _NOT_THERE.get(field, NOBODYS)
    for field in SEEN_BY
    for root, _, kind in [field.partition(":")]
    if "id" in QUERY.fields[root].args
}


@pytest.fixture(scope="module")
def owned_rows(module_rows):
    """Make the readers; Ada has two rules, alerts, messages and silences, Eve one of each."""
    root = get_user_model().objects.create_superuser("root")
    ada, eve = make_owner("ada"), make_owner("eve")
    make_notified_alerts(ada, 2, name=CANARY.lower())
    make_notified_alerts(eve, 1, name="eves")
    make_silence(author=ada, owner=ada, comment=CANARY)
    make_silence(author=eve, owner=eve, comment="EVES")
    for owner, name in ((ada, CANARY), (eve, "EVES")):
        make_backtest(owner, owner.rules.first())
        record(make_portfolio(owner, name), bought(Asset.objects.get(symbol=f"{name}-0"), notes=name))
    # By whom it may be made, a silence of one rule concerns that rule's owner alone.
    make_silence(author=root, owner=None, rule=ada.rules.first(), comment=CANARY)
    make_operator("grace", "market.view_feed", "alerts.view_alert", "rules.view_rule", "notify.view_message")


@pytest.fixture
def readers(owned_rows):
    """Return the readers by name."""
    return {user.username: user for user in get_user_model().objects.filter(username__in=EVERYBODY)}


def make_silence(**columns):
    return create_silence(starts_at=at(0), ends_at=at(60), **columns)


def ids():
    """Return the id of something of Ada's, by root field."""
    portfolio = Portfolio.objects.get(name=CANARY)
    rows = {
        "alert": Alert.objects.filter(asset__symbol__startswith=CANARY).first(),
        "asset": Asset.objects.get(symbol=f"{CANARY}-0"),
        "backtest": BacktestRun.objects.get(owner__username="ada"),
        "channel": Channel.objects.get(owner__username="ada"),
        "feed": Feed.objects.get(name=CANARY.lower()),
        "message": Message.objects.filter(channel__owner__username="ada").first(),
        "portfolio": portfolio,
        "rule": Rule.objects.filter(name__contains=CANARY).first(),
        "silence": Silence.objects.get(owner__username="ada"),
        "transaction": portfolio.transactions.get(),
    }
    named = {kind: node_id_of(row) for kind, row in rows.items()}
    return {f"node:{kind}": id for kind, id in named.items()} | {
        kind: id.partition(":")[2] for kind, id in named.items() if kind in QUERY.fields
    }


def query_of(field, id=None):
    """Return a query for all of a root field, of `node` with a kind."""
    field, _, kind = field.partition(":")
    definition = QUERY.fields[field]
    if kind:
        kind = schema.type_map[kinds_of_nodes()[kind].__name__]
        return f'{{ node(id: "{id}") {{ nodeId ... on {kind} {everything(kind)} }} }}'
    arguments = f"({NEEDED[field]})" if field in NEEDED else ""
    if field == "performance":
        arguments = f'(portfolio: "{ids()["portfolio"]}")'
    if field == "sumParts":
        arguments = f'(portfolio: "{ids()["portfolio"]}", of: FLOWS)'
    if field == "why":
        arguments = f'(rule: "{ids()["rule"]}", asset: "{CANARY}-0")'
    if "id" in definition.args:
        arguments = f'(id: "{id}")'
    elif "first" in definition.args:
        arguments = "(first: 5)"
    return f"{{ {field}{arguments} {everything(definition.type)} }}"


def test_every_root_field_and_every_type_is_listed():
    assert {field.partition(":")[0] for field in SEEN_BY} == QUERY.fields.keys()
    assert {field.partition(":")[2] for field in SEEN_BY} - {""} == kinds_of_nodes().keys()
    fields = [*QUERY.fields.values(), *MUTATION.fields.values(), *SUBSCRIPTION.fields.values()]
    assert set().union(*(selected_types(one.type) for one in fields)) == object_types()
    with_id = {name for name, one in QUERY.fields.items() if "id" in one.args}
    assert {field.partition(":")[0] for field in ABSENT} == with_id


def test_whatever_has_an_id_is_found_by_it_and_shows_no_number():
    """A number would say how many there are: the schema has ids of texts that say nothing."""
    with_id = {name for name in object_types() if "id" in schema.type_map[name].fields}
    assert with_id == {one.__name__ for one in kinds_of_nodes().values()}
    assert "ID" not in schema.type_map


@pytest.mark.parametrize("field", SEEN_BY)
def test_rows_are_seen_by_whom_they_are_for(ask, readers, field):
    query = query_of(field, ids().get(field))
    answers = {name: ask(query, user=user) for name, user in readers.items()}
    assert [one.json().get("errors") for one in answers.values()] == [None] * len(EVERYBODY)
    assert {name for name, one in answers.items() if CANARY in one.text.upper()} == SEEN_BY[field]


@pytest.mark.parametrize("field", ABSENT)
def test_what_may_not_be_seen_is_answered_as_what_is_not_there(ask, readers, field):
    id = ids()[field]
    for name, user in readers.items():
        there, absent = (ask(query_of(field, one), user=user) for one in (id, ABSENT[field]))
        assert absent.json() == {"data": {field.partition(":")[0]: None}}
        assert (there.content == absent.content) == (name not in SEEN_BY[field]), name


@pytest.mark.parametrize("field", SEEN_BY)
def test_a_stranger_sees_nothing(ask, readers, field):
    response = ask(query_of(field, ids().get(field)))
    assert CANARY not in response.text.upper()
    assert codes(response) == ([] if field in OPEN_TO_STRANGERS else ["UNAUTHENTICATED"])


@pytest.mark.parametrize("field", ABSENT)
def test_a_stranger_gets_the_same_answer_whatever_the_id(ask, readers, field):
    assert ask(query_of(field, ids()[field])).content == ask(query_of(field, ABSENT[field])).content


@pytest.mark.parametrize("field", SEEN_BY)
def test_an_open_market_opens_assets_and_nothing_else(ask, readers, settings, field):
    settings.MARKET_IS_PUBLIC = True
    response = ask(query_of(field, ids().get(field)))
    assert (CANARY in response.text.upper()) == (field in {"asset", "assets", "node:asset"})


def test_an_inactive_user_of_a_session_is_a_stranger(ask, readers):
    readers["ada"].is_active = False
    readers["ada"].save()
    assert codes(ask("{ rules { edges { cursor } } }", user=readers["ada"])) == ["UNAUTHENTICATED"]


def test_an_operator_who_left_the_staff_sees_no_feeds(ask, readers):
    readers["grace"].is_staff = False
    readers["grace"].save()
    assert ask("{ feeds { edges { cursor } } }", user=readers["grace"]).json() == {"data": {"feeds": {"edges": []}}}


def test_what_hangs_on_an_own_row_is_the_owners_too(ask, readers):
    """Services tell alerts on their owner's channels only. Should a row say otherwise, edges do not follow it."""
    alert = Alert.objects.filter(asset__symbol__startswith=CANARY).first()
    channel = create_channel(owner=readers["eve"], name="astray", kind="inbox", config={})
    stray = Message.objects.create(channel=channel, subject="astray", next_attempt_at=alert.opened_at)
    Notification.objects.create(event=alert.events.get(), channel=channel, due_at=alert.opened_at, message=stray)
    hers = ask("{ messages { edges { node { subject alerts { summary } } } } }", user=readers["eve"])
    assert {"subject": "astray", "alerts": []} in [one["node"] for one in hers.json()["data"]["messages"]["edges"]]
    assert CANARY not in json.dumps(hers.json())
    query = "{ alerts { edges { node { messages { edges { node { subject } } } } } } }"
    assert "astray" not in ask(query, user=readers["ada"]).text
    assert "astray" in ask(query, user=readers["root"]).text


@pytest.fixture
def system_alert():
    """Return an alert about the installation."""
    found = SystemAlert(
        fingerprint="f",
        opened_at=at(0),
        resolved_at=None,
        severity="critical",
        summary="SYSTEMS OWN",
        evidence={"labels": {"alertname": "FeedBehind"}},
    )
    (event,) = record_system_alerts([found])
    return event.alert


def test_alerts_about_the_installation_are_for_operators(ask, readers, system_alert):
    readers["olga"] = make_owner("olga")
    readers["olga"].groups.add(Group.objects.get(name="Operator"))
    fields = "{ summary timeline { kind } messages { edges { node { subject } } } }"
    for name, sees in {"ada": False, "grace": False, "olga": True, "root": True}.items():
        listed = ask(f"{{ alerts {{ edges {{ node {fields} }} }} }}", user=readers[name])
        single = ask(f'{{ alert(id: "{system_alert.public_id}") {fields} }}', user=readers[name])
        absent = ask(f'{{ alert(id: "{NOBODYS}") {fields} }}', user=readers[name])
        assert ("SYSTEMS OWN" in listed.text, "SYSTEMS OWN" in single.text) == (sees, sees)
        assert (single.content == absent.content) == (not sees)


def test_a_message_about_the_installation_shows_no_alert_to_whom_may_not_see_it_any_more(ask, readers, system_alert):
    channel = readers["ada"].channels.get()
    message = Message.objects.create(channel=channel, subject="was sent", next_attempt_at=at(0))
    Notification.objects.create(event=system_alert.events.get(), channel=channel, due_at=at(0), message=message)
    query = "{ messages(first: 1) { edges { node { subject alerts { summary } } } } }"
    answer = ask(query, user=readers["ada"]).json()["data"]["messages"]["edges"]
    assert answer == [{"node": {"subject": "was sent", "alerts": []}}]


def test_a_deleted_rule_is_seen_by_its_alerts_only(ask, readers):
    rule = Rule.objects.filter(name__contains=CANARY).first()
    Rule.objects.filter(pk=rule.pk).update(deleted_at=rule.created_at)
    assert ask(f'{{ rule(id: "{rule.public_id}") {{ name }} }}', user=readers["ada"]).json() == {"data": {"rule": None}}
    names = ask("{ alerts { edges { node { rule { name } } } } }", user=readers["ada"])
    assert rule.name in names.text
