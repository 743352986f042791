"""How dates and times are written in pages. Django's own English shows no seconds."""

DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
# T is the name of the reader's time zone.
DATETIME_FORMAT = "Y-m-d H:i:s T"
