"""Who may do what: every address of the admin, opened by every group. What is not granted here is refused."""

from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Group, Permission, User
from django.core.management import call_command
from django.db.models import Model
from django.test import Client
from django.urls import URLPattern, reverse

from core.admin import ListAdmin
from core.services import groups
from tests.storefront.admin_rows import add_rows

ALL = {"support", "marketing", "finance", "read-only", "administrator"}
ADMINISTRATOR = {"administrator"}
RECORDS = {"read-only", "administrator"}
# Who sees a table's list and pages.
SEEN: dict[str, set[str]] = {
    "membership_member": ALL,
    "membership_order": ALL,
    "membership_refund": ALL,
    "membership_activity": ALL,
    "membership_tierperiod": ALL,
    "membership_ladder": ALL,
    "membership_evaluation": ALL,
    "coupons_coupondefinition": ALL,
    "coupons_codebatch": ALL,
    "coupons_couponcode": ALL,
    "coupons_claim": ALL,
    "coupons_redemption": ALL,
    "points_ledgertransaction": ALL,
    "points_adjustmentrequest": ALL,
    "referrals_referral": ALL,
    "referrals_referralcode": ALL,
    "referrals_referralpolicy": ALL,
    "points_wallet": ALL,
    "points_earnrule": ALL,
    "core_program": ALL,
    "core_event": ALL,
    "storefront_checkout": ALL,
    "analytics_retentionstate": ALL,
    "storefront_dayclose": ALL,
    "core_auditentry": RECORDS | {"finance"},
    "core_outboxevent": RECORDS,
    "core_webhookendpoint": RECORDS,
    "core_webhookdelivery": RECORDS,
    "core_apikey": ADMINISTRATOR,
    "auth_user": ADMINISTRATOR,
    "auth_group": ADMINISTRATOR,
}
VERSIONS = {"marketing", "administrator"}
GIVERS = {"support", "marketing", "administrator"}
OWNERS = (
    "membership_ladder",
    "coupons_coupondefinition",
    "points_wallet",
    "points_earnrule",
    "referrals_referralpolicy",
)
# Who may open what does something.
DONE: dict[str, set[str]] = {
    **{f"{owner}_{button}": VERSIONS for owner in OWNERS for button in ("new_draft", "edit_draft", "publish_draft")},
    "coupons_coupondefinition_claims": ALL,
    "coupons_coupondefinition_new_coupon": VERSIONS,
    "coupons_coupondefinition_end_coupon": VERSIONS,
    "coupons_coupondefinition_recall_coupon": VERSIONS,
    "coupons_coupondefinition_issue": GIVERS,
    "coupons_coupondefinition_request_codes": VERSIONS,
    "coupons_coupondefinition_create_code": VERSIONS,
    "coupons_codebatch_download": VERSIONS,
    "coupons_codebatch_stop": VERSIONS,
    "coupons_couponcode_disable": VERSIONS,
    "coupons_claim_revoke": GIVERS,
    "points_earnrule_new_rule": VERSIONS,
    "points_earnrule_end_rule": VERSIONS,
    "referrals_referralpolicy_new_policy": VERSIONS,
    "referrals_referralcode_new_vanity_code": VERSIONS,
    "referrals_referral_approve": VERSIONS,
    "referrals_referral_reject": VERSIONS,
    "referrals_referral_reopen": VERSIONS,
    "referrals_referral_settle_again": VERSIONS,
    "referrals_referral_tree": ALL,
    "referrals_referral_k_factor": ALL,
    "membership_member_suspend": {"support", "administrator"},
    "membership_member_reactivate": {"support", "administrator"},
    "membership_member_override_tier": VERSIONS,
    "membership_member_lift_override": VERSIONS,
    "membership_member_adjust_points": {"finance", "administrator"},
    "membership_member_give_goodwill": {"support", "administrator"},
    "points_ledgertransaction_reverse": {"finance", "administrator"},
    "points_adjustmentrequest_approve": {"finance", "administrator"},
    "points_adjustmentrequest_reject": {"finance", "administrator"},
    "core_apikey_issue": ADMINISTRATOR,
    "core_apikey_rotate": ADMINISTRATOR,
    "core_apikey_revoke": ADMINISTRATOR,
    "core_outboxevent_retry_all": ADMINISTRATOR,
    "core_outboxevent_retry_now": ADMINISTRATOR,
    "core_webhookendpoint_create": ADMINISTRATOR,
    "core_webhookendpoint_deliveries": RECORDS,
    "core_webhookendpoint_edit": ADMINISTRATOR,
    "core_webhookendpoint_test": ADMINISTRATOR,
    "core_webhookendpoint_rotate": ADMINISTRATOR,
    "core_webhookendpoint_disable": ADMINISTRATOR,
    "core_webhookendpoint_enable": ADMINISTRATOR,
    "core_webhookdelivery_replay": ADMINISTRATOR,
    "storefront_dayclose_close_now": ADMINISTRATOR,
    "auth_user_add": ADMINISTRATOR,
    "auth_user_delete": ADMINISTRATOR,
    "auth_user_password_change": ADMINISTRATOR,
    "auth_user_end_two_step": ADMINISTRATOR,
    "auth_group_add": ADMINISTRATOR,
    "auth_group_delete": ADMINISTRATOR,
}
# Whose rows have a form; all others are read-only.
CHANGED = {"core_program_change": VERSIONS, "auth_user_change": ADMINISTRATOR, "auth_group_change": ADMINISTRATOR}


