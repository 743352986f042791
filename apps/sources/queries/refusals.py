"""Listings that providers refuse."""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from django.db.models import F

from apps.market.models import Feed
from apps.sources.models import RefusedListing
from apps.sources.providers.registry import PROVIDERS


class Refusals(NamedTuple):
    """The names that one source of a feed refuses.

    asset_ids: the assets of all its rows; waiting: names that are left out of calls until they are due; due: names that
    are asked for again, each in a call of its own.
    """

    asset_ids: Collection[int]
    waiting: Collection[str]
    due: Collection[str]


def refusals_of(rows: Iterable[RefusedListing], *, provider: str, named: Mapping[str, int], now: datetime) -> Refusals:
    """Return what of these rows concerns a provider. named: external id -> asset id, of all that the feed has there.

    Where all names are refused, none waits: the feed shall say so itself, by failing, and not go on without a price.
    """
    of_provider = [row for row in rows if row.provider == provider]
    refused = [row for row in of_provider if named.get(row.external_id) == row.asset_id]
    asset_ids = {row.asset_id for row in of_provider}
    if len(refused) == len(named):
        return Refusals(asset_ids, waiting=(), due=())
    return Refusals(
        asset_ids,
        waiting={row.external_id for row in refused if row.next_ask_at > now},
        due={row.external_id for row in refused if row.next_ask_at <= now},
    )


def refused_rows_of(feed: Feed, *, providers: Iterable[str]) -> list[RefusedListing]:
    """Return the refused listings of a feed's assets at those of the providers that have limits: one statement, or
    none where no provider has."""
    limited = {slug for slug in providers if slug in PROVIDERS and PROVIDERS[slug].limits is not None}
    if not limited:
        return []
    return list(RefusedListing.objects.filter(asset__feed=feed, provider__in=limited).order_by())


def refused_listings_of(asset_ids: Iterable[int]) -> dict[int, list[RefusedListing]]:
    """Return asset id -> its listings that a source of its feed refuses, by provider; one statement."""
    found: dict[int, list[RefusedListing]] = {asset_id: [] for asset_id in asset_ids}
    rows = RefusedListing.objects.filter(asset__in=found, asset__feed__sources__provider=F("provider"))
    for row in rows.distinct().order_by("provider"):
        found[row.asset_id].append(row)
    return found
