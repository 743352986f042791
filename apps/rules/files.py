"""Rules in YAML files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.yaml_files import FileInvalid, read_yaml

# What a rule has beside its meaning.
ORNAMENTS = ("name", "severity", "channels")


@dataclass(frozen=True, slots=True)
class WrittenRule:
    """A rule that stands in a file."""

    name: str
    spec: RuleSpec


def read_rule(data: Any) -> WrittenRule:
    """Return the rule that a mapping writes down, in the form of the set-up file. Raises RuleInvalid."""
    if not isinstance(data, dict):
        raise RuleInvalid("rule", "must be a mapping like {assets: [BTC-USD], condition: {kind: above, level: 100}}")
    name = data.get("name", "")
    if not isinstance(name, str):
        raise RuleInvalid("name", "must be a text")
    return WrittenRule(name, RuleSpec.read({key: value for key, value in data.items() if key not in ORNAMENTS}))


def read_rule_file(path: Path) -> WrittenRule:
    """Return the one rule of a file: a mapping, a list of one, or a section `rules` of one. Raises FileInvalid."""
    data = read_yaml(path)
    if isinstance(data, dict) and "rules" in data:
        data = data["rules"]
    if isinstance(data, list):
        if len(data) != 1:
            raise FileInvalid(f"{path.name} has {len(data)} rules; one is tried at a time")
        data = data[0]
    try:
        return read_rule(data)
    except RuleInvalid as error:
        raise FileInvalid(f"{path.name}: {error}") from None
