"""Batches of names of which a provider refuses some: these are found by halving, and cost no other. Pure."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import log2
from zlib import crc32

from apps.market.domain import RawQuote
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable

# What a provider may say of a whole call because of one name in it.
REASONS_OF_A_NAME = ("unknown_symbol", "http_400", "http_404")

FetchBatch = Callable[[Sequence[str]], Sequence[RawQuote]]


@dataclass(slots=True)
class Gathered:
    """The result of all calls of one round.

    refused: name -> why the provider refused it; extra_calls: the number of calls beyond one for each batch.
    """

    quotes: list[RawQuote] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    extra_calls: int = 0

    @property
    def has_prices(self) -> bool:
        """Tell whether the provider gave a price for any name."""
        return any(quote.price is not None for quote in self.quotes)


def gather(batches: Iterable[Sequence[str]], *, fetch_batch: FetchBatch, seed: int) -> Gathered:
    """Return what the provider gives for these batches, a call for each, and more calls where one is refused.

    seed: another one searches in another order, so that a round that found no price is not repeated as it was. Raises
    what `fetch_batch` raises, and ProviderRejected where calls are refused and no name has a price.
    """
    gathered = Gathered()
    reasons = []
    for batch in batches:
        if not (reason := _ask(gathered, batch, fetch_batch)):
            continue
        reasons.append(reason)
        if len(batch) > 1:
            names = sorted(batch, key=lambda name: crc32(f"{seed} {name}".encode()))
            _search(gathered, names, fetch_batch)
    if reasons and not gathered.has_prices:
        raise ProviderRejected(reasons[0], extra_calls=gathered.extra_calls)
    return gathered


def _ask(gathered: Gathered, names: Sequence[str], fetch_batch: FetchBatch) -> str:
    """Make one call and keep what it gives. Return the reason where it is refused because of a name, else ""."""
    try:
        gathered.quotes += fetch_batch(names)
    except ProviderRejected as rejection:
        if rejection.reason not in REASONS_OF_A_NAME:
            raise
        if len(names) == 1:
            gathered.refused[names[0]] = rejection.reason
        return rejection.reason
    return ""


def _search(gathered: Gathered, names: Sequence[str], fetch_batch: FetchBatch) -> None:
    """Find a refused name among these, which were refused together, in at most 2·log2(n) calls, and keep what the calls
    give.

    What is left of the calls finds further ones; what is not asked for in the end has no quote in this round.
    """
    calls_left = int(2 * log2(len(names)))
    groups = [names]
    while groups:
        group = groups.pop()
        first, second = group[: len(group) // 2], group[len(group) // 2 :]
        suspects = []
        for half in (first, second):
            if half is second and not suspects and len(second) > 1:
                # The first half is answered, so the refused name is in this one.
                suspects.append(second)
                continue
            if not calls_left:
                return
            calls_left -= 1
            gathered.extra_calls += 1
            try:
                is_refused = bool(_ask(gathered, half, fetch_batch))
            except ProviderUnavailable as error:
                # The time is over. What was found by then is kept, else each round would end like this one.
                if error.reason == "timeout" and gathered.has_prices:
                    return
                raise
            if is_refused:
                suspects.append(half)
        groups += reversed([half for half in suspects if len(half) > 1])
