"""Finding a provider for a command, and describing its failures."""

from collections.abc import Mapping
from typing import Any

from apps.sources.models import FeedSource
from apps.sources.providers.failures import hint_on
from apps.sources.providers.protocol import Provider, ProviderMisconfigured
from apps.sources.providers.registry import provider_named


class CannotAsk(ValueError):
    """There is no such provider, or its options are wrong; the text is for people."""


def provider_called(name: str) -> Provider:
    """Return the provider of this name, written in capitals or not. Raises CannotAsk."""
    try:
        return provider_named(name.lower())
    except ProviderMisconfigured as error:
        raise CannotAsk(str(error)) from None


def options_for(provider: Provider, *, base_url: str | None = None) -> Mapping[str, Any]:
    """Return the options of the first feed with this provider, or its defaults; base_url: another address.

    Raises CannotAsk.
    """
    source = FeedSource.objects.filter(provider=provider.slug).order_by("pk").first()
    options = dict(source.options) if source is not None else {}
    try:
        return provider.validate_options(options | ({"base_url": base_url} if base_url else {}))
    except ProviderMisconfigured as error:
        raise CannotAsk(f"{provider.slug}: {error}") from None


def describe_failure(provider: Provider, reason: str) -> str:
    """Return a provider's failure in one line, with a hint; of its key only the name."""
    hint = hint_on(reason, key_variables=[provider.key_variable])
    return f"{provider.slug}: {reason}; {hint}" if hint else f"{provider.slug}: {reason}"
