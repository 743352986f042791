"""The options of providers. Each provider declares its own; checks, set-up files and the form of a feed read that."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from apps.sources.providers.protocol import ProviderMisconfigured


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a provider.

    type: str, int or float, dict of a mapping, list of a list; default: None where it may be left out without one;
    lowest, highest: of a number, both allowed; choices: all that it may be; pattern: of the whole of a text; must: what
    it must be or do, as words after "must", where type, bounds and choices do not say it; check: raises
    ProviderMisconfigured for what is wrong beyond those; nested: the form of a mapping or a list that has numbers,
    with int or float in their places, like [{"percent": float}].
    """

    name: str
    label: str
    help: str
    type: type = str
    default: Any = None
    lowest: float | None = None
    highest: float | None = None
    choices: Sequence[str] = ()
    pattern: str = ""
    must: str = ""
    is_required: bool = False
    check: Callable[[Any], object] | None = None
    nested: Any = None

    @property
    def number_type(self) -> Any:
        """Return int or float of a number, `nested` of a mapping or a list, None of a text."""
        return self.type if self.type in (int, float) else self.nested

    def fault_of(self, value: Any) -> str:
        """Return what is wrong with a value, as a sentence that names the option, or ""."""
        if value is None and self.default is None and not self.is_required:
            return ""
        if not self._is_right(value):
            return f"{self.name} must {self.must or self._describe()}"
        try:
            if self.check is not None:
                self.check(value)
        except ProviderMisconfigured as error:
            return str(error)
        return ""

    def _is_right(self, value: Any) -> bool:
        if self.choices:
            return isinstance(value, str) and value in self.choices
        if self.type in (dict, list):
            return isinstance(value, Mapping if self.type is dict else list | tuple)
        if self.type is str:
            is_text = isinstance(value, str) and bool(value or not self.is_required)
            return is_text and (not self.pattern or re.fullmatch(self.pattern, value) is not None)
        if isinstance(value, bool) or not isinstance(value, int if self.type is int else int | float):
            return False
        # Not a number is within no bounds.
        return (self.lowest is None or value >= self.lowest) and (self.highest is None or value <= self.highest)

    def _describe(self) -> str:
        if self.choices:
            return f"be {' or '.join(self.choices)}"
        if self.type in (int, float):
            noun = "a whole number" if self.type is int else "a number"
            return f"be {noun}" if self.lowest is None else f"be {noun} from {self.lowest} to {self.highest}"
        return f"be a {'text' if self.type is str else 'mapping' if self.type is dict else 'list'}"


def read_options(options: Mapping[str, Any], declared: Sequence[Option], *, slug: str) -> dict[str, Any]:
    """Return the options with the defaults of those that are left out. Raises ProviderMisconfigured, with all that is
    wrong."""
    known = {one.name: one for one in declared}
    faults = {
        name: f"{slug} knows no option {name!r}; it knows {', '.join(known) or 'none'}"
        for name in sorted(options.keys() - known.keys())
    }
    complete = {name: options.get(name, one.default) for name, one in known.items()}
    faults |= {name: fault for name, value in complete.items() if (fault := known[name].fault_of(value))}
    if faults:
        raise ProviderMisconfigured(faults=faults)
    return complete
