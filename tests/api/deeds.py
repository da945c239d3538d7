"""URLs to try the ground of the API on: POST /api/v1/deeds leaves an entry in the audit trail, GET lists them.

`POST deeds/unguarded` does the same without a lease. `during` holds what the next deeds do while they are under way.
"""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import include, path
from django_filters import CharFilter, FilterSet, IsoDateTimeFilter
from rest_framework.request import Request
from rest_framework.response import Response

from config.urls import handler400, handler403, handler404, handler500  # noqa: F401 Django finds them here
from core.api.openapi import IDEMPOTENCY_KEY, operation
from core.api.pages import PageOf
from core.api.problems import Problem
from core.api.types import Answer, Body, DryRun, ExternalId
from core.api.views import ApiView, idempotent
from core.models import AuditEntry, Scope
from core.services import audit

during: list[Callable[[], None]] = []


class DeedBody(Body):
    what: ExternalId
    is_refused: bool = False


class DeedAnswer(Answer):
    what: str
    number: int


class UnguardedView(ApiView):
    scopes = {"POST": Scope.POINTS_REDEEM}
    is_open_to_members = True

    @operation(
        summary="Do something", body=DeedBody, query=DryRun, answers={201: DeedAnswer}, parameters=[IDEMPOTENCY_KEY]
    )
    def post(self, _request: Request) -> Response:
        body, query = self.read(DeedBody), self.read_query(DryRun)
        with self.writing(dry_run=query.dry_run):
            entry = audit.record(
                action="deed", target=body.what, actor=self.caller.name, at=self.at, program=self.program
            )
            for do in during:
                do()
            if body.is_refused:
                raise Problem(422, "deed_refused", "Not today.")
        return Response({"what": body.what, "number": entry.pk}, 201)


class DeedPage(PageOf):
    results: list[DeedAnswer]


class DeedFilter(FilterSet):  # type: ignore[misc]
    what = CharFilter("target")
    after = IsoDateTimeFilter("recorded_at", "gt")


class DeedView(UnguardedView):
    scopes = UnguardedView.scopes | {"GET": Scope.POINTS_READ}
    filterset_class = DeedFilter

    @operation(summary="List deeds", answers={200: DeedPage})
    def get(self, _request: Request) -> Response:
        entries = AuditEntry.objects.filter(action="deed", program=self.program).order_by("id")
        return self.pages(entries, lambda entry: {"what": entry.target, "number": entry.pk})

    post = idempotent(is_required=True)(UnguardedView.post)  # type: ignore[assignment]


def fail_outside(_request: HttpRequest) -> HttpResponse:
    """Fail where no view of the API catches it."""
    raise RuntimeError("secret-in-the-traceback")


def count_deeds() -> int:
    return AuditEntry.objects.filter(action="deed").count()


urlpatterns = [
    path("api/v1/deeds", DeedView.as_view()),
    path("api/v1/deeds/unguarded", UnguardedView.as_view()),
    path("api/v1/failing", fail_outside),
    path("", include("config.urls")),
]
