"""The problems that a reader may see, for the admin's first page."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.urls import reverse
from django.utils.html import format_html

from apps.alerts.reconciliation import SUBJECT as RECONCILED
from apps.health.alerting import NAMED_BY, every_row
from apps.health.domain import Subject
from apps.health.queries import not_checked, problem_counts, problems_seen_by, system_health
from apps.health.wording import written_for
from apps.panel.kit.parts import LINK, Part
from apps.portfolios.models import Portfolio
from apps.reader import active_reader, in_zone, show_time, write_time

PROBLEMS_SHOWN = 50
_NAMED_BY: Mapping[str, tuple[Any, str]] = {**NAMED_BY, RECONCILED: (Portfolio, "name")}


def health_part(user: AbstractBaseUser | AnonymousUser, *, now: datetime) -> Part:
    """Return the problems that the reader may see, the worst first; in a few statements."""
    stopped = not_checked(now=now)
    if stopped is not None:
        stopped = written_for(stopped, reader=active_reader())
        return Part(title="Health", sentences=[stopped.reason, stopped.remedy], mood="bad")
    counts, shown = problem_counts(user), problems_seen_by(user, limit=PROBLEMS_SHOWN)
    more = sum(counts) - len(shown)
    checked_at = write_time(system_health(now=now).checked_at, "%X")
    if not counts.faults:
        first = f"Nothing is wrong, by the check at {checked_at}."
    else:
        things = "1 thing is" if counts.faults == 1 else f"{counts.faults} things are"
        first = f"{things} wrong, by the check at {checked_at}."
    links = subject_links((problem.subject, problem.subject_id) for problem, _ in shown)
    return Part(
        title="Health",
        sentences=[first, *([f"These are {PROBLEMS_SHOWN} of {sum(counts)}."] if more > 0 else [])],
        mood="bad" if counts.faults else "good",
        headers=["what", "health", in_zone("since"), "why", "what to do"],
        rows=[
            [
                links[problem.subject, problem.subject_id],
                health.level,
                show_time(problem.since, with_zone=False),
                health.reason,
                health.remedy,
            ]
            for problem, health in ((one, written_for(health, reader=active_reader())) for one, health in shown)
        ],
    )


def subject_links(subjects: Iterable[tuple[str, int]]) -> dict[tuple[str, int], Any]:
    """Return (subject, id) -> the name of each, as a link to its page."""
    ids: dict[str, set[int]] = {}
    for subject, pk in subjects:
        ids.setdefault(subject, set()).add(pk)
    links: dict[tuple[str, int], Any] = {(Subject.SYSTEM, 0): "the system"}
    for subject, its_ids in ids.items():
        if subject not in _NAMED_BY:
            continue
        model, column = _NAMED_BY[subject]
        names = dict(every_row(model).filter(pk__in=its_ids).order_by().values_list("pk", column))
        for pk in its_ids:
            page = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_change", args=[pk])
            # A row that was deleted since the check has no page.
            name = f"{subject} {names[pk]}" if pk in names else f"{subject} (deleted)"
            links[subject, pk] = format_html(LINK, page, name) if pk in names else name
    return links
