

import uuid

import django.core.validators
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    initial = True

    dependencies = [
        ('alerts', '0001_initial'),
        ('rules', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='Channel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(help_text='What you call it.', max_length=64, validators=[django.core.validators.ProhibitNullCharactersValidator()])),
                ('kind', models.CharField(help_text='How you are told: email or inbox.', max_length=16)),
                ('config', models.JSONField(blank=True, default=dict, help_text='For email: {"to": "you@example.org"}; for inbox: {}.')),
                ('is_enabled', models.BooleanField(default=True, help_text='Off: nothing new is sent here. What has told of alerts is not deleted, only switched off.')),
                ('wants_resolved', models.BooleanField(default=True, help_text='Also say when an alert is over.')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('owner', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='channels', to=settings.AUTH_USER_MODEL)),
            ],
            options={
                'ordering': ['name'],
            },
        ),
        migrations.CreateModel(
            name='Message',
            fields=[
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('kind', models.CharField(choices=[('alert', 'alert'), ('test', 'test')], default='alert', max_length=5)),
                ('status', models.CharField(choices=[('pending', 'pending'), ('sending', 'sending'), ('delivered', 'delivered'), ('dead', 'dead')], default='pending', max_length=9)),
                ('subject', models.CharField(max_length=255)),
                ('text', models.TextField()),
                ('attempts', models.PositiveIntegerField(default=0)),
                ('next_attempt_at', models.DateTimeField()),
                ('lease_until', models.DateTimeField(null=True)),
                ('hurried_at', models.DateTimeField()),
                ('delivered_at', models.DateTimeField(null=True)),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='messages', to='notify.channel')),
            ],
            options={
                'ordering': ['-created_at'],
            },
        ),
        migrations.CreateModel(
            name='Attempt',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('number', models.PositiveIntegerField()),
                ('started_at', models.DateTimeField()),
                ('finished_at', models.DateTimeField(null=True)),
                ('outcome', models.CharField(blank=True, choices=[('delivered', 'delivered'), ('failed', 'failed, to be tried again'), ('rejected', 'rejected for good')], max_length=9)),
                ('reason', models.CharField(blank=True, max_length=64)),
                ('detail', models.CharField(blank=True, max_length=2048)),
                ('message', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='tries', to='notify.message')),
            ],
            options={
                'ordering': ['message', 'number'],
            },
        ),
        migrations.CreateModel(
            name='Owed',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('created_at', models.DateTimeField(auto_now_add=True)),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='owed', to='notify.channel')),
                ('event', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='owed', to='alerts.alertevent')),
                ('message', models.ForeignKey(null=True, on_delete=django.db.models.deletion.CASCADE, related_name='members', to='notify.message')),
            ],
            options={
                'ordering': ['id'],
            },
        ),
        migrations.CreateModel(
            name='RuleChannel',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('channel', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rule_channels', to='notify.channel')),
                ('rule', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rule_channels', to='rules.rule')),
            ],
        ),
        migrations.AddConstraint(
            model_name='channel',
            constraint=models.UniqueConstraint(fields=('owner', 'name'), name='one_channel_per_owner_and_name'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('status__in', ['delivered', 'dead']), _negated=True), fields=['next_attempt_at'], name='message_due'),
        ),
        migrations.AddConstraint(
            model_name='attempt',
            constraint=models.UniqueConstraint(fields=('message', 'number'), name='one_attempt_per_message_and_number'),
        ),
        migrations.AddIndex(
            model_name='owed',
            index=models.Index(condition=models.Q(('message', None)), fields=['id'], name='owed_unplanned'),
        ),
        migrations.AddConstraint(
            model_name='owed',
            constraint=models.UniqueConstraint(fields=('event', 'channel'), name='one_debt_per_event_and_channel'),
        ),
        migrations.AddConstraint(
            model_name='rulechannel',
            constraint=models.UniqueConstraint(fields=('rule', 'channel'), name='one_link_per_rule_and_channel'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(fields=['-created_at'], name='message_newest_first'),
        ),
    ]
