"""Alpha Vantage's splits, in the shape of the vendor's examples at alphavantage.co/documentation, and the command."""

from datetime import UTC, datetime

import pytest
from django.core.management import call_command

from apps.market.models import Split
from apps.sources.providers.alphavantage import AlphaVantage
from apps.sources.providers.protocol import ProviderRejected, ProviderUnavailable, SplitFound
from apps.sources.providers.registry import PROVIDERS
from tests.builders import append_quotes, at, make_feed

KEY = "canary-5f1c9e"
APPLE = {
    "symbol": "AAPL",
    "data": [
        {"effective_date": "2020-08-31", "split_factor": "4.0000"},
        {"effective_date": "2014-06-09", "split_factor": "7.0000"},
    ],
}
AUGUST, JUNE = datetime(2020, 8, 31, 4, tzinfo=UTC), datetime(2014, 6, 9, 4, tzinfo=UTC)


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("ALPHAVANTAGE_API_KEY", KEY)


def splits_in(httpserver, payload, name="AAPL"):
    query = {"function": "SPLITS", "symbol": name, "apikey": KEY}
    httpserver.expect_request("/query", query_string=query).respond_with_json(payload)
    return AlphaVantage().fetch_splits(name, {"base_url": httpserver.url_for("").rstrip("/")})


def test_each_split_is_effective_as_its_day_begins_in_new_york(httpserver):
    assert splits_in(httpserver, APPLE) == [SplitFound(AUGUST, 4, 1), SplitFound(JUNE, 7, 1)]
    assert len(httpserver.log) == 1


@pytest.mark.parametrize(
    ("factor", "ratio"),
    [
        ("1.5000", (3, 2)), ("0.1000", (1, 10)), ("0.3333", (1, 3)), ("1.3333", (4, 3)), ("20", (20, 1)),
        ("0.0333", (1, 30)), ("1.2500", (5, 4)), ("1.0500", (21, 20)),
    ],
)  # fmt: skip
def test_a_factor_is_the_simplest_ratio_that_is_written_so(httpserver, factor, ratio):
    row = {"effective_date": "2020-08-31", "split_factor": factor}

    assert splits_in(httpserver, {"data": [row]}) == [SplitFound(AUGUST, *ratio)]


@pytest.mark.parametrize(
    "payload",
    [
        {"symbol": "AAPL"},
        {"data": "none"},
        {"data": [1]},
        {"data": [{"effective_date": "2020-08-31"}]},
        {"data": [{"effective_date": "soon", "split_factor": "4.0000"}]},
        {"data": [{"effective_date": "2020-08-31", "split_factor": "four"}]},
        {"data": [{"effective_date": "2020-08-31", "split_factor": "0.0000"}]},
        {"data": [{"effective_date": "2020-08-31", "split_factor": "NaN"}]},
        {"data": [{"effective_date": "2020-08-31", "split_factor": "-4.0000"}]},
    ],
)
def test_an_answer_that_is_none_is_refused(httpserver, payload):
    with pytest.raises(ProviderUnavailable, match="bad_payload"):
        splits_in(httpserver, payload)


@pytest.mark.parametrize(
    ("payload", "name", "reason"), [({}, "NONE", "unknown_symbol"), (APPLE, "EUR/USD", "no_splits")]
)
def test_who_has_no_splits_is_refused(httpserver, payload, name, reason):
    with pytest.raises(ProviderRejected, match=reason):
        splits_in(httpserver, payload, name=name)


def test_other_providers_know_no_splits():
    knowing = {slug for slug, provider in PROVIDERS.items() if provider.has_splits}
    assert knowing == {"alphavantage"}
    for slug in PROVIDERS.keys() - knowing:
        with pytest.raises(ProviderRejected, match="no_splits"):
            PROVIDERS[slug].fetch_splits("A", {})


@pytest.fixture
def feed(db, httpserver):
    httpserver.expect_request("/query").respond_with_json(APPLE)
    feed = make_feed("AAPL")
    feed.sources.create(provider="alphavantage", position=2, options={"base_url": httpserver.url_for("").rstrip("/")})
    append_quotes(feed, [("AAPL", at(0), "100")])
    return feed


def run(capsys, *args):
    status = 0
    try:
        call_command("splits", *args)
    except SystemExit as stopped:
        status = stopped.code
    printed = capsys.readouterr()
    return status, printed.out.splitlines(), printed.err


def test_the_command_enters_what_is_not_entered_yet(feed, capsys):
    lines = ["7:1 from 2014-06-09 04:00 UTC on", "4:1 from 2020-08-31 04:00 UTC on"]

    assert run(capsys, "AAPL", "--dry-run") == (0, lines, "")
    assert Split.objects.count() == 0
    assert run(capsys, "AAPL") == (0, [f"{line}: entered" for line in lines], "")
    assert run(capsys, "AAPL") == (0, [f"{line}: entered already" for line in lines], "")
    rows = Split.objects.values_list("effective_at", "numerator", "denominator")
    assert list(rows) == [(JUNE, 7, 1), (AUGUST, 4, 1)]


def test_the_command_says_what_was_refused_and_enters_the_rest(feed, capsys, httpserver):
    httpserver.clear()
    rows = [{"effective_date": "2029-08-31", "split_factor": "2.0000"}, *APPLE["data"]]
    httpserver.expect_request("/query").respond_with_json({"data": rows})

    status, lines, _ = run(capsys, "AAPL")

    assert (status, len(lines), Split.objects.count()) == (1, 3, 2)
    assert "2:1 from 2029-08-31 04:00 UTC on: refused: the clock of the feed feed is at" in lines[2]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["MSFT"], "splits: there is no asset MSFT\n"),
        (["AAPL", "--provider", "nobody"], "splits: unknown provider 'nobody'"),
        (["AAPL", "--provider", "kraken"], "splits: kraken: no_splits"),
    ],
)
def test_the_command_ends_with_2_and_one_line_where_nothing_can_be_asked(feed, capsys, args, said):
    status, lines, error = run(capsys, *args)

    assert (status, lines, error.count("\n")) == (2, [], 1)
    assert error.startswith(said)
