"""What tests of the channels' pages share: addresses, what the form posts, and the buttons."""

from django.urls import reverse

LIST, ADD = reverse("admin:notify_channel_changelist"), reverse("admin:notify_channel_add")
CHANNEL_PERMISSIONS = [f"notify.{verb}_channel" for verb in ("view", "add", "change", "delete")]
BY_MAIL = {
    **{"name": "Mail", "kind": "email", "email_to": "ada@example.org", "is_enabled": "on", "wants_resolved": "on"},
    **{"group_wait_seconds": "", "messages_per_minute": "", "repeat_minutes": "0", "quiet_zone": "UTC"},
}


def page_of(channel, page="change"):
    return reverse(f"admin:notify_channel_{page}", args=[channel.pk])


def posted(channel, **changes):
    """Return what the form of this channel posts, as it is shown, but for these changes."""
    data = {
        name: getattr(channel, name)
        for name in ("name", "group_wait_seconds", "messages_per_minute", "repeat_minutes", "quiet_zone")
    }
    data |= {name: "on" for name in ("is_enabled", "wants_resolved", "quiet_allow_critical") if getattr(channel, name)}
    data |= {f"{channel.kind}_{name}": value for name, value in channel.config.items()}
    return {name: value for name, value in (data | changes).items() if value is not None}


def errors_of(answer):
    return {name: list(errors) for name, errors in answer.context["adminform"].form.errors.items()}


def ask(client, action, *channels, **data):
    asked = {"action": action, "_selected_action": [one.pk for one in channels], "index": "0", "back": "page", **data}
    return client.post(LIST, asked, follow=True)


def preview(client, address, data):
    return client.post(address, data).json()
