"""A random log, written by the project's own services: rules that come, change and go, quotes, history, corrections,
splits."""

from apps.market.domain import RawQuote
from apps.market.models import Asset, Quote
from apps.market.services import append_split
from apps.pipeline import corrections
from apps.rules.engine.conditions import is_event, read_condition
from apps.rules.services import confirm_rule
from tests.builders import TRACE, append_quotes, asset_ids, at, make_rule

LEVELS, PERCENTS, WINDOWS = ["99.5", "100", "101"], ["0.5", "1", "2"], ["10s", "1m", "5m"]


STATES = ["above", "below", "outside", "rises", "falls", "above_average", "below_average", "zscore"]
# What may stand together: beside an event there is no `stale`.
KINDS = [[*STATES, "stale", "stale"], [*STATES, "crosses", "exits"]]


def random_leaf(draw, kinds):
    kind = draw.choice(kinds)
    if kind in ("above", "below", "crosses"):
        return {"kind": kind, "level": draw.choice(LEVELS)}
    if kind in ("outside", "exits"):
        return {"kind": kind, "low": "99", "high": "101"}
    if kind == "stale":
        return {"kind": kind, "after": draw.choice(["5s", "20s"])}
    if kind == "zscore":
        return {"kind": kind, "n": draw.choice(["1", "1.5"]), "window": draw.choice(WINDOWS)}
    return {"kind": kind, "percent": draw.choice(PERCENTS), "window": draw.choice(WINDOWS)}


def random_condition(draw):
    """Return a leaf, or two or three combined."""
    shape, kinds = draw.random(), draw.choice(KINDS)
    if shape < 0.6:
        return random_leaf(draw, kinds)
    if shape < 0.7:
        return {"not": random_leaf(draw, ["above", "above", "rises"])}
    return {draw.choice(["all", "any"]): [random_leaf(draw, kinds) for _ in range(draw.randint(2, 3))]}


def random_correction(draw, feed, symbol, *, second):
    """Delete some of an asset's quotes, or replace some and add one beside them; an entry, if there is anything."""
    asset = Asset.objects.get(symbol=symbol)
    times = sorted(Quote.objects.filter(asset=asset).values_list("at", flat=True))[-draw.randint(1, 12) :]
    if not times or draw.random() < 0.3:
        since, until = (times[0], times[draw.randrange(len(times))]) if times else (at(0), at(0))
        if since < until:
            corrections.delete_quotes(asset, since=since, until=until, now=at(second), trace_id=TRACE)
        return
    moments = [*draw.sample(times, min(len(times), 3)), times[0] - (at(1) - at(0)) / 2]
    quotes = [RawQuote(symbol, str(draw.randint(97, 103)), moment) for moment in moments]
    admitted = corrections.admit_file(feed, quotes, now=at(second))
    corrections.replace_quotes(feed, admitted, now=at(second), trace_id=TRACE)


def random_entries(draw, feed, owner, *, symbols):
    """Append a random entry to the feed's log, over and over. It has at most one change of rules at a time."""
    rules, second = {}, 0
    one, other = symbols
    while True:
        chance = draw.random()
        if 0.3 <= chance < 0.38 and rules:
            # Twice the price or half of it: prices come as before, so the next one is a step.
            terms = draw.choice([(2, 1), (1, 2), (21, 20), (20, 21)])
            append_split(
                asset_id=asset_ids(feed)[draw.choice(symbols)],
                effective_at=at((second - draw.choice([0, 0, 30])) // 60 * 60),
                numerator=terms[0],
                denominator=terms[1],
                now=at(second),
                trace_id=TRACE,
            )
        elif 0.38 <= chance < 0.44 and rules:
            confirm_rule(rule=rules[draw.choice(sorted(rules))], now=at(second), trace_id=TRACE)
        elif chance < 0.3 or not rules:
            name = f"{draw.choice('abc')} of {feed}"
            condition = random_condition(draw)
            holds = not is_event(read_condition(condition))
            rules[name] = make_rule(
                owner,
                name=name,
                rule=rules.get(name),
                assets=draw.choice([[one], [other], [one, other], {"feed": feed.name}]),
                condition=condition,
                pending=draw.choice(["0s", "3s"]) if holds else "0s",
                keep_firing=draw.choice(["0s", "5s"]) if holds else "0s",
                cooldown=draw.choice(["0s", "20s"]),
                trigger=draw.choice(["edge", "edge", "edge", "once"]),
                expires_at=draw.choice([None, None, at(second + 30)]),
                enabled=draw.random() < 0.9 or len(rules) < 2,
            )
        elif draw.random() < 0.15:
            random_correction(draw, feed, draw.choice(symbols), second=second)
        else:
            quotes = []
            for _ in range(draw.randint(0, 4)):
                second += draw.choice([1, 2, 5, 30])
                late = draw.choice([0, 0, 0, 7])
                quotes.append((draw.choice(symbols), at(second - late), str(draw.randint(97, 103))))
            past = [(one, at(-draw.randint(1, 300)), str(draw.randint(97, 103)))]
            append_quotes(feed, quotes, as_of=at(second), history=past if draw.random() < 0.2 else ())
        yield
