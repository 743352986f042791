"""Services for channels, notifications, messages and silences, one module for each subject."""

from apps.notify.services.actions import (
    ACTIONS,
    Done,
    LinkInvalid,
    LinkOver,
    action_links,
    last_items_of,
    message_of_link,
    perform_action,
)
from apps.notify.services.channels import (
    PREVIOUS_SECRET,
    QUIET,
    SECRET,
    TestRefused,
    change_channel,
    configure_channel,
    create_channel,
    has_rotating_secret,
    reconsider_quiet_hours,
    redeliver,
    retire_previous_secret,
    rotate_secret,
    save_changes,
    send_test,
    set_channels,
    switch_off,
    switch_on,
)
from apps.notify.services.enqueuing import enqueue
from apps.notify.services.planning import plan
from apps.notify.services.previewing import WouldSend, last_opening, would_send
from apps.notify.services.pruning import kept_since, prune_messages, prune_silences
from apps.notify.services.reminding import enqueue_reminders, schedule_reminders
from apps.notify.services.sending import deliver_next, note_dispatched
from apps.notify.services.silencing import create_silence, end_silences, faults_of_silence, look_again

__all__ = [
    "ACTIONS",
    "PREVIOUS_SECRET",
    "QUIET",
    "SECRET",
    "Done",
    "LinkInvalid",
    "LinkOver",
    "TestRefused",
    "WouldSend",
    "action_links",
    "change_channel",
    "configure_channel",
    "create_channel",
    "create_silence",
    "deliver_next",
    "end_silences",
    "enqueue",
    "enqueue_reminders",
    "faults_of_silence",
    "has_rotating_secret",
    "kept_since",
    "last_items_of",
    "last_opening",
    "look_again",
    "message_of_link",
    "note_dispatched",
    "perform_action",
    "plan",
    "prune_messages",
    "prune_silences",
    "reconsider_quiet_hours",
    "redeliver",
    "retire_previous_secret",
    "rotate_secret",
    "save_changes",
    "schedule_reminders",
    "send_test",
    "set_channels",
    "switch_off",
    "switch_on",
    "would_send",
]
