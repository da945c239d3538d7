"""Definitions edited in the admin: a draft as YAML text, its difference from what is published, publishing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Model, Q
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget

from core.admin import pages
from core.admin.ground import ReadOnlyAdmin
from core.definitions import as_written
from core.models import Version
from core.sections import Kind
from core.services import drafts
from core.services.drafts import DraftRefused
from core.versions import VersionOverlap

DRAFT = "core.draft_version"
PUBLISH = "core.publish_version"


class SeenForm(pages.QuestionForm):
    """Carries which draft the operator saw."""

    seen = forms.CharField(required=False, widget=forms.HiddenInput)


class DefinitionForm(SeenForm):
    """The text of a draft."""

    text = forms.CharField(
        label=_("Definition"),
        strip=False,
        max_length=drafts.LONGEST_TEXT,
        widget=UnfoldAdminTextareaWidget(attrs={"class": "definition", "spellcheck": "false", "wrap": "off"}),
        help_text=_("YAML in the shape of program files. Amounts are text in the program's currency."),
    )


class PublishForm(SeenForm, pages.ReasonForm):
    """Why a draft is published."""


def explain_refusal(refusal: Exception) -> list[str]:
    """Return what is wrong with a draft, line by line."""
    if not isinstance(refusal, DraftRefused):
        return [str(refusal)]
    reasons = {
        "missing": gettext("There is no draft: it was published or discarded meanwhile."),
        "changed": gettext("Somebody else changed the draft meanwhile. Load the page again to see it."),
        "stale": gettext("Another version was published since this draft was made. Rebase the draft first."),
        "unchanged": gettext("The draft says what is published already."),
    }
    return refusal.problems or [reasons[refusal.code]]


class DraftAdmin(ReadOnlyAdmin):
    """A page of what is versioned, with the way from draft to published version."""

    kind: Kind
    search_fields = ("code",)
    search_help_text = _("Part of the code or of the name")
    actions_detail: tuple[str, ...] = ("new_draft", "edit_draft", "publish_draft")

    def audit_targets(self, row: Any) -> list[str]:
        return [self.kind.target(row)]

    def search_condition(self, term: str) -> Q:
        """Find by the code, or by a name that any version has: definitions are few."""
        named = self._versions().filter(definition__name__icontains=term)
        return Q(code__icontains=term) | Q(pk__in=named.values("owner_id"))

    def get_effects(self, _owner: Any, _at: datetime) -> list[Any]:
        """Return in sentences whom and what publishing affects, and from when."""
        raise NotImplementedError

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list[Any]:
        """Offer a new draft where there is none, else that draft."""
        found = super().get_actions_detail(request, object_id)
        has_draft = self._versions().filter(status="draft", owner_id=object_id).exists()
        hidden = ("_new_draft",) if has_draft else ("_edit_draft", "_publish_draft")
        return [action for action in found if not action.action_name.endswith(hidden)]

    def _versions(self) -> Any:
        model: Any = self.model._meta.get_field("versions").related_model
        return model._default_manager.all()

    @pages.button(_("New draft"), url_path="new-draft", permission=DRAFT, icon="edit_note")
    def new_draft(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.draft_page(request, object_id)

    @pages.button(_("Edit draft"), url_path="draft", permission=DRAFT, icon="edit_note")
    def edit_draft(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self.draft_page(request, object_id)

    @pages.button(
        _("Publish draft"), url_path="publish", permission=PUBLISH, icon="publish", variant=ActionVariant.PRIMARY
    )
    def publish_draft(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show what publishing would change and, once confirmed, publish."""
        owner, at = pages.find_row(self, request, object_id), timezone.now()
        draft = drafts.find_draft(owner)
        form = PublishForm(request.POST or None, initial={"seen": drafts.fingerprint(draft)})
        problems: list[str] = []
        if request.method == "POST" and form.is_valid():
            try:
                version = drafts.publish_draft(
                    kind=self.kind, owner=owner, at=at, user=pages.operator(request), **form.cleaned_data
                )
            except (DraftRefused, VersionOverlap) as refusal:
                problems = explain_refusal(refusal)
            else:
                text = gettext("Version %(number)s is published and in force.") % {"number": version.number}
                messages.success(request, text)
                return HttpResponseRedirect(pages.page_of(owner))
        if draft is None:
            return self._answer(request, owner, DraftRefused("missing"))
        return self._confirm(request, owner, draft, form, problems or self._hindrance(owner, draft), at)

    def _hindrance(self, owner: Any, draft: Version) -> list[str]:
        stale = drafts.is_stale(draft, drafts.find_latest(owner))
        return explain_refusal(DraftRefused("stale")) if stale else []

    def _confirm(
        self, request: HttpRequest, owner: Any, draft: Version, form: PublishForm, problems: list[str], at: datetime
    ) -> HttpResponse:
        return pages.ask(
            self,
            request,
            title=_("Publish draft"),
            form=form,
            submit=_("Publish"),
            row=owner,
            lines=self.get_effects(owner, at),
            problems=problems,
            changes=drafts.compare(self.kind, owner, draft.definition),
            changes_title=_difference_title(owner),
        )

    def _answer(self, request: HttpRequest, owner: Model, refusal: Exception) -> HttpResponse:
        """Go back to the owner's page and say why."""
        for problem in explain_refusal(refusal):
            messages.error(request, problem)
        return HttpResponseRedirect(pages.page_of(owner))

    def draft_page(self, request: HttpRequest, object_id: str) -> HttpResponse:
        """Show the editor; save, compare, rebase or discard, as the button says."""
        owner, at = pages.find_row(self, request, object_id), timezone.now()
        if request.method != "POST":
            draft = drafts.find_draft(owner)
            form = DefinitionForm(initial={"seen": drafts.fingerprint(draft), "text": self._text(request, owner)})
            return self._editor(request, owner, form)
        button, form = request.POST.get("do", ""), DefinitionForm(request.POST)
        doing: dict[str, Any] = {"kind": self.kind, "owner": owner, "at": at, "user": pages.operator(request)}
        try:
            if button == "rebase":
                drafts.rebase_draft(**doing)
                done = gettext("The draft now follows the published version. See below what it would change.")
            elif button == "discard":
                drafts.discard_draft(seen=request.POST.get("seen", ""), **doing)
                messages.success(request, gettext("The draft is discarded."))
                is_left = self.model._default_manager.filter(pk=owner.pk).exists()
                return HttpResponseRedirect(pages.page_of(owner) if is_left else pages.list_of(self.model))
            elif not form.is_valid():
                return self._editor(request, owner, form)
            elif button == "compare":
                definition = drafts.read_text(self.kind, owner, form.cleaned_data["text"])
                return self._editor(request, owner, form, as_written(definition, owner.program.currency))
            else:
                drafts.save_draft(seen=form.cleaned_data["seen"], text=form.cleaned_data["text"], **doing)
                done = gettext("The draft is saved. It is not in force until it is published.")
        except DraftRefused as refusal:
            return self._editor(request, owner, form, problems=explain_refusal(refusal))
        messages.success(request, done)
        return HttpResponseRedirect(f"{pages.page_of(owner).removesuffix('change/')}draft/")

    def _text(self, request: HttpRequest, owner: Any) -> str:
        """Return the text to begin with: the draft, the version asked for, or the published one."""
        number = request.GET.get("from", "")
        asked = owner.versions.filter(number=number).exclude(status="draft").first() if number.isdecimal() else None
        version = asked or drafts.find_draft(owner) or drafts.find_latest(owner)
        return drafts.as_text(self.kind, owner, version.definition) if version else ""

    def _editor(
        self,
        request: HttpRequest,
        owner: Any,
        form: DefinitionForm,
        definition: dict[str, Any] | None = None,
        problems: Sequence[str] = (),
    ) -> HttpResponse:
        draft = drafts.find_draft(owner)
        shown = definition or (draft.definition if draft and not problems else None)
        return pages.show(
            self,
            request,
            "core/draft.html",
            title=_("Draft"),
            row=owner,
            form=form,
            problems=problems,
            draft=draft,
            is_stale=draft is not None and drafts.is_stale(draft, drafts.find_latest(owner)),
            versions=owner.versions.exclude(status="draft").order_by("-number")[:20],
            changes=drafts.compare(self.kind, owner, shown) if shown else None,
            changes_title=_difference_title(owner),
            may_publish=pages.operator(request).has_perm(PUBLISH),
            publish_url=f"{pages.page_of(owner).removesuffix('change/')}publish/",
        )


def _difference_title(owner: Any) -> str:
    published = drafts.find_published(owner)
    if published is None:
        return gettext("Nothing is in force now; this would be")
    return gettext("Difference from version %(number)s, which is published") % {"number": published.number}
