"""What the form of a new rule can begin with."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RuleTemplate:
    """A rule that is filled in but for its assets. about: what it finds."""

    title: str
    about: str
    fields: dict[str, Any]


TEMPLATES = {
    "sudden-rise": RuleTemplate(
        "Sudden rise",
        "10 % or more within 5 minutes",
        {"kind": "rises", "percent": "10", "window": "5m", "recovery": "5", "cooldown": "30m"},
    ),
    "off-its-peg": RuleTemplate(
        "Off its peg",
        "a stablecoin outside 0.99 to 1.01 for 5 minutes",
        {"kind": "outside", "low": "0.99", "high": "1.01", "pending": "5m"},
    ),
    "below-its-average": RuleTemplate(
        "Below its average",
        "under the average of 30 days",
        {"kind": "below_average", "percent": "0", "window": "30d", "keep_firing": "1h"},
    ),
    "frozen-feed": RuleTemplate(
        "Frozen feed",
        "no price for 15 minutes, or the same one for an hour",
        {
            "kind": "combined",
            "written": "any:\n- {kind: stale, after: 15m}\n- {kind: unchanged, after: 1h}\n",
            "severity": "critical",
        },
    ),
}


def begin_with(slug: str) -> dict[str, Any]:
    """Return what the form of a rule begins with; nothing for a template that there is not."""
    template = TEMPLATES.get(slug)
    return {} if template is None else {"name": template.title, **template.fields}
