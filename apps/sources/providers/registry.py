"""The providers by name. A new one is imported and listed here."""

from apps.sources.providers.alphavantage import AlphaVantage
from apps.sources.providers.bcb_sgs import BcbSgs
from apps.sources.providers.binance import Binance
from apps.sources.providers.brapi import Brapi
from apps.sources.providers.coinbase import Coinbase
from apps.sources.providers.coincap import CoinCap
from apps.sources.providers.coingecko import CoinGecko
from apps.sources.providers.frankfurter import Frankfurter
from apps.sources.providers.kraken import Kraken
from apps.sources.providers.protocol import Provider, ProviderMisconfigured
from apps.sources.providers.push import Push
from apps.sources.providers.recording import Recording
from apps.sources.providers.simulated import Simulated

_ALL: tuple[Provider, ...] = (
    AlphaVantage(),
    BcbSgs(),
    Binance(),
    Brapi(),
    Coinbase(),
    CoinCap(),
    CoinGecko(),
    Frankfurter(),
    Kraken(),
    Push(),
    Recording(),
    Simulated(),
)
PROVIDERS: dict[str, Provider] = {provider.slug: provider for provider in _ALL}


def provider_named(slug: str) -> Provider:
    """Return the provider. Raises ProviderMisconfigured for an unknown name, with the known ones."""
    try:
        return PROVIDERS[slug]
    except KeyError:
        raise ProviderMisconfigured(f"unknown provider {slug!r}; known are {', '.join(sorted(PROVIDERS))}") from None
