"""The mutation by which operators add a listing: the name that a provider has for an asset."""

from datetime import datetime

import graphene

from apps.api.graphql.context import Context
from apps.api.graphql.errors import Forbidden
from apps.api.graphql.mutations.base import Creation
from apps.api.graphql.mutations.faults import Code, Fault, Faulty
from apps.api.graphql.types.market import Listing
from apps.sources.models import Listing as ListingRow
from apps.sources.services import ListingRefused, add_listing


class AddListing(Creation):
    """Note what a provider calls an asset. What is noted already stays as it is. With `feed`, an asset that is not
    there is made in it."""

    class Arguments:
        provider = graphene.String(required=True, description="Name of the provider.")
        external_id = graphene.String(required=True, description="What the provider calls it, like bitcoin at CoinCap.")
        symbol = graphene.String(required=True, description="Symbol of the asset.")
        feed = graphene.String(description="Name of the feed, where the asset may be new.")
        name = graphene.String(required=True, default_value="", description="Of a new asset.")
        currency = graphene.String(required=True, default_value="", description="Of a new asset's price.")

    for_staff = True
    permission = "sources.add_listing"
    gives = "listing"
    listing = graphene.Field(Listing, description="The listing, the new one or that which was there.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        provider: str,
        external_id: str,
        symbol: str,
        feed: str | None = None,
        name: str | None = "",
        currency: str | None = "",
    ) -> ListingRow:
        """Note it. Raises Forbidden where an asset may be made and the account may not."""
        if feed is not None and not context.owner().has_perm("market.add_asset"):
            raise Forbidden
        about = {"symbol": symbol, "feed_name": feed, "name": name or "", "currency": currency or ""}
        try:
            return add_listing(provider=provider, external_id=external_id, **about).listing
        except ListingRefused as refusal:
            raise Faulty(Fault(Code.INVALID, f"{refusal}.")) from None

    @classmethod
    def found(cls, context: Context, id: str) -> ListingRow | None:
        """Return the listing of an id."""
        return ListingRow.objects.select_related("asset").filter(pk=id).first()


class ListingsMutation(graphene.ObjectType):
    add_listing = AddListing.Field()
