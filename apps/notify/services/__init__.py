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
    TestRefused,
    configure_channel,
    create_channel,
    reconsider_quiet_hours,
    redeliver,
    send_test,
    set_channels,
    switch_off,
)
from apps.notify.services.owing import owe, owe_reminders
from apps.notify.services.planning import plan
from apps.notify.services.sending import deliver_next, note_hurried
from apps.notify.services.silencing import create_silence, end_silence

__all__ = [
    "ACTS",
    "Done",
    "LinkInvalid",
    "LinkOver",
    "TestRefused",
    "act_by_link",
    "act_links",
    "configure_channel",
    "create_channel",
    "create_silence",
    "deliver_next",
    "end_silence",
    "message_of_link",
    "note_hurried",
    "owe",
    "owe_reminders",
    "plan",
    "reconsider_quiet_hours",
    "redeliver",
    "send_test",
    "set_channels",
    "switch_off",
    "told_last",
]
