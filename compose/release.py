"""`make release VERSION=1.2.3`: the section of the changelog, the version in pyproject.toml, a commit and its tag.

Exit status 0; 1 with what is wrong, and nothing changed.
"""

import re
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

CHANGELOG, PROJECT = Path("CHANGELOG.md"), Path("pyproject.toml")
HEADING = "## [Unreleased]\n"


class Refused(Exception):
    """What is wrong, and what to do."""


def numbers_of(version: str) -> tuple[int, ...]:
    """Return the three numbers of a version. Raises Refused."""
    if not re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version):
        raise Refused(f"'{version}' is no version like 1.2.3: make release VERSION=1.2.3")
    return tuple(map(int, version.split(".")))


def released_changelog(text: str, *, version: str, on: date) -> str:
    """Return the changelog with what was unreleased under a heading of the version. Raises Refused."""
    before, heading, rest = text.partition(HEADING)
    if not heading:
        raise Refused(f"CHANGELOG.md has no line '{HEADING.strip()}'")
    if not re.split(r"^## \[", rest, maxsplit=1, flags=re.MULTILINE)[0].strip():
        raise Refused("CHANGELOG.md says nothing under Unreleased: write what has changed")
    return f"{before}{HEADING}\n## [{version}] - {on:%Y-%m-%d}\n{rest}"


def released_project(text: str, *, version: str) -> str:
    """Return pyproject.toml with the version. Raises Refused where that is not a later one."""
    found = re.search(r'^version = "(.*)"$', text, re.MULTILINE)
    if found is None or numbers_of(version) <= numbers_of(found[1]):
        raise Refused(f"{version} is not later than {found[1] if found else 'what pyproject.toml says'}")
    return text[: found.start(1)] + version + text[found.end(1) :]


def git(*arguments: str) -> str:
    """Return what git prints. Raises Refused with what it says."""
    done = subprocess.run(["git", *arguments], capture_output=True, text=True)
    if done.returncode:
        raise Refused(done.stderr.strip() or f"git {arguments[0]} failed")
    return done.stdout.strip()


def main(arguments: list[str]) -> int:
    version = arguments[0] if arguments else ""
    try:
        changelog = released_changelog(
            CHANGELOG.read_text(encoding="utf-8"), version=version, on=datetime.now(UTC).date()
        )
        project = released_project(PROJECT.read_text(encoding="utf-8"), version=version)
        if git("status", "--porcelain"):
            raise Refused("there are changes that are not committed: commit them, or put them away")
        if git("tag", "--list", f"v{version}"):
            raise Refused(f"there is a tag v{version} already")
        CHANGELOG.write_text(changelog, encoding="utf-8")
        PROJECT.write_text(project, encoding="utf-8")
        git("commit", "--quiet", "--message", f"release: {version}", str(CHANGELOG), str(PROJECT))
        git("tag", "--annotate", f"v{version}", "--message", f"Version {version}")
    except Refused as error:
        print(f"release: {error}", file=sys.stderr)
        return 1
    print(f"release: committed and tagged v{version}. To publish it: git push --follow-tags")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
