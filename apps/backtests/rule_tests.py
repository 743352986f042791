"""Rules tested by data: series of prices in promtool's notation, a rule, and what must come of them.

The form of a file is in docs/rules.md. No clock, no database: the only I/O is reading the files.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from itertools import zip_longest
from pathlib import Path
from typing import Any

from apps.backtests.simulation import Backtest, Opening
from apps.market.domain import (
    PRICE_DECIMALS,
    UNITS_PER_ONE,
    QuoteRejected,
    admit_price,
    epoch_microseconds,
    price_of,
    price_units,
)
from apps.notation import SECOND, read_whole_number, write_duration
from apps.rules.domain import describe_evidence, describe_rule, describe_unknown
from apps.rules.engine.conditions import why_unfit
from apps.rules.engine.instance import STATES
from apps.rules.engine.leaves.binding import LEVEL_HIGHEST, LEVEL_LOWEST
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import WINDOW_LONGEST, RuleInvalid, read_duration, read_number, refuse_unknown_keys
from apps.rules.files import WrittenRule, read_rule, read_rule_file
from apps.wording import format_number
from apps.yaml_files import FileInvalid, read_yaml

SAMPLES_MOST = 1_000_000
INTERVAL_DEFAULT = 60 * SECOND
START_DEFAULT = epoch_microseconds(datetime(2026, 1, 1, tzinfo=UTC))
MOMENT_LAST = epoch_microseconds(datetime(9999, 12, 31, tzinfo=UTC))
# A moment of a test is counted from its start, and no series is longer than this.
OFFSET_LONGEST = SAMPLES_MOST * WINDOW_LONGEST
NEVER_RESOLVED = "never"
UNKNOWN = "unknown"

_FILE_KEYS = {"evaluation_interval", "rules", "tests"}
_TEST_KEYS = {"name", "start", "interval", "signed", "series", "rule", "rule_file", "openings", "suppressed", "states"}
_OPENING_KEYS = {"asset", "at", "resolved", "because", "price"}
_STATE_KEYS = {"asset", "at", "state"}

_NUMBER = r"(?:0|[1-9]\d*)(?:\.\d+)?"
_SAMPLE = re.compile(rf"(-?{_NUMBER})(?:([+-])({_NUMBER})(?=x))?(?:x(\d+))?", re.ASCII)
_NO_SAMPLE = re.compile(r"_(?:x(\d+))?|stale", re.ASCII)
_COUNT_DIGITS = 9
_WHOLE_DIGITS = 13
_NO_PRICE = (
    "{shown!r} leads to what is no price: a price is from 1e-15 to 1e12, and with signed: true also 0 or negative"
)

# What differs, as (expected, got), each in words.
Difference = tuple[str, str]


@dataclass(frozen=True, slots=True)
class ExpectedOpening:
    """What a test expects of one opening. Times are microseconds from the test's start; None: not looked at.

    resolved: also NEVER_RESOLVED, where it must be open at the end.
    """

    asset: str
    at: int
    resolved: int | str | None
    because: str | None
    price: Decimal | None


@dataclass(frozen=True, slots=True)
class ExpectedState:
    """What a test expects of an instance at a moment: one of its states, or that its condition is UNKNOWN."""

    asset: str
    at: int
    state: str


@dataclass(frozen=True, slots=True)
class RuleTest:
    """One test. series: symbol -> price in 1e-18 at each step, None where there is no sample."""

    name: str
    start: int
    interval: int
    series: Mapping[str, Sequence[int | None]]
    spec: RuleSpec
    openings: Sequence[ExpectedOpening]
    suppressed: int | None
    states: Sequence[ExpectedState]

    @property
    def watched(self) -> list[str]:
        """Return the symbols of the series that the rule watches; one that chooses by tag or feed watches all."""
        chosen = self.spec.assets.symbols
        return sorted(symbol for symbol in self.series if not chosen or symbol in chosen)

    @property
    def steps(self) -> int:
        """Return how many steps the clock makes: those of the longest series."""
        return max(len(prices) for prices in self.series.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a test; without differences it has passed."""

    name: str
    rule: str
    differences: Sequence[Difference]

    @property
    def has_passed(self) -> bool:
        """It is all as expected."""
        return not self.differences


