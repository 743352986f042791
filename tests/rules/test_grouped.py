"""Windows filled from candles that are grouped to their grids are those filled quote by quote, wherever in the log."""

import random

import pytest

from apps.market.domain import PathCandle, RawQuote
from apps.market.models import FeedHead
from apps.market.queries import past
from apps.market.services import move_asset, roll_up
from apps.notation import SECOND
from apps.pipeline.flow import evaluate_pending
from apps.rules import queries
from apps.rules.engine.windows import filled
from apps.sources.services import import_history
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.rules.test_candles import seen

pytestmark = [pytest.mark.django_db, pytest.mark.servers]

MINUTE, HOUR, DAY = 60, 3_600, 86_400
WIDTHS = [30, 90, 20 * MINUTE, HOUR, 5 * HOUR, 16 * HOUR, 30 * HOUR, 61 * HOUR, 5 * DAY, 16 * DAY, 30 * DAY, 70 * DAY]
SYMBOLS = ("BTC", "ETH", "USDC")
# However many assets there are.
STATEMENTS = 15


def rolled_up(feed):
    while roll_up(feed_id=feed.pk):
        pass


def import_past(feed, chance, *, now):
    """Import quotes of the past of some assets, some on grid points, with gaps of up to days."""
    quotes = []
    for symbol in chance.sample(SYMBOLS, chance.randint(1, 3)):
        seconds = -chance.choice([HOUR, DAY, 40 * DAY, 80 * DAY])
        for _ in range(chance.randint(1, 120)):
            step = chance.choice([1, 20, MINUTE, 5 * MINUTE, HOUR, 5 * HOUR, 3 * DAY])
            seconds += chance.choice([step, chance.uniform(0, step), step - seconds % step])
            if seconds < 0:
                quotes.append(RawQuote(symbol, str(chance.randint(5, 15)), at(seconds)))
    import_history(feed_id=feed.pk, quotes=quotes, now=now, trace_id=TRACE)


@pytest.fixture(params=range(12))
def chance(request):
    return random.Random(request.param)


@pytest.fixture
def feed(chance):
    """Return a feed whose past was imported, and which had answers, in any order and rolled up as far as it may be."""
    feed = make_feed(*SYMBOLS, jump_percent=0)
    append_quotes(feed, [(SYMBOLS[0], START, "10")])
    now = 0.0
    for _ in range(chance.randint(5, 25)):
        what = chance.choice(["import", "roll up", *["answer"] * 5])
        if what == "import":
            import_past(feed, chance, now=at(now))
        elif what == "roll up":
            evaluate_pending(feed_id=feed.pk)
            rolled_up(feed)
        else:
            now += chance.choice([1, 20, MINUTE, HOUR, 2 * DAY])
            some = chance.sample(SYMBOLS, chance.randint(0, 3))
            append_quotes(feed, [(one, at(now), str(chance.randint(5, 15))) for one in some], as_of=at(now))
    evaluate_pending(feed_id=feed.pk)
    if chance.random() < 0.7:
        rolled_up(feed)
    return feed


def by_quote(history, wanted, monkeypatch):
    """Return what the history gives where no candles are grouped."""
    with monkeypatch.context() as patched:
        patched.setattr(past, "grouped_paths", lambda *_, **__: {})
        return history(wanted)


def both_paths(feed, asset_id, key, monkeypatch):
    """Return the past of an asset at the end of a feed's log, from grouped candles and quote by quote."""
    history = queries.history_of(feed_id=feed.pk, seq=FeedHead.objects.get(feed=feed).seq)
    (grouped,) = history({asset_id: [key]}).values()
    (quoted,) = by_quote(history, {asset_id: [key]}, monkeypatch).values()
    return grouped, quoted


