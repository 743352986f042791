"""What a request carries to every resolver: who asks, and what was read already."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from graphql_sync_dataloaders import SyncDataLoader, SyncFuture

from apps.api.graphql.errors import AskedTooOften, Unauthenticated
from apps.api.monitoring.asking import Allowance


class Context:
    """One request. allowance: of the calls to Prometheus and Loki; from_replica: lists of candles, quotes and entries
    may be read from a replica of the database, since the request changes nothing."""

    def __init__(self, *, user: AbstractBaseUser | AnonymousUser, from_replica: bool = False) -> None:
        self.user = user
        self.from_replica = from_replica
        self.allowance = Allowance()
        self._costly: Counter[str] = Counter()
        self._loaders: dict[Any, SyncDataLoader] = {}
        self._read_before: dict[Any, dict[Any, Any]] = {}

    def owner(self) -> AbstractBaseUser:
        """Return who asks. Raises Unauthenticated for a stranger."""
        if not self.user.is_authenticated:
            raise Unauthenticated
        return self.user

    def in_market(self) -> "Context":
        """Return this context. Raises Unauthenticated for a stranger, unless the market is open to all."""
        if not settings.MARKET_IS_PUBLIC:
            self.owner()
        return self

    def count_costly(self, name: str, *, most: int) -> None:
        """Note that a costly field is asked for once more. Raises AskedTooOften."""
        self._costly[name] += 1
        if self._costly[name] > most:
            raise AskedTooOften(most)

    def load(self, reader: Callable[..., Mapping[Any, Any]], key: Any, *arguments: Any) -> SyncFuture:
        """Return what `reader(context, keys, *arguments)` gives for `key`, later: it is called once for all the keys
        that other fields ask for meanwhile. None for a key that it leaves out.

        Only for fields that may be null: an error that would reach beyond the field could not be reported.
        """
        loader = self._loaders.get((reader, arguments))
        if loader is None:
            loader = SyncDataLoader(partial(self._read, reader, arguments))
            self._loaders[reader, arguments] = loader
        return loader.load(key)

    def _read(self, reader: Callable[..., Mapping[Any, Any]], arguments: tuple[Any, ...], keys: list[Any]) -> list[Any]:
        try:
            found = reader(self, keys, *arguments)
        except Exception as error:
            # Each field that waits for it fails by itself; raised here, it would leave them waiting for ever.
            return [error] * len(keys)
        return [found.get(key) for key in keys]

    def once(
        self, read: Callable[..., Mapping[Any, Any]], keys: Iterable[Any], *context: "Context"
    ) -> Mapping[Any, Any]:
        """Return key -> what `read` gives for it, without asking again for what it was asked before: where several
        fields stand on the same rows. context: this one, for a `read` that stands on other rows itself."""
        known = self._read_before.setdefault(read, {})
        wanted = list(keys)
        missing = [key for key in wanted if key not in known]
        if missing:
            known |= dict.fromkeys(missing) | read(missing, *context)
        return {key: known[key] for key in wanted if known[key] is not None}