def read_series(text: str, *, signed: bool = False) -> list[int | None]:
    """Return the prices that promtool's notation writes down, in 1e-18; None is a step without a sample.

    signed: they may be 0 or less. Raises ValueError, which names the token.
    """
    prices: list[int | None] = []
    for token in text.split():
        room = SAMPLES_MOST - len(prices)
        prices += _read_token(token, room=room, signed=signed)
    if not prices:
        raise ValueError("has no sample; write it like 100 100+1x5 _ 105x3")
    return prices


def _read_token(token: str, *, room: int, signed: bool) -> list[int | None]:
    shown = token if len(token) <= 40 else f"{token[:40]}…"
    gap = _NO_SAMPLE.fullmatch(token)
    if gap:
        count = _count(gap[1], shown) if gap[1] else 1
        _refuse_too_many(count, room=room, shown=shown)
        return [None] * count
    match = _SAMPLE.fullmatch(token)
    if not match:
        raise ValueError(f"{shown!r} is not understood; write 100, 100x5, 100+1x5, 100-1x5, _, _x5 or stale")
    first, sign, step, times = match.groups()
    count = 1 + (_count(times, shown) if times else 0)
    _refuse_too_many(count, room=room, shown=shown)
    begin = _units(first, shown)
    change = _units(step, shown) * (1 if sign == "+" else -1) if step else 0
    prices: list[int | None] = []
    for place in range(count):
        price = begin + place * change
        if price_units(_admitted(price, shown, signed=signed)) != price:
            # A test that says another price than is evaluated would mislead.
            raise ValueError(f"{shown!r} leads to more digits than a price keeps (15)")
        prices.append(price)
    return prices


def _count(text: str, shown: str) -> int:
    if len(text) > _COUNT_DIGITS:
        raise ValueError(f"{shown!r}: a series has at most {SAMPLES_MOST} samples")
    return int(text)


def _refuse_too_many(count: int, *, room: int, shown: str) -> None:
    if count > room:
        raise ValueError(f"{shown!r}: a series has at most {SAMPLES_MOST} samples")


def _units(text: str, shown: str) -> int:
    sign, text = (-1, text[1:]) if text.startswith("-") else (1, text)
    whole, _, part = text.partition(".")
    if len(part) > PRICE_DECIMALS:
        raise ValueError(f"{shown!r} has more than {PRICE_DECIMALS} decimals")
    if len(whole) > _WHOLE_DIGITS:
        raise ValueError(_NO_PRICE.format(shown=shown))
    return sign * (int(whole) * UNITS_PER_ONE + int(part.ljust(PRICE_DECIMALS, "0")))


def _admitted(units: int, shown: str, *, signed: bool) -> Decimal:
    """Return the price as admission keeps it. Raises ValueError."""
    try:
        return admit_price(price_of(units), signed=signed)
    except QuoteRejected:
        raise ValueError(_NO_PRICE.format(shown=shown)) from None


def read_tests(path: Path) -> list[RuleTest]:
    """Return the tests of a file. Raises FileInvalid, which names the file, the test and the path in it."""
    data = read_yaml(path)
    try:
        if not isinstance(data, dict):
            raise RuleInvalid("tests", "is missing: a file is a mapping with a list of tests")
        refuse_unknown_keys(data, _FILE_KEYS, "")
        interval = _read_interval(data.get("evaluation_interval"), "evaluation_interval", default=INTERVAL_DEFAULT)
        shared = _read_shared(data.get("rules", []))
        tests = data.get("tests")
        if not isinstance(tests, list) or not tests:
            raise RuleInvalid("tests", "must be a list of at least one test")
    except RuleInvalid as error:
        raise FileInvalid(f"{path.name}: {error}") from None
    read = []
    for number, test in enumerate(tests, start=1):
        try:
            read.append(_read_test(test, interval=interval, shared=shared, folder=path.parent))
        except (RuleInvalid, FileInvalid) as error:
            name = test.get("name") if isinstance(test, dict) else None
            named = f" ({name})" if isinstance(name, str) and name else ""
            raise FileInvalid(f"{path.name}, test {number}{named}: {error}") from None
    return read


