"""Another provider takes over: whose quotes come from whom from now on, and by which factor windows see them."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal

from apps.market import domain, queries
from apps.market.domain import AdmittedQuote, from_epoch_microseconds
from apps.market.models import ProviderSwitch

IMPORTED = "import"  # the provider of what came from a file


def switches_of(
    fresh: Sequence[AdmittedQuote], *, newest: Mapping[int, domain.Newest], provider: str, feed_id: int
) -> list[ProviderSwitch]:
    """Return the changes of provider that begin with these quotes, still without an entry.

    A provider that quoted the asset until lately has the factor that it had; another is given one.
    """
    first: dict[int, AdmittedQuote] = {}
    for quote in fresh:
        if quote.asset_id in newest and newest[quote.asset_id].provider != provider:
            first.setdefault(quote.asset_id, quote)
    if not first:
        return []
    feed = queries.with_recent_entries(queries.every_feed().filter(pk=feed_id)).get()
    within = domain.SWITCH_INTERVALS * timedelta(seconds=max(feed.interval_seconds, queries.pace_seconds(feed)))
    in_force, kept = queries.last_switches_of(first), queries.last_switches_of(first, before=provider)
    switches = []
    for asset_id, quote in first.items():
        known, last, own = newest[asset_id], in_force.get(asset_id), kept.get(asset_id)
        before = known.provider
        if before in ("", IMPORTED):
            # A file is no provider that could fail: the provider before is the one from before the import.
            before = last.provider if last is not None else provider
        if before == provider:
            continue
        before_at, before_factor = from_epoch_microseconds(known.at), last.factor if last is not None else Decimal(1)
        if own is not None and quote.at - own.before_at <= max(domain.FACTOR_KEPT, within):
            factor = own.before_factor
        else:
            factor = domain.factor_of_switch(
                quote.price,
                last=known.price,
                last_factor=before_factor,
                is_soon=quote.at - before_at <= within,
                step_percent=feed.switch_step_percent,
            )
        switches.append(
            ProviderSwitch(
                asset_id=asset_id,
                at=quote.at,
                provider=provider,
                factor=factor,
                before=before,
                before_at=before_at,
                before_factor=before_factor,
            )
        )
    return switches


def asset_ids_by_provider_before(switches: Sequence[ProviderSwitch]) -> dict[str, list[int]]:
    """Return provider before -> the assets whose quotes come from another from now on, sorted."""
    switched: dict[str, list[int]] = {}
    for one in sorted(switches, key=lambda switch: (switch.before, switch.asset_id)):
        switched.setdefault(one.before, []).append(one.asset_id)
    return switched
