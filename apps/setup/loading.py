"""A set-up in one YAML file: feeds, assets, derived series, channels and rules, made to agree with the rows.
docs/setup.md has the form."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.contrib.auth.models import AbstractBaseUser
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import BooleanField, IntegerField, Model

from apps.accounts.services import lock_owner
from apps.market.derived.making import change_series, create_series
from apps.market.derived.models import DerivedSeries
from apps.market.derived.series import SeriesInvalid, read_written
from apps.market.models import Asset, AssetAlias, Feed, FeedHead
from apps.market.services import append_split
from apps.market.splits import read_ratio
from apps.notation import read_number, read_whole_number
from apps.notify.models import Channel
from apps.notify.services import configure_channel, create_channel, reconsider_quiet_hours, set_channels
from apps.rules.ahead import read_ahead
from apps.rules.engine.rule import RuleSpec
from apps.rules.engine.written import RuleInvalid, read_duration
from apps.rules.models import FilledWindows, Rule
from apps.rules.queries import rules_of
from apps.rules.services import QuotaExceeded, save_rule
from apps.sources.models import FeedSource, Listing
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import create_feed
from apps.yaml_files import FileInvalid, read_yaml

FEED_COLUMNS = ("time_policy", "jump_percent", "switch_step_percent")
ASSET_COLUMNS = ("name", "currency", "base_currency", "calendar", "signed", "tags", "aliases", "listings", "splits")
CHANNEL_COLUMNS = (
    *("is_default", "wants_resolved", "group_wait_seconds", "messages_per_minute", "repeat_minutes"),
    *("quiet_from", "quiet_until", "quiet_zone", "quiet_allow_critical", "subject_template", "text_template"),
)
SERIES_COLUMNS = ("name", "currency", "tags")
SECTIONS = ("feeds", "assets", "series", "channels", "rules")


class SetupInvalid(ValueError):
    """The file is wrong. One line that names the place in it and says what would be right."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many of each the file now accounts for."""

    feeds: int
    assets: int
    series: int
    channels: int
    rules: int