def expected(name: str) -> set[str]:
    """Who may open an address: nobody, unless it is granted above."""
    table, _, page = name.rpartition("_")
    return DONE.get(name) or (SEEN.get(table, set()) if page in ("changelist", "change", "history") else set())


def writers(name: str) -> set[str]:
    """Who may send a form to an address: whoever may open it, except that few rows have a form."""
    is_form = name.endswith("_change") and name not in DONE
    return CHANGED.get(name, set()) if is_form else expected(name)


def admin_addresses() -> Iterator[tuple[type[Model], str, str]]:
    """Every address of the registered tables, each with its model and name, filled in with the last row's key."""
    for model, page in admin.site._registry.items():
        row = model._default_manager.order_by("pk").last()
        assert row is not None, f"there is no {model.__name__} to look at"
        for pattern in page.get_urls():
            assert isinstance(pattern, URLPattern)
            if pattern.name:
                keys = list(pattern.pattern.converters) or list(getattr(pattern.pattern.regex, "groupindex", ()))
                yield model, pattern.name, reverse(f"admin:{pattern.name}", args=[row.pk] * len(keys))


def content() -> dict[str, list[dict[str, Any]]]:
    models = [model for model in apps.get_models() if model._meta.app_label in (*groups.APPS, "auth")]
    rows = {model.__name__: list(model._default_manager.order_by("pk").values()) for model in models}
    for user in rows["User"]:
        user["last_login"] = None
    return rows


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def operators(db: None, tmp_path: Path) -> dict[str, Client]:
    add_rows(tmp_path, range(2))
    clients = {"": Client(raise_request_exception=False)}
    for group in groups.make_groups():
        clients[group.name] = Client(raise_request_exception=False)
    for name, client in clients.items():
        user = User.objects.create_user(f"in {name}", is_staff=True)
        user.groups.set(Group.objects.filter(name=name))
        client.force_login(user)
    return clients


def test_every_address_is_open_to_whom_the_table_says(operators: dict[str, Client]) -> None:
    wrong = []
    for _model, name, url in admin_addresses():
        for group, client in operators.items():
            status = client.get(url).status_code
            is_right = status in (200, 302) if group in expected(name) else status == 403
            if not is_right:
                wrong.append((name, group or "no group", status))
    assert wrong == []


def test_what_is_refused_changes_nothing(operators: dict[str, Client]) -> None:
    before = content()
    for _model, name, url in admin_addresses():
        for group, client in operators.items():
            if group not in writers(name):
                status = client.post(url, {"do": "save", "reason": "because", "confirmed": "1"}).status_code
                assert status == 403, (name, group, status)
    assert content() == before


def test_the_table_names_addresses_that_exist(operators: dict[str, Client]) -> None:
    names = {name for _, name, _ in admin_addresses()}
    assert set(DONE) <= names
    assert set(SEEN) == {name.removesuffix("_changelist") for name in names if name.endswith("_changelist")}


def test_making_the_groups_again_changes_nothing(db: None) -> None:
    def granted() -> dict[str, set[int]]:
        return {group.name: set(group.permissions.values_list("pk", flat=True)) for group in Group.objects.all()}

    groups.make_groups()
    before = granted()
    assert set(before) == ALL
    Group.objects.get(name="support").permissions.add(Permission.objects.get(codename="adjust_points"))
    Group.objects.create(name="ours")
    out = StringIO()
    call_command("groups", stdout=out)
    assert granted() == before | {"ours": set()}
    assert f"administrator: {len(before['administrator'])} permissions" in out.getvalue()


def test_buttons_name_permissions_that_exist(db: None) -> None:
    """The theme would look them up before every command; see ListAdmin.checks_class."""
    known = {f"{app}.{name}" for app, name in Permission.objects.values_list("content_type__app_label", "codename")}
    for page in admin.site._registry.values():
        if isinstance(page, ListAdmin):
            for button in (*page._get_base_actions_list(), *page._get_base_actions_detail()):
                for permission in button.method.allowed_permissions:
                    assert permission in known or hasattr(page, f"has_{permission}_permission"), button.action_name


def test_the_sidebar_shows_what_the_operator_may_open(operators: dict[str, Client]) -> None:
    for group, client in operators.items():
        sidebar = client.get(reverse("admin:index")).context["sidebar_navigation"]
        allowed = [item for part in sidebar for item in part["items"] if item["has_permission"]]
        links = {str(item["link"]).partition("?")[0] for item in allowed}
        seen = {reverse(f"admin:{table}_changelist") for table, seen_by in SEEN.items() if group in seen_by}
        assert links == seen | {reverse("admin:index")}, group
