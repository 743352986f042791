"""The providers by name. Adding one is one module, one line here, one test file."""

from apps.market.providers.alphavantage import AlphaVantage
from apps.market.providers.binance import Binance
from apps.market.providers.coinbase import Coinbase
from apps.market.providers.coincap import CoinCap
from apps.market.providers.coingecko import CoinGecko
from apps.market.providers.frankfurter import Frankfurter
from apps.market.providers.kraken import Kraken
from apps.market.providers.protocol import Provider, ProviderMisconfigured
from apps.market.providers.push import Push
from apps.market.providers.replay import Replay
from apps.market.providers.simulated import Simulated

_ALL: tuple[Provider, ...] = (
    AlphaVantage(),
    Binance(),
    Coinbase(),
    CoinCap(),
    CoinGecko(),
    Frankfurter(),
    Kraken(),
    Push(),
    Replay(),
    Simulated(),
)
PROVIDERS: dict[str, Provider] = {provider.slug: provider for provider in _ALL}


def provider_named(slug: str) -> Provider:
    """Return the provider. Raises ProviderMisconfigured for an unknown name, with the known ones."""
    try:
        return PROVIDERS[slug]
    except KeyError:
        raise ProviderMisconfigured(f"unknown provider {slug!r}; known are {', '.join(sorted(PROVIDERS))}") from None
