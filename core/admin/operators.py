"""Who may work here. Nobody gives more rights than he has; every change is in the audit trail."""

from __future__ import annotations

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.checks import ModelAdminChecks
from django.contrib.admin.utils import unquote
from django.contrib.auth.admin import GroupAdmin, UserAdmin
from django.contrib.auth.models import Group, Permission, User
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Model, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from django_otp.plugins.otp_static.models import StaticDevice
from django_otp.plugins.otp_totp.models import TOTPDevice
from unfold.admin import ModelAdmin
from unfold.forms import AdminPasswordChangeForm, UserChangeForm, UserCreationForm

from core.admin import pages
from core.admin.ground import ROWS_PER_PAGE
from core.admin.history import HistoryMixin
from core.services import operators, two_step

for model in (User, Group, TOTPDevice, StaticDevice):
    admin.site.unregister(model)


class _RightsAdmin(HistoryMixin):
    """Keeps rights within those of whoever gives them, and writes every change into the audit trail."""

    kind: str
    actions = None
    list_per_page = ROWS_PER_PAGE
    checks_class = ModelAdminChecks  # as in ListAdmin

    def audit_targets(self, row: Any) -> list[str]:
        """Return how the audit trail names an operator or a group."""
        return [f"{self.kind}:{row}"]

    def formfield_for_manytomany(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        """Offer what the operator may give."""
        if db_field.related_model is Permission:
            kwargs["queryset"] = operators.grantable_permissions(pages.operator(request))
        if db_field.related_model is Group:
            kwargs["queryset"] = operators.grantable_groups(pages.operator(request))
        return super().formfield_for_manytomany(db_field, request, **kwargs)  # type: ignore[misc]

    def changeform_view(self, request: HttpRequest, object_id: str | None = None, *args: Any, **kwargs: Any) -> Any:
        """Remember the row as it was, for the audit trail."""
        row = self.get_object(request, object_id) if object_id and request.method == "POST" else None  # type: ignore[attr-defined]
        request._row_before = operators.describe(row)  # type: ignore[attr-defined]
        return super().changeform_view(request, object_id, *args, **kwargs)  # type: ignore[misc]

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        """Write the audit trail once rights and groups are saved, in the same transaction."""
        super().save_related(request, form, formsets, change)  # type: ignore[misc]
        self._record(request, "changed" if change else "made", form.instance, request._row_before)  # type: ignore[attr-defined]

    def delete_model(self, request: HttpRequest, obj: Model) -> None:
        """Write the audit trail, in the same transaction."""
        before = operators.describe(obj)  # type: ignore[arg-type]
        name = str(obj)
        super().delete_model(request, obj)  # type: ignore[misc]
        self._write(request, "deleted", name, before, None)

    def _record(self, request: HttpRequest, what: str, row: Any, before: dict[str, Any] | None) -> None:
        self._write(request, what, str(row), before, operators.describe(row))

    def _write(
        self, request: HttpRequest, what: str, name: str, before: dict[str, Any] | None, after: dict[str, Any] | None
    ) -> None:
        actor, action = pages.operator(request), f"{self.kind}.{what}"
        operators.record_change(actor=actor, action=action, name=name, before=before, after=after, at=timezone.now())


@admin.register(User)
class OperatorAdmin(_RightsAdmin, UserAdmin, ModelAdmin):  # type: ignore[misc, type-arg]
    kind = "operator"
    form = UserChangeForm
    add_form = UserCreationForm
    change_password_form = AdminPasswordChangeForm
    actions_detail = ("end_two_step",)

    def audit_condition(self, row: Any) -> Q:
        """Return what was done to an operator, and what he did: by the admin, and by log-ins that name him only."""
        return super().audit_condition(row) | Q(user=row)

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> Any:
        """Leave the flag of a superuser to superusers."""
        fields = super().get_readonly_fields(request, obj)
        return fields if pages.operator(request).is_superuser else (*fields, "is_superuser")

    def has_change_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Let nobody change, or give a password to, somebody who may do more."""
        return super().has_change_permission(request, obj) and _is_below(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        """Let nobody delete somebody who may do more."""
        return super().has_delete_permission(request, obj) and _is_below(request, obj)

    def user_change_password(self, request: HttpRequest, id: str, form_url: str = "") -> HttpResponse:  # noqa: A002 Django's name
        """Write a new password, which is saved by a view of its own, into the audit trail."""
        with transaction.atomic():
            before = self.get_object(request, unquote(id))
            response: HttpResponse = super().user_change_password(request, id, form_url)
            after = self.get_object(request, unquote(id))
            if before is not None and after is not None and before.password != after.password:
                self._write(request, "password_changed", str(after), None, None)
        return response

    @pages.button(_("Switch off two-step log-in"), url_path="end-two-step", permission="auth.change_user")
    def end_two_step(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Let an operator who has lost the device in again with the password only."""
        user = pages.find_row(self, request, object_id)
        if not self.has_change_permission(request, user):
            raise PermissionDenied
        form = pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            actor, reason = pages.operator(request), form.cleaned_data["reason"]
            was_on = two_step.switch_off(user=user, actor=actor, reason=reason, at=timezone.now())
            text = (
                _("The operator logs in with the password only.") if was_on else _("Two-step log-in was off already.")
            )
            messages.success(request, text)
            return HttpResponseRedirect(pages.page_of(user))
        lines = [_("For an operator who has lost the device and the recovery codes. Be sure who asks you.")]
        title, submit = _("Switch off two-step log-in"), _("Switch off")
        return pages.ask(self, request, title=title, form=form, submit=submit, row=user, lines=lines, is_grave=True)


@admin.register(Group)
class OperatorGroupAdmin(_RightsAdmin, GroupAdmin, ModelAdmin):  # type: ignore[misc]
    kind = "group"

    def has_change_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Let nobody change a group that may do more than he."""
        return super().has_change_permission(request, obj) and _is_group_below(request, obj)

    def has_delete_permission(self, request: HttpRequest, obj: Group | None = None) -> bool:
        """Let nobody delete a group that may do more than he."""
        return super().has_delete_permission(request, obj) and _is_group_below(request, obj)


def change_own_password(request: HttpRequest) -> HttpResponse:
    """Let an operator choose a new password, and write that into the audit trail."""
    user = pages.operator(request)
    with transaction.atomic():
        before = user.password
        response: HttpResponse = admin.site.password_change(request)
        user.refresh_from_db(fields=["password"])
        if user.password != before:
            name = user.get_username()
            operators.record_change(
                actor=user, action="operator.password_changed", name=name, before=None, after=None, at=timezone.now()
            )
    return response


def _is_below(request: HttpRequest, user: User | None) -> bool:
    return user is None or operators.may_manage(pages.operator(request), user)


def _is_group_below(request: HttpRequest, group: Group | None) -> bool:
    return group is None or operators.may_manage_group(pages.operator(request), group)
