"""The composition root: settings, the Celery application, the paths. No models, no logic."""

import os

# Before the application is imported: `celery -A fintech` comes in by this door and no other.
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "fintech.settings")

from fintech.celery import app as celery_app

__all__ = ["celery_app"]
