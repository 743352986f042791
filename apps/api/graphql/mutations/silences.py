"""Silences made and ended."""

from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from django.core.exceptions import ValidationError

from apps.alerts.models import Alert
from apps.alerts.queries import alerts_of
from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Creation, Mutation, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty, not_found
from apps.api.graphql.scalars import UUID, AssetId, DateTime
from apps.api.graphql.types.notify import Silence
from apps.api.graphql.types.rules import Severity
from apps.market.models import Asset as AssetRow
from apps.market.queries import assets_known_as
from apps.notify.models import Silence as SilenceRow
from apps.notify.queries import silences_ended_by, silences_seen_by
from apps.notify.services import create_silence, end_silences, faults_of_silence
from apps.rules.queries import rules_seen_by


class CreateSilence(Creation):
    """Defer the notifications of your matching alerts until a time; what is left out matches any. Or silence one alert
    until it is over: neither what was deferred nor its end is sent then."""

    class Arguments:
        rule = UUID(description="Id of one rule of yours.")
        asset = AssetId(description="Symbol or alias of one asset.")
        severity = Severity(description="Alerts of this severity alone.")
        alert = UUID(description="Id of one open alert of a rule of yours; then nothing else but the comment.")
        starts_at = DateTime(description="From now on, where it is left out.")
        ends_at = DateTime(description="Then what was deferred is sent. Required, except with `alert`.")
        comment = graphene.String(required=True, description="Why, for whoever reads it later.")

    permission = "notify.add_silence"
    gives = "silence"
    silence = graphene.Field(Silence, description="The new silence.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        comment: str,
        alert: PythonUUID | None = None,
        ends_at: datetime | None = None,
        rule: PythonUUID | None = None,
        asset: str | None = None,
        severity: Any = None,
        starts_at: datetime | None = None,
    ) -> SilenceRow:
        """Make it in the client's name."""
        owner = context.owner()
        if alert is not None:
            row = row_of(alerts_of(owner), alert, field="alert")
            if any(one is not None for one in (rule, asset, severity, starts_at, ends_at)):
                raise Faulty(Fault(Code.INVALID, "An alert is silenced by itself, until it is over.", "alert"))
            return _silence_of(row, context=context, comment=comment, now=now)
        if ends_at is None:
            raise Faulty(Fault(Code.REQUIRED, "Say until when, or which alert.", "endsAt"))
        starts_at = starts_at or now
        matched = row_of(rules_seen_by(owner), rule, field="rule") if rule is not None else None
        faults = faults_of_silence(owner=owner, rule=matched, starts_at=starts_at, ends_at=ends_at, now=now)
        if faults:
            raise ValidationError(faults)
        return create_silence(
            author=owner,
            owner=owner,
            rule=matched,
            asset=asset_of(context, asset) if asset is not None else None,
            severity=severity.value if severity is not None else "",
            starts_at=starts_at,
            ends_at=ends_at,
            comment=comment,
        )

    @classmethod
    def found(cls, context: Context, id: str) -> SilenceRow | None:
        """Return the silence of an id."""
        return silences_seen_by(context.owner()).filter(pk=id).first()


class EndSilence(Mutation):
    """End a silence of yours now. What it deferred is sent within some seconds, in one message for each channel."""

    class Arguments:
        id = UUID(required=True, description="Id of a silence of yours.")

    permission = "notify.change_silence"
    silence = graphene.Field(Silence, description="The row after the change.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """End it."""
        silence = row_of(silences_ended_by(context.owner()), id)
        if not end_silences(silences=[silence], now=now):
            raise Faulty(Fault(Code.CONFLICT, "It is over already."))
        return {"silence": silences_seen_by(context.owner()).get(pk=silence.pk)}


def _silence_of(alert: Alert, *, context: Context, comment: str, now: datetime) -> SilenceRow:
    """Silence one alert of the client's until it is over."""
    owner = context.owner()
    if faults := faults_of_silence(owner=owner, rule=None, starts_at=now, ends_at=None, now=now, alert=alert):
        raise ValidationError(faults)
    return create_silence(author=owner, owner=owner, alert=alert, starts_at=now, comment=comment)


class SilencesMutation(graphene.ObjectType):
    create_silence = CreateSilence.Field()
    end_silence = EndSilence.Field()


def asset_of(context: Context, name: str, *, field: str = "asset") -> AssetRow:
    """Return the asset of an id, the client's own before others of that symbol. Raises Faulty."""
    owner = context.owner()
    asset = assets_known_as([name], reader=owner).get(name)
    # Superusers see those of all owners.
    if asset is None or asset.owner_id not in (None, owner.pk):
        raise not_found(field)
    return asset
