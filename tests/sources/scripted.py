"""A provider that says what a test has laid out."""

from dataclasses import dataclass, field

from apps.market.domain import RawQuote
from apps.sources.providers.protocol import Answer, Limits, PlainProvider


@dataclass
class Scripted(PlainProvider):
    """A provider that gives or raises what a test has laid out, and keeps what it was asked."""

    is_live: bool = True
    slug: str = "scripted"
    limits: Limits | None = None
    gives: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    def validate_options(self, options):
        return dict(options) if self.limits is None else {"base_url": "https://public.example"} | options

    def fetch(self, request):
        self.asked.append(request)
        given = self.gives.pop(0)
        if isinstance(given, BaseException):
            raise given
        return given


def answer_with(*quotes, as_of, history=()):
    return Answer(
        quotes=[RawQuote(symbol, price, moment) for symbol, moment, price in quotes],
        history=[RawQuote(symbol, price, moment) for symbol, moment, price in history],
        as_of=as_of,
    )
