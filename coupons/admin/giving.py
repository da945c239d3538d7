"""Coupons are given out: to one member with a reason, as codes that people choose, as batches of random codes."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from kombu.exceptions import OperationalError
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminTextInputWidget

from core.admin import pages
from core.typed_codes import BadCode
from coupons.models import CodeBatch, CouponCode, CouponDefinition
from coupons.services import claims, code_batches, issuing
from coupons.tasks import make_codes
from membership.models import Member

ISSUE = "coupons.add_claim"
MAKE_CODES = "coupons.add_codebatch"


class IssueForm(pages.OnceForm, pages.ReasonForm):
    """Who gets the coupon, and why."""

    member = forms.CharField(
        label=_("Member"),
        max_length=200,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("The storefront's id of the member."),
    )
    field_order = ("member", "reason", "once")


class BatchForm(pages.OnceForm):
    """How many codes are wanted."""

    count = forms.IntegerField(
        label=_("How many"), min_value=1, max_value=code_batches.MOST_CODES, widget=UnfoldAdminIntegerFieldWidget
    )
    beginning = forms.CharField(
        label=_("Beginning"),
        required=False,
        widget=UnfoldAdminTextInputWidget,
        help_text=_("Letters and digits that every code begins with. May be left empty."),
    )


class CodeForm(pages.QuestionForm):
    """A code that people choose."""

    text = forms.CharField(
        label=_("Text"),
        widget=UnfoldAdminTextInputWidget,
        help_text=_(
            "Such as SUMMER10. Case, separators and look-alikes such as 0 and O do not count when it is typed."
        ),
    )
    is_shared = forms.BooleanField(
        label=_("For everybody"), required=False, initial=True, help_text=_("Unchecked: for the first who types it.")
    )


def explain_refusal(refusal: Exception) -> str:
    """Return why a coupon cannot be given out."""
    sentences: dict[type[Exception], Any] = {
        claims.UnknownCoupon: _("Nothing of this coupon is in force: publish it first."),
        claims.NotClaimable: _("It applies by itself: there is nothing to issue."),
        claims.CouponEnded: _("Its last day is over."),
        claims.LimitReached: _("All there were have been given out."),
        claims.AlreadyClaimed: _("The member has had as many as one member may."),
        claims.OncePerPerson: _("An account with the same e-mail address, card or device has had it."),
        claims.MemberNotActive: _("The member is not active."),
        code_batches.CodeTaken: _("Another coupon has this code."),
        code_batches.IssuedAlone: _("The coupon is issued to members: by a shared code everybody could take it."),
    }
    return str(sentences.get(type(refusal), refusal))


class GivingActions:
    """The buttons on a coupon's page by which it is given out."""

    actions_detail: tuple[str, ...] = ("issue", "request_codes", "create_code")

    @pages.button(_("Issue to member"), url_path="issue", permission=ISSUE, icon="redeem")
    def issue(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask whom and why, then issue."""
        coupon, form = pages.find_row(self, request, object_id), IssueForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                claim = _issue(request, coupon, form)
            except (claims.CouponRefused, Member.DoesNotExist, pages.SentBefore) as refusal:
                missing = isinstance(refusal, Member.DoesNotExist)
                reason = gettext("The program has no such member.") if missing else explain_refusal(refusal)
                form.add_error("member" if missing else None, reason)
            else:
                messages.success(request, gettext("The coupon is issued."))
                return HttpResponseRedirect(pages.page_of(claim))
        lines = [_("The member gets the coupon now, under the version that is in force, and may use it once.")]
        title = _("Issue to member")
        return pages.ask(self, request, title=title, form=form, submit=_("Issue"), row=coupon, lines=lines)

    @pages.button(_("Make codes"), url_path="make-codes", permission=MAKE_CODES, icon="confirmation_number")
    def request_codes(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask how many, then hand the batch to the workers."""
        coupon, form = pages.find_row(self, request, object_id), BatchForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                batch = _request_batch(request, coupon, form)
            except code_batches.BadBatch as refusal:
                form.add_error({"prefix": "beginning"}.get(refusal.field, refusal.field), refusal.reason)
            except pages.SentBefore as refusal:
                form.add_error(None, str(refusal))
            else:
                messages.success(request, gettext("The codes are being made. Reload to see how it goes."))
                return HttpResponseRedirect(pages.page_of(batch))
        lines = [_("Random codes, each for one member who types it. They can be downloaded when they are made.")]
        title = _("Make codes")
        return pages.ask(self, request, title=title, form=form, submit=title, row=coupon, lines=lines)

    @pages.button(_("New code"), url_path="new-code", permission=MAKE_CODES, icon="password")
    def create_code(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Ask for the text, then make the code."""
        coupon, form = pages.find_row(self, request, object_id), CodeForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                code = _create_code(request, coupon, form)
            except BadCode as refusal:
                form.add_error("text", str(refusal))
            except code_batches.CodeTaken as refusal:
                form.add_error("text", explain_refusal(refusal))
            except code_batches.IssuedAlone as refusal:
                form.add_error("is_shared", explain_refusal(refusal))
            else:
                messages.success(request, gettext("The code can be used as soon as the coupon is in force."))
                return HttpResponseRedirect(pages.page_of(code))
        title = _("New code")
        return pages.ask(self, request, title=title, form=form, submit=_("Make code"), row=coupon)


def _issue(request: HttpRequest, coupon: CouponDefinition, form: IssueForm) -> Any:
    told, user, at = form.cleaned_data, pages.operator(request), timezone.now()
    member = Member.objects.get(program_id=coupon.program_id, external_id=told["member"].strip())
    return pages.do_once(
        told["once"], user, coupon.program, at,
        lambda: issuing.issue(
            member=member, definition_code=coupon.code, source=f"operator:{told['once']}", reason=told["reason"],
            actor=user.get_username(), user=user, at=at,
        ),
    )  # fmt: skip


def _request_batch(request: HttpRequest, coupon: CouponDefinition, form: BatchForm) -> CodeBatch:
    told, user, at = form.cleaned_data, pages.operator(request), timezone.now()
    batch = pages.do_once(
        told["once"], user, coupon.program, at,
        lambda: code_batches.request_batch(
            program=coupon.program, definition=coupon, count=told["count"], prefix=told["beginning"],
            requested_by=user.get_username(), at=at,
        ),
    )  # fmt: skip
    with suppress(OperationalError):  # without Redis the clock's next tick finds it
        make_codes.delay(batch_id=batch.pk)
    return batch


def _create_code(request: HttpRequest, coupon: CouponDefinition, form: CodeForm) -> CouponCode:
    actor = pages.operator(request).get_username()
    return code_batches.create_code(
        program=coupon.program, definition=coupon, actor=actor, at=timezone.now(), **form.cleaned_data
    )
