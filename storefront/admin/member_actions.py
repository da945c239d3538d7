"""The buttons on a member's page: ask, show the effect, and do it once when it is confirmed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any, TypeVar

from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action

from core.admin import pages
from core.services import idempotency
from membership.admin import MemberAdmin
from membership.models import Member, MemberStatus
from membership.services import overrides
from storefront.admin.member_forms import (
    Effect,
    LiftOverrideForm,
    MemberActionForm,
    OverrideTierForm,
    ReactivateForm,
    Refused,
    SuspendForm,
)
from storefront.admin.points_forms import AdjustPointsForm, GoodwillForm

Method = TypeVar("Method", bound=Callable[..., HttpResponse])


def _button(path: str, text: Any, *, icon: str, permission: str) -> Callable[[Method], Method]:
    """Return what makes a method a button on the member's page, for those who have the permission."""
    made: Callable[[Method], Method] = action(description=text, url_path=path, icon=icon, permissions=[permission])
    return made


class MemberActions(MemberAdmin):
    """Each action is a page of its own with its own permission. It changes nothing until it is confirmed by POST."""

    actions_detail = ("adjust_points", "give_goodwill", "override_tier", "lift_override", "suspend", "reactivate")

    @_button("adjust-points", _("Adjust points"), icon="toll", permission="points.adjust_points")
    def adjust_points(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, AdjustPointsForm)

    @_button("give-goodwill", _("Give goodwill"), icon="volunteer_activism", permission="points.give_goodwill")
    def give_goodwill(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, GoodwillForm)

    @_button("override-tier", _("Override tier"), icon="military_tech", permission="membership.override_tier")
    def override_tier(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, OverrideTierForm)

    @_button("lift-override", _("Lift override"), icon="undo", permission="membership.override_tier")
    def lift_override(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, LiftOverrideForm)

    @_button("suspend", _("Suspend"), icon="block", permission="membership.suspend_member")
    def suspend(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, SuspendForm)

    @_button("reactivate", _("Reactivate"), icon="check", permission="membership.suspend_member")
    def reactivate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._act(request, object_id, ReactivateForm)

    def get_actions_detail(self, request: HttpRequest, object_id: int) -> list[Any]:
        """Offer what the member's state allows."""
        member = self._find(object_id)
        hidden = {"reactivate" if member.status == MemberStatus.ACTIVE else "suspend"}
        if member.status == MemberStatus.ERASED:
            hidden = {"suspend", "reactivate", "adjust_points", "give_goodwill", "override_tier"}
        if not overrides.list_ending_after(timezone.now()).filter(member=member).exists():
            hidden.add("lift_override")
        actions = super().get_actions_detail(request, object_id)
        return [one for one in actions if one.method.original_function_name not in hidden]

    def _find(self, object_id: int | str) -> Member:
        try:
            return Member.objects.select_related("program").get(pk=object_id)
        except (Member.DoesNotExist, ValueError) as error:
            raise Http404 from error

    def _act(self, request: HttpRequest, object_id: str, form_class: type[MemberActionForm]) -> HttpResponse:
        member = self._find(object_id)
        form = form_class(request.POST or None, member=member, at=timezone.now())
        effect: Effect | None = None
        if request.method == "POST" and form.is_valid():
            try:
                if "confirmed" in request.POST:
                    messages.success(request, _do_once(form, request.user))
                    return HttpResponseRedirect(reverse("admin:membership_member_change", args=[member.pk]))
                effect = _preview(form, request.user)
            except Refused as refused:
                form.add_error(None, str(refused))
        pages.focus_first(form)
        context = {
            **self.admin_site.each_context(request),
            "title": form.title,
            "opts": self.opts,
            "member": member,
            "form": form,
            "effect": effect,
            "hidden_fields": [field.as_hidden() for field in form] if effect else [],
        }
        return TemplateResponse(request, "storefront/member_action.html", context)


def _preview(form: MemberActionForm, user: Any) -> Effect:
    """Return the effect of what the form asks, having done it and taken it back.

    Raises: Refused.
    """
    with transaction.atomic():
        effect = form.perform(user=user)
        transaction.set_rollback(True)
    return effect


def _do_once(form: MemberActionForm, user: Any) -> str:
    """Do what the form asks and return what was done; the same form sent again is told the same and does nothing.

    Raises: Refused.
    """
    try:
        begun = idempotency.begin(
            program_id=form.member.program_id, caller=f"operator:{user.pk}", key=str(form.cleaned_data["key"]),
            request_digest=_digest(form), at=form.at,
        )  # fmt: skip
    except idempotency.KeyReused as error:
        raise Refused(gettext("This form was sent before with other content. Open it again.")) from error
    except idempotency.InFlight as error:
        raise Refused(gettext("This is being done already. Look at the member's page in a moment.")) from error
    if isinstance(begun, idempotency.Answer):
        return begun.body
    try:
        with transaction.atomic():
            message = form.perform(user=user).message
            idempotency.finish(begun, status=HttpResponse.status_code, body=message)
    except idempotency.LeaseLost as error:
        raise Refused(gettext("This is being done already. Look at the member's page in a moment.")) from error
    except Exception:
        idempotency.release(begun)
        raise
    return message


def _digest(form: MemberActionForm) -> bytes:
    """Return what makes a form the same: what it asks for, of which member."""
    told = {name: str(form.data.get(name, "")) for name in sorted(form.fields)}
    return hashlib.sha256(json.dumps([type(form).__name__, form.member.pk, told]).encode()).digest()
