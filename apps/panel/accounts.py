"""The pages of users and groups, in the clothes of the others. They belong to no app of ours, so the site has them."""

from functools import partial
from typing import Any

from allauth.account.admin import EmailAddress
from allauth.mfa.admin import Authenticator
from allauth.socialaccount.admin import SocialAccount, SocialApp, SocialToken
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.auth.admin import GroupAdmin as DjangoGroupAdmin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.contrib.auth.models import Group, User
from django.forms import BaseModelForm
from django.http import HttpRequest
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget

from apps.accounts import roles
from apps.accounts.queries import identities_of
from apps.accounts.second_factor import second_factor_of
from apps.accounts.services import send_password_link
from apps.panel.account_forms import InvitedForm, MadeForm, RenamedForm
from apps.panel.identities import identities_view
from apps.panel.kit.addresses import CheckedAddress
from apps.panel.leaving import about, leaving_view
from apps.panel.second_factor import second_factor_view
from apps.reader import show_time

GROUPS_HELP = (
    f"{roles.OWNER}: rules, alerts and channels of their own. {roles.OPERATOR}: assets, feeds, people and "
    "alerts about this installation. Members of a group may enter these pages."
)
ACTIVE_HELP = (
    "Off: they cannot sign in, and nothing is sent to their channels any more, not even what waits. Their rules are "
    "kept and evaluated on, and their alerts open and resolve, but nobody is notified."
)

admin.site.unregister(User)
admin.site.unregister(Group)
# What allauth would show: rows that no person edits, some with secrets.
for model in (EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken):
    admin.site.unregister(model)


