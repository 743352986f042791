from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from statistics import fmean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apps.market.domain import RawQuote, admit
from apps.sources.providers.protocol import Answer, ProviderMisconfigured, ProviderUnavailable, QuoteRequest
from apps.sources.providers.simulated import Simulated

BEGAN_AT = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
STILL = {"volatility": 0}


def _at(seconds):
    return BEGAN_AT + timedelta(seconds=seconds)


def _fetch(seconds, *, position=None, latest=None, external_ids=("A",), interval_seconds=10, **options):
    return Simulated().fetch(
        QuoteRequest(
            external_ids=external_ids,
            slot=_at(seconds),
            began_at=BEGAN_AT,
            position=position,
            latest=latest or {},
            interval_seconds=interval_seconds,
            options=Simulated().validate_options(options),
        )
    )


def _prices(answer, external_id="A"):
    return {
        int((quote.at - BEGAN_AT).total_seconds()): quote.price
        for quote in answer.quotes
        if quote.external_id == external_id
    }


def _prices_slot_by_slot(slots, **options):
    """Fetch each slot as a feed does: from what was admitted before, and again later after an outage."""
    position, latest, prices = None, {}, {}
    for seconds in slots:
        try:
            answer = _fetch(seconds, position=position, latest=latest, **options)
        except ProviderUnavailable:
            continue
        admission = admit(answer.quotes, asset_ids={"A": "A", "B": "B"}, as_of=answer.as_of, assumed_at=answer.as_of)
        latest |= {quote.asset_id: (quote.at, quote.price) for quote in admission.quotes}
        prices |= {(quote.asset_id, quote.at): quote.price for quote in admission.quotes}
        position = answer.as_of
    return prices


def test_the_first_answer_has_the_start_prices():
    answer = _fetch(0, external_ids=("A", "B", "C"), start_prices={"B": "65000.5", "C": 0.25})
    assert answer == Answer(
        quotes=[
            RawQuote("A", Decimal(100), BEGAN_AT),
            RawQuote("B", Decimal("65000.5"), BEGAN_AT),
            RawQuote("C", Decimal("0.25"), BEGAN_AT),
        ],
        as_of=BEGAN_AT,
    )


def test_the_steps_after_the_position_up_to_the_slot_are_given():
    answer = _fetch(60, position=_at(30), latest={"A": (_at(28), Decimal(7))}, step_seconds=7, **STILL)
    assert _prices(answer) == {35: 7, 42: 7, 49: 7, 56: 7}
    assert answer.as_of == _at(60)


def test_a_step_is_the_interval_where_nothing_else_is_said():
    assert list(_prices(_fetch(30, position=BEGAN_AT))) == [10, 20, 30]


def test_a_slot_asked_for_again_gives_nothing_new():
    assert _fetch(30, position=_at(30), latest={"A": (_at(30), Decimal(100))}).quotes == []


def test_an_asset_that_comes_later_begins_at_its_start_price():
    script = [{"kind": "pump", "after": "0s", "duration": "10s", "percent": 50}]
    answer = _fetch(30, position=_at(20), start_prices={"A": 5}, script=script, **STILL)
    assert _prices(answer) == {30: 5}


# Written down from a run: who changes it changes every market that was simulated before.
PATH_OF_SEED_7 = {0: Decimal("100"), 10: Decimal("99.81168107"), 20: Decimal("99.03319966"), 30: Decimal("98.51776497")}


def test_the_same_seed_gives_the_same_path():
    assert _prices(_fetch(30, seed=7, volatility=0.01)) == PATH_OF_SEED_7
    assert _prices(_fetch(30, seed=8, volatility=0.01)) != PATH_OF_SEED_7


def test_two_assets_have_paths_of_their_own():
    answer = _fetch(30, external_ids=("A", "B"))
    assert _prices(answer, "A") != _prices(answer, "B")


def test_the_steps_scatter_as_the_volatility_says():
    prices = [float(price) for price in _prices(_fetch(40_000, volatility=0.01)).values()]
    returns = [later / earlier - 1 for earlier, later in pairwise(prices)]
    assert len(returns) == 4_000
    assert stdev(returns) == pytest.approx(0.01, rel=0.05)
    assert fmean(returns) == pytest.approx(0, abs=0.0005)


def test_drift_is_growth_per_step():
    assert _prices(_fetch(20, drift=0.01, **STILL)) == {
        0: 100,
        10: Decimal("101.00501671"),
        20: Decimal("102.02013400"),
    }


def test_a_certain_jump_goes_up_or_down_by_its_size():
    prices = list(_prices(_fetch(2_000, jump_probability=1, jump_size=0.25, **STILL)).values())
    changes = {round(later / earlier, 6) for earlier, later in pairwise(prices)}
    assert changes == {Decimal("1.25"), Decimal("0.8")}


