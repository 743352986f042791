from importlib import import_module

from django.apps import AppConfig


class NotifyConfig(AppConfig):
    name = "apps.notify"
    label = "notify"

    def ready(self) -> None:
        # The admin finds admin.py by itself; this one puts the channels into the form of rules.
        import_module("apps.notify.admin_rules")