def _read_shared(data: Any) -> dict[str, WrittenRule]:
    if not isinstance(data, list):
        raise RuleInvalid("rules", "must be a list of rules, each with a name")
    shared: dict[str, WrittenRule] = {}
    for index, one in enumerate(data):
        rule = _read_rule(one, f"rules[{index}]")
        if not rule.name:
            raise RuleInvalid(f"rules[{index}].name", "is missing: tests call it by its name")
        if rule.name in shared:
            raise RuleInvalid(f"rules[{index}].name", "is the name of an earlier rule too")
        shared[rule.name] = rule
    return shared


def _read_rule(data: Any, path: str) -> WrittenRule:
    try:
        return read_rule(data)
    except RuleInvalid as error:
        raise RuleInvalid(path, str(error)) from None


def _read_test(data: Any, *, interval: int, shared: Mapping[str, WrittenRule], folder: Path) -> RuleTest:
    if not isinstance(data, dict):
        raise RuleInvalid("test", "must be a mapping with name, series, rule and openings")
    refuse_unknown_keys(data, _TEST_KEYS, "")
    name = data.get("name")
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise RuleInvalid("name", "must be a text of one line that says what is tested")
    if "openings" not in data:
        raise RuleInvalid("openings", "is missing; [] says that there is none")
    signed = data.get("signed", False)
    if not isinstance(signed, bool):
        raise RuleInvalid("signed", "must be true or false")
    spec = _rule_of(data, shared=shared, folder=folder).spec
    why = why_unfit(spec.condition, signed=signed)
    if why is not None:
        raise RuleInvalid("rule", why)
    test = RuleTest(
        name=name,
        start=_read_start(data.get("start")),
        interval=_read_interval(data.get("interval"), "interval", default=interval),
        series=_read_all_series(data.get("series"), signed=signed),
        spec=spec,
        openings=[_read_opening(one, index) for index, one in enumerate(_list(data, "openings"))],
        suppressed=_read_count(data.get("suppressed"), "suppressed"),
        states=[_read_state(one, index) for index, one in enumerate(_list(data, "states"))],
    )
    _check(test)
    return test


def _check(test: RuleTest) -> None:
    """Refuse what would be evaluated without testing anything. Raises RuleInvalid."""
    if test.start + test.steps * test.interval > MOMENT_LAST:
        raise RuleInvalid("interval", "leads behind the year 9999")
    if not test.watched:
        raise RuleInvalid("series", f"has none of what the rule watches: {', '.join(test.spec.assets.symbols)}")
    for key, expected in (("openings", test.openings), ("states", test.states)):
        for index, one in enumerate(expected):
            if one.asset not in test.watched:
                raise RuleInvalid(f"{key}[{index}].asset", "is no symbol that has a series and is watched by the rule")
            if one.at > (test.steps - 1) * test.interval:
                last = write_duration((test.steps - 1) * test.interval)
                raise RuleInvalid(f"{key}[{index}].at", f"is behind the last step of the series, {last}")


def _rule_of(data: Mapping[str, Any], *, shared: Mapping[str, WrittenRule], folder: Path) -> WrittenRule:
    rule, file = data.get("rule"), data.get("rule_file")
    if (rule is None) == (file is None):
        raise RuleInvalid("rule", "is missing, or stands beside rule_file; a test has one of them")
    if file is not None:
        if not isinstance(file, str) or not file:
            raise RuleInvalid("rule_file", "must be the path of a file, from the folder of this one")
        try:
            return read_rule_file(folder / file)
        except FileInvalid as error:
            raise RuleInvalid("rule_file", str(error)) from None
    if isinstance(rule, str):
        if rule not in shared:
            raise RuleInvalid("rule", f"there is no {rule!r} among the rules of this file")
        return shared[rule]
    return _read_rule(rule, "rule")


