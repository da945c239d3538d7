"""A program's page."""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.forms.models import BaseInlineFormSet, ModelForm
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext
from pydantic import ValidationError as ValidationErrors
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextInputWidget

from core import versions
from core.admin.ground import (
    ListAdmin,
    never,
)
from core.models import Market, Program
from core.program_section import MarketEntry
from core.services import audit
from core.services.markets import MarketInUse, require_unused


class MarketForms(BaseInlineFormSet):  # type: ignore[type-arg]
    """Keeps markets that orders or definitions name: they would name nothing then."""

    def clean(self) -> None:
        """Refuse to remove or rename a market in use."""
        super().clean()
        for form in self.forms:
            is_renamed = form.instance.pk and "code" in form.changed_data
            if form.instance.pk and (is_renamed or form.cleaned_data.get("DELETE")):
                market = Market.objects.get(pk=form.instance.pk)
                try:
                    require_unused(market)
                except MarketInUse as error:
                    told = {"code": market.code, "by": gettext(error.by)}
                    text = gettext("Market %(code)s keeps its code and stays: %(by)s name it.")
                    raise ValidationError(text % told) from error


class MarketForm(ModelForm):  # type: ignore[type-arg]
    """A market as a program file may have it: one reader says what is wrong."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Name each field for those who do not see the column's head."""
        super().__init__(*args, **kwargs)
        for field in self.fields.values():
            field.widget.attrs["aria-label"] = str(field.label or "").capitalize()

    def clean(self) -> dict[str, Any]:
        """Refuse what a program file would not take, at its field."""
        told: dict[str, Any] = super().clean() or self.cleaned_data
        if not self.errors:
            try:
                MarketEntry.model_validate({name: told[name] for name in MarketEntry.model_fields})
            except ValidationErrors as error:
                for mistake in error.errors():
                    self.add_error(str(mistake["loc"][0]), mistake["msg"].removeprefix("Value error, "))
        return told


class MarketInline(TabularInline):  # type: ignore[misc]
    model = Market
    form = MarketForm
    formset = MarketForms
    extra = 0
    formfield_overrides = {ArrayField: {"widget": UnfoldAdminTextInputWidget}}


@admin.register(Program)
class ProgramAdmin(ListAdmin):
    """A program. Its name and markets are edited here; all else comes from its file. Upper apps add inlines."""

    list_display = ("code", "name", "currency", "time_zone", "opened_at")
    readonly_fields = (
        "code",
        "currency",
        "time_zone",
        "start_date",
        "channels",
        "is_sandbox",
        "corrections",
        "created_at",
        "opened_at",
    )
    search_fields = ("code",)
    inlines = [MarketInline]
    has_add_permission = has_delete_permission = never

    def search_condition(self, term: str) -> Q:
        return Q(code__istartswith=term)

    def audit_targets(self, row: Program) -> list[str]:
        codes = row.markets.values_list("code", flat=True)
        return [f"program:{row.code}", f"program {row.code}", *(f"market {code}" for code in codes)]

    def save_model(self, request: HttpRequest, obj: Program, form: Any, change: bool) -> None:
        form.before = _describe(Program.objects.get(pk=obj.pk))
        super().save_model(request, obj, form, change)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Save the markets, then write what changed to the audit trail, in the same transaction."""
        super().save_related(request, form, formsets, change)
        program = Program.objects.get(pk=form.instance.pk)
        after = _describe(program)
        if after != form.before:
            versions.note_change(program)
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
