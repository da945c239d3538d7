"""Prove the ledger: rebuild every balance, lot and hash from the append-only rows and compare."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection

from core.models import Program
from points.models import SEQ_BITS, LedgerNote, LedgerTransaction
from points.selectors import iter_account_ids
from points.services.posting import note_digest

# Accounts per statement: bounds the memory of the sorted bytes.
ACCOUNTS_PER_RANGE = 2_000


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong in an account; `seq` is the ledger row at which it shows, where there is one."""

    account_id: int
    seq: int | None
    problem: str
    detail: str

    @property
    def breaks_chain(self) -> bool:
        """Whether history itself was changed, not a projection of it."""
        return self.problem in {"chain", "missing", "head", "note"}


def verify(*, program: Program) -> Iterator[Finding]:
    """Yield every finding, account range by account range. Reads only."""
    for ids in iter_account_ids(program_id=program.pk, size=ACCOUNTS_PER_RANGE):
        mine = set(ids)
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM points_verify(%s, %s) ORDER BY 1, 2 NULLS LAST, 3", [ids[0], ids[-1]])
            findings = [Finding(*row) for row in cursor.fetchall()]
        for finding in [*findings, *_note_findings(ids[0], ids[-1])]:
            if finding.account_id in mine:
                yield finding


def _note_findings(first_account_id: int, last_account_id: int) -> Iterator[Finding]:
    """Check the notes that are still there; an erased one is sound.

    Notes are read first: one that is posted meanwhile is not yet among them.
    """
    ids = range(first_account_id << SEQ_BITS, (last_account_id + 1) << SEQ_BITS)
    notes = list(LedgerNote.objects.filter(pk__gte=ids.start, pk__lt=ids.stop).order_by("pk"))
    noted = LedgerTransaction.objects.filter(pk__gte=ids.start, pk__lt=ids.stop, note_digest__isnull=False)
    digests = dict(noted.values_list("pk", "note_digest")) if notes else {}
    for note in notes:
        known = digests.get(note.pk)
        if known is None or bytes(known) != note_digest(bytes(note.salt), note.body):
            yield Finding(note.pk >> SEQ_BITS, note.pk % (1 << SEQ_BITS), "note", "it is not the note that was posted")
