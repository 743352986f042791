"""What is dropped when it is older than it is kept for."""

from datetime import date

from apps.market import partitions
from apps.market.models import FeedHead
from apps.market.services.log import retention


def prune_quotes() -> list[date]:
    """Drop the days of raw quotes that every feed has left behind for longer than they are kept, by its own clock.

    Returns the days. LatestQuote keeps the newest price of each asset.
    """
    kept = retention()
    clocks = [as_of for as_of in FeedHead.objects.values_list("as_of", flat=True) if as_of is not None]

    def is_over(day: date) -> bool:
        # A feed whose clock is before that day (a replayed film beside a live market) has no quotes in it. One at least
        # has passed it: a day that nobody has reached yet was made for quotes that are about to be stored.
        passed = [clock.date() - kept > day for clock in clocks]
        return any(passed) and all(is_past or clock.date() < day for clock, is_past in zip(clocks, passed, strict=True))

    return partitions.drop([day for day in partitions.days() if is_over(day)])
