"""`manage.py backfill`: the past of one asset, page by page, from a provider that has it."""

import json
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connections
from django.urls import reverse
from django.utils import timezone
from werkzeug import Response

from apps.alerts.models import Alert
from apps.alerts.replay import replay
from apps.market.models import Asset, FeedEntry, FeedHead, LatestQuote, Quote
from apps.pipeline import flow, tasks
from apps.pipeline.management.commands import backfill as command
from apps.sources import domain
from apps.sources import queries as sources_queries
from apps.sources.models import Backfill, Circuit, Listing
from apps.sources.services import Outcome, backfilling, begin_or_resume, take_backfill_step
from tests.builders import TRACE, append_quotes, make_feed, make_owner, make_rule
from tests.portfolios.rows import bought, make_portfolio, record
from tests.threads import at_once

pytestmark = pytest.mark.django_db

SINCE, UNTIL = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)
FROM, TO = "2026-03-01", "2026-03-01T12:00"
NOTHING = (0, 0, 0)


class Exchange:
    """Answers as Coinbase's "Get product candles" does: the newest first, at most 300, by its own clock.

    asked: the queries; fails: what the next ones get instead, oldest first; then: called before each answer, in a
    thread of its own.
    """

    def __init__(self):
        self.asked, self.fails, self.then = [], [], lambda: None

    def __call__(self, request):
        self.asked.append(dict(request.args))
        if self.fails:
            status, headers = self.fails.pop(0)
            return Response(json.dumps({"message": "no"}), status=status, headers=headers, mimetype="application/json")
        try:
            self.then()
        finally:
            connections.close_all()
        step = int(request.args["granularity"])
        first, last = (int(datetime.fromisoformat(request.args[name]).timestamp()) for name in ("start", "end"))
        first += -first % step
        rows = [[start, 1, 2, 1, price_of(start), 12.5] for start in range(first, last + 1, step)]
        assert len(rows) <= 300
        return Response(json.dumps(rows[::-1]), mimetype="application/json")


def price_of(start):
    return 100 + start % 7


def whole(since=SINCE, until=UNTIL):
    """Return (at, price) of the closes of the minutes of [since, until)."""
    minute = timedelta(minutes=1)
    moments = [since + number * minute for number in range((until - since) // minute)]
    return {(at, Decimal(price_of(int((at - minute).timestamp())))) for at in moments}


@pytest.fixture
def exchange(httpserver, monkeypatch):
    """Return the exchange, which a feed of coinbase asks on this machine; nobody waits for long."""
    monkeypatch.setattr(backfilling, "LEAST_BETWEEN_CALLS", timedelta(0))
    monkeypatch.setattr(command, "RETRY_FIRST", timedelta(0))
    monkeypatch.setattr(domain, "CIRCUIT_OPEN", timedelta(milliseconds=20))
    exchange = Exchange()
    httpserver.expect_request("/products/BTC-USD/candles").respond_with_handler(exchange)
    return exchange


@pytest.fixture
def feed(httpserver, exchange):
    feed = make_feed("BTC-USD", name="spot", provider="coinbase")
    feed.sources.update(options={"base_url": httpserver.url_for("")})
    return feed


def run(capsys, *text):
    capsys.readouterr()
    call_command("backfill", "BTC-USD", *(text or ("--from", FROM, "--to", TO)))
    return capsys.readouterr().out


def stopped(capsys, *text):
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        call_command("backfill", *(text or ("BTC-USD", "--from", FROM, "--to", TO)))
    printed = capsys.readouterr()
    assert printed.out == ""
    return end.value.code, printed.err.splitlines()[-1].removeprefix("backfill: ")


def stored():
    return set(Quote.objects.filter(asset__symbol="BTC-USD").values_list("at", "price"))


def counts():
    return Backfill.objects.count(), FeedEntry.objects.count(), Quote.objects.count()


def step_of(row, *, fence=0, now=None):
    return take_backfill_step(backfill_id=row.pk, fence=fence, now=now or timezone.now(), trace_id=TRACE)


def begun(feed, *, since=SINCE, until=UNTIL):
    return begin_or_resume(
        asset_id=feed.assets.get().pk, provider="coinbase", since=since, until=until, now=timezone.now()
    )


def test_the_past_comes_page_by_page_into_the_log_as_history(feed, exchange, capsys):
    assert run(capsys) == "BTC-USD: 720 quotes of coinbase from 2026-03-01 00:00 to 2026-03-01 12:00 in 3 calls.\n"

    assert stored() == whole()
    assert len(exchange.asked) == 3
    assert set(FeedEntry.objects.values_list("kind", "provider")) == {(FeedEntry.Kind.HISTORY, "coinbase")}
    row = Backfill.objects.get()
    assert (row.reached, row.accepted, row.calls, row.failure, row.lease_until) == (UNTIL, 720, 3, "", None)
    assert row.finished_at is not None


def test_a_second_time_adds_nothing_and_counts_what_is_there(feed, capsys):
    run(capsys)
    before = stored(), FeedEntry.objects.count()

    assert run(capsys).endswith("0 quotes of coinbase from 2026-03-01 00:00 to 2026-03-01 12:00 in 3 calls; 720 were "
                                "there already.\n")  # fmt: skip
    assert (stored(), FeedEntry.objects.count()) == before


def test_windows_see_the_past_and_nothing_opens_by_it(feed, capsys):
    append_quotes(feed, [("BTC-USD", UNTIL, "50")], provider="coinbase")
    make_rule(
        make_owner(),
        assets=["BTC-USD"],
        condition={"kind": "below_average", "percent": "0", "window": "6h", "min_coverage": "1"},
    )
    flow.evaluate_pending(feed_id=feed.pk)
    run(capsys)
    flow.evaluate_pending(feed_id=feed.pk)
    assert not Alert.objects.exists()
    append_quotes(feed, [("BTC-USD", UNTIL + timedelta(minutes=1), "51")], provider="coinbase")
    flow.evaluate_pending(feed_id=feed.pk)

    assert Alert.objects.count() == 1
    report = replay(feed, since=SINCE, until=timezone.now(), progress=lambda done: None)
    assert (report.same, report.missing, report.extra) == (1, [], [])


def test_what_was_killed_in_the_middle_goes_on_where_it_stopped(feed, exchange, capsys, monkeypatch):
    row = begun(feed)
    first = step_of(row)
    assert first.outcome is Outcome.STORED

    def killed(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # In the middle of the transaction: quotes and position stand or fall together.
        patch.setattr(Backfill, "save", killed)
        step_of(row, fence=first.fence)
    row.refresh_from_db()
    assert (stored(), row.reached) == (whole(until=row.reached), SINCE + timedelta(hours=5))

    exchange.asked.clear()
    assert " 720 quotes of coinbase " in run(capsys)
    assert (stored(), len(exchange.asked)) == (whole(), 2)


def test_ctrl_c_says_how_to_go_on_and_leaves_the_lease(feed, exchange, capsys, monkeypatch):
    def interrupt(seconds):
        raise KeyboardInterrupt

    exchange.fails = [(503, {"Retry-After": "60"})]
    monkeypatch.setattr(command.time, "sleep", interrupt)
    assert stopped(capsys) == (130, "stopped; begin again with the same command")
    assert Backfill.objects.get().lease_until is None


def test_failures_are_waited_for_and_noted_in_the_circuit(feed, exchange, capsys):
    exchange.fails = [(500, {}), (502, {})]
    assert " 720 quotes of coinbase " in run(capsys)
    row = Backfill.objects.get()
    assert (row.calls, row.failure) == (5, "")
    assert Circuit.objects.get().failures == 0

    exchange.fails = [(500, {})] * 10
    assert stopped(capsys, "BTC-USD", "--from", "2026-02-28", "--to", "2026-03-01") == (
        1,
        "coinbase: http_500; what was stored stands; begin again with the same command",
    )
    assert Circuit.objects.get().failures >= 5
    assert Backfill.objects.get(finished_at=None).lease_until is None


def test_an_open_circuit_is_waited_for_and_nobody_is_called(feed, exchange, capsys):
    row, now = begun(feed), timezone.now()
    Circuit.objects.create(
        provider="coinbase",
        address=feed.sources.get().options["base_url"],
        failures=5,
        open_until=now + timedelta(minutes=1),
    )
    step = step_of(row, now=now)

    assert (step.outcome, step.backfill.failure) == (Outcome.WAITS, "circuit_open")
    assert (step.backfill.next_call_at, step.backfill.calls) == (now + timedelta(minutes=1), 0)
    assert exchange.asked == []
    assert step_of(row, fence=step.fence, now=now + timedelta(seconds=59)).outcome is Outcome.LOST


def test_the_provider_says_how_long_to_wait(feed, exchange):
    exchange.fails = [(429, {"Retry-After": "30"})]
    row, now = begun(feed), timezone.now()
    step = step_of(row, now=now)
    assert (step.outcome, step.retry_after_seconds, step.backfill.failure) == (
        Outcome.FAILED,
        30,
        "rate_limited",
    )
    assert step.backfill.next_call_at == now + timedelta(seconds=30)


def test_a_refusal_ends_it_with_the_reason(feed, exchange, capsys):
    exchange.fails = [(403, {})]
    assert stopped(capsys) == (2, "coinbase: unauthorized")
    row = Backfill.objects.get()
    assert (row.failure, row.lease_until, row.finished_at, stored()) == ("unauthorized", None, None, set())


def test_the_second_of_two_is_refused_while_the_first_is_at_it(feed, exchange, capsys):
    unconfirmed = step_of(begun(feed))
    row = Backfill.objects.get()
    code, line = stopped(capsys)
    assert code == 2
    assert line == (
        "another process is at the past of BTC-USD from coinbase; where it was killed, try again after "
        f"{row.lease_until:%H:%M:%S} UTC"
    )
    assert step_of(row).outcome is Outcome.LOST
    assert step_of(row, fence=unconfirmed.fence).outcome is Outcome.STORED
    assert len(exchange.asked) == 2


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_who_has_lost_the_lease_meanwhile_writes_nothing(feed, exchange):
    row = begun(feed)
    exchange.then = lambda: Backfill.objects.filter(pk=row.pk).update(fence=99)
    assert step_of(row).outcome is Outcome.LOST
    row.refresh_from_db()
    assert (row.reached, row.accepted, stored(), FeedEntry.objects.count()) == (SINCE, 0, set(), 0)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_of_two_at_the_same_moment_one_asks(feed, exchange):
    row = begun(feed)
    steps = at_once(lambda: step_of(row), lambda: step_of(row))
    assert sorted(step.outcome.value for step in steps) == ["lost", "stored"]
    assert (len(exchange.asked), FeedEntry.objects.count()) == (1, 1)


def test_another_range_takes_the_place_of_what_was_begun(feed, capsys):
    step = step_of(begun(feed))
    Backfill.objects.update(lease_until=None)
    assert step.backfill.reached > SINCE
    run(capsys, "--from", "2026-02-28T22:00", "--to", "2026-03-01T01:00")
    earlier = SINCE - timedelta(hours=2)
    assert stored() == whole(since=earlier, until=step.backfill.reached)
    assert Backfill.objects.values_list("since", "accepted").get() == (earlier, 120)


def test_a_dry_run_says_what_it_takes_and_writes_nothing(feed, exchange, capsys, monkeypatch):
    monkeypatch.setattr(backfilling, "LEAST_BETWEEN_CALLS", timedelta(seconds=1))
    assert run(capsys, "--from", FROM, "--to", TO, "--dry-run") == (
        "BTC-USD: 3 calls of coinbase (it is BTC-USD there), about 0:00:02. Nothing was asked.\n"
    )
    assert (counts(), exchange.asked) == (NOTHING, [])


def test_a_provider_that_is_no_source_of_the_feed_is_asked_by_its_name_for_the_asset(capsys):
    feed = make_feed("BTC-USD", name="spot", provider="simulated")
    Listing.objects.create(asset=feed.assets.get(), provider="kraken", external_id="XBTUSD")
    out = run(capsys, "--from", "2026-03-01", "--to", "2026-03-02", "--provider", "Kraken", "--dry-run")
    assert out == "BTC-USD: 1 call of kraken (it is XBTUSD there), about 0:00:00. Nothing was asked.\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (["NONE", "--from", FROM], "there is no asset NONE"),
        (["LOOSE", "--from", FROM], "LOOSE is in no feed, so there is no log that its past could stand in"),
        (["BTC-USD", "--from", "2200-01-01"], "--from is in the future"),
        (["BTC-USD", "--from", TO, "--to", FROM], "--from is not before --to"),
        (["BTC-USD", "--from", "0001-01-01"], "--from is before 1990, and no quote from before that is taken"),
        (["BTC-USD", "--from", "1989-12-31T23:59:59"], "--from is before 1990, and no quote from before that is taken"),
        (["BTC-USD", "--from", FROM, "--provider", "simulated"], "simulated gives no past"),
        (
            ["INVENTED", "--from", FROM],
            "no source of the feed invented gives the past: add a source that does to the feed, or name a provider",
        ),
        (["BTC-USD", "--from", FROM, "--provider", "binance"], "what binance calls BTC-USD is in another currency"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_line_and_writes_nothing(feed, exchange, capsys, text, why):
    make_feed("INVENTED", name="invented")
    Asset.objects.create(symbol="LOOSE")
    Listing.objects.create(asset=feed.assets.get(), provider="binance", external_id="BTCUSDT")
    assert stopped(capsys, *text) == (2, why)
    assert (counts(), exchange.asked) == (NOTHING, [])


def test_a_range_beyond_the_providers_reach_is_refused_with_how_far_it_goes(feed, capsys):
    code, line = stopped(capsys, "BTC-USD", "--from", "2020-01-01", "--provider", "kraken")
    assert code == 2
    assert line.startswith("kraken goes back 720 days, to ")
    assert counts() == NOTHING


def test_history_older_than_quotes_are_kept_is_taken(feed, capsys, settings):
    settings.QUOTE_RETENTION_DAYS = 1
    run(capsys, "--from", "2020-01-01", "--to", "2020-01-01T01:00")
    assert len(stored()) == 60
    assert LatestQuote.objects.get().at == datetime(2020, 1, 1, 0, 59, tzinfo=UTC)


@pytest.mark.servers
@pytest.mark.django_db(transaction=True)
def test_the_past_of_an_asset_that_moves_meanwhile_goes_into_the_log_where_it_is_now(feed, exchange, httpserver):
    other = make_feed(name="other", provider="coinbase")
    other.sources.update(options={"base_url": httpserver.url_for("")})
    exchange.then = lambda: Asset.objects.update(feed=other)
    row = begun(feed)

    lost = step_of(row)
    assert (lost.outcome, lost.backfill.fence, counts()[1:]) == (Outcome.LOST, lost.fence, (0, 0))
    assert step_of(row, fence=lost.fence).outcome is Outcome.STORED
    assert FeedEntry.objects.values_list("feed__name", flat=True).get() == "other"
    assert FeedHead.objects.get(feed=feed).seq == 0


def test_it_says_how_far_it_is_and_when_it_calls_next(feed, exchange, capsys, monkeypatch):
    monkeypatch.setattr(command, "SECONDS_BETWEEN_PROGRESS", 0)
    call_command("backfill", "BTC-USD", "--from", FROM, "--to", TO)
    assert capsys.readouterr().err.splitlines() == [
        "backfill: 2026-03-01, 0 %, 0 quotes, 0 calls; next call in 0 s",
        "backfill: 2026-03-01, 41 %, 300 quotes, 1 calls; next call in 0 s",
        "backfill: 2026-03-01, 83 %, 600 quotes, 2 calls; next call in 0 s",
    ]


def test_the_admin_shows_backfills_and_what_they_wait_for(feed, admin_client):
    page = reverse("admin:sources_backfill_changelist")
    assert "No backfills yet." in admin_client.get(page).text
    step = step_of(begun(feed))
    shown = admin_client.get(page).text
    assert "2026-03-01, 41 %, 300 quotes, 1 calls" in shown
    assert f"Goes on; next call at {step.backfill.next_call_at:%Y-%m-%d %H:%M:%S}." in shown
    Backfill.objects.update(lease_until=None, failure="timeout")
    page = reverse("admin:sources_backfill_change", args=[step.backfill.pk])
    said = "Stopped; asked for again, or by the same command, it goes on. Last failure: timeout."
    assert said in admin_client.get(page).text


def test_feeds_make_room_for_a_backfill_that_goes_on():
    feed = make_feed("BTC-USD", name="spot", provider="coincap")
    assert sources_queries.seconds_between_rounds(["coincap"]) == 2_009
    row = begin_or_resume(
        asset_id=feed.assets.get().pk, provider="coincap", since=SINCE, until=UNTIL, now=timezone.now()
    )
    assert sources_queries.seconds_between_rounds(["coincap"]) == 4_018
    # One that nobody has gone on with for an hour, or that asks elsewhere, takes no room.
    Backfill.objects.update(next_call_at=timezone.now() - timedelta(minutes=61))
    assert sources_queries.seconds_between_rounds(["coincap"]) == 2_009
    Backfill.objects.update(next_call_at=timezone.now() + timedelta(minutes=5))
    assert sources_queries.seconds_between_rounds(["coincap"]) == 4_018
    Backfill.objects.filter(pk=row.pk).update(finished_at=timezone.now())
    assert sources_queries.seconds_between_rounds(["coincap"]) == 2_009


def test_a_backfill_at_an_address_of_its_feeds_own_takes_no_room():
    make_feed("A", name="public", provider="coincap")
    feed = make_feed("BTC-USD", name="own", provider="coincap")
    feed.sources.update(options={"base_url": "http://127.0.0.1:1"})
    begin_or_resume(asset_id=feed.assets.get().pk, provider="coincap", since=SINCE, until=UNTIL, now=timezone.now())
    assert sources_queries.seconds_between_rounds(["coincap"]) == 2_009


@pytest.fixture
def ada(client):
    ada = make_owner("ada")
    ada.groups.add(Group.objects.get(name="Owner"))
    client.force_login(ada)
    return ada


@pytest.fixture
def pasts(ada, feed):
    """Return the address of the pasts of a portfolio that has bought yesterday."""
    savings = make_portfolio(ada)
    yesterday = timezone.now().date() - timedelta(days=1)
    record(savings, bought(feed.assets.get(), day=yesterday.isoformat()), now=timezone.now())
    return reverse("portfolio_pasts", args=[savings.pk])


def work():
    """Do what the workers do after sweeps, until nothing is due."""
    while due := sources_queries.backfills_due(now=timezone.now()):
        for backfill_id in due:
            tasks.backfill(backfill_id)


def test_an_owner_has_the_past_fetched_from_the_first_transaction_on(client, feed, pasts):
    asset = feed.assets.get()
    midnight = datetime.combine(timezone.now().date() - timedelta(days=1), time(), UTC)
    assert f"Fetch its past from {midnight:%Y-%m-%d}" in client.get(pasts).text
    asked = client.post(pasts, {"asset": asset.pk}, follow=True).text
    assert "The past of BTC-USD is asked for." in asked
    assert 'http-equiv="refresh"' in asked
    assert "Fetch its past" not in asked
    assert "0 %, 0 quotes, 0 calls" in asked
    assert flow.sweep()["backfills"] == 1
    work()
    row = Backfill.objects.get()
    assert (row.since, row.failure, row.lease_until, row.accepted) == (midnight, "", None, len(stored()))
    assert stored() == whole(midnight, row.until.replace(second=0, microsecond=0) + timedelta(minutes=1))
    assert flow.sweep()["backfills"] == 0
    flow.evaluate_pending(feed_id=feed.pk)
    flow.roll_up()
    done = client.get(pasts).text
    assert "Done at" in done
    assert "Known from the first transaction on." in done
    assert 'http-equiv="refresh"' not in done


def test_what_is_refused_is_left_and_says_why(client, feed, exchange, pasts):
    exchange.fails = [(404, {})]
    client.post(pasts, {"asset": feed.assets.get().pk})
    work()
    row = Backfill.objects.get()
    assert (row.is_asked, row.finished_at, row.lease_until) == (False, None, None)
    text = client.get(pasts).text
    assert f"Last failure: {row.failure}." in text
    assert "Fetch its past" in text


def test_a_past_that_cannot_be_asked_for_says_why(client, feed, ada, pasts):
    Asset.objects.update(feed=None)
    answer = client.post(pasts, {"asset": Asset.objects.get().pk}, follow=True)
    assert "Not asked for: BTC-USD is in no feed" in answer.text
    other = make_feed("ETH-USD", name="other").assets.get()
    assert client.post(pasts, {"asset": other.pk}).status_code == 404
    assert not Backfill.objects.exists()
    ada.groups.clear()
    assert client.post(pasts, {"asset": Asset.objects.get(symbol="BTC-USD").pk}).status_code == 403
    client.force_login(make_owner("eve"))
    assert client.get(pasts).status_code == 404
