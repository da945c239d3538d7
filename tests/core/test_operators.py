"""Operators manage operators: nobody makes himself or others more than he is, and the audit trail has it."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User
from django.test import Client
from django.urls import reverse
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.models import AuditEntry
from core.services import groups

FORM = {"username": "", "is_active": "on", "is_staff": "on", "date_joined_0": "2026-01-01", "date_joined_1": "00:00"}


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def people(db: None) -> dict[str, User]:
    made = {group.name: group for group in groups.make_groups()}
    found = {}
    for name in ("administrator", "support"):
        found[name] = User.objects.create_user(name, password="x", is_staff=True)
        found[name].groups.add(made[name])
    found["root"] = User.objects.create_superuser("root", password="x")
    return found


def client_of(user: User) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def change(client: Client, user: User, **fields: Any) -> int:
    url = reverse("admin:auth_user_change", args=[user.pk])
    return client.post(url, {**FORM, "username": user.username, **fields}).status_code


def test_an_administrator_makes_nobody_a_superuser(people: dict[str, User]) -> None:
    admin = people["administrator"]
    client = client_of(admin)
    assert (
        "is_superuser"
        not in client.get(reverse("admin:auth_user_change", args=[admin.pk])).context["adminform"].form.fields
    )
    assert change(client, admin, is_superuser="on", groups=[Group.objects.get(name="administrator").pk]) == 302
    assert change(client, people["support"], is_superuser="on") == 302
    assert list(User.objects.filter(is_superuser=True)) == [people["root"]]


def test_an_administrator_touches_no_superuser(people: dict[str, User]) -> None:
    client, root = client_of(people["administrator"]), people["root"]
    TOTPDevice.objects.create(user=root, name="x")
    for name in ("change", "delete", "password_change", "end_two_step"):
        url = reverse(f"admin:auth_user_{name}", args=[root.pk])
        data = {"post": "yes", "password1": "abc-def-123", "password2": "abc-def-123", "reason": "because", **FORM}
        assert client.post(url, data).status_code == 403, name
    root.refresh_from_db()
    assert root.check_password("x")
    assert TOTPDevice.objects.filter(user=root).exists()


def test_nobody_gives_rights_that_he_has_not(people: dict[str, User]) -> None:
    """An operator with the right to change operators, and little else."""
    clerk = User.objects.create_user("clerk", is_staff=True)
    names = ["view_user", "change_user", "view_group", "change_group", "add_group"]
    own = Permission.objects.filter(codename__in=names, content_type__app_label="auth")
    clerk.user_permissions.set(own)
    client, target = client_of(clerk), User.objects.create_user("target", is_staff=True)
    adjust, administrator = Permission.objects.get(codename="adjust_points"), Group.objects.get(name="administrator")
    assert change(client, target, user_permissions=[adjust.pk]) == 200
    assert change(client, target, groups=[administrator.pk]) == 200
    assert change(client, clerk, groups=[administrator.pk]) == 200
    assert change(client, people["administrator"]) == 403
    group_url = reverse("admin:auth_group_change", args=[administrator.pk])
    assert client.post(group_url, {"name": "mine", "permissions": []}).status_code == 403
    assert client.post(reverse("admin:auth_group_add"), {"name": "new", "permissions": [adjust.pk]}).status_code == 200
    assert not Group.objects.filter(name="new").exists()
    assert not target.user_permissions.exists()
    assert not target.groups.exists()
    assert not clerk.groups.exists()
    assert change(client, target, user_permissions=[own[0].pk]) == 302
    assert list(target.user_permissions.all()) == [own[0]]


def test_the_audit_trail_has_rights_groups_and_passwords(people: dict[str, User]) -> None:
    client, support = client_of(people["root"]), people["support"]
    finance = Group.objects.get(name="finance")
    change(client, support, groups=[finance.pk])
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.target, entry.actor) == ("operator.changed", "operator:support", "root")
    assert entry.before is not None
    assert entry.after is not None
    assert (entry.before["groups"], entry.after["groups"]) == (["support"], ["finance"])
    url = reverse("admin:auth_user_password_change", args=[support.pk])
    client.post(url, {"password1": "ivory-kettle-7", "password2": "ivory-kettle-7", "usable_password": "true"})
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.before, entry.after) == ("operator.password_changed", None, None)
    client.post(reverse("admin:auth_group_add"), {"name": "night", "permissions": [finance.permissions.all()[0].pk]})
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.target, entry.before) == ("group.made", "group:night", None)
    night = Group.objects.get(name="night")
    client.post(reverse("admin:auth_group_delete", args=[night.pk]), {"post": "yes"})
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.after) == ("group.deleted", None)
    assert not Group.objects.filter(name="night").exists()


def test_a_lost_device_is_switched_off_by_somebody_who_may(people: dict[str, User]) -> None:
    support = people["support"]
    TOTPDevice.objects.create(user=support, name="x", confirmed=True)
    client = client_of(people["administrator"])
    url = reverse("admin:auth_user_end_two_step", args=[support.pk])
    assert client.post(url, {"reason": ""}).status_code == 200
    assert client.post(url, {"reason": "Lost the phone, called back"}).status_code == 302
    assert not TOTPDevice.objects.filter(user=support).exists()
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.actor, entry.reason) == (
        "operator.two_step_off", "administrator", "Lost the phone, called back",
    )  # fmt: skip


def test_an_own_new_password_is_in_the_audit_trail(people: dict[str, User]) -> None:
    client, support = client_of(people["support"]), people["support"]
    data = {"old_password": "wrong", "new_password1": "ivory-kettle-7", "new_password2": "ivory-kettle-7"}
    assert client.post(reverse("admin:password_change"), data).status_code == 200
    assert not AuditEntry.objects.filter(action="operator.password_changed").exists()
    assert client.post(reverse("admin:password_change"), data | {"old_password": "x"}).status_code == 302
    support.refresh_from_db()
    assert support.check_password("ivory-kettle-7")
    assert AuditEntry.objects.latest("id").target == "operator:support"
