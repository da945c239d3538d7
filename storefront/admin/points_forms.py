"""What operators do with a member's points: adjust them, or give some as goodwill."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.utils.translation import gettext, gettext_lazy, ngettext
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldBooleanSwitchWidget

from points.models import AdjustmentRequest, Wallet
from points.selectors import Balance, get_balance
from points.services import approvals, operations
from points.services.posting import IdempotencyKeyReused, InsufficientPoints, Posted
from storefront.admin.member_forms import Change, Effect, MemberActionForm, Refused


class _PointsForm(MemberActionForm):
    """Moves points of one of the member's wallets, under the form's key: the ledger knows it for ever."""

    wallet = forms.ModelChoiceField(
        Wallet.objects.none(), label=gettext_lazy("Wallet"), empty_label=None, widget=UnfoldAdminSelectWidget
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field: Any = self.fields["wallet"]
        field.queryset = Wallet.objects.filter(program_id=self.member.program_id)
        field.label_from_instance = lambda wallet: wallet.name

    def post(self, user: User) -> Posted | AdjustmentRequest:
        """Post what the form asks.

        Raises: whatever the service raises.
        """
        raise NotImplementedError

    def perform(self, *, user: User) -> Effect:
        """Post, and say what it did to the balances; the service writes the audit trail."""
        before = self._balance()
        try:
            posted = self.post(user)
        except InsufficientPoints as error:
            text = ngettext(
                "Only %(available)s point is available.", "Only %(available)s points are available.", error.available
            )
            raise Refused(text % {"available": f"{error.available:,}"}) from error
        except IdempotencyKeyReused as error:
            raise Refused(gettext("This form was sent before with other content. Open it again.")) from error
        if isinstance(posted, AdjustmentRequest):
            text = gettext("This is above the limit of the wallet: somebody else has to approve it.")
            return Effect(text, (), is_request=True)
        wallet, points = self.cleaned_data["wallet"], self.cleaned_data["points"]
        text = (
            ngettext("Gave %(points)s point (%(wallet)s).", "Gave %(points)s points (%(wallet)s).", points)
            if points > 0
            else ngettext("Took %(points)s point (%(wallet)s).", "Took %(points)s points (%(wallet)s).", -points)
        )
        return Effect(text % {"points": f"{abs(points):,}", "wallet": wallet.name}, _changes(before, self._balance()))

    def _balance(self) -> Balance:
        return get_balance(member_id=self.member.pk, wallet_id=self.cleaned_data["wallet"].pk, at=self.at)

    def decision(self, user: User) -> dict[str, Any]:
        """Return what every decision about points needs to know."""
        return {
            "program": self.member.program,
            "member": self.member,
            "wallet_id": self.cleaned_data["wallet"].pk,
            "points": self.cleaned_data["points"],
            "reason": self.cleaned_data["reason"],
            "decided_by": user.get_username(),
            "idempotency_key": f"admin:{self.cleaned_data['key']}",
            "at": self.at,
            "user": user,
        }


class AdjustPointsForm(_PointsForm):
    """Give or take points."""

    title = gettext_lazy("Adjust points")
    submit = gettext_lazy("Adjust points")

    points = forms.IntegerField(
        label=gettext_lazy("Points"),
        help_text=gettext_lazy("Whole points: 50 gives them, -50 takes them."),
        min_value=-operations.MAX_ADJUSTMENT,
        max_value=operations.MAX_ADJUSTMENT,
        widget=UnfoldAdminIntegerFieldWidget,
    )
    debt = forms.BooleanField(
        label=gettext_lazy("Take more than there is"),
        help_text=gettext_lazy("What is not there becomes debt, which new points repay first."),
        required=False,
        widget=UnfoldBooleanSwitchWidget,
    )

    def clean_points(self) -> int:
        """Refuse to post nothing."""
        points: int = self.cleaned_data["points"]
        if points == 0:
            raise forms.ValidationError(gettext("Nothing changes with 0 points."), code="zero")
        return points

    def post(self, user: User) -> Posted | AdjustmentRequest:
        """Post the adjustment, or ask for approval."""
        return approvals.adjust(**self.decision(user), debt=self.cleaned_data["debt"])


class GoodwillForm(_PointsForm):
    """Give points as goodwill, up to the wallet's limit for a member and day."""

    title = gettext_lazy("Give goodwill")
    submit = gettext_lazy("Give points")

    points = forms.IntegerField(
        label=gettext_lazy("Points"),
        min_value=1,
        max_value=operations.MAX_ADJUSTMENT,
        widget=UnfoldAdminIntegerFieldWidget,
    )

    def post(self, user: User) -> Posted:
        """Give the points."""
        try:
            return approvals.give_goodwill(**self.decision(user))
        except approvals.GoodwillExceeded as error:
            told = {"limit": f"{error.limit:,}"}
            text = gettext("A member is given at most %(limit)s points a day as goodwill (goodwill_per_day).")
            raise Refused(text % told) from error


def _changes(before: Balance, after: Balance) -> tuple[Change, ...]:
    names = {"available": gettext("Available"), "pending": gettext("Pending"), "debt": gettext("Debt")}
    return tuple(
        Change(label, f"{getattr(before, name):,}", f"{getattr(after, name):,}")
        for name, label in names.items()
        if getattr(before, name) != getattr(after, name)
    )
