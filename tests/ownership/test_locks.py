"""Deleting an account or handing over its rules fails with a reason where rows are locked for too long."""

import pytest
from django.contrib.auth.models import User
from django.db import OperationalError, connection, transaction
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled

from apps.alerts.models import Alert
from apps.market.models import EvaluationCursor
from apps.ownership import deleting
from apps.ownership.deleting import AccountStays, delete_account
from apps.ownership.handing_over import HandOverRefused, hand_over_rules
from apps.ownership.locks import BUSY, TOO_MUCH, why_locked
from apps.pipeline.flow import evaluate_pending
from apps.rules.models import Rule, Transition
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule
from tests.threads import elsewhere

PASSWORD = "a long enough phrase"


@pytest.mark.parametrize(
    ("cause", "text"),
    [
        (LockNotAvailable(), BUSY),
        (DeadlockDetected(), BUSY),
        (QueryCanceled(), TOO_MUCH),
        (ConnectionError(), ""),
    ],
)
def test_what_kept_a_transaction_from_going_on_is_known_by_its_cause(cause, text):
    error = OperationalError("said by the server")
    error.__cause__ = cause
    assert why_locked(error) == text


def test_a_locked_file_of_sqlite_is_a_lock_too():
    assert why_locked(OperationalError("database is locked")) == BUSY


def make_leaver():
    """Return an owner with an open and a resolved alert on a feed, and the feed."""
    leaver, feed = make_owner("ada"), make_feed("BTC-USD", "ETH-USD", jump_percent=0)
    make_rule(leaver, name="theirs", assets=["BTC-USD", "ETH-USD"], condition=above(50))
    append_quotes(feed, [("BTC-USD", at(0), "60"), ("ETH-USD", at(0), "60")])
    append_quotes(feed, [("BTC-USD", at(1), "40")])
    evaluate_pending(feed_id=feed.pk)
    return leaver, feed


@pytest.mark.django_db
def test_what_is_over_is_deleted_before_the_logs_are_locked(monkeypatch):
    leaver, _ = make_leaver()
    assert sorted(Alert.objects.values_list("resolved_at", flat=True), key=str) == [at(1), None]
    seen, lock = [], deleting.market.lock_logs

    def looking(ids):
        seen.append((list(Alert.objects.values_list("resolved_at", flat=True)), Transition.objects.count()))
        return lock(ids)

    monkeypatch.setattr(deleting.market, "lock_logs", looking)
    delete_account(user=leaver, now=timezone.now())

    assert seen[0] == ([None], 0)
    assert not Alert.objects.exists()


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_where_a_log_is_locked_nothing_is_deleted_or_handed_over_and_the_page_says_why():
    leaver, feed = make_leaver()
    leaver.set_password(PASSWORD)
    leaver.save()
    heir = make_owner("eve")
    before = (Alert.objects.count(), Transition.objects.count(), Rule.objects.filter(owner=leaver).count())

    def shortly(call):
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 200")
        return call()

    def deleted():
        with pytest.raises(AccountStays, match="for longer than this waits, so nothing was changed. Try again"):
            delete_account(user=leaver, now=timezone.now())

    def handed_over():
        with pytest.raises(HandOverRefused, match="for longer than this waits, so nothing was changed. Try again"):
            hand_over_rules(owner=leaver, to=heir, channels=[], now=timezone.now())

    def asked():
        browser = Client()
        browser.force_login(leaver)
        return browser.post(reverse("account_delete"), {"password": PASSWORD})

    with transaction.atomic():
        EvaluationCursor.objects.select_for_update().get(feed=feed)
        for call in (deleted, handed_over):
            elsewhere(lambda call=call: shortly(call))
        answer = elsewhere(lambda: shortly(asked))

    assert (answer.status_code, "Try again in a minute" in answer.text) == (200, True)
    assert User.objects.filter(pk=leaver.pk).exists()
    assert (Alert.objects.count(), Transition.objects.count(), Rule.objects.filter(owner=leaver).count()) == before
