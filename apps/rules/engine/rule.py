"""A rule as the engine evaluates it: everything whose change makes a new version, read from the written form."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

from apps.notation import write_duration
from apps.rules.engine.conditions import Condition, is_clocked, is_event, read_condition
from apps.rules.engine.windows import WindowKey
from apps.rules.engine.written import RuleInvalid, read_duration, refuse_unknown_keys, write_moment

TRIGGERS = ("edge", "once")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_KEYS = {"assets", "condition", "for", "keep_firing", "trigger", "cooldown", "expires_at", "enabled"}


@dataclass(frozen=True, slots=True)
class Assets:
    """Which assets a rule watches: symbols, or a tag, or the whole of a feed (by name); exactly one of them."""

    symbols: tuple[str, ...] = ()
    tag: str | None = None
    feed: str | None = None

    @classmethod
    def read(cls, data: Any) -> "Assets":
        """Return the selector from a list of symbols, {tag: …} or {feed: …}. Raises RuleInvalid."""
        if isinstance(data, list | tuple) and data:
            for index, symbol in enumerate(data):
                if not _is_name(symbol):
                    raise RuleInvalid(f"assets[{index}]", "is not a symbol")
            return cls(symbols=tuple(dict.fromkeys(data)))
        if isinstance(data, Mapping) and len(data) == 1:
            (key, value), *_ = data.items()
            if key in ("tag", "feed") and _is_name(value):
                return cls(tag=value) if key == "tag" else cls(feed=value)
        raise RuleInvalid("assets", "must be a list of symbols, or {tag: NAME}, or {feed: NAME}")

    def document(self) -> Any:
        """Return the written form."""
        if self.symbols:
            return list(self.symbols)
        return {"tag": self.tag} if self.tag else {"feed": self.feed}


@dataclass(frozen=True)
class RuleSpec:
    """One immutable version of a rule. Durations are microseconds, `expires_at` microseconds since 1970 or None.

    What follows from the condition is worked out once, since a rule may be on thousands of assets.
    """

    assets: Assets
    condition: Condition
    pending: int = 0  # `for` in the written form
    keep_firing: int = 0
    once: bool = False
    cooldown: int = 0
    expires_at: int | None = None
    enabled: bool = True

    @classmethod
    def read(cls, data: Any) -> "RuleSpec":
        """Return the rule that `data` writes down. Raises RuleInvalid, which names the path."""
        if not isinstance(data, Mapping):
            raise RuleInvalid("rule", "must be a mapping")
        refuse_unknown_keys(data, _KEYS, "")
        trigger = data.get("trigger", "edge")
        if trigger not in TRIGGERS:
            raise RuleInvalid("trigger", f"must be one of {', '.join(TRIGGERS)}")
        enabled = data.get("enabled", True)
        if not isinstance(enabled, bool):
            raise RuleInvalid("enabled", "must be true or false")
        assets = Assets.read(data.get("assets"))
        condition = read_condition(data.get("condition"))
        for key in ("for", "keep_firing"):
            if is_event(condition) and read_duration(data.get(key, 0), key):
                raise RuleInvalid(key, "has no place with an event, which is over at once; leave it out")
        return cls(
            assets=assets,
            condition=condition,
            pending=read_duration(data.get("for", 0), "for"),
            keep_firing=read_duration(data.get("keep_firing", 0), "keep_firing"),
            once=trigger == "once",
            cooldown=read_duration(data.get("cooldown", 0), "cooldown"),
            expires_at=_read_moment(data.get("expires_at"), "expires_at"),
            enabled=enabled,
        )

    @cached_property
    def window_keys(self) -> tuple[WindowKey, ...]:
        """Return what its condition needs of the past, each key once."""
        return tuple(self.condition.window_keys())

    @cached_property
    def is_event(self) -> bool:
        """Tell whether its condition is true at one quote only."""
        return is_event(self.condition)

    @cached_property
    def is_clocked(self) -> bool:
        """Tell whether its condition changes with the clock too, not with quotes only."""
        return is_clocked(self.condition)

    def document(self) -> dict[str, Any]:
        """Return the written form, whole and always the same for the same meaning."""
        return {
            "assets": self.assets.document(),
            "condition": self.condition.document(),
            "for": write_duration(self.pending),
            "keep_firing": write_duration(self.keep_firing),
            "trigger": "once" if self.once else "edge",
            "cooldown": write_duration(self.cooldown),
            "expires_at": None if self.expires_at is None else write_moment(self.expires_at),
            "enabled": self.enabled,
        }


def _read_moment(value: Any, path: str) -> int | None:
    if value is None:
        return None
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
        # OverflowError: in UTC it is outside the years 1 to 9999.
        in_utc = moment.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        raise RuleInvalid(path, "is not a time; write it like 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        raise RuleInvalid(path, "has no time zone; write it like 2026-01-31T12:00:00Z")
    return (in_utc - _EPOCH) // timedelta(microseconds=1)


def _is_name(value: Any) -> bool:
    """Tell whether it may be a symbol, a tag or a feed; no database takes NUL or half a character."""
    return isinstance(value, str) and 0 < len(value) <= 64 and value.isprintable()
