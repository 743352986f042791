"""A condition on one asset, outside of the engine: what it says of the last of some quotes."""

from apps.rules.engine.conditions import read_condition
from apps.rules.engine.leaves.binding import result_of
from apps.rules.engine.windows import new_window

SECOND = 1_000_000
ONE = 10**18
START = 1_678_500_000 * SECOND  # on every grid up to an hour


class Watched:
    """A condition on one asset, after these (seconds, price)."""

    def __init__(self, condition, quotes):
        read = read_condition(condition)
        keys = read.window_keys()
        self.windows = [new_window(key) for key in keys]
        for seconds, price in quotes:
            for window in self.windows:
                window.push(START + round(seconds * SECOND), price)
        self.bound = read.bind({key: index for index, key in enumerate(keys)})
        self.price = quotes[-1][1]

    def verdict(self, *, firing=False):
        """Return True or False, or None where it is UNKNOWN."""
        return result_of(self.bound.test(self.price, self.windows, firing))

    def explain(self):
        return self.bound.explain(self.price, self.windows, False)

    def why_unknown(self):
        """Return why it is UNKNOWN, or None where it is not."""
        found = self.bound.test(self.price, self.windows, False)
        return None if isinstance(found, bool) else found


def verdict(condition, quotes, *, firing=False):
    """Return what the condition says of the last of these (seconds, price)."""
    return Watched(condition, quotes).verdict(firing=firing)
