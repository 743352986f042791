"""The form that every request to the API has: a POST of JSON, with everything in its body."""

import re

from django.http import HttpRequest

from apps.api.errors import Refused

_JSON_UTF8 = re.compile(r'application/json\s*(;\s*charset="?utf-8"?\s*)?\Z', re.IGNORECASE)


def check_form(request: HttpRequest, *, allow: str) -> None:
    """Refuse what is no POST of JSON with everything in its body. allow: the methods that the path has an answer to."""
    if request.method != "POST":
        raise Refused("METHOD_NOT_ALLOWED", "Send it by POST.", status=405, headers={"Allow": allow})
    if not _JSON_UTF8.match(request.headers.get("Content-Type", "").strip()):
        raise Refused("UNSUPPORTED_MEDIA_TYPE", "Send JSON: Content-Type: application/json.", status=415)
    if request.META.get("QUERY_STRING"):
        raise Refused("BAD_REQUEST", "Send everything in the body, and nothing in the address.")
