"""The ground of the operators' admin. What follows from facts is read-only: services write it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.checks import ModelAdminChecks
from django.contrib.admin.utils import unquote
from django.core.exceptions import ValidationError
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.forms import PaginationInlineFormSet
from unfold.paginator import InfinitePaginator

from core.admin.history import HistoryMixin

ROWS_PER_PAGE = 50


def never(*_args: Any, **_kwargs: Any) -> bool:
    """Refuse, whoever asks."""
    return False


def link(row: Model, text: object) -> SafeString:
    """Return a link to a row's page."""
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', url, text)


class ReadOnlyMixin:
    """Nothing is added, changed or deleted: the fields are shown as text."""

    fields: tuple[str, ...]
    has_add_permission = has_change_permission = has_delete_permission = never

    def get_readonly_fields(self, _request: HttpRequest, _obj: Model | None = None) -> tuple[str, ...]:
        """Leave nothing to a form."""
        return self.fields


class ListAdmin(HistoryMixin, ModelAdmin):  # type: ignore[misc]
    """A page of a table that may hold millions of rows: never counted, never sorted by what has no index."""

    list_per_page = ROWS_PER_PAGE
    show_full_result_count = False
    paginator = InfinitePaginator
    sortable_by: Sequence[str] = ()
    actions = None
    # The theme's own checks look permissions of buttons up in the database, which does not exist before it is migrated.
    checks_class = ModelAdminChecks

    def get_formset_kwargs(self, request: HttpRequest, obj: Model, inline: Any, prefix: str) -> dict[str, Any]:
        """Let an inline choose its rows by the object they belong to: see RowsInline."""
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        if isinstance(inline, RowsInline):
            kwargs["queryset"] = inline.get_rows(obj)
        return kwargs

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Find nothing at an address whose key is none, before anything asks for rows of that key."""
        try:
            self.model._meta.pk.to_python(unquote(object_id or "0"))
        except ValidationError as error:
            raise Http404 from error
        return super().changeform_view(request, object_id, *args, **kwargs)

    def get_search_results(
        self, _request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by one condition instead of words in any column, and only where a box is offered."""
        term = search_term.strip()
        is_sought = term and self.search_fields
        return (queryset.filter(self.search_condition(term)) if is_sought else queryset), False

    def search_condition(self, term: str) -> Q:
        """Return what a row must satisfy to be found. Every page with `search_fields` says it."""
        raise NotImplementedError


class ReadOnlyAdmin(ReadOnlyMixin, ListAdmin):
    """A page of what only services write."""


class StateColumn:
    """Shows `state`, a key of a color and a word, as that word where a page has no colors."""

    @admin.display(description=_("State"))
    def shown_state(self, row: Any) -> str:
        """Return the word."""
        word: str = self.state(row)[1]  # type: ignore[attr-defined]
        return word


class RowsFormSet(PaginationInlineFormSet):  # type: ignore[misc]
    """Rows named after their model: many relations have no name on this side."""

    @classmethod
    def get_default_prefix(cls) -> str:
        return str(cls.model._meta.model_name)


class ReadOnlyInline(ReadOnlyMixin, TabularInline):  # type: ignore[misc]
    """A table of what belongs to the object shown, in pages."""

    formset = RowsFormSet
    extra = 0
    can_delete = False
    per_page = ROWS_PER_PAGE
    hide_title = True
    tab = True
    # Relations that the columns read.
    related: Sequence[str] = ()

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.select_related(*self.related) if self.related else queryset


class RowsInline(ReadOnlyInline):
    """A table whose rows are found by more than the column that names the object, such as a range of ids."""

    def get_rows(self, obj: Any) -> QuerySet[Any]:
        """Return the rows that belong to the object."""
        raise NotImplementedError
