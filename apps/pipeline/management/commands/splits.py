"""The splits of an asset, asked of a provider and entered into the log of its feed."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.command_line import refuse
from apps.market.models import Asset
from apps.market.services import SplitRefused, append_split
from apps.pipeline.asked import CannotAsk, describe_failure, provider_called
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable
from apps.sources.services import BackfillRefused, origin_of
from apps.tracing import new_trace_id


class Command(BaseCommand):
    """Exit status 0; 1 where a split was refused; 2, with one line, where nothing could be asked."""

    help = "Ask a provider for the splits of an asset, and enter those that are not entered yet."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("symbol", help="The asset, like AAPL.")
        parser.add_argument("--provider", default="alphavantage", help="Who is asked. Default: alphavantage.")
        parser.add_argument("--dry-run", action="store_true", help="Show the splits, and enter none.")

    def handle(self, *args: Any, **options: Any) -> None:
        asset = Asset.objects.select_related("feed").filter(symbol=options["symbol"]).first()
        if asset is None:
            refuse("splits", f"there is no asset {options['symbol']}")
        try:
            provider = provider_called(options["provider"])
            origin = origin_of(asset, provider=provider.slug)
            found = provider.fetch_splits(origin.external_id, origin.source.options)
        except (CannotAsk, BackfillRefused) as error:
            refuse("splits", str(error))
        except (ProviderUnavailable, ProviderRejected) as error:
            refuse("splits", describe_failure(provider, error.reason))
        refused = 0
        for one in sorted(found, key=lambda split: split.effective_at):
            said = f"{one.numerator}:{one.denominator} from {one.effective_at:%Y-%m-%d %H:%M} UTC on"
            if options["dry_run"]:
                self.stdout.write(said)
                continue
            terms = {"numerator": one.numerator, "denominator": one.denominator, "effective_at": one.effective_at}
            try:
                split = append_split(asset_id=asset.pk, **terms, now=timezone.now(), trace_id=new_trace_id())
            except SplitRefused as refusal:
                refused += 1
                self.stdout.write(f"{said}: refused: {refusal}")
            else:
                self.stdout.write(f"{said}: {'entered' if split is not None else 'entered already'}")
        if not found:
            self.stdout.write(f"{provider.slug} knows no split of {asset}.")
        if refused:
            raise SystemExit(1)
