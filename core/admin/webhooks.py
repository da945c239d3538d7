"""Webhooks and the events feed: who is told, what was sent, and what came back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.widgets import (
    UnfoldAdminCheckboxSelectMultipleWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextInputWidget,
    UnfoldAdminURLInputWidget,
)

from core.admin import pages
from core.admin.ground import ReadOnlyAdmin, ReadOnlyInline, StateColumn, link
from core.admin.pages import pretty
from core.event_types import EventType
from core.models import Event, Program, WebhookAttempt, WebhookDelivery, WebhookEndpoint
from core.outgoing import ForbiddenUrl
from core.services import webhooks

ADD = "core.add_webhookendpoint"
CHANGE = "core.change_webhookendpoint"
REPLAY = "core.replay_delivery"


class EndpointForm(pages.ReasonForm):
    """What is told of an endpoint."""

    url = forms.URLField(
        label=_("URL"), max_length=500, assume_scheme="https", widget=UnfoldAdminURLInputWidget,
        help_text=_("Where messages are sent: https, and no address inside this network."),
    )  # fmt: skip
    description = forms.CharField(
        label=_("Description"), max_length=200, required=False, widget=UnfoldAdminTextInputWidget
    )
    event_types = forms.MultipleChoiceField(
        label=_("Event types"),
        required=False,
        choices=[(value, value) for value in EventType.values if value != EventType.WEBHOOK_TEST],
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text=_("None chosen: all of them, those to come included."),
    )
    field_order = ("program", "url", "description", "event_types", "reason")


class NewEndpointForm(pages.OnceForm, EndpointForm):
    program = forms.ModelChoiceField(Program.objects.all(), label=_("Program"), widget=UnfoldAdminSelectWidget)


class OnceReasonForm(pages.OnceForm, pages.ReasonForm):
    """Why, once."""


def _by(request: HttpRequest, reason: str = "") -> webhooks.By:
    user = pages.operator(request)
    return webhooks.By(user.get_username(), user, reason)


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(StateColumn, ReadOnlyAdmin):
    list_display = ("url", "program", "state", "failing_since", "created_at")
    list_select_related = ("program",)
    list_filter = ("program", ("disabled_at", admin.EmptyFieldListFilter))
    search_fields = ("url",)
    search_help_text = _("Part of the address or of the description")
    ordering = ("id",)
    fields = (
        *(
            "program",
            "url",
            "description",
            "shown_types",
            "shown_state",
            "failing_since",
            "disabled_at",
            "disabled_reason",
        ),
        *("public_id", "created_at", "previous_secret_expires_at"),
    )
    actions_list = ("create",)
    actions_detail = ("deliveries", "edit", "test", "rotate", "disable", "enable")

    def search_condition(self, term: str) -> Q:
        return Q(url__icontains=term) | Q(description__icontains=term)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer what the endpoint's state allows."""
        is_enabled = WebhookEndpoint.objects.filter(pk=object_id, disabled_at=None).exists()
        hidden = {"enable"} if is_enabled else {"disable", "test"}
        found = super().get_actions_detail(request, object_id)
        return [one for one in found if one.method.original_function_name not in hidden]

    def audit_targets(self, row: Any) -> list[str]:
        return [f"webhook endpoint {row.public_id}"]

    @display(description=_("State"), label={"enabled": "success", "failing": "warning", "disabled": "danger"})  # type: ignore[untyped-decorator]
    def state(self, endpoint: WebhookEndpoint) -> tuple[str, str]:
        if endpoint.disabled_at is not None:
            return "disabled", gettext("disabled")
        if endpoint.failing_since is not None:
            return "failing", gettext("failing")
        return "enabled", gettext("enabled")

    @admin.display(description=_("Event types"))
    def shown_types(self, endpoint: WebhookEndpoint) -> str:
        return ", ".join(endpoint.event_types) or gettext("all")

    @pages.button(_("New endpoint"), url_path="new", permission=ADD, icon="add", variant=ActionVariant.PRIMARY)
    def create(self, request: HttpRequest) -> HttpResponse:
        form = NewEndpointForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            at, user, told = timezone.now(), pages.operator(request), form.cleaned_data
            once, by = told.pop("once"), _by(request, told.pop("reason"))
            try:
                endpoint = pages.do_once(once, user, told["program"], at, lambda: webhooks.create(**told, by=by, at=at))
            except (ForbiddenUrl, pages.SentBefore) as refused:
                form.add_error(None, str(refused))
            else:
                return self._show_secret(request, endpoint)
        return pages.ask(self, request, title=_("New endpoint"), form=form, submit=_("Create"))

    @pages.button(_("Deliveries"), url_path="deliveries", permission="core.view_webhookdelivery", icon="outgoing_mail")
    def deliveries(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = pages.find_row(self, request, object_id)
        return HttpResponseRedirect(f"{pages.list_of(WebhookDelivery)}?endpoint__id__exact={endpoint.pk}")

    @pages.button(_("Edit"), url_path="edit", permission=CHANGE, icon="edit")
    def edit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = pages.find_row(self, request, object_id)
        present = {name: getattr(endpoint, name) for name in ("url", "description", "event_types")}
        form = EndpointForm(request.POST or None, initial=present)
        if request.method == "POST" and form.is_valid():
            told = form.cleaned_data
            by = _by(request, told.pop("reason"))
            try:
                webhooks.update(endpoint=endpoint, by=by, at=timezone.now(), **told)
            except ForbiddenUrl as refused:
                form.add_error("url", str(refused))
            else:
                messages.success(request, gettext("The endpoint is saved."))
                return HttpResponseRedirect(pages.page_of(endpoint))
        return pages.ask(self, request, title=_("Edit endpoint"), form=form, submit=_("Save"), row=endpoint)

    @pages.button(_("Send test event"), url_path="test", permission=CHANGE, icon="send")
    def test(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint = pages.find_row(self, request, object_id)
        lines = [_("An event of type webhook.test is sent to this endpoint alone.")]
        return _confirm(
            self, request, endpoint, _("Send test event"), lines,
            lambda: webhooks.send_test(endpoint=endpoint, by=_by(request), at=timezone.now()),
            _("The test event is on its way. See the deliveries for the answer."),
        )  # fmt: skip

    @pages.button(_("Rotate secret"), url_path="rotate", permission=CHANGE, icon="autorenew")
    def rotate(self, request: HttpRequest, object_id: str) -> HttpResponse:
        endpoint, form = pages.find_row(self, request, object_id), OnceReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            at, by = timezone.now(), _by(request, form.cleaned_data["reason"])
            try:
                changed = pages.do_once(
                    form.cleaned_data["once"], pages.operator(request), endpoint.program, at,
                    lambda: webhooks.rotate_secret(endpoint=endpoint, by=by, at=at),
                )  # fmt: skip
            except pages.SentBefore as refused:
                form.add_error(None, str(refused))
            else:
                return self._show_secret(request, changed)
        lines = [_("A new secret is made and shown once. For a day messages carry the signatures of both.")]
        return pages.ask(
            self, request, title=_("Rotate secret"), form=form, submit=_("Rotate"), row=endpoint, lines=lines
        )

    @pages.button(_("Disable"), url_path="disable", permission=CHANGE, icon="block", variant=ActionVariant.DANGER)
    def disable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        lines = [_("Nothing is sent to this endpoint until it is enabled again; what happens meanwhile is not kept.")]
        return self._switch(request, object_id, _("Disable"), lines, is_enabled=False)

    @pages.button(_("Enable"), url_path="enable", permission=CHANGE, icon="check")
    def enable(self, request: HttpRequest, object_id: str) -> HttpResponse:
        lines = [_("Events from now on are sent to it, as is what was waiting when it was disabled.")]
        return self._switch(request, object_id, _("Enable"), lines, is_enabled=True)

    def _switch(
        self, request: HttpRequest, object_id: str, title: Any, lines: list[Any], *, is_enabled: bool
    ) -> HttpResponse:
        endpoint, form = pages.find_row(self, request, object_id), pages.ReasonForm(request.POST or None)
        if request.method == "POST" and form.is_valid():
            by = _by(request, form.cleaned_data["reason"])
            webhooks.update(endpoint=endpoint, by=by, at=timezone.now(), is_enabled=is_enabled)
            messages.success(request, gettext("The endpoint is saved."))
            return HttpResponseRedirect(pages.page_of(endpoint))
        return pages.ask(
            self, request, title=title, form=form, submit=title, row=endpoint, lines=lines, is_grave=not is_enabled
        )

    def _show_secret(self, request: HttpRequest, endpoint: WebhookEndpoint) -> HttpResponse:
        lines = [
            _("This is the only time that the secret is shown. The receiver verifies messages with it."),
            _("Messages are signed as the Standard Webhooks specification says."),
        ]
        return pages.show_secret(
            self, request, title=_("Signing secret"), row=endpoint, secret=endpoint.secret, lines=lines
        )


def _confirm(
    model_admin: Any,
    request: HttpRequest,
    row: Any,
    title: Any,
    lines: list[Any],
    work: Callable[[], object],
    done: Any,
) -> HttpResponse:
    """Ask, then do it."""
    problems = []
    if request.method == "POST":
        try:
            work()
        except webhooks.EndpointDisabled:
            problems = [_("The endpoint is disabled. Enable it first.")]
        else:
            messages.success(request, done)
            return HttpResponseRedirect(pages.page_of(row))
    form = pages.QuestionForm()
    return pages.ask(
        model_admin, request, title=title, form=form, submit=title, row=row, lines=lines, problems=problems
    )


class AttemptInline(ReadOnlyInline):
    model = WebhookAttempt
    fields = ("attempted_at", "status", "duration_ms", "error", "answer")
    tab = False


class DeliveryStateFilter(admin.SimpleListFilter):
    """Offers where a delivery stands."""

    title = _("state")
    parameter_name = "state"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("waiting", _("Waiting")),
            ("failing", _("Failing")),
            ("delivered", _("Delivered")),
            ("given_up", _("Given up")),
        ]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        states = {
            "waiting": Q(next_attempt_at__isnull=False),
            "failing": Q(next_attempt_at__isnull=False, attempts__gt=0),
            "delivered": Q(delivered_at__isnull=False),
            "given_up": Q(given_up_at__isnull=False),
        }
        return queryset.filter(states.get(self.value() or "", Q()))


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(StateColumn, ReadOnlyAdmin):
    list_display = ("shown_event", "endpoint", "state", "attempts", "next_attempt_at", "delivered_at")
    list_display_links = ("shown_event",)
    list_select_related = ("event", "endpoint")
    list_filter = (DeliveryStateFilter, "endpoint")
    search_fields = ("event__number",)
    search_help_text = _("Number of the event")
    ordering = ("-id",)
    fields = ("event", "endpoint", "shown_state", "attempts", "next_attempt_at", "delivered_at", "given_up_at")
    inlines = [AttemptInline]
    actions_detail = ("replay",)

    def search_condition(self, term: str) -> Q:
        return Q(event__in=Event.objects.filter(_numbered(term)))

    @admin.display(description=_("Event"))
    def shown_event(self, delivery: WebhookDelivery) -> str:
        return str(delivery.event)

    @display(
        description=_("State"),
        label={"delivered": "success", "waiting": "info", "failing": "warning", "given_up": "danger"},
    )  # type: ignore[untyped-decorator]
    def state(self, delivery: WebhookDelivery) -> tuple[str, str]:
        if delivery.delivered_at is not None:
            return "delivered", gettext("delivered")
        if delivery.given_up_at is not None:
            return "given_up", gettext("given up")
        return ("failing", gettext("failing")) if delivery.attempts else ("waiting", gettext("waiting"))

    @pages.button(_("Send again"), url_path="replay", permission=REPLAY, icon="replay")
    def replay(self, request: HttpRequest, object_id: str) -> HttpResponse:
        delivery = pages.find_row(self, request, object_id)
        lines = [_("The event is sent again, delivered before or not. Receivers know it by its id.")]
        return _confirm(
            self, request, delivery, _("Send again"), lines,
            lambda: webhooks.replay(delivery=delivery, by=_by(request), at=timezone.now()),
            _("The event is on its way."),
        )  # fmt: skip


def _numbered(term: str) -> Q:
    """Return what an event of that number satisfies. The programs let an index answer."""
    programs = list(Program.objects.values_list("id", flat=True))
    return Q(program_id__in=programs, number=int(term)) if term.isdecimal() and len(term) < 19 else Q(pk__in=[])


class EventTypeFilter(admin.SimpleListFilter):
    """Offers the types of events."""

    title = _("type")
    parameter_name = "type"

    def lookups(self, _request: HttpRequest, _model_admin: Any) -> list[tuple[str, str]]:
        return [(value, value) for value in EventType.values]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(type=self.value()) if self.value() else queryset


class EventDeliveryInline(ReadOnlyInline):
    model = WebhookDelivery
    fields = ("shown_endpoint", "attempts", "next_attempt_at", "delivered_at", "given_up_at")
    related = ("endpoint",)
    tab = False

    @admin.display(description=_("Endpoint"))
    def shown_endpoint(self, delivery: WebhookDelivery) -> SafeString:
        return link(delivery, delivery.endpoint)


@admin.register(Event)
class EventAdmin(ReadOnlyAdmin):
    list_display = ("number", "program", "type", "subject", "occurred_at", "recorded_at")
    list_select_related = ("program",)
    list_filter = ("program", EventTypeFilter)
    search_fields = ("number",)
    search_help_text = _("Number")
    ordering = ("-id",)
    fields = ("number", "program", "type", "subject", "public_id", "occurred_at", "recorded_at", "shown_data")
    inlines = [EventDeliveryInline]

    def search_condition(self, term: str) -> Q:
        return _numbered(term)

    @admin.display(description=_("Data"))
    def shown_data(self, event: Event) -> SafeString | str:
        return pretty(event.data)
