"""What the admin shows has a name that can be translated."""

from collections.abc import Iterator
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.utils import flatten, flatten_fieldsets
from django.core.exceptions import FieldDoesNotExist
from django.test import RequestFactory

from config.labels import APPS, COLUMNS, TABLES

OURS = {"core", "membership", "coupons", "points", "referrals", "analytics", "storefront"}


def pages() -> Iterator[Any]:
    """Yield every page of a table, and every table within a page."""
    request = RequestFactory().get("/")
    for model, page in admin.site._registry.items():
        if model._meta.app_label in OURS:
            yield page
            yield from (inline(model, admin.site) for inline in page.get_inlines(request, None))


def shown(page: Any) -> set[str]:
    """Return the names of the columns that a page shows, lists, or filters by."""
    names = {*flatten(page.fields or ()), *flatten(page.readonly_fields or ()), *getattr(page, "list_display", ())}
    names |= set(flatten_fieldsets(page.fieldsets)) if page.fieldsets else set()
    if not page.fields and not page.fieldsets:
        names |= {field.name for field in page.model._meta.fields if field.editable}
    filters = (one[0] if isinstance(one, tuple) else one for one in getattr(page, "list_filter", ()))
    return {name for name in (*names, *filters) if isinstance(name, str)}


def is_column(model: Any, name: str) -> bool:
    try:
        model._meta.get_field(name)
    except FieldDoesNotExist:
        return False
    return True


def test_every_table_of_the_admin_has_a_name() -> None:
    assert sorted({page.model._meta.label for page in pages()} - set(TABLES)) == []
    assert {page.model._meta.app_label for page in pages()} - set(APPS) == set()
    assert [table for table in TABLES if apps.get_model(table) is None] == []


def test_every_column_of_the_admin_has_a_name() -> None:
    missing = {
        f"{page.model._meta.label}.{name}"
        for page in pages()
        for name in shown(page)
        if name not in COLUMNS and is_column(page.model, name)
    }
    assert sorted(missing) == []
