"""Why a provider's call gave nothing, and what that means for people."""

import logging
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from apps.sources.providers.protocol import ProviderMisconfigured, ProviderRejected, ProviderUnavailable

logger = logging.getLogger(__name__)

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


class Failure(NamedTuple):
    """Why a call of a provider gave nothing.

    reason: fit for a metric label; retry_after_seconds: what the provider asked
    for; is_refusal: asking the same again would give the same; extra_calls: as in ProviderRejected.
    """

    reason: str
    retry_after_seconds: int | None = None
    is_refusal: bool = False
    extra_calls: int = 0


def failure_of(error: Exception, *, facts: Mapping[str, object]) -> Failure:
    """Return what an exception of a provider's call says. One that is not the protocol's is a fault in the provider,
    which is logged, with these facts: a provider is the world's edge, so its fault is a failure like any other."""
    match error:
        case ProviderUnavailable():
            return Failure(error.reason, error.retry_after_seconds)
        case ProviderRejected():
            return Failure(error.reason, is_refusal=True, extra_calls=error.extra_calls)
        case ProviderMisconfigured():
            return Failure("misconfigured", is_refusal=True)
    logger.error("provider raised", exc_info=error, extra=dict(facts))
    return Failure("crashed", is_refusal=True)
