"""Static files with the hash of their content in their addresses, which browsers keep for a year."""

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from django.http import HttpRequest, HttpResponseBase

_YEAR = "public, max-age=31536000, immutable"


class HashedFiles(StaticFilesStorage):
    """Adds the hash of a file to its address. No step copies files between a clone and a page, so their names stay."""

    def url(self, name: str | None) -> str:
        address = super().url(name)
        found = _hash_of(name or "")
        return f"{address}?h={found}" if found and "?" not in address else address


def cache_static(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable[[HttpRequest], HttpResponseBase]:
    """Let browsers keep a static file that was asked for by its hash. By an older one, they ask again."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if response.status_code == 200 and request.path.startswith(settings.STATIC_URL) and "h" in request.GET:
            name = request.path.removeprefix(settings.STATIC_URL)
            if request.GET["h"] == _hash_of(name):
                response.headers["Cache-Control"] = _YEAR
        return response

    return answer


def _hash_of(name: str) -> str:
    found = finders.find(name) if name else None
    if not isinstance(found, str) or not Path(found).is_file():
        return ""
    return _hash_of_file(found, Path(found).stat().st_mtime_ns)


@lru_cache(maxsize=1_000)
def _hash_of_file(path: str, changed_at: int) -> str:
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
