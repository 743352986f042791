"""Changes of provider, and what windows multiply the prices of an asset by from each of them on."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from django.db.models import OuterRef, Q, QuerySet, Subquery

from apps.market.domain import PathCandle, PathItem, Switch, epoch_microseconds, from_epoch_microseconds
from apps.market.models import Asset, FeedEntry, ProviderSwitch

# Asset id -> its changes of provider, oldest first.
Switches = dict[int, list[Switch]]


def last_switches_of(asset_ids: Iterable[int], *, before: str | None = None) -> dict[int, ProviderSwitch]:
    """Return asset id -> its last change of provider, or its last one from the provider `before`; two statements."""
    rows = ProviderSwitch.objects.filter(until_entry=None)
    return _last_of(asset_ids, rows if before is None else rows.filter(before=before))


def _last_of(asset_ids: Iterable[int], rows: QuerySet[ProviderSwitch]) -> dict[int, ProviderSwitch]:
    """Return asset id -> the last of these rows: for each asset, a step into the index."""
    its = rows.filter(asset=OuterRef("pk")).order_by("-at", "-pk").values("pk")[:1]
    assets = Asset.every.filter(pk__in=list(asset_ids)).order_by().annotate(last=Subquery(its))
    last = list(assets.exclude(last=None).values_list("last", flat=True))
    return {one.asset_id: one for one in ProviderSwitch.objects.filter(pk__in=last)}


def switches_in(entries: Sequence[FeedEntry]) -> dict[int, dict[tuple[int, int], Switch]]:
    """Return entry id -> (asset id, microseconds) -> the change of provider with that quote, for the entries that have
    some; one statement, or none."""
    switched = [entry.pk for entry in entries if entry.switched]
    found: dict[int, dict[tuple[int, int], Switch]] = {}
    for one in ProviderSwitch.objects.filter(entry__in=switched) if switched else ():
        switch = _switch(one)
        found.setdefault(one.entry_id, {})[one.asset_id, switch.at] = switch
    return found


def switches_up_to(entry_id: int, since: Mapping[int, int]) -> Switches:
    """Return the changes of provider that are known at one place in the log, from the one in force at a time on.

    since: asset id -> microseconds since 1970.
    """
    known = Q(until_entry=None) | Q(until_entry__gt=entry_id)
    return _from_in_force(ProviderSwitch.objects.filter(known, entry__lte=entry_id), since)


def switches_before(before: datetime, since: Mapping[int, int]) -> Switches:
    """Return the changes of provider before a time that are known now, from the one in force at a time on; as above."""
    return _from_in_force(ProviderSwitch.objects.filter(until_entry=None, at__lt=before), since)


def switches_between(asset_ids: Iterable[int], *, since: datetime, until: datetime) -> Switches:
    """Return the changes of provider in [since, until] that are known now."""
    found: Switches = {}
    rows = ProviderSwitch.objects.filter(asset__in=list(asset_ids), until_entry=None, at__gte=since, at__lte=until)
    for one in rows.order_by("at", "pk").iterator():
        found.setdefault(one.asset_id, []).append(_switch(one))
    return found


def _from_in_force(rows: QuerySet[ProviderSwitch], since: Mapping[int, int]) -> Switches:
    """Return asset id -> its changes of provider among these rows, from the one in force at a time on.

    A statement where none of the assets has any, else three more for each distinct time.
    """
    switched = rows.filter(asset__in=list(since)).order_by().values_list("asset", flat=True).distinct()
    together: dict[int, list[int]] = {}
    for asset_id in sorted(switched):
        together.setdefault(since[asset_id], []).append(asset_id)
    found: Switches = {}
    for begin, asset_ids in together.items():
        at = from_epoch_microseconds(begin)
        for asset_id, in_force in _last_of(asset_ids, rows.filter(at__lte=at)).items():
            found[asset_id] = [_switch(in_force)]
        for one in rows.filter(asset__in=asset_ids, at__gt=at).order_by("at", "pk").iterator():
            found.setdefault(one.asset_id, []).append(_switch(one))
    return found


def with_switches(path: Sequence[tuple[int, int] | PathCandle], switches: Sequence[Switch]) -> list[PathItem]:
    """Return the path of an asset with each change of provider before the first quote from then on."""
    found: list[PathItem] = []
    waiting = list(reversed(switches))
    for one in path:
        at = one.first_at if isinstance(one, PathCandle) else one[0]
        while waiting and waiting[-1].at <= at:
            found.append(waiting.pop())
        found.append(one)
    return [*found, *reversed(waiting)]


def _switch(row: ProviderSwitch) -> Switch:
    factor = row.factor.as_integer_ratio()
    return Switch(epoch_microseconds(row.at), row.before, row.provider, factor)
