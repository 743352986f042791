"""An invented market: geometric Brownian motion with jumps, and a script of calm, pumps, crashes and outages."""

import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from apps.market.domain import (
    PRICE_DECIMALS,
    PRICE_DIGITS,
    PRICE_HIGHEST,
    PRICE_LOWEST,
    QuoteRejected,
    RawQuote,
    admit_price,
)
from apps.notation import WIDE
from apps.sources.providers.options import Option, read_options
from apps.sources.providers.protocol import (
    ROWS_AT_ONCE,
    Answer,
    PlainProvider,
    ProviderMisconfigured,
    ProviderUnavailable,
    QuoteRequest,
)

START_PRICE = 100
LOWEST, HIGHEST = float(PRICE_LOWEST), float(PRICE_HIGHEST)
DECIMALS = 8  # More where there would be fewer significant digits.
_HIGHEST_PERCENT = {"pump": 1000, "flash_crash": 99}
_KINDS = ("calm", "flash_crash", "pump", "outage")
_DURATION = re.compile(r"([0-9]{1,9})([smhd])")
_UNIT_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Event:
    """One entry of a script, in seconds since the feed began. symbol None is every asset; fraction 0.1 is 10 %."""

    kind: str
    symbol: str | None
    after: int
    duration: int
    every: int | None
    fraction: float

    def covers(self, elapsed: float) -> bool:
        """Tell whether the event is going on; its end is outside."""
        return 0 <= self._since(elapsed) < self.duration

    def log_factor(self, elapsed: float) -> float:
        """Return the logarithm of what the event and its repeats have multiplied the price by, up to `elapsed`."""
        since = self._since(elapsed)
        if since < 0:
            return 0.0
        progress = min(since / self.duration, 1.0)
        if self.kind == "flash_crash":
            return math.log1p(-self.fraction * (1 - abs(2 * progress - 1)))
        if self.kind == "pump":
            repeats = (elapsed - self.after) // self.every if self.every else 0
            return repeats * math.log1p(self.fraction) + math.log1p(self.fraction * progress)
        return 0.0

    def _since(self, elapsed: float) -> float:
        since = elapsed - self.after
        return since % self.every if self.every and since > 0 else since


def _fraction(name: str, label: str, help: str, *, default: float, lowest: int = 0) -> Option:
    return Option(name, label, help, type=float, default=default, lowest=lowest, highest=1)


class Simulated(PlainProvider):
    """Prices made from the seed, the asset's name, the number of the step and the previous price, and nothing else.

    So the same rows come out whether the steps are asked for one by one or after a gap.
    """

    slug = "simulated"
    is_computed = True
    options = (
        Option("seed", "Seed", "Another number makes other prices.", type=int, default=1),
        Option(
            "start_prices",
            "First prices",
            'Of assets that do not begin at 100, like {"BTC-USD": 60000}.',
            type=dict,
            default={},
            must="map assets to prices",
            check=lambda prices: [_start_price(prices, external_id=external_id) for external_id in prices],
        ),
        Option(
            "step_seconds",
            "Step (seconds)",
            "Between two prices. Blank: the feed's interval.",
            type=int,
            lowest=1,
            highest=86_400,
        ),
        _fraction("volatility", "Volatility", "Of a step, as a fraction: 0.001 is 0.1 %.", default=0.0005),
        _fraction("drift", "Drift", "By how much prices rise in a step, as a fraction.", default=0, lowest=-1),
        _fraction("jump_probability", "Probability of a jump", "In a step: 0.01 is one in a hundred.", default=0),
        _fraction("jump_size", "Size of jumps", "Their standard deviation, as a fraction.", default=0.02),
        Option(
            "script",
            "Script",
            'Events, like [{"kind": "flash_crash", "after": "10m", "duration": "1m", "percent": 8}].',
            type=list,
            default=[],
            must="be a list of events",
            check=lambda script: _script(script),
            nested=[{"percent": float}],
        ),
    )

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options with their defaults; a step_seconds of None is the feed's interval.

        volatility, drift: per step, as fractions; script: a list of {kind, symbol, after, duration, every, percent},
        with durations like "10s" or "5m". Raises ProviderMisconfigured.
        """
        return read_options(options, self.options, slug=self.slug)

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return the steps after the feed's position up to the slot; the feed's first step has the start prices.

        No more than ROWS_AT_ONCE of them: as_of says how far they go.

        Raises ProviderUnavailable("outage") while the slot is inside an outage of all the assets asked for.
        """
        script = _script(request.options["script"])
        scripts = {
            external_id: [event for event in script if event.symbol in (None, external_id)]
            for external_id in request.external_ids
        }
        elapsed = (request.slot - request.began_at).total_seconds()
        if scripts and all(_is_out(events, elapsed=elapsed) for events in scripts.values()):
            raise ProviderUnavailable("outage")
        request = replace(request, slot=_until(request))
        quotes = [
            quote
            for external_id, events in scripts.items()
            for quote in _steps(request, external_id=external_id, events=events)
        ]
        return Answer(quotes=quotes, as_of=request.slot)


def _step(request: QuoteRequest) -> timedelta:
    return timedelta(seconds=request.options["step_seconds"] or request.interval_seconds)


