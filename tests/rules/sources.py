"""The two sources of what runs at each quote: compiled and pure."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from apps.rules.engine import core, pure

NAMES = ("Extreme", "Path", "compile_test", "evaluate_quotes")


@contextmanager
def running(source: str) -> Iterator[None]:
    """Have windows, tests and the loop of this source: "compiled" or "pure"."""
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES if source == "pure" else ():
            patch.setattr(core, name, getattr(pure, name))
        yield


needs_compiled = pytest.mark.skipif(not core.IS_COMPILED, reason="the engine is not compiled here")
BOTH = [pytest.param("compiled", marks=needs_compiled), "pure"]
