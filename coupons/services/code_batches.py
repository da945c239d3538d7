"""Batches of random codes: asked for once, made chunk by chunk, stopped, read as CSV; and codes that people choose."""

import io
import logging
import secrets
from collections.abc import Iterator
from datetime import datetime, timedelta

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Q, QuerySet
from django.db.models.functions import Now

from core.models import Program
from core.services import audit
from core.services.drafts import find_published
from core.typed_codes import BadCode, key
from coupons.codes import Random, check_prefix, check_text, draw, symbols_for
from coupons.models import CodeBatch, CouponCode, CouponDefinition

logger = logging.getLogger(__name__)

MOST_CODES = 10_000_000
# About a second of work: what a killed worker loses, and how often progress is seen.
CHUNK = 200_000
# A worker that has not finished a chunk in this time has died.
LEASE = timedelta(seconds=60)
# A chunk meets a live code once in 2^35 / CHUNK; more than that is no accident.
DRAWS = 5
CSV_ROWS = 20_000

_COPY = "COPY coupons_couponcode (program_id, text, spelling, definition_id, batch_id, is_shared, made_at) FROM STDIN"


class BadBatch(Exception):
    """A batch that makes no sense: `field` and the reason."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field, self.reason = field, reason


class BatchEnded(Exception):
    """The batch has been made or stopped."""


class CodeTaken(Exception):
    """The text is another code's."""


class IssuedAlone(Exception):
    """The coupon is given to members one by one: by a shared code everybody could take it."""


@transaction.atomic
def request_batch(
    *, program: Program, definition: CouponDefinition, count: int, prefix: str = "", requested_by: str, at: datetime
) -> CodeBatch:
    """Write down that so many codes are wanted; a worker makes them.

    Raises: BadBatch.
    """
    if not 1 <= count <= MOST_CODES:
        raise BadBatch("count", f"from 1 to {MOST_CODES:,}")
    try:
        start = check_prefix(prefix)
    except BadCode as error:
        raise BadBatch("prefix", str(error)) from error
    live = CouponCode.objects.filter(program=program).count() + count
    batch = CodeBatch.objects.create(
        definition=definition,
        prefix=start,
        symbols=symbols_for(live),
        requested=count,
        requested_by=requested_by,
        requested_at=at,
    )
    after = {"count": count, "prefix": start}
    _record("coupon.codes_requested", definition, requested_by, after, at)
    return batch


def make_codes(*, batch_id: int, at: datetime, random: Random = secrets.token_bytes, chunk: int = CHUNK) -> int:
    """Make what is left of a batch, unless another worker is at it; answer how many codes this call made.

    Each chunk and the progress it makes are one transaction: a worker that is killed loses one chunk, and the next
    goes on behind the last. A chunk with a text that is taken is drawn again.

    Locks: the batch's row while a chunk is written.
    """
    free = _open_batches().filter(Q(leased_until=None) | Q(leased_until__lte=Now()), pk=batch_id)
    if not free.update(leased_until=Now() + LEASE):
        return 0
    made = 0
    while (batch := _open_batches().filter(pk=batch_id).select_related("definition").first()) is not None:
        count = min(chunk, batch.requested - batch.made)
        if not _make_chunk(batch, count, at=at, random=random):
            break
        made += count
    return made


@transaction.atomic
def stop_batch(*, batch: CodeBatch, actor: str, at: datetime) -> CodeBatch:
    """Let no more codes of a batch be made; those that are there stay.

    Raises: BatchEnded if all are there.
    Locks: the batch's row: a chunk under way is waited for.
    Idempotency: stopped again, nothing changes.
    """
    if _open_batches().filter(pk=batch.pk).update(stopped_at=at, leased_until=None):
        _record("coupon.codes_stopped", batch.definition, actor, {"batch": batch.pk}, at)
    batch.refresh_from_db()
    if batch.finished_at is not None:
        raise BatchEnded
    return batch


def list_waiting() -> list[int]:
    """Return the batches that wait for a worker: new ones, and those whose worker has died."""
    waiting = _open_batches().filter(Q(leased_until=None) | Q(leased_until__lte=Now()))
    return list(waiting.order_by("pk").values_list("pk", flat=True))


