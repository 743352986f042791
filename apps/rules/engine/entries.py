"""The entries of a feed's log as the engine reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from apps.market.domain import Switch
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid

# (asset id, time in microseconds, price in 1e-18)
EvaluatedQuote = tuple[int, int, int]
# (asset id, time in microseconds) -> the change of provider with that quote.
Switches = Mapping[tuple[int, int], Switch]


@dataclass(frozen=True, slots=True)
class RuleChange:
    """In this feed, from here on, `rule_id` is evaluated as `version_id` on `asset_ids`; no assets: not at all.

    Instances of the same version on assets that stay chosen go on undisturbed. spec: what the version says, or why
    it cannot be read (its instances are in ERROR from the start). calendars: asset id -> the one by which its time
    is measured from here on; what is absent is always open. A rule that measures no time says nothing of them.
    resumes: its owner has checked its levels, so paused instances of this version begin anew.
    """

    rule_id: int
    version_id: int | None
    spec: RuleSpec | RuleInvalid | None
    asset_ids: Sequence[int]
    calendars: Mapping[int, str] = field(default_factory=dict)
    resumes: bool = False


@dataclass(frozen=True, slots=True)
class QuotesEntry:
    """Quotes of one entry, in the order in which they are evaluated; it may be empty (then only the clock moves).

    switched: (asset id, time) of quotes that come from another provider than the asset's quote before -> the change.
    """

    seq: int
    as_of: int
    quotes: Sequence[EvaluatedQuote]
    switched: Switches = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RulesEntry:
    """A change of rules at its place in the log."""

    seq: int
    as_of: int
    changes: Sequence[RuleChange]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """The past of these assets is another one from here on, by quotes that were added to it or corrected: the newest
    quote is what is stored now, the windows are filled anew, nothing opens or resolves."""

    seq: int
    as_of: int
    asset_ids: Sequence[int]


@dataclass(frozen=True, slots=True)
class SplitEntry:
    """An asset was split, effective at a time in microseconds: its past is read anew, with other prices. ratio: as
    people write it, like 20:1."""

    seq: int
    as_of: int
    asset_id: int
    effective_at: int
    ratio: str


Entry = QuotesEntry | RulesEntry | HistoryEntry | SplitEntry
