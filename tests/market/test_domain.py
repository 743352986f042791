from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.market import domain, placing
from apps.market.domain import AdmittedQuote, QuoteRejected, RawQuote
from apps.sources import domain as sources_domain

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
IN_RANGE = st.decimals(domain.PRICE_LOWEST, domain.PRICE_HIGHEST, allow_nan=False, allow_infinity=False)


def _admit(*raw_quotes, as_of=NOON, assumed_at=NOON, oldest_at=None):
    return domain.admit(
        raw_quotes, asset_ids={"BTC": 1, "ETH": 2}, as_of=as_of, assumed_at=assumed_at, oldest_at=oldest_at
    )


def _admit_time(value, *, as_of=NOON):
    return domain.admit_time(value, as_of=as_of)


def _place(*quotes, newest=None, price="10", stored=None, unconfirmed=None, jump_percent=50, provider="one"):
    """Place the quotes against the newest quote of asset 1, and against stored prices by time."""
    return placing.place(
        quotes,
        newest={1: domain.Newest(domain.epoch_microseconds(newest), Decimal(price))} if newest else {},
        unconfirmed={1: unconfirmed} if unconfirmed else {},
        provider=provider,
        jump_percent=jump_percent,
        stored_prices=lambda behind: {(1, at): Decimal(price) for at, price in (stored or {}).items()},
    )


def _quote(at, price="10", *, asset_id=1):
    return AdmittedQuote(asset_id, at, Decimal(price))


# The list that every entry of numbers is tried with, as a provider's JSON may hold it.
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "missing"),
        ("", "missing"),
        ("NaN", "not_finite"),
        ("sNaN", "not_finite"),
        ("Infinity", "not_finite"),
        ("-Infinity", "not_finite"),
        (Decimal("NaN"), "not_finite"),
        (Decimal("sNaN"), "not_finite"),
        (Decimal("Infinity"), "not_finite"),
        ("1e400", "out_of_range"),
        (Decimal("1e400"), "out_of_range"),
        ("1E999999", "out_of_range"),
        (Decimal("1E999999"), "out_of_range"),
        ("1E9999999999999999999", "malformed"),
        ("-0", "out_of_range"),
        ("0", "out_of_range"),
        (0, "out_of_range"),
        ("-1", "out_of_range"),
        (-1, "out_of_range"),
        ("1e-30", "out_of_range"),
        ("9.999e-16", "out_of_range"),
        ("1000000000000.0000001", "out_of_range"),
        (2**63, "out_of_range"),
        (2**300, "malformed"),
        ("0x10", "malformed"),
        ("1_000", "malformed"),
        ("1,5", "malformed"),
        ("１２", "malformed"),
        ("1" * 5001, "malformed"),
        ("0." + "0" * 70 + "1", "malformed"),
        ("twelve", "malformed"),
        *((zeros, "malformed") for zeros in ("0951", "00", "-00.5", " +01")),
        ("1\x00", "malformed"),
        (True, "malformed"),
        (False, "malformed"),
        (0.1, "malformed"),
        (float("nan"), "malformed"),
        ([], "malformed"),
        ({}, "malformed"),
        (b"1", "malformed"),
    ],
)
def test_a_price_that_cannot_be_believed_is_rejected_with_its_reason(value, reason):
    with pytest.raises(QuoteRejected) as rejection:
        domain.admit_price(value)
    assert rejection.value.reason == reason


@pytest.mark.parametrize(
    ("value", "price"),
    [
        ("1", "1.00000000000000"),
        (5, "5.00000000000000"),
        (Decimal("2.5"), "2.50000000000000"),
        (" 5 ", "5.00000000000000"),
        ("1E2", "100.000000000000"),
        ("0.1", "0.100000000000000"),
        ("1e-15", "0.000000000000001000"),
        ("1.44e-9", "0.000000001440000000"),
        ("1e12", "1000000000000.00"),
        (Decimal("1." + "0" * 5000 + "1"), "1.00000000000000"),
    ],
)
def test_a_price_in_range_is_believed_however_it_is_written(value, price):
    assert str(domain.admit_price(value)) == str(Decimal(price))


@pytest.mark.parametrize(
    ("value", "price"),
    [
        # Eighteen decimals: the tie goes to the even digit.
        ("0.0000000000000012345", "0.000000000000001234"),
        ("0.0000000000000012355", "0.000000000000001236"),
        ("0.00000000000000123451", "0.000000000000001235"),
        # Fifteen significant digits, where those are the fewer.
        ("0.0001234567890123445", "0.000123456789012344"),
        ("1.000000000000005", "1.00000000000000"),
        ("1.000000000000015", "1.00000000000002"),
        ("123456.7890123445", "123456.789012344"),
        ("123456.7890123455", "123456.789012346"),
        ("999999999999.9995", "1000000000000"),
        ("123456789012.3445", "123456789012.344"),
        ("123456789012.3455", "123456789012.346"),
        ("99999.99999999995", "100000"),
    ],
)
def test_a_price_is_rounded_once_and_half_even(value, price):
    assert domain.admit_price(value) == Decimal(price)


