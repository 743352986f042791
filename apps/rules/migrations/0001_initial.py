

import uuid

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('market', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Rule',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='What people call it; stands in every message.', max_length=128, validators=[django.core.validators.ProhibitNullCharactersValidator()])),
                ('severity', models.CharField(choices=[('info', 'info'), ('warning', 'warning'), ('critical', 'critical')], default='warning', max_length=8)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('deleted_at', models.DateTimeField(editable=False, null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rules', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='RuleVersion',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('document', models.JSONField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='versions', to='rules.rule')),
            ],
            options={
                'ordering': ['rule', 'number'],
            },
        ),
        migrations.CreateModel(
            name='RuleState',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('state', models.CharField(choices=[('inactive', 'inactive'), ('pending', 'pending'), ('firing', 'firing'), ('recovering', 'recovering'), ('ended', 'ended'), ('error', 'error')], max_length=12)),
                ('since', models.DateTimeField(null=True)),
                ('unknown', models.CharField(blank=True, max_length=200)),
                ('reason', models.CharField(blank=True, max_length=500)),
                ('asset', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rule_states', to='market.asset')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='states', to='rules.rule')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='states', to='rules.ruleversion')),
            ],
        ),
        migrations.CreateModel(
            name='RuleChange',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('asset_ids', models.JSONField(default=list)),
                ('batch', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rule_changes', to='market.batch')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='changes', to='rules.rule')),
                ('version', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='changes', to='rules.ruleversion')),
            ],
        ),
        migrations.CreateModel(
            name='Transition',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('position', models.PositiveIntegerField()),
                ('from_state', models.CharField(choices=[('inactive', 'inactive'), ('pending', 'pending'), ('firing', 'firing'), ('recovering', 'recovering'), ('ended', 'ended'), ('error', 'error')], max_length=12)),
                ('to_state', models.CharField(choices=[('inactive', 'inactive'), ('pending', 'pending'), ('firing', 'firing'), ('recovering', 'recovering'), ('ended', 'ended'), ('error', 'error')], max_length=12)),
                ('at', models.DateTimeField()),
                ('reason', models.CharField(max_length=500)),
                ('suppressed', models.BooleanField(default=False)),
                ('evidence', models.JSONField(null=True)),
                ('asset', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rule_transitions', to='market.asset')),
                ('batch', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='transitions', to='market.batch')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='transitions', to='rules.rule')),
                ('version', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='transitions', to='rules.ruleversion')),
            ],
            options={
                'ordering': ['batch', 'position'],
            },
        ),
        migrations.CreateModel(
            name='Checkpoint',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('seq', models.PositiveBigIntegerField()),
                ('as_of', models.DateTimeField()),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('data', models.BinaryField()),
                ('feed', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='checkpoints', to='market.feed')),
            ],
            options={
                'ordering': ['feed', 'seq'],
                'constraints': [models.UniqueConstraint(fields=('feed', 'seq'), name='one_checkpoint_per_feed_and_seq')],
            },
        ),
        migrations.CreateModel(
            name='BacktestRun',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('document', models.JSONField()),
                ('since', models.DateTimeField()),
                ('until', models.DateTimeField()),
                ('status', models.CharField(choices=[('queued', 'waiting'), ('running', 'running'), ('done', 'done'), ('failed', 'failed'), ('cancelled', 'cancelled')], default='queued', max_length=9)),
                ('progress_percent', models.PositiveSmallIntegerField(default=0)),
                ('cancel_requested', models.BooleanField(default=False)),
                ('hurried_until', models.DateTimeField(null=True)),
                ('fence', models.PositiveIntegerField(default=0)),
                ('lease_until', models.DateTimeField(null=True)),
                ('requested_at', models.DateTimeField()),
                ('started_at', models.DateTimeField(null=True)),
                ('finished_at', models.DateTimeField(null=True)),
                ('failure', models.CharField(blank=True, max_length=200)),
                ('result', models.JSONField(null=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='backtests', to=settings.AUTH_USER_MODEL)),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='backtests', to='rules.rule')),
            ],
            options={
                'ordering': ['-requested_at'],
                'verbose_name': 'backtest',
                'indexes': [models.Index(fields=['owner', '-requested_at'], name='backtest_newest_of_owner')],
                'constraints': [models.UniqueConstraint(condition=models.Q(('status__in', ['queued', 'running'])), fields=('owner',), name='one_unfinished_backtest_per_owner'), models.CheckConstraint(condition=models.Q(('since__lt', models.F('until'))), name='backtest_since_before_until'), models.CheckConstraint(condition=models.Q(('progress_percent__gte', 0), ('progress_percent__lte', 100)), name='backtest_progress_0_to_100')],
            },
        ),
        migrations.AddConstraint(
            model_name='rule',
            constraint=models.UniqueConstraint(condition=models.Q(('deleted_at', None)), fields=('owner', 'name'), name='one_rule_per_owner_and_name'),
        ),
        migrations.AddConstraint(
            model_name='ruleversion',
            constraint=models.UniqueConstraint(fields=('rule', 'number'), name='one_version_per_rule_and_number'),
        ),
        migrations.AddConstraint(
            model_name='rulestate',
            constraint=models.UniqueConstraint(fields=('rule', 'asset'), name='one_state_per_rule_and_asset'),
        ),
        migrations.AddConstraint(
            model_name='rulechange',
            constraint=models.UniqueConstraint(fields=('batch', 'rule'), name='one_change_per_batch_and_rule'),
        ),
        migrations.AddConstraint(
            model_name='transition',
            constraint=models.UniqueConstraint(fields=('batch', 'position'), name='one_transition_per_batch_and_position'),
        ),
        migrations.AddIndex(
            model_name='transition',
            index=models.Index(fields=['rule', '-id'], name='transition_newest_of_rule'),
        ),
    ]
