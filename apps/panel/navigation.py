"""The navigation of the admin, by what people do and not by app."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst

from apps.notify.domain import describe_unread
from apps.notify.queries import unread_in_inbox

# (what people read, its icon, the page, the permission that it asks for).
_DAILY = [
    ("Rules", "rule", "rules_rule", "rules.view_rule"),
    ("Alerts", "notifications", "alerts_alert", "alerts.view_alert"),
    ("Channels", "campaign", "notify_channel", "notify.view_channel"),
]
_OPERATING = [
    ("Feeds", "rss_feed", "market_feed", "market.view_feed"),
    ("Log", "receipt_long", "market_feedentry", "market.view_feedentry"),
    ("Users", "group", "auth_user", "auth.view_user"),
]


def groups(request: HttpRequest) -> list[dict[str, Any]]:
    """Return what Unfold's sidebar shows: what people do each day, what operators do, and, folded, all other pages that
    the reader may open."""
    user = request.user
    daily = [
        {"title": "Overview", "icon": "dashboard", "link": reverse("admin:index")},
        {"title": "Assets", "icon": "candlestick_chart", "link": reverse("asset_list")},
        *_links(user, _DAILY),
        *_inbox(user),
        {"title": "Portfolios", "icon": "account_balance_wallet", "link": reverse("portfolios")},
    ]
    found = [{"items": daily}]
    if operating := _links(user, _OPERATING):
        found.append({"separator": True, "items": operating})
    if others := _others(request):
        found.append({"title": "More", "collapsible": True, "separator": True, "items": others})
    return found


def _links(user: Any, pages: list[tuple[str, str, str, str]]) -> list[dict[str, Any]]:
    return [
        {"title": title, "icon": icon, "link": reverse(f"admin:{page}_changelist")}
        for title, icon, page, permission in pages
        if user.has_perm(permission)
    ]


def _inbox(user: Any) -> list[dict[str, Any]]:
    if not user.has_perm("notify.view_message"):
        return []
    link = f"{reverse('admin:notify_message_changelist')}?kind=inbox"
    unread = {"badge": text, "badge_variant": "primary"} if (text := describe_unread(unread_in_inbox(user))) else {}
    return [{"title": "Inbox", "icon": "inbox", "link": link, **unread}]


def _others(request: HttpRequest) -> list[dict[str, Any]]:
    named = {page for _, _, page, _ in (*_DAILY, *_OPERATING)}
    found = []
    for model, page in admin.site._registry.items():
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        if name not in named and page.has_module_permission(request) and page.has_view_permission(request):
            title = capfirst(model._meta.verbose_name_plural)
            found.append({"title": title, "link": reverse(f"admin:{name}_changelist")})
    return sorted(found, key=lambda one: one["title"])
