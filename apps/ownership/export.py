"""Everything that one person owns, as one ZIP file. docs/pages.md lists what is in it."""

import csv
import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import QuerySet

from apps.accounts.queries import identities_of, profile_of
from apps.accounts.second_factor import second_factor_of
from apps.alerts.models import Alert, AlertEvent
from apps.market.derived.models import DerivedSeries, SeriesLeg
from apps.market.derived.series import Definition, Written, WrittenLeg
from apps.market.domain import from_epoch_microseconds, price_of
from apps.market.models import Asset
from apps.market.queries import (
    assets_seen_by,
    every_asset,
    manual_assets_seen_by,
    price_known_since,
    quotes_between,
    watched_ids,
)
from apps.notify.models import Channel, RuleChannel, Silence
from apps.notify.queries import inbox_of
from apps.notify.services.channels import SET_BY_PEOPLE
from apps.portfolios.models import Portfolio
from apps.portfolios.queries import rows_for_export
from apps.rules.models import Rule
from apps.rules.queries import newest_versions, rules_of
from apps.wording import as_cell, format_plain
from apps.yaml_files import write_yaml

# How many rows are in memory at a time, and after how many bytes a piece of the file is given.
ROWS_AT_ONCE, PIECE_BYTES = 500, 65_536
_CHANNEL_COLUMNS = [name for name in SET_BY_PEOPLE if name not in ("name", "config", "encrypted")]
_PRICES_AT_ONCE = timedelta(days=366)

Rows = Iterable[Sequence[Any]]


class _Pieces(io.RawIOBase):
    """A file that can only be written, whose bytes are taken out as they come."""

    def __init__(self) -> None:
        super().__init__()
        self._buffer = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._buffer += data
        return len(data)

    def __len__(self) -> int:
        return len(self._buffer)

    def take(self) -> bytes:
        """Return what was written since the last call."""
        taken = bytes(self._buffer)
        self._buffer.clear()
        return taken


