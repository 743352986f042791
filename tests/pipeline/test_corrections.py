"""Quotes that are replaced or deleted afterwards: what is stored then, and what the log before it still gives."""

import json
import random
from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import transaction

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.market import cache, partitions, queries
from apps.market import services as market
from apps.market.domain import UNITS_PER_ONE, RawQuote
from apps.market.models import Asset, Candle, Correction, FeedEntry, FeedHead, LatestQuote, Quote, SupersededQuote
from apps.market.services import corrections as pieces
from apps.market.services import prune_quotes
from apps.market.services.candles import make_anew
from apps.pipeline import corrections, flow
from apps.rules import services as rules
from apps.rules.why import why
from apps.sources.services import import_history
from tests.builders import START, TRACE, above, append_quotes, at, make_feed, make_owner, make_rule
from tests.market import test_candles
from tests.threads import elsewhere

pytestmark = pytest.mark.django_db

DAY = 86_400


@pytest.fixture(autouse=True)
def _no_days():
    """Begin without days: tests that commit leave theirs behind."""
    partitions.drop(partitions.days())


@pytest.fixture
def feed():
    """Return a feed with quotes of A at 0, 10 and 20 s, of which the second is wrong, and its rule's alert on it."""
    feed = make_feed("A", "B", jump_percent=0)
    make_rule(make_owner(), name="High", assets=["A"], condition=above(100))
    for seconds, price in ((0, "90"), (10, "900"), (20, "91")):
        append_quotes(feed, [("A", at(seconds), price)])
    flow.evaluate_pending(feed_id=feed.pk)
    return feed


def replace(feed, *rows, now=START):
    """Put (symbol, at, price) in place of what is stored."""
    quotes = [RawQuote(symbol, price, moment) for symbol, moment, price in rows]
    return corrections.replace_quotes(feed, corrections.admit_file(feed, quotes, now=now), now=now, trace_id=TRACE)


def delete(feed, symbol, since, until):
    asset = feed.assets.get(symbol=symbol)
    return corrections.delete_quotes(asset, since=since, until=until, now=START, trace_id=TRACE)


def stored(model=Quote):
    return {(symbol, moment, str(price.normalize())) for symbol, moment, price in _rows(model)}


def _rows(model):
    return model.objects.values_list("asset__symbol", "at", "price")


def newest():
    return {(symbol, moment, f"{price.normalize():f}") for symbol, moment, price in _rows(LatestQuote)}


def replayed(feed):
    report = replay(feed, since=at(-10 * DAY), until=at(100 * DAY), progress=lambda done: None)
    return report.same, report.missing, report.extra


def rolled_up(feed):
    flow.evaluate_pending(feed_id=feed.pk)
    while market.roll_up(feed_id=feed.pk):
        pass


def write(tmp_path, *rows):
    path = tmp_path / "right.csv"
    lines = [f"{moment.isoformat()},{symbol},{price}" for symbol, moment, price in rows]
    path.write_text("\n".join(["time,symbol,price", *lines, ""]))
    return str(path)


def answering(monkeypatch, answer):
    """Answer the question of a command, and return where it is kept."""
    asked = []
    monkeypatch.setattr("builtins.input", lambda question: asked.append(question) or answer)
    return asked


