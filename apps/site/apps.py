from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SiteConfig(AppConfig):
    name = "apps.site"
    label = "site"

    def ready(self) -> None:
        from apps.site.roles import make_groups

        post_migrate.connect(make_groups, sender=self)
