"""What the set-based statements must leave to the kernel, or do as it does."""

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import pytest

from core.models import OutboxEvent, Program
from points.models import Account, LedgerNote, LedgerTransaction, TransactionKind, Wallet
from points.postings import Posting
from points.services import posting as posting_service
from points.services.posting import IdempotencyKeyReused, Settled, post, post_batch, settle
from points.services.verify import verify
from tests.points.ledgers import DAY, START, earning


def bulk(program: Program, postings: list[Posting]) -> None:
    with patch.object(posting_service, "BULK_FROM", 1):
        post_batch(program_id=program.pk, postings=postings, at=START)


def test_a_key_that_comes_twice_in_a_batch_posts_once(
    program: Program, wallet: Wallet, new_member: Callable[[], int]
) -> None:
    member = new_member()
    one = earning(member, wallet.pk, 1, [10], START)
    bulk(program, [one, one, earning(member, wallet.pk, 2, [5], START)])
    assert Account.objects.get(member_id=member).available == 15
    assert list(verify(program=program)) == []


def test_a_key_that_comes_twice_in_a_batch_with_other_content_is_refused(
    program: Program, wallet: Wallet, new_member: Callable[[], int]
) -> None:
    one = earning(new_member(), wallet.pk, 1, [10], START)
    other = replace(earning(one.member_id, wallet.pk, 2, [11], START), key=one.key)
    with pytest.raises(IdempotencyKeyReused):
        bulk(program, [one, other])
    assert not LedgerTransaction.objects.exists()


def test_an_earning_with_a_note_keeps_it(program: Program, wallet: Wallet, new_member: Callable[[], int]) -> None:
    bulk(program, [replace(earning(new_member(), wallet.pk, 1, [10], START), note={"campaign": "spring"})])
    assert [note.body for note in LedgerNote.objects.all()] == [{"campaign": "spring"}]
    assert list(verify(program=program)) == []


def test_settling_answers_how_many_lots_fell_due(
    program: Program, wallet: Wallet, new_member: Callable[[], int]
) -> None:
    member = new_member()
    postings = [
        earning(member, wallet.pk, 1, [10], START, expires_at=START + 2 * DAY),
        earning(member, wallet.pk, 2, [5], START, available_at=START + DAY, expires_at=START + 2 * DAY),
    ]
    post(program_id=program.pk, postings=postings, at=START)
    account = Account.objects.get(member_id=member)
    assert settle(account_ids=[account.pk], through=START + 2 * DAY, at=START) == Settled(vested=1, expired=2)
    kinds = LedgerTransaction.objects.order_by("pk").values_list("kind", flat=True)
    assert list(kinds)[2:] == [TransactionKind.VEST, TransactionKind.EXPIRE, TransactionKind.EXPIRE]
    told = OutboxEvent.objects.filter(topic="points.posted").latest("pk")
    assert told.payload == {
        "transactions": list(LedgerTransaction.objects.order_by("pk").values_list("pk", flat=True))[2:]
    }
