"""Versions of definitions on the pages of what they define."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.db.models import Model, Prefetch, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _
from unfold.admin import StackedInline

from core.admin.ground import (
    ROWS_PER_PAGE,
    ReadOnlyInline,
    ReadOnlyMixin,
    RowsFormSet,
    link,
)
from core.models import VersionStatus
from core.sections import Kind
from core.services import drafts


class VersionInline(ReadOnlyMixin, StackedInline):  # type: ignore[misc]
    """The versions of a definition, the latest first."""

    formset = RowsFormSet
    kind: Kind
    extra = 0
    can_delete = False
    per_page = ROWS_PER_PAGE
    fields = ("number", "status", "effective_at", "published_at", "shown_definition")
    ordering = ("-number",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.select_related("owner__program")

    @admin.display(description=_("Definition"))
    def shown_definition(self, version: Any) -> SafeString:
        """Show it as a program file says it."""
        text = drafts.as_text(self.kind, version.owner, version.definition)
        return format_html('<pre class="definition wraps">{}</pre>', text)


class VersionedInline(ReadOnlyInline):
    """What a program has that is versioned, each with the version published last."""

    tab = False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        queryset: QuerySet[Any] = super().get_queryset(request)
        return queryset.prefetch_related(published_versions(self.model))

    @admin.display(description=_("Code"))
    def shown_code(self, owner: Any) -> SafeString:
        return link(owner, owner.code)

    @admin.display(description=_("Version"))
    def published_version(self, owner: Any) -> str:
        return f"v{owner.published[-1].number}" if owner.published else "-"


def published_versions(owner: type[Model]) -> Prefetch[Any]:
    """Fetch the versions of an owner's rows that are no drafts into `published`, oldest first."""
    versions: Any = owner._meta.get_field("versions").related_model
    published = versions.objects.exclude(status=VersionStatus.DRAFT).order_by("number")
    return Prefetch("versions", published, to_attr="published")
