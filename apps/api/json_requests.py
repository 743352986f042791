"""The form of every request to the API: a POST of JSON, with everything in its body."""

import re
from collections.abc import Collection

from django.http import HttpRequest

from apps.api.errors import Refused

JSON_TYPES = ("application/json",)
FORM = "Send JSON: Content-Type: application/json."

_UTF8 = re.compile(r'charset="?utf-8"?\Z', re.IGNORECASE)


def check_form(
    request: HttpRequest, *, allow: str, content_types: Collection[str] = JSON_TYPES, form: str = FORM
) -> None:
    """Refuse what is no POST of JSON, or of a file, with everything in its body.

    allow: the methods that the path has an answer to; content_types: those that its body may come under; form: what is
    said of another.
    """
    if request.method != "POST":
        raise Refused("METHOD_NOT_ALLOWED", "Send it by POST.", status=405, headers={"Allow": allow})
    content_type, separator, parameter = request.headers.get("Content-Type", "").partition(";")
    is_utf8 = not separator or _UTF8.match(parameter.strip())
    if content_type.strip().lower() not in content_types or not is_utf8:
        raise Refused("UNSUPPORTED_MEDIA_TYPE", form, status=415)
    if request.META.get("QUERY_STRING"):
        raise Refused("BAD_REQUEST", "Send everything in the body, and nothing in the address.")


def announced_bytes(request: HttpRequest) -> int:
    """Return how long the body is by its header, 0 where that cannot be read: then Django reads none."""
    length = request.META.get("CONTENT_LENGTH") or ""
    return int(length) if length.isascii() and length.isdigit() else 0
