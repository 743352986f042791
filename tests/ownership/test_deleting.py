"""An account deleted: all that its owner had goes, what others have stays as it is, and logs are read as before."""

import pytest
from django.apps import apps
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import OperationalError, transaction
from django.urls import reverse
from django.utils import timezone

from apps.accounts.domain import DELETED_ACCOUNT, DELETED_ACCOUNT_NAME
from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.market.models import EvaluationCursor, Feed
from apps.market.queries import every_asset, every_feed
from apps.ownership import deleting, handing_over
from apps.ownership.deleting import NAMELESS, AccountStays, delete_account
from apps.ownership.queries import counts_of, counts_staying
from apps.pipeline.flow import evaluate_pending
from apps.portfolios.models import PortfolioSeries
from apps.rules import services as rules
from apps.rules.models import Rule
from tests.builders import above, append_owned, append_quotes, at, make_feed, make_owner, make_rule
from tests.ownership.world import make_person
from tests.threads import at_once, elsewhere

NAME = "wilhelmina"
PASSWORD = "a long enough phrase"
PAGE = reverse("account_delete")
# What is written with every entry of a log, and totals.
MOVING = {"FeedHead", "EvaluationCursor", "RollupCursor", "AssetsChange", "DeliveryTotal", "Checkpoint"}


def everything():
    """Return (model, id) -> the columns of each row that there is."""
    found = {}
    for model in apps.get_models():
        if model.__name__ not in MOVING and model._meta.managed:
            for row in model._base_manager.values():
                found[model.__name__, *(row[field.attname] for field in model._meta.pk_fields)] = row
    return found


def kinds(keys):
    return {kind for kind, *_ in keys}


@pytest.fixture
def bob(db):
    return make_person("bob")


@pytest.fixture
def leaver(bob):
    """A person with rules on a feed of their own market and on Bob's."""
    leaver = make_person(NAME, market="second")
    make_rule(leaver, name=f"{NAME} too", assets=["BOB-0"], condition=above(50))
    evaluate_pending(feed_id=Feed.objects.get(name="bob").pk)
    return leaver


def test_all_that_was_owned_goes_and_nothing_else(bob):
    before = everything()
    leaver = make_person(NAME, market="second")
    make_rule(leaver, name=f"{NAME} too", assets=["BOB-0"], condition=above(50))
    evaluate_pending(feed_id=Feed.objects.get(name="bob").pk)
    delete_account(user=leaver, now=timezone.now())

    left = everything()
    assert {key: left.get(key) for key in before} == before
    # The market that both may see, the logs, and what the logs name.
    assert kinds(left.keys() - before.keys()) == {
        *("User", "Feed", "FeedSource", "Asset", "FeedEntry", "Quote", "LatestQuote"),
        *("Rule", "RuleVersion", "RuleChange", "RuleState"),
    }
    assert [key for key in left if NAME in repr(left[key]).lower()] == []
    assert leaver.pk not in User.objects.values_list("pk", flat=True)
    assert {(rule.owner_id, rule.name, rule.deleted_at is None) for rule in Rule.objects.exclude(owner=bob)} == {
        (DELETED_ACCOUNT, NAMELESS, False)
    }
    assert not every_asset().filter(pk__lt=0).exclude(owner=bob).exists()
    assert not every_feed().filter(pk__lt=0).exclude(owner=bob).exists()


def test_logs_are_evaluated_on_whether_engines_are_warm_or_cold(leaver, bob):
    shared, second = Feed.objects.get(name="bob"), Feed.objects.get(name="second")
    # Nobody has evaluated these yet: the leaver's rules were in force then.
    append_quotes(shared, [("BOB-0", at(3), "40")])
    append_quotes(shared, [("BOB-0", at(4), "60")])
    append_quotes(second, [("SECOND-0", at(3), "9")])
    append_quotes(second, [("SECOND-0", at(4), "15")])
    make_rule(bob, name="on both", assets=["SECOND-0"], condition=above(20))
    delete_account(user=leaver, now=timezone.now())
    evaluate_pending(feed_id=shared.pk)
    rules._warm.clear()
    append_quotes(second, [("SECOND-0", at(5), "21")])
    evaluate_pending(feed_id=second.pk)

    assert {(alert.owner, alert.rule.name) for alert in Alert.objects.all()} == {
        (bob, "rule of BOB-0"),
        (bob, "on both"),
    }
    for feed in (shared, second):
        found = replay(feed, since=at(0), until=at(100), progress=lambda done: None)
        assert (found.missing, found.extra) == ([], [])
        assert EvaluationCursor.objects.get(feed=feed).seq == feed.head.__class__.objects.get(feed=feed).seq


def test_what_was_done_to_the_installation_stays_in_the_log_of_the_admin(leaver, bob):
    feed, own = Feed.objects.get(name="bob"), every_asset().filter(owner=leaver).first()
    for row, by in ((feed, leaver), (own, leaver), (leaver.rules.first(), leaver), (leaver, leaver), (feed, bob)):
        LogEntry.objects.create(
            user=by,
            content_type=ContentType.objects.get_for_model(row),
            object_id=row.pk,
            object_repr=str(row)[:200],
            action_flag=CHANGE,
        )
    staying = dict(counts_staying(leaver))
    delete_account(user=leaver, now=timezone.now())
    assert set(LogEntry.objects.values_list("user__username", "object_repr")) == {
        (DELETED_ACCOUNT_NAME, "bob"),
        ("bob", "bob"),
    }
    assert list(staying.values()) == [3, 1]


