"""Which path leads to which door."""

from django.contrib import admin
from django.urls import path

from apps.site import views as site

urlpatterns = [
    path("", site.front, name="front"),
    path("healthz", site.healthz, name="healthz"),
    path("readyz", site.readyz, name="readyz"),
    path("admin/", admin.site.urls),
]
