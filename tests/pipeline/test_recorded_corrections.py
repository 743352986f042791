"""The recorded market with corrections and edits of rules in its log, evaluated by processes that start anew between:
what came of it is what the oracle finds, and what is found when the log is read again."""

import random
from datetime import timedelta

import pytest

from apps.alerts.models import AlertEvent
from apps.alerts.replay import replay
from apps.market.domain import RawQuote, epoch_microseconds, price_units
from apps.market.models import Asset, FeedEntry, Quote, RollupCursor
from apps.market.services import roll_up
from apps.pipeline import corrections, flow
from apps.rules import services as rules
from apps.rules.models import RuleChange, Transition
from tests.builders import TRACE, append_quotes, asset_ids, make_feed, make_owner, make_rule
from tests.pipeline import recorded
from tests.rules import oracle

pytestmark = pytest.mark.django_db

MINUTES_AN_ENTRY = 7


class Written:
    """A log that is appended by the project's services, and the same as the oracle reads it."""

    def __init__(self, feed):
        self.feed = feed
        self.ids = asset_ids(feed)
        self.log = []

    def _next(self):
        entry = FeedEntry.objects.get(feed=self.feed, seq=len(self.log) + 1)
        return entry.seq, epoch_microseconds(entry.as_of)

    def _rows(self, rows):
        return tuple((self.ids[symbol], epoch_microseconds(at), price_units(price)) for symbol, at, price in rows)

    def quotes(self, rows):
        append_quotes(self.feed, [(symbol, at, str(price)) for symbol, at, price in rows])
        ordered = sorted(rows, key=lambda row: (row[1], self.ids[row[0]]))
        self.log.append(oracle.QuotesEntry(*self._next(), self._rows(ordered)))

    def rule(self, owner, *, rule=None, **document):
        saved = make_rule(owner, rule=rule, **document)
        for change in RuleChange.objects.filter(entry__seq=len(self.log) + 1).select_related("version"):
            one = oracle.Change(change.rule_id, change.version_id, change.version.document, tuple(change.asset_ids))
            self.log.append(oracle.RulesEntry(*self._next(), (one,)))
        return saved

    def deleted(self, symbol, *, since, until):
        times = Quote.objects.filter(asset=self.ids[symbol], at__gte=since, at__lt=until).values_list("at", flat=True)
        gone = tuple((self.ids[symbol], epoch_microseconds(at)) for at in times)
        asset = Asset.objects.get(symbol=symbol)
        if corrections.delete_quotes(asset, since=since, until=until, now=until, trace_id=TRACE):
            self.log.append(oracle.CorrectionEntry(*self._next(), gone, ()))

    def replaced(self, rows):
        given = [RawQuote(symbol, str(price), at) for symbol, at, price in rows]
        admitted = corrections.admit_file(self.feed, given, now=rows[-1][1])
        if corrections.replace_quotes(self.feed, admitted, now=rows[-1][1], trace_id=TRACE):
            self.log.append(oracle.CorrectionEntry(*self._next(), (), self._rows(rows)))


def steps_of_the_oracle(log):
    return [
        (one.seq, one.rule_id, one.asset_id, one.from_state, one.to_state, one.moment, one.reason, one.suppressed)
        for one in oracle.expected_transitions(log)
    ]


def steps_on_record():
    rows = Transition.objects.order_by("entry__seq", "position")
    columns = ("entry__seq", "rule_id", "asset_id", "from_state", "to_state", "at", "reason", "suppressed")
    return [(*row[:5], epoch_microseconds(row[5]), *row[6:]) for row in rows.values_list(*columns)]


@pytest.mark.parametrize("seed", range(2))
def test_a_corrected_recording_gives_the_transitions_of_the_oracle_live_and_again(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "CHECKPOINT_EVERY", timedelta(minutes=20))
    draw = random.Random(seed)
    begin, end = "2023-03-11T06:00:00Z", "2023-03-11T08:00:00Z"
    rows = recorded.write_recording(tmp_path / "recording.csv", begin=begin, end=end)
    feed = make_feed(*recorded.SYMBOLS, jump_percent=0)
    written, owner = Written(feed), make_owner()
    saved = {
        name: written.rule(owner, name=name, assets=list(recorded.SYMBOLS), **document)
        for name, document in recorded.RULES.items()
    }
    moments = sorted({at for _, at, _ in rows})
    for first in range(0, len(moments), MINUTES_AN_ENTRY):
        chosen = set(moments[first : first + MINUTES_AN_ENTRY])
        written.quotes([row for row in rows if row[1] in chosen])
        # Some corrections come before what they correct is evaluated, and some processes have seen nothing before.
        if draw.random() < 0.7:
            if draw.random() < 0.5:
                rules._warm.clear()
            flow.evaluate_pending(feed_id=feed.pk)
            roll_up(feed_id=feed.pk)
        symbol = draw.choice(recorded.SYMBOLS)
        past = [row for row in rows if row[0] == symbol and row[1] <= max(chosen)][-20:]
        what = draw.random()
        if what < 0.2:
            since, until = sorted(draw.sample([at for _, at, _ in past], 2))
            written.deleted(symbol, since=since, until=until + timedelta(seconds=draw.choice([0, 1])))
        elif what < 0.5:
            wrong = sorted(draw.sample(past, 3), key=lambda row: row[1])
            written.replaced([(name, at, round(price * draw.choice([97, 102]) / 100, 2)) for name, at, price in wrong])
        elif what < 0.6:
            name = draw.choice(list(recorded.RULES))
            document = recorded.RULES[name] | {"cooldown": f"{draw.randint(1, 30)}m"}
            written.rule(owner, rule=saved[name], name=name, assets=list(recorded.SYMBOLS), **document)
    rules._warm.clear()
    flow.evaluate_pending(feed_id=feed.pk)

    assert RollupCursor.objects.get(feed=feed).seq > 0
    assert FeedEntry.objects.filter(kind=FeedEntry.Kind.CORRECTION).count() > 3
    expected = steps_of_the_oracle(written.log)
    assert steps_on_record() == expected
    assert len(expected) > 30
    report = replay(feed, since=moments[0], until=moments[-1], progress=lambda done: None)
    opened_or_over = AlertEvent.objects.filter(kind__in=("opened", "resolved")).count()
    assert (report.same, report.missing, report.extra) == (opened_or_over, [], [])
    assert AlertEvent.objects.filter(kind="corrected").exists()
