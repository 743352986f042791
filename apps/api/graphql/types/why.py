"""Why a rule did or did not fire."""

from datetime import datetime
from typing import Any
from uuid import UUID as PythonUUID

import graphene
from django.utils import timezone

from apps.api.graphql.scalars import JSON, UUID, AssetId, DateTime, Decimal
from apps.api.graphql.types.market import FeedEntry, assets_by_name
from apps.api.graphql.types.rules import State, describe_document
from apps.public_ids import with_public_id
from apps.rules.domain import describe_unknown
from apps.rules.explain import Part
from apps.rules.queries import rules_ever_seen_by
from apps.rules.why import Why as Explanation
from apps.rules.why import WhyRefused, why

# Each reads a log again, from the last checkpoint on.
ASKED_MOST = 5


class WhyPart(graphene.ObjectType):
    """A part of a rule's condition, and what it saw."""

    depth = graphene.Int(required=True, description="0: the whole condition; 1: what it combines, and so on.")
    summary = graphene.String(required=True, description="The condition as a sentence.")
    result = graphene.Boolean(description="Whether it holds; null: it cannot be decided yet.")
    figures = graphene.String(required=True, description="A text with the compared figures; may be empty.")

    def resolve_depth(line: tuple[int, Part], info: Any) -> int:
        return line[0]

    def resolve_summary(line: tuple[int, Part], info: Any) -> str:
        return line[1].summary

    def resolve_result(line: tuple[int, Part], info: Any) -> bool | None:
        return line[1].result

    def resolve_figures(line: tuple[int, Part], info: Any) -> str:
        return line[1].figures


class PriceSeen(graphene.ObjectType):
    """A quote that was evaluated."""

    at = graphene.Field(DateTime, required=True, description="Since when the price was valid.")
    price = graphene.Field(Decimal, required=True, description="The price.")


class Why(graphene.ObjectType):
    """The state of a rule on an asset at a moment, and what it saw, computed from its feed's log."""

    refusal = graphene.String(
        description="A sentence on why there is no answer: for example, the quotes are no longer kept. Then all other "
        "fields are null; else this one is."
    )
    summary = graphene.String(description="A sentence about the state of the rule at that time.")
    state = graphene.Field(State, description="The same as a code.")
    unknown = graphene.String(
        description="Why the condition could not be decided, as a code of docs/rules.md; else empty."
    )
    unknown_text = graphene.String(description="The same as a sentence.")
    since = graphene.Field(DateTime, description="When it came into this state, by the feed's clock.")
    opened_at = graphene.Field(DateTime, description="When it last opened an alert that notified.")
    is_suppressed = graphene.Boolean(description="It opened within the cooldown, so nobody was notified.")
    cooling_until = graphene.Field(DateTime, description="Until then a new opening notifies nobody.")
    evaluated_at = graphene.Field(DateTime, description="The last evaluation before the moment; null: there was none.")
    parts = graphene.List(
        graphene.NonNull(WhyPart), description="The condition and its parts, as they are read; null before a quote."
    )
    evidence = graphene.Field(JSON, description="The same as data: the operands and their values.")
    newest = graphene.Field(PriceSeen, description="The newest quote.")
    previous = graphene.Field(PriceSeen, description="The quote before it.")
    version = graphene.Int(description="Number of the rule's version that was evaluated.")
    description = graphene.String(description="This version of the rule as a sentence.")
    entry = graphene.Field(FeedEntry, description="The last entry of the log that was read.")


class WhyQuery(graphene.ObjectType):
    why = graphene.Field(
        Why,
        rule=UUID(required=True, description="Id of a rule of yours, also of one that was deleted."),
        asset=AssetId(required=True, description="Id, symbol or alias of an asset."),
        at=DateTime(description="The moment, by the feed's clock; by default the last evaluated entry."),
        description="Why a rule did or did not fire. Null where the rule or the asset is none, or is not yours. "
        f"At most {ASKED_MOST} are answered in one request.",
    )

    def resolve_why(root: None, info: Any, rule: PythonUUID, asset: str, at: datetime | None = None) -> Why | None:
        context = info.context
        owner = context.owner()
        context.count_costly("why", most=ASKED_MOST)
        row = with_public_id(rules_ever_seen_by(owner), rule)
        found = assets_by_name(context, [asset]).get(asset)
        if row is None or found is None:
            return None
        try:
            return _shown(why(owner, rule=row, asset=found, at=at, now=timezone.now()))
        except WhyRefused as error:
            return Why(refusal=str(error))


def _shown(found: Explanation) -> Why:
    unknown = found.unknown or ""
    return Why(
        summary=found.summary,
        state=found.state,
        unknown=unknown,
        unknown_text=describe_unknown(unknown),
        since=found.since,
        opened_at=found.opened_at,
        is_suppressed=found.suppressed,
        cooling_until=found.cooling_until,
        evaluated_at=found.evaluated_at,
        parts=list(found.tree.lines()) if found.tree is not None else None,
        evidence=found.evidence,
        newest=found.newest,
        previous=found.previous,
        version=found.version.number,
        description=describe_document(found.version.document),
        entry=found.entry,
    )
