"""Numbers and times as people read them."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest

from apps.wording import decimals_of, format_moment, format_number, format_prices


@pytest.mark.parametrize(
    ("number", "decimals", "text"),
    [
        ("61230.5", 2, "61\u202f230.50"),
        ("61230.123", 2, "61\u202f230.123"),
        ("-1234567", 0, "-1\u202f234\u202f567"),
        (1234, 1, "1\u202f234.0"),
        ("1E-15", 2, "0.000000000000001"),
        ("0", 0, "0"),
    ],
)
def test_numbers_get_zeros_and_lose_no_digit(number, decimals, text):
    assert format_number(number, decimals=decimals) == text


def test_no_line_breaks_within_a_number():
    # Of white space, lines do not break at these (UAX 14, class GL).
    assert set(format_number("1234567.5")) - set("0123456789.") <= {"\u00a0", "\u202f"}


def test_prices_of_one_asset_have_the_same_decimals():
    assert format_prices(["61230.5", Decimal("7.00"), Decimal("0.0625")]) == ["61\u202f230.5000", "7.0000", "0.0625"]
    assert format_prices([]) == []


def test_zeros_that_a_database_adds_are_no_decimals():
    prices = [Decimal("61230.500000000000000000"), Decimal("1.00"), Decimal("1E+3"), Decimal(0)]
    assert (decimals_of(prices), decimals_of([])) == (1, 0)


def test_times_have_the_abbreviation_of_their_zone():
    moment = datetime(2026, 7, 2, 12, 0, tzinfo=UTC)
    zones = {"Europe/Berlin": "14:00 CEST", "Asia/Dubai": "16:00 UTC+04", "UTC": "12:00 UTC"}
    assert {zone: format_moment(moment, "%H:%M", zone=ZoneInfo(zone)) for zone in zones} == zones
