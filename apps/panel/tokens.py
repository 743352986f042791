"""Tokens for programs: made here, shown once, revoked here."""

from datetime import datetime
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils import timezone
from unfold.decorators import display

from apps.api.tokens.models import ApiToken
from apps.api.tokens.queries import tokens_seen_by
from apps.api.tokens.services import create_token, revoke_token
from apps.panel.kit.addresses import SiteAdmin
from apps.panel.kit.owned import ChosenOwner


class TokenForm(forms.ModelForm):
    def clean_expires_at(self) -> datetime | None:
        expires_at: datetime | None = self.cleaned_data["expires_at"]
        if expires_at is not None and expires_at <= timezone.now():
            raise forms.ValidationError("The end must lie ahead.")
        return expires_at


@admin.register(ApiToken)
class ApiTokenAdmin(ChosenOwner, SiteAdmin):
    """People see their own tokens, superusers all. A token is never edited: it is revoked, and another one is made."""

    actions = ["revoke"]
    empty_value_display = "never"
    empty_text = "No tokens yet. Add one for a program that asks /graphql or sends quotes."
    form = TokenForm
    list_display = ["name", "owner", "scope", "state", "created_at", "expires_at", "last_used_at"]
    list_filter = ["revoked_at"]
    readonly_fields = ["created_at", "last_used_at", "revoked_at"]
    search_fields = ["name"]

    def get_queryset(self, request: HttpRequest) -> Any:
        return tokens_seen_by(request.user)

    def get_fields(self, request: HttpRequest, obj: ApiToken | None = None) -> list[str]:
        fields = ["owner", "name", "scope", "expires_at"]
        return fields if obj is None else [*fields, *self.readonly_fields]

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if not request.user.has_perm("api.read_metrics"):
            # A token of that scope opens nothing to whom may not read metrics.
            kwargs["choices"] = [one for one in ApiToken.Scope.choices if one[0] != ApiToken.Scope.METRICS]
        return super().formfield_for_choice_field(db_field, request, **kwargs)

    def has_change_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ApiToken | None = None) -> bool:
        # A revoked token stays as what it was: who reads a log of its uses finds its name.
        return False

    def save_model(self, request: HttpRequest, obj: ApiToken, form: Any, change: bool) -> None:
        made, obj.secret = create_token(  # type: ignore[attr-defined]
            owner=obj.owner, name=obj.name, scope=obj.scope, expires_at=obj.expires_at
        )
        obj.pk = made.pk

    def response_add(self, request: HttpRequest, obj: ApiToken, post_url_continue: Any = None) -> HttpResponse:
        """Show the secret in this answer and nowhere else: a message would lie in a cookie or a session."""
        context = {**self.admin_site.each_context(request), "title": "Your new token", "token": obj, "opts": self.opts}
        return TemplateResponse(request, "panel/token_made.html", context)

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("api.delete_apitoken")

    @admin.action(description="Revoke these tokens", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: Any) -> None:
        now = timezone.now()
        count = sum(revoke_token(token=token, now=now) for token in queryset)
        messages.success(request, f"{count} {'token is' if count == 1 else 'tokens are'} revoked.")

    @display(description="state", label={"in force": "success", "over": "warning", "revoked": "danger"})
    def state(self, token: ApiToken) -> str:
        if token.revoked_at:
            return "revoked"
        return "over" if token.expires_at and token.expires_at <= timezone.now() else "in force"
