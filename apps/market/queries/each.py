"""The first rows of each of many, like the newest quotes of each of these assets."""

from typing import Any

from django.db.models import OuterRef, Q, QuerySet, Subquery


def first_of_each(
    parents: QuerySet[Any], rows: QuerySet[Any], *, parent: str, by: str, limit: int, is_descending: bool = True
) -> dict[int, list[Any]]:
    """Return parent id -> its first rows in the order of `by`, at most `limit` of them; two statements.

    parent: the foreign key of the rows; by: unique among the rows of one parent, with an index on both.
    Where each parent's last row stands is found first, since numbering all of its rows would read years of them.
    """
    sign, within = ("-", "gte") if is_descending else ("", "lte")
    last = rows.filter(**{parent: OuterRef("pk")}).order_by(f"{sign}{by}").values(by)[limit - 1 : limit]
    edges = parents.order_by().annotate(edge=Subquery(last)).values_list("pk", "edge")
    wanted, found = Q(pk__in=[]), dict[int, list[Any]]()
    for key, edge in edges:
        found[key] = []
        wanted |= Q(**{parent: key}) & (Q(**{f"{by}__{within}": edge}) if edge is not None else Q())
    for row in rows.filter(wanted).order_by(f"{sign}{by}"):
        found[getattr(row, f"{parent}_id")].append(row)
    return found
