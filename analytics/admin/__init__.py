"""The admin of analytics: the page Retention."""

from analytics.admin import retention  # noqa: F401 registers itself
