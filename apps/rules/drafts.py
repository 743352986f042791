"""A rule as a form has it: values as people type them, some parts missing or wrong. Pure.

It is read into the written form, every part that is wrong is named at once, and what can be read is described.
"""

import re
from collections.abc import Mapping
from typing import Any

from apps.locales import STANDARD, Reader
from apps.rules.domain import describe_condition
from apps.rules.engine.conditions import DEPTH_MOST, read_condition
from apps.rules.engine.leaves.binding import LEVEL_HIGHEST, LEVEL_LOWEST
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid, read_duration, read_number
from apps.typed import read_typed_duration, read_typed_number, write_typed_number
from apps.wording import format_duration, format_number

# Stands for what cannot be read, in sentences and in documents: no parser takes it for a number or a duration.
UNREADABLE = "…"
NUMBERS = ("level", "low", "high", "percent", "by", "n", "recovery", "min_coverage")
DURATIONS = ("window", "after", "for", "keep_firing", "cooldown")
_WORDS = ("all", "any", "not")
_FAULTS_MOST = 100
_STEPS = re.compile(r"[^.\[\]]+")
# Replacements for wrong parts, so that the other parts are still checked. The edges are those of the widest band, since
# the other edge may be anywhere.
_RIGHT_LEAF = {"kind": "above", "level": "1"}
_RIGHT_PARAMETERS = {"level": "1", "low": str(LEVEL_LOWEST), "high": str(LEVEL_HIGHEST), "percent": "1", "n": "1"}
_RIGHT_PARAMETERS |= {"window": "5m", "after": "5m"}
RIGHT_PARTS: dict[str, Any] = {
    "assets": ["ANY"],
    "condition": _RIGHT_LEAF,
    "for": "0s",
    "keep_firing": "0s",
    "cooldown": "0s",
    "trigger": "edge",
    "expires_at": None,
    "enabled": True,
}


def read_draft(draft: Any) -> tuple[Any, dict[str, str]]:
    """Return a condition whose values are as people type them in the written form, and path -> why it cannot be read.

    What is blank is left out, and what cannot be read is UNREADABLE there. Nothing else is checked here.
    """
    unread: dict[str, str] = {}
    return _written(draft, "condition", unread, depth=1), unread


def _written(draft: Any, path: str, unread: dict[str, str], *, depth: int) -> Any:
    if not isinstance(draft, Mapping):
        return draft
    if depth > DEPTH_MOST:
        unread[path] = f"is nested more than {DEPTH_MOST} deep"
        return UNREADABLE
    word = next((word for word in _WORDS if word in draft), None)
    if word == "not":
        return {**draft, "not": _written(draft["not"], f"{path}.not", unread, depth=depth + 1)}
    if word is not None and isinstance(draft[word], list):
        members = [
            _written(member, f"{path}.{word}[{index}]", unread, depth=depth + 1)
            for index, member in enumerate(draft[word])
        ]
        return {**draft, word: members}
    document = {}
    for name, value in draft.items():
        if value is None or (isinstance(value, str) and not value.strip()):
            continue
        try:
            document[name] = read_typed(name, value, in_percent=not draft.get("by"))
        except ValueError as error:
            document[name], unread[f"{path}.{name}"] = UNREADABLE, str(error)
    return document


def read_typed(name: str, value: Any, *, in_percent: bool = True) -> Any:
    """Return a parameter in the written form; one that is no number and no duration as it is. Raises ValueError.

    in_percent: whether a recovery is a percent, like what it replaces.
    """
    if isinstance(value, str) and name in DURATIONS:
        return read_typed_duration(value)
    if isinstance(value, str) and name in NUMBERS:
        return read_typed_number(value, unit="%" if name == "percent" or (name == "recovery" and in_percent) else "")
    return value


def leaves_of_draft(document: Any) -> list[tuple[str, str, str]]:
    """Return the numbers and durations of a condition of the written form: (path within it, name, value)."""
    found: list[tuple[str, str, str]] = []

    def look(node: Any, path: str, depth: int) -> None:
        if not isinstance(node, Mapping) or depth > DEPTH_MOST:
            return
        for name, value in node.items():
            here = f"{path}.{name}" if path else name
            if name in ("all", "any"):
                for index, member in enumerate(_members(node, name)):
                    look(member, f"{here}[{index}]", depth + 1)
            elif name == "not":
                look(value, here, depth + 1)
            elif isinstance(value, str) and name in NUMBERS + DURATIONS:
                found.append((here, name, value))

    look(document, "", 1)
    return found


def describe_typed(name: str, value: str, *, reader: Reader = STANDARD) -> str:
    """Return a number or a duration of the written form as it was read: "5 minutes", "10 %"; "" where it was not."""
    try:
        if name in DURATIONS:
            return format_duration(read_duration(value, name))
        number = read_number(value, name, lowest=LEVEL_LOWEST, highest=LEVEL_HIGHEST)
    except RuleInvalid:
        return ""
    written = format_number(number, reader=reader)
    return f"{written} %" if name == "percent" else written


