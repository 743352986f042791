"""What the reason of a failure means, for people."""

from collections.abc import Iterable

_HINTS = {
    "timeout": "no answer within 10 s",
    "connection": "no connection",
    "rate_limited": "asked too often, try again later",
    "redirect": "the answer leads elsewhere, where nobody follows",
    "too_large": "the answer is longer than PROVIDER_ANSWER_LIMIT_BYTES",
    "bad_payload": "the answer is not what was expected",
    "http_400": "the request is refused; a name in it may not be known there",
    "http_404": "this name may not be known, or the address is wrong",
    "unknown_symbol": "this name is not known there",
    "premium": "that is not for free keys",
    "no_search": "it cannot be searched",
    "no_history": "it gives no past",
    "circuit_open": "it failed too often, and is left alone for a while",
    "no_provider": "no source has a name for any of the assets",
    "misconfigured": "the options of a source are wrong",
    "broken_recording": "the file can be read no more",
    "crashed": "the log says how",
}


def hint_on(reason: str, *, key_variables: Iterable[str | None]) -> str:
    """Return what a failure means, or what may mend it, in a few words; "" of one that says it all. key_variables: the
    environment variables of the keys of those who were asked. Nothing of a key but its name is said."""
    names = " or ".join(sorted({name for name in key_variables if name}))
    if names and reason == "unauthorized":
        return f"is {names} right?"
    if names and reason == "no_key":
        return f"set {names}"
    return _HINTS.get(reason, "")