@given(IN_RANGE)
@example(Decimal("1e-15"))
@example(Decimal("1e12"))
@example(Decimal("999999999999.9995"))
@example(Decimal("9.99999999999999999"))
@example(Decimal("1.4999999999999999e-15"))
def test_what_is_admitted_survives_a_float_of_15_digits_stays_in_range_and_is_admitted_unchanged(value):
    price = domain.admit_price(value)
    assert Decimal(f"{float(price):.15g}") == price
    assert domain.PRICE_LOWEST <= price <= domain.PRICE_HIGHEST
    assert domain.admit_price(price) == price
    assert Decimal(domain.price_units(price)) == price * 10**18


@given(IN_RANGE)
def test_rounding_moves_a_price_by_half_a_unit_of_its_last_place_at_most(value):
    price = domain.admit_price(value)
    assert abs(price - value) * 2 <= Decimal(1).scaleb(max(-18, value.adjusted() - 14))


@pytest.mark.parametrize("value", ["-1", "NaN", "1e21", "many", True, 0.5, [], float("inf")])
def test_a_bad_volume_costs_the_volume_and_not_the_quote(value):
    admission = _admit(RawQuote("BTC", "10", NOON, value))
    assert admission.quotes == [AdmittedQuote(1, NOON, Decimal(10), None)]
    assert admission.rejected == {}


@pytest.mark.parametrize(
    ("value", "volume"),
    [
        (None, None),
        ("0", Decimal(0)),
        ("1.5", Decimal("1.5")),
        ("0.000000005", Decimal(0)),
        ("0.000000015", Decimal("0.00000002")),
        ("1e20", Decimal("1e20")),
    ],
)
def test_a_volume_is_kept_with_eight_decimals(value, volume):
    assert domain.admit_volume(value) == volume


@pytest.mark.parametrize(
    "value",
    [
        NOON,
        "2026-03-02T12:00:00Z",
        "2026-03-02T13:00:00+01:00",
        1772452800,
        "1772452800",
        Decimal("1772452800.0"),
        1772452800000,
        "1772452800000",
        1772452800000000,
        "1772452800000000",
        1772452800000000000,
        "1772452800000000999",
        Decimal("1772452800000000.4"),
        NOON.astimezone(timezone(timedelta(hours=-5))),
    ],
)
def test_a_time_is_read_from_iso_and_from_an_epoch_in_four_units(value):
    at = _admit_time(value)
    assert at == NOON
    assert at.tzinfo is UTC


def test_a_fraction_of_a_second_is_kept_exactly():
    assert _admit_time(Decimal("1772452799.123456")) == NOON - SECOND + timedelta(microseconds=123_456)
    assert _admit_time("1772452799.123456") == NOON - SECOND + timedelta(microseconds=123_456)
    assert _admit_time(1772452799123) == NOON - SECOND + timedelta(milliseconds=123)
    assert _admit_time(1772452799123456) == NOON - SECOND + timedelta(microseconds=123_456)
    assert _admit_time(1772452799123456789) == NOON - SECOND + timedelta(microseconds=123_456)


def test_a_quote_without_a_time_gets_the_assumed_one():
    assert _admit(RawQuote("BTC", "1"), assumed_at=NOON - MINUTE).quotes == [_quote(NOON - MINUTE, "1")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2026, 3, 2, 12, 0), "time_naive"),
        ("2026-03-02T12:00:00", "time_naive"),
        ("2026-03-02", "time_naive"),
        ("yesterday", "time_malformed"),
        ("", "time_malformed"),
        ("-1", "time_malformed"),
        ("9" * 5000, "time_malformed"),
        ("１７７２４５２８００", "time_malformed"),
        (True, "time_malformed"),
        (1772452800.5, "time_malformed"),
        (Decimal("NaN"), "time_malformed"),
        (Decimal("Infinity"), "time_malformed"),
        ([], "time_malformed"),
        (-1, "time_out_of_range"),
        (0, "time_out_of_range"),
        (10**14, "time_out_of_range"),
        ("9" * 21, "time_malformed"),
        (10**20, "time_out_of_range"),
        ("2026-03-01T24:00:00Z", "time_out_of_range"),
        ("2016-12-31T23:59:60Z", "time_out_of_range"),
        ("2026-03-01T12:60:00Z", "time_malformed"),
        ("01772452800", "time_malformed"),
        (Decimal("1E999999"), "time_out_of_range"),
        ("1989-12-31T23:59:59Z", "time_out_of_range"),
        ("0001-01-01T00:00:00+14:00", "time_out_of_range"),
        (NOON + 60 * SECOND + timedelta(microseconds=1), "time_in_future"),
        ("9999-12-31T23:59:59-14:00", "time_in_future"),
    ],
)
def test_a_time_that_cannot_be_believed_is_rejected_with_its_reason(value, reason):
    with pytest.raises(QuoteRejected) as rejection:
        _admit_time(value)
    assert rejection.value.reason == reason