def _read_all_series(data: Any, *, signed: bool) -> dict[str, list[int | None]]:
    if not isinstance(data, dict) or not data:
        raise RuleInvalid("series", "must be a mapping of symbols, each with its prices, like BTC-USD: 100 100+1x5 _")
    series = {}
    for symbol, text in data.items():
        if not isinstance(symbol, str) or not symbol:
            raise RuleInvalid(f"series.{symbol}", "is not a symbol")
        if not isinstance(text, str):
            raise RuleInvalid(f"series.{symbol}", "must be a text like 100 100+1x5 _ 105x3")
        try:
            series[symbol] = read_series(text, signed=signed)
        except ValueError as error:
            raise RuleInvalid(f"series.{symbol}", str(error)) from None
    return series


def _read_start(value: Any) -> int:
    if value is None:
        return START_DEFAULT
    try:
        at = datetime.fromisoformat(value)
        start = epoch_microseconds(at.astimezone(UTC))
    except (TypeError, ValueError, OverflowError):
        raise RuleInvalid("start", "is not a time; write it like 2026-01-31T12:00:00Z") from None
    if at.tzinfo is None:
        raise RuleInvalid("start", "has no time zone; write it like 2026-01-31T12:00:00Z")
    if start < 0:
        raise RuleInvalid("start", "must be in 1970 or later")
    return start


def _read_interval(value: Any, path: str, *, default: int) -> int:
    return default if value is None else read_duration(value, path, shortest=SECOND)


def _read_count(value: Any, path: str) -> int | None:
    if value is None:
        return None
    try:
        count = read_whole_number(value)
    except ValueError:
        count = -1
    if count < 0:
        raise RuleInvalid(path, "must be a count like 0 or 2")
    return count


def _list(data: Mapping[str, Any], key: str) -> list[Any]:
    found = data.get(key, [])
    if not isinstance(found, list):
        raise RuleInvalid(key, "must be a list")
    return found