def read_setup(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the sections of the file. Raises SetupInvalid."""
    try:
        data = read_yaml(path)
    except FileInvalid as error:
        raise SetupInvalid(str(error)) from None
    if not isinstance(data, dict):
        raise SetupInvalid(f"{path.name} must have sections: {', '.join(SECTIONS)}")
    for section, rows in data.items():
        if section not in SECTIONS:
            raise SetupInvalid(f"{section}: there is no such section; there are {', '.join(SECTIONS)}")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise SetupInvalid(f"{section} must be a list of mappings")
    return data


def load_setup(
    setup: Mapping[str, Sequence[Mapping[str, Any]]], *, owner: AbstractBaseUser, now: datetime, trace_id: str
) -> Loaded:
    """Make the rows agree with the set-up, all of it or nothing: what is there by name is edited, nothing is deleted.

    Rules and channels belong to `owner`. Raises SetupInvalid.
    """
    # The past is read before the logs are locked.
    ahead = read_ahead(_rules_of_assets_that_are_there(setup.get("rules") or [], owner=owner), owner_id=owner.pk)
    with transaction.atomic():
        return _load(setup, owner=owner, now=now, trace_id=trace_id, ahead=ahead)


def _rules_of_assets_that_are_there(
    rows: Sequence[Mapping[str, Any]], *, owner: AbstractBaseUser
) -> list[tuple[RuleSpec, Rule | None]]:
    """Return what the rules of a set-up say, each with the rule that is there by its name; what is wrong is left out
    here."""
    known = {rule.name: rule for rule in rules_of(owner)}
    found = []
    for row in rows:
        try:
            spec = RuleSpec.read(_document_of(row))
        except RuleInvalid:
            continue
        name = row.get("name")
        found.append((spec, known.get(name) if isinstance(name, str) else None))
    return found


def _load(
    setup: Mapping[str, Sequence[Mapping[str, Any]]],
    *,
    owner: AbstractBaseUser,
    now: datetime,
    trace_id: str,
    ahead: Mapping[int, FilledWindows],
) -> Loaded:
    if setup.get("rules"):
        # In the order in which a single rule's change takes them (owner, rule, heads by feed), but all of them at once.
        lock_owner(owner.pk)
        list(rules_of(owner).select_for_update(no_key=True).order_by("pk"))
        list(FeedHead.objects.select_for_update(no_key=True).order_by("pk"))
    done: dict[str, int] = {}
    for section in SECTIONS:
        rows = setup.get(section) or []
        for index, row in enumerate(rows):
            try:
                _LOADERS[section](row, owner=owner, now=now, trace_id=trace_id, ahead=ahead)
            except RuleInvalid as error:
                raise SetupInvalid(f"{section}[{index}].{error}") from None
            except ValidationError as error:
                raise SetupInvalid(f"{section}[{index}]: {_first_message(error)}") from None
            except (SetupInvalid, SeriesInvalid, QuotaExceeded) as error:
                raise SetupInvalid(f"{section}[{index}]: {error}") from None
        done[section] = len(rows)
    return Loaded(**done)


def _first_message(error: ValidationError) -> str:
    if hasattr(error, "error_dict"):
        field, (first, *_) = next(iter(error.error_dict.items()))
        # What is wrong with an option of a provider names that itself.
        names_itself = field == "__all__" or "option" in (first.params or {})
        return first.messages[0] if names_itself else f"{field}: {first.messages[0]}"
    return error.messages[0]


def _take(row: Mapping[str, Any], *, required: Sequence[str], optional: Sequence[str] = ()) -> None:
    for key in required:
        if row.get(key) in (None, ""):
            raise SetupInvalid(f"{key} is missing")
    for key in row:
        if key not in required and key not in optional:
            raise SetupInvalid(f"{key} is not known here; known are {', '.join((*required, *optional))}")


def _load_feed(row: Mapping[str, Any], *, now: datetime, **_: Any) -> None:
    _take(row, required=("name", "interval", "sources"), optional=(*FEED_COLUMNS, "silent_after"))
    _refuse_no_text(row["name"], "name")
    interval_seconds = _seconds(row["interval"], "interval")
    sources = []
    if not isinstance(row["sources"], list) or not row["sources"]:
        raise SetupInvalid("sources must be a list like [{provider: simulated}]")
    for source in row["sources"]:
        if not isinstance(source, dict) or not isinstance(source.get("provider"), str):
            raise SetupInvalid("sources must be a list like [{provider: simulated}]")
        options = {key: source[key] for key in source if key != "provider"}
        declared = PROVIDERS[source["provider"]].options if source["provider"] in PROVIDERS else ()
        types = {one.name: one.number_type for one in declared if one.number_type is not None}
        sources.append((source["provider"], _by_type(options, types)))
    # What the file does not say of a feed that is there stays as it is.
    columns = _columns(Feed, row, FEED_COLUMNS)
    if "silent_after" in row:
        after = row["silent_after"]
        columns["silent_after_seconds"] = None if after is None else _seconds(after, "silent_after")
    feed = Feed.objects.filter(name=row["name"]).first()
    if feed is None:
        create_feed(name=row["name"], interval_seconds=interval_seconds, sources=sources, now=now, **columns)
        return
    columns["interval_seconds"] = interval_seconds
    if any(getattr(feed, name) != value for name, value in columns.items()) or _in_rows(feed) != _as_stored(sources):
        raise SetupInvalid(f"the feed {feed.name} is there already, with other settings; change it in the admin")


def _seconds(text: Any, name: str) -> int:
    """Return a duration like 5m in whole seconds, 1 at least. Raises RuleInvalid."""
    return read_duration(text, name, shortest=1_000_000) // 1_000_000


def _in_rows(feed: Feed) -> list[tuple[str, Any]]:
    return [(source.provider, source.options) for source in feed.sources.all()]


def _as_stored(sources: Sequence[tuple[str, Mapping[str, Any]]]) -> list[tuple[str, Any]]:
    """Return the sources with the defaults of their providers filled in. Raises ValidationError."""
    wanted = [FeedSource(provider=provider, options=options) for provider, options in sources]
    for source in wanted:
        source.clean()
    return [(source.provider, source.options) for source in wanted]


def _columns(model: type[Model], row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """Return those of the columns that a row has, read by their types. Raises SetupInvalid."""
    return {name: _read_column(model._meta.get_field(name), row[name]) for name in names if name in row}


def _read_column(field: Any, value: Any) -> Any:
    if isinstance(field, BooleanField):
        if not isinstance(value, bool):
            raise SetupInvalid(f"{field.name} must be true or false")
    elif isinstance(field, IntegerField):
        try:
            return read_whole_number(value)
        except ValueError:
            raise SetupInvalid(f"{field.name} must be a whole number, like 5") from None
    elif value is not None:
        _refuse_no_text(value, field.name)
    return value


def _refuse_no_text(value: Any, name: str) -> None:
    if not isinstance(value, str):
        raise SetupInvalid(f"{name} must be a text")


def _by_type(value: Any, kind: Any) -> Any:
    """Return an option as its type says, where it has one. What is no such number is left to the provider, who refuses
    it."""
    if isinstance(value, dict) and isinstance(kind, Mapping):
        return {key: _by_type(one, kind.get(key)) for key, one in value.items()}
    if isinstance(value, list) and isinstance(kind, list):
        return [_by_type(one, kind[0]) for one in value]
    if isinstance(value, str) and kind in (int, float):
        with suppress(ValueError):
            return read_whole_number(value)
        with suppress(ValueError):
            return float(read_number(value)) if kind is float else value
    return value


def _load_asset(row: Mapping[str, Any], *, now: datetime, trace_id: str, **_: Any) -> None:
    _take(row, required=("symbol", "feed"), optional=ASSET_COLUMNS)
    for key in ("symbol", "feed"):
        _refuse_no_text(row[key], key)
    feed = Feed.objects.filter(name=row["feed"]).first()
    if feed is None:
        raise SetupInvalid(f"feed: there is no feed {row['feed']}")
    asset = Asset.objects.filter(symbol=row["symbol"]).first() or Asset(symbol=row["symbol"])
    if asset.feed_id not in (None, feed.pk) and (hasattr(asset, "latest") or asset.rule_states.exists()):
        # Its rules and its open alerts move with it, which takes both feeds' locks.
        raise SetupInvalid(f"feed: {asset} has quotes or rules in {asset.feed}; its page in the admin moves it")
    asset.feed, asset.tags = feed, row.get("tags", [])
    asset.signed = _read_column(Asset._meta.get_field("signed"), row.get("signed", False))
    for key in ("name", "currency", "base_currency", "calendar"):
        # Left blank, it is None.
        text = "" if row.get(key) is None else row[key]
        _refuse_no_text(text, key)
        setattr(asset, key, text)
    asset.full_clean()
    asset.save()
    _load_aliases(asset, row.get("aliases", []))
    listings = row.get("listings", {})
    if not isinstance(listings, dict):
        raise SetupInvalid("listings must be a mapping like {coincap: bitcoin}")
    for provider, external_id in listings.items():
        if external_id is not None:
            _refuse_no_text(external_id, f"listings: {provider}")
        listing = Listing.objects.filter(asset=asset, provider=provider).first() or Listing(asset=asset)
        listing.provider, listing.external_id = provider, external_id
        listing.full_clean()
        listing.save()
    _load_splits(asset, row.get("splits", []), now=now, trace_id=trace_id)


def _load_series(row: Mapping[str, Any], *, now: datetime, trace_id: str, **_: Any) -> None:
    """Make a derived series of the installation, or change what it is made of from here on."""
    _take(row, required=("symbol", "kind", "legs"), optional=SERIES_COLUMNS)
    _refuse_no_text(row["symbol"], "symbol")
    written = read_written({"kind": row["kind"], "legs": row["legs"]})
    columns: dict[str, Any] = {"name": row.get("name") or "", "currency": row.get("currency") or ""}
    for key, text in columns.items():
        _refuse_no_text(text, key)
    columns["tags"] = row.get("tags") or []
    asset = Asset.objects.filter(symbol=row["symbol"]).first()
    if asset is None:
        given = {"written": written, "now": now, "trace_id": trace_id}
        create_series(owner_id=None, symbol=row["symbol"], **given, **columns)
        return
    if not DerivedSeries.objects.filter(pk=asset.pk).exists():
        raise SetupInvalid(f"symbol: {asset} is an asset that is not made of others")
    change_series(asset=asset, written=written, now=now, trace_id=trace_id)
    for key, value in columns.items():
        setattr(asset, key, value)
    asset.full_clean()
    asset.save(update_fields=list(columns))


def _load_splits(asset: Asset, rows: Any, *, now: datetime, trace_id: str) -> None:
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SetupInvalid("splits must be a list like [{at: 2026-06-10T13:30:00Z, ratio: 20:1}]")
    for index, row in enumerate(rows):
        try:
            _take(row, required=("at", "ratio"))
            for key in ("at", "ratio"):
                _refuse_no_text(row[key], key)
            numerator, denominator = read_ratio(row["ratio"])
            append_split(
                asset_id=asset.pk,
                effective_at=_read_moment(row["at"]),
                numerator=numerator,
                denominator=denominator,
                now=now,
                trace_id=trace_id,
            )
        except ValueError as error:
            raise SetupInvalid(f"splits[{index}]: {error}") from None


def _read_moment(text: str) -> datetime:
    with suppress(ValueError, OverflowError):
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    raise SetupInvalid("at is no time with a zone; write it like 2026-06-10T13:30:00Z")


def _load_aliases(asset: Asset, names: Any) -> None:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise SetupInvalid("aliases must be a list of names like [BTC]")
    for name in names:
        alias = AssetAlias.objects.select_related("asset").filter(name=name).first()
        if alias is not None and alias.asset_id != asset.pk:
            raise SetupInvalid(f"aliases: {alias} already")
        alias = alias or AssetAlias(asset=asset, name=name)
        alias.full_clean()
        alias.save()


def _load_channel(row: Mapping[str, Any], *, owner: AbstractBaseUser, now: datetime, **_: Any) -> None:
    if not isinstance(row.get("name"), str) or not isinstance(row.get("kind"), str):
        raise SetupInvalid("name and kind are needed, like {name: Inbox, kind: inbox}")
    options = _columns(Channel, row, CHANNEL_COLUMNS)
    config = {key: value for key, value in row.items() if key not in ("name", "kind", *CHANNEL_COLUMNS)}
    channel = Channel.objects.filter(owner=owner, name=row["name"]).first()
    if channel is None:
        create_channel(owner=owner, name=row["name"], kind=row["kind"], config=config, **options)
    else:
        before = channel.quiet_hours
        configure_channel(channel=channel, kind=row["kind"], config=config, **options)
        if channel.quiet_hours != before:
            reconsider_quiet_hours(channel=channel, now=now)


def _document_of(row: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key not in ("name", "severity", "channels")}


def _load_rule(
    row: Mapping[str, Any],
    *,
    owner: AbstractBaseUser,
    now: datetime,
    trace_id: str,
    ahead: Mapping[int, FilledWindows],
) -> None:
    name = row.get("name")
    if not isinstance(name, str) or not name:
        raise SetupInvalid("name is missing")
    names = row.get("channels", [])
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        raise SetupInvalid("channels must be a list of names")
    channels = {channel.name: channel for channel in Channel.objects.filter(owner=owner)}
    for channel_name in names:
        if channel_name not in channels:
            raise SetupInvalid(f"channels: {owner} has no channel {channel_name}")
    rule = save_rule(
        owner=owner,
        name=name,
        severity=row.get("severity", Rule.Severity.WARNING),
        document=_document_of(row),
        rule=rules_of(owner).filter(name=name).first(),
        now=now,
        trace_id=trace_id,
        ahead=ahead,
    )
    set_channels(rule=rule, channels=[channels[one] for one in names])


_LOADERS = {
    "feeds": _load_feed,
    "assets": _load_asset,
    "series": _load_series,
    "channels": _load_channel,
    "rules": _load_rule,
}
