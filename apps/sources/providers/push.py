"""Quotes that other systems send in by themselves; see docs/feeds.md for how. Nobody is asked."""

from collections.abc import Mapping
from typing import Any

from apps.notation import SECOND, read_duration, write_duration
from apps.sources.providers import http
from apps.sources.providers.options import Option, read_options
from apps.sources.providers.protocol import Answer, PlainProvider, ProviderMisconfigured, QuoteRequest


class Push(PlainProvider):
    """The source of a feed whose quotes come in by `record_pushed`, under the assets' symbols or listings.

    It is asked like any other, so that the feed's clock goes on at its interval and a silence is noticed.
    """

    slug = "push"
    is_live = True
    options = (
        Option(
            "expect_every",
            "Expected every",
            "How often something is sent, like 5m. Blank: a silence is no fault.",
            must="be a duration like 5m",
            check=lambda text: _read_span(text),
        ),
    )

    def validate_options(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return `expect_every` where it is given: how often a push is expected, like 5m; without it a silence is no
        fault. Raises ProviderMisconfigured."""
        expected = read_options(options, self.options, slug=self.slug)["expect_every"]
        return {} if expected is None else {"expect_every": write_duration(_read_span(expected))}

    def fetch(self, request: QuoteRequest) -> Answer:
        """Return no quotes: what was sent is in the log already."""
        return Answer(quotes=[], as_of=http.now())


def _read_span(text: str) -> int:
    """Return a duration in microseconds. Raises ProviderMisconfigured."""
    try:
        return read_duration(text, shortest=SECOND)
    except ValueError as error:
        raise ProviderMisconfigured(f"expect_every {error}") from None
