"""How many requests a token, a user and an address may send in a minute, and have answered at once.

The counts are in Redis, which all processes share. Where there is none, or it does not answer, each process counts by
itself for a while: then the limits are those of each process.
"""

import logging
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import cache
from threading import Lock
from typing import NamedTuple, Protocol

import redis
from django.conf import settings

from apps.api.errors import Refused

logger = logging.getLogger(__name__)

# A request waits so long for Redis, and the next ones do not, for a while.
_TIMEOUT_SECONDS = 0.1
_ASKED_AGAIN_AFTER_SECONDS = 10.0
# After so long a request counts as answered: its process may have been killed.
_ANSWERED_WITHIN_SECONDS = 30
_MINUTE = 60_000_000  # in microseconds
_PREFIX = "fintech:requests:"
_KEYS_KEPT = 10_000


class Bucket(NamedTuple):
    """What requests are counted under, and its limits; 0: none. kind: token, user or address; id: which one."""

    kind: str
    id: str
    per_minute: int
    at_once: int


class Taken(NamedTuple):
    """What came of a request. left: how many more requests may come at once in time, None without a limit;
    refused: the position of the bucket that refuses, None where none does; wait_microseconds: how long to wait then, 0
    where as many requests as may are being answered."""

    left: int | None = None
    refused: int | None = None
    wait_microseconds: int = 0


def buckets_of(**ids: str) -> list[Bucket]:
    """Return the buckets of a request: kind -> id, those with an empty one or without limits left out."""
    rates, at_once = settings.GRAPHQL_REQUESTS_PER_MINUTE, settings.GRAPHQL_REQUESTS_AT_ONCE
    return [
        Bucket(kind, id, rates[kind], at_once[kind])
        for kind, id in ids.items()
        if id and (rates[kind] or at_once[kind])
    ]


class Counter(Protocol):
    """Counts requests."""

    def take(self, buckets: Sequence[Bucket], request_id: str) -> Taken:
        """Count a request in all of the buckets, or in none where one refuses."""

    def leave(self, buckets: Sequence[Bucket], request_id: str) -> None:
        """Count the request among those that are being answered no more."""


# Each bucket allows a request every `step`, and a minute's worth of them together: what is kept is the time at which
# nothing would be used. Nothing is written before all buckets have allowed it. Times are whole microseconds, so that no
# rounding makes it one request less.
# KEYS: two of each bucket; ARGV: the request's id, microseconds until it counts as answered, two limits of each bucket.
_TAKE = f"""
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local left, used = -1, {{}}
for i = 1, #KEYS, 2 do
  local per_minute, at_once = tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  redis.call('ZREMRANGEBYSCORE', KEYS[i + 1], '-inf', now)
  if at_once > 0 and redis.call('ZCARD', KEYS[i + 1]) >= at_once then return {{left, (i - 1) / 2, 0}} end
  if per_minute > 0 then
    local step = math.floor({_MINUTE} / per_minute)
    used[i] = math.max(tonumber(redis.call('GET', KEYS[i]) or 0), now) + step
    local wait = used[i] - now - {_MINUTE}
    if wait > 0 then return {{left, (i - 1) / 2, math.ceil(wait)}} end
    local free = math.floor(-wait / step)
    if left < 0 or free < left then left = free end
  end
end
for i = 1, #KEYS, 2 do
  if used[i] then redis.call('SET', KEYS[i], string.format('%.0f', used[i]), 'PX', 60000) end
  if tonumber(ARGV[i + 3]) > 0 then
    redis.call('ZADD', KEYS[i + 1], now + ARGV[2], ARGV[1])
    redis.call('PEXPIRE', KEYS[i + 1], math.ceil(ARGV[2] / 1000))
  end
end
return {{left, -1, 0}}
"""


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=_TIMEOUT_SECONDS, socket_timeout=_TIMEOUT_SECONDS
    )


@cache
def _script() -> redis.commands.core.Script:
    return _client().register_script(_TAKE)


def _keys(bucket: Bucket) -> tuple[str, str]:
    """Return the keys of its rate and of what is being answered."""
    name = f"{_PREFIX}{bucket.kind}:{bucket.id}"
    return f"{name}:rate", f"{name}:open"


