"""What holds for every model: foreign keys point down, per-member tables name the member, triggers are there."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models

from core.models import Program, Version
from membership.models import Member

# From the bottom: a foreign key points to its own layer or to one before it.
LAYERS = ["core", "membership", "coupons", "points", "referrals", "analytics", "storefront"]
# Django's own tables stand below all of ours.
BELOW = {"auth", "contenttypes"}

# Tables of members' rows whose unique constraints name no member, each with the reason.
GLOBAL_KEYS = {
    "member_external_id": "the directory of members itself",
    "referralcode_key": "the directory of referral codes: unique in the program whoever the member is",
    "personclaim_once": "the directory of who has had a coupon that a person has once: unique whoever the member is",
    "orderkey_external_id": "the directory of orders: unique in the program whoever the member is",
}

APPEND_ONLY = {
    "analytics_restatement",
    "core_auditentry",
    "membership_factcorrection",
    "membership_orderedit",
    "membership_qualifyingcredit",
    "points_ledgertransaction",
    "points_ledgerentry",
    "points_lot",
    "points_lotallocation",
    "points_accrual",
    "points_accrualreturn",
    "points_accrualcorrection",
}


def _models() -> list[type[models.Model]]:
    return [model for label in LAYERS for model in apps.get_app_config(label).get_models()]


def _foreign_keys() -> Iterator[tuple[type[models.Model], models.ForeignKey[Any, Any]]]:
    for model in _models():
        for field in model._meta.get_fields():
            if isinstance(field, models.ForeignKey | models.OneToOneField):
                yield model, field


def _per_member() -> list[type[models.Model]]:
    return [model for model, field in _foreign_keys() if field.related_model is Member]


def test_foreign_keys_point_down_only() -> None:
    wrong = []
    for model, field in _foreign_keys():
        app, target = model._meta.app_label, field.related_model._meta.app_label
        if target not in BELOW and LAYERS.index(target) > LAYERS.index(app):
            wrong.append(f"{model.__name__}.{field.name} -> {target}")
    assert wrong == []


def test_foreign_keys_between_apps_leave_no_name_on_the_lower_one() -> None:
    wrong = [
        f"{model.__name__}.{field.name}: {field.remote_field.related_name}"
        for model, field in _foreign_keys()
        if field.related_model._meta.app_label != model._meta.app_label and field.remote_field.related_name != "+"
    ]
    assert wrong == []


def test_there_are_no_many_to_many_fields() -> None:
    """Their tables would carry no member_id and no history."""
    assert [model for model in _models() if model._meta.local_many_to_many] == []


def test_unique_constraints_of_per_member_tables_name_the_member() -> None:
    wrong = []
    for model in _per_member():
        uniques = [c for c in model._meta.constraints if isinstance(c, models.UniqueConstraint)]
        wrong += [c.name for c in uniques if "member" not in c.fields and c.name not in GLOBAL_KEYS]
        wrong += [f"{model.__name__}.{f.name}" for f in model._meta.local_fields if f.unique and not f.primary_key]
    assert wrong == []


def test_rows_that_hang_on_a_members_rows_carry_the_member() -> None:
    """Whatever refers to a per-member table is one itself, so that both sides of a join can name the member."""
    per_member = set(_per_member())
    wrong = [
        f"{model.__name__}.{field.name}"
        for model, field in _foreign_keys()
        if field.related_model in per_member and model not in per_member
    ]
    assert wrong == []


def test_nothing_is_deleted_along_with_what_it_refers_to() -> None:
    """PROTECT everywhere, but for the rows that are parts of a job's own row."""
    parts = {
        "OutboxReceipt.event", "EvaluationChunk.evaluation", "WebhookDelivery.event", "WebhookAttempt.delivery",
        "DayCloseStep.close",
    }  # fmt: skip
    wrong = [
        f"{model.__name__}.{field.name}"
        for model, field in _foreign_keys()
        if field.remote_field.on_delete is not models.PROTECT and f"{model.__name__}.{field.name}" not in parts
    ]
    assert wrong == []


def _triggers() -> dict[str, list[tuple[str, int]]]:
    """Return the function and the type bits of each table's triggers, as the database has them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tgrelid::regclass::text, proname, tgtype FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid"
            " WHERE NOT tgisinternal AND tgenabled = 'O'"
        )
        found: dict[str, list[tuple[str, int]]] = {}
        for table, function, kind in cursor.fetchall():
            found.setdefault(table, []).append((function, kind))
    return found


# Bits of pg_trigger.tgtype.
BEFORE, DELETE, UPDATE, TRUNCATE = 2, 8, 16, 32


def _guarded_against(triggers: list[tuple[str, int]], function: str) -> int:
    """Return the union of the operations before which the function runs."""
    bits = 0
    for name, kind in triggers:
        if name == function and kind & BEFORE:
            bits |= kind & (DELETE | UPDATE | TRUNCATE)
    return bits


@pytest.mark.parametrize("table", sorted(APPEND_ONLY))
def test_append_only_tables_refuse_every_change(db: None, table: str) -> None:
    assert _guarded_against(_triggers().get(table, []), "core_refuse_change") == DELETE | UPDATE | TRUNCATE


@pytest.mark.parametrize("model", [m for m in _models() if issubclass(m, Version)], ids=lambda m: m.__name__)
def test_versions_are_guarded(db: None, model: type[models.Model]) -> None:
    guarded = _guarded_against(_triggers().get(model._meta.db_table, []), "core_guard_version")
    assert guarded & (DELETE | UPDATE) == DELETE | UPDATE


def test_tier_periods_and_programs_are_guarded(db: None) -> None:
    triggers = _triggers()
    assert any(kind & (DELETE | UPDATE) for _name, kind in triggers.get("membership_tierperiod", []))
    assert _guarded_against(triggers.get(Program._meta.db_table, []), "core_guard_program") == UPDATE


def test_every_model_of_an_append_only_kind_is_listed() -> None:
    """A new ledger table cannot be forgotten: whoever says `Append-only` is in the list above."""
    from points.models import LedgerRow  # noqa: PLC0415 only this test needs it

    said = {m._meta.db_table for m in _models() if "append-only" in (m.__doc__ or "").lower()}
    ledger = {m._meta.db_table for m in _models() if issubclass(m, LedgerRow)}
    assert said | ledger <= APPEND_ONLY