def test_an_import_stays_a_conflict_and_a_replacement_asks_with_counts(feed, tmp_path, capsys, monkeypatch):
    path = write(tmp_path, ("A", at(0), "90"), ("A", at(10), "95"), ("A", at(15), "92"), ("B", at(-5), "7"))
    call_command("import_quotes", path, feed="feed")
    assert "rejected (1 conflict)" in capsys.readouterr().out
    Quote.objects.filter(asset__symbol="B").delete()

    asked = answering(monkeypatch, "y")
    call_command("import_quotes", path, feed="feed", replace=True)

    assert asked == ["In feed: 1 quote replaced, 1 quote added. Go on? [y/N] "]
    assert capsys.readouterr().out == "1 quote replaced, 1 quote added in 1 entry; 2 were there already.\n"
    assert stored() == {
        *{("A", at(0), "9E+1"), ("A", at(10), "95"), ("A", at(15), "92"), ("A", at(20), "91")},
        ("B", at(-5), "7"),
    }
    assert stored(SupersededQuote) == {("A", at(10), "9E+2")}
    entry = FeedEntry.objects.get(kind=FeedEntry.Kind.CORRECTION)
    assert (entry.provider, entry.accepted, entry.repeated, entry.as_of) == ("import", 2, 2, at(20))
    assert Correction.objects.values_list("entry", "asset_ids", "removed", "days").get() == (
        entry.pk, sorted(feed.assets.values_list("pk", flat=True)), 1, [],
    )  # fmt: skip
    call_command("import_quotes", path, feed="feed", replace=True)
    assert capsys.readouterr().out == "nothing in 0 entries; 4 were there already.\n"


def test_yes_without_replace_is_refused(feed, tmp_path, capsys):
    with pytest.raises(SystemExit):
        call_command("import_quotes", write(tmp_path, ("A", at(-9), "95")), feed="feed", yes=True)
    assert capsys.readouterr().err == "import_quotes: --yes goes with --replace; an import asks nothing\n"
    assert Quote.objects.count() == 3


@pytest.mark.parametrize("answer", ["", "n", EOFError])
def test_what_is_not_confirmed_is_not_done(feed, tmp_path, capsys, monkeypatch, answer):
    def reply(question):
        if answer is EOFError:
            raise EOFError
        return answer

    monkeypatch.setattr("builtins.input", reply)
    path = write(tmp_path, ("A", at(10), "95"))
    for command in (
        lambda: call_command("import_quotes", path, feed="feed", replace=True),
        lambda: call_command("delete_quotes", "A", since=at(0), until=at(30)),
    ):
        with pytest.raises(SystemExit) as stopped:
            command()
        assert stopped.value.code == 2
    assert capsys.readouterr().err == (
        "import_quotes: nothing was changed; answer y, or give --yes\n"
        "delete_quotes: nothing was deleted; answer y, or give --yes\n"
    )
    assert (Quote.objects.count(), FeedEntry.objects.filter(kind="correction").count()) == (3, 0)


def test_a_range_is_deleted_by_the_command(feed, capsys, monkeypatch):
    asked = answering(monkeypatch, "yes")
    call_command("delete_quotes", "A", "--from", at(10).isoformat(), "--to", at(20).isoformat())

    assert asked == ["Of A: 1 quote deleted. Go on? [y/N] "]
    assert capsys.readouterr().out == "1 quote deleted in 1 entry.\n"
    assert stored() == {("A", at(0), "9E+1"), ("A", at(20), "91")}
    assert newest() == {("A", at(20), "91")}
    call_command("delete_quotes", "A", "--from", at(0).isoformat(), "--to", at(99).isoformat(), "--yes")
    assert (stored(), newest()) == (set(), set())


@pytest.mark.parametrize(
    ("symbol", "until", "why"),
    [
        ("NEVER", 20, "there is no asset NEVER; see Assets in the admin"),
        ("A", 0, "the range ends before it begins"),
        ("A", 5, "A has no quotes in that range"),
        ("C", 20, "C is in no feed, so there is no log to enter the correction in"),
    ],
)
def test_what_cannot_be_deleted_is_refused(feed, capsys, symbol, until, why):
    feed.assets.model.objects.create(symbol="C")
    with pytest.raises(SystemExit) as stopped:
        call_command("delete_quotes", symbol, since=at(1), until=at(until), yes=True)
    assert (stopped.value.code, capsys.readouterr().err) == (2, f"delete_quotes: {why}\n")


