"""Rules for every mail: seven-bit encoding, no control characters in headers, addresses with a real domain."""

import unicodedata
from email.charset import QP, Charset

from django.core.exceptions import ValidationError
from django.core.validators import EmailValidator

# As the encoding of Django's EmailMessage. Its default may need a server with 8BITMIME.
SEVEN_BIT = Charset("utf-8")
SEVEN_BIT.body_encoding = QP
ADDRESS_LONGEST = 254

_is_address = EmailValidator(allowlist=[])


def header_text(text: str) -> str:
    """Return the text as it may stand in a header: one line, without control characters."""
    return " ".join("".join(mark for mark in text if mark.isspace() or unicodedata.category(mark) != "Cc").split())


def is_mail_address(text: str) -> bool:
    """Tell whether a text is one address at a domain. Django alone would take "a@b.c,evil@x" for one and write both
    into To, and takes addresses at `localhost`, at an IP address, and with line separators."""
    if len(text) > ADDRESS_LONGEST or not text.isprintable() or any(mark in text for mark in ",; <>[]"):
        return False
    try:
        _is_address(text)
    except ValidationError:
        return False
    return True
