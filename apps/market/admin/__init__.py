"""The operators' pages: assets, feeds and their logs; and what the pages of every app have in common."""

from apps.market.admin.assets import AssetAdmin
from apps.market.admin.backfills import BackfillAdmin
from apps.market.admin.feeds import BatchAdmin, FeedAdmin
from apps.market.admin.pages import (
    ROWS_SHOWN,
    Chart,
    JSONObjectField,
    PageAdmin,
    ReadOnlyAdmin,
    ShortText,
    Table,
    WordsField,
    page_link,
    plain_number,
)

__all__ = [
    "ROWS_SHOWN",
    "AssetAdmin",
    "BackfillAdmin",
    "BatchAdmin",
    "Chart",
    "FeedAdmin",
    "JSONObjectField",
    "PageAdmin",
    "ReadOnlyAdmin",
    "ShortText",
    "Table",
    "WordsField",
    "page_link",
    "plain_number",
]
