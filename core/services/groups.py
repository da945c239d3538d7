"""The groups of operators: who may do what. The table of docs/operations.md in code."""

from collections.abc import Mapping

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils.translation import gettext_noop

APPS = ("core", "membership", "coupons", "points", "referrals", "analytics", "storefront")
# Everybody sees everything of members and programs; these tables are for those who run the installation.
GUARDED = (
    *("apikey", "auditentry", "idempotencyrecord", "outboxevent", "outboxreceipt"),
    *("webhookattempt", "webhookdelivery", "webhookendpoint"),
)
_RECORDS = tuple(f"core.view_{name}" for name in GUARDED if name not in ("apikey", "idempotencyrecord"))

# Beside what everybody may see, as `app.codename`. Administrators have every permission there is.
EXTRA: Mapping[str, tuple[str, ...]] = {
    gettext_noop("support"): (
        *("membership.suspend_member", "coupons.add_claim", "coupons.change_claim"),
        "points.give_goodwill",
    ),
    gettext_noop("marketing"): (
        *("core.draft_version", "core.publish_version", "core.change_program"),
        *("coupons.add_claim", "coupons.change_claim", "coupons.add_codebatch"),
        *("core.add_market", "core.change_market", "core.delete_market", "membership.override_tier"),
        *("referrals.review_referral", "referrals.add_vanity_code"),
    ),
    gettext_noop("finance"): ("points.adjust_points", "points.approve_adjustment", "core.view_auditentry"),
    gettext_noop("read-only"): _RECORDS,
}
ADMINISTRATOR = gettext_noop("administrator")


@transaction.atomic
def make_groups() -> list[Group]:
    """Make the groups and give each exactly its permissions; other groups stay as they are.

    Raises: Permission.DoesNotExist if a permission is missing: migrate first.
    Idempotency: making them again changes nothing.
    """
    groups = [_make_group(name, _seen_by_all() | _named(extra)) for name, extra in EXTRA.items()]
    return [*groups, _make_group(ADMINISTRATOR, Permission.objects.filter(_OWN | Q(content_type__app_label="auth")))]


_OWN = Q(content_type__app_label__in=APPS)


def _seen_by_all() -> QuerySet[Permission]:
    views = Permission.objects.filter(_OWN, codename__startswith="view_")
    return views.exclude(content_type__app_label="core", content_type__model__in=GUARDED)


def _named(names: tuple[str, ...]) -> QuerySet[Permission]:
    """Return permissions by their names, all of them."""
    wanted = Q(pk__in=[])
    for name in names:
        app, codename = name.split(".")
        wanted |= Q(content_type__app_label=app, codename=codename)
    found = Permission.objects.filter(wanted)
    if found.count() != len(names):
        raise Permission.DoesNotExist(f"not all of {', '.join(names)} exist")
    return found


def _make_group(name: str, permissions: QuerySet[Permission]) -> Group:
    group, _ = Group.objects.get_or_create(name=name)
    group.permissions.set(permissions)
    return group
