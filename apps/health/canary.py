"""The canary: a made-up price that goes through the whole chain, so that its absence is noticed.

Its prices go up and down in turns: its rule opens an alert above CALM and resolves it at CALM, and its inbox gets both.
Its rows are few, and are made anew each day.
"""

from datetime import datetime, timedelta
from decimal import Decimal

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import User
from django.db import transaction

from apps.canary import CANARY
from apps.health.checks.canary import canary_findings
from apps.leases import CLOCKS_DIFFER_AT_MOST
from apps.market import partitions
from apps.market.domain import Admission, AdmittedQuote
from apps.market.models import Asset, EvaluationCursor, Feed, FeedEntry, FeedHead, LatestQuote, Quote, RollupCursor
from apps.market.queries import every_asset, every_feed
from apps.market.services.log import append_quotes, append_rules_entry, lock_head
from apps.notify.models import Channel, RuleChannel
from apps.rules.engine.rule import RuleSpec
from apps.rules.models import Rule, RuleChange, RuleVersion
from apps.tracing import new_trace_id

# Two prices are a round: one opens, one resolves. The check that appends them comes each 10 s.
PRICE_EVERY = timedelta(seconds=150)
DUE_AFTER = PRICE_EVERY - timedelta(seconds=5)
# After a pause that is longer, nothing has run meanwhile, and what was not delivered in it says nothing.
PAUSE = PRICE_EVERY + timedelta(seconds=60)
KEPT_FOR = timedelta(days=1)
CALM, LOUD = Decimal(1), Decimal(2)
# No form, file or selector takes these names.
NAME, SYMBOL = "~canary", "~CANARY"
# Its prices are in no candles: the roll-up finds its log rolled up already.
NEVER_ROLLED_UP = 2**62


def append_if_due(*, now: datetime) -> bool:
    """Append the canary's next price to its log where it is due, and tell whether it was. It is made where it is not
    there yet."""
    known = FeedHead.objects.filter(pk=CANARY).values_list("as_of", flat=True).first()
    if known is not None and known > now + CLOCKS_DIFFER_AT_MOST:
        # The clock was set back: its log would take no price before it is where it was.
        _drop()
    elif known is not None and not _is_due(known, now=now):
        return False
    partitions.ensure([now.date()])
    with transaction.atomic():
        _make(now=now)
        head = lock_head(CANARY)
        if head.as_of is not None and not _is_due(head.as_of, now=now):
            # Another check was faster.
            return False
        if head.as_of is None or now - head.as_of > PAUSE:
            head.began_at = now
        last = LatestQuote.objects.filter(pk=CANARY).values_list("price", flat=True).first()
        price = CALM if last == LOUD else LOUD
        admitted = Admission(quotes=[AdmittedQuote(CANARY, now, price)])
        append_quotes(head, admitted, as_of=now, provider="canary", jump_percent=0, now=now, trace_id=new_trace_id())
        head.save(update_fields=[*head.APPENDED, "as_of", "began_at"])
    return True


def _is_due(last: datetime, *, now: datetime) -> bool:
    return now - last > DUE_AFTER


def _make(*, now: datetime) -> None:
    """Make what is not there yet of the canary's rows, in the caller's transaction."""
    nobody = User(pk=CANARY, username=NAME, password=make_password(None), is_active=False)
    User.objects.bulk_create([nobody], ignore_conflicts=True)
    # Of two at once, one makes the rest.
    owner = User.objects.select_for_update(no_key=True).get(pk=CANARY)
    if every_feed().filter(pk=CANARY).exists():
        return
    # Off: nobody fetches it. What is stored is evaluated all the same.
    feed = Feed(pk=CANARY, name=NAME, interval_seconds=PRICE_EVERY.seconds, is_enabled=False)
    feed.save(force_insert=True)
    FeedHead.objects.create(feed=feed, next_slot=now)
    EvaluationCursor.objects.create(feed=feed)
    RollupCursor.objects.create(feed=feed, seq=NEVER_ROLLED_UP)
    asset = Asset(pk=CANARY, symbol=SYMBOL, feed=feed)
    asset.save(force_insert=True)
    rule = Rule.every.create(pk=CANARY, owner=owner, name=NAME, severity=Rule.Severity.INFO)
    spec = RuleSpec.read({"assets": [SYMBOL], "condition": {"kind": "above", "level": str(CALM)}})
    version = RuleVersion.objects.create(rule=rule, number=1, document=spec.document())
    entry = append_rules_entry(feed_id=feed.pk, now=now, trace_id=new_trace_id())
    RuleChange.objects.create(entry=entry, rule=rule, version=version, asset_ids=[asset.pk])
    channel = Channel.objects.create(pk=CANARY, owner=owner, name=NAME, kind="inbox", group_wait_seconds=0)
    RuleChannel.objects.create(rule=rule, channel=channel)


def prune_canary(*, now: datetime, dry_run: bool = False) -> int:
    """Drop the canary's rows where the oldest is older than a day, or where it is disabled, and return how many
    entries of its log that were; it is made anew when its next price is due. dry_run: nothing is dropped.

    While it is missed, its rows stay, and so does that problem.
    """
    entries = FeedEntry.objects.filter(feed=CANARY)
    oldest = entries.order_by("seq").values_list("received_at", flat=True).first()
    if oldest is None:
        return 0
    if settings.CANARY and (now - oldest <= KEPT_FOR or canary_findings(now=now)):
        return 0
    count = entries.count()
    if not dry_run:
        _drop()
    return count


def _drop() -> None:
    with transaction.atomic():
        # In the order in which evaluation takes them; the channel's before any row that its planner holds.
        list(EvaluationCursor.objects.select_for_update().filter(pk=CANARY))
        list(FeedHead.objects.select_for_update().filter(pk=CANARY))
        list(Channel.objects.select_for_update().filter(pk=CANARY))
        # With it go its rule, alerts, channel and messages.
        User.objects.filter(pk=CANARY).delete()
        Quote.objects.filter(asset=CANARY).delete()
        every_asset().filter(pk=CANARY).delete()
        every_feed().filter(pk=CANARY).delete()
