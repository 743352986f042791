"""The state machine of one (rule, asset): INACTIVE, PENDING, FIRING, RECOVERING, the two that end it, and PAUSED."""

from dataclasses import dataclass, field
from typing import Any

from apps.rules.engine.codes import Reason, Unknown
from apps.rules.engine.leaves.binding import Bound
from apps.rules.engine.pure import FOREVER
from apps.rules.engine.rule import RuleSpec

INACTIVE, PENDING, FIRING, RECOVERING, ENDED, ERROR = "inactive", "pending", "firing", "recovering", "ended", "error"
PAUSED = "paused"
STATES = (INACTIVE, PENDING, FIRING, RECOVERING, ENDED, PAUSED, ERROR)
OPEN = (FIRING, RECOVERING)
_NEVER_QUIET = object()


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an instance. moment: microseconds since 1970; reason: one of Reason; evidence: what the condition
    saw, or None; detail: what was raised, where the step is to ERROR, or the ratio of a split."""

    rule_id: int
    version_id: int
    asset_id: int
    from_state: str
    to_state: str
    moment: int
    reason: str
    suppressed: bool
    evidence: dict[str, Any] | None = None
    detail: str = ""

    @property
    def opens(self) -> bool:
        """An episode begins that is to be told."""
        return self.to_state == FIRING and self.from_state not in OPEN and not self.suppressed

    @property
    def resolves(self) -> bool:
        """An episode that was told is over, also by ERROR."""
        return self.from_state in OPEN and self.to_state not in OPEN and not self.suppressed


@dataclass(frozen=True, slots=True)
class InstanceStatus:
    """One instance as it stands.

    since, opened_at: microseconds since 1970, -FOREVER where there was none; reason: of its last step; detail: what was
    raised there; unknown: why it can be evaluated neither way, or None; evidence: its operands at the newest quote, or
    None before one.
    """

    version_id: int
    state: str
    since: int
    opened_at: int
    suppressed: bool
    reason: str
    detail: str
    unknown: str | None
    evidence: dict[str, Any] | None


class Instance:
    """One rule on one asset.

    since: when the state was entered; moment: of the last transition; opened_at: of the last opening that was
    not suppressed (the cooldown counts from it); firing: an episode lasts, so `recovery` is in force; unknown: why
    the last evaluation was UNKNOWN, or None; reason, detail: of the last transition; began_at: the time of the newest
    quote when the rule was put on the asset, else of the first that came, or None before one; mode: (firing, quiet),
    where quiet is the verdict that changes nothing; is_event: it is evaluated at quotes only, and what opens is over at
    once.
    """

    __slots__ = (
        "asset_id",
        "began_at",
        "bound",
        "deadline",
        "detail",
        "is_event",
        "mode",
        "moment",
        "opened_at",
        "reason",
        "rule_id",
        "since",
        "spec",
        "state",
        "suppressed",
        "unknown",
        "version_id",
    )

    bound: Bound

    def __init__(self, rule_id: int, version_id: int, asset_id: int, spec: RuleSpec | None) -> None:
        self.rule_id = rule_id
        self.version_id = version_id
        self.asset_id = asset_id
        self.spec = spec
        self.deadline = spec.expires_at if spec and spec.expires_at is not None else FOREVER
        self.is_event = spec is not None and spec.is_event
        self.state = INACTIVE
        self.since = self.moment = self.opened_at = -FOREVER
        self.suppressed = False
        self.reason = self.detail = ""
        self.unknown: Unknown | None = Unknown.NOT_EVALUATED
        self.began_at: int | None = None
        self.settle()

    def settle(self) -> None:
        """Work out, after a change, whether an episode lasts and which verdict would change nothing from here."""
        quiet: Any = _NEVER_QUIET
        if self.unknown is not None:
            quiet = self.unknown
        elif self.state == INACTIVE:
            quiet = False
        elif self.state == FIRING:
            quiet = True
        self.mode = (self.state in OPEN, quiet)

    @property
    def is_live(self) -> bool:
        """It is still evaluated."""
        return self.state not in (ENDED, ERROR, PAUSED)

    def step(self, verdict: bool, moment: int) -> list[tuple[str, str, str, bool]]:
        """Take one evaluation and return the transitions made: (from, to, reason, suppressed).

        `moment` is at or after that of the last transition. UNKNOWN keeps the state, and is no step.
        """
        spec = self.spec
        assert spec is not None
        made: list[tuple[str, str, str, bool]] = []
        if self.state == INACTIVE and verdict:
            if spec.pending:
                self._move(PENDING, Reason.BECAME_TRUE, moment, made)
            else:
                self._fire(Reason.BECAME_TRUE, moment, made)
        elif self.state == PENDING:
            if not verdict:
                self._move(INACTIVE, Reason.BECAME_FALSE, moment, made)
            elif moment - self.since >= spec.pending:
                self._fire(Reason.HELD_LONG_ENOUGH, moment, made)
        elif self.state == FIRING and not verdict:
            if spec.keep_firing:
                self._move(RECOVERING, Reason.BECAME_FALSE, moment, made)
            else:
                self._move(INACTIVE, Reason.RECOVERED, moment, made)
        elif self.state == RECOVERING:
            if verdict:
                self._move(FIRING, Reason.BECAME_TRUE, moment, made)
            elif moment - self.since >= spec.keep_firing:
                self._move(INACTIVE, Reason.RECOVERED, moment, made)
        return made

    def end(self, state: str, reason: str, moment: int, *, detail: str = "") -> list[tuple[str, str, str, bool]]:
        """End the instance, or its episode, from whatever state it is in. detail: what was raised, or the ratio of a
        split."""
        made: list[tuple[str, str, str, bool]] = []
        self._move(state, reason, moment, made)
        self.detail = detail
        return made

    def _fire(self, reason: str, moment: int, made: list[tuple[str, str, str, bool]]) -> None:
        assert self.spec is not None
        self.suppressed = moment - self.opened_at < self.spec.cooldown
        if not self.suppressed:
            self.opened_at = moment
        self._move(FIRING, reason, moment, made)
        if self.spec.once:
            self._move(ENDED, Reason.ONCE, moment, made)
        elif self.is_event:
            self._move(INACTIVE, Reason.EVENT, moment, made)

    def _move(self, state: str, reason: str, moment: int, made: list[tuple[str, str, str, bool]]) -> None:
        made.append((self.state, state, reason, self.suppressed))
        self.state = state
        self.reason = reason
        self.detail = ""
        self.since = self.moment = moment
        if state in (INACTIVE, ENDED, ERROR, PAUSED):
            self.suppressed = False

    def status(self, evidence: dict[str, Any] | None) -> InstanceStatus:
        """Return how it stands, with this evidence."""
        return InstanceStatus(
            self.version_id,
            self.state,
            self.since,
            self.opened_at,
            self.suppressed,
            self.reason,
            self.detail,
            self.unknown,
            evidence,
        )

    def dump(self) -> list[Any]:
        """Return what `load` needs, as plain data."""
        why = [self.reason, self.detail, self.unknown, self.began_at]
        return [self.state, self.since, self.moment, self.opened_at, self.suppressed, *why]

    def load(self, state: list[Any]) -> None:
        """Become what was dumped."""
        self.state, self.since, self.moment, self.opened_at, self.suppressed, *why = state
        self.reason, self.detail, unknown, self.began_at = why
        self.unknown = None if unknown is None else Unknown(unknown)
        self.settle()


@dataclass(slots=True)
class Evaluation:
    """The changes that one entry made: transitions in their order, and instances whose visible state is another now."""

    transitions: list[Transition] = field(default_factory=list)
    touched: dict[tuple[int, int], Instance] = field(default_factory=dict)