class Shared:
    """Counts in Redis. Raises RedisError."""

    def take(self, buckets: Sequence[Bucket], request_id: str) -> Taken:
        keys = [key for bucket in buckets for key in _keys(bucket)]
        limits = [limit for bucket in buckets for limit in (bucket.per_minute, bucket.at_once)]
        answered_within = _ANSWERED_WITHIN_SECONDS * 1_000_000
        left, refused, wait = _script()(keys=keys, args=[request_id, answered_within, *limits])
        return Taken(None if left < 0 else left, None if refused < 0 else refused, wait)

    def leave(self, buckets: Sequence[Bucket], request_id: str) -> None:
        with _client().pipeline(transaction=False) as pipeline:
            for bucket in buckets:
                if bucket.at_once:
                    pipeline.zrem(_keys(bucket)[1], request_id)
            pipeline.execute()


class Local:
    """Counts in this process. clock: seconds that only grow."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = Lock()
        # Key -> the time at which nothing would be used, in microseconds; those that were used last, last.
        self._used: OrderedDict[str, int] = OrderedDict()
        self._open: dict[str, set[str]] = {}

    def take(self, buckets: Sequence[Bucket], request_id: str) -> Taken:
        with self._lock:
            now, left, used = int(self._clock() * 1_000_000), None, {}
            for position, bucket in enumerate(buckets):
                rate, open_ = _keys(bucket)
                if bucket.at_once and len(self._open.get(open_, ())) >= bucket.at_once:
                    return Taken(left, position, 0)
                if bucket.per_minute:
                    step = _MINUTE // bucket.per_minute
                    used[rate] = max(self._used.get(rate, 0), now) + step
                    wait = used[rate] - now - _MINUTE
                    if wait > 0:
                        return Taken(left, position, wait)
                    free = -wait // step
                    left = free if left is None else min(left, free)
            for rate, until in used.items():
                self._used[rate] = until
                self._used.move_to_end(rate)
            while len(self._used) > _KEYS_KEPT:
                self._used.popitem(last=False)
            for bucket in buckets:
                self._open.setdefault(_keys(bucket)[1], set()).add(request_id)
            return Taken(left)

    def forget(self) -> None:
        """Count anew."""
        with self._lock:
            self._used.clear()
            self._open.clear()

    def leave(self, buckets: Sequence[Bucket], request_id: str) -> None:
        with self._lock:
            for bucket in buckets:
                _, open_ = _keys(bucket)
                still = self._open.get(open_, set())
                still.discard(request_id)
                if not still:
                    self._open.pop(open_, None)


_shared, _local = Shared(), Local()
# Until when Redis is not asked, by the monotonic clock.
_away_until = 0.0


def forget() -> None:
    """Count anew in this process, and ask Redis again."""
    global _away_until
    _away_until = 0.0
    _local.forget()


def _counter() -> Counter:
    return _shared if settings.REDIS_URL and time.monotonic() >= _away_until else _local


def _note_away(error: redis.RedisError) -> None:
    global _away_until
    _away_until = time.monotonic() + _ASKED_AGAIN_AFTER_SECONDS
    logger.warning("requests counted in this process", extra={"reason": type(error).__name__})


class Turn:
    """One request's turn: it is counted by `take`, and until the end of the `with`, as being answered. left: how many
    more may come at once, None without a limit."""

    def __init__(self) -> None:
        self.left: int | None = None
        self._id = secrets.token_hex(8)
        self._taken: list[tuple[Counter, list[Bucket]]] = []

    def __enter__(self) -> "Turn":
        return self

    def __exit__(self, *error: object) -> None:
        for counter, buckets in self._taken:
            try:
                counter.leave(buckets, self._id)
            except redis.RedisError as failed:
                _note_away(failed)

    def take(self, **ids: str) -> None:
        """Count the request under these ids. Raises Refused, 429, where there were too many."""
        buckets = buckets_of(**ids)
        if not buckets:
            return
        counter = _counter()
        try:
            taken = counter.take(buckets, self._id)
        except redis.RedisError as failed:
            _note_away(failed)
            counter = _local
            taken = counter.take(buckets, self._id)
        if taken.refused is not None:
            raise _refusal(buckets[taken.refused], taken)
        self._taken.append((counter, buckets))
        if taken.left is not None:
            self.left = taken.left if self.left is None else min(self.left, taken.left)


def _refusal(bucket: Bucket, taken: Taken) -> Refused:
    seconds = max(1, -(-taken.wait_microseconds // 1_000_000))
    if taken.wait_microseconds:
        code, said = "RATE_LIMITED", f"more than {bucket.per_minute} requests a minute"
    else:
        code, said = "TOO_MANY_AT_ONCE", f"more than {bucket.at_once} requests at once"
    message = f"This {bucket.kind} sends {said}. Try again in {seconds} s."
    return Refused(code, message, status=429, headers={"Retry-After": str(seconds)})
