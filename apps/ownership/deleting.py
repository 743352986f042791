"""An account deleted with all that it owns, or not at all. What must stay passes to the account of nobody (ADR 80)."""

import logging
from datetime import datetime

from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db import IntegrityError, OperationalError, transaction
from django.db.models import QuerySet

from apps.accounts.services import deleted_account
from apps.alerts.models import Alert
from apps.alerts.owned import delete_series_of
from apps.market import services as market
from apps.market.queries import every_feed
from apps.notify.models import Message
from apps.ownership.locks import why_locked
from apps.ownership.queries import entries_that_stay, lock_superusers, rules_that_stay, why_not_deleted
from apps.portfolios import services as portfolios
from apps.rules import services as rules
from apps.rules.models import Rule, RuleChange, Transition
from apps.tracing import new_trace_id

logger = logging.getLogger(__name__)

# What a rule is called that stays in a log without its owner.
NAMELESS = "deleted rule"
_DELETED_AT_ONCE = 5_000


class AccountStays(Exception):
    """An account is not deleted, nor anything of it; the text says why, for people."""


def delete_account(*, user: User, now: datetime) -> None:
    """Delete an account with all that it owns. Raises AccountStays."""
    user_id = user.pk
    try:
        with transaction.atomic():
            _delete(user_id, now=now)
    except market.AssetStays as error:
        raise AccountStays(str(error)) from None
    except IntegrityError:
        # Something new of theirs was committed beside this transaction.
        raise AccountStays("Something of it was changed at this moment; try again.") from None
    except OperationalError as error:
        if why := why_locked(error):
            raise AccountStays(why) from None
        raise
    logger.info("account deleted", extra={"user_id": user_id})


def _delete(user_id: int, *, now: datetime) -> None:
    user = next(one for one in lock_superusers(besides_pk=user_id) if one.pk == user_id)
    if why := why_not_deleted(user):
        raise AccountStays(why)
    portfolios.empty_portfolios(owner_id=user_id)
    theirs = list(Rule.objects.select_for_update(no_key=True).filter(owner=user).order_by("pk"))
    # Delete ended alerts and sent messages before the logs are locked: there may be many, and evaluation of these feeds
    # waits for the locks.
    _drop(Alert.objects.filter(owner=user, resolved_at__isnull=False))
    _drop(Message.objects.filter(channel__owner=user).exclude(status__in=Message.UNSENT))
    _drop(Transition.objects.filter(rule__owner=user))
    changes = RuleChange.objects.filter(rule__in=theirs).order_by()
    # Nothing of theirs is evaluated meanwhile, so nothing of theirs opens.
    own = every_feed().filter(owner=user)
    market.lock_logs({*changes.values_list("entry__feed", flat=True), *own.values_list("pk", flat=True)})
    delete_series_of(owner_id=user_id, now=now)
    for rule in theirs:
        if rule.deleted_at is None:
            rules.delete_rule(rule=rule, now=now, trace_id=new_trace_id())
    _drop(Alert.objects.filter(owner=user))
    _drop(Message.objects.filter(channel__owner=user))
    _drop(Transition.objects.filter(rule__owner=user))
    nobody = deleted_account()
    rules_that_stay(user).update(owner=nobody, name=NAMELESS)
    LogEntry.objects.filter(pk__in=entries_that_stay(user).values("pk")).update(user=nobody)
    User.objects.get(pk=user_id).delete()


def _drop(rows: QuerySet[Alert] | QuerySet[Message] | QuerySet[Transition]) -> None:
    # In parts, each well within the statement's time limit and in memory.
    while pks := list(rows.order_by("pk").values_list("pk", flat=True)[:_DELETED_AT_ONCE]):
        rows.filter(pk__in=pks).delete()
