"""Who may manage which operators and groups, and what becomes of it in the audit trail.

An operator manages only those who may do no more than he himself: otherwise he could make himself more, by rights, by a
group, or by the password of somebody above him. Only superusers make superusers.
"""

from datetime import datetime
from typing import Any

from django.contrib.auth.models import Group, Permission, User
from django.db.models import Exists, OuterRef, Q, QuerySet

from core.services import audit


def grantable_permissions(actor: User) -> QuerySet[Permission]:
    """Return the permissions that an operator may give: those he has."""
    everything = Permission.objects.select_related("content_type")
    if actor.is_superuser:
        return everything
    return everything.filter(Q(user=actor) | Q(group__user=actor)).distinct()


def grantable_groups(actor: User) -> QuerySet[Group]:
    """Return the groups into which an operator may put somebody: those that may do no more than he."""
    above = Group.permissions.through.objects.filter(group_id=OuterRef("pk"))
    above = above.exclude(permission__in=grantable_permissions(actor).values("pk"))
    return Group.objects.filter(~Exists(above))


def may_manage(actor: User, user: User) -> bool:
    """Tell whether an operator may change, delete or give a new password to another one."""
    if actor.is_superuser:
        return True
    held = Permission.objects.filter(Q(user=user) | Q(group__user=user))
    return not user.is_superuser and not held.exclude(pk__in=grantable_permissions(actor).values("pk")).exists()


def may_manage_group(actor: User, group: Group) -> bool:
    """Tell whether an operator may change or delete a group."""
    return actor.is_superuser or grantable_groups(actor).filter(pk=group.pk).exists()


def describe(row: User | Group | None) -> dict[str, Any] | None:
    """Return what the audit trail keeps of an operator or a group: the rights, never the password."""
    if row is None or row.pk is None:
        return None
    if isinstance(row, Group):
        return {"name": row.name, "permissions": _names(row.permissions.all())}
    return {
        "username": row.username,
        "is_active": row.is_active,
        "is_staff": row.is_staff,
        "is_superuser": row.is_superuser,
        "groups": sorted(row.groups.values_list("name", flat=True)),
        "permissions": _names(row.user_permissions.all()),
    }


def record_change(
    *,
    actor: User,
    action: str,
    name: str,
    before: dict[str, Any] | None,
    after: dict[str, Any] | None,
    at: datetime,
) -> None:
    """Write a change of an operator or a group into the audit trail, in the transaction of the change.

    action: `operator.changed`, `group.changed`, and so on; its first part and the name are the target.
    """
    target = f"{action.partition('.')[0]}:{name}"
    audit.record(
        action=action, target=target, actor=actor.get_username(), user=actor, before=before, after=after, at=at
    )


def _names(permissions: QuerySet[Permission]) -> list[str]:
    return sorted(f"{app}.{code}" for app, code in permissions.values_list("content_type__app_label", "codename"))
