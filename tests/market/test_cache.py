import random
import socket
import time
from datetime import timedelta
from decimal import Decimal
from itertools import accumulate
from threading import Barrier

import pytest
from django.conf import settings as project

from apps.market import cache, queries, services
from apps.market.domain import RawQuote
from apps.market.models import FeedHead
from apps.sources import services as sources
from tests.builders import START, TRACE, append_quotes, asset_ids, at, make_feed
from tests.threads import PATIENCE_SECONDS, at_once


@pytest.fixture(params=["embedded", pytest.param("redis", marks=pytest.mark.servers)])
def either(request, settings):
    """Run the test on the cache in the process and on Redis."""
    settings.REDIS_URL = {"embedded": "", "redis": project.REDIS_URL}[request.param]


def _connect_anew():
    cache._client.cache_clear()
    cache._script.cache_clear()


@pytest.fixture
def outage(settings):
    """Have Redis away, at a port where nobody listens, and return the function that ends it."""
    address = settings.REDIS_URL
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    settings.REDIS_URL = f"redis://127.0.0.1:{port}/0"
    _connect_anew()

    def end():
        settings.REDIS_URL = address
        _connect_anew()

    yield end
    end()


def _put(asset_id, moment, price, *, seconds_to_live=60, now=START):
    return cache.put_latest([(asset_id, moment, Decimal(price))], seconds_to_live=seconds_to_live, now=now)


def _get(*wanted, now=START):
    return cache.get_latest(wanted, now=now)


def _is_stale(feed):
    return FeedHead.objects.get(feed=feed).is_cache_stale


@pytest.mark.parametrize("price", ["0.000000000000001", "0.000000001440000001", "1000000000000.00", "123456.789012345"])
def test_a_price_is_read_back_exactly(either, price):
    moment = START + timedelta(microseconds=1)
    assert _put(1, moment, price) is True
    assert _get(1) == {1: (moment, Decimal(price))}


def test_what_is_not_known_is_left_out(either):
    _put(1, START, "10")
    assert _get(1, 2) == {1: (START, Decimal(10))}
    assert _get() == {}


def test_what_the_cache_knows_is_a_hit_and_what_it_does_not_a_miss(either):
    def counted():
        return [cache.LOOKUPS.labels(outcome)._value.get() for outcome in ("hit", "miss")]

    _put(1, START, "10")
    hits, misses = counted()
    _get(1, 2, 3)
    _get()

    assert counted() == [hits + 1, misses + 2]


def test_nothing_to_write_is_no_failure(either):
    assert cache.put_latest([], seconds_to_live=60, now=START) is True


def test_a_newer_price_replaces_an_older_one(either):
    _put(1, START, "10")
    _put(1, START + timedelta(microseconds=1), "11")
    assert _get(1) == {1: (START + timedelta(microseconds=1), Decimal(11))}


@pytest.mark.parametrize("back", [timedelta(0), timedelta(microseconds=1), timedelta(days=1)])
def test_a_price_that_is_not_newer_replaces_nothing(either, back):
    _put(1, START, "10")
    assert _put(1, START - back, "9") is True
    assert _get(1) == {1: (START, Decimal(10))}


def test_an_older_write_never_replaces_a_newer_one_in_1000_shuffled_writes(either):
    order = random.Random(7).sample(range(1000), 1000)
    seen = []
    for second in order:
        _put(1, at(second), str(second + 1))
        seen.append(_get(1)[1])
    assert seen == [(at(second), Decimal(second + 1)) for second in accumulate(order, max)]


def test_of_two_writers_at_once_the_newer_stands(either):
    meet = Barrier(2, timeout=PATIENCE_SECONDS)

    def write(moment, price):
        for number in range(200):
            meet.wait()
            _put(number, moment, price)

    at_once(lambda: write(at(1), "10"), lambda: write(at(2), "11"))
    assert _get(*range(200)) == {number: (at(2), Decimal(11)) for number in range(200)}


def test_a_batch_of_thousands_is_written_whole(either):
    quotes = [(number, START, Decimal(number)) for number in range(1, 2502)]
    assert cache.put_latest(quotes, seconds_to_live=60, now=START) is True
    assert _get(*range(1, 2502)) == {number: (START, Decimal(number)) for number in range(1, 2502)}


def test_the_embedded_cache_forgets_when_the_time_to_live_is_over(settings):
    settings.REDIS_URL = ""
    _put(1, START, "10", seconds_to_live=2)
    assert _get(1, now=at(1.999)) == {1: (START, Decimal(10))}
    assert _get(1, now=at(2)) == {}


@pytest.mark.servers
def test_redis_forgets_when_the_time_to_live_is_over():
    _put(1, START, "10", seconds_to_live=1)
    assert _get(1) == {1: (START, Decimal(10))}
    time.sleep(1.05)
    assert _get(1) == {}


@pytest.mark.servers
def test_an_older_write_does_not_lengthen_the_life_of_a_newer_one():
    _put(1, START, "10", seconds_to_live=5)
    _put(1, at(-1), "9", seconds_to_live=500)
    assert 0 < cache._client().pttl(f"{cache._PREFIX}1") <= 5_000


