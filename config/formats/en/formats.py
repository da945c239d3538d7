"""How the admin writes instants and days: sortable, to the second, with the zone (UTC)."""

DATETIME_FORMAT = r"Y-m-d H:i:s\Z"
SHORT_DATETIME_FORMAT = r"Y-m-d H:i:s\Z"
DATE_FORMAT = "Y-m-d"
SHORT_DATE_FORMAT = "Y-m-d"
TIME_FORMAT = "H:i:s"
