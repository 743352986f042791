"""Checks of rules."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, QuerySet

from apps.health.domain import UNKNOWN_AT_LEAST, Code, Finding, Level, Subject
from apps.notify.models import RuleChannel
from apps.rules import queries
from apps.rules.domain import describe_unknown
from apps.rules.engine.codes import Unknown
from apps.rules.engine.instance import ERROR, PAUSED
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule, RuleState

# A constant price has no variance, and a rule that nobody evaluated yet has its feed to blame.
_NO_FAULT = ("", Unknown.ZERO_VARIANCE, Unknown.NOT_EVALUATED)
_HALTED = {ERROR: Code.ERROR, PAUSED: Code.PAUSED_BY_SPLIT}


def rule_findings(*, now: datetime) -> list[Finding]:
    """Return the problems of rules, in the same few statements for any number of them."""
    rules = Rule.objects.filter(deleted_at=None).order_by()
    found = _halted(rules) + _unknown(rules)
    off: set[int] = set()
    watched = RuleState.objects.filter(rule=OuterRef("pk"))
    for pk, document in _newest_documents(rules.exclude(Exists(watched)).values_list("pk", flat=True)):
        is_off = document.get("enabled") is False
        if is_off:
            off.add(pk)
        level = Level.STOPPED if is_off else Level.DEGRADED
        found.append(Finding(Subject.RULE, pk, Code.OFF if is_off else Code.NO_ASSET, level))
    for pk in _notifying_nobody(rules):
        if pk not in off:
            found.append(Finding(Subject.RULE, pk, Code.NOTIFIES_NOBODY, Level.DEGRADED))
    return found


def _notifying_nobody(rules: QuerySet[Rule]) -> list[int]:
    """Return the rules without a channel that is on."""
    links = RuleChannel.objects.filter(rule=OuterRef("pk"))
    bare = rules.exclude(Exists(links))
    # From the channels that are off, of which there are few: else the channel of each rule is looked at.
    ended = rules.filter(Exists(links.filter(channel__is_enabled=False)))
    ended = ended.exclude(Exists(links.filter(channel__is_enabled=True)))
    return [pk for chosen in (bare, ended) for pk in chosen.values_list("pk", flat=True)]


def _newest_documents(rule_ids: Iterable[int]) -> list[tuple[int, dict[str, object]]]:
    wanted = list(rule_ids)
    versions = queries.newest_versions(wanted) if wanted else {}
    return [(pk, version.document) for pk, version in sorted(versions.items())]


def _halted(rules: QuerySet[Rule]) -> list[Finding]:
    """Return the rules of which an instance stopped with an error, or is paused since a split of its asset."""
    rows = RuleState.objects.filter(rule__in=rules, state__in=_HALTED).order_by("rule", "asset__symbol")
    found: dict[tuple[int, str], Finding] = {}
    for pk, state, symbol, since, detail in rows.values_list("rule", "state", "asset__symbol", "since", "detail"):
        facts = {"symbol": symbol, "detail": detail}
        one = Finding(Subject.RULE, pk, _HALTED[state], Level.STOPPED, since=since, facts=facts)
        found.setdefault((pk, state), one)
    return list(found.values())


def _unknown(rules: QuerySet[Rule]) -> list[Finding]:
    """Return the rules of which an instance has been UNKNOWN for longer than its windows explain.

    By the clock of the feed, in which windows are measured.
    """
    rows = RuleState.objects.filter(
        rule__in=rules, unknown_since__lt=F("asset__feed__head__as_of") - UNKNOWN_AT_LEAST
    ).exclude(unknown__in=_NO_FAULT)
    columns = ("rule", "version", "asset__symbol", "unknown", "unknown_since", "asset__feed__head__as_of")
    candidates = list(rows.order_by("rule", "asset__symbol").values_list(*columns))
    if not candidates:
        return []
    windows = _longest_windows({version_id for _, version_id, *_ in candidates})
    found: dict[int, Finding] = {}
    for pk, version_id, symbol, unknown, since, as_of in candidates:
        if as_of - since > max(windows[version_id], UNKNOWN_AT_LEAST):
            facts = {"symbol": symbol, "unknown": describe_unknown(unknown)}
            found.setdefault(pk, Finding(Subject.RULE, pk, Code.UNKNOWN, Level.STOPPED, since=since, facts=facts))
    return list(found.values())


def _longest_windows(version_ids: Iterable[int]) -> dict[int, timedelta]:
    """Return version id -> the longest window of its condition."""
    longest = {}
    for pk, spec in queries.specs_of(version_ids).items():
        spans = [0] if isinstance(spec, RuleInvalid) else [width for _, width in spec.window_keys]
        longest[pk] = timedelta(microseconds=max(spans, default=0))
    return longest
