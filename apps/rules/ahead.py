"""The past read ahead: windows that are filled before the rules that need them enter a log, so that its feed does not
wait for that."""

import json
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from apps.market import queries as market
from apps.market.domain import PathItem
from apps.market.models import FeedEntry, FeedHead
from apps.rules import queries
from apps.rules.engine.engine import Engine
from apps.rules.engine.entries import RuleChange, RulesEntry
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.series import History, Series
from apps.rules.engine.windows import WindowKey
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import FilledWindows, Rule

KEPT_FOR = timedelta(hours=1)

# feed id -> (row, its engine at some place): one row may be for many entries, one after the other.
_read: dict[int, tuple[int, Engine]] = {}


def read_ahead(rules: Sequence[tuple[RuleSpec, Rule | None]], *, owner_id: int) -> dict[int, FilledWindows]:
    """Fill the windows of rules of one owner that are about to be saved, and return feed id -> the row that has them,
    as of the end of the feed's log. Call it before anything is locked: it may take as long as a statement may.

    rules: what each is to say, and the rule that is edited. Windows that it has already are not filled again. The past
    of an asset is read once, however many rules there are. A log without quotes of these assets has no row.
    """
    specs = [_of_windows(spec) for spec, _ in rules]
    assets: dict[int, dict[int, list[int]]] = {}
    for number, (spec, rule) in enumerate(rules):
        for feed_id, asset_ids in _assets_in_want(spec, rule, owner_id=owner_id).items():
            assets.setdefault(feed_id, {})[number] = asset_ids
    rows = {}
    for feed_id, chosen in sorted(assets.items()):
        seq = FeedHead.objects.values_list("seq", flat=True).get(pk=feed_id)
        changes = [RuleChange(number, number, specs[number], asset_ids) for number, asset_ids in chosen.items()]
        engine = Engine.reading_ahead(seq, changes, queries.history_of(feed_id=feed_id, seq=seq))
        if not engine.has_quotes:
            continue
        rows[feed_id] = FilledWindows.objects.create(
            feed_id=feed_id,
            seq=seq,
            documents={number: specs[number].document() for number in chosen},
            data=zlib.compress(json.dumps(engine.dump(), separators=(",", ":")).encode(), level=1),
        )
    return rows


def _of_windows(spec: RuleSpec) -> RuleSpec:
    """Return a rule that needs the same windows for as long as it is evaluated, and never ends."""
    return RuleSpec.read({"assets": ["ANY"], "condition": spec.document()["condition"]})


def _assets_in_want(spec: RuleSpec, rule: Rule | None, *, owner_id: int) -> dict[int, list[int]]:
    """Return feed id -> the assets with quotes that the rule is to be evaluated on by windows that it has not yet
    there."""
    keys = set(spec.window_keys)
    # How far a run looks back depends on the calendar that is in force at the place in the log.
    if not spec.enabled or all(name == "newest" for name, _ in keys) or any(name == "run" for name, _ in keys):
        return {}
    in_force = queries.changes_in_force(rule) if rule is not None else {}
    versions = queries.specs_of({version_id for version_id, _, _ in in_force.values() if version_id is not None})
    found: dict[int, list[int]] = {}
    named = spec.assets
    chosen = market.assets_chosen(symbols=named.symbols, tag=named.tag, feed=named.feed, owner_id=owner_id)
    fit = [asset for asset in queries.fit_for(spec, chosen) if asset.feed_id is not None]
    quoted = market.ever_quoted(asset.pk for asset in fit)
    for asset in fit:
        if asset.feed_id is None or asset.pk not in quoted:
            continue
        version_id, asset_ids, _ = in_force.get(asset.feed_id, (None, [], {}))
        known = versions.get(version_id) if version_id is not None else None
        is_there = isinstance(known, RuleSpec) and keys <= set(known.window_keys)
        if not (is_there and asset.pk in asset_ids):
            found.setdefault(asset.feed_id, []).append(asset.pk)
    return found


def history_at(entry: FeedEntry) -> History:
    """Return the reader of the past as of this entry of the log, which takes windows that were filled ahead and what
    has come since."""
    stored = queries.history_at(entry)
    if entry.kind != FeedEntry.Kind.RULES:
        _read.pop(entry.feed_id, None)
        return stored

    def read(
        wanted: Mapping[int, Collection[WindowKey]],
    ) -> Mapping[int, Iterable[PathItem] | Series]:
        row_id = entry.rule_changes.values_list("filled", flat=True).first()
        engine = _engine_before(entry, row_id) if row_id is not None else None
        ahead = engine.series_of(wanted) if engine is not None else {}
        rest = {asset_id: keys for asset_id, keys in wanted.items() if asset_id not in ahead}
        return {**ahead, **stored(rest)} if rest else ahead

    return read


def _engine_before(entry: FeedEntry, row_id: int) -> Engine | None:
    """Return the engine of a row as it stands before this entry; None where it cannot be read."""
    known_id, engine = _read.pop(entry.feed_id, (None, None))
    if engine is None or known_id != row_id or engine.seq >= entry.seq:
        row = FilledWindows.objects.filter(pk=row_id).first()
        engine = _loaded(row) if row is not None else None
    if engine is None:
        return None
    since = queries.entries(
        feed_id=entry.feed_id, after_seq=engine.seq, up_to_seq=entry.seq - 1, asset_ids=engine.asset_ids
    )
    for one in since:
        # It has rules of its own.
        own = replace(one, changes=()) if isinstance(one, RulesEntry) else one
        engine.evaluate(own, queries.history_of(feed_id=entry.feed_id, seq=one.seq))
    _read[entry.feed_id] = (row_id, engine)
    return engine


def _loaded(row: FilledWindows) -> Engine | None:
    try:
        specs = {int(number): RuleSpec.read(document) for number, document in row.documents.items()}
        return Engine.load(json.loads(zlib.decompress(row.data)), specs)
    except (ValueError, zlib.error, RuleInvalid):
        return None


def prune_filled_windows(*, now: datetime) -> int:
    """Drop what was read ahead longer than KEPT_FOR ago, and return how many rows; who still needs it reads the past
    itself."""
    return FilledWindows.objects.filter(created_at__lt=now - KEPT_FOR).delete()[0]
