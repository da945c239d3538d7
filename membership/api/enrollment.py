"""Members: enroll one or a thousand, and find them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, cast

import django_filters
from django.db.models import OuterRef, QuerySet, Subquery
from pydantic import Field, WrapValidator
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.batches import MAX_ITEMS, BatchAnswer, ItemOutcome, Refused, keep_mistakes, show_result
from core.api.filters import InstantFilter, TextFilter
from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.pages import PageOf
from core.api.problems import FieldError, Problem, pointer, translate
from core.api.types import Answer, Body, Day, DryRun, Instant, Outcome, OwnId
from core.api.views import ApiView, idempotent
from core.models import Scope
from membership.api.members import Consents, Country, Locale, MemberAnswer, show_member
from membership.fact_checks import check_member
from membership.fact_inputs import BadFact, MemberInput
from membership.field_checks import member_frame
from membership.models import Member, MemberKind, MemberStatus, Tier, TierPeriod
from membership.services import members


class MemberBody(Body):
    """Someone to enroll, by the storefront's own id. They join at `joined_at`, or now."""

    external_id: OwnId
    kind: Literal["person", "household"] = "person"
    joined_at: Instant | None = None
    locale: Locale = ""
    country: Country = ""
    birthday: Day | None = None
    consents: Consents = {}


class MemberBatchBody(Body):
    """Members to enroll; each is taken or refused by itself."""

    members: Annotated[
        list[Annotated[MemberBody, WrapValidator(keep_mistakes)]], Field(min_length=1, max_length=MAX_ITEMS)
    ]


class MemberPage(PageOf):
    """Members, the last enrolled first."""

    results: list[MemberAnswer]


class MemberRecorded(Answer):
    """The member as they are now."""

    outcome: Outcome
    member: MemberAnswer


class MemberFilter(django_filters.FilterSet):  # type: ignore[misc]
    """`tier`: who holds it now, on the main ladder or on `ladder`."""

    external_id = TextFilter()
    joined_from = InstantFilter(field_name="joined_at", lookup_expr="gte")
    joined_before = InstantFilter(field_name="joined_at", lookup_expr="lt")
    kind = django_filters.ChoiceFilter(choices=MemberKind.choices)
    status = django_filters.ChoiceFilter(choices=MemberStatus.choices)
    country = TextFilter()
    ladder = TextFilter(method="on_ladder")
    tier = TextFilter(method="in_tier")

    def on_ladder(self, rows: QuerySet[Member], _name: str, _value: str) -> QuerySet[Member]:
        """Leave the rows to the tier.

        Raises: Problem 400 without one.
        """
        if not self.form.cleaned_data["tier"]:
            raise Problem(400, "invalid_parameter", "ladder goes with tier.")
        return rows

    def in_tier(self, rows: QuerySet[Member], _name: str, value: str) -> QuerySet[Member]:
        """Return the rows of those who hold a tier now.

        Raises: Problem 400 for one that there is not.
        """
        view = self.request.parser_context["view"]
        tiers = Tier.objects.filter(ladder__program=view.program, code=value).order_by("ladder")
        if self.form.cleaned_data["ladder"]:
            tiers = tiers.filter(ladder__code=self.form.cleaned_data["ladder"])
        tier = tiers.first()
        if tier is None:
            raise Problem(400, "unknown_tier", "There is no such tier.")
        periods = TierPeriod.objects.filter(
            member_id=OuterRef("pk"), ladder_id=tier.ladder_id, superseded_at=None, valid_from__lte=view.at
        )
        return rows.alias(held=Subquery(periods.order_by("-valid_from").values("tier")[:1])).filter(held=tier.pk)


