"""Several prices of one second: live, replayed, tried on what is stored and tried on a file, the same opens."""

import random

import pytest

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.backtests.evaluation import try_on_file, try_on_stored
from apps.market.models import Asset, Quote
from apps.pipeline.flow import evaluate_pending
from tests.backtests.test_stored import episodes_of, ignore, live_episodes, spec_of
from tests.builders import above, append_quotes, at, make_feed, make_owner, make_rule

SYMBOLS = ["A", "B"]
SECONDS = 60
RULES = {
    "high": {"condition": above(110, recovery="100")},
    "high for a second": {"condition": above(105), "for": "1s"},
    "crossing": {"condition": {"kind": "crosses", "level": "105"}},
    "rise": {"condition": {"kind": "rises", "percent": "9", "window": "10s"}, "cooldown": "5s"},
    "beyond the mean": {"condition": {"kind": "above_average", "percent": "5", "window": "30s"}},
}


def _rows(draw):
    """Return (symbol, second, price): up to four prices of an asset in one second, some of them equal neighbours."""
    prices, rows = dict.fromkeys(SYMBOLS, 100), []
    for second in range(SECONDS):
        for symbol in SYMBOLS:
            for _ in range(draw.choice([0, 1, 1, 2, 4])):
                prices[symbol] = min(max(prices[symbol] + draw.choice([-5, -2, 0, 2, 5]), 90), 120)
                rows.append((symbol, second, prices[symbol]))
    return rows


@pytest.mark.django_db
@pytest.mark.parametrize("is_repeated", [False, True], ids=["once", "each answer twice"])
def test_live_replay_and_both_backtests_open_the_same(tmp_path, is_repeated):
    rows = _rows(random.Random(7))
    feed, owner = make_feed(*SYMBOLS), make_owner()
    append_quotes(feed, [], as_of=at(-1))
    for name, document in RULES.items():
        make_rule(owner, name=name, assets=SYMBOLS, **document)
    for second in range(SECONDS):
        answer = [(symbol, at(second), str(price)) for symbol, moment, price in rows if moment == second]
        for _ in range(2 if is_repeated else 1):
            append_quotes(feed, answer, as_of=at(second))
        evaluate_pending(feed_id=feed.pk)
    (tmp_path / "quotes.csv").write_text(
        "\n".join(
            ["time,symbol,price", *(f"{at(second).isoformat()},{symbol},{price}" for symbol, second, price in rows)]
        )
    )

    specs = {name: spec_of(document, SYMBOLS) for name, document in RULES.items()}
    stored = {
        name: try_on_stored(spec, assets=list(Asset.objects.all()), since=at(0), until=at(SECONDS), progress=ignore)
        for name, spec in specs.items()
    }
    on_file = {
        name: try_on_file(spec, tmp_path / "quotes.csv", sweep=False, jump_percent=50, now=at(SECONDS), progress=ignore)
        for name, spec in specs.items()
    }

    live = live_episodes()
    assert {name for name, *_ in live} == set(RULES)
    # Some open within a second, which they could not if its first price stood alone.
    assert any(opened.microsecond for _, _, opened, _ in live)
    assert Quote.objects.filter(late=True).count() == 0
    assert episodes_of(stored) == live
    assert episodes_of(on_file) == live
    report = replay(feed, since=at(-10), until=at(SECONDS + 10), progress=lambda done: None)
    resolved = Alert.objects.filter(resolved_at__isnull=False)
    assert (report.same, report.missing, report.extra) == (len(live) + resolved.count(), [], [])
