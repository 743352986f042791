"""Backtests that are rows: asked for, started, run under a lease, kept for a while."""

import logging
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.db import IntegrityError, InterfaceError, OperationalError, transaction
from django.db.models import Count, F, Max, Q
from django.db.models.functions import Now

from apps.backtests.evaluation import OpensTooOften, try_on_stored
from apps.backtests.models import BacktestRun
from apps.backtests.wording import Failure
from apps.leases import IS_LEASED, LEASE_HAS_EXPIRED, may_dispatch
from apps.market import queries as market
from apps.market.domain import from_epoch_microseconds
from apps.market.models import FeedHead
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule
from apps.rules.queries import fit_for

logger = logging.getLogger(__name__)

Status = BacktestRun.Status

# Renewed each second while it goes well; longer than the longest step between two looks at the row.
LEASE = timedelta(minutes=2)
# Between asking for a worker and its beginning. They may all be busy, so it is not asked again at once.
REDISPATCH_AFTER = timedelta(minutes=1)
STARTS_AT_MOST = 3
# RabbitMQ takes a channel away from who has held a message for 30 minutes, also one that only waits behind this.
RUN_AT_MOST_SECONDS = 1_500
SECONDS_BETWEEN_LOOKS = 1.0
RUNS_KEPT = 20
OPENINGS_KEPT, ASSETS_KEPT, ERRORS_KEPT = 1_000, 1_000, 20
OPENING_KEYS = ("asset", "opened_at", "resolved_at", "resolved_because", "price", "summary", "evidence")


class RunRefused(ValueError):
    """The backtest cannot be asked for so; the text is for people."""


class _Stopped(Exception):
    """The row says that this run is to go on no more."""


class _TooLong(Exception):
    """It has taken as long as it may."""


def assets_tried(spec: RuleSpec, *, owner_id: int) -> list[market.ChosenAsset]:
    """Return the assets of feeds that the rule of this owner chooses now and applies to, in order of id."""
    chosen = spec.assets
    assets = market.assets_chosen(symbols=chosen.symbols, tag=chosen.tag, feed=chosen.feed, owner_id=owner_id)
    return [asset for asset in fit_for(spec, assets) if asset.feed_id is not None]


def stored_range(spec: RuleSpec, *, owner_id: int) -> tuple[datetime, datetime] | None:
    """Return the whole seconds between which quotes of the rule's assets are stored; None where there are none."""
    spans = market.stored_spans(asset.pk for asset in assets_tried(spec, owner_id=owner_id)).values()
    if not spans:
        return None
    first = from_epoch_microseconds(min(first for first, _ in spans))
    newest = from_epoch_microseconds(max(newest for _, newest in spans))
    return first.replace(microsecond=0), newest.replace(microsecond=0) + timedelta(seconds=1)


def request_backtest(
    *,
    owner: AbstractBaseUser,
    rule: Rule,
    since: datetime,
    until: datetime,
    document: Mapping[str, Any] | None = None,
    now: datetime,
) -> BacktestRun:
    """Return a backtest of the rule on [since, until], which the next tick starts.

    An end behind the feeds' clocks is cut to these.
    document: another written form to try, which changes nothing about the rule; by default its newest version.
    Raises RunRefused, and RuleInvalid for a form that cannot be read.
    """
    if document is None:
        version = rule.versions.order_by("number").last()
        document = version.document if version is not None else {}
    spec = RuleSpec.read(document)
    last = _last_stored(spec, owner_id=rule.owner_id, since=since, until=until)
    # Behind its feeds' clocks there is nothing, and it would be looked for piece by piece.
    until = min(until, max(last, _newest_clock(spec, owner_id=rule.owner_id) or last))
    try:
        with transaction.atomic():
            return BacktestRun.objects.create(
                owner=owner, rule=rule, document=spec.document(), since=since, until=until, requested_at=now
            )
    except IntegrityError:
        if BacktestRun.objects.filter(owner=owner, status__in=[Status.QUEUED, Status.RUNNING]).exists():
            text = "A backtest of yours is waiting or running. Let it end, or cancel it, then start the next one."
            raise RunRefused(text) from None
        raise