class MembersView(ApiView):
    scopes = {"GET": Scope.MEMBERS_READ, "POST": Scope.MEMBERS_WRITE}
    filterset_class = MemberFilter
    queryset = Member.objects.all()

    @operation(summary="List members, the last enrolled first", answers={200: MemberPage})
    def get(self, _request: Request) -> Response:
        return self.pages(Member.objects.filter(program=self.program).order_by("-id"), show_member)

    @operation(
        summary="Enroll a member",
        description="The external id is the key for ever: sent again, it changes nothing and is `repeated`. What is "
        "told otherwise than it is known now is refused: PATCH changes it.",
        body=MemberBody,
        query=DryRun,
        answers={201: MemberRecorded, 200: MemberRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        query, told = self.read_query(DryRun), self.read(MemberBody)
        with self.writing(dry_run=query.dry_run):
            enrolled = _enroll(self, [told])
            member = Member.objects.get(program=self.program, external_id=told.external_id)
            conflict = _find_conflict(told, member)
            if conflict is not None:
                raise conflict
        is_new = bool(enrolled.new_ids)
        content = {"outcome": "recorded" if is_new else "repeated", "member": show_member(member)}
        return Response(content, 201 if is_new and not query.dry_run else 200)


class MemberBatchView(ApiView):
    scopes = {"POST": Scope.MEMBERS_WRITE}

    @operation(
        summary="Enroll up to 1,000 members",
        description="Each is recorded, repeated or refused by itself; pointers are within the item.",
        body=MemberBatchBody,
        query=DryRun,
        answers={200: BatchAnswer},
    )
    def post(self, _request: Request) -> Response:
        query, body = self.read_query(DryRun), self.read(MemberBatchBody)
        items = _refuse_unsound(self, body.members)
        sound = [item for item in items if isinstance(item, MemberBody)]
        with self.writing(dry_run=query.dry_run):
            enrolled = _enroll(self, sound)
            known = {member.external_id: member for member in Member.objects.filter(pk__in=enrolled.ids.values())}
        new = set(enrolled.new_ids)
        fresh = {name for name, member_id in enrolled.ids.items() if member_id in new}
        return Response({"results": [_result(item, known, fresh) for item in items]})


def _told(view: ApiView, body: MemberBody) -> MemberInput:
    return MemberInput(**{**body.model_dump(), "joined_at": body.joined_at or view.at})


def _enroll(view: ApiView, bodies: list[MemberBody]) -> members.EnrolledMembers:
    told = [_told(view, body) for body in bodies]
    return members.enroll_members(program=view.program, members=told, at=view.at, last=view.latest)


def _refuse_unsound(view: ApiView, items: Sequence[MemberBody | Refused]) -> list[MemberBody | Refused]:
    """Return the items with those that cannot be taken in as refused."""
    frame = member_frame(view.program, last=view.latest)
    unsound: dict[int, BadFact] = {}
    objections: dict[int, BadFact] = {}
    for index, item in enumerate(items):
        if isinstance(item, MemberBody):
            try:
                objection = check_member(_told(view, item), frame)
            except BadFact as error:
                unsound[index] = error
            else:
                objections |= {index: objection} if objection else {}
    named = {error.external_id for error in objections.values()}
    known = Member.objects.filter(program=view.program, external_id__in=named) if named else ()
    known_names = {member.external_id for member in known}
    unsound |= {index: error for index, error in objections.items() if error.external_id not in known_names}
    return [_refuse(unsound[index]) if index in unsound else item for index, item in enumerate(items)]


def _refuse(error: BadFact) -> Refused:
    return Refused(error.external_id, cast(Problem, translate(error)))


def _find_conflict(told: MemberBody, member: Member) -> Problem | None:
    """Return the refusal of what is told otherwise than it is known; None if nothing is, or the member was erased."""
    names = told.model_fields_set - ({"joined_at"} if told.joined_at is None else set())
    errors = [
        FieldError(pointer=pointer([name]), code="differs", detail="differs from what is known")
        for name in MemberBody.model_fields
        if name in names and getattr(told, name) != getattr(member, name)
    ]
    if not errors or member.status == MemberStatus.ERASED:
        return None
    detail = f"The member {told.external_id} is enrolled with other content, see errors; PATCH changes a member."
    return Problem(409, "fact_conflict", detail, errors=errors)


def _result(item: MemberBody | Refused, known: Mapping[str, Member], fresh: set[str]) -> dict[str, Any]:
    """Return what became of an item; the first one of a new member is recorded, any later one repeated."""
    if isinstance(item, Refused):
        return show_result(item.external_id, "refused", item.problem)
    if conflict := _find_conflict(item, known[item.external_id]):
        return show_result(item.external_id, "refused", conflict)
    outcome: ItemOutcome = "recorded" if item.external_id in fresh else "repeated"
    fresh.discard(item.external_id)
    return show_result(item.external_id, outcome)
