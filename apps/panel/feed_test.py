"""The test fetch in the form of a feed, and what is said there of each provider."""

import json
import os
import time
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from apps.market.models import INTERVAL_LONGEST_SECONDS, Feed
from apps.reader import show_span
from apps.sources import queries
from apps.sources.models import FeedSource
from apps.sources.providers.options import Option
from apps.sources.providers.registry import PROVIDERS
from apps.sources.services import NAMES_TRIED, try_source

QUOTES_SHOWN = 5
NAME_LONGEST = 128
# No further source is asked after so long. Each has a deadline of its own.
TRIED_AT_MOST_SECONDS = 10
INTERVAL_USUAL = 60


class WithTestFetch:
    """Adds a test fetch to the form of a feed: its sources are asked as they stand there, and nothing is saved."""

    change_form_after_template = "panel/feed_test.html"

    def get_urls(self) -> list[URLPattern]:
        wrap = self.admin_site.admin_view  # type: ignore[attr-defined]
        return [
            path("test-fetch/", wrap(self.test_fetch), name="market_feed_test_fetch_new"),
            path("<int:feed_id>/test-fetch/", wrap(self.test_fetch), name="market_feed_test_fetch"),
            *super().get_urls(),  # type: ignore[misc]
        ]

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        feed = kwargs.get("obj")
        name, of = ("admin:market_feed_test_fetch", [feed.pk]) if feed else ("admin:market_feed_test_fetch_new", [])
        context |= {"test_address": reverse(name, args=of), "provider_facts": facts_of_providers()}
        context["names_tried"] = NAMES_TRIED
        return super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]

    def test_fetch(self, request: HttpRequest, feed_id: int | None = None) -> HttpResponse:
        """Return, as JSON, what each source in the form gives now, or why it gives nothing."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        page: Any = self
        feed = page.get_object(request, str(feed_id)) if feed_id is not None else None
        if feed_id is not None and feed is None:
            raise Http404
        if not (page.has_change_permission(request, feed) if feed else page.has_add_permission(request)):
            raise PermissionDenied
        (inline,) = page.get_inline_instances(request, feed)
        formset = inline.get_formset(request, feed)(data=request.POST, instance=feed or Feed(), prefix="sources")
        formset.is_valid()
        began = time.monotonic()
        tried = []
        for form in formset.forms if formset.management_form.is_valid() else []:
            if formset._should_delete_form(form):
                continue
            source: FeedSource = form.instance
            if form.errors:
                texts = [text for errors in form.errors.values() for text in errors]
                said = {"failure": "; ".join(text.rstrip(".") for text in texts), "lines": []}
            elif time.monotonic() - began > TRIED_AT_MOST_SECONDS:
                said = {"failure": "not asked: the sources before it took too long", "lines": []}
            else:
                said = _try(request, source, feed)
            tried.append({"source": str(source), **said})
        return JsonResponse({"sources": tried})


def _try(request: HttpRequest, source: FeedSource, feed: Feed | None) -> dict[str, Any]:
    written = request.POST.get("try_names", "").replace(",", " ").split()
    names = [one for one in written if one.isprintable() and len(one) <= NAME_LONGEST]
    if not names and feed is not None:
        names = list(queries.asset_ids_by_external_id(feed).of(source))
    if not names:
        return {"failure": "Write a name to ask for: no asset of this feed has one there.", "lines": []}
    tried = try_source(source=source, external_ids=names, interval_seconds=_interval_in(request), now=timezone.now())
    lines = [_line(*one[:3]) for one in tried.quotes[-QUOTES_SHOWN:]]
    lines += [f"{name}: no price ({reason})" for name, reason in sorted(tried.refused.items())]
    if not tried.failure and not lines:
        lines = ["It answered, and gave no price for these names."]
    return {"failure": tried.failure, "lines": lines}


def _line(name: str, price: Any, at: Any) -> str:
    return f"{name}: {str(price)[:40]}" + (f" at {str(at)[:40]}" if at is not None else "")


def _interval_in(request: HttpRequest) -> int:
    written = request.POST.get("interval_seconds", "")
    seconds = int(written) if written.isascii() and written.isdigit() and len(written) < 10 else 0
    return seconds if 1 <= seconds <= INTERVAL_LONGEST_SECONDS else INTERVAL_USUAL


def facts_of_providers() -> dict[str, dict[str, Any]]:
    """Return slug -> what the form says beside that provider: of its key and its limits; `least_seconds`, with what is
    said of an interval that is shorter; and `options`, of each of which it shows a field."""
    found = {}
    for slug, provider in PROVIDERS.items():
        least = provider.limits.interval_seconds_for(1) if provider.limits is not None else 0
        found[slug] = {
            "texts": [text for text in (_of_key(provider), _of_limits(provider)) if text],
            "options": [_of_option(one) for one in provider.options],
            "least_seconds": least,
            "too_often": f"It is asked every {show_span(least)} at most, so a shorter interval has no effect.",
        }
    return found


def _of_key(provider: Any) -> str:
    variable = provider.key_variable
    if not variable:
        return "It takes no key."
    is_set = "is set" if os.environ.get(variable, "").strip() else "is not set"
    need = "It gives nothing without a key" if provider.needs_key else "It takes a key"
    return f"{need}: {variable} {is_set} on this machine."


def _of_limits(provider: Any) -> str:
    if provider.limits is None:
        return ""
    size = provider.limits.batch_size
    names = "one name" if size == 1 else f"{size} names"
    return f"Its limit, for all feeds together: {queries.narrowest_limit(provider.slug)}, with {names} in a call."


def _of_option(option: Option) -> dict[str, Any]:
    """Return an option as the form shows it. type: number, data (written as JSON) or text."""
    is_data = option.type in (dict, list)
    has_bounds = option.lowest is not None and not option.must
    bounds = f" From {option.lowest} to {option.highest}." if has_bounds else ""
    return {
        **{name: getattr(option, name) for name in ("name", "label", "is_required")},
        "help": f"{option.help}{bounds}",
        "type": "data" if is_data else "text" if option.type is str else "number",
        "choices": list(option.choices),
        "default": "" if option.default is None else json.dumps(option.default) if is_data else str(option.default),
    }
