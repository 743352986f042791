"""The choice between the two sources of what runs at each quote: the compiled one where it has been built from the
source that is here, else pure.py. Both say the same of the same quotes; ENGINE=pure has pure.py in any case."""

import os
from hashlib import sha256
from pathlib import Path as FilePath
from typing import TYPE_CHECKING

SOURCE = FilePath(__file__).with_name("_compiled.c")

__all__ = ["IS_COMPILED", "Extreme", "Path", "Track", "compile_test", "evaluate_quotes"]

if TYPE_CHECKING:
    from apps.rules.engine.pure import Extreme, Path, Track, compile_test, evaluate_quotes

    IS_COMPILED: bool
else:
    try:
        from apps.rules.engine import _compiled as core

        # What was built from another source than the one that is here may mean something else.
        IS_COMPILED = os.environ.get("ENGINE") != "pure" and sha256(SOURCE.read_bytes()).hexdigest() == core.SOURCE
    except (ImportError, OSError):
        IS_COMPILED = False
    if not IS_COMPILED:
        from apps.rules.engine import pure as core
    Extreme, Path, Track = core.Extreme, core.Path, core.Track
    compile_test, evaluate_quotes = core.compile_test, core.evaluate_quotes
