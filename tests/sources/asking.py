"""A request as a feed makes it, to a provider whose server stands on this machine."""

from datetime import UTC, datetime, timedelta

from apps.sources.providers.protocol import HistoryRequest, QuoteRequest

SLOT = datetime(2026, 3, 17, 16, tzinfo=UTC)


def request_to(provider, base_url, external_ids, **options):
    """Return a request for these external ids. options: of the provider, besides base_url."""
    return QuoteRequest(
        external_ids=external_ids,
        slot=SLOT,
        began_at=SLOT - timedelta(days=1),
        position=None,
        latest={},
        interval_seconds=60,
        options=provider.validate_options({"base_url": base_url, **options}),
    )


def past_of(provider, base_url, external_id, *, since, until, **options):
    """Return a request for [since, until) of this asset's past. options: of the provider, besides base_url."""
    return HistoryRequest(
        external_id=external_id,
        since=since,
        until=until,
        options=provider.validate_options({"base_url": base_url, **options}),
    )
