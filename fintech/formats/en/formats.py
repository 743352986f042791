"""How dates and times are written in pages. Django's own English shows no seconds."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
# With what the zone of the reader is called.
DATETIME_FORMAT = "Y-m-d H:i:s T"
