"""Ladders with their versions and drafts, and their evaluations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.utils.formats import date_format
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from core.admin import DraftAdmin, ProgramAdmin, ReadOnlyAdmin, ReadOnlyInline, VersionedInline, VersionInline
from membership.models import Evaluation, EvaluationChunk, Ladder, LadderVersion, Member, Tier
from membership.program_section import LADDER


class TierInline(ReadOnlyInline):
    model = Tier
    fields = ("code", "name")
    tab = False


class LadderVersionInline(VersionInline):
    model = LadderVersion
    kind = LADDER


@admin.register(Ladder)
class LadderAdmin(DraftAdmin):
    kind = LADDER
    list_display = ("code", "name", "program", "evaluated_at", "completed_at")
    list_select_related = ("program",)
    list_filter = ("program",)
    list_before_template = "core/from_files.html"
    fields = ("program", "code", "name", "evaluated_at", "completed_at")
    inlines = [TierInline, LadderVersionInline]

    def get_effects(self, owner: Ladder, at: datetime) -> list[str]:
        count = Member.objects.filter(program_id=owner.program_id).count()
        members = ngettext("%(count)s member is on this ladder.", "%(count)s members are on this ladder.", count) % {
            "count": f"{count:,}"
        }
        return [
            members,
            gettext("The version is in force from now on, %(at)s: the next orders and the next evaluation go by it.")
            % {"at": date_format(at, "DATETIME_FORMAT")},
            gettext("Evaluations of days before it keep the versions of their time; nobody changes tier at once."),
        ]


class LadderInline(VersionedInline):
    model = Ladder
    fields = ("shown_code", "name", "published_version", "evaluated_at", "completed_at")


class EvaluationChunkInline(ReadOnlyInline):
    model = EvaluationChunk
    fields = ("first_member_id", "last_member_id", "done_at", "upgraded", "downgraded")
    tab = False


@admin.register(Evaluation)
class EvaluationAdmin(ReadOnlyAdmin):
    list_display = ("at", "ladder", "program", "version", "started_at", "finished_at")
    list_select_related = ("ladder__program", "version")
    ordering = ("-at", "-id")
    fields = ("ladder", "version", "at", "started_at", "finished_at")
    inlines = [EvaluationChunkInline]

    @admin.display(description=_("Program"))
    def program(self, evaluation: Evaluation) -> Any:
        return evaluation.ladder.program.code


ProgramAdmin.inlines = [*ProgramAdmin.inlines, LadderInline]
