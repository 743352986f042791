"""`manage.py import_quotes`: a file of quotes goes into a feed's log as history."""

from decimal import Decimal

import psycopg
import pytest
from django.core.management import call_command
from django.utils import timezone

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.market.models import FeedEntry, FeedHead, LatestQuote, Quote
from apps.pipeline import flow
from apps.sources.services import history
from tests.builders import append_quotes, at, make_feed, make_owner, make_rule

pytestmark = pytest.mark.django_db


def write(tmp_path, *rows):
    """Write (seconds after START, symbol, price) as a file of quotes."""
    path = tmp_path / "quotes.csv"
    lines = [f"{at(seconds).isoformat()},{symbol},{price}" for seconds, symbol, price in rows]
    path.write_text("\n".join(["time,symbol,price", *lines, ""]))
    return path


def run(path, capsys, *, feed="feed", **options):
    call_command("import_quotes", str(path), feed=feed, **options)
    return capsys.readouterr().out


def left_out_by(path, capsys, **options):
    """Return what is said, and the rows that are listed, where some are wrong."""
    with pytest.raises(SystemExit) as stopped:
        call_command("import_quotes", str(path), feed="feed", **options)
    assert stopped.value.code == 1
    return capsys.readouterr()


def refusal_of(path, capsys, *, feed="feed"):
    with pytest.raises(SystemExit) as stopped:
        call_command("import_quotes", str(path), feed=feed)
    printed = capsys.readouterr()
    assert (stopped.value.code, printed.out) == (2, "")
    return printed.err


def stored():
    return set(Quote.objects.values_list("asset__symbol", "at", "price"))


@pytest.fixture
def feed():
    """Return a feed with one quote of A, at START, which is its clock."""
    feed = make_feed("A", "B")
    append_quotes(feed, [("A", at(0), "9.5")])
    return feed


def test_an_average_is_known_at_once_and_the_past_opens_nothing(feed, tmp_path, capsys):
    make_rule(
        make_owner(),
        assets=["A"],
        condition={"kind": "below_average", "percent": "0", "window": "1h", "min_coverage": "1"},
    )
    append_quotes(feed, [("A", at(60), "9")])
    flow.evaluate_pending(feed_id=feed.pk)
    assert not Alert.objects.exists()

    run(write(tmp_path, *[(-second, "A", "10") for second in range(60, 7_200, 60)]), capsys)
    flow.evaluate_pending(feed_id=feed.pk)
    assert not Alert.objects.exists()
    append_quotes(feed, [("A", at(120), "9")])
    flow.evaluate_pending(feed_id=feed.pk)

    assert [alert.opened_at for alert in Alert.objects.all()] == [at(120)]
    report = replay(feed, since=at(-10_000), until=at(10_000), progress=lambda done: None)
    assert (report.same, report.missing, report.extra) == (1, [], [])


def test_what_is_imported_again_is_counted_and_changes_nothing(feed, tmp_path, capsys):
    path = write(tmp_path, (-2, "A", "1"), (-1, "A", "2"), (-1, "B", "3"))

    assert run(path, capsys) == "3 quotes are imported in 1 entry.\n"
    before = stored(), FeedEntry.objects.count(), FeedHead.objects.get(feed=feed).seq
    assert run(path, capsys) == "0 quotes are imported in 0 entries; 3 were there already.\n"
    assert (stored(), FeedEntry.objects.count(), FeedHead.objects.get(feed=feed).seq) == before


def test_a_row_that_is_not_believed_costs_no_other(feed, tmp_path, capsys):
    path = write(tmp_path, (-3, "A", "1"), (-2, "NEVER", "1"), (-1, "A", "0"), (0, "A", "9"), (61, "A", "1"))

    assert left_out_by(path, capsys) == (
        "1 quote is imported in 1 entry; 4 rejected (1 conflict, 1 out_of_range, 1 time_in_future, 1 unknown_asset).\n",
        "import_quotes: quotes.csv, line 3: the symbol 'NEVER' is no asset of the feed\n"
        "import_quotes: quotes.csv, line 4: the price '0' is not from 1e-15 to 1e12; that of a signed "
        "asset may be 0 or negative too\n"
        f"import_quotes: quotes.csv, line 6: the time '{at(61).isoformat()}' is ahead of the clock\n",
    )
    assert stored() == {("A", at(-3), Decimal(1)), ("A", at(0), Decimal("9.5"))}
    (entry,) = FeedEntry.objects.filter(kind=FeedEntry.Kind.HISTORY)
    assert (entry.provider, entry.accepted, entry.as_of) == ("import", 1, at(0))


def test_a_blank_price_is_counted_and_no_fault(feed, tmp_path, capsys):
    path = write(tmp_path, (-3, "A", "1"), (-2, "A", ""))

    assert run(path, capsys) == "1 quote is imported in 1 entry; 1 rejected (1 missing).\n"


