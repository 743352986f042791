from django.apps import AppConfig


class SetupConfig(AppConfig):
    name = "apps.setup"
    label = "setup"

    def ready(self) -> None:
        from apps.setup import checks  # noqa: F401, registers the check
