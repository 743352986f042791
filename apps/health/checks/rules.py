"""Checks of rules."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta

from django.db.models import Exists, F, OuterRef, Q, QuerySet

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
    found = _instances_wrong(rules)
    unwatched, unheard = _without_asset_or_channel(rules)
    off: set[int] = set()
    for pk, document in _newest_documents(unwatched):
        is_off = document.get("enabled") is False
        if is_off:
            off.add(pk)
        level = Level.STOPPED if is_off else Level.DEGRADED
        found.append(Finding(Subject.RULE, pk, Code.OFF if is_off else Code.NO_ASSET, level))
    for pk in unheard - off:
        found.append(Finding(Subject.RULE, pk, Code.NOTIFIES_NOBODY, Level.DEGRADED))
    return found


def _without_asset_or_channel(rules: QuerySet[Rule]) -> tuple[set[int], set[int]]:
    """Return the rules that are evaluated for no asset, and those without a channel that is on."""
    watched = RuleState.objects.order_by()
    heard = RuleChannel.objects.filter(channel__is_enabled=True).order_by()
    either = ~Exists(watched.filter(rule=OuterRef("pk"))) | ~Exists(heard.filter(rule=OuterRef("pk")))
    suspects = set(rules.filter(either).values_list("pk", flat=True))
    if not suspects:
        return set(), set()
    unwatched, unheard = (
        suspects - set(rows.filter(rule__in=suspects).values_list("rule", flat=True)) for rows in (watched, heard)
    )
    return unwatched, unheard


def _newest_documents(rule_ids: Collection[int]) -> list[tuple[int, dict[str, object]]]:
    versions = queries.newest_versions(rule_ids) if rule_ids else {}
    return [(pk, version.document) for pk, version in sorted(versions.items())]


def _instances_wrong(rules: QuerySet[Rule]) -> list[Finding]:
    """Return the rules of which an instance stopped with an error, is paused since a split of its asset, or has been
    UNKNOWN for longer than its windows explain: by the clock of the feed, in which windows are measured."""
    unknown_for_long = Q(unknown_since__lt=F("asset__feed__head__as_of") - UNKNOWN_AT_LEAST) & ~Q(unknown__in=_NO_FAULT)
    states = RuleState.objects.filter(Q(state__in=_HALTED) | unknown_for_long, rule__in=rules)
    columns = ("rule", "version", "asset__symbol", "state", "since", "detail")
    clocks = ("unknown", "unknown_since", "asset__feed__head__as_of")
    rows = list(states.order_by("rule", "asset__symbol").values_list(*columns, *clocks))
    windows = _longest_windows({version_id for _, version_id, *_ in rows}) if rows else {}
    found: dict[tuple[int, Code], Finding] = {}
    for pk, version_id, symbol, state, since, detail, unknown, unknown_since, as_of in rows:
        facts = {"symbol": symbol}
        if state in _HALTED:
            code, facts["detail"] = _HALTED[state], detail
        elif as_of - unknown_since > max(windows[version_id], UNKNOWN_AT_LEAST):
            code, since, facts["unknown"] = Code.UNKNOWN, unknown_since, describe_unknown(unknown)
        else:
            continue
        found.setdefault((pk, code), Finding(Subject.RULE, pk, code, Level.STOPPED, since=since, facts=facts))
    return list(found.values())


def _longest_windows(version_ids: Iterable[int]) -> dict[int, timedelta]:
    """Return version id -> the longest window of its condition."""
    longest = {}
    for pk, spec in queries.specs_of(version_ids).items():
        spans = [0] if isinstance(spec, RuleInvalid) else [width for _, width in spec.window_keys]
        longest[pk] = timedelta(microseconds=max(spans, default=0))
    return longest
