"""`manage.py backtest`: a rule tried on the past, in a file or stored."""

import json
import sys
import time
from argparse import ArgumentTypeError
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandParser
from django.utils import timezone

from apps.backtests.evaluation import OpensTooOften, try_on_file, try_on_stored
from apps.backtests.wording import Failure, describe_failure
from apps.command_line import INTERRUPTED, SECONDS_BETWEEN_PROGRESS, moment, refuse
from apps.market.calendars import CALENDARS
from apps.market.domain import JUMP_PERCENT, JUMP_PERCENT_HIGHEST
from apps.market.queries import assets_chosen
from apps.market.quote_files import QuoteFileInvalid
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid
from apps.rules.files import read_rule_file
from apps.rules.models import Rule
from apps.rules.queries import fit_for
from apps.yaml_files import FileInvalid

OPENINGS_SHOWN = 20


def jump_percent(text: str) -> int:
    """Return a whole number of percent. Raises ArgumentTypeError."""
    if text.isascii() and text.isdecimal() and int(text) <= JUMP_PERCENT_HIGHEST:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to {JUMP_PERCENT_HIGHEST}")


def calendar(text: str) -> str:
    """Return the code of a trading calendar."""
    if text not in CALENDARS:
        raise ArgumentTypeError(f"there is no trading calendar {text!r}; see docs/setup.md")
    return text