def test_nothing_opens_or_resolves_and_the_log_before_gives_what_was_notified(feed):
    assert [alert.opened_at for alert in Alert.objects.all()] == [at(10)]

    replace(feed, ("A", at(10), "95"), ("A", at(20), "120"))
    flow.evaluate_pending(feed_id=feed.pk)
    assert list(Alert.objects.values_list("opened_at", "resolved_at")) == [(at(10), at(20))]
    assert replayed(feed) == (2, [], [])

    append_quotes(feed, [("A", at(30), "121")])
    flow.evaluate_pending(feed_id=feed.pk)
    assert sorted(Alert.objects.values_list("opened_at", "resolved_at")) == [(at(10), at(20)), (at(30), None)]
    assert replayed(feed) == (3, [], [])


def test_a_correction_of_what_is_not_evaluated_yet_comes_after_it(feed):
    append_quotes(feed, [("A", at(30), "130")])
    replace(feed, ("A", at(30), "99"))
    flow.evaluate_pending(feed_id=feed.pk)

    assert Alert.objects.filter(opened_at=at(30), resolved_at=None).exists()
    assert replayed(feed) == (3, [], [])


def test_a_correction_is_corrected_and_each_place_of_the_log_has_its_own_past(feed):
    entries = [FeedEntry.objects.latest("pk")]
    for price in ("95", "96"):
        replace(feed, ("A", at(10), price))
        entries.append(FeedEntry.objects.latest("pk"))
    for since, until in ((at(0), at(15)), (at(15), at(30))):
        delete(feed, "A", since, until)
        entries.append(FeedEntry.objects.latest("pk"))

    (asset,) = feed.assets.filter(symbol="A")
    read = [queries.quoted_path({asset.pk: 10**9}, feed_id=feed.pk, up_to_seq=one.seq) for one in entries]
    paths = [path.get(asset.pk, []) for path in read]
    assert [[units // UNITS_PER_ONE for _, units in path] for path in paths] == [
        [90, 900, 91],
        [90, 95, 91],
        [90, 96, 91],
        [91],
        [],
    ]
    assert newest() == set()


def test_a_corrected_price_from_before_a_split_counts_as_it_was_then(feed):
    (asset,) = feed.assets.filter(symbol="A")
    append_quotes(feed, [], as_of=at(120))
    market.append_split(asset_id=asset.pk, effective_at=at(60), numerator=2, denominator=1, now=START, trace_id=TRACE)
    before = FeedEntry.objects.latest("pk")
    assert newest() == {("A", at(20), "45.5")}
    replace(feed, ("A", at(20), "100"))

    assert newest() == {("A", at(20), "50")}
    paths = [queries.quoted_path({asset.pk: 0}, feed_id=feed.pk, up_to_seq=before.seq + more) for more in (-1, 0, 1)]
    assert [path[asset.pk][-1][1] / UNITS_PER_ONE for path in paths] == [91, 45.5, 50]


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_nobody_evaluates_rolls_up_or_fetches_while_quotes_are_corrected(feed):
    append_quotes(feed, [("A", at(100), "92")])
    market.make_cursor(feed.pk)
    with transaction.atomic():
        market.lock_for_correction(feed.pk)
        assert elsewhere(lambda: flow.evaluate_next(feed_id=feed.pk)) is None
        assert elsewhere(lambda: market.roll_up(feed_id=feed.pk)) is False
        with pytest.raises(TimeoutError):
            elsewhere(lambda: append_quotes(feed, [("A", at(101), "93")]))
    assert flow.evaluate_next(feed_id=feed.pk) is True
    assert market.roll_up(feed_id=feed.pk) is True


def test_why_is_answered_by_what_was_evaluated(feed):
    rule, asset = Alert.objects.get().rule, Asset.objects.get(symbol="A")
    delete(feed, "A", at(0), at(15))
    flow.evaluate_pending(feed_id=feed.pk)

    before, now = (why(None, rule=rule, asset=asset, now=at(99), at=moment) for moment in (at(10), None))
    assert (before.state, before.newest.price, before.previous.price) == ("firing", 900, 90)
    assert (now.state, now.newest.price, now.previous) == ("inactive", 91, None)


def test_the_newest_price_goes_back_in_the_row_in_the_cache_and_for_the_next_quote(feed):
    now, asset = at(21), feed.assets.get(symbol="A")
    # What was written there last is newer than what is left.
    cache.put_latest([(asset.pk, at(20), Decimal(91))], seconds_to_live=60, now=now)

    delete(feed, "A", at(5), at(30))
    assert newest() == {("A", at(0), "90")}
    assert queries.latest_prices([asset.pk], now=now) == {asset.pk: (at(0), Decimal(90))}
    # A process with a cache of its own follows by the sweep.
    cache.put_latest([(asset.pk, at(20), Decimal(91))], seconds_to_live=60, now=now)
    market.redo_cache_writes(now=now)
    assert queries.latest_prices([asset.pk], now=now) == {asset.pk: (at(0), Decimal(90))}
    assert not FeedHead.objects.get(feed=feed).is_cache_stale

    entry = append_quotes(feed, [("A", at(6), "101")], as_of=at(30))
    flow.evaluate_pending(feed_id=feed.pk)
    assert (entry.accepted, entry.late) == (1, 0)
    # It opens by the quote of 6 s, after the step of 20 s.
    assert [(one.opened_at, one.evidence["price"]) for one in Alert.objects.filter(resolved_at=None)] == [
        (at(20), "101")
    ]


def test_what_was_replaced_and_is_given_again_is_a_repeat_and_what_was_deleted_is_stored_again(feed):
    replace(feed, ("A", at(20), "95"))
    delete(feed, "B", at(0), at(99))
    again = append_quotes(feed, [("A", at(20), "91")], as_of=at(30))
    assert (again.accepted, again.late, again.repeated, again.rejected) == (0, 0, 1, {})

    delete(feed, "A", at(20), at(21))
    again = append_quotes(feed, [("A", at(20), "91")], as_of=at(31))
    assert (again.accepted, again.late, again.repeated) == (1, 0, 0)


def test_a_late_quote_stays_late_when_it_is_replaced(feed):
    append_quotes(feed, [("A", at(12), "50")], as_of=at(30))
    replace(feed, ("A", at(12), "51"))

    assert Quote.objects.get(at=at(12)).late
    assert newest() == {("A", at(20), "91")}
    assert FeedEntry.objects.values_list("accepted", "late").latest("pk") == (0, 1)


def test_prices_of_one_time_are_set_apart_in_pieces_too(feed, monkeypatch):
    monkeypatch.setattr(corrections, "QUOTES_AT_ONCE", 1)
    done = replace(feed, ("A", at(10), "95"), ("A", at(0), "89"), ("A", at(10), "96"), ("A", at(10), "96"))

    assert (done.replaced, done.added, done.entries, done.repeated) == (2, 1, 3, 1)
    assert stored() == {
        *{("A", at(0), "89"), ("A", at(10), "95"), ("A", at(10.000001), "96"), ("A", at(20), "91")},
    }


def test_a_long_range_is_deleted_in_pieces(feed, monkeypatch):
    monkeypatch.setattr(pieces, "QUOTES_AT_ONCE", 2)
    done = delete(feed, "A", at(-100), at(100))

    assert (done.deleted, done.entries, stored()) == (3, 2, set())


@pytest.mark.parametrize("seed", range(3))
def test_candles_are_what_the_corrected_quotes_give_wherever_the_roll_up_stands(seed):
    draw, feed, second = random.Random(seed), make_feed("A", "B", jump_percent=0), 0
    for _ in range(25):
        second += draw.choice([1, 20, 59.999999, 60, 1_800, 40_000])
        quotes = [(draw.choice("AB"), at(second - draw.choice([0, 1, 61])), str(draw.randint(1, 99))) for _ in range(3)]
        append_quotes(feed, quotes, as_of=at(second))
        if draw.random() < 0.3:
            rolled_up(feed)
        times = list(Quote.objects.filter(asset__symbol="A").order_by("at").values_list("at", flat=True))
        if draw.random() < 0.3 and len(times) > 1:
            since, until = sorted(draw.sample(times, 2))
            delete(feed, "A", since, until)
        elif draw.random() < 0.4 and times:
            chosen = draw.sample(times, min(3, len(times)))
            replace(feed, *(("A", moment, str(draw.randint(1, 99))) for moment in [*chosen, times[0] - timedelta(1)]))
    append_quotes(feed, [], as_of=at(second + 120))
    rolled_up(feed)

    assert test_candles.stored(feed) == test_candles.oracle(feed, before=test_candles.clock(feed))
    last = Quote.objects.filter(late=False).order_by("asset__symbol", "-at")
    newest_of = {one.asset.symbol: (one.at, one.price) for one in reversed(last.select_related("asset"))}
    assert {symbol: (moment, price) for symbol, moment, price in _rows(LatestQuote)} == newest_of


def test_candles_that_are_made_anew_say_what_is_stored_whatever_they_said(feed):
    append_quotes(feed, [("B", at(200), "1")])
    rolled_up(feed)
    Quote.objects.filter(asset__symbol="A", at__in=[at(10), at(20)]).delete()
    make_anew([(feed.assets.get(symbol="A").pk, at(10))], clock=at(200))

    found = set(Candle.objects.filter(asset__symbol="A").values_list("resolution", "count", "high"))
    assert found == {(60, 1, 90), (3_600, 1, 90), (86_400, 1, 90)}


def test_a_candle_that_the_roll_up_has_passed_becomes_smaller(feed):
    append_quotes(feed, [("B", at(200), "1")])
    rolled_up(feed)
    delete(feed, "A", at(5), at(15))

    found = set(Candle.objects.filter(asset__symbol="A").values_list("resolution", "count", "high"))
    assert found == {(60, 2, 91), (3_600, 2, 91), (86_400, 2, 91)}
    delete(feed, "A", at(0), at(30))
    assert not Candle.objects.filter(asset__symbol="A").exists()


@pytest.fixture
def old(settings):
    """Return a feed whose first day, with quotes of A at 0, 1 000 and 2 000 s, is kept as candles alone."""
    settings.QUOTE_RETENTION_DAYS = 2
    feed = make_feed("A", "B", jump_percent=0)
    for seconds, price in ((0, "10"), (1_000, "90"), (2_000, "12"), (4 * DAY, "11")):
        append_quotes(feed, [("A", at(seconds), price), ("B", at(seconds), price)])
    append_quotes(feed, [], as_of=at(4 * DAY + 60))
    rolled_up(feed)
    prune_quotes(now=START)
    assert {moment for _, moment, _ in stored()} == {at(4 * DAY)}
    return feed


def days(symbol="A"):
    rows = Candle.objects.filter(asset__symbol=symbol, resolution=DAY).order_by("at")
    return [(one.at.date(), one.count, int(one.high)) for one in rows]


def test_where_only_candles_are_kept_a_part_of_a_day_is_not_deleted_and_the_whole_day_is(old, capsys):
    with pytest.raises(SystemExit):
        call_command("delete_quotes", "A", since=at(0), until=at(1_500), yes=True)
    assert capsys.readouterr().err == (
        "delete_quotes: of 2026-03-02 only candles are kept, so the whole day is deleted or none of it; "
        "write the range from 2026-03-02T00:00:00Z or to 2026-03-03T00:00:00Z\n"
    )
    assert days() == days("B") == [(START.date(), 3, 90), (at(4 * DAY).date(), 1, 11)]

    call_command("delete_quotes", "A", "--from", "2026-03-02", "--to", "2026-03-03", "--yes")
    assert capsys.readouterr().out == ("the candles of 1 whole day whose quotes are kept no more in 1 entry.\n")
    assert (days(), days("B")) == ([(at(4 * DAY).date(), 1, 11)], [(START.date(), 3, 90), (at(4 * DAY).date(), 1, 11)])
    assert not Candle.objects.filter(asset__symbol="A", at__lt=at(DAY)).exists()
    # An asset of which nothing else is left has no price.
    delete(old, "A", at(4 * DAY), at(5 * DAY))
    assert newest() == {("B", at(4 * DAY), "11")}


def test_where_only_candles_are_kept_a_file_takes_the_place_of_the_whole_day(old):
    done = replace(old, ("A", at(1_000), "13"), now=at(4 * DAY))

    assert (done.days, done.added) == ({(old.assets.get(symbol="A").pk, START.date())}, 1)
    assert days() == [(START.date(), 1, 13), (at(4 * DAY).date(), 1, 11)]
    assert set(Candle.objects.filter(asset__symbol="A", at__lt=at(DAY)).values_list("resolution", "count")) == {
        (60, 1), (3_600, 1), (86_400, 1),
    }  # fmt: skip
    rolled_up(old)
    assert prune_quotes(now=START + timedelta(days=9))
    assert days() == [(START.date(), 1, 13), (at(4 * DAY).date(), 1, 11)]


def test_the_newest_price_is_that_of_a_candle_where_no_quote_is_kept(old):
    delete(old, "A", at(3 * DAY), at(5 * DAY))
    assert newest() == {("A", at(2_000), "12"), ("B", at(4 * DAY), "11")}


def test_a_process_that_starts_after_candles_were_replaced_goes_on_as_the_one_that_lived(old, monkeypatch):
    monkeypatch.setattr(rules, "CHECKPOINT_EVERY", timedelta(days=99))
    condition = {"kind": "rises", "percent": "10", "window": "10d", "ref": "window_extreme"}
    make_rule(make_owner(), assets=["A"], condition=condition, pending="60s")
    append_quotes(old, [("A", at(4 * DAY + 70), "12")])
    flow.evaluate_pending(feed_id=old.pk)
    assert rules._warm[old.pk].dump()["instances"][0][3][0] == "pending"

    # By this price, it would not have risen.
    replace(old, ("A", at(0), "12"), ("A", at(1), "90"), now=at(5 * DAY))
    lived = rules._warm[old.pk]
    assert json.dumps(rules.rebuild_engine(feed_id=old.pk, seq=lived.seq).dump()) == json.dumps(lived.dump())
    flow.evaluate_pending(feed_id=old.pk)
    lived = rules._warm[old.pk]
    assert json.dumps(rules.rebuild_engine(feed_id=old.pk, seq=lived.seq).dump()) == json.dumps(lived.dump())


def test_what_was_replaced_is_dropped_with_its_day_and_forgotten_then(settings, feed):
    delete(feed, "A", at(0), at(30))
    flow.evaluate_pending(feed_id=feed.pk)
    assert replayed(feed) == (2, [], [])
    assert queries.forgotten_before(feed.pk) is None

    append_quotes(feed, [("A", at(5 * DAY), "91")])
    rolled_up(feed)
    settings.QUOTE_RETENTION_DAYS = 2
    prune_quotes(now=START, dry_run=True)
    assert SupersededQuote.objects.count() == 3
    prune_quotes(now=START)
    assert SupersededQuote.objects.count() == 0
    assert queries.forgotten_before(feed.pk) == at(5 * DAY).replace(hour=0)


def test_what_a_provider_said_is_counted_as_it_said_it(feed):
    for second in (30, 40, 50):
        append_quotes(feed, [("B", at(second), "7")])
    before = queries.same_answers(feed.pk, provider="simulated")
    delete(feed, "B", at(35), at(45))

    assert before.count == 4
    assert queries.same_answers(feed.pk, provider="simulated") == before


def test_history_that_is_corrected_later_is_read_again_as_it_came(feed):
    import_history(feed_id=feed.pk, quotes=[RawQuote("A", "50", at(5))], now=START, trace_id=TRACE)
    history = FeedEntry.objects.latest("pk")
    delete(feed, "A", at(4), at(6))
    history.refresh_from_db()

    assert queries.asset_ids_in(history) == [feed.assets.get(symbol="A").pk]
    assert [quote.price for quote in queries.quotes_in(history, limit=5)] == [50]
