"""What is measured while it happens. What the database knows is read when someone asks: storefront/metrics.py."""

from prometheus_client import Counter, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

POSTING_SECONDS = Histogram("perennial_posting_seconds", "Time of one call of the posting function", buckets=_SECONDS)
REQUEST_SECONDS = Histogram(
    "perennial_request_seconds",
    "Time of one request by its route; not of those that matched none",
    ["method", "route", "status"],
    buckets=_SECONDS,
)
TASK_SECONDS = Histogram(
    "perennial_task_seconds", "Time of one task of the worker", ["task", "outcome"], buckets=(*_SECONDS, 60, 600)
)
WRONG_CODES = Counter("perennial_wrong_codes", "Coupon codes that were tried and are none", ["program"])
