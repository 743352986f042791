"""`manage.py testrules FILE…`: rules tried on series that stand in files, and compared with what is expected."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.backtests.rule_tests import Verdict, read_tests, try_test
from apps.command_line import refuse
from apps.yaml_files import FileInvalid

INTERRUPTED = 130


class Command(BaseCommand):
    """Exit status 0 where all tests passed, 1 where some failed; 2, with one line on standard error and nothing tried,
    where a file is wrong or holds no test."""

    help = "Test rules on series in promtool's notation (docs/rules.md). No database is needed."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="YAML with a list of tests")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self._handle(options["files"], as_json=options["json"])
        except KeyboardInterrupt:
            print("testrules: stopped", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        except BrokenPipeError:
            # Who read us has had enough, and Python would say so at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(1) from None

    def _handle(self, files: list[Path], *, as_json: bool) -> None:
        try:
            tests = [(path, test) for path in files for test in read_tests(path)]
        except FileInvalid as error:
            refuse("testrules", str(error))
        passed, results = 0, []
        for path, test in tests:
            verdict = try_test(test)
            passed += verdict.has_passed
            results.append(_as_data(path, verdict))
            if not as_json:
                self.stdout.write(_describe(path, verdict))
        failed = len(tests) - passed
        if as_json:
            report = {"passed": passed, "failed": failed, "tests": results}
            self.stdout.write(json.dumps(report, ensure_ascii=False))
        else:
            self.stdout.write(f"{passed} passed, {failed} failed")
        self.stdout.flush()
        if failed:
            raise SystemExit(1)


def _as_data(path: Path, verdict: Verdict) -> dict[str, Any]:
    return {
        "file": path.name,
        "name": verdict.name,
        "rule": verdict.rule,
        "passed": verdict.has_passed,
        "differences": [{"expected": expected, "got": got} for expected, got in verdict.differences],
    }


def _describe(path: Path, verdict: Verdict) -> str:
    if verdict.has_passed:
        return f"ok   {verdict.name}"
    lines = [f"FAIL {verdict.name} ({path.name}: {verdict.rule})"]
    for expected, got in verdict.differences:
        lines += [f"     expected  {expected}", f"     got       {got}"]
    return "\n".join(lines)
