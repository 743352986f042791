"""The canary: its prices, its alerts, that it is missed where these stay away, and that nobody sees it."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.utils import timezone
from graphql import is_required_argument

from apps.alerts.models import Alert, AlertEvent
from apps.canary import CANARY
from apps.health import canary
from apps.health.checks.canary import canary_findings
from apps.health.checks.channels import channel_findings
from apps.health.checks.feeds import feed_findings
from apps.health.checks.rules import rule_findings
from apps.health.domain import Code, Level, Subject
from apps.health.queries import problems_that_stop
from apps.health.services import check, note_tick
from apps.market.models import Asset, Candle, Feed, FeedEntry, FeedHead, LatestQuote, Quote
from apps.market.queries import assets_chosen, assets_named, assets_seen_by, feeds_to_roll_up
from apps.market.queries.assets import AssetIndex
from apps.notify.models import Attempt, Channel, Message, Notification
from apps.notify.services import create_silence
from apps.pipeline import flow
from apps.rules.models import Checkpoint, Rule, RuleState, Transition
from apps.rules.services import follow_assets, rebuild_engine
from tests.api.asking import QUERY, URL
from tests.api.test_owners import NEEDED, query_of
from tests.builders import TRACE, at, make_notified_alerts, make_owner, notify_all
from tests.panel.test_walk import PAGES, ask, said

pytestmark = pytest.mark.django_db

ROWS = (Asset, FeedEntry, Quote, LatestQuote, Candle, Rule, RuleState, Transition, Checkpoint, Alert, AlertEvent)
ROWS += (Channel, Notification, Message, Attempt, User)


@pytest.fixture(autouse=True)
def _on(settings):
    settings.CANARY = True


def rows():
    """Return how many rows of each kind there are."""
    return {model.__name__: getattr(model, "every", model.objects).count() for model in ROWS}


def evaluate():
    flow.evaluate_pending(feed_id=CANARY)


def deliver(second):
    notify_all()
    # Senders go by the wall clock.
    Message.objects.filter(channel=CANARY, delivered_at__gt=at(10**7)).update(delivered_at=at(second))


def live(seconds):
    """Let the whole chain run at each of these seconds; return whether a price was due."""
    due = []
    for second in seconds:
        due.append(canary.append_if_due(now=at(second)))
        evaluate()
        deliver(second)
    return due


def missed(second):
    return [(one.subject, one.subject_id, one.code, one.level, one.since) for one in canary_findings(now=at(second))]


def stop(since):
    return [(Subject.SYSTEM, 0, Code.CANARY_MISSED, Level.STOPPED, at(since))]


def test_a_round_opens_an_alert_and_resolves_it_and_its_inbox_gets_both():
    assert live([0, 10, 140, 150, 160, 300]) == [True, False, False, True, False, True]
    alerts = Alert.objects.order_by("pk")
    assert [(one.opened_at, one.resolved_at) for one in alerts] == [(at(0), at(150)), (at(300), None)]
    messages = Message.objects.order_by("delivered_at")
    assert [(one.channel_id, one.status, one.delivered_at) for one in messages] == [
        (CANARY, "delivered", at(second)) for second in (0, 150, 300)
    ]
    assert missed(300 + 660) == []


def test_two_checks_at_once_append_one_price(monkeypatch):
    live([0])
    # The second has looked before the first appended.
    monkeypatch.setattr(canary, "_is_due", lambda last, *, now: last == at(0) if now == at(150) else True)
    assert canary.append_if_due(now=at(150)) is True
    assert canary.append_if_due(now=at(150)) is False
    assert Quote.objects.count() == 2


def test_it_is_missed_where_nothing_is_evaluated():
    live([0])
    for second in range(150, 661, 150):
        canary.append_if_due(now=at(second))
    assert missed(660) == []
    assert missed(661) == stop(0)
    live([750])
    assert missed(751) == []


def test_it_is_missed_where_nothing_is_delivered():
    for second in range(0, 661, 150):
        canary.append_if_due(now=at(second))
        evaluate()
    assert missed(660) == []
    assert missed(661) == stop(0)
    deliver(670)
    assert missed(671) == []


def test_only_the_time_counts_in_which_it_had_prices():
    live([0, 150])
    # Nothing ran for an hour; then everything does again, and the first check comes before the first evaluation.
    canary.append_if_due(now=at(3_750))
    assert missed(3_751) == []
    assert missed(3_750 + 660) == []
    assert missed(3_750 + 661) == stop(3_750)


def test_its_absence_is_a_problem_of_the_system_which_stops_it():
    canary.append_if_due(now=at(0))
    note_tick(now=at(661))
    check(readers=None, now=at(661))
    assert problems_that_stop() == [("system", "canary_missed")]


def test_nothing_is_missed_where_it_is_switched_off(settings):
    canary.append_if_due(now=at(0))
    settings.CANARY = False
    assert missed(10_000) == []


def test_a_check_costs_it_one_statement_and_a_price_that_is_not_due_one_more(django_assert_num_queries):
    live([0])
    with django_assert_num_queries(1):
        canary_findings(now=at(10))
    with django_assert_num_queries(1):
        canary.append_if_due(now=at(10))


def test_a_silence_of_everybodys_alerts_does_not_silence_it():
    root = make_owner("root")
    now = timezone.now()
    create_silence(author=root, owner=None, starts_at=now, ends_at=now + timedelta(hours=1), comment="all")
    live([0])
    assert Message.objects.get().status == "delivered"


def test_its_own_problems_are_no_findings_beside_its_absence():
    live([0])
    canary.append_if_due(now=at(150))
    Channel.objects.update(failing_since=at(0))
    assert [*feed_findings(now=at(1_000)), *channel_findings(now=at(1_000)), *rule_findings(now=at(1_000))] == []


def test_its_rule_stays_although_no_selector_finds_its_asset():
    live([0])
    assert follow_assets(now=at(1), trace_id=TRACE) == 0
    live([150])
    assert Alert.objects.get().resolved_at == at(150)


def test_its_prices_are_in_no_candle():
    live([0, 150])
    assert feeds_to_roll_up() == []


def test_it_is_dropped_after_a_day_and_made_anew():
    before = rows()
    live([0, 150, 300])
    assert canary.prune_canary(now=at(86_400)) == 0
    live([86_400])
    kept = rows()
    assert canary.prune_canary(now=at(86_401), dry_run=True) == 5
    assert rows() == kept
    assert canary.prune_canary(now=at(86_401)) == 5
    assert rows() == before
    assert not Feed.every.exists()
    live([86_410])
    assert (Alert.objects.get().opened_at, Message.objects.get().status) == (at(86_410), "delivered")


def test_it_is_not_dropped_while_it_is_missed():
    live([0])
    canary.append_if_due(now=at(86_000))
    canary.append_if_due(now=at(86_150))
    late = 86_000 + 661
    assert missed(late) == stop(86_000)
    assert canary.prune_canary(now=at(late)) == 0
    assert missed(late) == stop(86_000)


def test_it_is_dropped_where_it_is_switched_off(settings):
    before = rows()
    live([0])
    settings.CANARY = False
    assert canary.prune_canary(now=at(1)) == 2
    assert rows() == before


def test_its_engine_can_be_rebuilt_from_its_log():
    live([0, 150])
    Checkpoint.objects.all().delete()
    seq = FeedHead.objects.get(pk=CANARY).seq
    assert rebuild_engine(feed_id=CANARY, seq=seq).seq == seq


@pytest.fixture
def watched():
    """Return the readers by name; Ada has a rule, an open alert and a message."""
    make_notified_alerts(make_owner("ada"), 1)
    users = {"ada": User.objects.get(username="ada"), "root": make_owner("root"), "grace": make_owner("grace")}
    users["root"].is_superuser = True
    users["ada"].groups.add(Group.objects.get(name="Owner"))
    users["grace"].groups.add(Group.objects.get(name="Operator"))
    for user in users.values():
        user.is_staff = True
        user.save()
    return users


def shown_in_lists(client):
    """Return what the first pages say, the keys that each list of the admin has, and what the API's fields answer."""
    found = {address: said(ask(client, "get", address)) for address in ("/", "/admin/")}
    for page in PAGES:
        if page.name.endswith("_changelist"):
            context = ask(client, "get", page.address()).context or {}
            found[page.name] = {row.pk for row in context["cl"].queryset} if "cl" in context else None
    for name, field in QUERY.fields.items():
        if name in NEEDED or not any(map(is_required_argument, field.args.values())):
            answer = client.post(URL, {"query": query_of(name)}, content_type="application/json")
            found[name] = answer.json()["data"]
    return found


