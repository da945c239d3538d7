"""Codes of a coupon: batches of random ones, and ones that people choose."""

from typing import Annotated, Any, Literal

from django.http import HttpResponseBase, StreamingHttpResponse
from pydantic import AfterValidator, Field, StrictBool, StrictInt
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.openapi import IDEMPOTENCY_KEY, OPTIONAL_IDEMPOTENCY_KEY, operation
from core.api.types import Answer, Body, Instant, Outcome
from core.api.views import ApiView, idempotent
from core.models import Scope
from coupons.api.problems import unknown_batch, unknown_coupon
from coupons.codes import LONGEST, LONGEST_PREFIX, check_prefix, check_text
from coupons.models import CodeBatch, CouponDefinition
from coupons.services import code_batches

# What is written like this is taken for certain.
_CHOSEN: dict[str, Any] = {"maxLength": LONGEST, "pattern": "^[0-9A-Za-z]{3}[0-9A-Za-z]*([-_ ][0-9A-Za-z]+)*$"}
_PREFIX: dict[str, Any] = {"maxLength": LONGEST_PREFIX, "pattern": "^[0-9A-TV-Za-tv-z]*$"}


class CodeBatchBody(Body):
    """How many codes are wanted, and what each begins with."""

    count: Annotated[StrictInt, Field(ge=1, le=code_batches.MOST_CODES)]
    prefix: Annotated[str, AfterValidator(check_prefix), Field(json_schema_extra=_PREFIX)] = ""


class CodeBatchQuery(Body):
    """How the batch is read."""

    format: Literal["json", "csv"] = Field("json", description="`csv`: the codes made so far, as text/csv")


class CodeBatchAnswer(Answer):
    """A batch of codes and how far it is."""

    batch: int
    coupon: str
    prefix: str
    state: Literal["being_made", "finished", "stopped"]
    requested: int
    made: int
    requested_at: Instant
    finished_at: Instant | None
    stopped_at: Instant | None


class CodeBody(Body):
    """A code that people chose, kept as it is spelled. Shared: for all who type it; else for the first one.

    It has 3 to 40 letters from A to Z and digits; one hyphen, underscore or blank may stand between two of them.
    """

    code: Annotated[str, AfterValidator(check_text), Field(json_schema_extra=_CHOSEN)]
    is_shared: StrictBool = True


class CodeAnswer(Answer):
    """The code as it is shown: in the spelling in which it was first made."""

    outcome: Outcome
    code: str
    coupon: str
    is_shared: bool


class CouponView(ApiView):
    """A view of one coupon, `<slug:coupon>` in its address."""

    def find_coupon(self, code: str) -> CouponDefinition:
        """Return the coupon of the address.

        Raises: Problem 404.
        """
        found = CouponDefinition.objects.filter(program=self.program, code=code).select_related("program").first()
        if found is None:
            raise unknown_coupon()
        return found

    def find_batch(self, code: str, number: int) -> CodeBatch:
        """Return the batch of the address.

        Raises: Problem 404.
        """
        coupon = self.find_coupon(code)
        found = CodeBatch.objects.filter(definition=coupon, pk=number).select_related("definition__program").first()
        if found is None:
            raise unknown_batch()
        return found


class CodesView(CouponView):
    scopes = {"POST": Scope.COUPONS_ISSUE}

    @operation(
        summary="Make a code that people chose",
        description="The code names itself: made again for the same coupon it is `repeated`.",
        body=CodeBody,
        answers={201: CodeAnswer, 200: CodeAnswer},
        parameters=[OPTIONAL_IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=False)
    def post(self, _request: Request, coupon: str) -> Response:
        definition, body = self.find_coupon(coupon), self.read(CodeBody)
        made = code_batches.create_code(
            program=self.program,
            definition=definition,
            text=body.code,
            is_shared=body.is_shared,
            actor=self.actor,
            at=self.at,
        )
        is_new = made.is_new  # type: ignore[attr-defined]
        told = {"code": made.shown, "coupon": definition.code, "is_shared": made.is_shared}
        return Response({"outcome": "recorded" if is_new else "repeated"} | told, 201 if is_new else 200)


class CodeBatchesView(CouponView):
    scopes = {"POST": Scope.COUPONS_ISSUE}

    @operation(
        summary="Ask for random codes",
        description="A worker makes them, a million in seconds; read the batch to see how far it is. Each code can be "
        "claimed once. O is read as 0, I and L as 1; small letters, blanks and hyphens do not matter; the last symbol "
        "checks the others.",
        body=CodeBatchBody,
        answers={201: CodeBatchAnswer},
        parameters=[IDEMPOTENCY_KEY],
    )
    @idempotent(is_required=True)
    def post(self, _request: Request, coupon: str) -> Response:
        definition, body = self.find_coupon(coupon), self.read(CodeBatchBody)
        batch = code_batches.request_batch(
            program=self.program,
            definition=definition,
            count=body.count,
            prefix=body.prefix,
            requested_by=self.actor,
            at=self.at,
        )
        return Response(show_batch(batch), 201)


class CodeBatchView(CouponView):
    scopes = {"GET": Scope.COUPONS_ISSUE}

    @operation(summary="Read a batch of codes", query=CodeBatchQuery, answers={200: CodeBatchAnswer}, has_csv=True)
    def get(self, _request: Request, coupon: str, batch: int) -> HttpResponseBase:
        query, found = self.read_query(CodeBatchQuery), self.find_batch(coupon, batch)
        if query.format == "json":
            return Response(show_batch(found))
        name = f"{coupon}-{found.pk}.csv"
        return StreamingHttpResponse(
            code_batches.iter_csv(batch=found),
            content_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )


class StopView(CouponView):
    scopes = {"POST": Scope.COUPONS_ISSUE}

    @operation(
        summary="Stop making the codes of a batch",
        description="Those that have been made stay.",
        answers={200: CodeBatchAnswer},
    )
    def post(self, _request: Request, coupon: str, batch: int) -> Response:
        stopped = code_batches.stop_batch(batch=self.find_batch(coupon, batch), actor=self.actor, at=self.at)
        return Response(show_batch(stopped))


def show_batch(batch: CodeBatch) -> dict[str, Any]:
    """Return a batch as the API shows it."""
    is_finished, is_stopped = batch.finished_at is not None, batch.stopped_at is not None
    return {
        "batch": batch.pk,
        "coupon": batch.definition.code,
        "prefix": batch.prefix,
        "state": "finished" if is_finished else "stopped" if is_stopped else "being_made",
        "requested": batch.requested,
        "made": batch.made,
        "requested_at": batch.requested_at,
        "finished_at": batch.finished_at,
        "stopped_at": batch.stopped_at,
    }
