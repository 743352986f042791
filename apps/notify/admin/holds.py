"""What holds something back, in words."""

from django.utils import timezone

from apps.notify import domain
from apps.notify.models import Owed, Silence


def hold_in_words(hold: domain.Hold) -> str:
    """Return what holds back what would be told now."""
    until = domain.moment(hold.until)
    if hold.silence_id is None:
        return f"Quiet hours hold it back until {until}."
    comment = Silence.objects.values_list("comment", flat=True).get(pk=hold.silence_id)
    return f"The silence “{comment}” holds it back until {until}."


def held_in_words(debt: Owed) -> str:
    """Return what holds a debt back, or did till it was told; "" where nothing did. It needs its silence."""
    if debt.hold == Owed.Hold.SILENCE:
        return f"the silence “{debt.silence.comment}”" if debt.silence is not None else "a silence"
    return "quiet hours" if debt.hold == Owed.Hold.QUIET else ""


def why_it_waits(debt: Owed) -> str:
    """Return what a debt waits for that no message pays yet. It needs its silence."""
    if debt.hold and debt.due_at > timezone.now():
        return f"the end of {held_in_words(debt)}, at {domain.moment(debt.due_at)}"
    if debt.due_at > timezone.now():
        return f"more alerts, which come with it at {domain.moment(debt.due_at)}"
    return "the next planning, within seconds"
