"""Trusted documents: a folder of named queries, which clients ask for by name."""

import re
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.checks import Error, register

from apps.api.errors import Refused

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}\Z")


@cache
def _documents(folder: str) -> dict[str, str]:
    """Return name -> text of each file NAME.graphql; read once, so a change needs a restart."""
    return {path.stem: path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("*.graphql"))}


def document(document_id: str) -> str:
    """Return the document of this name. Raises Refused."""
    known = _documents(settings.TRUSTED_DOCUMENTS) if settings.TRUSTED_DOCUMENTS else {}
    if document_id not in known:
        raise Refused("DOCUMENT_NOT_FOUND", "No trusted document has this documentId.")
    return known[document_id]


def query_of(data: dict[str, Any]) -> str:
    """Return the query of a body: what it says, or the document that it names. Raises Refused."""
    query, document_id = data.get("query"), data.get("documentId")
    if document_id is None:
        if not isinstance(query, str):
            raise Refused("BAD_REQUEST", 'Send one object like {"query": "…", "variables": {…}}.')
        if settings.TRUSTED_DOCUMENTS_ONLY:
            raise Refused("DOCUMENT_REQUIRED", "Only trusted documents are answered here: send a documentId.")
        return query
    if query is not None or not isinstance(document_id, str):
        raise Refused("BAD_REQUEST", "Send query or documentId, as a text, and not both.")
    return document(document_id)


@register
def check_documents(app_configs: Any, **kwargs: Any) -> list[Error]:
    """Return what is wrong with each file, so that a start finds it and not a client."""
    if not settings.TRUSTED_DOCUMENTS:
        return []
    # Here, since operations read documents; and what checks nothing loads no schema.
    from apps.api.graphql import limits, operations

    folder = Path(settings.TRUSTED_DOCUMENTS)
    if not folder.is_dir():
        return [Error(f"TRUSTED_DOCUMENTS: {folder} is no folder.", id="api.E001")]
    wrong = []
    for path in sorted(folder.glob("*.graphql")):
        try:
            if not _ID.match(path.stem):
                raise Refused("BAD_REQUEST", "The name must be letters, digits, - and _, at most 64.")
            text = path.read_text(encoding="utf-8")
            limits.refuse_unstorable(text)
            operations.check_document(text)
        except UnicodeDecodeError:
            wrong.append(Error(f"{path}: it is not UTF-8.", id="api.E002"))
        except Refused as refused:
            said = "; ".join(error["message"] for error in refused.errors)
            wrong.append(Error(f"{path}: {said}", id="api.E002"))
    return wrong