@admin.register(User)
class UserAdmin(CheckedAddress, DjangoUserAdmin, ModelAdmin):
    """People: a name, an address, their groups.

    Operators manage those whose rights come from the groups Owner and Operator, and hand out these two; all else is
    for superusers. Otherwise an operator could write an own address into an account that may do more, and ask for a
    new password.
    """

    add_form_template = "admin/change_form.html"
    change_password_form = AdminPasswordChangeForm
    filter_horizontal = ["user_permissions"]
    form = RenamedForm
    list_display = ["username", "email", "is_active", "group_names", "last_login"]
    list_filter = ["is_active", "groups"]
    search_fields = ["username", "email"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(pk__gt=0).prefetch_related("groups")

    def get_fieldsets(self, request: HttpRequest, obj: User | None = None) -> Any:
        if obj is None:
            passwords = ["password1", "password2"] if _is_password_set_here() else []
            return [(None, {"fields": ["username", "email", "groups", *passwords]})]
        # Who may only look has no use for the form that sets a password, nor for how it is stored.
        sign_in = ["password", "second_factor", "identities"] if self.has_change_permission(request, obj) else []
        simple = (None, {"fields": ["username", "email", "groups", "is_active", *sign_in, "last_login"]})
        if not request.user.is_superuser:
            return [simple]
        more = ["is_superuser", "is_staff", "user_permissions", "first_name", "last_name", "date_joined"]
        return [simple, ("Superuser settings", {"fields": more})]

    def get_form(self, request: HttpRequest, obj: User | None = None, **kwargs: Any) -> Any:
        if obj is None:
            kwargs.setdefault("form", MadeForm if _is_password_set_here() else InvitedForm)
        form = super().get_form(request, obj, **kwargs)
        if "is_active" in form.base_fields:
            form.base_fields["is_active"].help_text = _about_leaving(obj, request) if obj is not None else ACTIVE_HELP
        return form

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name != "groups":
            return super().formfield_for_manytomany(db_field, request, **kwargs)
        kwargs |= {"widget": UnfoldAdminCheckboxSelectMultipleWidget(), "help_text": GROUPS_HELP}
        if not request.user.is_superuser:
            kwargs["queryset"] = Group.objects.filter(name__in=roles.PERMISSIONS)
        return db_field.formfield(**kwargs)

    def get_urls(self) -> list[Any]:
        views = (leaving_view, second_factor_view, identities_view)
        leave, second_factor, identities = (self.admin_site.admin_view(partial(view, self)) for view in views)
        return [
            path("<int:user_id>/leave/", leave, name="auth_user_leave"),
            path("<int:user_id>/second-factor/", second_factor, name="auth_user_second_factor"),
            path("<int:user_id>/identities/", identities, name="auth_user_identities"),
            *super().get_urls(),
        ]

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        return ["last_login", "date_joined", "second_factor", "identities"]

    def get_list_filter(self, request: HttpRequest) -> list[str]:
        return self.list_filter if request.user.is_superuser else ["is_active"]

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        if not super().has_change_permission(request, obj):
            return False
        return obj is None or request.user.is_superuser or roles.is_within(obj)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        # `leaving.py` has the page that deletes people: with a row alone their rules would go, behind the log's back.
        return False

    def save_related(self, request: HttpRequest, form: BaseModelForm, formsets: Any, change: bool) -> None:
        """Let members of a group into the admin, and send who is new the way in."""
        super().save_related(request, form, formsets, change)
        user = form.instance
        if not user.is_staff and user.groups.exists():
            user.is_staff = True
            user.save(update_fields=["is_staff"])
        if change and "is_active" in form.changed_data and not user.is_active and request.user.is_superuser:
            messages.info(request, format_html("{} {}", about(user), _way_to_leave(user)))
        if not change and settings.EMAIL_CONFIGURED and settings.PASSWORD_SIGN_IN:
            send_password_link(user=user, is_new=True)
            messages.info(
                request,
                f"A mail with a link to set the password is queued for {user.email}. This page did not wait for the "
                'mail server: the log says "password mail sent" once the server has taken it, or "password mail not '
                f'sent" and why. If it does not arrive, {user} can ask for another: Forgot your password? on the '
                "sign-in page.",
            )

    @admin.display(description="two-factor sign-in")
    def second_factor(self, user: User) -> str:
        factor = second_factor_of(user)
        if factor is None:
            return "Off. Only the person can turn it on."
        page = reverse("admin:auth_user_second_factor", args=[user.pk])
        way = '<a class="underline" href="{}">Turn it off</a> where the phone and the recovery codes are lost.'
        return format_html("On since {}. " + way, show_time(factor.since), page)

    @admin.display(description="single sign-on")
    def identities(self, user: User) -> str:
        found = [(one.uid, one.provider, show_time(one.date_joined)) for one in identities_of(user)]
        if not found:
            return "No identity of a provider signs in here."
        lines = format_html_join("", "<p>{} of {}, since {}.</p>", found)
        page = reverse("admin:auth_user_identities", args=[user.pk])
        return format_html('{}<a class="underline" href="{}">Remove single sign-on</a>', lines, page)

    @admin.display(description="groups")
    def group_names(self, user: User) -> str:
        return ", ".join(group.name for group in user.groups.all()) or ("superuser" if user.is_superuser else "none")


def _is_password_set_here() -> bool:
    """Return whether the operator sets the first password of an account."""
    return settings.PASSWORD_SIGN_IN and not settings.EMAIL_CONFIGURED


def _about_leaving(user: User, request: HttpRequest) -> SafeString:
    """Return what becomes of what a person has when they are made inactive, and where else it may go."""
    way = _way_to_leave(user) if request.user.is_superuser else "A superuser can hand the rules to another person."
    return format_html("{} {} {}", ACTIVE_HELP, about(user), way)


def _way_to_leave(user: User) -> SafeString:
    page = reverse("admin:auth_user_leave", args=[user.pk])
    return format_html('<a class="underline" href="{}">Hand the rules over, or delete the account</a>.', page)


@admin.register(Group)
class GroupAdmin(CheckedAddress, DjangoGroupAdmin, ModelAdmin):
    """What its members may do. Who could edit groups could give themselves anything, so only superusers may."""

    def get_form(self, request: HttpRequest, obj: Group | None = None, **kwargs: Any) -> Any:
        form = super().get_form(request, obj, **kwargs)
        if "permissions" in form.base_fields:
            names = " and ".join(roles.PERMISSIONS)
            form.base_fields[
                "permissions"
            ].help_text = f"What {names} may do is set anew by each migrate; for other rights make a group of its own."
        return form

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    def has_module_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser
