"""Why a rule did or did not fire: as the live engine recorded it, at every moment; and what cannot be answered."""

import random
from datetime import timedelta
from itertools import groupby

import pytest
from django.contrib.auth.models import AnonymousUser

from apps.market.models import Asset, FeedEntry, Quote
from apps.pipeline.flow import evaluate_next, evaluate_pending
from apps.rules import services
from apps.rules import why as whys
from apps.rules.models import Checkpoint, Rule, RuleState, RuleVersion, Transition
from apps.rules.services import delete_rule
from apps.rules.why import WhyRefused, why
from tests.builders import TRACE, above, append_quotes, at, make_feed, make_operator, make_owner, make_rule
from tests.pipeline import recorded

# What the recorded day has not: events, bands, spread, silence, combinations, an end.
MORE_RULES = {
    "crosses": {"condition": {"kind": "crosses", "level": "20800"}},
    "outside": {"condition": {"kind": "outside", "low": "20500", "high": "21500"}, "for": "3m"},
    "unusual": {"condition": {"kind": "zscore", "n": "2", "window": "30m"}, "keep_firing": "2m"},
    "silent": {"condition": {"kind": "stale", "after": "2m"}},
    "both": {
        "condition": {
            "all": [
                {"kind": "falls", "percent": "0.5", "window": "10m"},
                {"not": {"kind": "inside", "low": "20000", "high": "20500"}},
            ]
        }
    },
    "expires": {"condition": {"kind": "above", "level": "20000"}, "expires_at": "2023-03-11T07:00:00Z"},
    "a month": {"condition": {"kind": "below_average", "percent": "0", "window": "30d"}},
}


def evaluated_step_by_step(feed):
    """Evaluate the log entry by entry; return (entry, what was recorded after it) for the last entry of each moment.

    What was recorded: (rule id, asset id) -> (state, since, unknown, version id).
    """
    recorded_after = []
    while evaluate_next(feed_id=feed.pk):
        entry = FeedEntry.objects.get(feed=feed, seq=len(recorded_after) + 1)
        rows = RuleState.objects.values_list("rule_id", "asset_id", "state", "since", "unknown", "version_id")
        recorded_after.append((entry, {row[:2]: row[2:] for row in rows}))
    return [list(same)[-1] for _, same in groupby(recorded_after, key=lambda pair: pair[0].as_of)]


def answered(moment, instances):
    """Return the same as it is answered for that moment."""
    rules, assets = Rule.objects.in_bulk(), Asset.objects.in_bulk()
    found = {}
    for rule_id, asset_id in instances:
        answer = why(None, rule=rules[rule_id], asset=assets[asset_id], at=moment, now=moment)
        found[rule_id, asset_id] = (answer.state, answer.since, answer.unknown or "", answer.version.pk)
    return found