def test_rows_that_cannot_be_read_are_left_out_where_that_is_asked_for(feed, tmp_path, capsys):
    path = write(tmp_path, (-3, "A", "20,951.20"), (-2, "A", "0951"), (-1, "A", "8"))

    assert refusal_of(path, capsys).startswith("import_quotes: quotes.csv, line 2: has 4 cells, and the header has 3;")
    assert stored() == {("A", at(0), Decimal("9.5"))}
    assert left_out_by(path, capsys, skip_invalid=True) == (
        "1 quote is imported in 1 entry; 2 rejected (2 invalid).\n",
        "import_quotes: quotes.csv, line 2: has 4 cells, and the header has 3; write numbers with a point, without "
        "commas\n"
        "import_quotes: quotes.csv, line 3: '0951' is not a number\n",
    )
    assert stored() == {("A", at(-1), Decimal(8)), ("A", at(0), Decimal("9.5"))}


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [3, 1, 0, 2]], ids=["newest first", "mixed"])
def test_prices_of_one_time_follow_each_other_whatever_the_order_of_the_file(feed, tmp_path, capsys, order):
    rows = [(-4, "A", "1"), (-3, "A", "2"), (-3, "A", "3"), (-2, "A", "4")]

    run(write(tmp_path, *(rows[place] for place in order)), capsys)
    assert stored() == {
        ("A", at(-4), 1),
        ("A", at(-3), 2),
        ("A", at(-3 + 1e-6), 3),
        ("A", at(-2), 4),
        ("A", at(0), Decimal("9.5")),
    }


def test_a_long_file_is_imported_in_pieces(feed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(history, "IMPORT_ROWS", 2)
    rows = [(-second, "A", str(second)) for second in (5, 3, 4, 1, 2)]

    assert run(write(tmp_path, *rows), capsys) == "5 quotes are imported in 3 entries.\n"
    assert stored() == {("A", at(seconds), Decimal(price)) for seconds, _, price in rows} | {
        ("A", at(0), Decimal("9.5"))
    }
    assert LatestQuote.objects.get(asset__symbol="A").price == Decimal("9.5")


def test_a_live_feed_that_stood_still_takes_what_has_been_since(tmp_path, capsys):
    feed = make_feed("A", name="live", provider="coincap")
    append_quotes(feed, [("A", at(0), "9.5")])
    path = tmp_path / "quotes.csv"
    path.write_text(f"time,symbol,price\n{timezone.now().isoformat()},A,12\n")

    assert run(path, capsys, feed="live") == "1 quote is imported in 1 entry.\n"
    assert LatestQuote.objects.get().price == 12


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("time,symbol,price\n2026-03-02T11:00:00Z,A,1\n2026-03-02T11:00:01Z,A,one\n", "line 3"),
        ("time,symbol,price\n2026-03-02T11:00:00Z,A,1\n2026-03-02T11:00:01Z,A,1,0951\n", "line 3"),
        ("time,symbol,price\r2026-03-02T11:00:00Z,A,1\r", "line 1"),
        ("time,symbol\n", "line 1"),
        ("", "line 1"),
    ],
)
def test_a_broken_file_is_refused_with_its_line_and_leaves_nothing(feed, tmp_path, capsys, monkeypatch, content, why):
    monkeypatch.setattr(history, "IMPORT_ROWS", 1)
    path = tmp_path / "quotes.csv"
    path.write_text(content)
    refusal = refusal_of(path, capsys)

    assert refusal.startswith(f"import_quotes: quotes.csv, {why}: ")
    assert stored() == {("A", at(0), Decimal("9.5"))}


@pytest.mark.servers  # SQLite is not written by COPY.
def test_a_database_that_goes_away_while_quotes_are_written_is_said_in_a_line(feed, tmp_path, capsys, monkeypatch):
    def cut(*args, **columns):
        # As COPY says it, which Django does not translate.
        raise psycopg.OperationalError("the connection is lost")

    monkeypatch.setattr(history, "append_history", cut)
    refusal = refusal_of(write(tmp_path, (-1, "A", "9")), capsys)
    assert refusal == (
        "import_quotes: the database is busy or away; what was imported stands, begin again: the connection is lost\n"
    )


def test_a_file_or_a_feed_that_is_not_there_is_refused(feed, tmp_path, capsys):
    assert refusal_of(tmp_path / "none.csv", capsys) == (
        "import_quotes: none.csv, line 1: is not a file that can be read\n"
    )
    assert refusal_of(write(tmp_path, (-1, "A", "1")), capsys, feed="spot") == (
        "import_quotes: there is no feed spot; see Feeds in the admin\n"
    )