@pytest.mark.parametrize("ahead", [timedelta(microseconds=1), SECOND, 60 * SECOND])
def test_a_time_up_to_60_seconds_ahead_is_cut_to_the_clock(ahead):
    assert _admit_time(NOON + ahead) == NOON


def test_an_answer_is_believed_quote_by_quote_and_the_rest_is_counted_by_reason():
    admission = _admit(
        RawQuote("BTC", "10", NOON),
        RawQuote("DOGE", "10", NOON),
        RawQuote("ETH", "0", NOON),
        RawQuote("ETH", "-1", NOON),
        RawQuote("ETH", "NaN", NOON),
        RawQuote("ETH", None, NOON),
        RawQuote("ETH", "x", NOON),
        RawQuote("ETH", "5", datetime(2026, 3, 2)),
        RawQuote("ETH", "5", "soon"),
        RawQuote("ETH", "5", 7),
        RawQuote("ETH", "5", NOON + 2 * MINUTE),
        RawQuote("ETH", "5", NOON - 2 * MINUTE),
        RawQuote("BTC", "10.0", NOON),
        oldest_at=NOON - MINUTE,
    )
    assert admission.quotes == [AdmittedQuote(1, NOON, Decimal(10))]
    assert admission.rejected == {
        "unknown_asset": 1,
        "out_of_range": 2,
        "not_finite": 1,
        "missing": 1,
        "malformed": 1,
        "time_naive": 1,
        "time_malformed": 1,
        "time_out_of_range": 1,
        "time_in_future": 1,
        "too_old": 1,
    }
    assert admission.repeated == 1


def test_a_quote_exactly_as_old_as_what_is_kept_is_believed():
    assert _admit(RawQuote("BTC", "10", NOON - MINUTE), oldest_at=NOON - MINUTE).quotes == [_quote(NOON - MINUTE)]


def test_what_is_believed_comes_back_in_the_order_of_time_then_asset():
    admission = _admit(
        RawQuote("ETH", "3", NOON),
        RawQuote("BTC", "2", NOON),
        RawQuote("ETH", "1", NOON - SECOND),
        RawQuote("BTC", "0"),
    )
    assert admission.quotes == [
        _quote(NOON - SECOND, "1", asset_id=2),
        _quote(NOON, "2"),
        _quote(NOON, "3", asset_id=2),
    ]


def test_prices_that_are_equal_once_rounded_are_one_repeated_and_no_conflict():
    admission = _admit(RawQuote("BTC", "1.000000000000001", NOON), RawQuote("BTC", "1.000000000000002", NOON))
    assert admission.quotes == [_quote(NOON, "1")]
    assert (admission.repeated, admission.rejected) == (1, {})


def test_prices_whose_times_are_cut_to_the_clock_follow_each_other_in_the_order_of_their_times():
    quotes = [("2", 2 * SECOND), ("3", timedelta(0)), ("1", SECOND), ("4", -SECOND)]
    admission = _admit(*(RawQuote("BTC", price, NOON + ahead) for price, ahead in quotes))
    assert admission.quotes == [_quote(NOON - SECOND, "4"), *(_quote(NOON, price) for price in "312")]
    assert admission.rejected == {}


def test_an_asset_never_seen_before_is_fresh():
    placement = _place(_quote(NOON))
    assert (placement.fresh, placement.late, placement.rejected) == ([_quote(NOON)], [], Counter())


def test_a_quote_newer_than_the_newest_is_fresh():
    placement = _place(_quote(NOON + timedelta(microseconds=1)), newest=NOON)
    assert placement.fresh == [_quote(NOON + timedelta(microseconds=1))]


def test_a_quote_older_than_the_newest_is_late():
    placement = _place(_quote(NOON - SECOND), _quote(NOON + SECOND), newest=NOON, stored={NOON: "10"})
    assert placement.fresh == [_quote(NOON + SECOND)]
    assert placement.late == [_quote(NOON - SECOND)]
    assert placement.rejected == {}


