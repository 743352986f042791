"""The page of backfills: whose past is asked of whom, how far it is, and what it waits for. An asset's page begins one
and shows it."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.market.models import Asset
from apps.panel.kit.pages import PageAdmin, ReadOnlyAdmin, Table, question_page
from apps.reader import TO_MINUTES, active_reader, in_zone, write_time
from apps.sources.models import Backfill
from apps.sources.services import (
    BackfillRefused,
    ask_for_past,
    calls_needed,
    describe_backfill,
    describe_state,
    origin_of,
)

BACKFILLS_SHOWN = 5


@admin.register(Backfill)
class BackfillAdmin(ReadOnlyAdmin):
    """What `manage.py backfill`, and workers for owners, have done, newest first."""

    empty_text = (
        "No backfills yet. An asset's page begins one by Fetch its past, and so does a portfolio's page of pasts."
    )
    fields = ["asset", "provider", "since", "until", "progress", "state", "failure", "created_at", "finished_at"]
    list_display = ["asset", "provider", "since", "until", "progress", "state"]
    list_filter = ["provider", ("finished_at", admin.EmptyFieldListFilter)]
    list_select_related = ["asset"]
    search_fields = ["asset__symbol"]

    @admin.display(description="how far")
    def progress(self, backfill: Backfill) -> str:
        return describe_backfill(backfill, reader=active_reader())

    @admin.display(description="in words (UTC)")
    def state(self, backfill: Backfill) -> str:
        return describe_state(backfill, now=timezone.now(), reader=active_reader())


class PastForm(forms.Form):
    """From when on the past of an asset is fetched."""

    since = forms.DateTimeField(
        label=in_zone("From"),
        widget=UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"}),
        help_text="The past from then to now. Of what a provider does not reach back to, nothing comes.",
    )


def past_view(page: PageAdmin, request: HttpRequest, asset_id: int) -> HttpResponse:
    """Ask from when on, and ask workers for the past of an asset."""
    if not may_fetch_past(request.user):
        raise PermissionDenied
    asset = Asset.objects.select_related("feed").filter(pk=asset_id, owner=None).first()
    if asset is None:
        raise Http404
    back = HttpResponseRedirect(reverse("admin:market_asset_change", args=[asset.pk]))
    now = timezone.now()
    form = PastForm(request.POST if request.method == "POST" else None)
    try:
        origin = origin_of(asset)
        if form.is_valid():
            backfill = ask_for_past(asset=asset, since=form.cleaned_data["since"], now=now)
            calls = calls_needed(origin, since=backfill.reached, until=backfill.until, now=now)
            asked = f"the past of {asset} from {write_time(backfill.since, TO_MINUTES)}"
            noun = "call" if calls == 1 else "calls"
            page.log_change(request, asset, f"Asked {backfill.provider} for {asked}.")
            page.say_done(
                request, f"{backfill.provider} is asked for {asked}, in {calls} {noun}. Its prices come page by page."
            )
            return back
    except BackfillRefused as refused:
        page.say_refused(request, f"Not asked for: {refused}.")
        return back
    return question_page(
        page,
        request,
        title=f"The past of {asset}",
        question=f"From when on is the past of {asset} fetched? {origin.provider.slug} is asked page by page, "
        "within its limits. Workers go on with it, and the page of the asset shows how far it is.",
        what="Fetch its past",
        form=form,
    )


def may_fetch_past(user: Any) -> bool:
    """Tell whether a user may ask for the past of any asset."""
    return bool(user.has_perms(("market.change_asset", "sources.add_backfill")))


def backfills_table(asset: Asset) -> Table | None:
    """Return the newest backfills of an asset and how far they are; None where there are none."""
    now, reader = timezone.now(), active_reader()
    rows = [
        [
            one.provider,
            one.since,
            one.until,
            describe_backfill(one, reader=reader),
            describe_state(one, now=now, reader=reader),
        ]
        for one in Backfill.objects.filter(asset=asset)[:BACKFILLS_SHOWN]
    ]
    if not rows:
        return None
    headers = ["provider", in_zone("from"), in_zone("to"), "how far (UTC)", "state (UTC)"]
    return Table(title="Its past, fetched from providers", headers=headers, rows=rows, empty="")