def test_windows_see_the_same_from_grouped_candles_and_from_quotes(feed, chance, monkeypatch):
    last = FeedHead.objects.get(feed=feed).seq
    for seq in {last, *chance.sample(range(1, last + 1), min(4, last))}:
        # Without sums, cells that windows cannot tell apart are left out.
        names = chance.sample(["lowest", "highest"] if chance.random() < 0.5 else ["lowest", "path", "spread"], 2)
        keys = [(name, width * SECOND) for width in chance.sample(WIDTHS, chance.randint(1, 4)) for name in names]
        keys += [("newest", 0)] * chance.randint(0, 1)
        keys = keys if chance.random() < 0.9 else []
        wanted = dict.fromkeys(asset_ids(feed).values(), keys)
        history = queries.history_of(feed_id=feed.pk, seq=seq)
        grouped = history(wanted)
        quoted = by_quote(history, wanted, monkeypatch)
        assert grouped.keys() == quoted.keys()
        for asset_id, path in grouped.items():
            newest = [one if isinstance(one, tuple) and len(one) == 2 else None for one in path[-1:]]
            assert newest == quoted[asset_id][-1:]
            for key in [*keys, ("newest", 0)]:
                rebuilt, known = filled(key, path), filled(key, quoted[asset_id])
                assert seen(rebuilt) == seen(known), (seq, asset_id, key)
                for step in (1, 61, 3_600, 40 * HOUR):
                    for window in (rebuilt, known):
                        window.push(window.at + step * SECOND, 11 * 10**18)
                    assert seen(rebuilt) == seen(known), (seq, asset_id, key, step)
                if key[0] == "newest":
                    assert rebuilt.before == known.before


def test_a_price_is_in_force_until_the_next_cell_though_that_is_no_extreme(monkeypatch):
    feed = make_feed("BTC", jump_percent=0)
    (asset_id,) = asset_ids(feed).values()
    prices = [15, 9, 9, 12, *[8] * 40]
    quotes = [RawQuote("BTC", str(price), at(60 * (minute - 50))) for minute, price in enumerate(prices)]
    import_history(feed_id=feed.pk, quotes=quotes, now=START, trace_id=TRACE)
    append_quotes(feed, [("BTC", at(60), "8")])
    append_quotes(feed, [("BTC", at(120), "8")])
    evaluate_pending(feed_id=feed.pk)
    rolled_up(feed)

    key = ("highest", HOUR * SECOND)
    grouped, quoted = both_paths(feed, asset_id, key, monkeypatch)

    assert len(grouped) < len(quoted) / 4
    rebuilt, known = filled(key, grouped), filled(key, quoted)
    for minute in range(61, 66):
        for window in (rebuilt, known):
            window.push(quoted[0][0] + 60 * minute * SECOND, 8 * 10**18)
        assert seen(rebuilt) == seen(known), minute
    assert rebuilt.best == 8 * 10**18


def test_few_rows_are_read_of_each_asset_and_the_same_few_statements(django_assert_num_queries):
    keys = [("path", HOUR * SECOND), ("path", 30 * DAY * SECOND)]
    for count in (1, 4):
        symbols = [f"A{count}-{one}" for one in range(count)]
        feed = make_feed(*symbols, name=f"feed-{count}", jump_percent=0)
        quotes = [RawQuote(one, "10", at(-60 * minute)) for one in symbols for minute in range(1, 40 * 60)]
        import_history(feed_id=feed.pk, quotes=quotes, now=START, trace_id=TRACE)
        append_quotes(feed, [(one, at(60), "11") for one in symbols])
        append_quotes(feed, [(one, at(120), "12") for one in symbols])
        evaluate_pending(feed_id=feed.pk)
        rolled_up(feed)
        history = queries.history_of(feed_id=feed.pk, seq=FeedHead.objects.get(feed=feed).seq)
        with django_assert_num_queries(STATEMENTS):
            paths = history(dict.fromkeys(asset_ids(feed).values(), keys))
        for path in paths.values():
            assert len(path) < 75
            assert sum(isinstance(one, PathCandle) for one in path) > 65


def test_an_asset_that_has_moved_takes_what_was_not_rolled_up_along(monkeypatch):
    old, new = make_feed("BTC", jump_percent=0), make_feed("ETH", name="new", jump_percent=0)
    (asset_id,) = asset_ids(old).values()
    append_quotes(old, [("BTC", at(second), str(5 + second)) for second in range(3)])
    append_quotes(new, [("ETH", START, "10")])
    evaluate_pending(feed_id=old.pk)
    move_asset(asset_id=asset_id, feed_id=new.pk)
    append_quotes(new, [("BTC", at(600), "9")])
    append_quotes(new, [("BTC", at(700), "9")])
    evaluate_pending(feed_id=new.pk)
    rolled_up(new)

    key = ("path", HOUR * SECOND)
    grouped, quoted = both_paths(new, asset_id, key, monkeypatch)

    assert any(isinstance(one, PathCandle) for one in grouped)
    assert seen(filled(key, grouped)) == seen(filled(key, quoted))
