"""Totals of attempts, kept beside the messages, which are pruned."""

import os

from django.db import connection

from apps.notify.models import DeliveryTotal
from apps.totals import Totals

_SLOTS = 16
_ADD = f"""
    INSERT INTO {DeliveryTotal._meta.db_table} AS total (name, slot, count) VALUES %s
    ON CONFLICT (name, slot) DO UPDATE SET count = total.count + excluded.count"""  # noqa: S608 (a constant)


def count_deliveries(totals: Totals) -> None:
    """Add to the totals of deliveries, in the caller's transaction, as its last statement: the rows stay locked until
    it ends."""
    slot = os.getpid() % _SLOTS
    # In one order, so that two processes of one slot wait for each other and not for ever.
    rows = [value for name, count in sorted(totals.items()) for value in (name, slot, count)]
    with connection.cursor() as cursor:
        cursor.execute(_ADD % ", ".join(["(%s, %s, %s)"] * len(totals)), rows)
