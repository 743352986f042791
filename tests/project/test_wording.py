"""Numbers and times as people read them."""

import ast
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from apps import wording
from apps.locales import LOCALES, NARROW_SPACE, STANDARD, Reader
from apps.typed import read_typed_number, write_typed_number
from apps.wording import (
    decimals_of,
    format_day,
    format_moment,
    format_number,
    format_percent,
    format_prices,
    format_span,
)

READERS = {code: Reader(UTC, locale) for code, locale in LOCALES.items()}


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
    assert {zone: format_moment(moment, "%R", reader=Reader(ZoneInfo(zone))) for zone in zones} == zones


@pytest.mark.parametrize(
    ("code", "written"),
    [
        ("en", ["-1\u202f234\u202f567.50", "12.34 %", "2.5 d", "2026-11-03 14:05:09 UTC", "14:05 UTC", "2026-11-03"]),
        ("en-US", ["-1,234,567.50", "12.34 %", "2.5 d", "11/03/2026 02:05:09 PM UTC", "02:05 PM UTC", "11/03/2026"]),
        ("en-GB", ["-1,234,567.50", "12.34 %", "2.5 d", "03/11/2026 14:05:09 UTC", "14:05 UTC", "03/11/2026"]),
        ("de", ["-1.234.567,50", "12,34 %", "2,5 d", "03.11.2026 14:05:09 UTC", "14:05 UTC", "03.11.2026"]),
        ("fr", ["-1\u202f234\u202f567,50", "12,34 %", "2,5 d", "03/11/2026 14:05:09 UTC", "14:05 UTC", "03/11/2026"]),
        ("pt-BR", ["-1.234.567,50", "12,34 %", "2,5 d", "03/11/2026 14:05:09 UTC", "14:05 UTC", "03/11/2026"]),
    ],
)
def test_each_locale_writes_numbers_dates_and_times_its_way(code, written):
    reader, moment = READERS[code], datetime(2026, 11, 3, 14, 5, 9, tzinfo=UTC)
    assert written == [
        format_number("-1234567.5", decimals=2, reader=reader),
        format_percent("12.344", reader=reader),
        format_span(216_000, reader=reader),
        format_moment(moment, reader=reader),
        format_moment(moment, "%R", reader=reader),
        format_day(date(2026, 11, 3), reader=reader),
    ]


def test_the_locales_are_those_that_are_tested_above():
    (parametrized,) = test_each_locale_writes_numbers_dates_and_times_its_way.pytestmark
    assert {code for code, _ in parametrized.args[1]} == LOCALES.keys()


@pytest.mark.parametrize("code", sorted(LOCALES.keys() - {"en"}))
def test_marks_and_dates_are_those_that_django_has_for_the_language(code):
    known = import_module(f"django.conf.locale.{code.removesuffix('-US').replace('-', '_')}.formats")
    locale = LOCALES[code]
    # Django has a space at which lines break in old browsers where people group by a narrow one.
    mark = known.THOUSAND_SEPARATOR.replace("\u00a0", NARROW_SPACE)
    short = known.SHORT_DATE_FORMAT.replace("Y", "%Y").replace("m", "%m").replace("d", "%d")
    assert (locale.decimal_mark, locale.group_mark, locale.date) == (known.DECIMAL_SEPARATOR, mark, short)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("number", ["1234567.5", "1234.25", "0.0625", "-61230.5", "1000", "1.0005"])
def test_a_form_reads_a_number_that_was_copied_from_a_page_as_the_same_or_asks(number, reader):
    written = format_number(number, reader=reader)
    try:
        read = read_typed_number(written)
    except ValueError as error:
        # A single group, as in 1.000: which of both readings is meant, only the person knows.
        assert f"{number} " in f"{error} "
    else:
        assert read == number


@pytest.mark.parametrize("number", ["1.005", "1234.5", "1000", "0.995", "61230.125", "-1.234"])
def test_what_a_form_shows_is_read_as_the_same_whoever_reads_it(number):
    shown = write_typed_number(number)
    assert (format_number(read_typed_number(shown)), "," in shown) == (format_number(number), False)


def test_the_standard_reader_is_the_default_of_every_profile():
    assert (STANDARD.locale, next(iter(LOCALES))) == (LOCALES["en"], "en")


def test_pages_write_numbers_and_times_by_the_module_that_knows_the_reader():
    for_a_reader = {name for name, made in vars(wording).items() if "reader" in getattr(made, "__annotations__", {})}
    imported = {
        (path.name, name.name)
        for folder in ("apps/site", "apps/panel")
        for path in Path(folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and node.module == "apps.wording"
        for name in node.names
    }
    assert {"format_number", "format_prices", "format_percent", "format_span", "format_moment"} <= for_a_reader
    assert [one for one in sorted(imported) if one[1] in for_a_reader] == []
