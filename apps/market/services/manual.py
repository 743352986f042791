"""Manual assets: what one owner holds and no provider prices. Their prices are typed or uploaded, into a log of the
owner's."""

import secrets

from django.core.exceptions import ValidationError
from django.db import transaction

from apps.market.models import Asset, Feed
from apps.market.queries import MANUAL_FEED, every_asset, every_feed
from apps.market.services.owning import create_asset, create_bare_feed

MANUAL_MOST = 1_000  # Of one owner.
# Prices are of days.
_INTERVAL_SECONDS = 86_400


def create_manual_asset(*, owner_id: int, symbol: str, currency: str, name: str = "") -> Asset:
    """Return a new asset of an owner, without prices. Raises ValidationError."""
    if not currency:
        raise ValidationError({"currency": "Its prices need a currency, like EUR."})
    with transaction.atomic():
        feed = _feed_of(owner_id)
        if every_asset().filter(owner=owner_id, feed__name__startswith=MANUAL_FEED).count() >= MANUAL_MOST:
            raise ValidationError(f"An owner has at most {MANUAL_MOST} manual assets; delete one first.")
        return create_asset(owner_id=owner_id, symbol=symbol, feed=feed, name=name, currency=currency)


def _feed_of(owner_id: int) -> Feed:
    """Return the feed of an owner's manual assets, which is made where it is not there. (Two at once may make two.)"""
    known = every_feed().filter(name__startswith=MANUAL_FEED, owner=owner_id).order_by("pk").first()
    if known is not None:
        return known
    given = {"interval_seconds": _INTERVAL_SECONDS, "is_enabled": False, "jump_percent": 0}
    return create_bare_feed(owner_id=owner_id, name=f"{MANUAL_FEED}{secrets.token_hex(6)}", is_live=True, **given)