def _last_stored(spec: RuleSpec, *, owner_id: int, since: datetime, until: datetime) -> datetime:
    """Return the end of what is stored for the rule. Raises RunRefused where the range cannot be tried."""
    if since >= until:
        raise RunRefused("The beginning is not before the end.")
    if not assets_tried(spec, owner_id=owner_id):
        raise RunRefused("The rule applies to no asset of a feed that it chooses, so there is nothing to try it on.")
    stored = stored_range(spec, owner_id=owner_id)
    if stored is None:
        raise RunRefused("No quotes of the rule's assets are stored yet, so there is nothing to try it on.")
    first, last = stored
    if since < first:
        raise RunRefused(f"Quotes of the rule's assets are stored from {first:%Y-%m-%d %H:%M:%S} UTC on; begin later.")
    if since >= last:
        raise RunRefused(f"The newest quote of the rule's assets is of {last:%Y-%m-%d %H:%M:%S} UTC; begin earlier.")
    return last


def _newest_clock(spec: RuleSpec, *, owner_id: int) -> datetime | None:
    feeds = {asset.feed_id for asset in assets_tried(spec, owner_id=owner_id)}
    return FeedHead.objects.filter(feed__in=feeds).aggregate(newest=Max("as_of"))["newest"]


def cancel_backtest(*, run_id: uuid.UUID) -> bool:
    """Cancel a backtest that is not over, and tell whether there was anything to cancel.

    One that is being run stops within seconds, by its own look at the row.
    """
    unfinished = BacktestRun.objects.filter(pk=run_id, status__in=[Status.QUEUED, Status.RUNNING])
    is_idle = Q(status=Status.QUEUED) | LEASE_HAS_EXPIRED
    if unfinished.filter(is_idle).update(status=Status.CANCELLED, finished_at=Now(), lease_until=None):
        return True
    return bool(unfinished.update(cancel_requested=True))


def start_due(*, now: datetime, at_most: int | None = None) -> list[uuid.UUID]:
    """Return the backtests that a worker is to be asked for, each once: those that nobody has been asked for yet.

    at_most: so many may be on their way or running.
    """
    return _claim(Q(status=Status.QUEUED, redispatch_at=None), now=now, at_most=at_most)


def start_behind(*, now: datetime, at_most: int | None = None) -> list[uuid.UUID]:
    """Return the backtests to ask for again, their message or their worker being lost, and give up on those that were
    started too often."""
    crashed = BacktestRun.objects.filter(LEASE_HAS_EXPIRED, status=Status.RUNNING)
    over = {"finished_at": Now(), "lease_until": None}
    crashed.filter(cancel_requested=True).update(status=Status.CANCELLED, **over)
    lost = _failed(Failure.WORKER_LOST, starts=STARTS_AT_MOST)
    crashed.filter(fence__gte=STARTS_AT_MOST).update(**lost, **over)
    may_be_asked = may_dispatch(now=now, again_after=REDISPATCH_AFTER)
    is_crashed = Q(status=Status.RUNNING) & LEASE_HAS_EXPIRED & may_be_asked
    is_lost = Q(status=Status.QUEUED, redispatch_at__isnull=False) & may_be_asked
    return _claim(is_lost | is_crashed, now=now, at_most=at_most)


def _claim(chosen: Q, *, now: datetime, at_most: int | None) -> list[uuid.UUID]:
    found = BacktestRun.objects.filter(chosen)
    run_ids = list(found.order_by("requested_at").values_list("pk", flat=True))
    if at_most is not None and run_ids:
        is_asked_for = Q(status=Status.QUEUED, redispatch_at__gte=now)
        is_running = Q(status=Status.RUNNING) & IS_LEASED
        run_ids = run_ids[: max(at_most - BacktestRun.objects.filter(is_asked_for | is_running).count(), 0)]
    return [run_id for run_id in run_ids if found.filter(pk=run_id).update(redispatch_at=now + REDISPATCH_AFTER)]


