"""Activities: what members do that is not a purchase."""

from typing import Annotated

import django_filters
from pydantic import Field, WrapValidator
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.batches import MAX_ITEMS, BatchAnswer, keep_mistakes
from core.api.filters import InstantFilter, TextFilter
from core.api.openapi import OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.types import Body, DryRun
from core.api.views import idempotent
from membership.fact_checks import check_activity
from membership.fact_inputs import ActivityInput
from membership.field_checks import frame_of
from membership.models import Activity
from storefront.api.answers import ActivityPage, ActivityRecorded, show_activity
from storefront.api.batches import Batch, Key, tell
from storefront.api.bodies import ActivityBody
from storefront.api.facts import FactView
from storefront.effects import Traces, find_effect
from storefront.services import intake


class ActivityBatchBody(Body):
    """Activities to record; each is taken or refused by itself."""

    activities: Annotated[
        list[Annotated[ActivityBody, WrapValidator(keep_mistakes)]], Field(min_length=1, max_length=MAX_ITEMS)
    ]


class ActivityFilter(django_filters.FilterSet):  # type: ignore[misc]
    member = TextFilter(field_name="member__external_id")
    kind = TextFilter()
    source = TextFilter()
    occurred_from = InstantFilter(field_name="occurred_at", lookup_expr="gte")
    occurred_before = InstantFilter(field_name="occurred_at", lookup_expr="lt")


class ActivitiesView(FactView):
    filterset_class = ActivityFilter
    queryset = Activity.objects.all()

    @operation(summary="List activities, the last recorded first", answers={200: ActivityPage})
    def get(self, _request: Request) -> Response:
        activities = Activity.objects.filter(member__program=self.program).select_related("member").order_by("-id")
        return self.pages(activities, show_activity)

    @operation(
        summary="Record an activity",
        description="Its key for ever is the member, the source and the external id.",
        body=ActivityBody,
        query=DryRun,
        answers={201: ActivityRecorded, 200: ActivityRecorded},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request) -> Response:
        query, told = self.read_query(DryRun), self.read(ActivityBody).told()
        with self.trying(dry_run=query.dry_run):
            recorded = intake.record(program=self.program, activities=[told], last=self.latest, at=self.at)
            activity = Activity.objects.select_related("member").get(
                member__program=self.program,
                member__external_id=told.member,
                source=told.source,
                external_id=told.external_id,
            )
            traces = Traces(
                member_id=activity.member_id,
                at=activity.occurred_at,
                activity_id=activity.pk,
            )
            content = {"activity": show_activity(activity), "effect": find_effect(self.program, traces)}
        return self.answer(content, is_new=bool(recorded.activity_ids), dry_run=query.dry_run)


class ActivityBatchView(FactView):
    @operation(
        summary="Record up to 1,000 activities",
        description="Each is recorded, repeated or refused by itself; pointers are within the item.",
        body=ActivityBatchBody,
        query=DryRun,
        answers={200: BatchAnswer},
    )
    def post(self, _request: Request) -> Response:
        query, body = self.read_query(DryRun), self.read(ActivityBatchBody)
        batch = Batch(frame_of(self.program, last=self.latest), check_activity, self._record)
        with self.trying(dry_run=query.dry_run):
            return Response({"results": batch.take(tell(body.activities))})

    def _record(self, activities: list[ActivityInput]) -> set[Key]:
        recorded = intake.record(
            program=self.program, activities=activities, names_all=True, last=self.latest, at=self.at
        )
        new = Activity.objects.filter(pk__in=recorded.activity_ids)
        return set(new.values_list("member__external_id", "source", "external_id"))
