"""Build apps/rules/engine/_compiled.c for the Python that runs this, beside its source. Without a C compiler, Python's
headers or 64 bits the engine runs in Python, which is slower and says the same; --required: then this fails."""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
from hashlib import sha256
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "apps/rules/engine/_compiled.c"
BUILT = SOURCE.with_name("_compiled" + sysconfig.get_config_var("EXT_SUFFIX"))


def build() -> str:
    """Build it, and return "", or why that is not possible."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    headers = Path(sysconfig.get_path("include"))
    if not compiler or not shutil.which(compiler):
        return "no C compiler is here"
    if not (headers / "Python.h").exists():
        return f"Python.h is not in {headers}"
    # What is imported now goes on with the file that it has.
    new = BUILT.with_suffix(f".{os.getpid()}")
    source = sha256(SOURCE.read_bytes()).hexdigest()
    command = [
        compiler,
        "-O2",
        "-fwrapv",
        "-fno-strict-aliasing",
        "-shared",
        "-fPIC",
        f'-DSOURCE="{source}"',
        f"-I{headers}",
        "-o",
        str(new),
        str(SOURCE),
    ]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        return f"{compiler} failed: {(made.stderr.splitlines() or [''])[0]}"
    new.replace(BUILT)
    return ""


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--required", action="store_true", help="fail where it cannot be built")
    arguments.add_argument("--stamp", type=Path, help="a file to touch once it is built")
    wanted = arguments.parse_args()
    why_not = build()
    print(f"engine: it runs in Python, since {why_not}" if why_not else "engine: compiled")
    if wanted.stamp and not why_not:
        wanted.stamp.touch()
    sys.exit(1 if why_not and wanted.required else 0)
