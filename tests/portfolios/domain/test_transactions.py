"""What a transaction may say by itself."""

from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from apps.portfolios.domain.transactions import Event, Kind, refusals_of
from tests.portfolios.making import COIN, NOW, OTHER, SHARE, buy, made, noon


def refused(one, *, tracks_cash=True, now=NOW):
    return {
        (wrong.field, wrong.message)
        for wrong in refusals_of(one, tracks_cash=tracks_cash, currencies={"EUR", "USD"}, now=now)
    }


ABOVE = "It must be more than 0."
RIGHT = buy("2024-01-01", "1", "10")
SPLIT = made("2024-01-01", Kind.EVENT, event=Event.SPLIT, asset=SHARE, numerator=2, denominator=1)


@pytest.mark.parametrize(
    ("one", "field", "message"),
    [
        (replace(RIGHT, quantity=Decimal(0)), "quantity", ABOVE),
        (replace(RIGHT, quantity=None), "quantity", "A transaction of this kind (buy) needs it."),
        (replace(RIGHT, amount=Decimal(-1)), "amount", "It must be 0 or more."),
        (replace(RIGHT, fee=Decimal(-1)), "fee", "It must be 0 or more."),
        (replace(RIGHT, rate=Decimal(0)), "rate", ABOVE),
        (
            replace(RIGHT, currency="XYZ"),
            "currency",
            "XYZ is not a known currency: use an ISO 4217 code, or that of an asset's price.",
        ),
        (replace(RIGHT, at=noon("2026-01-02")), "at", "It is in the future; record it when it has happened."),
        (replace(RIGHT, numerator=2), "numerator", "A transaction of this kind (buy) has none; leave it empty."),
        (made("2024-01-01", Kind.DEPOSIT, amount="0", currency="EUR"), "amount", ABOVE),
        (
            made("2024-01-01", Kind.CONVERSION, amount="1", currency="EUR", counter_amount="1", counter_currency="EUR"),
            "counter_currency",
            "A conversion is between two currencies.",
        ),
        (
            made("2024-01-01", Kind.TRANSFER, asset=SHARE, quantity="1", to_portfolio=1),
            "to_portfolio",
            "Choose another portfolio than the one that it leaves.",
        ),
        (
            made("2024-01-01", Kind.TRANSFER, asset=SHARE, quantity="1", to_portfolio=2, fee="1"),
            "fee_currency",
            "Say which currency the fee is in.",
        ),
        (
            replace(RIGHT, fee=Decimal(1), fee_asset=COIN),
            "fee_asset",
            "A fee paid in an asset needs the asset, its quantity, and its worth as fee.",
        ),
        (made("2024-01-01", Kind.EVENT, asset=SHARE), "event", "Choose which corporate event it is."),
        (replace(SPLIT, numerator=1), "numerator", "A split of 1:1 changes nothing."),
        (replace(SPLIT, numerator=100_001), "numerator", "It must be a whole number from 1 to 100000."),
        (
            replace(SPLIT, event=Event.SYMBOL_CHANGE, numerator=None, denominator=None, to_asset=SHARE),
            "to_asset",
            "Choose another asset than the one that it leaves.",
        ),
        (
            replace(SPLIT, event=Event.SPIN_OFF, to_asset=OTHER, cost_share=Decimal("1.1")),
            "cost_share",
            "It must be from 0 to 1.",
        ),
        (
            replace(SPLIT, event=Event.MERGER, to_asset=OTHER, cost_share=Decimal("0.5")),
            "amount",
            "Where a part of the cost does not move, say which cash was paid for it.",
        ),
        (
            made(
                *("2024-01-01", Kind.DELIVERY_IN),
                **{"asset": SHARE, "quantity": "1", "amount": "1", "currency": "EUR", "acquired_at": "2024-01-02"},
            ),
            "acquired_at",
            "The original date cannot be after the delivery.",
        ),
    ],
)
def test_what_is_wrong_is_named_beside_its_field(one, field, message):
    assert refused(one) == {(field, message)}


def test_a_portfolio_without_cash_has_no_deposit():
    deposit = made("2024-01-01", Kind.DEPOSIT, amount="1", currency="EUR")
    assert refused(deposit, tracks_cash=False) == {
        ("kind", "This portfolio does not track cash, so it has no deposit."),
    }
    assert refused(deposit) == set()


def test_a_row_with_only_a_date_may_be_of_today():
    morning = datetime(2024, 1, 1, 8, tzinfo=UTC)
    assert refused(RIGHT, now=morning) == set()
    assert {field for field, _ in refused(replace(RIGHT, has_time=True), now=morning)} == {"at"}
