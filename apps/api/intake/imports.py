"""Files of transactions sent by HTTP: `POST /imports`. docs/api.md says who may, and what follows."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt

from apps.api.errors import Refused
from apps.api.intake import inbound
from apps.api.json_requests import JSON_TYPES
from apps.api.tokens.auth import Asker
from apps.portfolios.domain.tables import BYTES_LARGEST, FileRefused
from apps.portfolios.importing import SENT_FILE_KEPT, keep_file, read_file
from apps.strict_json import UNTYPED

_SHEET = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
FILE_TYPES = ("text/csv", _SHEET, *JSON_TYPES, *UNTYPED)
NAME = "file sent to /imports"


# Exempt, for the reason that the view of GraphQL has.
@csrf_exempt
@never_cache
def imports(request: HttpRequest) -> JsonResponse:
    """Keep the file that is the body for an hour, and say what is in it. Nothing is recorded: `previewImport` and
    `runImport` take its id."""
    return inbound.answer(
        request,
        permission="portfolios.add_transaction",
        refusal="The owner of the token may not record transactions.",
        largest_bytes=BYTES_LARGEST,
        take=_keep,
        content_types=FILE_TYPES,
        form="Send the file itself: Content-Type: text/csv, or application/octet-stream.",
    )


def _keep(content: bytes, now: datetime, asker: Asker) -> dict[str, Any]:
    try:
        read = read_file(content)
    except FileRefused as error:
        raise Refused("BAD_USER_INPUT", str(error)) from None
    owner: Any = asker.user
    file = keep_file(owner=owner, name=NAME, content=content, now=now, is_by_api=True)
    return {
        "id": str(file.public_id),
        "expires_at": (now + SENT_FILE_KEPT).isoformat().replace("+00:00", "Z"),
        "source": read.source,
        "rows": len(read.rows),
        "errors": len(read.errors),
        "left_out": len(read.left_out),
        "accounts": sorted(read.accounts()),
        "symbols": sorted(read.symbols()),
    }
