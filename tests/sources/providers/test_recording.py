import gzip
import os
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.market.domain import RawQuote, admit
from apps.sources.providers import recording as replay
from apps.sources.providers.protocol import ProviderMisconfigured, ProviderRejected, QuoteRequest
from apps.sources.providers.recording import Recording

DEPEG = "usdc-depeg-2023-03.csv.gz"
PAIRS = ("BTC-USD", "BTC-USDC", "BTC-USDT")
BEGAN_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

# Two assets over four minutes, one of them without a row in the third.
RECORDING_FILE = """time,symbol,price,volume
2023-03-10T00:00:00Z,A,10,1
2023-03-10T00:00:00Z,B,20,
2023-03-10T00:01:00Z,A,11,1
2023-03-10T00:01:00Z,B,21,
2023-03-10T00:02:00Z,A,12,1
2023-03-10T00:03:00Z,A,13,1
2023-03-10T00:03:00Z,B,23,
"""


def _minute(number):
    return datetime(2023, 3, 10, 0, number, tzinfo=UTC)


@pytest.fixture
def recording(tmp_path):
    """Return a function that writes a recording and returns its path."""

    def write(content=RECORDING_FILE, *, name="recording.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write


def _fetch(path, *, after=timedelta(), position=None, external_ids=("A", "B"), began_at=BEGAN_AT, **options):
    return Recording().fetch(
        QuoteRequest(
            external_ids=external_ids,
            slot=began_at + after,
            began_at=began_at,
            position=position,
            latest={},
            interval_seconds=60,
            options=Recording().validate_options({"path": path, **options}),
        )
    )


def _seen(quotes):
    return [(quote.external_id, quote.price, quote.at) for quote in quotes]


def test_the_first_answer_stands_at_the_first_row(recording):
    answer = _fetch(recording())
    assert answer.quotes == [
        RawQuote("A", Decimal(10), _minute(0), Decimal(1)),
        RawQuote("B", Decimal(20), _minute(0), None),
    ]
    assert answer.as_of == _minute(0)
    assert answer.history == []


def test_the_next_answer_has_the_rows_after_the_position_up_to_the_clock(recording):
    answer = _fetch(recording(), after=2 * MINUTE, position=_minute(0))
    assert _seen(answer.quotes) == [("A", 11, _minute(1)), ("B", 21, _minute(1)), ("A", 12, _minute(2))]
    assert answer.as_of == _minute(2)
    assert answer.history == []


def test_a_slot_asked_for_again_gives_nothing_new(recording):
    answer = _fetch(recording(), after=2 * MINUTE, position=_minute(2))
    assert (answer.quotes, answer.as_of) == ([], _minute(2))


def test_what_lies_before_the_start_is_history_and_is_given_once(recording):
    first = _fetch(recording(), start="2023-03-10T00:02:00Z")
    second = _fetch(recording(), start="2023-03-10T00:02:00Z", after=MINUTE, position=first.as_of)
    assert _seen(first.history) == [
        ("A", 10, _minute(0)),
        ("B", 20, _minute(0)),
        ("A", 11, _minute(1)),
        ("B", 21, _minute(1)),
    ]
    assert _seen(first.quotes) == [("A", 12, _minute(2))]
    assert _seen(second.quotes) == [("A", 13, _minute(3)), ("B", 23, _minute(3))]
    assert second.history == []


def test_a_start_before_the_first_row_waits_for_it(recording):
    early = _fetch(recording(), start="2023-03-09T23:59:00Z")
    answer = _fetch(recording(), start="2023-03-09T23:59:00Z", after=MINUTE, position=early.as_of)
    assert (early.quotes, early.as_of) == ([], _minute(0) - MINUTE)
    assert _seen(answer.quotes) == [("A", 10, _minute(0)), ("B", 20, _minute(0))]


def test_only_the_assets_of_the_feed_are_given(recording):
    answer = _fetch(recording(), after=10 * MINUTE, external_ids=("B", "C"), start="2023-03-10T00:01:00Z")
    assert _seen(answer.history) == [("B", 20, _minute(0))]
    assert _seen(answer.quotes) == [("B", 21, _minute(1)), ("B", 23, _minute(3))]


def test_at_the_end_of_the_recording_the_answers_are_empty_and_the_clock_stands(recording):
    answer = _fetch(recording(), after=timedelta(days=400), position=_minute(3))
    assert (answer.quotes, answer.as_of) == ([], _minute(3))


def test_the_clock_never_goes_back_before_the_position(recording):
    answer = _fetch(recording(), after=MINUTE, position=_minute(2))
    assert (answer.quotes, answer.as_of) == ([], _minute(2))


def test_speed_releases_rows_sooner_and_leaves_their_times(recording):
    answer = _fetch(recording(), after=timedelta(seconds=2), position=_minute(0), speed=60)
    assert _seen(answer.quotes) == [("A", 11, _minute(1)), ("B", 21, _minute(1)), ("A", 12, _minute(2))]
    assert answer.as_of == _minute(2)


def test_a_slow_clock_is_floored_to_the_second(recording):
    answer = _fetch(recording(), after=timedelta(seconds=5), position=_minute(0), speed=0.5)
    assert (answer.quotes, answer.as_of) == ([], _minute(0) + timedelta(seconds=2))


def test_a_long_gap_is_given_in_parts_and_what_is_of_one_time_together(recording, monkeypatch):
    path = recording("time,symbol,price\n" + "".join(f"{1678406400 + 60 * n},{s},1\n" for n in range(5) for s in "AB"))
    monkeypatch.setattr("apps.sources.providers.recording.ROWS_AT_ONCE", 3)
    first = _fetch(path)

    part = _fetch(path, after=timedelta(hours=1), position=first.as_of)
    rest = _fetch(path, after=timedelta(hours=1), position=part.as_of)

    assert part.as_of == first.as_of + timedelta(minutes=2)
    assert [quote.at for quote in part.quotes] == [first.as_of + timedelta(minutes=n) for n in (1, 1, 2, 2)]
    assert [quote.at for quote in rest.quotes] == [first.as_of + timedelta(minutes=n) for n in (3, 3, 4, 4)]


def test_the_fastest_clock_reaches_the_end_and_no_further(recording):
    answer = _fetch(recording(), after=timedelta(days=3650), speed=86_400)
    assert (len(answer.quotes), answer.as_of) == (7, _minute(3))


def test_shifted_to_end_now_the_last_row_falls_on_the_minute_in_which_the_feed_began(recording):
    began_at = BEGAN_AT + timedelta(seconds=40)
    first = _fetch(recording(), shift="ends_now", start="2023-03-10T00:01:00Z", began_at=began_at)
    last = _fetch(
        recording(),
        shift="ends_now",
        start="2023-03-10T00:01:00Z",
        began_at=began_at,
        after=2 * MINUTE,
        position=first.as_of,
    )
    assert _seen(first.history) == [("A", 10, BEGAN_AT - 3 * MINUTE), ("B", 20, BEGAN_AT - 3 * MINUTE)]
    assert _seen(first.quotes) == [("A", 11, BEGAN_AT - 2 * MINUTE), ("B", 21, BEGAN_AT - 2 * MINUTE)]
    assert first.as_of == BEGAN_AT - 2 * MINUTE
    assert _seen(last.quotes) == [("A", 12, BEGAN_AT - MINUTE), ("A", 13, BEGAN_AT), ("B", 23, BEGAN_AT)]
    assert last.as_of == BEGAN_AT


def test_rows_between_two_seconds_are_given_once_and_not_after_the_clock(recording):
    path = recording("time,symbol,price\n1678406400.25,A,1\n1678406400.75,A,2\n1678406401.5,A,3\n")
    first = _fetch(path)
    second = _fetch(path, after=timedelta(seconds=1), position=first.as_of)
    third = _fetch(path, after=timedelta(seconds=2), position=second.as_of)
    assert [quote.price for quote in first.quotes] == [1]
    assert [quote.price for quote in second.quotes] == [2]
    assert [quote.price for quote in third.quotes] == [3]
    assert third.as_of == _minute(0) + timedelta(seconds=1.5)


def test_a_shifted_recording_still_begins_with_its_first_row(recording):
    answer = _fetch(recording("time,symbol,price\n1678406400.25,A,1\n1678406401.5,A,2\n"), shift="ends_now")
    assert _seen(answer.quotes) == [("A", 1, BEGAN_AT - timedelta(seconds=1.25))]
    assert answer.as_of == BEGAN_AT - timedelta(seconds=1.25)


@given(
    slots=st.lists(st.integers(0, 900), min_size=1, max_size=12).map(sorted),
    speed=st.sampled_from([0.1, 0.7, 1, 1.5, 60]),
    shift=st.sampled_from(["none", "ends_now"]),
)
def test_every_row_comes_once_however_the_recording_is_asked(slots, speed, shift, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "asked.csv"
    rows = [f"{1678406400 + number * 7 / 4},A,{number + 1}" for number in range(400)]
    path.write_text("time,symbol,price\n" + "\n".join(rows) + "\n")
    position, prices = None, []
    for seconds in slots:
        answer = _fetch(str(path), after=timedelta(seconds=seconds), position=position, speed=speed, shift=shift)
        prices += [quote.price for quote in answer.quotes]
        assert max([answer.as_of, *(quote.at for quote in answer.quotes)]) == answer.as_of
        position = answer.as_of
    assert prices == list(range(1, len(prices) + 1))
    at_once = _fetch(str(path), after=timedelta(seconds=slots[-1]), speed=speed, shift=shift)
    assert (len(at_once.quotes), at_once.as_of) == (len(prices), position)


@pytest.mark.parametrize(
    "content",
    [
        "time,symbol,close\n1678406400,A,10.5\n",
        "\ufefftime,symbol,price\r\n2023-03-10T02:00:00+02:00,A,10.5\r\n\r\n",
        'high,close,"symbol",price,time\n99,98," A ",10.5,2023-03-10 00:00:00+00:00\n',
        "time,symbol,price,volume,\n1678406400.0,A,10.5,,\n",
        "time,symbol,price,volume\n1678406400,A,10.5,n/a\n",
        "time,symbol,price\n20230310T000000Z,A,1.05e1",
    ],
    ids=["close and epoch", "BOM and zone", "other columns", "empty volume", "no volume", "basic ISO"],
)
def test_the_ways_to_write_a_row(recording, content):
    assert _fetch(recording(content), external_ids=("A",)).quotes == [RawQuote("A", Decimal("10.5"), _minute(0))]


def test_a_recording_out_of_order_is_put_in_order(recording):
    path = recording("time,symbol,price\n1678406460,A,2\n1678406400,A,1\n1678406460,A,3\n")
    assert [quote.price for quote in _fetch(path, after=MINUTE).quotes] == [1, 2, 3]


def test_a_recording_with_the_newest_first_is_read_from_its_end(recording):
    path = recording("time,symbol,price\n1678406460,A,3\n1678406460,A,2\n1678406400,A,1\n")
    assert [quote.price for quote in _fetch(path, after=MINUTE).quotes] == [1, 2, 3]


def test_a_price_that_is_none_is_given_as_it_is_and_rejected_when_its_time_has_come(recording):
    path = recording("time,symbol,price\n1678406400,A,0\n1678406400,B,\n1678406400,C,NaN\n")
    quotes = _fetch(path, external_ids=("A", "B", "C")).quotes
    admitted = admit(quotes, asset_ids={"A": 1, "B": 2, "C": 3}, as_of=_minute(0), assumed_at=_minute(0))
    assert (admitted.quotes, admitted.rejected) == ([], {"out_of_range": 1, "missing": 1, "not_finite": 1})


def test_a_gzipped_recording_is_read(recording):
    path = recording(gzip.compress(RECORDING_FILE.encode()), name="recording.csv.gz")
    assert len(_fetch(path, after=10 * MINUTE).quotes) == 7


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "f.csv", "f.csv, line 1: is empty"),
        ("time,symbol,price\n", "f.csv", "f.csv, line 1: has no rows"),
        ("1678406400,A,10\n", "f.csv", "f.csv, line 1: the header has no column time"),
        ("time,price\n", "f.csv", "f.csv, line 1: the header has no column symbol"),
        ("time,symbol\n", "f.csv", "f.csv, line 1: the header has no column close"),
        (RECORDING_FILE + "yesterday,A,1,1\n", "f.csv", "f.csv, line 9: time 'yesterday' is neither ISO 8601"),
        (
            RECORDING_FILE + "2023-03-10T00:04:00,A,1,1\n",
            "f.csv",
            "f.csv, line 9: time '2023-03-10T00:04:00' is neither",
        ),
        (RECORDING_FILE + f"{'9' * 21},A,1,1\n", "f.csv", f"f.csv, line 9: time '{'9' * 21}' is neither"),
        (RECORDING_FILE + "1678406700,A,20,951.20,\n", "f.csv", "f.csv, line 9: has 5 cells, and the header has 4"),
        (RECORDING_FILE + "0,A,1,\n", "f.csv", "f.csv, line 9: the time '0' is before 1990, or has the hour 24"),
        (RECORDING_FILE + "2226-01-01T00:00Z,A,1,\n", "f.csv", "f.csv, line 9: the time '2226-01-01T00:00Z' is ahead"),
        (
            RECORDING_FILE + "2023-03-10T24:00:00Z,A,1,1\n2023-03-10T24:00:00Z,B,1,1\n",
            "f.csv",
            "f.csv, line 9: the time '2023-03-10T24:00:00Z' is before 1990, or has the hour 24 or the second 60; "
            "so it is on 2 lines in all",
        ),
        (RECORDING_FILE + ",A,1,1\n", "f.csv", "f.csv, line 9: time '' is neither"),
        (RECORDING_FILE + "1678406700,A,1O,1\n", "f.csv", "f.csv, line 9: '1O' is not a number"),
        (RECORDING_FILE + "1678406700,,1,1\n", "f.csv", "f.csv, line 9: has no symbol"),
        (RECORDING_FILE + "1678406700,A\n", "f.csv", "f.csv, line 9: has 2 of 4 columns"),
        (RECORDING_FILE + "1678406700,A,1\x00,1\n", "f.csv", "f.csv, line 9: '1\\x00' is not a number"),
        (RECORDING_FILE + f"1678406700,A,{'1' * 200_000},1\n", "f.csv", "f.csv, line 9: field larger than field limit"),
        (RECORDING_FILE.encode() + b"1678406700,\xff,1,1\n", "f.csv", "f.csv, line 9: is not UTF-8"),
        (RECORDING_FILE.encode("utf-16"), "f.csv", "f.csv, line 1: is not UTF-8"),
        (RECORDING_FILE, "f.csv.gz", "f.csv.gz, line 1: is not gzip"),
        (
            gzip.compress(RECORDING_FILE.encode())[:-9],
            "f.csv.gz",
            "f.csv.gz, line 9: is not gzip, or not the whole of it",
        ),
        (b"", "f.csv.gz", "f.csv.gz, line 1: is empty"),
    ],
    ids=lambda value: str(value)[-40:],
)
def test_a_broken_recording_is_named_with_its_line(recording, content, name, message):
    with pytest.raises(ProviderMisconfigured) as caught:
        Recording().validate_options({"path": recording(content, name=name)})
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["no-such-recording.csv", "..", "/dev/null", "./README.md/recording.csv", "a\x00b"])
def test_what_is_no_file_is_refused(path):
    with pytest.raises(ProviderMisconfigured, match="line 1: is not a file that can be read$"):
        Recording().validate_options({"path": path})


