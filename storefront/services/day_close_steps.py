"""What each step of a day's close does: one call of a service below, with its counts told on the way."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime

from analytics.services import cells, months
from core.models import Program
from core.services import outbox
from membership.models import Evaluation, Ladder
from membership.services import overrides
from membership.services.tiers import apply_dirty, evaluate, list_due
from points.services import corrections, reminders
from points.services.expiry import settle_due
from points.services.posting import Settled

# Batches of accounts between two notes of the progress: a second or two of work.
BATCHES_PER_NOTE = 25
RECEIPTS_PER_NOTE = 500

Tell = Callable[[dict[str, int]], None]
Share = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Work:
    """What a step is told: the program, the end of the day, the instant of recording, whom to tell its counts.

    `share` asks other workers for help with an evaluation.
    """

    program: Program
    through: datetime
    at: datetime
    tell: Tell
    share: Share | None


def apply_late_facts(work: Work) -> dict[str, int]:
    """Work out again the tiers of members with facts that came late."""
    counts = {"rows_changed": 0}
    for ladder in _ladders(work):
        before = counts["rows_changed"]

        def note(changed: int, before: int = before) -> None:
            work.tell({"rows_changed": before + changed})

        counts["rows_changed"] += apply_dirty(ladder=ladder, at=work.at, on_progress=note)
    return counts


def settle_points(work: Work) -> dict[str, int]:
    """Vest and expire what is due. An account's vests and expiries are posted together, in the order of their instants.

    At one instant a vest comes before an expiry.
    """
    batches = 0

    def note(settled: Settled) -> None:
        nonlocal batches
        batches += 1
        if batches % BATCHES_PER_NOTE == 0:
            work.tell(settled._asdict())

    return settle_due(program=work.program, through=work.through, at=work.at, on_progress=note)._asdict()


def evaluate_tiers(work: Work) -> dict[str, int]:
    """Run every evaluation that is due by the end of the day, in the order of their instants.

    Then, and before each of them, upgrades are reviewed whose orders came back.
    """
    counts = {"evaluations": 0, "upgraded": 0, "downgraded": 0, "rows_reviewed": 0}
    due = [(instant, ladder.pk) for ladder in _ladders(work) for instant in list_due(ladder=ladder, until=work.through)]
    for instant, ladder_id in sorted(due):
        ladder = Ladder.objects.select_related("program").get(pk=ladder_id)
        evaluation = evaluate(
            ladder=ladder, instant=instant, at=work.at, progress=lambda _done, _all: work.tell(counts), share=work.share
        )
        counts["evaluations"] += 1
        for name, moved in _moved(evaluation).items():
            counts[name] += moved
        work.tell(counts)
    for ladder in _ladders(work):
        counts["rows_reviewed"] += apply_dirty(ladder=ladder, through=work.through, at=work.at)
        work.tell(counts)
    return counts


def _moved(evaluation: Evaluation) -> dict[str, int]:
    chunks = list(evaluation.chunks.values_list("upgraded", "downgraded"))
    return {"upgraded": sum(up for up, _ in chunks), "downgraded": sum(down for _, down in chunks)}


def open_periods(work: Work) -> dict[str, int]:
    """Open the periods that follow overrides which ended since the late facts were applied.

    The others are open: an evaluation writes the period that begins with it.
    """
    return {"rows_changed": sum(overrides.end_overrides(ladder=ladder, at=work.at) for ladder in _ladders(work))}


def correct_points(work: Work) -> dict[str, int]:
    """Look again at what was earned where facts that came late have changed what is known of the past."""
    done = corrections.correct(
        program=work.program, through=work.through, at=work.at, on_progress=lambda done: work.tell(asdict(done))
    )
    return asdict(done)


def recompute_months(work: Work) -> dict[str, int]:
    """Deliver the news that mark months, those of this close included, recompute what they mark, then the cells."""
    delivered = 0
    while True:
        dispatched = outbox.dispatch(at=work.at, wait=True)
        done, failed = outbox.deliver(at=work.at, limit=RECEIPTS_PER_NOTE, wait=True)
        delivered += done
        work.tell({"events": delivered})
        if not dispatched + done + failed:
            break
    written = months.refresh(
        program=work.program,
        through=work.through,
        on_progress=lambda rows: work.tell({"events": delivered, "rows_written": rows}),
    )
    changed = cells.refresh(program=work.program, through=work.through, at=work.at)
    return {"events": delivered, "rows_written": written, "cells_changed": changed}


def remind_members(work: Work) -> dict[str, int]:
    """Remind of points that expire soon."""
    return {"reminders": reminders.remind(program=work.program, through=work.through, at=work.at)}


def _ladders(work: Work) -> list[Ladder]:
    return list(Ladder.objects.filter(program=work.program).select_related("program").order_by("pk"))
