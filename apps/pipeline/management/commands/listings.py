"""`manage.py listings PROVIDER`: what a provider calls assets, seen, searched and added."""

import shlex
from collections.abc import Sequence
from typing import Any, NoReturn

from django.core.management.base import BaseCommand, CommandParser

from apps.command_line import refuse
from apps.pipeline.asked import CannotAsk, describe_failure, options_for, provider_called
from apps.sources.models import Listing
from apps.sources.providers.protocol import Provider, ProviderRejected, ProviderUnavailable
from apps.sources.services import ListingRefused, add_listing


class Command(BaseCommand):
    """Exit status 0, or 2 with one line on standard error and nothing written."""

    help = "Show what a provider calls the assets, search what it has, or add a listing (docs/feeds.md)."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("provider", help="like coincap or COINCAP")
        parser.add_argument("--search", metavar="WORDS", help="ask the provider what it has; it is one of its calls")
        parser.add_argument("--base-url", metavar="URL", help="ask at this address; default: that of a feed's source")
        parser.add_argument("--add", metavar="EXTERNAL_ID", help="note this name of the provider, with --asset")
        parser.add_argument("--asset", metavar="SYMBOL", help="the asset that it is")
        parser.add_argument("--feed", metavar="NAME", help="where an asset that is not there yet is made")
        parser.add_argument("--name", default="", help="what people call an asset that is not there yet")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            provider = provider_called(options["provider"])
            if options["add"] is not None:
                self._add(provider, options)
            elif options["search"] is not None:
                self._search(provider, options)
            else:
                self._show(provider)
        except (CannotAsk, ListingRefused) as error:
            _refuse(str(error))
        except (ProviderUnavailable, ProviderRejected) as error:
            _refuse(describe_failure(provider, error.reason))

    def _show(self, provider: Provider) -> None:
        stored = Listing.objects.filter(provider=provider.slug).select_related("asset").order_by("asset__symbol")
        rows = [[one.asset.symbol, one.external_id, one.asset.currency or "-"] for one in stored]
        if not rows:
            self.stdout.write(f"No listings of {provider.slug}; its assets go by their symbols.")
            return
        self._table(["asset", "external id", "currency"], rows)

    def _search(self, provider: Provider, options: dict[str, Any]) -> None:
        asked = options_for(provider, base_url=options["base_url"])
        found = provider.search(options["search"], asked)
        if not found:
            self.stdout.write(f"{provider.slug} finds nothing.")
            return
        ids = [one.external_id for one in found]
        listed = dict(
            Listing.objects.filter(provider=provider.slug, external_id__in=ids).values_list(
                "external_id", "asset__symbol"
            )
        )
        rows = [
            [one.external_id, one.symbol, one.name, one.currency or "-", listed.get(one.external_id, "-")]
            for one in found
        ]
        self._table(["external id", "symbol", "name", "currency", "listed as"], rows)
        example = next((one for one in found if one.external_id not in listed), None)
        if example is not None:
            external_id = shlex.quote(_printable(example.external_id))
            self.stdout.write(
                f"To add one: manage.py listings {provider.slug} --add {external_id} --asset SYMBOL "
                "(and --feed NAME where the asset is new)"
            )

    def _add(self, provider: Provider, options: dict[str, Any]) -> None:
        if options["asset"] is None:
            raise ListingRefused("say by --asset which asset it is")
        currency = provider.currency_of(options["add"], options_for(provider)) if provider.is_live else None
        listed = add_listing(
            provider=provider.slug,
            external_id=options["add"],
            symbol=options["asset"],
            feed_name=options["feed"],
            name=options["name"],
            currency=currency or "",
        )
        listing, asset = listed.listing, listed.listing.asset
        new = f" {asset} is new in the feed {asset.feed}." if listed.is_new_asset else ""
        self.stdout.write(f"{asset} is {listing}{'' if listed.is_new else ' already'}.{new}")

    def _table(self, headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        lines = [headers, *([_printable(cell) for cell in row] for row in rows)]
        widths = [max(len(line[place]) for line in lines) for place in range(len(headers))]
        for line in lines:
            self.stdout.write("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _printable(text: str) -> str:
    """Return what a provider wrote without what would steer a terminal."""
    return "".join(one if one.isprintable() else "?" for one in text)


def _refuse(why: str) -> NoReturn:
    refuse("listings", _printable(why))