def show_draft(document: Any) -> Any:
    """Return a condition of the written form as a form shows it: its numbers are read as the same there."""
    if isinstance(document, Mapping):
        return {
            name: write_typed_number(value) if name in NUMBERS and isinstance(value, str) else show_draft(value)
            for name, value in document.items()
        }
    return [show_draft(member) for member in document] if isinstance(document, list) else document


def read_rule_draft(
    document: Mapping[str, Any], unread: Mapping[str, str]
) -> tuple[RuleSpec | None, list[RuleInvalid]]:
    """Return a rule of the written form, and every part of it that is wrong, the others taken for right.

    unread: path -> why what was typed there cannot be read. There is a rule only where nothing is wrong.
    """
    faults: list[RuleInvalid] = []
    spec: RuleSpec | None = None
    while spec is None and len(faults) < _FAULTS_MOST:
        try:
            spec = RuleSpec.read(document)
        except RuleInvalid as error:
            steps = _STEPS.findall(error.path)
            message = unread.get(error.path) or ("is missing" if _is_missing(document, steps) else error.message)
            faults.append(RuleInvalid(error.path, message))
            repaired = _repaired_part(document, steps)
            if repaired == document:
                break
            document = repaired
    named = {fault.path for fault in faults}
    faults += [RuleInvalid(path, message) for path, message in unread.items() if path not in named]
    return None if faults else spec, faults


def _is_missing(document: Any, steps: list[str]) -> bool:
    """Tell whether a parameter that must be there is not."""
    for step in steps[:-1]:
        document = _child(document, step)
    return steps[-1] in _RIGHT_PARAMETERS and isinstance(document, Mapping) and steps[-1] not in document


def _child(node: Any, step: str) -> Any:
    """Return what is at a step of a path; None where nothing is, as by a name with a point in it."""
    if isinstance(node, Mapping):
        return node.get(step)
    return node[int(step)] if isinstance(node, list) and step.isdecimal() and int(step) < len(node) else None


def _repaired_part(document: Mapping[str, Any], steps: list[str]) -> dict[str, Any]:
    key, *rest = steps
    if key == "condition":
        return {**document, key: _repaired(document.get(key), rest)}
    if key in RIGHT_PARTS:
        return {**document, key: RIGHT_PARTS[key]}
    return {name: value for name, value in document.items() if name != key}


def _repaired(node: Any, steps: list[str]) -> Any:
    """Return a condition in which what is at these steps is right."""
    if not steps or not isinstance(node, Mapping) or steps[0] == "kind":
        return _RIGHT_LEAF
    step, *rest = steps
    if step == "not" and step in node:
        return {**node, step: _repaired(node[step], rest)}
    if step in _WORDS and step in node:
        if not rest or not isinstance(node[step], list):
            return _RIGHT_LEAF
        members = enumerate(node[step])
        return {**node, step: [_repaired(one, rest[1:]) if str(index) == rest[0] else one for index, one in members]}
    # A recovery cannot be checked once the limit that it is compared with is wrong.
    dropped = {step, "recovery"} if step in ("level", "percent", "by") else {step}
    kept = {name: value for name, value in node.items() if name not in dropped}
    if step == "by" and "percent" not in node:
        return kept | {"by": "1"}
    return kept | ({step: _RIGHT_PARAMETERS[step]} if step in _RIGHT_PARAMETERS else {})


def describe_draft(document: Any, *, reader: Reader = STANDARD) -> str:
    """Return what a condition of the written form says, with UNREADABLE for what cannot be read: "is above 1 and …"."""
    return _describe(document, depth=1, reader=reader)


def _describe(node: Any, *, depth: int, reader: Reader) -> str:
    if not isinstance(node, Mapping) or depth > DEPTH_MOST:
        return UNREADABLE
    if "not" in node:
        return f"not ({_describe(node['not'], depth=depth + 1, reader=reader)})"
    word = next((word for word in _WORDS if word in node), None)
    if word is None:
        try:
            return describe_condition(read_condition(node), reader=reader)
        except RuleInvalid:
            return UNREADABLE
    texts = [_grouped(member, depth=depth + 1, reader=reader) for member in _members(node, word)]
    return (" and " if word == "all" else " or ").join(texts) or UNREADABLE


def _grouped(node: Any, *, depth: int, reader: Reader) -> str:
    text = _describe(node, depth=depth, reader=reader)
    return f"({text})" if any(len(_members(node, word)) > 1 for word in ("all", "any")) else text


def _members(node: Any, word: str) -> list[Any]:
    members = node.get(word) if isinstance(node, Mapping) else None
    return members if isinstance(members, list) else []
