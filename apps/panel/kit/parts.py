"""Blocks of pages that say in words how something is."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

LINK = '<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>'


@dataclass(frozen=True, slots=True)
class Part:
    """A block of the page: sentences, the first of which sums up, and rows below them. mood: good, bad or plain."""

    title: str
    sentences: Sequence[Any]
    mood: str = "plain"
    headers: Sequence[str] = ()
    rows: Sequence[Sequence[Any]] = field(default_factory=list)

    def table(self) -> dict[str, Any]:
        """Return the rows as Unfold's component reads them."""
        return {"headers": self.headers, "rows": self.rows}
