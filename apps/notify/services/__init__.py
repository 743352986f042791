"""What changes channels, debts, messages and silences, in rooms by what it is about."""

from apps.notify.services.acting import (
    ACTS,
    Done,
    LinkInvalid,
    LinkOver,
    act_by_link,
    act_links,
    message_of_link,
    told_last,
)
from apps.notify.services.channels import (
    PREVIOUS_SECRET,
    SECRET,
    TestRefused,
    configure_channel,
    create_channel,
    has_rotating_secret,
    reconsider_quiet_hours,
    redeliver,
    retire_previous_secret,
    rotate_secret,
    send_test,
    set_channels,
    switch_off,
    switch_on,
)
from apps.notify.services.owing import owe, owe_reminders
from apps.notify.services.planning import plan
from apps.notify.services.previewing import WouldSend, last_opening, would_send
from apps.notify.services.pruning import kept_since, prune_messages, prune_silences
from apps.notify.services.sending import deliver_next, note_hurried
from apps.notify.services.silencing import create_silence, end_silences, look_again

__all__ = [
    "ACTS",
    "PREVIOUS_SECRET",
    "SECRET",
    "Done",
    "LinkInvalid",
    "LinkOver",
    "TestRefused",
    "WouldSend",
    "act_by_link",
    "act_links",
    "configure_channel",
    "create_channel",
    "create_silence",
    "deliver_next",
    "end_silences",
    "has_rotating_secret",
    "kept_since",
    "last_opening",
    "look_again",
    "message_of_link",
    "note_hurried",
    "owe",
    "owe_reminders",
    "plan",
    "prune_messages",
    "prune_silences",
    "reconsider_quiet_hours",
    "redeliver",
    "retire_previous_secret",
    "rotate_secret",
    "send_test",
    "set_channels",
    "switch_off",
    "switch_on",
    "told_last",
    "would_send",
]