def test_a_file_that_changes_is_read_anew(recording):
    assert len(_fetch(recording(), after=10 * MINUTE).quotes) == 7
    assert len(_fetch(recording(RECORDING_FILE + "1678406640,A,14,1\n"), after=10 * MINUTE).quotes) == 8


def test_a_recording_that_breaks_while_the_feed_runs_is_rejected(recording):
    path = recording()
    request = QuoteRequest(("A",), BEGAN_AT, BEGAN_AT, None, {}, 60, Recording().validate_options({"path": path}))
    os.remove(path)
    with pytest.raises(ProviderRejected) as caught:
        Recording().fetch(request)
    assert caught.value.reason == "broken_recording"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "path must be the name of a recording, or the path of a CSV file"),
        ({"path": 1}, "path must be the name of a recording, or the path of a CSV file"),
        ({"path": DEPEG, "sped": 2}, "recording knows no option 'sped'; it knows path, start, shift, speed"),
        ({"path": DEPEG, "shift": "now"}, "shift must be none or ends_now"),
        ({"path": DEPEG, "shift": []}, "shift must be none or ends_now"),
        ({"path": DEPEG, "speed": 0}, "speed must be a number above 0, at most 86400"),
        ({"path": DEPEG, "speed": 86_401}, "speed must be a number above 0, at most 86400"),
        ({"path": DEPEG, "speed": float("nan")}, "speed must be a number above 0, at most 86400"),
        ({"path": DEPEG, "speed": "2"}, "speed must be a number above 0, at most 86400"),
        ({"path": DEPEG, "speed": True}, "speed must be a number above 0, at most 86400"),
        ({"path": DEPEG, "start": "soon"}, "start must be ISO 8601 with a zone, like 2023-03-11T06:30:00Z"),
        ({"path": DEPEG, "start": "2023-03-11"}, "start must be ISO 8601 with a zone, like 2023-03-11T06:30:00Z"),
        ({"path": DEPEG, "start": 1.5}, "start must be ISO 8601 with a zone, like 2023-03-11T06:30:00Z"),
        (
            {"path": DEPEG, "start": "2023-03-14T00:00:00Z"},
            "start must not be after the last row, 2023-03-13T23:59:00+00:00",
        ),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ProviderMisconfigured) as caught:
        Recording().validate_options(options)
    assert str(caught.value) == message