def test_a_pump_rises_over_its_duration_and_stays():
    script = [{"kind": "pump", "after": "20s", "duration": "40s", "percent": 10}]
    assert _prices(_fetch(80, script=script, **STILL)) == {
        0: 100,
        10: 100,
        20: 100,
        30: Decimal("102.5"),
        40: 105,
        50: Decimal("107.5"),
        60: 110,
        70: 110,
        80: 110,
    }


def test_a_flash_crash_falls_and_comes_back():
    script = [{"kind": "flash_crash", "after": "10s", "duration": "40s", "percent": 20}]
    assert _prices(_fetch(60, script=script, **STILL)) == {0: 100, 10: 100, 20: 90, 30: 80, 40: 90, 50: 100, 60: 100}


def test_an_event_with_every_repeats():
    script = [{"kind": "flash_crash", "after": "10s", "duration": "20s", "percent": 50, "every": "30s"}]
    assert _prices(_fetch(80, script=script, **STILL)) == {
        0: 100,
        10: 100,
        20: 50,
        30: 100,
        40: 100,
        50: 50,
        60: 100,
        70: 100,
        80: 50,
    }


def test_a_repeated_pump_builds_on_itself():
    script = [{"kind": "pump", "after": "0s", "duration": "10s", "percent": 100, "every": "10s"}]
    assert _prices(_fetch(30, script=script, **STILL)) == {0: 100, 10: 200, 20: 400, 30: 800}


def test_an_event_with_a_symbol_leaves_the_others_alone():
    script = [{"kind": "pump", "symbol": "B", "after": "0s", "duration": "10s", "percent": 10}]
    answer = _fetch(10, external_ids=("A", "B"), script=script, **STILL)
    assert (_prices(answer, "A"), _prices(answer, "B")) == ({0: 100, 10: 100}, {0: 100, 10: 110})


def test_calm_takes_noise_and_jumps_away_for_its_duration():
    script = [{"kind": "calm", "after": "20s", "duration": "20s"}]
    prices = _prices(_fetch(50, jump_probability=1, script=script))
    assert prices[0] != prices[10] == prices[20] == prices[30] != prices[40]


OUTAGE = {"kind": "outage", "after": "20s", "duration": "30s"}


@pytest.mark.parametrize("seconds", [20, 30, 49])
def test_a_slot_inside_an_outage_is_refused(seconds):
    with pytest.raises(ProviderUnavailable) as caught:
        _fetch(seconds, position=_at(10), script=[OUTAGE])
    assert caught.value.reason == "outage"


def test_the_steps_of_an_outage_are_never_given_and_the_path_is_flat_across_it():
    latest = {"A": (_at(10), Decimal(7))}
    answer = _fetch(60, position=_at(10), latest=latest, step_seconds=5, script=[OUTAGE], **STILL)
    assert _prices(answer) == {15: 7, 50: 7, 55: 7, 60: 7}


def test_a_crash_that_ends_inside_an_outage_is_over_after_it():
    crash = {"kind": "flash_crash", "after": "0s", "duration": "40s", "percent": 20}
    prices = _prices(_fetch(60, script=[OUTAGE, crash], **STILL))
    assert prices == {0: 100, 10: 90, 50: 100, 60: 100}


def test_an_outage_of_one_asset_leaves_the_others_alone():
    script = [OUTAGE | {"symbol": "B"}]
    answer = _fetch(30, external_ids=("A", "B"), position=_at(10), script=script, **STILL)
    assert (_prices(answer, "A"), _prices(answer, "B")) == ({20: 100, 30: 100}, {})


SCRIPT = [
    {"kind": "pump", "after": "35s", "duration": "1m", "percent": 5, "every": "2m"},
    {"kind": "flash_crash", "symbol": "A", "after": "1m", "duration": "50s", "percent": 40},
    {"kind": "calm", "after": "90s", "duration": "25s", "every": "100s"},
    {"kind": "outage", "after": "75s", "duration": "45s", "every": "3m"},
    {"kind": "outage", "symbol": "B", "after": "150s", "duration": "20s"},
]


@settings(max_examples=60)
@given(
    seed=st.integers(),
    slots=st.lists(st.integers(1, 30), max_size=30).map(lambda numbers: [0, *sorted(10 * n for n in numbers), 310]),
    step_seconds=st.integers(1, 40),
    start_price=st.sampled_from(
        [
            "0.000000000000001",
            "0.00000000144",
            "0.00000001",
            "0.00000123",
            "1",
            "99999.99999999",
            "12345678.12345678",
            "999999999999",
        ]
    ),
    volatility=st.sampled_from([0, 0.0005, 0.05, 1]),
    jump_probability=st.sampled_from([0, 0.3]),
)
def test_steps_come_out_the_same_one_by_one_and_after_a_gap(slots, step_seconds, start_price, **options):
    options |= {
        "external_ids": ("A", "B"),
        "step_seconds": step_seconds,
        "start_prices": {"A": start_price},
        "script": SCRIPT,
    }
    at_once = {(quote.external_id, quote.at): quote.price for quote in _fetch(310, **options).quotes}
    assert _prices_slot_by_slot(slots, **options) == at_once


