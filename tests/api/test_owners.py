"""Nobody sees another owner's rows, by whatever way. Root fields and types are enumerated from the schema: a new one
fails until it is listed here."""

import json

import pytest

from apps.alerts.models import Alert
from apps.api.limits import ID_PATTERNS
from apps.market.models import Feed
from apps.notify.models import Message, Owed
from apps.notify.services import create_channel
from apps.rules.models import Rule
from tests.api.asking import QUERY, codes, everything, object_types, selected_types
from tests.builders import make_operator, make_owner, make_told_alerts

pytestmark = pytest.mark.django_db

CANARY = "ADASOWN"
EVERYBODY = {"ada", "eve", "grace", "root"}
# Root field -> who sees what make_told_alerts made for Ada.
SEEN_BY = {
    "alert": {"ada", "root"},
    "alerts": {"ada", "root"},
    "asset": EVERYBODY,
    "assets": EVERYBODY,
    "feed": {"grace", "root"},
    "feeds": {"grace", "root"},
    "me": set(),
    "messages": {"ada", "root"},
    "rule": {"ada", "root"},
    "rules": {"ada", "root"},
}
# What a stranger is told: nothing is there, or that they should sign in.
OPEN_TO_STRANGERS = {"feed", "feeds", "me"}
# Ids that may be, and are not there.
ABSENT = {"alert": "999999", "asset": "ABSENT", "feed": "absent", "rule": "999999"}


@pytest.fixture
def readers(admin_user):
    """Return the readers by name; Ada has two rules, alerts and messages, Eve one of each."""
    admin_user.username = "root"
    admin_user.save()
    ada, eve = make_owner("ada"), make_owner("eve")
    make_told_alerts(ada, 2, name=CANARY.lower())
    make_told_alerts(eve, 1, name="eves")
    grace = make_operator("grace", "market.view_feed", "alerts.view_alert", "rules.view_rule", "notify.view_message")
    return {"ada": ada, "eve": eve, "grace": grace, "root": admin_user}


def ids():
    """Return the id of something of Ada's, by root field."""
    return {
        "alert": Alert.objects.filter(asset__symbol__startswith=CANARY).first().pk,
        "asset": f"{CANARY}-0",
        "feed": Feed.objects.get(name=CANARY.lower()).name,
        "rule": Rule.objects.filter(name__contains=CANARY).first().pk,
    }


def query_of(field, id=None):
    """Return a query for all of a root field."""
    definition = QUERY.fields[field]
    arguments = f'(id: "{id}")' if "id" in definition.args else ""
    return f"{{ {field}{arguments} {everything(definition.type)} }}"


def test_every_root_field_and_every_type_is_listed():
    assert SEEN_BY.keys() == QUERY.fields.keys()
    assert set().union(*(selected_types(one.type) for one in QUERY.fields.values())) == object_types()
    assert ID_PATTERNS.keys() == {name for name, one in QUERY.fields.items() if "id" in one.args} == ABSENT.keys()


@pytest.mark.parametrize("field", SEEN_BY)
@pytest.mark.parametrize("name", sorted(EVERYBODY))
def test_rows_are_seen_by_whom_they_are_for(ask, readers, field, name):
    response = ask(query_of(field, ids().get(field)), user=readers[name])
    assert "errors" not in response.json()
    assert (CANARY in response.text.upper()) == (name in SEEN_BY[field])


@pytest.mark.parametrize("field", ABSENT)
@pytest.mark.parametrize("name", sorted(EVERYBODY))
def test_what_may_not_be_seen_is_answered_as_what_is_not_there(ask, readers, field, name):
    there = ask(query_of(field, ids()[field]), user=readers[name])
    absent = ask(query_of(field, ABSENT[field]), user=readers[name])
    assert absent.json() == {"data": {field: None}}
    assert (there.content == absent.content) == (name not in SEEN_BY[field])


@pytest.mark.parametrize("field", SEEN_BY)
def test_a_stranger_sees_nothing(ask, readers, field):
    response = ask(query_of(field, ids().get(field)))
    assert CANARY not in response.text.upper()
    assert codes(response) == ([] if field in OPEN_TO_STRANGERS else ["UNAUTHENTICATED"])


@pytest.mark.parametrize("field", ABSENT)
def test_a_stranger_is_told_the_same_whatever_the_id(ask, readers, field):
    assert ask(query_of(field, ids()[field])).content == ask(query_of(field, ABSENT[field])).content


@pytest.mark.parametrize("field", SEEN_BY)
def test_an_open_market_opens_assets_and_nothing_else(ask, readers, settings, field):
    settings.MARKET_IS_PUBLIC = True
    response = ask(query_of(field, ids().get(field)))
    assert (CANARY in response.text.upper()) == (field in {"asset", "assets"})


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
    Owed.objects.create(event=alert.events.get(), channel=channel, due_at=alert.opened_at, message=stray)
    hers = ask("{ messages { edges { node { subject alerts { words } } } } }", user=readers["eve"])
    assert {"subject": "astray", "alerts": []} in [one["node"] for one in hers.json()["data"]["messages"]["edges"]]
    assert CANARY not in json.dumps(hers.json())
    query = "{ alerts { edges { node { messages { edges { node { subject } } } } } } }"
    assert "astray" not in ask(query, user=readers["ada"]).text
    assert "astray" in ask(query, user=readers["root"]).text


def test_a_deleted_rule_is_seen_by_its_alerts_only(ask, readers):
    rule = Rule.objects.filter(name__contains=CANARY).first()
    Rule.objects.filter(pk=rule.pk).update(deleted_at=rule.created_at)
    assert ask(f'{{ rule(id: "{rule.pk}") {{ name }} }}', user=readers["ada"]).json() == {"data": {"rule": None}}
    names = ask("{ alerts { edges { node { rule { name } } } } }", user=readers["ada"])
    assert rule.name in names.text
