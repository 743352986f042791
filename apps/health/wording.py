"""Sentences about problems, and about what mends each."""

from collections.abc import Callable, Mapping
from datetime import date, datetime
from typing import Any, NamedTuple

from apps.health.domain import Code, Health
from apps.locales import STANDARD, Reader
from apps.wording import format_day, format_moment, format_number, format_span


class Words(NamedTuple):
    """The clause that says what is wrong, and the sentence that says what to do."""

    clause: str
    remedy: str


def describe(code: str, *, since: datetime, facts: Mapping[str, Any], reader: Reader = STANDARD) -> Words:
    """Return what a problem is and what would mend it. since: aware; reader: whom it is for."""
    written = {name: _WRITTEN[name](value, reader) if name in _WRITTEN else value for name, value in facts.items()}
    return _WORDS[Code(code)](format_moment(since, reader=reader), written)


def written_for(health: Health, *, reader: Reader) -> Health:
    """Return a health with its sentences as a reader writes times and numbers."""
    if health.facts is None or health.since is None:
        return health
    described = describe(health.code, since=health.since, facts=health.facts, reader=reader)
    return health._replace(reason=sentence(described.clause, cause=health.cause), remedy=described.remedy)


def sentence(clause: str, *, cause: str = "") -> str:
    """Return a clause as a sentence. cause: what it begins with, where that is something else's problem."""
    return f"{cause}{clause}." if cause else f"{clause[:1].upper()}{clause[1:]}."


def _failing(since: str, facts: Mapping[str, Any]) -> Words:
    hint = f" ({facts['hint']})" if facts.get("hint") else ""
    return Words(
        f"no provider has answered since {since}: {facts['reason']}{hint}",
        "It is asked again by itself. The feed's page says when, and what each provider answered.",
    )


def _no_key(since: str, facts: Mapping[str, Any]) -> Words:
    return Words(
        f"{facts['variable']} is not set, so {facts['provider']} cannot be asked",
        f"Set {facts['variable']} in the environment and restart the workers, or choose another provider.",
    )


def _no_worker(since: str, facts: Mapping[str, Any]) -> Words:
    queues = facts["queues"]
    return Words(
        f"no worker has read the queue{'s' * (len(queues) > 1)} {', '.join(queues)} since {since}",
        "Start the workers that read them; docs/operations.md says which process reads which queue.",
    )


def _refused(since: str, facts: Mapping[str, Any]) -> Words:
    return Words(
        f"{facts['provider']} has refused the name {facts['name']} since {since}: {facts['reason']}",
        "Correct its listing on the asset's page, or add a provider that knows it.",
    )


def _fixed(clause: str, remedy: str) -> Callable[[str, Mapping[str, Any]], Words]:
    """Return the words of a problem; {since} and the names of facts may stand in them."""
    return lambda since, facts: Words(clause.format(since=since, **facts), remedy.format(since=since, **facts))


