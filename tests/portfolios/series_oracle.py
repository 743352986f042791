"""A second, slow reading of the series of portfolios, which shares no code with the product: what is held at a time and
each price are looked for from the beginning."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from fractions import Fraction

from apps.market.derived.models import Derivation, SeriesChange
from apps.market.models import Asset, FeedEntry, Quote
from tests.market.derived_oracle import price_at, rounded

SECOND = 1_000_000
DAY = 86_400 * SECOND
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment):
    return (moment - EPOCH) // timedelta(microseconds=1)


def rate_of(document, prices, currency):
    """Return what 1 unit of a currency costs in the base currency, or None."""

    def step(a, b):
        for asset, base, quoted in document["pairs"]:
            if (base, quoted) == (a, b) and asset in prices:
                return prices[asset]
        for asset, base, quoted in document["pairs"]:
            if (base, quoted) == (b, a) and asset in prices:
                return 1 / prices[asset]
        return None

    base = document["base"]
    if currency == base:
        return Fraction(1)
    for middle in (None, "EUR", "USD"):
        if middle in (currency, base):
            continue
        if middle is None:
            found = step(currency, base)
        else:
            first, second = step(currency, middle), step(middle, base)
            found = None if first is None or second is None else first * second
        if found is not None:
            return found
    return None


def held_at(document, at):
    """Return asset or currency -> how much is held."""
    held = {}
    for moment, key, quantity in document["steps"]:
        if moment <= at:
            held[key] = Fraction(quantity)
    return {key: quantity for key, quantity in held.items() if quantity}


def values_at(document, paths, at, *, counted):
    """Return asset, or None for cash, -> its value, or None where one is not known."""
    prices = {}
    for leg in document["legs"]:
        point = price_at(paths.get(leg["asset"], ()), at)
        if point is not None and (not counted or at - point[0] <= leg["max_skew"]):
            prices[leg["asset"]] = point[1]
    values = {}
    for key, quantity in held_at(document, at).items():
        is_cash = isinstance(key, str)
        rate = rate_of(document, prices, key if is_cash else document["currencies"].get(str(key)))
        price = Fraction(1) if is_cash else prices.get(key)
        if rate is None or price is None:
            return None
        name = None if is_cash else key
        values[name] = values.get(name, 0) + quantity * price * rate
    return values


def worth(document, paths, at, *, counted=True):
    values = values_at(document, paths, at, counted=counted)
    return None if values is None else sum(values.values(), Fraction(0))


def worth_quoted(document, paths, at):
    """Return the worth; None while nothing is held too."""
    return worth(document, paths, at) if held_at(document, at) else None


def drift_at(document, paths, at):
    values = values_at(document, paths, at, counted=True)
    whole = None if values is None else sum(values.values(), Fraction(0))
    if whole is None or whole <= 0:
        return None
    target = {asset: Fraction(share) for asset, share in document["target"]}
    return max(abs(values.get(key, 0) / whole - target.get(key, 0)) for key in {*values, *target}) * 100


def growth(document, value_before, value, day, until):
    """Return by what a day multiplies an index, up to a time; None: not known."""
    begin = (day - date(1970, 1, 1)).days * DAY
    flows = [flow for at, flow in document["flows"] if begin <= at <= until]
    if value_before is None or value is None or None in flows:
        return None
    came = sum((Fraction(flow) for flow in flows if Fraction(flow) > 0), value_before)
    left = value - sum(Fraction(flow) for flow in flows if Fraction(flow) < 0)
    if came < 0:
        return None
    return left / came if came else Fraction(1)


class Index:
    """Where an index stands at the end of a day."""

    def __init__(self, start):
        self.day = date.fromisoformat(start["day"])
        self.value = None if start["value"] is None else Fraction(start["value"])
        self.index = None if start["index"] is None else Fraction(start["index"])
        self.has_begun = start["has_begun"]

    def move(self, document, paths, until):
        while True:
            day = self.day + timedelta(days=1)
            end = ((day - date(1970, 1, 1)).days + 1) * DAY - 1
            if end > until:
                return
            value = worth(document, paths, end, counted=False)
            if self.has_begun or (self.value is not None and value is not None):
                factor = growth(document, self.value, value, day, end)
                self.index = None if factor is None or self.index is None else self.index * factor
                self.has_begun = True
            self.day, self.value = day, value

    def at(self, document, paths, at):
        day = self.day + timedelta(days=1)
        factor = growth(document, self.value, worth(document, paths, at), day, at)
        return None if factor is None or self.index is None else self.index * factor


class Walk:
    """One series, entry by entry."""

    def __init__(self, document):
        self.last = document["start"]["last"]
        link = document["start"]["link"]
        self.document, self.index = document, None if link is None else Index(link)

    def quotes(self, paths, after, until):
        document, found = self.document, []
        for at in sorted({at for path in paths.values() for at, _ in path if after < at <= until}):
            if self.last is not None and at - self.last < document["every"]:
                continue
            if document["kind"] == "portfolio_value":
                value = worth_quoted(document, paths, at)
            elif document["kind"] == "portfolio_drift":
                value = drift_at(document, paths, at)
            else:
                self.index.move(document, paths, at - 1)
                value = self.index.at(document, paths, at) if held_at(document, at) else None
            if value is not None and (document["kind"] != "portfolio_index" or value > 0):
                found.append((at, rounded(value)))
                self.last = at
        if self.index is not None:
            self.index.move(document, paths, until)
        return found


def expected_of(feed_id):
    """Return (entry's number, asset id, at, price) of the quotes that a portfolio's feed has to have in their time."""
    changes, found, walks = {}, set(), {}
    for change in SeriesChange.objects.filter(entry__feed=feed_id, left_behind=None):
        changes.setdefault(change.entry_id, []).append(change)
    derivations = {one.entry_id: one for one in Derivation.objects.filter(entry__feed=feed_id)}
    clock = None
    for entry in FeedEntry.objects.filter(feed=feed_id).order_by("seq"):
        for change in changes.get(entry.pk, ()):
            if change.document is None:
                walks.pop(change.asset_id)
            else:
                walks[change.asset_id] = Walk(change.document)
        if entry.kind == "history":
            # The state after the past; of its quotes, those of days come from candles.
            for asset_id, state in derivations[entry.pk].states.items():
                walks[int(asset_id)] = Walk(walks[int(asset_id)].document | {"start": state})
        if entry.kind == "quotes":
            for asset_id, walk in walks.items():
                paths = _paths(walk.document, derivations[entry.pk].positions)
                bounds = {"after": microseconds(clock), "until": microseconds(entry.as_of)}
                quotes = walk.quotes(paths, **bounds)
                found |= {(entry.seq, asset_id, EPOCH + timedelta(microseconds=at), price) for at, price in quotes}
        clock = entry.as_of
    return found


def _paths(document, positions):
    ids = [leg["asset"] for leg in document["legs"]]
    paths = {}
    for pk, feed_id in Asset.every.filter(pk__in=ids).values_list("pk", "feed_id"):
        rows = Quote.objects.filter(asset=pk, late=False, entry__seq__lte=positions[str(feed_id)])
        paths[pk] = [(microseconds(at), Fraction(price)) for at, price in rows.values_list("at", "price")]
    return paths


def as_price(value):
    """Return a Decimal as a quote has it."""
    return rounded(Fraction(Decimal(value)))