class Command(BaseCommand):
    """Exit status 0; 1 where rows of the file were left out that are wrong, each on standard error; 2, with one line
    there, where the rule, the file or the range is wrong."""

    help = "Try a rule on a file of quotes (no database is needed), or a stored rule on what is stored."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("rule_file", nargs="?", type=Path, metavar="RULE.yaml", help="one rule, see docs/rules.md")
        parser.add_argument(
            "quotes_file",
            nargs="?",
            type=Path,
            metavar="QUOTES.csv[.gz]",
            help="columns time, symbol, price or close",
        )
        parser.add_argument("--rule", type=int, metavar="ID", help="a stored rule instead of files")
        parser.add_argument("--from", dest="since", type=moment, metavar="TIME", help="with --rule: the first moment")
        parser.add_argument("--to", dest="until", type=moment, metavar="TIME", help="the last; default now")
        parser.add_argument("--sweep", action="store_true", help="try other thresholds too (always with --rule)")
        parser.add_argument(
            "--jump-percent",
            type=jump_percent,
            default=JUMP_PERCENT,
            metavar="PERCENT",
            help="of a file: a price further than this from the last one waits for the next to confirm it; 0: none "
            f"(default {JUMP_PERCENT}, as in a feed)",
        )
        parser.add_argument(
            "--calendar",
            type=calendar,
            metavar="CODE",
            help="of a file: the trading hours of all its symbols, like XNYS; a silence counts these only",
        )
        parser.add_argument(
            "--skip-invalid", action="store_true", help="of a file: leave out rows that cannot be read, and list them"
        )
        parser.add_argument(
            "--signed",
            action="store_true",
            help="of a file: its prices may be 0 or less; none of them waits to be confirmed",
        )
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        self._started = self._reported_at = time.monotonic()
        try:
            report = self._on_stored(options) if options["rule"] is not None else self._on_file(options)
        except KeyboardInterrupt:
            print("backtest: stopped", file=sys.stderr)
            raise SystemExit(INTERRUPTED) from None
        try:
            self.stdout.write(json.dumps(report, ensure_ascii=False) if options["json"] else _describe(report))
        except BrokenPipeError:
            sys.stderr.close()  # Who read us has had enough, and Python would say so at exit.
            return
        if report.get("wrong"):
            for line in report["wrong_lines"]:
                print(f"backtest: {options['quotes_file'].name}, {line}", file=sys.stderr)
            raise SystemExit(1)

    def _on_file(self, options: dict[str, Any]) -> dict[str, Any]:
        if options["rule_file"] is None or options["quotes_file"] is None:
            refuse("backtest", "give RULE.yaml and QUOTES.csv, or --rule ID and --from TIME")
        if options["since"] or options["until"]:
            refuse("backtest", "--from and --to go with --rule; of a file every row is evaluated")
        try:
            rule = read_rule_file(options["rule_file"])
            return try_on_file(
                rule.spec,
                options["quotes_file"],
                sweep=options["sweep"],
                jump_percent=options["jump_percent"],
                calendar=options["calendar"] or "",
                now=timezone.now(),
                skip_invalid=options["skip_invalid"],
                signed=options["signed"],
                progress=lambda rows: self._report_progress(f"{rows:,} rows read".replace(",", " ")),
            )
        except (FileInvalid, QuoteFileInvalid) as error:
            refuse("backtest", str(error))
        except RuleInvalid as error:
            refuse("backtest", f"{options['rule_file'].name}: {error}")

    def _on_stored(self, options: dict[str, Any]) -> dict[str, Any]:
        if options["rule_file"] is not None:
            refuse("backtest", "give files or --rule, not both")
        if options["skip_invalid"]:
            refuse("backtest", "--skip-invalid goes with a file")
        if options["signed"]:
            refuse("backtest", "--signed goes with a file; an asset that is stored is signed or not")
        if options["calendar"]:
            refuse("backtest", "--calendar goes with a file; an asset that is stored has its own")
        since, until = options["since"], options["until"] or timezone.now()
        if since is None:
            refuse("backtest", "--from is missing: the first moment to evaluate, like 2026-01-31T12:00:00Z")
        if since > until:
            refuse("backtest", "--from is after --to")
        rule = Rule.objects.filter(pk=options["rule"]).first()
        version = rule.versions.order_by("number").last() if rule else None
        if version is None:
            refuse("backtest", f"there is no rule {options['rule']}")
        try:
            spec = RuleSpec.read(version.document)
        except RuleInvalid as error:
            refuse("backtest", f"the rule cannot be read: {error}")
        chosen = spec.assets
        named = assets_chosen(symbols=chosen.symbols, tag=chosen.tag, feed=chosen.feed, owner_id=rule.owner_id)
        assets = fit_for(spec, named)
        try:
            return try_on_stored(
                spec,
                assets=assets,
                since=since,
                until=until,
                progress=lambda done: self._report_progress(f"{done:.0%} evaluated"),
            )
        except OpensTooOften as error:
            refuse("backtest", describe_failure(Failure.OPENS_TOO_OFTEN, {"at_most": error.at_most}))

    def _report_progress(self, text: str) -> None:
        if time.monotonic() - self._reported_at >= SECONDS_BETWEEN_PROGRESS:
            self._reported_at = time.monotonic()
            self.stderr.write(f"backtest: {text} after {self._reported_at - self._started:.0f} s")


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _describe(report: dict[str, Any]) -> str:
    openings = report["openings"]
    lines = [report["rule"], f"{report['quotes']:,} quotes".replace(",", " ")]
    counted = [f"{report[name]} {name}" for name in ("repeated", "unconfirmed", "rejected") if report.get(name)]
    if counted:
        reasons = ", ".join(f"{count} {reason}" for reason, count in report["rejected_by_reason"].items())
        lines[-1] += f"; {', '.join(counted)}" + (f" ({reasons})" if reasons else "")
    if report["quotes"] and report.get("evaluated") == 0:
        lines[-1] += "; none of them is of an asset of this rule"
    lines.append(
        f"{_counted(len(openings), 'opening')}, {_counted(report['messages'], 'message')} to each channel, "
        f"{report['suppressed']} kept silent"
    )
    for opening in openings[:OPENINGS_SHOWN]:
        until = opening["resolved_at"] or "still open"
        lines.append(f"  {opening['opened_at']} → {until}  {opening['summary']}")
    if len(openings) > OPENINGS_SHOWN:
        lines.append(f"  … and {len(openings) - OPENINGS_SHOWN} more (--json has them all)")
    lines += [f"  {day}: {count}" for day, count in report["openings_per_day"].items()]
    for one in report.get("sweep", ()):
        lines.append(
            f"  at {one['threshold']}: {_counted(one['openings'], 'opening')}, {_counted(one['messages'], 'message')}"
        )
    return "\n".join([*lines, *(f"ERROR {error}" for error in report["errors"])])