def iter_csv(*, batch: CodeBatch) -> Iterator[str]:
    """Yield the codes of a batch as CSV, a header first, in the order in which they were made."""
    yield "code\r\n"
    last = 0
    while True:
        rows = CouponCode.objects.filter(batch=batch, pk__gt=last).order_by("pk")
        found = list(rows.values_list("pk", "text", "spelling")[:CSV_ROWS])
        if not found:
            return
        last = found[-1][0]
        yield "".join(f"{spelling or text}\r\n" for _, text, spelling in found)


@transaction.atomic
def create_code(
    *,
    program: Program,
    definition: CouponDefinition,
    text: str,
    actor: str,
    at: datetime,
    is_shared: bool = True,
) -> CouponCode:
    """Make a code that people chose, such as `SUMMER10`: for all who type it, or for the first one.

    `is_new`: this call made it.

    Raises: BadCode; IssuedAlone for a shared code; CodeTaken.
    Idempotency: what is compared of the text; made again for the same coupon, it is the same code as it was spelled.
    """
    spelling = check_text(text)
    if is_shared and _is_issued(definition):
        raise IssuedAlone
    wanted = key(spelling)
    code, is_new = CouponCode.objects.get_or_create(
        program=program,
        text=wanted,
        defaults={
            "spelling": "" if spelling == wanted else spelling,
            "definition": definition,
            "is_shared": is_shared,
            "made_at": at,
        },
    )
    if (code.definition_id, code.is_shared) != (definition.pk, is_shared):
        raise CodeTaken
    if is_new:
        _record("coupon.code_created", definition, actor, {"text": code.shown, "is_shared": is_shared}, at)
    code.is_new = is_new  # type: ignore[attr-defined]
    return code


@transaction.atomic
def disable_code(*, code: CouponCode, actor: str, at: datetime) -> None:
    """Let nobody claim by a code any more; claims that were made by it stay.

    Idempotency: disabled again, nothing changes.
    """
    if CouponCode.objects.filter(pk=code.pk, disabled_at=None).update(disabled_at=at):
        _record("coupon.code_disabled", code.definition, actor, {"text": code.shown}, at)


def _is_issued(definition: CouponDefinition) -> bool:
    """Tell whether a coupon is given to members one by one, by its published version or else by its latest."""
    version = find_published(definition) or definition.versions.order_by("-number").first()
    return version is not None and version.definition.get("how") == "issued"


def _open_batches() -> QuerySet[CodeBatch]:
    return CodeBatch.objects.filter(finished_at=None, stopped_at=None)


def _make_chunk(batch: CodeBatch, count: int, *, at: datetime, random: Random) -> bool:
    """Write a chunk and its progress; False if the batch has moved on without this worker, or was stopped."""
    for draws_left in reversed(range(DRAWS)):
        texts = draw(count, prefix=batch.prefix, symbols=batch.symbols, random=random)
        try:
            with transaction.atomic():
                is_last = batch.made + count == batch.requested
                ends = {"finished_at": at, "leased_until": None} if is_last else {"leased_until": Now() + LEASE}
                mine = _open_batches().filter(pk=batch.pk, made=batch.made)
                if not mine.update(made=F("made") + count, **ends):
                    return False
                _copy(batch, texts, at)
            return True
        except IntegrityError:
            if not draws_left:
                raise
            logger.warning("batch %s: a text was taken; the chunk is drawn again", batch.pk)
    raise AssertionError


def _copy(batch: CodeBatch, texts: list[str], at: datetime) -> None:
    start = key(batch.prefix)
    if start == batch.prefix:
        rows = [f"{text}\t" for text in texts]
    else:
        rows = [f"{text}\t{batch.prefix}{text[len(start) :]}" for text in texts]
    before = f"{batch.definition.program_id}\t"
    after = f"\t{batch.definition_id}\t{batch.pk}\tf\t{at.isoformat()}\n"
    with connection.cursor() as cursor, connection.wrap_database_errors:
        cursor.copy_expert(_COPY, io.StringIO(before + (after + before).join(rows) + after))


def _record(action: str, definition: CouponDefinition, actor: str, after: dict[str, object], at: datetime) -> None:
    audit.record(
        action=action, target=f"coupon {definition.code}", actor=actor, program=definition.program, after=after, at=at
    )
