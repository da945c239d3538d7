"""The ground of the operators' admin, and its pages for programs, the outbox, the audit trail and operators.

What follows from facts is read-only here: services write it, and the database refuses the rest.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, User
from django.contrib.postgres.fields import ArrayField
from django.db.models import Model, Prefetch, Q, QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.admin import ModelAdmin, StackedInline, TabularInline
from unfold.forms import AdminPasswordChangeForm, PaginationInlineFormSet, UserChangeForm, UserCreationForm
from unfold.paginator import InfinitePaginator
from unfold.widgets import UnfoldAdminTextInputWidget

from core.models import AuditEntry, Market, OutboxEvent, OutboxReceipt, Program, Version, VersionStatus
from core.services import audit

ROWS_PER_PAGE = 50


def pretty(value: Any) -> SafeString | str:
    """Return JSON as indented text."""
    if value is None:
        return "-"
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="whitespace-pre-wrap text-xs">{}</pre>', text)


def _never(*_args: Any, **_kwargs: Any) -> bool:
    return False


def link(row: Model, text: object) -> SafeString:
    """Return a link to a row's page."""
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
    return format_html('<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>', url, text)


class ReadOnlyMixin:
    """Nothing is added, changed or deleted: the fields are shown as text."""

    fields: tuple[str, ...]
    has_add_permission = has_change_permission = has_delete_permission = _never

    def get_readonly_fields(self, _request: HttpRequest, _obj: Model | None = None) -> tuple[str, ...]:
        """Leave nothing to a form."""
        return self.fields


class ListAdmin(ModelAdmin):  # type: ignore[misc]
    """A page of a table that may hold millions of rows: never counted, never sorted by what has no index."""

    list_per_page = ROWS_PER_PAGE
    show_full_result_count = False
    paginator = InfinitePaginator
    sortable_by: Sequence[str] = ()
    actions = None

    def get_formset_kwargs(self, request: HttpRequest, obj: Model, inline: Any, prefix: str) -> dict[str, Any]:
        """Let an inline choose its rows by the object they belong to: see RowsInline."""
        kwargs: dict[str, Any] = super().get_formset_kwargs(request, obj, inline, prefix)
        if isinstance(inline, RowsInline):
            kwargs["queryset"] = inline.get_rows(obj)
        return kwargs

    def get_search_results(
        self, _request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by one condition that an index answers, instead of words in any column."""
        term = search_term.strip()
        return (queryset.filter(self.search_condition(term)) if term else queryset), False

    def search_condition(self, term: str) -> Q:
        """Return what a row must satisfy to be found."""
        raise NotImplementedError


class ReadOnlyAdmin(ReadOnlyMixin, ListAdmin):
    """A page of what only services write."""


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


class VersionInline(ReadOnlyMixin, StackedInline):  # type: ignore[misc]
    """The versions of a definition, the latest first."""

    formset = RowsFormSet
    extra = 0
    can_delete = False
    per_page = ROWS_PER_PAGE
    fields = ("number", "status", "effective_at", "published_at", "shown_definition")
    ordering = ("-number",)

    @admin.display(description="Definition")
    def shown_definition(self, version: Version) -> SafeString | str:
        return pretty(version.definition)


class VersionedInline(ReadOnlyInline):
    """What a program has that is versioned, each with the version published last."""

    tab = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.prefetch_related(published_versions(self.model))

    @admin.display(description="Code")
    def shown_code(self, owner: Any) -> SafeString:
        return link(owner, owner.code)

    @admin.display(description="Version")
    def published_version(self, owner: Any) -> str:
        return f"v{owner.published[-1].number}" if owner.published else "-"


def published_versions(owner: type[Model]) -> Prefetch[Any]:
    """Fetch the versions of an owner's rows that are no drafts into `published`, oldest first."""
    versions: Any = owner._meta.get_field("versions").related_model
    published = versions.objects.exclude(status=VersionStatus.DRAFT).order_by("number")
    return Prefetch("versions", published, to_attr="published")


class MarketInline(TabularInline):  # type: ignore[misc]
    model = Market
    extra = 0
    formfield_overrides = {ArrayField: {"widget": UnfoldAdminTextInputWidget}}


@admin.register(Program)
class ProgramAdmin(ListAdmin):
    """A program. Its name and markets are edited here; all else comes from its file. Upper apps add inlines."""

    list_display = ("code", "name", "currency", "time_zone", "opened_at")
    readonly_fields = ("code", "currency", "time_zone", "created_at", "opened_at")
    search_fields = ("code",)
    inlines = [MarketInline]
    has_add_permission = has_delete_permission = _never

    def search_condition(self, term: str) -> Q:
        return Q(code__startswith=term)

    def save_model(self, request: HttpRequest, obj: Program, form: Any, change: bool) -> None:
        form.before = _describe(Program.objects.get(pk=obj.pk))
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the markets, then write what changed to the audit trail, in the same transaction."""
        super().save_related(request, form, formsets, change)
        program = Program.objects.get(pk=form.instance.pk)
        after = _describe(program)
        if after != form.before:
            audit.record(
                action="program.edited",
                target=f"program:{program.code}",
                actor=request.user.get_username(),
                user=request.user if isinstance(request.user, User) else None,
                program=program,
                before=form.before,
                after=after,
                at=timezone.now(),
            )


def _describe(program: Program) -> dict[str, Any]:
    markets = program.markets.values("code", "currency", "time_zone", "locales", "countries")
    return {"name": program.name, "markets": list(markets)}


class ReceiptInline(ReadOnlyInline):
    model = OutboxReceipt
    fields = ("subscriber", "attempts", "next_attempt_at", "done_at", "last_error")
    tab = False


@admin.register(OutboxEvent)
class OutboxEventAdmin(ReadOnlyAdmin):
    list_display = ("id", "topic", "program", "recorded_at", "dispatched_at")
    list_select_related = ("program",)
    list_filter = (("dispatched_at", admin.EmptyFieldListFilter),)
    search_fields = ("topic",)
    search_help_text = "Topic, such as membership.facts_recorded"
    ordering = ("-id",)
    fields = ("id", "topic", "program", "recorded_at", "dispatched_at", "shown_payload")
    inlines = [ReceiptInline]

    def search_condition(self, term: str) -> Q:
        return Q(topic__startswith=term)

    @admin.display(description="Payload")
    def shown_payload(self, event: OutboxEvent) -> SafeString | str:
        return pretty(event.payload)


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin):
    list_display = ("recorded_at", "actor", "action", "target", "program", "reason")
    list_select_related = ("program",)
    search_fields = ("target",)
    search_help_text = "Exact target, such as program:aurora"
    fields = ("recorded_at", "actor", "user", "action", "target", "program", "reason", "shown_before", "shown_after")

    def search_condition(self, term: str) -> Q:
        return Q(target=term)

    @admin.display(description="Before")
    def shown_before(self, entry: AuditEntry) -> SafeString | str:
        return pretty(entry.before)

    @admin.display(description="After")
    def shown_after(self, entry: AuditEntry) -> SafeString | str:
        return pretty(entry.after)


admin.site.unregister(User)
admin.site.unregister(Group)


@admin.register(User)
class OperatorAdmin(UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm


@admin.register(Group)
class OperatorGroupAdmin(GroupAdmin, ModelAdmin):  # type: ignore[misc]
    pass
