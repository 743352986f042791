"""Rules made, changed, enabled and disabled, and deleted."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene

from apps.api.graphql.context import Context
from apps.api.graphql.mutations.base import Creation, Mutation, row_of
from apps.api.graphql.mutations.faults import Code, Fault, Faulty, not_found
from apps.api.graphql.scalars import JSON, UUID
from apps.api.graphql.types.rules import Rule, Severity
from apps.notify.models import Channel as ChannelRow
from apps.notify.queries import channels_seen_by
from apps.notify.services import set_channels
from apps.rules.engine.written import RuleInvalid
from apps.rules.models import Rule as RuleRow
from apps.rules.queries import newest_versions, rules_ever_seen_by, rules_seen_by
from apps.rules.services import QuotaExceeded, delete_rule, save_rule, switch_rule
from apps.tracing import new_trace_id

_NAME = "Shown in every message."
_DOCUMENT = "The rule in the written form of docs/rules.md, without name, severity and channels."
_CHANNELS = (
    "Ids of those of its owner's channels that are notified; empty: alerts are recorded, and nobody is notified."
)


class CreateRule(Creation):
    """Make a rule, which is evaluated from here on."""

    class Arguments:
        name = graphene.String(required=True, description=_NAME)
        severity = Severity(description="WARNING where it is left out.")
        document = JSON(required=True, description=_DOCUMENT)
        channels = graphene.List(graphene.NonNull(UUID), description=_CHANNELS)

    permission = "rules.add_rule"
    gives = "rule"
    rule = graphene.Field(Rule, description="The new rule.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        name: str,
        document: Any,
        severity: Any = None,
        channels: Sequence[PythonUUID] | None = None,
    ) -> RuleRow:
        """Make it the client's."""
        owner = context.owner()
        notified = _channels_of(context, owner.pk, channels or ())
        with faults_of_rules():
            rule = save_rule(
                owner=owner,
                name=name,
                severity=severity.value if severity is not None else RuleRow.Severity.WARNING,
                document=written_form(document),
                now=now,
                trace_id=new_trace_id(),
            )
        set_channels(rule=rule, channels=notified)
        return rule

    @classmethod
    def found(cls, context: Context, id: str) -> RuleRow | None:
        """Return the rule of an id."""
        return rules_ever_seen_by(context.owner()).filter(pk=id).first()


class UpdateRule(Mutation):
    """Change a rule; what is left out stays. Another meaning is a new version. What a split has paused goes on."""

    class Arguments:
        id = UUID(required=True, description="Id of a rule of yours.")
        name = graphene.String(description=_NAME)
        severity = Severity(description="Severity of its alerts.")
        document = JSON(description=_DOCUMENT)
        channels = graphene.List(graphene.NonNull(UUID), description=_CHANNELS)

    permission = "rules.change_rule"
    rule = graphene.Field(Rule, description="The row after the change.")

    @classmethod
    def change(
        cls,
        context: Context,
        now: datetime,
        *,
        id: PythonUUID,
        name: str | None = None,
        severity: Any = None,
        document: Any = None,
        channels: Sequence[PythonUUID] | None = None,
    ) -> dict[str, Any]:
        """Change it, as its form does."""
        rule = row_of(rules_seen_by(context.owner()), id)
        notified = _channels_of(context, rule.owner_id, channels) if channels is not None else None
        if document is None:
            version = newest_versions([rule.pk]).get(rule.pk)
            document = version.document if version is not None else None
        with faults_of_rules():
            rule = save_rule(
                owner=rule.owner,
                name=rule.name if name is None else name,
                severity=severity.value if severity is not None else rule.severity,
                document=written_form(document),
                rule=rule,
                confirms=True,
                now=now,
                trace_id=new_trace_id(),
            )
        if notified is not None:
            set_channels(rule=rule, channels=notified)
        return {"rule": rule}


class _Switch(Mutation):
    class Meta:
        abstract = True

    class Arguments:
        id = UUID(required=True, description="Id of a rule of yours.")

    permission = "rules.change_rule"
    is_enabled: bool
    rule = graphene.Field(Rule, description="The row after the change.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Switch it."""
        rule = row_of(rules_seen_by(context.owner()), id)
        with faults_of_rules():
            is_switched = switch_rule(rule=rule, is_enabled=cls.is_enabled, now=now, trace_id=new_trace_id())
        if not is_switched:
            raise Faulty(Fault(Code.CONFLICT, f"It is switched {'on' if cls.is_enabled else 'off'} already."))
        return {"rule": rules_seen_by(context.owner()).get(pk=rule.pk)}


class EnableRule(_Switch):
    """Evaluate a rule again, from here on."""

    is_enabled = True


class DisableRule(_Switch):
    """Evaluate a rule no more, from here on. Its open alerts end."""

    is_enabled = False


class DeleteRule(Mutation):
    """End a rule. Its open alerts end; alerts and versions stay on record."""

    class Arguments:
        id = UUID(required=True, description="Id of a rule of yours.")

    permission = "rules.delete_rule"
    rule = graphene.Field(Rule, description="As it is from now on, with its `deletedAt`.")

    @classmethod
    def change(cls, context: Context, now: datetime, *, id: PythonUUID) -> dict[str, Any]:
        """Delete it."""
        rule = row_of(rules_seen_by(context.owner()), id)
        delete_rule(rule=rule, now=now, trace_id=new_trace_id())
        return {"rule": rules_ever_seen_by(context.owner()).get(pk=rule.pk)}


class RulesMutation(graphene.ObjectType):
    create_rule = CreateRule.Field()
    update_rule = UpdateRule.Field()
    enable_rule = EnableRule.Field()
    disable_rule = DisableRule.Field()
    delete_rule = DeleteRule.Field()


def written_form(document: Any) -> Mapping[str, Any]:
    """Return the written form of a rule that a client sent. Raises Faulty."""
    if not isinstance(document, dict):
        text = "It must be an object like {assets: [BTC-USD], condition: {kind: above, level: 100}}."
        raise Faulty(Fault(Code.INVALID, text, "document"))
    return document


@contextmanager
def faults_of_rules() -> Iterator[None]:
    """Say what services of rules refuse as faults."""
    try:
        yield
    except RuleInvalid as error:
        raise Faulty(Fault(Code.INVALID, f"{error}.", f"document.{error.path}")) from None
    except QuotaExceeded as error:
        raise Faulty(Fault(Code.LIMIT_REACHED, f"{error}.")) from None
    except RuleRow.DoesNotExist:
        raise not_found("id") from None


def _channels_of(context: Context, owner_id: int, ids: Sequence[PythonUUID]) -> list[ChannelRow]:
    """Return the channels of these ids, all of one owner. Raises Faulty."""
    rows = channels_seen_by(context.owner()).filter(owner=owner_id)
    return [row_of(rows, id, field=f"channels[{index}]") for index, id in enumerate(ids)]