@pytest.mark.servers
@pytest.mark.django_db
def test_an_answer_lives_in_redis_for_twice_the_feeds_interval():
    feed = make_feed("BTC", interval_seconds=30)
    append_quotes(feed, [("BTC", START, "10")])
    assert 50_000 < cache._client().pttl(f"{cache._PREFIX}{asset_ids(feed)['BTC']}") <= 60_000


def test_an_outage_is_a_miss_and_a_write_says_so(outage):
    assert _put(1, START, "10") is False
    assert _get(1) == {}


def test_a_redis_that_does_not_answer_is_given_up_within_a_second(outage, settings):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.REDIS_URL = f"redis://127.0.0.1:{silent.getsockname()[1]}/0"
        _connect_anew()
        began = time.monotonic()
        assert _get(1) == {}
        assert time.monotonic() - began < 1


@pytest.mark.django_db
def test_in_an_outage_quotes_are_stored_and_read_and_the_feed_is_marked(outage):
    feed = make_feed("BTC")
    entry = append_quotes(feed, [("BTC", START, "10")])
    btc = asset_ids(feed)["BTC"]
    assert (entry.accepted, _is_stale(feed)) == (1, True)
    assert queries.latest_prices([btc], now=START) == {btc: (START, Decimal(10))}


@pytest.mark.django_db
def test_what_an_outage_kept_from_the_cache_is_written_again(outage):
    feed, sound = make_feed("BTC", "ETH", "XRP", name="marked"), make_feed(name="sound")
    append_quotes(feed, [("BTC", START, "10"), ("ETH", START, "2")])
    outage()
    ids = asset_ids(feed)
    assert _get(*ids.values()) == {}
    assert services.redo_cache_writes(now=START) == 1
    assert _get(*ids.values()) == {ids["BTC"]: (START, Decimal(10)), ids["ETH"]: (START, Decimal(2))}
    assert (_is_stale(feed), _is_stale(sound)) == (False, False)
    assert services.redo_cache_writes(now=START) == 0


@pytest.mark.django_db
def test_while_the_outage_lasts_the_feed_stays_marked(outage):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    assert services.redo_cache_writes(now=START) == 1
    assert _is_stale(feed) is True


@pytest.mark.django_db
def test_an_answer_after_the_outage_does_not_pass_for_the_writes_that_failed_in_it(outage):
    feed = make_feed("BTC", "ETH")
    append_quotes(feed, [("BTC", START, "10")])
    outage()
    append_quotes(feed, [("ETH", at(1), "2")])
    ids = asset_ids(feed)
    assert _is_stale(feed) is True
    services.redo_cache_writes(now=at(1))
    assert _get(*ids.values(), now=at(1)) == {ids["BTC"]: (START, Decimal(10)), ids["ETH"]: (at(1), Decimal(2))}


@pytest.mark.django_db
def test_a_write_that_fails_while_earlier_ones_are_redone_leaves_its_word(outage, monkeypatch):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    read = queries.newest_stored

    def read_and_fail_beside(asset_ids):
        newest = read(asset_ids)
        append_quotes(feed, [("BTC", at(1), "11")])
        outage()
        return newest

    monkeypatch.setattr(queries, "newest_stored", read_and_fail_beside)
    services.redo_cache_writes(now=at(1))
    monkeypatch.undo()
    assert _is_stale(feed) is True


@pytest.mark.django_db
def test_writing_again_does_not_put_an_old_price_over_one_that_is_written_beside_it(outage, monkeypatch):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    outage()
    btc = asset_ids(feed)["BTC"]
    read = queries.newest_stored

    def read_and_write_beside(asset_ids):
        newest = read(asset_ids)
        _put(btc, at(1), "11")
        return newest

    monkeypatch.setattr(queries, "newest_stored", read_and_write_beside)
    services.redo_cache_writes(now=START)
    assert _get(btc) == {btc: (at(1), Decimal(11))}


@pytest.mark.django_db
def test_the_past_is_not_the_newest_price(either):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")])
    ids = asset_ids(feed)
    cache._local.clear()
    if project.REDIS_URL:
        cache._client().delete(f"{cache._PREFIX}{ids['BTC']}")
    past = [RawQuote("BTC", "3", at(-3_600))]
    sources.import_history(feed_id=feed.pk, quotes=past, now=at(1), trace_id=TRACE)
    assert queries.latest_prices(list(ids.values()), now=at(1)) == {ids["BTC"]: (START, Decimal(10))}


@pytest.mark.django_db
def test_what_was_quoted_since_the_newest_price_and_comes_as_history_is_the_newest(either):
    feed = make_feed("BTC")
    append_quotes(feed, [("BTC", START, "10")], as_of=at(60))
    [btc] = asset_ids(feed).values()
    past = [RawQuote("BTC", "3", at(30))]
    sources.import_history(feed_id=feed.pk, quotes=past, now=at(61), trace_id=TRACE)
    assert _get(btc, now=at(61)) == {btc: (at(30), Decimal(3))}
