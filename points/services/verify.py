"""Prove the ledger: rebuild every balance, lot and hash from the append-only rows and compare."""

from collections.abc import Iterator
from dataclasses import dataclass

from django.db import connection
from django.db.models import Max

from core.models import Program
from points.models import SEQ_BITS, Account, LedgerNote, LedgerTransaction
from points.postings import note_digest

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
    """Yield every finding, account range by account range. Reads only.

    Ranges are of ids, whoever owns them: a program whose accounts lie far apart needs no larger statement, and rows
    whose account is gone are looked at too. Nobody can say whose they are, so every program that comes by reports them.
    """
    for first in range(1, _last_account_id() + 1, ACCOUNTS_PER_RANGE):
        last = first + ACCOUNTS_PER_RANGE - 1
        owners = dict(Account.objects.filter(pk__range=(first, last)).values_list("pk", "wallet__program_id"))
        if owners and program.pk not in owners.values():
            continue
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM points_verify(%s, %s) ORDER BY 1, 2 NULLS LAST, 3", [first, last])
            findings = [Finding(*row) for row in cursor.fetchall()]
        for finding in [*findings, *_note_findings(first, last)]:
            if owners.get(finding.account_id, program.pk) == program.pk:
                yield finding


def _last_account_id() -> int:
    account = Account.objects.aggregate(last=Max("pk"))["last"] or 0
    row = LedgerTransaction.objects.aggregate(last=Max("pk"))["last"] or 0
    return max(account, row >> SEQ_BITS)


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
