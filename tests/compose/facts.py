"""Run inside the container `web`, by `manage.py shell`: prints as JSON what is on record."""

import json

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import FeedEntry, Quote
from apps.notify.models import Message, Notification

alerts = Alert.objects.filter(asset__feed__name="recording")
messages = Message.objects.filter(channel__name="Receiver")
entries = FeedEntry.objects.filter(feed__name="recording")
quotes = Quote.objects.filter(asset__feed__name="recording").values_list("asset__symbol", "at", "price")
notifications = Notification.objects.filter(channel__name="Receiver")
facts = {
    "quotes": sorted((symbol, f"{at:%Y-%m-%dT%H:%M:%SZ}", f"{price:f}") for symbol, at, price in quotes),
    "alerts": sorted(alerts.values_list("rule__name", "asset__symbol", "opened_at", "resolved_at"), key=str),
    "events": sorted(AlertEvent.objects.filter(alert__in=alerts).values_list("alert_id", "kind")),
    "notified": sorted(notifications.values_list("event__alert_id", "event__kind")),
    "delivered": sorted(str(pk) for pk in messages.filter(status="delivered").values_list("pk", flat=True)),
    "not_delivered": messages.exclude(status="delivered").count(),
    "not_evaluated": entries.filter(evaluated_at=None).count(),
    "last_fetched_at": entries.filter(accepted__gt=0).order_by("seq").values_list("received_at", flat=True).last(),
}
print(json.dumps(facts, default=str))
