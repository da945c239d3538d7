"""How the admin writes instants in Chinese: as in English, with the zone (UTC). Days are Django's: 2026年3月1日."""

DATETIME_FORMAT = r"Y-m-d H:i:s\Z"
SHORT_DATETIME_FORMAT = r"Y-m-d H:i:s\Z"
