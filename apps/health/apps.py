"""Health: what is well, degraded or stopped, since when, and why."""

from django.apps import AppConfig


class HealthConfig(AppConfig):
    name = "apps.health"
    label = "health"