def texts(client):
    """Return address -> what it says, of every page that needs no key, and of those of the canary's own rows."""
    addresses = ["/", "/inbox/", "/status", *(page.address(CANARY) for page in PAGES)]
    return {address: ask(client, "get", address).content.decode() for address in addresses}


@pytest.mark.parametrize("reader", ["grace", "root"])
def test_it_is_in_no_list_and_on_no_page(client, watched, reader, at_any_cost):
    client.force_login(watched[reader])
    before = shown_in_lists(client)
    live([0, 150, 300])
    assert Alert.objects.filter(rule=CANARY, resolved_at=None).exists()
    assert shown_in_lists(client) == before
    assert {address for address, text in texts(client).items() if canary.NAME in text.lower()} == set()


def test_no_selector_finds_it():
    live([0])
    assert (
        assets_chosen(symbols=[canary.SYMBOL])
        == assets_chosen(feed=canary.NAME)
        == []
        == list(assets_seen_by(AnonymousUser()))
    )
    assert AssetIndex().chosen(symbols=[canary.SYMBOL]) == AssetIndex().chosen(feed=canary.NAME) == []
    assert assets_named([canary.SYMBOL]) == {}


def test_nobody_signs_in_as_its_user(client):
    live([0])
    assert not client.login(username=canary.NAME, password="!")
    assert not client.login(username=canary.NAME, password="")
