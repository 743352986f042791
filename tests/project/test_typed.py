"""Numbers and durations as people type them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.notation import read_duration, read_number, write_duration, write_number
from apps.typed import read_typed_duration, read_typed_number, write_typed_number
from apps.wording import format_duration, format_number

NOT_A_NUMBER = "is not a number; write it like 1000 or 0.995"
NOT_A_DURATION = "is not a duration; write it like 10 s, 5 minutes, 24 h or 30 d"


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("10", "10"),
        ("-10", "-10"),
        ("\u221210", "-10"),
        ("- 10", "-10"),
        (" 10 ", "10"),
        ("0,5", "0.5"),
        ("0.5", "0.5"),
        (",5", "0.5"),
        (".5", "0.5"),
        ("-.5", "-0.5"),
        ("0.995", "0.995"),
        ("0,995", "0.995"),
        ("1.0050", "1.0050"),
        ("1,5", "1.5"),
        ("12345,678", "12345.678"),
        ("1234.567", "1234.567"),
        ("100 000", "100000"),
        ("100\u202f000,25", "100000.25"),
        ("1\u00a0234,567", "1234.567"),
        ("1'000'000.5", "1000000.5"),
        ("1\u2019000", "1000"),
        ("1,234.5", "1234.5"),
        ("1.234,5", "1234.5"),
        ("1.234,567", "1234.567"),
        ("1,234.567", "1234.567"),
        ("1,234,567", "1234567"),
        ("1.234.567", "1234567"),
        ("1.234.567,8", "1234567.8"),
        ("1,2345", "1.2345"),
        ("1e5", "1e5"),
    ],
)
def test_a_number_is_read_as_people_type_it(typed, read):
    assert read_typed_number(typed) == read


@pytest.mark.parametrize("typed", ["10 %", "10%", " 10\u00a0% ", "10"])
def test_a_percent_may_have_its_sign(typed):
    assert read_typed_number(typed, unit="%") == "10"


@pytest.mark.parametrize(
    ("typed", "decimal", "thousands"),
    [
        ("1.005", "1.0050", "1005"),
        ("1,005", "1.0050", "1005"),
        ("-100,500", "-100.5000", "-100500"),
        ("999.999", "999.9990", "999999"),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused_with_both(typed, decimal, thousands):
    with pytest.raises(ValueError) as refused:
        read_typed_number(typed)
    assert str(refused.value) == f"can be read in two ways: write {decimal} or {thousands}"
    assert [read_typed_number(one) for one in (decimal, thousands)] == [decimal, thousands]


@pytest.mark.parametrize(
    "typed",
    [
        *("", " ", "-", ".", ",", "5.", "many", "10 %", "$10", "1 00", "1 0000", "10 5", "1,00,000", "1,234,5"),
        *("1.2.3", "1,234,56", "1 234'567", "007", "00.5", "--1", "1-2", "1e", "1,5e3", "\u0661", "0,123,456", "a\0b"),
    ],
)
def test_what_is_no_number_is_refused(typed):
    with pytest.raises(ValueError) as refused:
        read_typed_number(typed)
    assert str(refused.value) == NOT_A_NUMBER


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("5m", "5m"),
        ("5 m", "5m"),
        ("5 min", "5m"),
        ("5 minutes", "5m"),
        ("5 Minutes", "5m"),
        ("1 minute", "1m"),
        ("90 s", "90s"),
        ("90sec", "90s"),
        ("120 seconds", "2m"),
        ("24H", "1d"),
        ("24 hours", "1d"),
        ("1 hr", "1h"),
        ("30 days", "30d"),
        ("2 weeks", "14d"),
        ("1.5h", "90m"),
        ("1,5 h", "90m"),
        ("0,5 min", "30s"),
        ("1h30m", "90m"),
        ("1 h 30 min", "90m"),
        ("1 hour, 30 minutes", "90m"),
        ("1 hour and 30 minutes", "90m"),
        ("1 000 s", "1000s"),
        ("0", "0s"),
        ("0s", "0s"),
    ],
)
def test_a_duration_is_read_as_people_type_it(typed, read):
    assert read_typed_duration(typed) == read


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("", NOT_A_DURATION),
        ("soon", NOT_A_DURATION),
        ("-5m", NOT_A_DURATION),
        ("5M", NOT_A_DURATION),
        ("5 fortnights", NOT_A_DURATION),
        ("5 m 3", NOT_A_DURATION),
        ("m", NOT_A_DURATION),
        ("5m and", NOT_A_DURATION),
        ("5", "has no unit; write 5 s, 5 min, 5 h or 5 d"),
        ("0.1 s", "must be whole seconds"),
        ("1,500 s", "can be read in two ways: write 1.5000 or 1500"),
    ],
)
def test_what_is_no_duration_is_refused(typed, message):
    with pytest.raises(ValueError) as refused:
        read_typed_duration(typed)
    assert str(refused.value) == message


@given(st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, places=5))
def test_a_number_that_is_shown_is_read_as_itself(number):
    shown = write_typed_number(write_number(number))
    assert Decimal(read_typed_number(shown)) == number
    assert Decimal(read_typed_number(shown.replace(".", ","))) == number
    assert Decimal(read_typed_number(write_typed_number(format_number(number)))) == number


@given(st.integers(min_value=0, max_value=400 * 86_400))
def test_a_duration_that_is_shown_is_read_as_itself(seconds):
    duration = seconds * 1_000_000
    assert read_typed_duration(write_duration(duration)) == write_duration(duration)
    assert read_duration(read_typed_duration(format_duration(duration))) == duration


@given(st.text(max_size=20) | st.text(alphabet="0123456789., '%-", max_size=12))
def test_any_text_is_read_or_refused(text):
    for read, of in ((read_typed_number, read_number), (read_typed_duration, lambda one: one)):
        try:
            of(read(text))
        except ValueError as refused:
            assert str(refused)
