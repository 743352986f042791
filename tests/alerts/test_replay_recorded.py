"""Hours of the recorded market with splits, corrections, changes of provider and edits of rules in the log, evaluated
by analyzers that are killed in between: the log read again gives the same alerts."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest

from apps.alerts.models import AlertEvent
from apps.alerts.replay import replay
from apps.market.domain import RawQuote
from apps.market.models import Asset, FeedEntry
from apps.market.services import append_split
from apps.pipeline import corrections, flow
from apps.rules import services as rules
from apps.rules.models import Checkpoint, Rule
from apps.rules.services import confirm_rule
from tests.builders import TRACE, append_quotes, make_feed, make_owner, make_rule
from tests.pipeline.recorded import RULES, SYMBOLS, write_recording

pytestmark = pytest.mark.django_db

BEGIN, END = "2023-03-11T04:00", "2023-03-11T08:30"
# Minutes after the beginning.
SWITCHED_FROM, SWITCHED_UNTIL = 60, 130
SPLIT_AT, EDITED_AT, CORRECTED_AT, DELETED_AT = 100, 120, 160, 210


class Killed(Exception):
    """The analyzer is killed before it commits."""


@pytest.fixture
def analyze(monkeypatch):
    """Return a function that evaluates what is pending by an analyzer that is killed one time in five."""
    draw = random.Random(5)
    enqueue = flow.notify.enqueue

    def die(events, *, now):
        raise Killed

    def run(feed):
        if draw.random() < 0.2:
            monkeypatch.setattr(flow.notify, "enqueue", die)
            with pytest.raises(Killed):
                flow.evaluate_pending(feed_id=feed.pk)
            # Another process takes over, which has no warm engine.
            rules._warm.clear()
        monkeypatch.setattr(flow.notify, "enqueue", enqueue)
        flow.evaluate_pending(feed_id=feed.pk)

    return run


def minutes_of(rows):
    """Return the recording's rows by minute, in order."""
    found = {}
    for symbol, moment, price in rows:
        found.setdefault(moment, []).append((symbol, moment, price))
    return [found[moment] for moment in sorted(found)]


def test_the_log_of_recorded_hours_read_again_gives_the_same_alerts(tmp_path, monkeypatch, analyze):
    monkeypatch.setattr(rules, "CHECKPOINT_EVERY", timedelta(minutes=25))
    rows = write_recording(tmp_path / "hours.csv", begin=BEGIN, end=END)
    feed = make_feed(*SYMBOLS, interval_seconds=60)
    owner = make_owner()
    btc = Asset.objects.get(symbol="BTC-USD")
    done = []
    for minute, quotes in enumerate(minutes_of(rows)):
        if minute == 1:
            # After the first quotes, which give the feed the recording's clock.
            for name, document in RULES.items():
                document = dict(document)
                document["pending"] = document.pop("for", "0s")
                make_rule(owner, name=name, assets=list(SYMBOLS), **document)
        moment = quotes[0][1]
        is_switched = SWITCHED_FROM <= minute < SWITCHED_UNTIL
        factor = Decimal("1.004") if is_switched else Decimal(1)
        # After the split the recording's prices come as half of what they were.
        halved = {"BTC-USD": 2} if minute >= SPLIT_AT else {}
        given = [(symbol, at, str(price * factor / halved.get(symbol, 1))) for symbol, at, price in quotes]
        done.append(given)
        if minute == SPLIT_AT:
            terms = {"effective_at": moment - timedelta(minutes=1), "numerator": 2, "denominator": 1}
            assert append_split(asset_id=btc.pk, **terms, now=moment, trace_id=TRACE) is not None
            analyze(feed)
        append_quotes(feed, given, as_of=moment, provider="kraken" if is_switched else "coinbase")
        if minute == EDITED_AT:
            make_rule(
                owner,
                name="rises",
                rule=Rule.objects.get(name="rises"),
                assets={"feed": feed.name},
                condition={"kind": "rises", "percent": "0.7", "window": "30m"},
            )
            for rule in Rule.objects.all():
                confirm_rule(rule=rule, now=moment, trace_id=TRACE)
        if minute == CORRECTED_AT:
            wrong = [RawQuote(symbol, str(Decimal(price) * Decimal("1.03")), at) for symbol, at, price in done[-20]]
            admitted = corrections.admit_file(feed, wrong, now=moment)
            assert corrections.replace_quotes(feed, admitted, now=moment, trace_id=TRACE).replaced == len(wrong)
        if minute == DELETED_AT:
            span = {"since": done[-30][0][1], "until": done[-20][0][1]}
            assert corrections.delete_quotes(btc, **span, now=moment, trace_id=TRACE).deleted == 10
        analyze(feed)

    kinds = set(FeedEntry.objects.values_list("kind", flat=True))
    assert kinds >= {"quotes", "rules", "split", "correction"}
    assert FeedEntry.objects.filter(switched__isnull=False).count() == 2
    events = AlertEvent.objects.filter(kind__in=["opened", "resolved"]).count()
    assert events > 20
    assert AlertEvent.objects.filter(kind="corrected").exists()
    assert Checkpoint.objects.count() > 5
    clocks = list(FeedEntry.objects.order_by("seq").values_list("as_of", flat=True))
    assert clocks == sorted(clocks)
    found = replay(feed, since=clocks[0], until=clocks[-1], progress=lambda part: None)
    assert (found.same, found.missing, found.extra) == (events, [], [])
    for place in (70, 110, 130, 170, 230):
        found = replay(feed, since=clocks[place], until=clocks[-1], progress=lambda part: None)
        assert (found.missing, found.extra) == ([], [])
