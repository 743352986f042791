"""What is asked of the rules' rows, and the feed's log as the engine reads it."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, Max, Q, QuerySet

from apps.canary import is_not_canary
from apps.locales import STANDARD, Reader
from apps.market import queries as market
from apps.market.domain import PathItem, epoch_microseconds
from apps.market.models import Asset, Feed, FeedEntry
from apps.rules.advice import Outlook, Stored, outlook_of, warnings_of
from apps.rules.engine.conditions import counts_hours, has_price, why_unfit
from apps.rules.engine.entries import Entry, HistoryEntry, QuotesEntry, RuleChange, RulesEntry, SplitEntry
from apps.rules.engine.instance import ENDED, ERROR, OPEN, PAUSED, PENDING
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.series import History
from apps.rules.engine.windows import COARSE, WindowKey, needs_of, sums_prices
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Checkpoint, Rule, RuleState, RuleVersion
from apps.rules.models import RuleChange as RuleChangeRow

Specs = dict[int, RuleSpec | RuleInvalid]

# By these the past of assets is another one: the engine fills their windows anew.
_OF_THE_PAST = (FeedEntry.Kind.HISTORY, FeedEntry.Kind.CORRECTION)
# How much of a log is held in memory at a time.
ENTRIES_AT_ONCE, QUOTES_AT_ONCE = 200, 20_000


def rules_of(user: AbstractBaseUser) -> QuerySet[Rule]:
    """Return the rules of `user` that are not deleted."""
    return Rule.objects.filter(owner=user, deleted_at=None)


def rules_ever_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Rule]:
    """Return the rules that `user` may see, deleted ones too: their own, all for a superuser, none for a stranger."""
    rows = Rule.objects.all()
    if not user.is_authenticated:
        return rows.none()
    return rows if getattr(user, "is_superuser", False) else rows.filter(owner=user)


def rules_seen_by(user: AbstractBaseUser | AnonymousUser) -> QuerySet[Rule]:
    """Return the rules that `user` may see and that are not deleted: their own, all for a superuser, none for a
    stranger."""
    return rules_ever_seen_by(user).filter(deleted_at=None)


def newest_versions(rule_ids: Iterable[int]) -> dict[int, RuleVersion]:
    """Return rule id -> its version in force."""
    newest = RuleVersion.objects.filter(rule__in=rule_ids).order_by().values("rule").annotate(newest=Max("pk"))
    return {version.rule_id: version for version in RuleVersion.objects.filter(pk__in=newest.values("newest"))}


def is_enabled(document: Any) -> bool:
    """Say whether a stored written form is of a rule that is enabled; one that cannot be read is not."""
    return isinstance(document, dict) and document.get("enabled", True) is True


def states_of(rule_ids: Iterable[int]) -> QuerySet[RuleState]:
    """Return where these rules stand on each of their assets, with asset and version. Whose they are is the caller's
    business."""
    return RuleState.objects.filter(rule__in=rule_ids).select_related("asset", "version")


def specs_of(version_ids: Iterable[int]) -> Specs:
    """Return version id -> what it says, or why that cannot be read."""
    specs: Specs = {}
    for version_id, document in RuleVersion.objects.filter(pk__in=version_ids).values_list("pk", "document"):
        try:
            specs[version_id] = RuleSpec.read(document)
        except RuleInvalid as error:
            specs[version_id] = error
    return specs


# What a change of rules says of one rule: its version, the assets that it is evaluated on, and their calendars by id as
# JSON has it, where its silences are measured by some.
InForce = tuple[int | None, list[int], dict[str, str]]


def changes_in_force(rule: Rule) -> dict[int, InForce]:
    """Return feed id -> what the rule's last change in each feed's log says."""
    # Ids rise within a feed: they are given under its head's lock.
    last = RuleChangeRow.objects.filter(rule=rule).values("entry__feed").annotate(last=Max("pk")).values("last")
    rows = RuleChangeRow.objects.filter(pk__in=last)
    return {
        feed_id: (version_id, asset_ids, calendars)
        for feed_id, version_id, asset_ids, calendars in rows.values_list(
            "entry__feed_id", "version_id", "asset_ids", "calendars"
        )
    }


def fit_for(spec: RuleSpec, assets: Iterable[market.ChosenAsset]) -> list[market.ChosenAsset]:
    """Return those of the assets to which the condition applies."""
    # Few answers for all of them: there may be thousands.
    fits: dict[tuple[bool, bool], bool] = {}
    found = []
    for asset in assets:
        key = (asset.signed, asset.has_flows)
        if key not in fits:
            fits[key] = why_not(spec, asset) is None
        if fits[key]:
            found.append(asset)
    return found


def why_not(spec: RuleSpec, asset: market.ChosenAsset) -> str | None:
    """Return why the condition of a rule does not apply to an asset; None where it does."""
    return why_unfit(spec.condition, signed=asset.signed, has_flows=asset.has_flows)


def wanted_in_logs(version: RuleVersion, spec: RuleSpec, assets: Iterable[market.ChosenAsset]) -> dict[int, InForce]:
    """Return feed id -> what the log of each feed with one of these assets, which the rule chooses, has to say."""
    wanted: dict[int, InForce] = {}
    if not spec.enabled:
        return wanted
    for asset in fit_for(spec, assets):
        if asset.feed_id is not None:
            _, asset_ids, calendars = wanted.setdefault(asset.feed_id, (version.pk, [], {}))
            asset_ids.append(asset.pk)
            if asset.calendar and counts_hours(spec.condition):
                calendars[str(asset.pk)] = asset.calendar
    return wanted


def differing(wanted: Mapping[int, InForce], in_force: Mapping[int, InForce]) -> dict[int, InForce]:
    """Return feed id -> what is wanted, for each feed whose log says something else. In order of feed."""
    nothing: InForce = (None, [], {})
    return {
        feed_id: wanted.get(feed_id, nothing)
        for feed_id in sorted(wanted.keys() | in_force.keys())
        if wanted.get(feed_id, nothing) != in_force.get(feed_id, nothing)
    }


def feeds_paused(rule: Rule) -> set[int]:
    """Return the feeds in which the rule has a paused instance, as far as their logs are evaluated."""
    paused = RuleState.objects.filter(rule=rule, state=PAUSED, asset__feed__isnull=False)
    return set(paused.order_by().values_list("asset__feed_id", flat=True))


def rules_watching(feeds: Iterable[Feed]) -> QuerySet[Rule]:
    """Return the rules that watch assets of these feeds, or series derived from those, with their owners."""
    ids = [one.pk for one in feeds]
    depends = Q(asset__feed__in=ids) | Q(asset__feed__derived__legs__leg__in=ids)
    watching = RuleState.objects.filter(depends).exclude(state=ENDED)
    rules = Rule.objects.filter(is_not_canary("owner"), pk__in=watching.order_by().values("rule"), deleted_at=None)
    return rules.select_related("owner").order_by("name", "pk")


def count_with_prices(asset: Asset) -> int:
    """Return how many rules that are evaluated on an asset name prices, which a split makes others."""
    rows = RuleState.objects.filter(asset=asset).exclude(state__in=(ENDED, ERROR, PAUSED))
    specs = specs_of(set(rows.values_list("version_id", flat=True)))
    return sum(isinstance(spec, RuleSpec) and has_price(spec.condition) for spec in specs.values())


def rules_to_follow() -> list[int]:
    """Return the rules that are evaluated on other assets, in other feeds or by other calendars than they choose now.
    Three statements, however many rules there are."""
    rules = Rule.objects.filter(deleted_at=None)
    newest = RuleVersion.objects.filter(rule__in=rules).order_by().values("rule").annotate(newest=Max("pk"))
    last = RuleChangeRow.objects.filter(rule__in=rules).values("rule", "entry__feed").annotate(last=Max("pk"))
    in_force: dict[int, dict[int, InForce]] = {}
    for rule_id, feed_id, *change in RuleChangeRow.objects.filter(pk__in=last.values("last")).values_list(
        "rule_id", "entry__feed_id", "version_id", "asset_ids", "calendars"
    ):
        version_id, asset_ids, calendars = change
        in_force.setdefault(rule_id, {})[feed_id] = (version_id, asset_ids, calendars)
    index = market.AssetIndex()
    found = []
    versions = RuleVersion.objects.filter(pk__in=newest.values("newest")).select_related("rule")
    for version in versions.order_by("rule").iterator():
        try:
            spec = RuleSpec.read(version.document)
        except RuleInvalid:
            continue
        chosen, owner_id = spec.assets, version.rule.owner_id
        assets = index.chosen(symbols=chosen.symbols, tag=chosen.tag, feed=chosen.feed, owner_id=owner_id)
        if differing(wanted_in_logs(version, spec, assets), in_force.get(version.rule_id, {})):
            found.append(version.rule_id)
    return found


def entry_of(entry: FeedEntry) -> Entry:
    """Return one entry of the log as the engine reads it."""
    as_of = epoch_microseconds(entry.as_of)
    if entry.kind == FeedEntry.Kind.QUOTES:
        quotes = market.evaluated_quotes(entry)
        return QuotesEntry(entry.seq, as_of, quotes, market.switches_in([entry]).get(entry.pk, {}))
    if entry.kind in _OF_THE_PAST:
        return HistoryEntry(entry.seq, as_of, market.asset_ids_in(entry))
    if entry.kind == FeedEntry.Kind.SPLIT:
        return _split_entry(entry)
    return RulesEntry(entry.seq, as_of, _changes_of([entry], None, {}).get(entry.pk, []))


def entries_of(entries: Sequence[FeedEntry]) -> Iterator[Entry]:
    """Give entries of the logs of several feeds as `entry_of` gives them; a few statements for all of them."""
    return _entries_of(entries, None, {})


def entries(
    *, feed_id: int, after_seq: int, up_to_seq: int, asset_ids: Collection[int] | None = None
) -> Iterator[Entry]:
    """Give the entries of a feed's log as `entry_of` gives them, in order; a few statements for many of them.

    asset_ids: leave out what is of other assets, in quotes, changes and history alike; an entry may be empty then. (A
    split of an asset that is not evaluated changes nothing.)
    """
    specs: Specs = {}
    for before in range(after_seq, up_to_seq, ENTRIES_AT_ONCE):
        last = min(before + ENTRIES_AT_ONCE, up_to_seq)
        entries = FeedEntry.objects.filter(feed_id=feed_id, seq__gt=before, seq__lte=last).order_by("seq")
        for part in _parts(entries, is_narrowed=asset_ids is not None):
            yield from _entries_of(part, asset_ids, specs)


def _parts(entries: Iterable[FeedEntry], *, is_narrowed: bool) -> Iterator[list[FeedEntry]]:
    """Give the entries again, in pieces that hold few quotes."""
    part: list[FeedEntry] = []
    quotes = 0
    for entry in entries:
        if part and not is_narrowed and quotes + entry.accepted > QUOTES_AT_ONCE:
            yield part
            part, quotes = [], 0
        part.append(entry)
        # Of a piece of history only the assets are read.
        quotes += entry.accepted if entry.kind == FeedEntry.Kind.QUOTES else 0
    if part:
        yield part


def _entries_of(entries: Sequence[FeedEntry], asset_ids: Collection[int] | None, specs: Specs) -> Iterator[Entry]:
    """Give the log entries of these rows; specs: what has been read of versions, which is added to."""
    of_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in FeedEntry.Kind}
    quotes = market.evaluated_quotes_of(
        [entry for entry in of_kind[FeedEntry.Kind.QUOTES] if entry.accepted], asset_ids=asset_ids
    )
    past = market.asset_ids_of([entry for entry in entries if entry.kind in _OF_THE_PAST], asset_ids=asset_ids)
    switches = market.switches_in(of_kind[FeedEntry.Kind.QUOTES])
    changes = _changes_of(of_kind[FeedEntry.Kind.RULES], asset_ids, specs)
    for entry in entries:
        as_of = epoch_microseconds(entry.as_of)
        if entry.kind == FeedEntry.Kind.QUOTES:
            yield QuotesEntry(entry.seq, as_of, quotes.get(entry.pk, []), switches.get(entry.pk, {}))
        elif entry.kind in _OF_THE_PAST:
            yield HistoryEntry(entry.seq, as_of, past.get(entry.pk, []))
        elif entry.kind == FeedEntry.Kind.SPLIT:
            yield _split_entry(entry)
        else:
            yield RulesEntry(entry.seq, as_of, changes.get(entry.pk, []))


def _split_entry(entry: FeedEntry) -> SplitEntry:
    split = entry.split
    effective_at = epoch_microseconds(split.effective_at)
    return SplitEntry(entry.seq, epoch_microseconds(entry.as_of), split.asset_id, effective_at, str(split))


def _changes_of(
    entries: Sequence[FeedEntry], asset_ids: Collection[int] | None, specs: Specs
) -> dict[int, list[RuleChange]]:
    if not entries:
        return {}
    rows = RuleChangeRow.objects.filter(entry__in=[entry.pk for entry in entries]).order_by("rule_id")
    lines = list(rows.values_list("entry_id", "rule_id", "version_id", "asset_ids", "calendars", "resumes"))
    missing = {version_id for _, _, version_id, *_ in lines if version_id is not None} - specs.keys()
    if missing:
        specs.update(specs_of(missing))
    changes: dict[int, list[RuleChange]] = {}
    for entry_id, rule_id, version_id, chosen, written, resumes in lines:
        if asset_ids is not None:
            chosen = [asset_id for asset_id in chosen if asset_id in asset_ids]
        spec = specs[version_id] if version_id is not None else None
        calendars = {int(asset_id): code for asset_id, code in written.items()}
        changes.setdefault(entry_id, []).append(RuleChange(rule_id, version_id, spec, chosen, calendars, resumes))
    return changes


def history_of(*, feed_id: int, seq: int) -> History:
    """Return the reader of stored quotes as of one entry of the log."""

    def read(wanted: Mapping[int, Collection[WindowKey]]) -> Mapping[int, Iterable[PathItem]]:
        needs = {asset_id: needs_of(keys) for asset_id, keys in wanted.items()}
        with_sums = any(sums_prices(key) for keys in wanted.values() for key in keys)
        return market.stored_path(needs, with_sums=with_sums, feed_id=feed_id, up_to_seq=seq, coarse=COARSE)

    return read


def history_at(entry: FeedEntry) -> History:
    """Return the reader of stored quotes as of this entry of the log."""
    return history_of(feed_id=entry.feed_id, seq=entry.seq)


def checkpoint_seq_before(entry: FeedEntry) -> int:
    """Return the entry after which a rebuild up to this one begins: its last checkpoint, or 0."""
    seqs = Checkpoint.objects.filter(feed=entry.feed_id, seq__lte=entry.seq).order_by("-seq")
    return seqs.values_list("seq", flat=True).first() or 0


def clock_at(entry: FeedEntry) -> int:
    """Return the clock by which instances were evaluated last, at or before this entry: that of an answer, not of a
    change of rules. Microseconds since 1970."""
    answers = FeedEntry.objects.filter(feed=entry.feed_id, seq__lte=entry.seq, kind=FeedEntry.Kind.QUOTES).order_by(
        "-seq"
    )
    return epoch_microseconds((answers.first() or entry).as_of)


def last_entry_at(feed_id: int, *, at: datetime, up_to_seq: int, entries_most: int) -> FeedEntry | None:
    """Return the last entry up to `up_to_seq` that came at or before `at` by the feed's clock, with its feed; None also
    where it lies more than `entries_most` before the oldest checkpoint.

    Between two checkpoints: the log is ordered by its numbers, and its clock does not go back. (At its beginning it may
    seem to, so what is wanted is the last and not the first.)
    """
    checkpoints = Checkpoint.objects.filter(feed=feed_id, seq__lte=up_to_seq)
    low = checkpoints.filter(as_of__lte=at).order_by("-seq").values_list("seq", flat=True).first() or 0
    high = checkpoints.filter(seq__gt=low).order_by("seq").values_list("seq", flat=True).first() or up_to_seq
    oldest = low or high - entries_most
    log = FeedEntry.objects.filter(feed=feed_id, seq__gte=oldest, seq__lte=high, as_of__lte=at)
    return log.select_related("feed").order_by("-seq").first()


def watch_begins(rule: Rule, asset: Asset, *, after: FeedEntry) -> FeedEntry | None:
    """Return the first entry after this one from which the rule is evaluated on the asset."""
    changes = RuleChangeRow.objects.filter(rule=rule, entry__feed=after.feed_id, entry__seq__gt=after.seq)
    # Changes of one rule are few, and JSON containment differs between the databases.
    later = changes.select_related("entry").order_by("entry__seq")
    return next((change.entry for change in later if asset.pk in change.asset_ids), None)


def assets_ever_watched(rule: Rule) -> QuerySet[Asset]:
    """Return the assets that the rule was put on at some place of a log, by symbol."""
    chosen = RuleChangeRow.objects.filter(rule=rule).values_list("asset_ids", flat=True)
    watched = {asset_id for asset_ids in chosen for asset_id in asset_ids}
    return market.every_asset().filter(pk__in=watched).order_by("symbol")


OUTLOOKS_MOST = 50


class AssetOutlook(NamedTuple):
    """From when a rule can be evaluated on one asset."""

    asset: market.ChosenAsset
    outlook: Outlook


class Prospect(NamedTuple):
    """What can be said of a rule before it is evaluated. assets: the first OUTLOOKS_MOST of `count`, by symbol; unfit:
    the first to which it does not apply, and why."""

    assets: list[AssetOutlook]
    count: int
    warnings: list[str]
    unfit: list[tuple[market.ChosenAsset, str]]


def first_evaluated(spec: RuleSpec, *, owner_id: int | None = None, reader: Reader = STANDARD) -> Prospect:
    """Return from when the rule of an owner can be evaluated on each of its assets that is in a feed, and where its
    windows are too narrow for their feeds; the same few statements for any number of assets. reader: whom the texts
    are for."""
    selector = spec.assets
    found = market.assets_chosen(symbols=selector.symbols, tag=selector.tag, feed=selector.feed, owner_id=owner_id)
    assets = sorted((asset for asset in found if asset.feed_id is not None), key=lambda asset: asset.symbol)
    chosen = fit_for(spec, assets)
    unfit = [(asset, f"does not apply: {why}") for asset in assets if (why := why_not(spec, asset)) is not None]
    shown = chosen[:OUTLOOKS_MOST]
    spans = market.stored_spans((asset.pk for asset in shown), with_candles=True)
    outlooks = [
        AssetOutlook(asset, outlook_of(spec.condition, Stored(*spans.get(asset.pk, (None, None))), reader=reader))
        for asset in shown
    ]
    feeds = market.every_feed().filter(pk__in={asset.feed_id for asset in chosen}).order_by("name")
    warnings = [
        warning
        for feed in market.with_recent_entries(feeds)
        for warning in warnings_of(
            spec.condition, feed=feed.name, interval_seconds=market.pace_seconds(feed), reader=reader
        )
    ]
    return Prospect(outlooks, len(chosen), warnings, unfit[:OUTLOOKS_MOST])


class RuleCounts(NamedTuple):
    """How many rules there are, and how many of them have an instance that stands so."""

    rules: int
    firing: int
    pending: int
    unknown: int
    paused: int
    error: int


def rule_counts_of(user: AbstractBaseUser | AnonymousUser) -> RuleCounts:
    """Return how the rules that `user` may see stand; two statements."""
    rules = rules_seen_by(user)

    def in_state(chosen: Q) -> Count:
        return Count("rule", filter=chosen, distinct=True)

    counted = RuleState.objects.filter(rule__in=rules.order_by().values("pk")).aggregate(
        firing=in_state(Q(state__in=OPEN)),
        pending=in_state(Q(state=PENDING)),
        unknown=in_state(~Q(unknown="")),
        paused=in_state(Q(state=PAUSED)),
        error=in_state(Q(state=ERROR)),
    )
    return RuleCounts(rules=rules.count(), **counted)