@pytest.mark.django_db
def test_a_recorded_morning_is_answered_as_it_was_evaluated(tmp_path, monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_EVERY", timedelta(minutes=20))
    rows = recorded.write_recording(tmp_path / "recording.csv", begin="2023-03-11T05:30", end="2023-03-11T07:30")
    feed = make_feed(*recorded.SYMBOLS)
    owner = make_owner()
    for name, document in (recorded.RULES | MORE_RULES).items():
        make_rule(owner, name=name, assets=list(recorded.SYMBOLS), **document)
    past = [row for row in rows if row[1].hour == 5]
    for moment, quotes in groupby((row for row in rows if row[1].hour > 5), key=lambda row: row[1]):
        answer = [(symbol, at, str(price)) for symbol, at, price in quotes]
        history = [(symbol, at, str(price)) for symbol, at, price in past]
        # A silence now and then, which the clock alone moves on.
        append_quotes(feed, [] if moment.minute % 20 < 3 else answer, as_of=moment, history=history)
        past = []
    steps = evaluated_step_by_step(feed)
    assert len(steps) == 92
    # The rules came by another clock, before the recording had one.
    for entry, after in steps[1::23]:
        assert answered(entry.as_of, after) == after
    assert Transition.objects.count() > 100

    last_steps = {}
    for step in Transition.objects.exclude(evidence=None).select_related("rule", "asset", "entry").order_by("pk"):
        last_steps[step.entry_id, step.rule_id, step.asset_id] = step
    ended = ("ended", "error")
    for step in [step for step in last_steps.values() if step.to_state not in ended][::4]:
        answer = why(None, rule=step.rule, asset=step.asset, at=step.entry.as_of, now=step.entry.as_of)
        assert (answer.state, answer.since, answer.evidence) == (step.to_state, step.at, step.evidence)


@pytest.mark.django_db
@pytest.mark.parametrize("seed", range(3))
def test_a_random_log_is_answered_as_it_was_evaluated(seed, monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_ENTRIES", 7)
    chance = random.Random(seed)
    owner, clock = make_owner(), 0
    feed = make_feed("BTC-USD", "ETH-USD")
    conditions = [document["condition"] for document in (recorded.RULES | MORE_RULES).values()]
    conditions = [*conditions, above(100), {"kind": "below", "level": "100"}, {"kind": "crosses", "level": "100"}]
    conditions += [
        {"kind": "rises", "percent": "5", "window": "1m", "recovery": "1"},
        {"kind": "stale", "after": "20s"},
    ]
    rules = []
    for _ in range(40):
        symbols = chance.sample(["BTC-USD", "ETH-USD"], chance.randint(1, 2))
        clock += chance.choice([1, 5, 30, 400])
        what = chance.random()
        if what < 0.25 or not rules:
            edited = chance.choice([None, *rules])
            rule = make_rule(
                owner, name=edited.name if edited else f"rule {clock}", rule=edited, assets=symbols,
                condition=chance.choice(conditions), cooldown=chance.choice(["0s", "1m"]),
                trigger=chance.choice(["edge", "edge", "once"]),
            )  # fmt: skip
            rules = [*{*rules, rule}]
        elif what < 0.3:
            delete_rule(rule=rules.pop(chance.randrange(len(rules))), now=at(clock), trace_id=TRACE)
        else:
            quotes = [
                (symbol, at(clock - chance.choice([0, 0, 3])), str(chance.randint(90, 110))) for symbol in symbols
            ]
            history = [("BTC-USD", at(clock - 900), "95")] if what > 0.95 else []
            append_quotes(feed, quotes if what < 0.9 else [], as_of=at(clock), history=history)
    steps = evaluated_step_by_step(feed)
    assert Transition.objects.exists()
    for entry, after in steps[::3]:
        assert answered(entry.as_of, after) == after


@pytest.fixture
def feed(db):
    return make_feed("BTC-USD", "ETH-USD", name="spot")


def evaluated(feed, *prices, rule, start=0):
    """Append one quote of BTC-USD each ten seconds, evaluate them, and return the answer for the end."""
    for index, price in enumerate(prices):
        append_quotes(feed, [("BTC-USD", at(start + 10 * index), price)])
    evaluate_pending(feed_id=feed.pk)
    return asked(rule)


def asked(rule, *, moment=None, symbol="BTC-USD", user=None):
    return why(user, rule=rule, asset=Asset.objects.get(symbol=symbol), at=moment, now=at(10**6))


def make(**document):
    return make_rule(make_owner(), **({"assets": ["BTC-USD"], "condition": above(100)} | document))


def test_a_rule_that_waits_says_how_long_it_has(feed):
    answer = evaluated(feed, "99", "101", "101", "102", rule=make(pending="1m"))
    assert answer.summary == "pending for 20 s of 60 s since 2026-03-02 12:00:10 UTC"
    assert (answer.tree.mark, answer.tree.summary, answer.tree.figures) == ("✓", "is above 100", "the price is 102")
    assert (answer.newest.at, str(answer.newest.price)) == (at(30), "102")
    assert (answer.previous.at, str(answer.previous.price)) == (at(20), "101")
    assert (answer.evaluated_at, answer.entry.seq, answer.version.number) == (at(30), 5, 1)


def test_a_rule_that_does_not_hold_says_what_it_saw(feed):
    answer = evaluated(feed, "99", rule=make())
    assert answer.summary == "not firing: the condition is false"
    assert [(depth, part.mark) for depth, part in answer.tree.lines()] == [(0, "✗")]


def test_a_rule_that_fires_says_since_when_and_what_counts_now(feed):
    answer = evaluated(feed, "99", "101", "99.5", rule=make(condition=above(100, recovery="99")))
    assert answer.summary == "firing since 2026-03-02 12:00:10 UTC"
    assert answer.tree.summary == "is above 100; while it fires, 99 is what counts"
    assert answer.tree.result is True


def test_a_rule_that_recovers_says_for_how_long(feed):
    answer = evaluated(feed, "101", "99", "98", rule=make(keep_firing="5m"))
    assert answer.summary == "recovering for 10 s of 5 min since 2026-03-02 12:00:10 UTC: still open"


def test_a_rule_that_cools_down_says_until_when_the_next_opening_is_silent(feed):
    answer = evaluated(feed, "101", "99", rule=make(cooldown="1h"))
    assert answer.summary == (
        "not firing: the condition is false; "
        "cooling down until 2026-03-02 13:00:00 UTC: the next opening would be silent"
    )
    assert (answer.opened_at, answer.cooling_until) == (at(0), at(3600))
    silent = evaluated(feed, "102", rule=answer.version.rule, start=20)
    assert silent.summary == ("firing since 2026-03-02 12:00:20 UTC, silently: its opening came within the cooldown")
    assert silent.suppressed


def test_a_cooldown_that_is_just_over_is_not_mentioned(feed):
    rule = make(cooldown="10s")
    assert evaluated(feed, "101", "99", rule=rule).cooling_until is None


def test_what_is_unknown_says_how_much_is_known(feed):
    rule = make(condition={"kind": "below_average", "percent": "0", "window": "30d"})
    append_quotes(feed, [("BTC-USD", at(0), "100")])
    append_quotes(feed, [("BTC-USD", at(3 * 86_400), "99")])
    evaluate_pending(feed_id=feed.pk)
    answer = asked(rule)
    assert answer.summary == "unknown: not enough history: 3 of 30 days known"
    assert answer.tree.mark == "?"
    assert answer.tree.figures == "the price is 99, the average 100: −1 %; known: 3 of 30 days"


def test_a_wait_that_meets_the_unknown_says_both(feed):
    rule = make(condition={"kind": "rises", "percent": "1", "window": "1m"})
    assert evaluated(feed, "100", rule=rule).summary == "unknown: no earlier price"


def test_a_rule_without_a_quote_says_so(feed):
    answer = evaluated(feed, rule=make())
    assert answer.summary == "not evaluated yet: no quote has come since the rule was put on this asset"
    assert (answer.tree, answer.newest, answer.evaluated_at) == (None, None, None)


def test_an_event_says_when_it_was(feed):
    rule = make(condition={"kind": "crosses", "level": "100"})
    answer = evaluated(feed, "99", "101", rule=rule)
    assert answer.summary == "fired at 2026-03-02 12:00:10 UTC, as an event, which is over at once"
    assert answer.tree.figures == "99 → 101"
    assert evaluated(feed, "102", rule=rule, start=20).summary == "not firing: the condition is false"


def test_an_event_that_may_expire_is_not_evaluated_by_the_clock(feed):
    rule = make(condition={"kind": "crosses", "level": "100"}, expires_at="2030-01-01T00:00:00Z")
    evaluated(feed, "99", "101", rule=rule)
    append_quotes(feed, [], as_of=at(60))
    evaluate_pending(feed_id=feed.pk)
    answer = asked(rule)
    assert answer.evaluated_at == at(10)
    assert answer.summary == "fired at 2026-03-02 12:00:10 UTC, as an event, which is over at once"


def test_a_rule_that_expired_says_so_and_still_shows_the_price(feed):
    answer = evaluated(feed, "99", "101", rule=make(expires_at="2026-03-02T12:00:05Z"))
    assert answer.summary == "ended at 2026-03-02 12:00:10 UTC: the rule expired"
    assert (answer.tree, str(answer.newest.price)) == (None, "101")


def test_a_rule_that_cannot_be_read_says_why(feed):
    rule = make()
    RuleVersion.objects.update(document={"assets": ["BTC-USD"]})
    answer = evaluated(feed, "99", rule=rule)
    assert answer.summary.startswith("in error since 2026-03-02 12:00:00 UTC: RuleInvalid: condition: ")


def test_a_combination_is_shown_part_by_part(feed):
    parts = [above(100), {"not": {"kind": "stale", "after": "5m"}}]
    answer = evaluated(feed, "99", rule=make(condition={"any": [{"all": parts}, {"kind": "below", "level": "50"}]}))
    assert [(depth, part.mark, part.summary) for depth, part in answer.tree.lines()] == [
        (0, "✗", "at least one of these"),
        (1, "✗", "all of these"),
        (2, "✗", "is above 100"),
        (2, "✓", "not"),
        (3, "✗", "has had no quote for 5 minutes"),
        (1, "✗", "is below 50"),
    ]


def test_silence_is_evaluated_by_the_clock_that_the_answer_names(feed):
    rule = make(condition={"kind": "stale", "after": "1m"})
    append_quotes(feed, [("BTC-USD", at(0), "100")])
    append_quotes(feed, [], as_of=at(90))
    evaluate_pending(feed_id=feed.pk)
    answer = asked(rule)
    assert answer.summary == "firing since 2026-03-02 12:01:30 UTC"
    assert answer.evaluated_at == at(90)
    assert answer.tree.figures == (
        "the newest quote is of 2026-03-02 12:00:00 UTC, the clock is at 2026-03-02 12:01:30 UTC"
    )


def test_a_moment_between_two_entries_is_answered_as_of_the_first(feed):
    rule = make()
    evaluated(feed, "99", "101", "99", rule=rule)
    assert [asked(rule, moment=at(second)).state for second in (9.999, 10, 19.999, 20)] == [
        "inactive", "firing", "firing", "inactive",
    ]  # fmt: skip


def refused(rule, **options):
    with pytest.raises(WhyRefused) as refusal:
        asked(rule, **options)
    return str(refusal.value)


def test_what_was_not_watched_is_refused(feed):
    rule = make()
    evaluated(feed, "99", rule=rule)
    assert refused(rule, symbol="ETH-USD") == "rule did not watch ETH-USD at that moment"


def test_what_is_watched_later_is_refused_with_that_moment(feed):
    rule = make()
    evaluated(feed, "99", "99", rule=rule)
    make_rule(rule.owner, rule=rule, assets=["BTC-USD", "ETH-USD"], condition=above(100))
    append_quotes(feed, [("ETH-USD", at(60), "99")])
    evaluate_pending(feed_id=feed.pk)
    assert asked(rule, symbol="ETH-USD").state == "inactive"
    assert refused(rule, symbol="ETH-USD", moment=at(0)) == (
        "rule did not watch ETH-USD at that moment; it does since 2026-03-02 12:00:10 UTC"
    )


def test_the_future_and_the_time_before_the_log_are_refused(feed):
    rule = make()
    evaluated(feed, "99", rule=rule)
    assert refused(rule, moment=at(10**6 + 1)) == "that time is in the future"
    assert refused(rule, moment=at(-1)) == (
        "that moment lies before the feed's log begins, or farther back than it can be evaluated again"
    )


def test_what_is_not_evaluated_yet_is_refused(feed):
    rule = make()
    assert refused(rule) == "nothing is evaluated yet in spot"


def test_an_asset_in_no_feed_is_refused(feed):
    rule = make()
    Asset.objects.update(feed=None)
    assert refused(rule) == "BTC-USD is in no feed, so nothing is evaluated"


def test_more_entries_than_a_request_may_read_are_refused(feed, monkeypatch):
    rule = make()
    evaluated(feed, "99", "98", "97", "96", rule=rule)
    monkeypatch.setattr(whys, "ENTRIES_MOST", 2)
    Checkpoint.objects.all().delete()
    assert refused(rule) == ("that moment lies too far from a checkpoint: 5 entries of the log would have to be read")


def test_quotes_that_are_kept_no_more_are_refused(feed):
    rule = make()
    evaluated(feed, "99", "98", rule=rule)
    Checkpoint.objects.all().delete()
    Quote.objects.filter(at=at(0)).delete()
    assert refused(rule) == "the quotes from before that moment are kept no more"


def test_nobody_is_shown_the_rules_of_others(feed):
    rule = make()
    evaluated(feed, "99", rule=rule)
    for stranger in (make_operator("grace", "rules.view_rule"), AnonymousUser()):
        with pytest.raises(Rule.DoesNotExist):
            asked(rule, user=stranger)
    assert asked(rule, user=rule.owner).state == "inactive"


def test_a_deleted_rule_is_answered_for_the_time_in_which_it_was_evaluated(feed):
    rule = make()
    evaluated(feed, "101", rule=rule)
    append_quotes(feed, [("BTC-USD", at(10), "101")])
    delete_rule(rule=rule, now=at(11), trace_id=TRACE)
    append_quotes(feed, [("BTC-USD", at(12), "101")])
    evaluate_pending(feed_id=feed.pk)
    assert asked(rule, moment=at(5), user=rule.owner).summary == "firing since 2026-03-02 12:00:00 UTC"
    assert refused(rule, moment=at(12), user=rule.owner) == "rule did not watch BTC-USD at that moment"


def test_a_rule_whose_windows_could_not_be_filled_is_answered_without_figures(feed, monkeypatch):
    monkeypatch.setattr(services, "CHECKPOINT_ENTRIES", 1)
    rule = make()
    evaluated(feed, "99", rule=rule)
    Quote.objects.all().delete()
    average = {"kind": "above_average", "percent": "0", "window": "1h"}
    late = make_rule(rule.owner, name="late", assets=["BTC-USD"], condition=average)
    evaluate_pending(feed_id=feed.pk)
    answer = asked(late)
    assert answer.summary == "not evaluated yet: no quote has come since the rule was put on this asset"
    assert answer.tree is None