def export_of(user: User, *, now: datetime) -> Iterator[bytes]:
    """Give the ZIP file of all that `user` owns, piece by piece. No secret is in it. Nothing of others is, whatever
    the user may see."""
    pieces = _Pieces()
    with zipfile.ZipFile(pieces, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, texts in _files_of(user, now=now):
            entry = zipfile.ZipInfo(name, now.astimezone(UTC).timetuple()[:6])
            # A file of unknown length may have more than 2 GiB.
            with archive.open(entry, "w", force_zip64=True) as file:
                for text in texts:
                    file.write(text.encode())
                    if len(pieces) >= PIECE_BYTES:
                        yield pieces.take()
    yield pieces.take()


def _files_of(user: User, *, now: datetime) -> Iterator[tuple[str, Iterator[str]]]:
    yield "account.json", _json_text(_account_of(user, now=now))
    yield "rules.yaml", _rules_of(user)
    yield "alerts.csv", _csv_text(_alerts_of(user))
    yield "alert-events.csv", _csv_text(_events_of(user))
    yield "channels.json", _json_list(map(_channel, Channel.objects.filter(owner=user).order_by("name")))
    yield "silences.json", _json_list(map(_silence, _in_parts(_silences_of(user))))
    yield "inbox.csv", _csv_text(_inbox_of(user))
    yield "tokens.json", _json_list(map(_token, user.api_tokens.order_by("pk")))
    yield "series.json", _json_list(_series_of(every_asset().filter(owner=user).order_by("symbol")))
    for number, asset in enumerate(manual_assets_seen_by(user).filter(owner=user), start=1):
        yield f"manual-assets/{_file_name(number, asset.symbol)}.csv", _csv_text(_prices_of(asset, now=now))
    portfolios = Portfolio.objects.filter(owner=user).order_by("pk")
    yield "portfolios.json", _json_list(map(_portfolio, portfolios))
    for number, portfolio in enumerate(portfolios, start=1):
        yield f"portfolios/{_file_name(number, portfolio.name)}.csv", _csv_text(rows_for_export(portfolio))


def _account_of(user: User, *, now: datetime) -> dict[str, Any]:
    watched = assets_seen_by(user).filter(pk__in=watched_ids(user)).order_by("symbol")
    profile, factor = profile_of(user), second_factor_of(user)
    return {
        "exported_at": now,
        "username": user.username,
        "email": user.email,
        "first_name": user.first_name,
        "last_name": user.last_name,
        "groups": sorted(user.groups.values_list("name", flat=True)),
        "date_joined": user.date_joined,
        "last_login": user.last_login,
        "time_zone": profile.time_zone,
        "locale": profile.locale,
        "second_factor": asdict(factor) if factor is not None else None,
        "single_sign_on": list(identities_of(user).values("provider", "uid", "date_joined", "last_login")),
        "watched_assets": list(watched.values_list("symbol", flat=True)),
    }


def _rules_of(user: User) -> Iterator[str]:
    """Give the rules as a section of a set-up file, each with the names of its channels."""
    rules = rules_of(user).order_by("name")
    yield "rules:\n" if rules.exists() else "rules: []\n"
    for part in _parts(_in_parts(rules)):
        versions = newest_versions([rule.pk for rule in part])
        channels: dict[int, list[str]] = {}
        links = RuleChannel.objects.filter(rule__in=part).order_by("channel__name")
        for rule_id, name in links.values_list("rule", "channel__name"):
            channels.setdefault(rule_id, []).append(name)
        for rule in part:
            document = versions[rule.pk].document if rule.pk in versions else {}
            beside = {"name": rule.name, "severity": rule.severity, "channels": channels.get(rule.pk, [])}
            yield write_yaml([beside | document])


def _alerts_of(user: User) -> Iterator[Sequence[Any]]:
    yield (
        *("id", "kind", "severity", "state", "rule", "asset", "opened_at", "resolved_at", "resolution"),
        *("acknowledged_at", "note", "summary", "evidence"),
    )
    for one in _in_parts(Alert.objects.filter(owner=user).select_related("rule", "asset").order_by("pk")):
        yield (
            *(one.public_id, one.kind, one.severity, one.state, one.rule_name, one.symbol, one.opened_at),
            *(one.resolved_at, one.resolution, one.acknowledged_at, one.note, one.summary),
            json.dumps(one.evidence, ensure_ascii=False),
        )


def _events_of(user: User) -> Iterator[Sequence[Any]]:
    yield "alert", "kind", "at", "reason", "detail", "by_you"
    for one in _in_parts(AlertEvent.objects.filter(alert__owner=user).select_related("alert").order_by("pk")):
        by_you = "" if one.by_id is None else "yes" if one.by_id == user.pk else "no"
        yield one.alert.public_id, one.kind, one.at, one.reason, one.detail, by_you


def _channel(channel: Channel) -> dict[str, Any]:
    """Return what a set-up file says of a channel, without what is secret."""
    return {
        "name": channel.name,
        "kind": channel.kind,
        **channel.config,
        **{name: getattr(channel, name) for name in _CHANNEL_COLUMNS},
        "created_at": channel.created_at,
    }


def _silences_of(user: User) -> QuerySet[Silence]:
    return Silence.objects.filter(owner=user).select_related("rule", "asset", "alert").order_by("pk")


def _silence(silence: Silence) -> dict[str, Any]:
    return {
        "rule": silence.rule.name if silence.rule is not None else None,
        "asset": silence.asset.symbol if silence.asset is not None else None,
        "severity": silence.severity,
        "alert": silence.alert.public_id if silence.alert is not None else None,
        "starts_at": silence.starts_at,
        "ends_at": silence.ends_at,
        "comment": silence.comment,
        "created_at": silence.created_at,
    }


def _inbox_of(user: User) -> Iterator[Sequence[Any]]:
    yield "delivered_at", "channel", "subject", "text"
    for one in _in_parts(inbox_of(user)):
        yield one.delivered_at, one.channel.name, one.subject, one.text


def _token(token: Any) -> dict[str, Any]:
    names = ("name", "scope", "created_at", "expires_at", "last_used_at", "revoked_at")
    return {name: getattr(token, name) for name in names}


def _series_of(own: QuerySet[Asset]) -> Iterator[dict[str, Any]]:
    """Give the person's derived series and manual assets."""
    for asset in own.select_related("series", "of_portfolio__portfolio"):
        beside = {"symbol": asset.symbol, "name": asset.name, "currency": asset.currency, "tags": asset.tags}
        if hasattr(asset, "of_portfolio"):
            made = asset.of_portfolio
            yield beside | {"kind": made.kind, "portfolio": made.portfolio.name, "every_seconds": made.every_seconds}
        elif hasattr(asset, "series"):
            yield beside | _written(asset.series).document()
        else:
            yield beside | {"kind": "manual"}


def _written(series: DerivedSeries) -> Written:
    symbols = dict(SeriesLeg.objects.filter(series=series).values_list("asset", "asset__symbol"))
    definition = Definition.of_document(series.document)
    legs = tuple(WrittenLeg(symbols[leg.asset_id], leg.weight, leg.max_skew) for leg in definition.legs)
    return Written(definition.kind, legs)


def _prices_of(asset: Asset, *, now: datetime) -> Iterator[Sequence[Any]]:
    """Give the prices of a manual asset, as its page takes them."""
    yield "time", "price"
    since = price_known_since(asset.pk)
    while since is not None and since <= now:
        until = min(since + _PRICES_AT_ONCE, now + timedelta(microseconds=1))
        for _, at, units in quotes_between([asset.pk], since=since, until=until):
            yield from_epoch_microseconds(at), format_plain(price_of(units))
        since = until


def _portfolio(portfolio: Portfolio) -> dict[str, Any]:
    names = ("name", "base_currency", "method", "tracks_cash")
    return {name: getattr(portfolio, name) for name in names}


def _file_name(number: int, name: str) -> str:
    """Return a name that is a file's in any system, and no other's here."""
    safe = "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "-" for one in name)
    return f"{number}-{safe[:64]}"


def _in_parts(rows: QuerySet[Any]) -> Iterator[Any]:
    return rows.iterator(chunk_size=ROWS_AT_ONCE)


def _parts(rows: Iterator[Rule]) -> Iterator[list[Rule]]:
    part: list[Rule] = []
    for row in rows:
        part.append(row)
        if len(part) == ROWS_AT_ONCE:
            yield part
            part = []
    if part:
        yield part


def _json_text(value: Any) -> Iterator[str]:
    yield json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False, indent=2) + "\n"


def _json_list(values: Iterable[Any]) -> Iterator[str]:
    """Give a JSON array, one of its values at a time."""
    lead = "[\n"
    for value in values:
        yield lead + json.dumps(value, cls=DjangoJSONEncoder, ensure_ascii=False)
        lead = ",\n"
    yield "[]\n" if lead == "[\n" else "\n]\n"


def _csv_text(rows: Rows) -> Iterator[str]:
    """Give CSV, line by line. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    line = io.StringIO()
    writer = csv.writer(line)
    for row in rows:
        writer.writerow([_cell(value) for value in row])
        yield line.getvalue()
        line.seek(0)
        line.truncate()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return value.isoformat() if isinstance(value, datetime) else as_cell(str(value))
