"""What tests of stored derived series do: series made, and what their log must hold, computed again by brute force."""

from fractions import Fraction

from apps.market.derived import deriving
from apps.market.derived.making import create_series
from apps.market.derived.models import Derivation, SeriesChange
from apps.market.derived.series import read_written
from apps.market.domain import EARLIEST, epoch_microseconds
from apps.market.models import Asset, FeedEntry, Quote
from tests.builders import START, TRACE
from tests.market.derived_oracle import quotes_of


class Killed(Exception):
    """The process ends here."""


class DyingAppend:
    """Appends derived quotes, and kills the process before or after it now and then, while it is deadly."""

    def __init__(self, chance):
        self._chance = chance
        self._append = deriving.append_quotes
        self.is_deadly = True
        self.deaths = {"before": 0, "after": 0}

    def __call__(self, *args, **kwargs):
        self._maybe_die("before")
        done = self._append(*args, **kwargs)
        self._maybe_die("after")
        return done

    def _maybe_die(self, when):
        if self.is_deadly and self._chance.random() < 0.3:
            self.deaths[when] += 1
            raise Killed


def make_series(symbol, kind, *legs, owner=None, now=START, **columns):
    """Return a derived series of these legs, each a symbol or a mapping."""
    written = read_written({"kind": kind, "legs": list(legs)})
    owner_id = None if owner is None else owner.pk
    return create_series(owner_id=owner_id, symbol=symbol, written=written, now=now, trace_id=TRACE, **columns)


def stored_of(feed_id):
    """Return (entry's number, asset id, at, price) of the quotes in a log that came in their time."""
    rows = Quote.objects.filter(entry__feed=feed_id, entry__kind="quotes", late=False)
    return set(rows.values_list("entry__seq", "asset_id", "at", "price"))


def expected_of(feed_id):
    """Return what `stored_of` has to return, from the legs' logs and the feed's own entries that say what was read."""
    found, definitions, clock = set(), {}, None
    changes = {}
    for change in SeriesChange.objects.filter(entry__feed=feed_id, left_behind=None):
        changes.setdefault(change.entry_id, []).append(change)
    derivations = dict(Derivation.objects.filter(entry__feed=feed_id).values_list("entry_id", "positions"))
    for entry in FeedEntry.objects.filter(feed=feed_id).order_by("seq"):
        for change in changes.get(entry.pk, ()):
            definitions[change.asset_id] = change.document
        if entry.kind == "quotes" and clock >= entry.as_of:
            # It had no clock before: the entries before its first answer are dated by the machine's.
            clock = EARLIEST
        if entry.kind == "quotes":
            for asset_id, document in definitions.items():
                if document is not None:
                    found |= {
                        (entry.seq, asset_id, at, price)
                        for at, price in _quotes(document, derivations[entry.pk], clock, entry.as_of)
                    }
        if entry.pk in derivations or clock is None:
            clock = entry.as_of
    return found


def _quotes(document, positions, after, until):
    assets = {asset.pk: asset for asset in Asset.every.filter(pk__in=[leg["asset"] for leg in document["legs"]])}
    paths = {}
    for pk, asset in assets.items():
        rows = Quote.objects.filter(asset=pk, late=False, entry__seq__lte=positions[str(asset.feed_id)])
        paths[pk] = [(epoch_microseconds(at), Fraction(price)) for at, price in rows.values_list("at", "price")]
    times = {
        epoch_microseconds(at): at
        for pk in assets
        for at in Quote.objects.filter(asset=pk).values_list("at", flat=True)
    }
    legs = [(leg["asset"], leg["weight"], leg["max_skew"]) for leg in document["legs"]]
    bounds = {"after": epoch_microseconds(after), "until": epoch_microseconds(until)}
    quotes = quotes_of(document["kind"], legs, paths, signed=document["signed"], **bounds)
    return [(times[at], price) for at, price in quotes]
