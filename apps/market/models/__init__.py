"""The market's tables. Django looks for them here, and every other module imports them from here."""

from apps.market.derived import models as _derived  # noqa: F401 (Django looks for tables here)
from apps.market.models.adjustments import ProviderSwitch, Split
from apps.market.models.assets import Asset, AssetAlias, AssetsChange, WatchedAsset
from apps.market.models.candles import Candle, RollupCursor
from apps.market.models.feeds import INTERVAL_LONGEST_SECONDS, EvaluationCursor, Feed, FeedHead
from apps.market.models.fields import slug_validator, symbol_validator
from apps.market.models.log import FORWARD_KINDS, FeedEntry
from apps.market.models.quotes import Correction, LatestQuote, Quote, SupersededQuote, UnconfirmedQuote

__all__ = [
    "FORWARD_KINDS",
    "INTERVAL_LONGEST_SECONDS",
    "Asset",
    "AssetAlias",
    "AssetsChange",
    "Candle",
    "Correction",
    "EvaluationCursor",
    "Feed",
    "FeedEntry",
    "FeedHead",
    "LatestQuote",
    "ProviderSwitch",
    "Quote",
    "RollupCursor",
    "Split",
    "SupersededQuote",
    "UnconfirmedQuote",
    "WatchedAsset",
    "slug_validator",
    "symbol_validator",
]
