"""The check of the canary."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Subquery

from apps.canary import CANARY
from apps.health.domain import Code, Finding, Level, Subject
from apps.market.models import FeedHead
from apps.notify.models import Message

# Two of its rounds, and a minute.
MISSED_AFTER = timedelta(minutes=11)


def canary_findings(*, now: datetime) -> list[Finding]:
    """Return that nothing of the canary has reached its inbox for two rounds, in which it has run; one statement."""
    if not settings.CANARY:
        return []
    delivered = Message.objects.filter(channel=CANARY, status=Message.Status.DELIVERED).order_by("-created_at")
    head = FeedHead.objects.filter(pk=CANARY, began_at__isnull=False)
    times = head.values_list("began_at", Subquery(delivered.values("delivered_at")[:1])).first()
    if times is None:
        return []
    since = max(at for at in times if at is not None)
    if now - since <= MISSED_AFTER:
        return []
    return [Finding(Subject.SYSTEM, 0, Code.CANARY_MISSED, Level.STOPPED, since=since)]
