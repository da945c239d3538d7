"""Which activities say that a member is active: a failed payment or a complaint is recorded, and is no engagement."""

from django.db.models import Q

NO_ENGAGEMENT = ("payment_failure", "service_issue")


def is_engagement(kind: str) -> bool:
    """Tell whether an activity of a kind makes its day an active one."""
    return kind not in NO_ENGAGEMENT


def engaging() -> Q:
    """Return the condition that an activity makes its day an active one."""
    return ~Q(kind__in=NO_ENGAGEMENT)
