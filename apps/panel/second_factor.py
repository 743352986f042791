"""The page on which an administrator turns off the second factor of somebody who has lost it."""

from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse

from apps.accounts.second_factor import second_factor_of, turn_off
from apps.panel.kit.pages import question_page
from apps.panel.people import person_to_edit

OFF = "Two-factor sign-in is off for {}."


def second_factor_view(page: Any, request: HttpRequest, user_id: int) -> HttpResponse:
    """Ask whether the second factor of a person is to go, and take it away. Those who may edit the person may."""
    person = person_to_edit(page, request, user_id)
    back = HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))
    if person == request.user:
        page.message_user(request, "Your own you turn off from your profile, by a code.", "warning")
        return back
    if request.method == "POST":
        if turn_off(user=person):
            page.log_change(request, person, "Turned two-factor sign-in off.")
        page.message_user(request, OFF.format(person), "success")
        return back
    if second_factor_of(person) is None:
        page.message_user(request, OFF.format(person), "info")
        return back
    return question_page(
        page,
        request,
        title=f"Turn two-factor sign-in of {person} off?",
        question=f"Then {person} signs in without a code, and can turn it on again. First make sure that it is "
        f"{person} who wants this: whoever has the password needs nothing else from then on.",
        what="Turn it off",
        variant="danger",
        cancel=back.url,
    )