def _until(request: QuoteRequest) -> datetime:
    """Return the slot, or the step before it at which the answer is large enough."""
    if request.position is None or not request.external_ids:
        return request.slot
    steps = max(ROWS_AT_ONCE // len(request.external_ids), 1)
    last = (request.position - request.began_at) // _step(request) + steps
    return min(request.slot, request.began_at + last * _step(request))


def _steps(request: QuoteRequest, *, external_id: str, events: Sequence[Event]) -> Iterator[RawQuote]:
    """Yield the asset's steps after the position up to the slot, oldest first, without those inside an outage."""
    step = _step(request)
    price = _start_price(request.options["start_prices"], external_id=external_id)
    first, known_at = 0, request.began_at
    if request.position is not None:
        first = (request.position - request.began_at) // step + 1
        known_at, price = request.latest.get(external_id, (request.position, price))
    known = (known_at - request.began_at).total_seconds()
    for number in range(first, (request.slot - request.began_at) // step + 1):
        elapsed = number * step.total_seconds()
        if _is_out(events, elapsed=elapsed):
            continue
        if number > 0:
            # From the newest price that was given, so that what is scripted for an outage is made up for after it.
            growth = sum(event.log_factor(elapsed) - event.log_factor(known) for event in events)
            growth += request.options["drift"]
            if not any(event.kind == "calm" and event.covers(elapsed) for event in events):
                growth += _noise(request.options, external_id=external_id, number=number)
            price = _rounded(float(price) * math.exp(min(growth, 700.0)))
        known = elapsed
        yield RawQuote(external_id, price, request.began_at + number * step)


def _noise(options: Mapping[str, Any], *, external_id: str, number: int) -> float:
    chance = random.Random(f"{options['seed']}/{external_id}/{number}")  # noqa: S311 (repeatable, not secret)
    volatility: float = options["volatility"]
    noise = volatility * chance.gauss() - volatility**2 / 2
    if chance.random() < options["jump_probability"]:
        noise += chance.choice((1, -1)) * math.log1p(options["jump_size"])
    return noise


def _rounded(price: float) -> Decimal:
    """Return a price that admission stores unchanged: a path goes on from what was stored."""
    exact = Decimal(min(max(price, LOWEST), HIGHEST))
    first = exact.adjusted()
    last = max(min(-DECIMALS, first - DECIMALS + 1), first - PRICE_DIGITS + 1, -PRICE_DECIMALS)
    return exact.quantize(Decimal(1).scaleb(last), context=WIDE)


def _is_out(events: Sequence[Event], *, elapsed: float) -> bool:
    return any(event.kind == "outage" and event.covers(elapsed) for event in events)


def _start_price(start_prices: Mapping[str, Any], *, external_id: str) -> Decimal:
    price = start_prices.get(external_id, START_PRICE)
    try:
        return _rounded(float(admit_price(str(price) if isinstance(price, float) else price)))
    except QuoteRejected as rejection:
        raise ProviderMisconfigured(f"start_prices: the price of {external_id!r} is {rejection.reason}") from None


def _script(script: Sequence[Any]) -> list[Event]:
    return [_event(entry, place=f"script event {number}") for number, entry in enumerate(script, start=1)]


def _event(entry: Any, *, place: str) -> Event:
    if not isinstance(entry, Mapping) or entry.get("kind") not in _KINDS:
        raise ProviderMisconfigured(f"{place}: kind must be one of {', '.join(_KINDS)}")
    kind = entry["kind"]
    highest_percent = _HIGHEST_PERCENT.get(kind)
    unknown = sorted(entry.keys() - {"kind", "symbol", "after", "duration", "every", "percent"})
    if unknown or ("percent" in entry and highest_percent is None):
        raise ProviderMisconfigured(f"{place}: {kind} has no {unknown[0] if unknown else 'percent'}")
    percent = entry.get("percent", 0)
    if highest_percent is not None and (type(percent) not in (int, float) or not 0 < percent <= highest_percent):
        raise ProviderMisconfigured(f"{place}: percent must be a number above 0, at most {highest_percent}")
    symbol = entry.get("symbol")
    if symbol is not None and not isinstance(symbol, str):
        raise ProviderMisconfigured(f"{place}: symbol must be an asset, or absent for all")
    after = _duration_seconds(entry.get("after"), name=f"{place}: after")
    duration = _duration_seconds(entry.get("duration"), name=f"{place}: duration")
    every = None if entry.get("every") is None else _duration_seconds(entry["every"], name=f"{place}: every")
    if duration == 0 or (every is not None and every < duration):
        raise ProviderMisconfigured(f"{place}: duration must be above 0s, and at most every")
    if kind == "outage" and after == 0:
        # The feed begins with its first answer, so such an outage would never begin to pass.
        raise ProviderMisconfigured(f"{place}: after of an outage must be above 0s")
    return Event(kind=kind, symbol=symbol, after=after, duration=duration, every=every, fraction=percent / 100)


def _duration_seconds(value: Any, *, name: str) -> int:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ProviderMisconfigured(f"{name} must be a duration like 10s, 5m, 2h or 1d")
    return int(match[1]) * _UNIT_SECONDS[match[2]]
