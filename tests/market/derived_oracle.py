"""A second, slow reading of derived series, which shares no code with the product: at each time, each leg's last quote
is looked for from the beginning."""

from decimal import Decimal, localcontext
from fractions import Fraction


def price_at(path, at):
    """Return (time, price) of the last quote at or before `at`, or None."""
    known = [point for point in path if point[0] <= at]
    return max(known) if known else None


def rounded(value):
    """Return a Fraction rounded half to even to 18 decimals and 15 significant digits."""
    if not value:
        return Decimal(0)
    exponent = 0
    while abs(value) >= Fraction(10) ** (exponent + 1):
        exponent += 1
    while abs(value) < Fraction(10) ** exponent:
        exponent -= 1
    step = max(-18, exponent - 14)
    whole = round(value / Fraction(10) ** step)
    with localcontext() as context:
        context.prec = 60
        return Decimal(whole).scaleb(step)


def value_of(kind, weights, prices):
    """Return the exact value, or None."""
    if kind == "ratio":
        return prices[0] / prices[1] if prices[1] else None
    if kind == "spread":
        return prices[0] - prices[1]
    return sum((weight * price for weight, price in zip(weights, prices, strict=True)), Fraction(0))


def quotes_of(kind, legs, paths, *, after, until, signed):
    """Return [(at, price)].

    legs: (asset, weight, max_skew); paths: asset -> [(at, price as a Fraction)].
    """
    times = {at for asset, *_ in legs for at, _ in paths.get(asset, ()) if after < at <= until}
    found = []
    for at in sorted(times):
        points = [price_at(paths.get(asset, ()), at) for asset, *_ in legs]
        if any(point is None or at - point[0] > skew for point, (_, _, skew) in zip(points, legs, strict=True)):
            continue
        value = value_of(kind, [Fraction(weight) for _, weight, _ in legs], [price for _, price in points])
        if value is None or not Fraction(1, 10**15) <= (abs(value) if signed else value) <= 10**12:
            if value == 0 and signed:
                found.append((at, Decimal(0)))
            continue
        found.append((at, rounded(value)))
    return found
