"""Transactions of files, recorded once."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID, uuid4

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import Q

from apps.market.models import Asset
from apps.market.queries import assets_named
from apps.portfolios.domain.files import read_activities
from apps.portfolios.domain.tables import NO_CHOICES, Activities, Activity, Choices, FileRefused, RowError
from apps.portfolios.domain.transactions import CASH_KINDS
from apps.portfolios.file_rows import columns_of
from apps.portfolios.file_splits import confirm_splits
from apps.portfolios.models import ImportFile, Portfolio
from apps.portfolios.queries import known_ids, portfolios_of
from apps.portfolios.services import TransactionsRefused, record_transactions
from apps.public_ids import with_public_id

ERRORS_MOST = 100
ACCOUNTS_MOST = 100
# How long a file waits for its owner to confirm what it would record.
FILE_KEPT = timedelta(days=1)
SENT_FILE_KEPT = timedelta(hours=1)


class Imported(NamedTuple):
    """How many rows were recorded in a portfolio, were there already, and were left out, since they move cash and it
    does not track cash."""

    portfolio: Portfolio
    added: int
    known: int
    without_cash: int


class ImportRefused(Exception):
    """Some rows are wrong, so none was recorded. errors: by row, at most 100; count: of all; rows: their numbers."""

    def __init__(self, errors: Sequence[RowError]) -> None:
        super().__init__(f"{len(errors)} rows are wrong")
        self.errors = sorted(errors)[:ERRORS_MOST]
        self.count = len(errors)
        self.rows = frozenset(one.row for one in errors if one.row)


def import_rows(
    *,
    read: Activities,
    portfolios: Mapping[str, Portfolio],
    assets: Mapping[str, Asset],
    now: datetime,
    dry_run: bool = False,
) -> list[Imported]:
    """Record the rows of a file that are not there yet, all or none. portfolios: account of the file -> where its rows
    go; rows of others are left out; assets: symbol of the file -> asset; dry_run: only find what would be. Raises
    ImportRefused."""
    of_portfolio: dict[int, list[Activity]] = defaultdict(list)
    for one in read.rows:
        if one.account in portfolios:
            of_portfolio[portfolios[one.account].pk].append(one)
    errors = [*read.errors]
    by_id = {one.pk: one for one in portfolios.values()}
    with transaction.atomic():
        done = [
            _import(by_id[key], rows, assets=assets, now=now, errors=errors)
            for key, rows in sorted(of_portfolio.items())
        ]
        if errors:
            raise ImportRefused(errors)
        transaction.set_rollback(dry_run)
    return done


def _import(
    portfolio: Portfolio,
    rows: Sequence[Activity],
    *,
    assets: Mapping[str, Asset],
    now: datetime,
    errors: list[RowError],
) -> Imported:
    """Record the rows of one portfolio, or add to the errors what is wrong with them."""
    kept = [one for one in rows if portfolio.tracks_cash or one.columns["kind"] not in CASH_KINDS]
    known = known_ids(portfolio, {one.columns["external_id"] for one in kept})
    new = [one for one in kept if one.columns["external_id"] not in known]
    missing = [
        RowError(
            one.row,
            f"symbol: there is no asset {symbol[:64]}; choose one for it, or ask an operator to add it.",
        )
        for one in new
        for symbol in one.symbols()
        if symbol not in assets
    ]
    named = {one.name: one for one in portfolios_of(portfolio.owner_id)}
    missing += [
        RowError(one.row, f"to_portfolio: there is no portfolio {one.columns['to_portfolio'][:64]}; make it first.")
        for one in new
        if one.columns.get("to_portfolio", portfolio.name) not in named
    ]
    if missing:
        # A row may be several transactions.
        errors += dict.fromkeys(missing)
        return Imported(portfolio, 0, 0, 0)
    columns = [columns_of(one, portfolio, assets=assets, portfolios=named) for one in new]
    try:
        record_transactions(portfolio=portfolio, rows=columns, now=now)
    except TransactionsRefused as error:
        errors += [
            RowError(new[one.key - 1].row if one.key > 0 else 0, f"{one.field}: {one.message}")
            for one in error.refusals
        ]
    return Imported(portfolio, len(new), len(known), len(rows) - len(kept))


def import_activities(
    *,
    portfolio: Portfolio,
    read: Activities,
    account: str | None = None,
    confirmed: Collection[str] = (),
    now: datetime,
    dry_run: bool = False,
) -> tuple[Imported, Activities]:
    """Record the rows of a file in one portfolio, all or none; return that, and the file as `confirm_splits` returns
    it. account: only those of it; confirmed: which of its splits count. Raises ImportRefused."""
    accounts = {one for one in read.accounts() if account in (None, one)}
    assets = assets_named(read.symbols(), owner_id=portfolio.owner_id)
    given = {"portfolios": dict.fromkeys(accounts, portfolio), "assets": assets}
    with transaction.atomic():
        read, _ = confirm_splits(read, **given, confirmed=confirmed, now=now)
        done = import_rows(read=read, **given, now=now, dry_run=dry_run)
    return done[0] if done else Imported(portfolio, 0, 0, 0), read


def read_file(content: bytes, choices: Choices = NO_CHOICES) -> Activities:
    """Return the transactions of a file that somebody sends. Raises FileRefused."""
    read = read_activities(content, choices)
    if len(read.accounts()) > ACCOUNTS_MOST:
        raise FileRefused(f"The file has more than {ACCOUNTS_MOST} accounts; split it.")
    return read


def keep_file(
    *, owner: AbstractBaseUser, name: str, content: bytes, now: datetime, is_by_api: bool = False
) -> ImportFile:
    """Keep a file until its owner has confirmed what it would record; in place of the one before that came by the same
    way. Return it."""
    given = {"name": name[:255], "content": content, "uploaded_at": now, "public_id": uuid4()}
    return ImportFile.objects.update_or_create(owner=owner, is_by_api=is_by_api, defaults=given)[0]


def drop_file(*, owner: AbstractBaseUser, is_by_api: bool = False) -> None:
    """Delete the file that waits."""
    ImportFile.objects.filter(owner=owner, is_by_api=is_by_api).delete()


def kept_file(owner: AbstractBaseUser) -> ImportFile | None:
    """Return the file that waits for its owner on the page, or None. One statement."""
    return ImportFile.objects.filter(owner=owner, is_by_api=False).first()


def sent_file(owner: AbstractBaseUser, public_id: UUID, *, now: datetime) -> ImportFile | None:
    """Return the file of a public id that its owner has sent to the API, while it is kept, or None. One statement."""
    rows = ImportFile.objects.filter(owner=owner, is_by_api=True, uploaded_at__gt=now - SENT_FILE_KEPT)
    return with_public_id(rows, public_id)


def kept_until(file: ImportFile) -> datetime:
    """Return from when a file may be deleted that nobody has confirmed."""
    return file.uploaded_at + (SENT_FILE_KEPT if file.is_by_api else FILE_KEPT)


def prune_import_files(*, now: datetime, dry_run: bool = False) -> int:
    """Delete files that nobody has confirmed for a day, those of the API for an hour, and return how many."""
    by_api = Q(is_by_api=True, uploaded_at__lt=now - SENT_FILE_KEPT)
    old = ImportFile.objects.filter(by_api | Q(uploaded_at__lt=now - FILE_KEPT))
    return old.count() if dry_run else old.delete()[0]
