"""The compiled engine: what set-up says where it cannot be built, and when it is not used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rules.sources import needs_compiled

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments, **variables):
    environment = {name: value for name, value in os.environ.items() if name != "ENGINE"} | variables
    return subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("compiler", "why"), [("/absent/cc", "no C compiler is here"), ("/bin/false", "/bin/false failed: ")]
)
def test_where_it_cannot_be_built_one_line_says_why_and_only_who_requires_it_fails(tmp_path, compiler, why):
    stamp = tmp_path / "stamp"
    for options, status in ((["--stamp", stamp], 0), (["--required"], 1)):
        done = run("compose/compile_engine.py", *options, CC=compiler)
        assert (done.returncode, done.stdout, done.stderr) == (status, f"engine: it runs in Python, since {why}\n", "")
    assert not stamp.exists()


@needs_compiled
@pytest.mark.parametrize(
    ("before", "variables", "is_compiled"),
    [
        ("", {}, True),
        ("", {"ENGINE": "pure"}, False),
        ("from apps.rules.engine import _compiled; _compiled.SOURCE = 'of another source'; ", {}, False),
        ("import sys; sys.modules['apps.rules.engine._compiled'] = None; ", {}, False),
    ],
    ids=["built", "ENGINE=pure", "built from another source", "not built"],
)
def test_it_is_used_where_it_was_built_from_the_source_that_is_here(before, variables, is_compiled):
    program = f"{before}from apps.rules.engine import core; print(core.IS_COMPILED, core.Path.__module__)"
    module = "apps.rules.engine._compiled" if is_compiled else "apps.rules.engine.pure"

    assert run("-c", program, **variables).stdout.split() == [str(is_compiled), module]