def run_backtest(*, run_id: uuid.UUID) -> None:
    """Run one backtest, unless it is over or somebody else is running it.

    What the database refuses rises, and so does the end of the process: then the lease ends, and it is started again.
    """
    is_free = Q(status=Status.QUEUED) | (Q(status=Status.RUNNING) & LEASE_HAS_EXPIRED)
    taken = BacktestRun.objects.filter(is_free, pk=run_id, fence__lt=STARTS_AT_MOST).update(
        status=Status.RUNNING, fence=F("fence") + 1, lease_until=Now() + LEASE, started_at=Now(), progress_percent=0
    )
    run = BacktestRun.objects.filter(pk=run_id).first() if taken else None
    if run is None:
        return
    look = _Look(run)
    try:
        spec = RuleSpec.read(run.document)
        assets = assets_tried(spec, owner_id=run.rule.owner_id)
        report = try_on_stored(spec, assets=assets, since=run.since, until=run.until, progress=look)
        changes = {"status": Status.DONE, "progress_percent": 100, "result": _bounded(report)}
    except _Stopped:
        # Where the fence has moved on, it is another's, and nothing of it is ours to write.
        changes = {"status": Status.CANCELLED}
    except (OperationalError, InterfaceError):
        raise
    except RuleInvalid as error:
        changes = _failed(Failure.RULE_UNREADABLE, detail=_in_a_line(str(error)))
    except OpensTooOften as error:
        changes = _failed(Failure.OPENS_TOO_OFTEN, at_most=error.at_most)
    except _TooLong:
        changes = _failed(Failure.TOOK_TOO_LONG, minutes=RUN_AT_MOST_SECONDS // 60)
    except Exception as error:
        logger.exception("backtest raised", extra={"run": str(run_id)})
        changes = _failed(Failure.EVALUATION_FAILED, detail=_in_a_line(f"{type(error).__name__}: {error}"))
    if look.mine.update(**changes, finished_at=Now(), lease_until=None):
        logger.info("backtest over", extra={"run": str(run_id), "status": str(changes["status"])})


def _failed(failure: Failure, **data: str | int) -> dict[str, Any]:
    return {"status": Status.FAILED, "failure": failure, "failure_data": data}


class _Look:
    """What a run tells its row, and asks of it, about once a second: how far it is, and whether it is to go on."""

    def __init__(self, run: BacktestRun) -> None:
        self.mine = BacktestRun.objects.filter(pk=run.pk, status=Status.RUNNING, fence=run.fence)
        self._began = time.monotonic()
        self._looked = self._began - SECONDS_BETWEEN_LOOKS  # The first step looks.

    def __call__(self, part: float) -> None:
        """Note the part that is done. Raises what stops the run."""
        at = time.monotonic()
        if at - self._looked < SECONDS_BETWEEN_LOOKS:
            return
        self._looked = at
        percent = max(0, min(int(part * 100), 99))
        going_on = self.mine.filter(cancel_requested=False)
        if not going_on.update(progress_percent=percent, lease_until=Now() + LEASE):
            raise _Stopped
        if at - self._began > RUN_AT_MOST_SECONDS:
            raise _TooLong


def _bounded(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the report small enough for a row: the first openings without their operands, and how many there are."""
    openings = report["openings"]
    return {
        **report,
        "openings": [{key: opening[key] for key in OPENING_KEYS} for opening in openings[:OPENINGS_KEPT]],
        "openings_count": len(openings),
        "openings_by_asset": dict(Counter(opening["asset"] for opening in openings).most_common(ASSETS_KEPT)),
        "assets": report["assets"][:ASSETS_KEPT],
        "assets_count": len(report["assets"]),
        "errors": [_in_a_line(error) for error in report["errors"][:ERRORS_KEPT]],
        "errors_count": len(report["errors"]),
    }


def _in_a_line(text: str) -> str:
    return " ".join(text.replace("\0", "").split())[:200]


def prune_backtests(*, dry_run: bool = False) -> int:
    """Drop all but the newest runs of each owner and return how many were dropped, or with dry_run would be. One that
    is not over stays."""
    dropped = 0
    many = BacktestRun.objects.order_by().values("owner").annotate(count=Count("pk")).filter(count__gt=RUNS_KEPT)
    for owner_id in many.values_list("owner", flat=True):
        runs = BacktestRun.objects.filter(owner=owner_id).order_by("-requested_at", "pk")
        old = list(runs.values_list("pk", flat=True)[RUNS_KEPT:])
        over = [Status.DONE, Status.FAILED, Status.CANCELLED]
        chosen = BacktestRun.objects.filter(pk__in=old, status__in=over)
        dropped += chosen.count() if dry_run else chosen.delete()[0]
    return dropped