# Facts that a reader's locale or zone changes -> how each is written.
_WRITTEN: Mapping[str, Callable[[Any, Reader], str]] = {
    "until": lambda at, reader: format_moment(datetime.fromisoformat(at), reader=reader),
    "due": lambda at, reader: format_moment(datetime.fromisoformat(at), reader=reader),
    "day": lambda day, reader: format_day(date.fromisoformat(day), reader=reader),
    "expect_every": lambda seconds, reader: format_span(seconds, reader=reader),
    "seconds": lambda seconds, reader: format_number(seconds, reader=reader),
}
_WORDS: Mapping[Code, Callable[[str, Mapping[str, Any]], Words]] = {
    Code.NOT_CHECKED: _fixed(
        "nothing has been fetched, evaluated or sent since {since}",
        "Check that beat, the broker and the workers run; docs/operations.md says how.",
    ),
    Code.NO_WORKER: _no_worker,
    Code.CALENDAR_ENDS: _fixed("{warning}", "Install a newer release, which knows the calendar's next years."),
    Code.NO_PARTITION: _fixed(
        "the table of quotes has no partition for {day}",
        "Run manage.py prune, which makes the partitions of the next days, and check that beat runs.",
    ),
    Code.DISK_FULL: _fixed(
        "the workers' disk has {free} of {total} left",
        "Free some space, or keep quotes for fewer days (QUOTE_RETENTION_DAYS).",
    ),
    Code.CANARY_MISSED: _fixed(
        "no alert of the canary has reached its inbox since {since}",
        "Check that analyzers and notifiers run, and their logs; docs/operations.md says what the canary is.",
    ),
    Code.REPLICA_NOT_READ: _fixed(
        "the replica of the database {why}, so candles, history and logs are read from the primary",
        "Check the server that DATABASE_REPLICA_URL names, and its replication.",
    ),
    Code.PAUSED: _fixed("the feed is paused", "Resume it on its page."),
    Code.NO_SOURCE: _fixed("the feed has no source", "Add a provider on the feed's page."),
    Code.NO_FEED_ASSET: _fixed(
        "the feed has no asset", "Add assets on the page of assets, and choose this feed there."
    ),
    Code.NO_KEY: _no_key,
    Code.FAILING: _failing,
    Code.BANNED: _fixed(
        "{provider} takes no calls from here until {until}, since it was asked too often",
        "It is asked again by itself after that. A longer interval asks less often, and another provider of the feed "
        "gives the prices meanwhile.",
    ),
    Code.NOT_FETCHED: _fixed(
        "the feed has been due since {since}, and no worker has fetched it",
        "Check that a watcher runs, which reads the queue assets-tasks.",
    ),
    Code.DUE_TOO_LATE: _fixed(
        "the feed is due at {due}, far ahead of the clock",
        "Check whether this machine's clock was set back. Fetch now on the feed's page makes it due at once.",
    ),
    Code.NOT_EVALUATED: _fixed(
        "prices have waited to be evaluated since {since}",
        "Check that an analyzer runs; docs/operations.md says which queue it reads.",
    ),
    Code.NOTHING_PUSHED: lambda since, facts: Words(
        f"nothing has been pushed since {since}, and a push is expected every {facts['expect_every']}",
        "Check the system that pushes into this feed.",
    ),
    Code.SENDER_AHEAD: lambda since, facts: Words(
        f"the clock of a sender is {facts['seconds']} s ahead"
        + (", so its quotes are refused" if facts["is_refused"] else ", by which its quotes are set back"),
        "Set the sender's clock by NTP; the feed's page says which sender it is.",
    ),
    Code.LEG_STOPPED: _fixed(
        "no price can be derived, since {leg} has stopped", "The page of {leg} says why it stopped and what mends it."
    ),
    Code.NOT_DERIVED: _fixed(
        "its legs have new prices since {since}, and none is derived from them",
        "Check that a worker reads the queue assets-tasks, and what it logs; of a portfolio, whether its page names a "
        "split.",
    ),
    Code.REFUSED: _refused,
    Code.NO_LISTING: _fixed(
        "no source of its feed has a name for it in {currency}",
        "Add a listing on the asset's page that is in {currency}.",
    ),
    Code.NO_PRICE: _fixed(
        "no price has ever come, although its feed is answered",
        "Check its symbol or its listing: manage.py listings shows what a provider knows.",
    ),
    Code.SILENT: _fixed(
        "no price has come since {since}, although its feed is answered",
        "Check whether the asset is still traded, and its listing at the provider.",
    ),
    Code.NO_FEED: _fixed("it is in no feed, so no price comes", "Choose a feed on the asset's page."),
    Code.OFF: _fixed("it is disabled", "Enable it on its page."),
    Code.SWITCHED_OFF: _fixed(
        "it was disabled because {because}", "Set it right on its page, enable it, and send a test."
    ),
    Code.NOT_DELIVERED: _fixed(
        "no message has been delivered since {since}", "Its page says what the receiver answered. Send a test."
    ),
    Code.UNTRIED: _fixed(
        "no message has got through on it yet", "Send a test; its page says what the receiver answers."
    ),
    Code.NO_MAIL_SERVER: _fixed("this site has no mail server", "Ask the site's operators to set EMAIL_URL."),
    Code.NO_ASSET: _fixed(
        "it is evaluated on no asset", "Choose assets that are in a feed; a tag or a feed may have none at the moment."
    ),
    Code.ERROR: _fixed(
        "it stopped with an error on {symbol}: {detail}", "Save the rule again; its page says what was raised."
    ),
    Code.PAUSED_BY_SPLIT: _fixed(
        "it is paused on {symbol} since the split {detail}", "Check its levels, and save or confirm it on its page."
    ),
    Code.UNKNOWN: _fixed(
        "it could not be evaluated on {symbol} since {since}: {unknown}",
        "The page Why says what is missing. A shorter window needs less history.",
    ),
    Code.NOTIFIES_NOBODY: _fixed("it notifies nobody", "Choose a channel that is enabled, in the rule's form."),
}
