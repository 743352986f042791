"""The page on which an administrator removes an identity of the single sign-on from somebody's account."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.identities import remove_identity, why_kept
from apps.accounts.queries import identities_of
from apps.panel.kit.pages import question_page


def identity_view(page: Any, request: HttpRequest, user_id: int, identity_id: int) -> HttpResponse:
    """Ask whether an identity of a person is to go, and remove it. Those who may edit the person may."""
    person = page.get_queryset(request).filter(pk=user_id).first()
    if not page.has_change_permission(request, person):
        raise PermissionDenied
    identity = identities_of(person).filter(pk=identity_id).first() if person is not None else None
    if identity is None:
        raise Http404
    back = HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))
    if person == request.user:
        page.message_user(request, "Remove your own on your profile.", "warning")
        return back
    if request.method == "POST":
        if remove_identity(user=person, identity_id=identity_id, even_last=True):
            page.log_change(request, person, f"Removed the identity {identity.uid} of {identity.provider}.")
        page.message_user(request, f"{identity.uid} no longer signs in as {person}.", "success")
        return back
    alone = f"{person} signs in by nothing else, and cannot sign in until there is a password or another identity."
    return question_page(
        page,
        request,
        title=f"Remove the identity {identity.uid} of {person}?",
        question=f"{identity.provider} then no longer signs anybody in to this account as {identity.uid}. Sessions "
        f"that have begun go on; make the account inactive to end them.{f' {alone}' if why_kept(identity) else ''}",
        what="Remove it",
        variant="danger",
        cancel=back.url,
    )
