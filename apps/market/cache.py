"""The latest quote per asset, in Redis, or in the process when embedded. Only a cache: every key may vanish at any
time.

A value is written only over an older one, in one step, so a delayed writer cannot put an old price back. Only who has
just changed a price (a split) writes over one of the same time. After a correction it is forgotten, and the row is
read.
"""

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cache
from threading import Lock

import redis
from django.conf import settings
from prometheus_client import Counter

from apps.market.domain import epoch_microseconds, from_epoch_microseconds
from apps.wakeups import CHANNEL

logger = logging.getLogger(__name__)

LatestPrices = dict[int, tuple[datetime, Decimal]]
_PREFIX = "fintech:newest:"
_TIMEOUT_SECONDS = 0.3
_KEYS_AT_ONCE = 2_000  # Lua's unpack() takes a few thousand, and nobody else is served meanwhile.

# KEYS: one per asset; ARGV[1]: milliseconds to live; ARGV[2]: "1" to write over the same time too; ARGV[i + 2]:
# "microseconds price". The microseconds have as many digits in each, so texts compare as numbers do. It also wakes
# who waits for new quotes, since each append ends here.
_SET_IF_NEWER = f"""
local known = redis.call('MGET', unpack(KEYS))
for i = 1, #KEYS do
  local before, after = known[i] and string.sub(known[i], 1, 17), string.sub(ARGV[i + 2], 1, 17)
  if not before or before < after or (ARGV[2] == '1' and before == after) then
    redis.call('SET', KEYS[i], ARGV[i + 2], 'PX', ARGV[1])
  end
end
redis.call('PUBLISH', '{CHANNEL}', '')
"""

LOOKUPS = Counter(
    "fintech_cache_lookups",
    "Newest prices looked for in the cache, by whether it had them: outcome hit or miss; the rows have the others.",
    ["outcome"],
)
_HITS, _MISSES = (LOOKUPS.labels(outcome) for outcome in ("hit", "miss"))

# The embedded cache: asset id -> (expires at, value). One process, so a dict and a lock do.
_local: dict[int, tuple[datetime, tuple[datetime, Decimal]]] = {}
_local_lock = Lock()


@cache
def _client() -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL, socket_connect_timeout=_TIMEOUT_SECONDS, socket_timeout=_TIMEOUT_SECONDS
    )


@cache
def _script() -> redis.commands.core.Script:
    return _client().register_script(_SET_IF_NEWER)


def put_latest(
    quotes: Iterable[tuple[int, datetime, Decimal]], *, seconds_to_live: int, now: datetime, again: bool = False
) -> bool:
    """Write (asset id, at, price) where nothing newer is known, and nothing of the same time, but with `again`. Return
    False, and log why, when the cache is away."""
    if not settings.REDIS_URL:
        with _local_lock:
            for asset_id, at, price in quotes:
                known = _local.get(asset_id)
                if known is None or known[1][0] < at or (again and known[1][0] == at):
                    _local[asset_id] = (now + timedelta(seconds=seconds_to_live), (at, price))
        return True
    keys, values = [], []
    for asset_id, at, price in quotes:
        keys.append(f"{_PREFIX}{asset_id}")
        values.append(f"{epoch_microseconds(at):017} {price}")
    try:
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            part = slice(begin, begin + _KEYS_AT_ONCE)
            _script()(keys=keys[part], args=[seconds_to_live * 1_000, int(again), *values[part]])
    except redis.RedisError as error:
        logger.warning("cache not written", extra={"reason": type(error).__name__, "count": len(keys)})
        return False
    return True


def forget_latest(asset_ids: Sequence[int]) -> bool:
    """Forget what is known of these assets, so that the rows are read. Return False, and log why, when the cache is
    away."""
    if not settings.REDIS_URL:
        with _local_lock:
            for asset_id in asset_ids:
                _local.pop(asset_id, None)
        return True
    keys = [f"{_PREFIX}{asset_id}" for asset_id in asset_ids]
    try:
        for begin in range(0, len(keys), _KEYS_AT_ONCE):
            _client().delete(*keys[begin : begin + _KEYS_AT_ONCE])
    except redis.RedisError as error:
        logger.warning("cache not written", extra={"reason": type(error).__name__, "count": len(keys)})
        return False
    return True


def get_latest(asset_ids: Sequence[int], *, now: datetime) -> LatestPrices:
    """Return asset id -> (at, price) for what the cache knows, and count it; an outage is a miss."""
    known = _known(asset_ids, now=now)
    _HITS.inc(len(known))
    _MISSES.inc(len(asset_ids) - len(known))
    return known


def _known(asset_ids: Sequence[int], *, now: datetime) -> LatestPrices:
    if not settings.REDIS_URL:
        with _local_lock:
            found = {asset_id: _local.get(asset_id) for asset_id in asset_ids}
        return {asset_id: entry[1] for asset_id, entry in found.items() if entry and entry[0] > now}
    try:
        values = _client().mget([f"{_PREFIX}{asset_id}" for asset_id in asset_ids]) if asset_ids else []
    except redis.RedisError as error:
        logger.warning("cache not read", extra={"reason": type(error).__name__, "count": len(asset_ids)})
        return {}
    return {asset_id: _read(value) for asset_id, value in zip(asset_ids, values, strict=True) if value}


def _read(value: bytes) -> tuple[datetime, Decimal]:
    microseconds, price = value.decode().split(" ")
    return from_epoch_microseconds(int(microseconds)), Decimal(price)
