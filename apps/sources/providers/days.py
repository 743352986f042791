"""The time of a price of which a provider names only the day. Pure."""

from datetime import UTC, date, datetime, time, timedelta, tzinfo

from apps.market import calendars


def end_of_day(day: date, *, zone: tzinfo, calendar: str = "") -> datetime:
    """Return when the price of a day stood: at the close of the day's session, or where the asset has no calendar, or
    the calendar no session on that day, at midnight in the zone. Raises OverflowError for the last day there is."""
    if calendar in calendars.CALENDARS:
        # Every exchange closes on the day of its session in UTC too, midnight at the latest. (Not so half days in New
        # Zealand, which end 15 minutes before the day in UTC begins: they get midnight in the zone.)
        begin = datetime.combine(day, time(), UTC)
        close = calendars.previous_close(calendar, begin + timedelta(days=1))
        if close is not None and close > begin:
            return close
    return datetime.combine(day + timedelta(days=1), time(), zone).astimezone(UTC)
