"""Which assets and feeds a user may see. `Asset.objects` and `Feed.objects` give those of the installation; only this
module gives those of one owner."""

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q, QuerySet

from apps.canary import is_not_canary
from apps.market.models import Asset, Feed

Reader = AbstractBaseUser | AnonymousUser
# How the names of the owned feeds begin whose prices are typed.
MANUAL_FEED = "manual-"


def every_asset() -> QuerySet[Asset]:
    """Return all assets, whoever's: for what evaluates and stores, and for ids whose reader is known to see them."""
    return Asset.every.all()


def every_feed() -> QuerySet[Feed]:
    """Return all feeds, whoever's: for what evaluates and stores."""
    return Feed.every.all()


def assets_seen_by(user: Reader) -> QuerySet[Asset]:
    """Return the assets that `user` may see: the installation's and their own, all for a superuser."""
    return Asset.every.filter(_is_seen_by(user))


def assets_of(owner_id: int | None) -> QuerySet[Asset]:
    """Return the assets that rules and portfolios of an owner may name: the installation's and their own. None: the
    installation's alone."""
    return Asset.objects.all() if owner_id is None else Asset.every.filter(Q(pk__gt=0) | Q(owner=owner_id))


def feeds_seen_by(user: Reader) -> QuerySet[Feed]:
    """Return the feeds with head and evaluation cursor that `user` may see: the installation's for whoever may look at
    feeds in the admin, and their own; all for a superuser, none for a stranger."""
    rows = Feed.every.select_related("head", "evaluation_cursor")
    if not (user.is_authenticated and user.is_active):
        return rows.none()
    is_operator = getattr(user, "is_staff", False) and user.has_perm("market.view_feed")  # type: ignore[union-attr]
    return rows.filter(_is_seen_by(user)) if is_operator else rows.filter(owner=user)


def manual_assets_seen_by(user: Reader) -> QuerySet[Asset]:
    """Return the manual assets that `user` may see, with their newest quotes, in order of symbol: their own, all for a
    superuser."""
    rows = assets_seen_by(user).filter(owner__isnull=False, feed__name__startswith=MANUAL_FEED)
    return rows.select_related("latest", "owner", "feed").order_by("symbol", "pk")


def _is_seen_by(user: Reader) -> Q:
    if not user.is_authenticated:
        return Q(pk__gt=0)
    return is_not_canary("pk") if getattr(user, "is_superuser", False) else Q(pk__gt=0) | Q(owner=user)