def _read_opening(data: Any, place: int) -> ExpectedOpening:
    path = f"openings[{place}]"
    asset, at = _read_place(data, path, _OPENING_KEYS, example="{asset: BTC-USD, at: 2m}")
    resolved, because, price = data.get("resolved"), data.get("because"), data.get("price")
    if resolved is not None and resolved != NEVER_RESOLVED:
        resolved = read_duration(resolved, f"{path}.resolved", longest=OFFSET_LONGEST)
        if resolved < at:
            raise RuleInvalid(f"{path}.resolved", "is before at")
    if because is not None and (not isinstance(because, str) or resolved == NEVER_RESOLVED):
        raise RuleInvalid(f"{path}.because", "must be why it resolved, like recovered, event, once or expired")
    if price is not None:
        price = read_number(price, f"{path}.price", lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
    return ExpectedOpening(asset, at, resolved, because, price)


def _read_state(data: Any, place: int) -> ExpectedState:
    path = f"states[{place}]"
    asset, at = _read_place(data, path, _STATE_KEYS, example="{at: 3m, asset: BTC-USD, state: pending}")
    state = data.get("state")
    if state not in (*STATES, UNKNOWN):
        raise RuleInvalid(f"{path}.state", f"must be one of {', '.join((*STATES, UNKNOWN))}")
    return ExpectedState(asset, at, state)


def _read_place(data: Any, path: str, keys: set[str], *, example: str) -> tuple[str, int]:
    if not isinstance(data, dict):
        raise RuleInvalid(path, f"must be a mapping like {example}")
    refuse_unknown_keys(data, keys, path)
    asset = data.get("asset")
    if not isinstance(asset, str):
        raise RuleInvalid(f"{path}.asset", "must be a symbol")
    return asset, read_duration(data.get("at"), f"{path}.at", longest=OFFSET_LONGEST)


def try_test(test: RuleTest) -> Verdict:
    """Evaluate the series step by step, each step being an entry with its clock, and compare with what is expected."""
    symbols = test.watched
    ids = {symbol: asset_id for asset_id, symbol in enumerate(symbols)}
    backtest = Backtest([test.spec], ids.values())
    waiting = sorted(test.states, key=lambda state: state.at, reverse=True)
    differences: list[Difference] = []
    for step in range(test.steps):
        now = step * test.interval
        while waiting and waiting[-1].at < now:  # What is seen at a moment is what the last step up to it has left.
            differences += _state_differences(waiting.pop(), backtest=backtest, ids=ids)
        at = test.start + now
        backtest.take([(one, at, price) for one, price in _prices_at(step, test=test, ids=ids)], as_of=at)
    while waiting:
        differences += _state_differences(waiting.pop(), backtest=backtest, ids=ids)
    (outcome,) = backtest.outcomes()
    found = _opening_differences(test, outcome.openings, symbols=symbols)
    if test.suppressed is not None and test.suppressed != outcome.suppressed:
        found.append((f"{test.suppressed} suppressed", f"{outcome.suppressed} suppressed"))
    found += [("no error", f"error: {error}") for error in outcome.errors]
    return Verdict(test.name, describe_rule(test.spec), [*found, *differences])


def _prices_at(step: int, *, test: RuleTest, ids: Mapping[str, int]) -> Iterator[tuple[int, int]]:
    for symbol, asset_id in ids.items():
        prices = test.series[symbol]
        price = prices[step] if step < len(prices) else None
        if price is not None:
            yield asset_id, price


def _state_differences(expected: ExpectedState, *, backtest: Backtest, ids: Mapping[str, int]) -> list[Difference]:
    status_of_instance = backtest.status_of_instance(0, ids[expected.asset])
    is_met = (
        status_of_instance.unknown is not None
        if expected.state == UNKNOWN
        else status_of_instance.state == expected.state
    )
    if is_met:
        return []
    place = f"{expected.asset} at {write_duration(expected.at)}"
    got = status_of_instance.state + (
        f", UNKNOWN: {describe_unknown(status_of_instance.unknown)}" if status_of_instance.unknown else ""
    )
    return [(f"{place} is {expected.state}", f"{place} is {got}")]


def _opening_differences(test: RuleTest, openings: Sequence[Opening], *, symbols: Sequence[str]) -> list[Difference]:
    """Return what differs, by time and asset: an opening that is expected and missing stands beside nothing."""
    expected: dict[tuple[int, str], list[ExpectedOpening]] = {}
    for one in test.openings:
        expected.setdefault((one.at, one.asset), []).append(one)
    got: dict[tuple[int, str], list[Opening]] = {}
    for opening in openings:
        got.setdefault((opening.opened_at - test.start, symbols[opening.asset_id]), []).append(opening)
    differences = []
    for key in sorted(expected.keys() | got.keys()):
        for wanted, seen in zip_longest(expected.get(key, ()), got.get(key, ())):
            if wanted is None or seen is None or not _is_as_expected(wanted, seen, start=test.start):
                differences.append(
                    (
                        _describe_expected(wanted) if wanted else "no opening",
                        _describe_actual(seen, symbol=key[1], test=test) if seen else "no opening",
                    )
                )
    return differences


def _is_as_expected(expected: ExpectedOpening, got: Opening, *, start: int) -> bool:
    if expected.price is not None and expected.price != Decimal(got.evidence["price"]):
        return False
    if expected.because is not None and expected.because != got.reason:
        return False
    if expected.resolved == NEVER_RESOLVED:
        return got.resolved_at is None
    return expected.resolved is None or (got.resolved_at is not None and expected.resolved == got.resolved_at - start)


def _describe_expected(expected: ExpectedOpening) -> str:
    text = f"{expected.asset} opens at {write_duration(expected.at)}"
    if expected.price is not None:
        text += f" at a price of {format_number(expected.price)}"
    if expected.resolved == NEVER_RESOLVED:
        text += ", still open"
    elif isinstance(expected.resolved, int):
        text += f", resolved at {write_duration(expected.resolved)}"
    return text + (f" because {expected.because}" if expected.because is not None else "")


def _describe_actual(got: Opening, *, symbol: str, test: RuleTest) -> str:
    price = format_number(got.evidence["price"])
    text = f"{symbol} opens at {write_duration(got.opened_at - test.start)} at a price of {price}"
    if got.resolved_at is None:
        text += ", still open"
    else:
        text += f", resolved at {write_duration(got.resolved_at - test.start)} because {got.reason}"
    seen = describe_evidence(
        symbol=symbol, condition=test.spec.condition, evidence=got.evidence, opened_at=got.opened_at
    )
    return f"{text} ({seen})"