def test_a_quote_stored_already_is_repeated_and_no_rejection():
    placement = _place(_quote(NOON, "10.0"), newest=NOON, stored={NOON: "10"})
    assert (placement.fresh, placement.late, placement.repeated, placement.rejected) == ([], [], 1, {})


def test_a_second_price_for_a_stored_time_is_a_conflict():
    placement = _place(_quote(NOON - SECOND, "11"), newest=NOON, stored={NOON - SECOND: "10"})
    assert (placement.fresh, placement.late, placement.rejected) == ([], [], {"conflict": 1})


def test_stored_prices_are_looked_up_only_for_what_is_not_newer():
    asked = []
    plain = {"unconfirmed": {}, "provider": "one", "jump_percent": 50}
    plain["stored_prices"] = lambda behind: asked.append(list(behind)) or {}
    known = domain.Newest(domain.epoch_microseconds(NOON), Decimal(10))
    placing.place([_quote(NOON), _quote(NOON + SECOND)], newest={1: known}, **plain)
    placing.place([_quote(NOON)], newest={}, **plain)
    assert asked == [[_quote(NOON)]]


@pytest.mark.parametrize(
    ("failures", "due_after_seconds"), [(0, 10), (1, 20), (2, 40), (3, 80), (6, 640), (7, 900), (8, 900), (10**9, 900)]
)
def test_a_feed_that_fails_is_put_off_by_doubling_steps_up_to_15_minutes(failures, due_after_seconds):
    due = sources_domain.next_slot_after(slot=NOON, interval_seconds=10, failures=failures)
    assert due == NOON + due_after_seconds * SECOND


def test_a_feed_slower_than_15_minutes_is_not_put_off():
    assert sources_domain.next_slot_after(slot=NOON, interval_seconds=3600, failures=5) == NOON + timedelta(hours=1)


@pytest.mark.parametrize(
    ("retry_after_seconds", "due_after_seconds"),
    [(None, 20), (-5, 20), (0, 20), (15, 20), (120, 120), (3600, 3600), (10**9, 3600), (10**20, 3600)],
)
def test_retry_after_lengthens_the_wait_up_to_an_hour(retry_after_seconds, due_after_seconds):
    due = sources_domain.next_slot_after(
        slot=NOON, interval_seconds=10, failures=1, retry_after_seconds=retry_after_seconds
    )
    assert due == NOON + due_after_seconds * SECOND


def test_a_feed_is_due_again_at_the_beginning_of_a_slot():
    asked = sources_domain.next_slot_after(slot=NOON, interval_seconds=60, failures=1, retry_after_seconds=121)
    limited = sources_domain.next_slot_after(slot=NOON, interval_seconds=420, failures=5)
    assert asked == NOON + 180 * SECOND
    assert limited == NOON + 1260 * SECOND


@pytest.mark.parametrize(
    ("at", "slot"),
    [
        (NOON, NOON),
        (NOON + timedelta(microseconds=1), NOON),
        (NOON + timedelta(seconds=14, microseconds=999_999), NOON),
        (NOON + 15 * SECOND, NOON + 15 * SECOND),
        (NOON - timedelta(microseconds=1), NOON - 15 * SECOND),
        ((NOON + 16 * SECOND).astimezone(timezone(timedelta(hours=5, minutes=45))), NOON + 15 * SECOND),
    ],
)
def test_a_slot_begins_at_a_multiple_of_the_interval_in_utc(at, slot):
    assert domain.slot_of(at=at, interval_seconds=15) == slot


def test_a_daily_slot_begins_at_midnight_utc():
    assert domain.slot_of(at=NOON, interval_seconds=86_400) == datetime(2026, 3, 2, tzinfo=UTC)


@given(st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1), timezones=st.just(UTC)))
def test_a_time_is_the_same_after_a_passage_through_microseconds(at):
    assert domain.from_epoch_microseconds(domain.epoch_microseconds(at)) == at


def test_a_feed_whose_providers_limits_want_more_than_its_interval_waits_whole_slots_for_them():
    waits = {
        least: (
            sources_domain.next_slot_after(slot=NOON, interval_seconds=60, failures=0, least_seconds=least) - NOON
        ).total_seconds()
        for least in (0, 60, 61, 3_456)
    }
    failing = sources_domain.next_slot_after(slot=NOON, interval_seconds=60, failures=1, least_seconds=3_456)

    assert waits == {0: 60, 60: 60, 61: 120, 3_456: 3_480}
    assert failing == NOON + timedelta(seconds=3_540)
