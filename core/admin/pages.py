"""Pages of the admin that are no list and no form of a model: a question before something is done, and its answer.

Whatever changes something is a POST of such a form; the theme's action buttons are links, so they only lead here.
"""

import json
import uuid
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar, cast

from django import forms
from django.contrib.admin.utils import unquote
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model
from django.http import Http404, HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import action
from unfold.widgets import UnfoldAdminTextareaWidget

from core.models import Program
from core.services import idempotency

REASON_LENGTH = 500
HISTORY = _("History")

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., HttpResponse])


def pretty(value: Any) -> SafeString | str:
    """Return JSON as indented text."""
    if value is None:
        return "-"
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return format_html('<pre class="told text-xs">{}</pre>', text)


def button(description: Any, *, url_path: str, permission: str, **look: Any) -> Callable[[F], F]:
    """Make a method of a page a button on it, for those with a permission; others get 403 at its address."""
    return cast(Callable[[F], F], action(description=description, url_path=url_path, permissions=[permission], **look))


class QuestionForm(forms.Form):
    """A form that asks for nothing but a yes; subclasses ask for more."""


class ReasonForm(QuestionForm):
    """Asks why: the answer goes to the audit trail."""

    reason = forms.CharField(
        label=_("Reason"),
        max_length=REASON_LENGTH,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}),
        help_text=_("Kept in the audit trail."),
    )


class OnceForm(forms.Form):
    """Carries what tells that the form was sent before: see `do_once`."""

    once = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)


class SentBefore(Exception):
    """The form was sent before, and what it asked for is done or being done."""

    def __str__(self) -> str:
        return gettext("This form was sent before. What it made is in the list.")


def do_once(once: uuid.UUID, user: User, program: Program, at: datetime, work: Callable[[], T]) -> T:
    """Do what a form asks, in one transaction with the mark that it is done.

    Raises: SentBefore; whatever the work raises, and then the form may be sent again.
    """
    caller = f"operator:{user.pk}"
    try:
        lease = idempotency.begin(program_id=program.pk, caller=caller, key=str(once), request_digest=b"", at=at)
    except idempotency.InFlight as error:
        raise SentBefore from error
    if isinstance(lease, idempotency.Answer):
        raise SentBefore
    try:
        with transaction.atomic():
            result = work()
            idempotency.finish(lease, status=HttpResponse.status_code, body="")
    except idempotency.LeaseLost as error:
        raise SentBefore from error
    except Exception:
        idempotency.release(lease)
        raise
    return result


def operator(request: HttpRequest) -> User:
    """Return who is at work; the admin lets nobody else in."""
    return cast(User, request.user)


def find_row(model_admin: Any, request: HttpRequest, object_id: str) -> Any:
    """Return the row of a page below it.

    Raises: Http404; PermissionDenied for whoever may not see it.
    """
    row = model_admin.get_object(request, unquote(object_id))
    if row is None:
        raise Http404
    if not model_admin.has_view_permission(request, row):
        raise PermissionDenied
    return row


def page_of(row: Model) -> str:
    """Return the address of a row's page."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def list_of(model: type[Model]) -> str:
    """Return the address of a model's list."""
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")


def focus_first(form: forms.Form) -> None:
    """Let whoever opens the page write into the first field at once."""
    for field in form.visible_fields()[:1]:
        field.field.widget.attrs["autofocus"] = True


def show(
    model_admin: Any, request: HttpRequest, template: str, *, title: Any, row: Model | None = None, **context: Any
) -> HttpResponse:
    """Return a page in the admin's frame."""
    request.current_app = model_admin.admin_site.name
    if isinstance(form := context.get("form"), forms.Form):
        focus_first(form)
    frame = {
        **model_admin.admin_site.each_context(request),
        "opts": model_admin.opts,
        "title": title,
        "original": row,
        "content_subtitle": str(row) if row else None,
        "back": page_of(row) if row else list_of(model_admin.model),
    }
    return TemplateResponse(request, template, frame | context)


def ask(
    model_admin: Any,
    request: HttpRequest,
    *,
    title: Any,
    form: forms.Form,
    submit: Any,
    row: Model | None = None,
    lines: Sequence[Any] = (),
    problems: Sequence[Any] = (),
    is_grave: bool = False,
    **context: Any,
) -> HttpResponse:
    """Return a page that says what will happen (`lines`), asks for the form's fields, and does it with a button."""
    return show(
        model_admin,
        request,
        "core/question.html",
        title=title,
        row=row,
        form=form,
        submit_label=submit,
        lines=lines,
        problems=problems,
        is_grave=is_grave,
        **context,
    )


def show_secret(
    model_admin: Any, request: HttpRequest, *, title: Any, row: Model, secret: str, lines: Sequence[Any]
) -> HttpResponse:
    """Return a page with a secret in answer to the form that made it, so that it lies nowhere in between."""
    return show(model_admin, request, "core/secret.html", title=title, row=row, secret=secret, lines=lines)
