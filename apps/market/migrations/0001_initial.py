

from decimal import Decimal

import django.core.validators
import django.db.models.deletion
from django.db import migrations, models

import apps.market.models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
    ]

    operations = [
        migrations.CreateModel(
            name='Asset',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(help_text='Like BTC-USD.', max_length=64, unique=True, validators=[django.core.validators.RegexValidator('\\A[A-Z0-9][A-Z0-9._:/-]{0,63}\\Z', 'Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD).')])),
                ('name', models.CharField(blank=True, help_text='What people call it.', max_length=128, validators=[django.core.validators.ProhibitNullCharactersValidator()])),
                ('tags', models.JSONField(blank=True, default=list, help_text='A list of words that rules can choose by: ["crypto"].')),
            ],
            options={
                'ordering': ['symbol'],
            },
        ),
        migrations.CreateModel(
            name='Batch',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seq', models.PositiveBigIntegerField()),
                ('kind', models.CharField(choices=[('quotes', 'quotes'), ('rules', 'change of rules'), ('history', 'history')], max_length=8)),
                ('slot', models.DateTimeField(null=True)),
                ('as_of', models.DateTimeField()),
                ('received_at', models.DateTimeField()),
                ('provider', models.CharField(blank=True, max_length=32)),
                ('failure', models.CharField(blank=True, max_length=64)),
                ('accepted', models.PositiveIntegerField(default=0)),
                ('late', models.PositiveIntegerField(default=0)),
                ('rejected', models.JSONField(default=dict)),
                ('missed_slots', models.PositiveIntegerField(default=0)),
                ('first_at', models.DateTimeField(null=True)),
                ('last_at', models.DateTimeField(null=True)),
                ('trace_id', models.CharField(max_length=32)),
                ('evaluated_at', models.DateTimeField(null=True)),
            ],
            options={
                'verbose_name_plural': 'batches',
                'ordering': ['-id'],
            },
        ),
        migrations.CreateModel(
            name='Feed',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='Like crypto-spot.', max_length=64, unique=True, validators=[django.core.validators.RegexValidator('\\A[a-z0-9][a-z0-9-]{0,63}\\Z', 'Use 1 to 64 small letters, digits and dashes.')])),
                ('interval_seconds', models.PositiveIntegerField(help_text='How often quotes are asked for, in seconds.')),
                ('is_enabled', models.BooleanField(default=True, help_text='Off: nothing is fetched; what is stored is still judged.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='FeedSource',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveSmallIntegerField(default=1, help_text='1 is asked first.')),
                ('provider', models.CharField(help_text='Where the quotes come from.', max_length=32)),
                ('options', models.JSONField(blank=True, default=dict, help_text='What the provider needs to know; see docs/feeds.md.')),
            ],
            options={
                'ordering': ['feed', 'position'],
            },
        ),
        migrations.CreateModel(
            name='AssetAlias',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text="Like BTC; no asset's symbol.", max_length=64, unique=True, validators=[django.core.validators.RegexValidator('\\A[A-Z0-9][A-Z0-9._:/-]{0,63}\\Z', 'Use 1 to 64 capital letters, digits and . _ : / - (like BTC-USD).')])),
            ],
            options={
                'verbose_name_plural': 'asset aliases',
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Listing',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('provider', models.CharField(max_length=32)),
                ('external_id', models.CharField(help_text='Like bitcoin at CoinCap.', max_length=128)),
            ],
        ),
        migrations.CreateModel(
            name='LatestQuote',
            fields=[
                ('asset', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='latest', serialize=False, to='market.asset')),
                ('at', models.DateTimeField()),
                ('price', apps.market.models.PriceField(decimal_places=10, max_digits=23)),
            ],
        ),
        migrations.CreateModel(
            name='FeedHead',
            fields=[
                ('feed', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='head', serialize=False, to='market.feed')),
                ('seq', models.PositiveBigIntegerField(default=0)),
                ('as_of', models.DateTimeField(null=True)),
                ('began_at', models.DateTimeField(null=True)),
                ('next_slot', models.DateTimeField()),
                ('hurried_until', models.DateTimeField(null=True)),
                ('fence', models.PositiveBigIntegerField(default=0)),
                ('lease_until', models.DateTimeField(null=True)),
                ('failures', models.PositiveIntegerField(default=0)),
                ('is_cache_stale', models.BooleanField(default=False)),
            ],
        ),
        migrations.CreateModel(
            name='JudgePosition',
            fields=[
                ('feed', models.OneToOneField(on_delete=django.db.models.deletion.CASCADE, primary_key=True, related_name='judged', serialize=False, to='market.feed')),
                ('seq', models.PositiveBigIntegerField(default=0)),
                ('hurried_until', models.DateTimeField(null=True)),
            ],
        ),
        migrations.AddConstraint(
            model_name='feed',
            constraint=models.CheckConstraint(condition=models.Q(('interval_seconds__gte', 1), ('interval_seconds__lte', 604800)), name='feed_interval_from_1_second_to_7_days'),
        ),
        migrations.AddField(
            model_name='batch',
            name='feed',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='batches', to='market.feed'),
        ),
        migrations.AddField(
            model_name='asset',
            name='feed',
            field=models.ForeignKey(blank=True, help_text='Where its quotes come from.', null=True, on_delete=django.db.models.deletion.PROTECT, related_name='assets', to='market.feed'),
        ),
        migrations.AddField(
            model_name='feedsource',
            name='feed',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='sources', to='market.feed'),
        ),
        migrations.AddField(
            model_name='assetalias',
            name='asset',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='aliases', to='market.asset'),
        ),
        migrations.AddField(
            model_name='listing',
            name='asset',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='listings', to='market.asset'),
        ),
        migrations.AddConstraint(
            model_name='latestquote',
            constraint=models.CheckConstraint(condition=models.Q(('price__gte', Decimal('1E-10')), ('price__lte', Decimal('1E+12'))), name='latest_price_in_range'),
        ),
        migrations.AddIndex(
            model_name='feedhead',
            index=models.Index(fields=['next_slot'], name='feed_head_due'),
        ),
        migrations.AddIndex(
            model_name='batch',
            index=models.Index(condition=models.Q(('evaluated_at', None)), fields=['received_at'], name='batch_not_evaluated'),
        ),
        migrations.AddConstraint(
            model_name='batch',
            constraint=models.UniqueConstraint(fields=('feed', 'seq'), name='one_batch_per_feed_and_seq'),
        ),
        migrations.AddConstraint(
            model_name='batch',
            constraint=models.UniqueConstraint(fields=('feed', 'slot'), name='one_batch_per_feed_and_slot'),
        ),
        migrations.AddConstraint(
            model_name='feedsource',
            constraint=models.UniqueConstraint(fields=('feed', 'position'), name='one_source_per_feed_and_position'),
        ),
        migrations.AddConstraint(
            model_name='listing',
            constraint=models.UniqueConstraint(fields=('asset', 'provider'), name='one_listing_per_asset_and_provider'),
        ),
        migrations.AddConstraint(
            model_name='listing',
            constraint=models.UniqueConstraint(fields=('provider', 'external_id'), name='one_asset_per_external_id'),
        ),
    ]
