"""A program's page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.postgres.fields import ArrayField
from django.db.models import Q
from django.http import HttpRequest
from django.utils import timezone
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextInputWidget

from core.admin.ground import (
    ListAdmin,
    never,
)
from core.models import Market, Program
from core.services import audit


class MarketInline(TabularInline):  # type: ignore[misc]
    model = Market
    extra = 0
    formfield_overrides = {ArrayField: {"widget": UnfoldAdminTextInputWidget}}


@admin.register(Program)
class ProgramAdmin(ListAdmin):
    """A program. Its name and markets are edited here; all else comes from its file. Upper apps add inlines."""

    list_display = ("code", "name", "currency", "time_zone", "opened_at")
    readonly_fields = ("code", "currency", "time_zone", "start_date", "is_sandbox", "created_at", "opened_at")
    search_fields = ("code",)
    inlines = [MarketInline]
    has_add_permission = has_delete_permission = never

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