def test_it_goes_whole_or_not_at_all(leaver):
    series = every_feed().get(owner=leaver, name__startswith="manual-")
    append_owned(series, [(f"HOUSE-{NAME.upper()}", at(120), "1200")])
    before = everything()
    with pytest.raises(AccountStays, match="1 entry to evaluate"):
        delete_account(user=leaver, now=timezone.now())
    assert everything() == before
    evaluate_pending(feed_id=series.pk)
    delete_account(user=leaver, now=timezone.now())
    assert not PortfolioSeries.objects.filter(portfolio__owner=leaver.pk).exists()


def test_the_last_superuser_stays(client, leaver):
    leaver.is_superuser = True
    leaver.save()
    # One who cannot sign in is no other.
    User.objects.create_superuser("idle", is_active=False)
    before = everything()
    with pytest.raises(AccountStays, match="last account that may do everything"):
        delete_account(user=leaver, now=timezone.now())
    client.force_login(leaver)
    page = client.get(PAGE).text
    assert "Make another superuser first" in page
    assert 'name="password"' not in page
    client.post(PAGE, {"password": PASSWORD})
    after = everything()
    assert {key: after[key] for key in before if key[0] != "User"} == {
        key: row for key, row in before.items() if key[0] != "User"
    }
    User.objects.create_superuser("root")
    delete_account(user=leaver, now=timezone.now())
    assert not User.objects.filter(pk=leaver.pk).exists()


def test_the_page_says_what_goes_and_deletes_for_the_password_alone(client, leaver):
    client.force_login(leaver)
    page = client.get(PAGE).text
    for name, count in (*counts_of(leaver), *counts_staying(leaver)):
        assert f"<li>{name}: {count}</li>" in page
    assert dict(counts_of(leaver)) == {
        "Authenticator app and recovery codes": 2,
        "Identities of single sign-on": 1,
        "Rules": 5,
        "Alerts": 1,
        "Channels": 2,
        "Messages to these channels": 1,
        "Silences": 2,
        "API tokens": 1,
        "Portfolios": 2,
        "Transactions": 4,
        "Derived series and manual assets": 3,
        "Backtests": 1,
        "Watched assets": 1,
    }
    for wrong in ("", "a wrong phrase", f" {PASSWORD}"):
        answer = client.post(PAGE, {"password": wrong})
        assert answer.status_code == 200
        assert "Your account is deleted" not in answer.text
    assert "This is not your password." in answer.text
    assert User.objects.filter(pk=leaver.pk).exists()

    answer = client.post(PAGE, {"password": PASSWORD})
    assert "Your account is deleted" in answer.text
    assert not User.objects.filter(pk=leaver.pk).exists()
    assert "_auth_user_id" not in client.session
    assert client.get(PAGE).status_code == 302


def test_guessing_is_limited_as_at_the_door(client, leaver):
    client.force_login(leaver)
    for _ in range(10):
        client.post(PAGE, {"password": "a wrong phrase"})
    assert "too many attempts" in client.post(PAGE, {"password": PASSWORD}).text
    assert User.objects.filter(pk=leaver.pk).exists()


def test_a_stranger_signs_in_first(client, db):
    assert client.post(PAGE, {"password": PASSWORD})["Location"] == f"/accounts/login/?next={PAGE}"


def test_other_browsers_of_theirs_are_signed_out(client, leaver):
    client.force_login(leaver)
    assert Session.objects.count() == 1
    delete_account(user=leaver, now=timezone.now())
    assert client.get(reverse("profile")).status_code == 302


def test_the_account_of_nobody_is_in_no_list_and_cannot_be_deleted(admin_client, leaver):
    delete_account(user=leaver, now=timezone.now())
    nobody = User.objects.get(pk=DELETED_ACCOUNT)
    assert (nobody.is_active, nobody.has_usable_password()) == (False, False)
    assert DELETED_ACCOUNT_NAME not in admin_client.get(reverse("admin:auth_user_changelist")).text
    assert DELETED_ACCOUNT_NAME not in admin_client.get(reverse("admin:rules_rule_add")).text
    with pytest.raises(AccountStays):
        delete_account(user=nobody, now=timezone.now())


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_the_last_two_superusers_who_leave_at_once_one_stays():
    both = [User.objects.create_superuser(name) for name in ("ann", "ben")]

    def leave(user):
        try:
            delete_account(user=user, now=timezone.now())
        except AccountStays:
            return "stays"
        return "gone"

    assert sorted(at_once(*(lambda user=user: leave(user) for user in both))) == ["gone", "stays"]
    assert User.objects.filter(is_superuser=True).count() == 1


def is_locked(feed):
    """Tell whether somebody holds the evaluation of a feed."""
    try:
        with transaction.atomic():
            EvaluationCursor.objects.select_for_update(nowait=True).get(feed=feed)
    except OperationalError:
        return True
    return False


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("way", ["deleted", "handed over"])
def test_nothing_of_theirs_is_evaluated_while_it_is_deleted_or_handed_over(monkeypatch, way):
    """An alert that opens meanwhile would be of who owned the rule before."""
    leaver, heir = make_owner(NAME), make_owner("eve")
    feed, other = make_feed("BTC-USD"), make_feed("ETH-USD", name="other")
    make_rule(leaver, name="theirs", assets=["BTC-USD"], condition=above(50))
    evaluate_pending(feed_id=feed.pk)
    found = []

    def looking(service):
        def look(*args, **kwargs):
            found.append([elsewhere(lambda one=one: is_locked(one)) for one in (feed, other)])
            return service(*args, **kwargs)

        return look

    monkeypatch.setattr(deleting, "deleted_account", looking(deleting.deleted_account))
    monkeypatch.setattr(handing_over, "set_channels", looking(handing_over.set_channels))
    if way == "deleted":
        delete_account(user=leaver, now=timezone.now())
    else:
        handing_over.hand_over_rules(owner=leaver, to=heir, channels=[], now=timezone.now())
    assert found == [[True, False]]
    assert not is_locked(feed)
