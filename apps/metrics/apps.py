from django.apps import AppConfig, apps
from django.db.models.signals import post_migrate, pre_migrate


class MetricsConfig(AppConfig):
    name = "apps.metrics"
    label = "metrics"

    def ready(self) -> None:
        from apps.metrics import schema

        # This app has no tables, so a migration says nothing of it: that of the alerts is said once.
        alerts = apps.get_app_config("alerts")
        pre_migrate.connect(schema.drop_views, sender=alerts)
        post_migrate.connect(schema.make_views, sender=alerts)