def test_validated_options_are_complete_and_stay_as_they_are():
    options = Recording().validate_options({"path": DEPEG})
    assert options == {"path": DEPEG, "start": None, "shift": "none", "speed": 1}
    assert Recording().validate_options(options) == options


def test_a_fetch_touches_the_rows_it_releases_and_few_others(recording, monkeypatch):
    path = recording()
    touched = []

    class Recording(list):
        def __getitem__(self, place):
            touched.append(len(range(*place.indices(len(self)))) if isinstance(place, slice) else 1)
            return super().__getitem__(place)

        def __iter__(self):
            touched.append(len(self))
            return super().__iter__()

    start = _minute(0)
    rows = Recording(RawQuote("A", Decimal(1), start + timedelta(seconds=second)) for second in range(100_000))
    monkeypatch.setattr(replay, "_recording", lambda name: rows)
    answer = _fetch(path, after=timedelta(seconds=50_999), position=start + timedelta(seconds=49_999))
    assert len(answer.quotes) == 1_000
    assert sum(touched) < 1_100


def test_the_recorded_recording_is_four_days_of_three_pairs_by_the_minute():
    answer = _fetch(DEPEG, after=timedelta(days=4), external_ids=PAIRS)
    assert len(answer.quotes) == 4 * 24 * 60 * 3 == 17_280
    assert answer.quotes[0] == RawQuote("BTC-USD", Decimal("20371.48"), _minute(0), Decimal("3.97372"))
    assert answer.as_of == datetime(2023, 3, 13, 23, 59, tzinfo=UTC)


def test_the_recorded_recording_has_its_first_thirty_hours_as_history():
    answer = _fetch(DEPEG, start="2023-03-11T06:30:00Z", external_ids=PAIRS)
    assert len(answer.history) == 61 * 30 * 3
    assert [quote.external_id for quote in answer.quotes] == list(PAIRS)


def test_the_recorded_usdc_is_at_its_lowest_at_seven_fifty_one():
    at = datetime(2023, 3, 11, 7, 51, tzinfo=UTC)
    answer = _fetch(DEPEG, start=at.isoformat(), external_ids=("BTC-USD", "BTC-USDC"))
    usd, usdc = (quote.price for quote in answer.quotes)
    assert round(usd / usdc, 3) == Decimal("0.875")
