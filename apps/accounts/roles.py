"""The groups that there always are, and what their members may do."""

from typing import Any

from django.apps import apps as installed
from django.contrib.auth import get_permission_codename
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import ImproperlyConfigured
from django.db.models import Exists, OuterRef, Q

OWNER, OPERATOR = "Owner", "Operator"

# Of rows that have an owner, every page shows the reader's own alone.
PERMISSIONS: dict[str, list[str]] = {
    OWNER: [
        *(f"rules.{verb}_rule" for verb in ("view", "add", "change", "delete")),
        *(f"notify.{verb}_channel" for verb in ("view", "add", "change", "delete")),
        *(f"api.{verb}_apitoken" for verb in ("view", "add", "change", "delete")),
        *(f"notify.{verb}_silence" for verb in ("view", "add", "change", "delete")),
        *(
            f"portfolios.{verb}_{row}"
            for row in ("portfolio", "transaction")
            for verb in ("view", "add", "change", "delete")
        ),
        *(f"market.{verb}_derivedseries" for verb in ("view", "add", "change", "delete")),
        *(f"portfolios.{verb}_importfile" for verb in ("view", "delete")),
        *(f"portfolios.{verb}_reconciliation" for verb in ("view", "add", "delete")),
        # Who may change an alert acknowledges it; nobody edits one.
        *("alerts.view_alert", "alerts.change_alert", "notify.view_message", "market.view_asset"),
        # The pasts of what they hold, from the page of a portfolio.
        "sources.add_backfill",
    ],
    OPERATOR: [
        *(f"market.{verb}_{row}" for row in ("feed", "asset") for verb in ("view", "add", "change")),
        # A feed's sources and an asset's listings are lines of their pages, which come and go.
        *(
            f"sources.{verb}_{line}"
            for line in ("feedsource", "listing")
            for verb in ("view", "add", "change", "delete")
        ),
        "market.view_feedentry",
        # Lets operators delete wrong quotes on an asset's page.
        "market.delete_quote",
        "market.add_split",
        *("sources.view_backfill", "sources.add_backfill"),
        # Owners request prices from operators.
        *("portfolios.view_pricerequest", "portfolios.delete_pricerequest"),
        "market.push_quotes",
        # By a token of that scope, which Prometheus has.
        "api.read_metrics",
        *("alerts.view_alert", "alerts.change_alert", "alerts.view_system_alerts"),
        *(f"auth.{verb}_user" for verb in ("view", "add", "change")),
    ],
}

# Users whose rights go beyond those of the group Owner.
MORE_THAN_OWNER = (
    Q(is_superuser=True)
    | Exists(User.groups.through.objects.filter(user=OuterRef("pk")).exclude(group__name=OWNER))
    | Exists(User.user_permissions.through.objects.filter(user=OuterRef("pk")))
)


def make_groups(using: str = "default", apps: Any = installed, **kwargs: Any) -> None:
    """Make the groups, with exactly these permissions; a second call changes nothing. Called after each migrate.

    apps: those that are migrated by then; where groups are not, there is nothing to do yet. Raises ImproperlyConfigured
    for a permission that no model has.
    """
    try:
        apps.get_model("auth", "Group")
    except LookupError:
        return
    named = {permission for permissions in PERMISSIONS.values() for permission in permissions}
    if unknown := named - _permissions_of_models():
        raise ImproperlyConfigured(f"no model has the permission {min(unknown)}, which a group is to have")
    # Django makes the permissions of each app when that app's turn comes, which may be after ours.
    for label in sorted({permission.partition(".")[0] for permission in named}):
        create_permissions(installed.get_app_config(label), verbosity=0, using=using, apps=apps)
    for name, permissions in PERMISSIONS.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        chosen = Q(pk__in=[])
        for permission in permissions:
            label, _, codename = permission.partition(".")
            chosen |= Q(content_type__app_label=label, codename=codename)
        # While only some apps are migrated, the others' permissions are not there yet.
        group.permissions.set(Permission.objects.using(using).filter(chosen))


def _permissions_of_models() -> set[str]:
    """Return "app.codename" of every permission that the installed models have."""
    found = set()
    for model in installed.get_models():
        options = model._meta
        codenames = [get_permission_codename(action, options) for action in options.default_permissions]
        codenames += [codename for codename, _ in options.permissions]
        found |= {f"{options.app_label}.{codename}" for codename in codenames}
    return found


def is_within(user: User) -> bool:
    """Tell whether all that the user may do comes from these groups, so that who manages people may manage them."""
    return (
        not user.is_superuser
        and not user.user_permissions.exists()
        and not user.groups.exclude(name__in=PERMISSIONS).exists()
    )
