"""What people do with their account as a whole: download all that they own, and delete it."""

from typing import cast

from django.contrib.auth import logout
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_http_methods, require_safe

from apps.ownership.deleting import AccountStays, delete_account
from apps.ownership.export import export_of
from apps.ownership.queries import counts_of, counts_staying, why_not_deleted
from apps.site.forms import DeleteAccountForm


@never_cache
@login_required
@require_safe
def account_download(request: HttpRequest) -> StreamingHttpResponse:
    """Give all that the reader owns as one ZIP file, made as it is sent."""
    now = timezone.now()
    pieces = iter(()) if request.method == "HEAD" else export_of(_reader(request), now=now)
    answer = StreamingHttpResponse(pieces, content_type="application/zip")
    answer["Content-Disposition"] = f'attachment; filename="fintech-{now:%Y-%m-%d}.zip"'
    return answer


@never_cache
@sensitive_post_parameters("password")
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def account_delete(request: HttpRequest) -> HttpResponse:
    """Say what goes with the reader's account and what stays, and delete it once the password confirms that."""
    user = _reader(request)
    refusal = why_not_deleted(user)
    may_go = not refusal
    form = DeleteAccountForm(*([request.POST] if request.method == "POST" else []), request=request)
    if may_go and form.is_bound and form.is_valid():
        try:
            delete_account(user=user, now=timezone.now())
        except AccountStays as stays:
            refusal = str(stays)
        else:
            logout(request)
            text = "All that you owned is deleted with it."
            return render(request, "site/said.html", {"title": "Your account is deleted", "text": text})
    context = {
        "title": "Delete your account?",
        "form": form,
        "refusal": refusal,
        "may_go": may_go,
        "going": counts_of(user),
        "staying": counts_staying(user),
    }
    return render(request, "site/account_delete.html", context)


def _reader(request: HttpRequest) -> User:
    return cast(User, request.user)