@pytest.mark.parametrize(
    ("start_price", "drift", "price"), [("1", -1, Decimal("0.000000000000001")), ("1e11", 1, Decimal("1000000000000"))]
)
def test_prices_stay_positive_and_in_bounds(start_price, drift, price):
    prices = _prices(_fetch(1_000, start_prices={"A": start_price}, drift=drift, volatility=1))
    assert prices[1_000] == price


def test_a_long_gap_is_given_in_parts_with_the_same_prices(monkeypatch):
    at_once = _prices_slot_by_slot([0, 1000])
    monkeypatch.setattr("apps.sources.providers.simulated.ROWS_AT_ONCE", 30)

    in_parts = _prices_slot_by_slot([0, 1000, 1000, 1000, 1000])

    assert in_parts == at_once
    part = _fetch(1000, position=_at(0), latest={"A": (_at(0), Decimal(100))}, external_ids=("A", "B"))
    assert (part.as_of, len(part.quotes)) == (_at(150), 30)


def test_prices_have_at_most_eight_decimals():
    prices = _prices(_fetch(1_000, volatility=0.1)).values()
    assert {price.as_tuple().exponent for price in prices} == {-8}


def test_a_pump_without_end_stays_in_bounds():
    script = [{"kind": "pump", "after": "0s", "duration": "1s", "percent": 1000, "every": "1s"}]
    answer = _fetch(10_000_010, position=_at(10_000_000), latest={"A": (BEGAN_AT, Decimal(1))}, script=script, **STILL)
    assert _prices(answer) == {10_000_010: Decimal("1000000000000")}


def test_defaults_are_filled_in_and_stay_as_they_are():
    options = Simulated().validate_options({})
    assert options == {
        "seed": 1,
        "start_prices": {},
        "step_seconds": None,
        "volatility": 0.0005,
        "drift": 0,
        "jump_probability": 0,
        "jump_size": 0.02,
        "script": [],
    }
    assert Simulated().validate_options(options) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sed": 1}, "simulated knows no option 'sed'; it knows seed, start_prices, step_seconds, volatility, drift, "),
        ({"seed": "1"}, "seed must be a whole number"),
        ({"seed": True}, "seed must be a whole number"),
        ({"step_seconds": 0}, "step_seconds must be a whole number from 1 to 86400"),
        ({"step_seconds": 1.5}, "step_seconds must be a whole number from 1 to 86400"),
        ({"volatility": -0.1}, "volatility must be a number from 0 to 1"),
        ({"volatility": float("nan")}, "volatility must be a number from 0 to 1"),
        ({"drift": "0"}, "drift must be a number from -1 to 1"),
        ({"jump_probability": 1.1}, "jump_probability must be a number from 0 to 1"),
        ({"jump_size": None}, "jump_size must be a number from 0 to 1"),
        ({"start_prices": [1]}, "start_prices must map assets to prices"),
        ({"start_prices": {"A": 0}}, "start_prices: the price of 'A' is out_of_range"),
        ({"start_prices": {"A": float("inf")}}, "start_prices: the price of 'A' is not_finite"),
        ({"start_prices": {"A": None}}, "start_prices: the price of 'A' is missing"),
        ({"start_prices": {"A": True}}, "start_prices: the price of 'A' is malformed"),
        ({"script": "calm"}, "script must be a list of events"),
        ({"script": ["calm"]}, "script event 1: kind must be one of calm, flash_crash, pump, outage"),
        ({"script": [OUTAGE, {"kind": []}]}, "script event 2: kind must be one of calm, flash_crash, pump, outage"),
        ({"script": [OUTAGE | {"until": "5m"}]}, "script event 1: outage has no until"),
        ({"script": [OUTAGE | {"percent": 5}]}, "script event 1: outage has no percent"),
        ({"script": [OUTAGE | {"symbol": 1}]}, "script event 1: symbol must be an asset, or absent for all"),
        ({"script": [OUTAGE | {"after": "0s"}]}, "script event 1: after of an outage must be above 0s"),
        ({"script": [OUTAGE | {"after": 20}]}, "script event 1: after must be a duration like 10s, 5m, 2h or 1d"),
        ({"script": [OUTAGE | {"after": "-5s"}]}, "script event 1: after must be a duration like 10s, 5m, 2h or 1d"),
        ({"script": [OUTAGE | {"duration": "0s"}]}, "script event 1: duration must be above 0s, and at most every"),
        ({"script": [OUTAGE | {"every": "29s"}]}, "script event 1: duration must be above 0s, and at most every"),
        ({"script": [OUTAGE | {"kind": "pump"}]}, "script event 1: percent must be a number above 0, at most 1000"),
        (
            {"script": [OUTAGE | {"kind": "flash_crash", "percent": 100}]},
            "script event 1: percent must be a number above 0, at most 99",
        ),
    ],
)
def test_wrong_options_are_refused_by_name(options, message):
    with pytest.raises(ProviderMisconfigured) as caught:
        Simulated().validate_options(options)
    assert str(caught.value).startswith(message)
