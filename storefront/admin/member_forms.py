"""What an operator does for a member, as forms: each knows what it asks, what it does and how to say what it did.

The effect that is shown for confirmation is the effect itself, taken back: so it cannot say anything else than what
confirming does.
"""

from __future__ import annotations

import uuid
from abc import abstractmethod
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib.auth.models import User
from django.utils.formats import date_format
from django.utils.translation import gettext, gettext_lazy
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
)

from core.calendar import day_start, local_date
from membership.field_checks import LATEST
from membership.models import Ladder, Member, MemberStatus, Tier
from membership.selectors import tiers_at
from membership.services import members, overrides

REASON_LENGTH = 500


class Refused(Exception):
    """The action cannot be done now; the text says why."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changes, as shown before and after."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What an action did: the sentence that says so, and what it changed. is_request: it only asked for it."""

    message: str
    changes: tuple[Change, ...]
    is_request: bool = False


class MemberActionForm(forms.Form):
    """The fields of one action. `key` makes the form that is sent twice count once."""

    title: ClassVar[Any]
    submit: ClassVar[Any]
    is_grave: ClassVar[bool] = False

    key = forms.UUIDField(widget=forms.HiddenInput)
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        help_text=gettext_lazy("Kept in the audit trail."),
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
    )

    def __init__(self, *args: Any, member: Member, at: datetime, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.member, self.at = member, at
        self.initial.setdefault("key", uuid.uuid4())
        self.order_fields([name for name in self.fields if name != "reason"])

    def clean_reason(self) -> str:
        """Return the reason as one line."""
        return " ".join(self.cleaned_data["reason"].split())

    @abstractmethod
    def perform(self, *, user: User) -> Effect:
        """Do it, and say what was done.

        Raises: Refused.
        """


class _OnLadder(MemberActionForm):
    """An action on one of the member's ladders."""

    ladder = forms.ModelChoiceField(
        Ladder.objects.none(), label=gettext_lazy("Ladder"), empty_label=None, widget=UnfoldAdminSelectWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["ladder"]
        field.queryset = Ladder.objects.filter(program_id=self.member.program_id).select_related("program")
        field.label_from_instance = lambda ladder: ladder.name

    def held(self, ladder: Ladder, *, at: datetime) -> str:
        """Return the name of the tier held at an instant."""
        found = tiers_at(ladder_id=ladder.pk, at=at, member_ids=[self.member.pk]).select_related("tier").first()
        return found.tier.name if found else "-"


class OverrideTierForm(_OnLadder):
    """Let the member hold a tier until the end of a day, whatever the facts say."""

    title = gettext_lazy("Override tier")
    submit = gettext_lazy("Override tier")

    tier = forms.ModelChoiceField(
        Tier.objects.none(), label=gettext_lazy("Tier"), empty_label=None, widget=UnfoldAdminSelectWidget
    )
    until = forms.DateField(
        label=gettext_lazy("Through"),
        help_text=gettext_lazy("The last day on which the tier is held, in the program's time zone."),
        widget=UnfoldAdminTextInputWidget(attrs={"type": "date"}),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        tiers = Tier.objects.filter(ladder__program_id=self.member.program_id).select_related("ladder")
        has_several = self.fields["ladder"].queryset.count() > 1  # type: ignore[attr-defined]
        field: Any = self.fields["tier"]
        field.queryset = tiers.order_by("ladder", "pk")
        field.label_from_instance = lambda tier: f"{tier.ladder.name}: {tier.name}" if has_several else tier.name

    def clean_until(self) -> date:
        """Refuse a day that is over, and one with which no override ends."""
        until: date = self.cleaned_data["until"]
        if until.year >= LATEST.year:
            raise forms.ValidationError(gettext("An override ends in the future, before the year 2100."), code="far")
        if until < local_date(self.at, self.member.program.time_zone):
            raise forms.ValidationError(gettext("This day is over."), code="past")
        return until

    def perform(self, *, user: User) -> Effect:
        """Record the override; the service writes the audit trail."""
        ladder, tier, until = (self.cleaned_data[name] for name in ("ladder", "tier", "until"))
        before = self.held(ladder, at=self.at)
        valid_until = day_start(until + timedelta(days=1), self.member.program.time_zone)
        try:
            overrides.override_tier(
                member=self.member, ladder=ladder, tier=tier, valid_until=valid_until, user=user,
                reason=self.cleaned_data["reason"], decided_by=user.get_username(), at=self.at,
            )  # fmt: skip
        except overrides.BadOverride as error:
            raise Refused(_refusal(error)) from error
        except overrides.OverrideConflict as error:
            raise Refused(gettext("Another decision was recorded meanwhile. Try again.")) from error
        names = {"tier": tier.name, "ladder": ladder.name, "until": date_format(until, "DATE_FORMAT")}
        return Effect(
            gettext("The member holds %(tier)s (%(ladder)s) through %(until)s.") % names,
            (Change(ladder.name, before, gettext("%(tier)s through %(until)s") % names),),
        )


def _refusal(error: overrides.BadOverride) -> str:
    texts = {
        "tier_not_open": gettext("This tier cannot be held on this ladder now."),
        "unknown_tier": gettext("The ladder has no such tier."),
        "invalid_value": gettext("An override ends in the future, before the year 2100."),
    }
    return texts.get(error.code, error.detail)


class LiftOverrideForm(_OnLadder):
    """End an override before its time."""

    title = gettext_lazy("Lift override")
    submit = gettext_lazy("Lift override")

    def perform(self, *, user: User) -> Effect:
        """End the override; the member has what the facts have given meanwhile."""
        ladder = self.cleaned_data["ladder"]
        before = self.held(ladder, at=self.at)
        try:
            overrides.lift_override(
                member=self.member, ladder=ladder, reason=self.cleaned_data["reason"], user=user,
                decided_by=user.get_username(), at=self.at,
            )  # fmt: skip
        except overrides.NoOverride as error:
            raise Refused(gettext("No override is in force on this ladder.")) from error
        except overrides.OverrideConflict as error:
            raise Refused(gettext("Another decision was recorded meanwhile. Try again.")) from error
        except overrides.BadOverride as error:
            raise Refused(_refusal(error)) from error
        after = self.held(ladder, at=self.at)
        return Effect(
            gettext("Lifted the override: the member holds %(tier)s (%(ladder)s).")
            % {"tier": after, "ladder": ladder.name},
            (Change(ladder.name, before, after),),
        )


class _SetStatus(MemberActionForm):
    """Let the membership rest, or take it up again."""

    status: ClassVar[MemberStatus]

    def perform(self, *, user: User) -> Effect:
        """Set the status; the service writes the audit trail."""
        before = self.member.get_status_display()
        try:
            changed = members.update_member(
                member=self.member, changes={"status": self.status.value}, reason=self.cleaned_data["reason"],
                actor=user.get_username(), user=user, at=self.at,
            )  # fmt: skip
        except members.MemberErased as error:
            raise Refused(gettext("The member has been erased.")) from error
        if not changed:
            raise Refused(gettext("The member has this status already."))
        after = str(self.status.label)
        message = gettext("The member is %(status)s now.") % {"status": after.lower()}
        return Effect(message, (Change(gettext("Status"), before, after),))


class SuspendForm(_SetStatus):
    """Suspend the member: their tokens open nothing, and the storefront is told."""

    title = gettext_lazy("Suspend member")
    submit = gettext_lazy("Suspend")
    is_grave = True
    status = MemberStatus.SUSPENDED


class ReactivateForm(_SetStatus):
    """End a suspension."""

    title = gettext_lazy("Reactivate member")
    submit = gettext_lazy("Reactivate")
    status = MemberStatus.ACTIVE
