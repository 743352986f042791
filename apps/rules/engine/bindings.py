"""Conditions bound to the windows of assets, each once for all assets that can share it."""

from typing import Any, NoReturn

from apps.rules.engine.instance import Instance
from apps.rules.engine.leaves.binding import Bound
from apps.rules.engine.series import Evaluating
from apps.rules.engine.windows import WindowKey


class Bindings:
    """What assets share: their rules' bound conditions, and what the hot loop reads of each instance."""

    def __init__(self) -> None:
        # (version id, the keys of the series), and (version id, places of its windows), which is the same for more.
        self._bound: dict[tuple[Any, ...], Bound] = {}
        self._evaluating: dict[Evaluating, Evaluating] = {}

    def bound(self, instance: Instance, keys: tuple[WindowKey, ...]) -> Bound:
        """Return the condition bound to the places of these windows: one for all assets whose windows stand alike."""
        if instance.spec is None:
            return instance.bound
        bound = self._bound.get((instance.version_id, keys))
        if bound is None:
            places = {key: index for index, key in enumerate(keys)}
            its_own = (instance.version_id, *(places[key] for key in instance.spec.window_keys))
            if its_own not in self._bound:
                self._bound[its_own] = instance.spec.condition.bind(places)
            bound = self._bound[instance.version_id, keys] = self._bound[its_own]
        return bound

    def evaluating(self, instance: Instance) -> Evaluating:
        """Return what the hot loop reads of it: the same few tuples for all assets, for the processor's cache."""
        evaluating = (instance.bound.test, *instance.mode)
        return self._evaluating.setdefault(evaluating, evaluating)


def raising(error: Exception) -> Bound:
    """Return the binding of a condition that cannot be read: evaluating it raises this error."""

    def fail(*_: Any) -> NoReturn:
        raise error

    return Bound(fail, fail)
