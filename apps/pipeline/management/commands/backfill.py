"""`manage.py backfill ASSET --from TIME`: the past of one asset, from a provider that has it."""

import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.db import OperationalError
from django.utils import timezone

from apps.command_line import INTERRUPTED, moment, refuse
from apps.market import queries
from apps.market.domain import EARLIEST
from apps.market.models import Asset
from apps.pipeline.asked import CannotAsk, describe_failure, provider_called
from apps.sources.models import Backfill
from apps.sources.services import (
    BackfillRefused,
    Outcome,
    begin_or_resume,
    calls_needed,
    describe_backfill,
    origin_of,
    pause_between_calls,
    release_backfill,
    take_backfill_step,
)
from apps.sources.services.backfilling import Origin, Step
from apps.tracing import new_trace_id

SECONDS_BETWEEN_PROGRESS = 2.0
FAILURES_IN_A_ROW = 10
RETRY_FIRST, RETRY_LONGEST = timedelta(seconds=1), timedelta(seconds=60)
AGAIN = "begin again with the same command"


class Command(BaseCommand):
    """Exit status 0; 1 where the provider fails for long; 2 with one line where it is refused; 130 where it was
    stopped."""

    help = (
        "Ask a provider for the past of an asset and store it as history of its feed: windows and backtests see it, "
        "nothing opens. What was begun goes on where it stopped."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("asset", help="symbol or alias")
        parser.add_argument("--from", dest="since", type=moment, required=True, metavar="TIME")
        parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="default now")
        parser.add_argument("--provider", metavar="NAME", help="default: the first source of its feed that has a past")
        parser.add_argument("--dry-run", action="store_true", help="say what it would take, and ask nobody")

    def handle(self, *args: Any, **options: Any) -> None:
        now = timezone.now()
        since, until = options["since"], min(options["until"] or now, now)
        try:
            asset, origin = _asked(options, since=since, until=until, now=now)
            if options["dry_run"]:
                self._print_plan(asset, origin, since=since, until=until, now=now)
                return
            backfill = begin_or_resume(
                asset_id=asset.pk, provider=origin.provider.slug, since=since, until=until, now=now
            )
            self._run(backfill, origin)
        except (BackfillRefused, CannotAsk) as error:
            refuse("backfill", str(error))
        except OperationalError as error:
            text = str(error).splitlines()[0]
            refuse("backfill", f"the database is busy or away; what was stored stands; {AGAIN}: {text}", status=1)

    def _print_plan(self, asset: Asset, origin: Origin, *, since: datetime, until: datetime, now: datetime) -> None:
        calls = calls_needed(origin, since=since, until=until, now=now)
        seconds = (calls - 1) * pause_between_calls(origin.provider.slug, backfills_more=1).total_seconds()
        self.stdout.write(
            f"{asset}: {calls} {'call' if calls == 1 else 'calls'} of {origin.provider.slug} "
            f"(it is {origin.external_id} there), about {timedelta(seconds=max(seconds, 0))}. Nothing was asked."
        )

    def _run(self, backfill: Backfill, origin: Origin) -> None:
        fence, failures, repeated = 0, 0, 0
        rejected: Counter[str] = Counter()
        self._reported_at = time.monotonic()
        try:
            self._wait(backfill, until=backfill.next_call_at)
            while True:
                step = take_backfill_step(
                    backfill_id=backfill.pk, fence=fence, now=timezone.now(), trace_id=new_trace_id()
                )
                backfill, fence = step.backfill, step.fence
                if backfill.fence != fence:
                    refuse("backfill", "another process is at it; see its progress there")
                if step.outcome is Outcome.REFUSED:
                    refuse("backfill", describe_failure(origin.provider, backfill.failure))
                repeated += step.repeated
                rejected.update(step.rejected)
                if step.outcome is Outcome.FINISHED:
                    break
                if step.outcome is not Outcome.WAITS:
                    failures = 0 if step.outcome is Outcome.STORED else failures + 1
                if failures == FAILURES_IN_A_ROW:
                    release_backfill(backfill_id=backfill.pk, fence=fence)
                    why = describe_failure(origin.provider, backfill.failure)
                    refuse("backfill", f"{why}; what was stored stands; {AGAIN}", status=1)
                self._wait(backfill, until=_next_at(step, failures=failures))
        except KeyboardInterrupt:
            release_backfill(backfill_id=backfill.pk, fence=fence)
            refuse("backfill", f"stopped; {AGAIN}", status=INTERRUPTED)
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
        self.stdout.write(
            f"{backfill.asset}: {backfill.accepted} quotes of {backfill.provider} from "
            f"{backfill.since:%Y-%m-%d %H:%M} to {backfill.until:%Y-%m-%d %H:%M} in {backfill.calls} calls"
            f"{f'; {repeated} were there already' if repeated else ''}"
            f"{f'; {rejected.total()} rejected ({reasons})' if reasons else ''}."
        )

    def _wait(self, backfill: Backfill, *, until: datetime) -> None:
        """Wait, and print the progress now and then."""
        while True:
            left = (until - timezone.now()).total_seconds()
            if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_PROGRESS:
                self._reported_at = time.monotonic()
                failed = f" after {backfill.failure}" if backfill.failure else ""
                self.stderr.write(f"backfill: {describe_backfill(backfill)}; next call{failed} in {max(left, 0):.0f} s")
            if left <= 0:
                return
            time.sleep(min(left, SECONDS_BETWEEN_PROGRESS))


def _asked(options: dict[str, Any], *, since: datetime, until: datetime, now: datetime) -> tuple[Asset, Origin]:
    """Return the asset and where its past comes from. Raises BackfillRefused, CannotAsk."""
    if since > now:
        raise BackfillRefused("--from is in the future")
    if since < EARLIEST:
        raise BackfillRefused(f"--from is before {EARLIEST.year}, and no quote from before that is taken")
    if since >= until:
        raise BackfillRefused("--from is not before --to")
    asset = queries.assets_named([options["asset"]]).get(options["asset"])
    if asset is None:
        raise BackfillRefused(f"there is no asset {options['asset']}")
    slug = provider_called(options["provider"]).slug if options["provider"] else None
    origin = origin_of(asset, provider=slug)
    reach = origin.history.reach
    begun = Backfill.objects.filter(asset=asset, provider=origin.provider.slug, since=since, finished_at=None)
    # What was begun in time goes on.
    if reach is not None and since < now - reach and not begun.exists():
        raise BackfillRefused(
            f"{origin.provider.slug} goes back {reach.days} days, to {now - reach:%Y-%m-%d %H:%M}; begin after that"
        )
    return asset, origin


def _next_at(step: Step, *, failures: int) -> datetime:
    """Return when the next call may be made: when the row says, or after a wait that doubles with each failure."""
    at = step.backfill.next_call_at
    if not failures or step.retry_after_seconds is not None:
        return at
    return max(at, timezone.now() + min(RETRY_FIRST * 2 ** (failures - 1), RETRY_LONGEST))
