"""The pages on which an operator finds an asset at a provider, and lists it."""

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from apps.market.models import Asset, Feed
from apps.panel.kit.pages import PageAdmin, Table, page_link, question_page
from apps.pipeline.asked import CannotAsk, options_for
from apps.sources.models import FeedSource, Listing
from apps.sources.providers.protocol import SearchResult
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import ListingRefused, add_listing, search_source

SEARCHABLE = {slug: provider for slug, provider in sorted(PROVIDERS.items()) if provider.has_search}
WORDS_LONGEST, NAME_LONGEST = 64, 128


class SearchForm(forms.Form):
    """The words to search for, and where. asset: the symbol of an asset that is here already, or ""."""

    provider = forms.ChoiceField(choices=[(slug, slug) for slug in SEARCHABLE], widget=UnfoldAdminSelectWidget)
    search = forms.CharField(
        label="Search for", max_length=WORDS_LONGEST, widget=UnfoldAdminTextInputWidget, help_text="A name or a symbol."
    )
    asset = forms.CharField(required=False, max_length=NAME_LONGEST, widget=forms.HiddenInput)


class ListForm(forms.Form):
    """Which asset a name of a provider is."""

    symbol = forms.CharField(
        label="Asset",
        max_length=64,
        widget=UnfoldAdminTextInputWidget,
        help_text="The symbol of an asset, like BTC-USD. One that is not here yet is created.",
    )
    feed = forms.ModelChoiceField(
        Feed.objects.filter(derived=None),
        required=False,
        widget=UnfoldAdminSelectWidget,
        help_text="Of an asset that is not here yet: the feed in which it is created.",
    )


def search_view(page: PageAdmin, request: HttpRequest) -> HttpResponse:
    """Ask a provider what it has for some words, and show it. Nothing is stored."""
    _permit(request)
    initial = {name: request.GET.get(name, "") for name in ("provider", "asset")}
    initial["search"] = request.GET.get("search", "") or initial["asset"].partition("-")[0]
    form = SearchForm(request.POST if request.method == "POST" else None, initial=initial)
    table, failure = None, ""
    if form.is_valid():
        table, failure = _search(request, **form.cleaned_data)
    context = {
        **page.admin_site.each_context(request),
        "title": "Find an asset at a provider",
        "opts": page.opts,
        "form": form,
        "table": table,
        "failure": failure,
    }
    return TemplateResponse(request, "panel/listing_search.html", context)


def _search(request: HttpRequest, *, provider: str, search: str, asset: str) -> tuple[Table | None, str]:
    """Return what was found as a table, or why the provider gave nothing."""
    try:
        source = FeedSource(provider=provider, options=options_for(PROVIDERS[provider]))
    except CannotAsk as error:
        return None, str(error)
    searched = search_source(source=source, text=search, now=timezone.now())
    if searched.failure:
        return None, f"{provider} gave nothing: {searched.failure}"
    ids = [one.external_id for one in searched.results]
    listings = Listing.objects.filter(provider=provider, external_id__in=ids).select_related("asset")
    listed = {one.external_id: one.asset for one in listings}
    return Table(
        title=f"What {provider} finds for “{search}”",
        headers=["its name for it", "symbol", "name", "currency", "asset here"],
        rows=[
            [
                *(one.external_id, one.symbol, one.name, one.currency or ""),
                page_link(request, listed[one.external_id], listed[one.external_id].symbol)
                if one.external_id in listed
                else _link_to_list(provider, one, asset),
            ]
            for one in searched.results
        ],
        empty="Nothing. Try another word: some providers know symbols alone, others names.",
    ), ""


def _link_to_list(provider: str, result: SearchResult, asset: str) -> SafeString:
    known = {"provider": provider, "external_id": result.external_id, "name": result.name, "asset": asset}
    address = f"{reverse('admin:market_asset_list')}?{urlencode(known)}"
    text = f"List it as {asset}" if asset else "List it"
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">{}</a>', address, text)


def list_view(page: PageAdmin, request: HttpRequest) -> HttpResponse:
    """Ask which asset a name of a provider is, and list it."""
    _permit(request)
    provider = SEARCHABLE.get(request.GET.get("provider", ""))
    external_id = request.GET.get("external_id", "").strip()[:NAME_LONGEST]
    if provider is None or not external_id:
        raise Http404
    form = ListForm(request.POST or None, initial={"symbol": request.GET.get("asset", "")})
    if form.is_valid():
        try:
            listed = add_listing(
                provider=provider.slug,
                external_id=external_id,
                symbol=form.cleaned_data["symbol"],
                feed_name=form.cleaned_data["feed"].name if form.cleaned_data["feed"] else None,
                name=request.GET.get("name", "").strip()[:NAME_LONGEST],
                currency=provider.currency_of(external_id, options_for(provider)) or "",
            )
        except (CannotAsk, ListingRefused) as error:
            form.add_error("symbol", f"Not listed: {error}.")
        else:
            asset = listed.listing.asset
            page.log_change(request, asset, f"Listed as {listed.listing}.")
            new = f" It is new in the feed {asset.feed}." if listed.is_new_asset else ""
            page.say_done(request, f"{asset} is {listed.listing}{'' if listed.is_new else ' already'}.{new}")
            return HttpResponseRedirect(reverse("admin:market_asset_change", args=[asset.pk]))
    return question_page(
        page,
        request,
        title=f"List {external_id} at {provider.slug}",
        question=f"Which asset is {external_id} at {provider.slug}?",
        what="List it",
        form=form,
    )


def may_list(user: Any) -> bool:
    """Tell whether a user may list assets at providers, and create assets by that."""
    return bool(user.has_perms(("market.add_asset", "sources.add_listing")))


def search_address(asset: Asset) -> str:
    """Return the address of the search, with an asset that is to be listed and the first provider of its feed that can
    be searched."""
    known = {"asset": asset.symbol}
    sources = asset.feed.sources.all() if asset.feed is not None else []
    if provider := next((one.provider for one in sources if one.provider in SEARCHABLE), ""):
        known["provider"] = provider
    return f"{reverse('admin:market_asset_search')}?{urlencode(known)}"


def _permit(request: HttpRequest) -> None:
    if not may_list(request.user):
        raise PermissionDenied
