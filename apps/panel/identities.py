"""The page on which an administrator removes the identities of the single sign-on from somebody's account."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.identities import remove_identities
from apps.accounts.queries import has_password, identities_of
from apps.panel.kit.pages import question_page
from apps.panel.people import person_to_edit

NONE = "No identity of a provider signs in as {}."


def identities_view(page: Any, request: HttpRequest, user_id: int) -> HttpResponse:
    """Ask whether the identities of a person are to go, and remove them. Those who may edit the person may."""
    person = person_to_edit(page, request, user_id)
    back = HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))
    if person == request.user:
        page.message_user(request, "Remove your own on your profile.", "warning")
        return back
    if request.method == "POST":
        if removed := remove_identities(user=person):
            page.log_change(request, person, f"Removed of single sign-on: {', '.join(removed)}.")
        page.message_user(request, NONE.format(person), "success")
        return back
    identities = list(identities_of(person))
    if not identities:
        page.message_user(request, NONE.format(person), "info")
        return back
    alone = "" if has_password(person) else f" Without a password, {person} cannot sign in until there is one."
    return question_page(
        page,
        request,
        title=f"Remove single sign-on of {person}?",
        question="Then nobody signs in to this account by these identities. They can be connected again. Sessions that "
        f"have begun go on; make the account inactive to end them.{alone}",
        what="Remove it",
        variant="danger",
        rows=[f"{one.uid} of {one.provider}" for one in identities],
        cancel=back.url,
    )
