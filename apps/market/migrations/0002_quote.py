"""Quotes. On PostgreSQL they stand in partitions by day: a day is dropped in a moment, and its index fits into memory."""

from decimal import Decimal

import django.db.models.deletion
from django.db import migrations, models

import apps.market.models


def partition(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute("ALTER TABLE market_quote RENAME TO market_quote_plain")
    schema_editor.execute("CREATE TABLE market_quote (LIKE market_quote_plain INCLUDING ALL) PARTITION BY RANGE (at)")
    schema_editor.execute("DROP TABLE market_quote_plain")
    # Every row of these is updated with each batch: room for the new version on the same page spares the indexes.
    schema_editor.execute("ALTER TABLE market_latestquote SET (fillfactor = 50)")
    schema_editor.execute("ALTER TABLE market_feedhead SET (fillfactor = 50)")


def gather(apps, schema_editor):
    if schema_editor.connection.vendor != "postgresql":
        return
    schema_editor.execute("ALTER TABLE market_latestquote RESET (fillfactor)")
    schema_editor.execute("ALTER TABLE market_feedhead RESET (fillfactor)")
    schema_editor.execute("CREATE TABLE market_quote_plain (LIKE market_quote INCLUDING ALL)")
    schema_editor.execute("INSERT INTO market_quote_plain SELECT * FROM market_quote")
    schema_editor.execute("DROP TABLE market_quote")
    schema_editor.execute("ALTER TABLE market_quote_plain RENAME TO market_quote")


class Migration(migrations.Migration):
    dependencies = [("market", "0001_initial")]
    operations = [
        migrations.CreateModel(
            name="Quote",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "asset_id", "at", blank=True, editable=False, primary_key=True, serialize=False
                    ),
                ),
                (
                    "asset",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="quotes",
                        to="market.asset",
                    ),
                ),
                ("at", models.DateTimeField()),
                ("price", apps.market.models.PriceField(decimal_places=10, max_digits=23)),
                ("volume", models.DecimalField(decimal_places=8, max_digits=29, null=True)),
                (
                    "batch",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="quotes",
                        to="market.batch",
                    ),
                ),
                ("late", models.BooleanField(default=False)),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(price__gte=Decimal("1E-10"), price__lte=Decimal("1E+12")),
                        name="quote_price_in_range",
                    ),
                    models.CheckConstraint(
                        condition=models.Q(volume=None)
                        | models.Q(volume__gte=0, volume__lte=Decimal("1E+20")),
                        name="quote_volume_in_range",
                    ),
                ],
            },
        ),
        migrations.RunPython(partition, gather),
    ]
