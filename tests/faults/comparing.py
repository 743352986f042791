"""Whatever was injected: what is on record, and what was received, compared with the recording and the oracle."""

from collections import Counter

from apps.alerts.models import Alert, AlertEvent
from apps.market.models import FeedEntry, Quote
from apps.notify.models import Message, Notification
from tests.faults.halves import halves_seen
from tests.faults.receiver import ReceivedRequest
from tests.faults.run import Row, Run


def compare(run: Run) -> None:
    """Compare what is on record, and what was received, with the recording and the oracle."""
    row = run.row
    _compare_record(run)
    taken = [one for one in run.receiver.requests if one.is_taken and one.channel != "trap"]
    events = set(AlertEvent.objects.values_list("alert_id", "kind"))
    for name, channel in run.channels.items():
        messages = Message.objects.filter(channel=channel)
        delivered = {str(pk) for pk in messages.filter(status="delivered").values_list("pk", flat=True)}
        if name == "inbox":
            pairs = Notification.objects.filter(message__in=delivered).values_list("event__alert_id", "event__kind")
            delivered_events = Counter(pairs)
        else:
            by_id = {one.message_id: one for one in taken if one.channel == name}
            row.want(set(by_id) == delivered, f"{name}: ids received are not those of the messages delivered")
            delivered_events = Counter(pair for one in by_id.values() for pair in one.events)
            requests = [one for one in run.receiver.requests if one.channel == name]
            bodies = {one.message_id: one.body for one in requests}
            row.want(all(one.body == bodies[one.message_id] for one in requests), f"{name}: one id, two texts")
            _compare_order(row, [one for one in taken if one.channel == name])
        row.dup_deliveries += sum(times - 1 for times in delivered_events.values())
        failed = messages.filter(status="failed")
        row.failed += failed.count()
        if name in run.refused:
            of_failed = Notification.objects.filter(message__in=failed)
            given_up = set(of_failed.values_list("event__alert_id", "event__kind"))
            notifications = set(
                Notification.objects.filter(channel=channel).values_list("event__alert_id", "event__kind")
            )
            row.want(
                set(delivered_events) | given_up == notifications and not set(delivered_events) & given_up,
                f"{name}: neither delivered nor given up",
            )
        else:
            row.deliveries_expected += len(events)
            row.delivered += len(events & set(delivered_events))
            row.lost += len(events - set(delivered_events))
            row.want(not set(delivered_events) - events, f"{name}: has events that are not on record")
            row.want(not failed.exists(), f"{name}: {failed.count()} given up")
    times = Counter(one.message_id for one in taken)
    row.repeats_same_id = sum(times.values()) - len(times)
    row.want(row.repeats_same_id <= row.allowed, f"{row.repeats_same_id} repeats, {row.allowed} allowed")
    row.want(row.lost == 0, f"{row.lost} lost")
    row.want(row.dup_deliveries == 0, f"{row.dup_deliveries} delivered in two messages")
    row.want(row.injected > 0, "nothing was injected")
    row.want(row.in_flight > run.size.in_flight, f"only {row.in_flight} under way")


def _compare_record(run: Run) -> None:
    row = run.row
    recording = {quote for one in run.recordings for quote in one.rows}
    stored = set(Quote.objects.values_list("asset__symbol", "at", "price"))
    row.quotes_in, row.stored = len(recording), len(stored & recording)
    row.want(
        stored == recording,
        f"quotes: {len(recording - stored)} missing, {len(stored - recording)} that are not the recording's",
    )
    expected = set().union(*(one.expected_alerts() for one in run.recordings))
    actual = list(Alert.objects.values_list("rule__name", "asset__symbol", "opened_at", "resolved_at"))
    row.alerts_expected, row.alerts = len(expected), len(set(actual) & expected)
    openings = Counter((rule, symbol, opened) for rule, symbol, opened, _ in actual)
    row.dup_alerts = sum(openings.values()) - len(openings)
    row.want(row.dup_alerts == 0, f"{row.dup_alerts} alerts twice")
    row.want(set(actual) == expected, f"alerts: missing {expected - set(actual)}, more {set(actual) - expected}")
    wanted = {(*one[:3], "opened") for one in expected} | {(*one[:3], "resolved") for one in expected if one[3]}
    kinds = AlertEvent.objects.values_list("alert__rule__name", "alert__asset__symbol", "alert__opened_at", "kind")
    row.want(Counter(kinds) == Counter(wanted), "events are not one for each step of each alert")
    notifications = Counter(Notification.objects.values_list("event", "channel"))
    row.want(all(times == 1 for times in notifications.values()), "a notification twice")
    for feed in run.feeds:
        numbers = list(FeedEntry.objects.filter(feed=feed).order_by("seq").values_list("seq", flat=True))
        row.want(numbers == list(range(1, len(numbers) + 1)), f"the log of {feed} has holes")
    halves = halves_seen()
    row.want(not halves, f"halves: {halves}")


def _compare_order(row: Row, taken: list[ReceivedRequest]) -> None:
    """Check that no receiver gets a resolution before its opening."""
    opened: set[int] = set()
    for one in taken:
        opened |= {alert for alert, event in one.events if event == "opened"}
        early = {alert for alert, event in one.events if event == "resolved"} - opened
        row.want(not early, f"{one.channel}: the end of {early} before its beginning")
