"""What operators decide about points: undo, debt by choice, a second person above a limit, goodwill up to one."""

import json
import threading
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import Error, IntegrityError, connection, transaction
from django.urls import reverse

from core.models import AuditEntry, Program, Scope
from core.services import api_keys
from membership.fact_inputs import MemberInput
from membership.models import Member
from membership.services.members import enroll_members
from points.explain_orders import explain_order
from points.models import (
    AdjustmentRequest,
    LedgerTransaction,
    Lot,
    LotBalance,
    RequestState,
    SourceKind,
    TransactionKind,
    Wallet,
)
from points.order_stories import find_order, tell_order
from points.services import approvals, operations
from points.services.posting import IdempotencyKeyReused, InsufficientPoints, NotReversible, Posted
from points.services.verify import verify
from storefront.services import program_file
from tests.api.buyers import account_of
from tests.api.client import Api
from tests.storefront.operators import log_in, make_operator
from tests.storefront.shop import DAY, NOW, START, balance, definition, order, review, tell

LIMITS = {"approval_above": 100, "goodwill_per_day": 30, "expiry_days": 3_650}
AT = START + DAY


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


def open_shop(folder: Path) -> Program:
    path = folder / "limits.yaml"
    path.write_text(json.dumps(definition("limits", LIMITS)))
    program = program_file.apply(program_file.load(path), at=START - DAY, actor="test")
    enroll_members(program=program, members=[MemberInput(external_id="m0", joined_at=START - DAY)], at=START)
    return program


@pytest.fixture
def limits(db: None, tmp_path: Path) -> Program:
    return open_shop(tmp_path)


def decision(program: Program, key: str, **told: Any) -> dict[str, Any]:
    return {
        "program": program, "reason": "because", "decided_by": "ada", "idempotency_key": key, "at": AT,
        **account_of(program, "m0"), **told,
    }  # fmt: skip


def adjust(program: Program, key: str, points: int, **told: Any) -> Posted:
    return operations.adjust(**decision(program, key, points=points, **told))


def undo(program: Program, key: str, transaction_id: int, **told: Any) -> Posted:
    return operations.reverse(**decision(program, key, transaction_id=transaction_id, **told))


def ask(program: Program, key: str, points: int, by: str = "ada", **told: Any) -> Posted | AdjustmentRequest:
    fields = decision(program, key, points=points, decided_by=by, **told)
    member = Member.objects.get(pk=fields.pop("member_id"))
    return approvals.adjust(member=member, **fields)


def asked(program: Program, key: str = "big", points: int = 101) -> AdjustmentRequest:
    request = ask(program, key, points)
    assert isinstance(request, AdjustmentRequest)
    return request


def goodwill(program: Program, key: str, points: int, **told: Any) -> Posted:
    fields = decision(program, key, points=points, **told)
    member = Member.objects.get(pk=fields.pop("member_id"))
    return approvals.give_goodwill(member=member, **fields)


def has(program: Program) -> tuple[int, int]:
    found = balance(program, at=AT)
    return found.available, found.debt


def earned_of(program: Program, name: str) -> LedgerTransaction:
    tell(program, review(name))
    return LedgerTransaction.objects.filter(kind=TransactionKind.EARN, source_kind=SourceKind.ACTIVITY).latest("pk")


# --- debt by choice, and undoing it -----------------------------------------------------------------------------


def test_taking_more_than_there_is_becomes_debt_where_the_decision_says_so(limits: Program) -> None:
    adjust(limits, "give", 40)
    with pytest.raises(InsufficientPoints):
        adjust(limits, "take", -50)
    assert has(limits) == (40, 0)
    adjust(limits, "take", -50, debt=True)
    assert has(limits) == (0, 10)
    assert list(verify(program=limits)) == []


@pytest.mark.parametrize("between", [0, 4, 25])
def test_undoing_it_gives_back_what_was_taken_and_what_had_become_debt(limits: Program, between: int) -> None:
    adjust(limits, "give", 40)
    given = Lot.objects.get()
    taken = adjust(limits, "take", -50, debt=True)
    if between:
        adjust(limits, "more", between)
    undo(limits, "undo", taken.transaction_id)
    assert has(limits) == (40 + between, 0)
    assert LotBalance.objects.get(lot_id=given.pk).remaining == 40
    assert list(verify(program=limits)) == []
    with pytest.raises(NotReversible):
        undo(limits, "again", taken.transaction_id)


@pytest.mark.parametrize(("debt", "after"), [(True, (0, 25)), (False, (0, 0))])
def test_undoing_a_gift_that_is_spent_makes_debt_or_gives_it_up(
    limits: Program, debt: bool, after: tuple[int, int]
) -> None:
    gift = adjust(limits, "gift", 40)
    told = decision(limits, "burn", points=25)
    del told["decided_by"]
    operations.redeem(**told)
    undo(limits, "undo", gift.transaction_id, debt=debt)
    assert has(limits) == after
    assert list(verify(program=limits)) == []


# --- what an activity earned ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("debt", "after"), [(True, (0, 4)), (False, (0, 0))])
def test_what_an_activity_earned_is_taken_back_once(limits: Program, debt: bool, after: tuple[int, int]) -> None:
    review_ = earned_of(limits, "fraud")
    told = decision(limits, "burn", points=4)
    del told["decided_by"]
    operations.redeem(**told)
    posted = undo(limits, "undo", review_.pk, debt=debt)
    assert posted.is_new
    assert has(limits) == after
    repeated = undo(limits, "undo", review_.pk, debt=debt)
    assert (repeated.is_new, repeated.transaction_id) == (False, posted.transaction_id)
    with pytest.raises(NotReversible):
        undo(limits, "other", review_.pk, reason="another reason")
    assert has(limits) == after
    assert list(verify(program=limits)) == []


# --- a second person --------------------------------------------------------------------------------------------


def test_above_the_limit_it_waits_and_below_it_does_not(limits: Program) -> None:
    assert isinstance(ask(limits, "small", 100), Posted)
    request = asked(limits)
    assert (request.state, request.requested_by, has(limits)) == ("waiting", "ada", (100, 0))
    assert isinstance(ask(limits, "big", 101), AdjustmentRequest)
    assert AdjustmentRequest.objects.count() == 1
    with pytest.raises(IdempotencyKeyReused):
        ask(limits, "big", 102)
    assert isinstance(ask(limits, "take", -101), AdjustmentRequest)
    entry = AuditEntry.objects.filter(action="points.adjustment_requested").earliest("id")
    assert (entry.actor, entry.target, entry.after["points"] if entry.after else None) == ("ada", "member m0", 101)


def test_somebody_else_approves_it_once(limits: Program) -> None:
    request = asked(limits)
    with pytest.raises(approvals.SamePerson):
        approvals.approve(request_id=request.pk, decided_by="ada", at=NOW)
    assert has(limits) == (0, 0)
    done = approvals.approve(request_id=request.pk, decided_by="ben", at=AT)
    assert (done.state, has(limits)) == ("approved", (101, 0))
    for decide in (approvals.approve, lambda **told: approvals.reject(reason="no", **told)):
        with pytest.raises(approvals.AlreadyDecided):
            decide(request_id=request.pk, decided_by="cy", at=NOW)
    assert has(limits) == (101, 0)
    assert list(AuditEntry.objects.order_by("id").values_list("action", "actor"))[-2:] == [
        ("points.adjusted", "ben"),
        ("points.adjustment_approved", "ben"),
    ]


def test_what_is_rejected_is_not_posted(limits: Program) -> None:
    request = asked(limits)
    approvals.reject(request_id=request.pk, decided_by="ben", reason="No proof", at=NOW)
    request.refresh_from_db()
    assert (request.state, request.decision_reason, has(limits)) == ("rejected", "No proof", (0, 0))


def test_what_cannot_be_taken_waits_on(limits: Program) -> None:
    request = ask(limits, "take", -101)
    assert isinstance(request, AdjustmentRequest)
    with pytest.raises(InsufficientPoints):
        approvals.approve(request_id=request.pk, decided_by="ben", at=NOW)
    request.refresh_from_db()
    assert request.state == RequestState.WAITING


def check_constraints() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED")


@pytest.mark.parametrize("points", [101, -101])
def test_the_database_refuses_a_posting_above_the_limit_that_nobody_approved(limits: Program, points: int) -> None:
    adjust(limits, "a", 100)
    adjust(limits, "b", 100)
    check_constraints()
    point = transaction.savepoint()
    adjust(limits, "bypass", points)
    with pytest.raises(IntegrityError, match="needs an approved request"):
        check_constraints()
    transaction.savepoint_rollback(point)
    assert has(limits) == (200, 0)


def test_the_database_refuses_the_same_person_and_a_second_decision(limits: Program) -> None:
    row = AdjustmentRequest.objects.filter(pk=asked(limits).pk)
    for changes in (
        {"state": "approved", "decided_by": "ada", "decided_at": NOW, "transaction_id": 1},
        {"points": 1},
        {"requested_by": "ben"},
    ):
        with pytest.raises(Error), transaction.atomic():
            row.update(**changes)
    row.update(state="rejected", decided_by="ben", decided_at=NOW)
    with pytest.raises(Error), transaction.atomic():
        row.update(state="waiting", decided_by="", decided_at=None)
    with pytest.raises(Error), transaction.atomic():
        row.delete()


def test_a_key_waits_too(limits: Program) -> None:
    made = api_keys.issue(program=limits, scopes=[Scope.POINTS_ADJUST], name="till", actor="test", at=START)
    api = Api(made.text)
    path = "members/m0/points/points/adjustments"
    dry = api.post(path, {"points": 101, "reason": "sorry"}, key="k0", query={"dry_run": "true"})
    assert (dry.status, dry.json["state"], dry.json["id"]) == (202, "waiting", None)
    answer = api.post(path, {"points": 101, "reason": "sorry"}, key="k1")
    assert (answer.status, answer.json["state"], answer.json["seq"]) == (202, "waiting", None)
    request = AdjustmentRequest.objects.get()
    assert has(limits) == (0, 0)
    approvals.approve(request_id=request.pk, decided_by="ben", at=AT)
    shown = api.get(f"{path}/{answer.json['id']}").json
    assert (shown["state"], shown["seq"]) == ("approved", 1)
    missing = api.get(f"{path}/{'0' * 8}-0000-7000-8000-{'0' * 12}")
    assert (missing.status, missing.code) == (404, "unknown_adjustment_request")


def test_an_operator_asks_and_another_one_approves(limits: Program) -> None:
    names = (
        "points.view_adjustmentrequest",
        "points.approve_adjustment",
        "points.adjust_points",
        "membership.view_member",
    )
    ada, ben = (log_in(make_operator(name, *names)) for name in ("ada", "ben"))
    asked(limits)
    request = AdjustmentRequest.objects.get()
    approve = reverse("admin:points_adjustmentrequest_approve", args=[request.pk])
    page = reverse("admin:points_adjustmentrequest_change", args=[request.pk])
    assert approve not in ada.get(page).content.decode()
    ada.post(approve)
    request.refresh_from_db()
    assert request.state == RequestState.WAITING
    assert approve in ben.get(page).content.decode()
    ben.post(approve)
    request.refresh_from_db()
    assert (request.state, request.decided_by, has(limits)[0]) == ("approved", "ben", 101)


# --- goodwill ---------------------------------------------------------------------------------------------------


def test_goodwill_ends_at_the_limit_of_the_day_whoever_gives_it(limits: Program) -> None:
    goodwill(limits, "a", 20)
    assert not goodwill(limits, "a", 20).is_new
    with pytest.raises(approvals.GoodwillExceeded):
        goodwill(limits, "b", 11, decided_by="ben")
    goodwill(limits, "c", 10, decided_by="ben")
    assert has(limits) == (30, 0)
    with pytest.raises(approvals.GoodwillExceeded):
        goodwill(limits, "d", 1)
    goodwill(limits, "e", 30, at=AT + DAY)
    with pytest.raises(approvals.GoodwillExceeded):
        goodwill(limits, "f", 31, at=AT + 2 * DAY)


@pytest.mark.django_db(transaction=True)
def test_goodwill_given_side_by_side_does_not_pass_the_limit(tmp_path: Path) -> None:
    program = open_shop(tmp_path)
    start, given = threading.Barrier(6), []

    def give(number: int) -> None:
        start.wait()
        try:
            # Two of them send the same request.
            given.append(goodwill(program, f"g{number // 2}", 15).is_new)
        except approvals.GoodwillExceeded:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=give, args=[number]) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert has(program) == (30, 0)
    assert sum(given) == 2


def test_the_preview_of_what_waits_says_so_and_asks_for_nothing(limits: Program) -> None:
    member = Member.objects.get(program=limits, external_id="m0")
    ada = log_in(make_operator("ada", "membership.view_member", "points.adjust_points"))
    wallet_id = Wallet.objects.get(program=limits, code="points").pk
    form = {"wallet": wallet_id, "points": 101, "reason": "sorry", "key": "0190b5a0-0000-7000-8000-000000000009"}
    page = ada.post(reverse("admin:membership_member_adjust_points", args=[member.pk]), form)
    assert "somebody else has to approve it" in page.content.decode()
    assert "Nothing that is shown here" not in page.content.decode()
    assert not AdjustmentRequest.objects.exists()


def test_support_gives_goodwill_on_the_members_page(limits: Program) -> None:
    sue = make_operator("sue", "membership.view_member", "points.give_goodwill")
    member, wallet = Member.objects.get(program=limits), Wallet.objects.get(program=limits, code="points")
    url = reverse("admin:membership_member_give_goodwill", args=[member.pk])
    form = {"wallet": wallet.pk, "points": 31, "reason": "sorry", "confirmed": "yes"}
    page = log_in(sue).post(url, form | {"key": "0190b5a0-0000-7000-8000-000000000001"})
    assert "30 points a day" in page.content.decode()
    log_in(sue).post(url, form | {"key": "0190b5a0-0000-7000-8000-000000000002", "points": 30})
    entry = AuditEntry.objects.get(action="points.goodwill_given")
    assert (entry.actor, entry.after["points"] if entry.after else None) == ("sue", 30)
    assert User.objects.get(username="sue") == entry.user


def test_a_posting_is_reversed_on_its_page(limits: Program) -> None:
    fay = log_in(make_operator("fay", "points.view_ledgertransaction", "points.adjust_points"))
    earned = earned_of(limits, "fraud")
    gift = adjust(limits, "gift", 40)
    for pk, left in ((earned.pk, (40, 0)), (gift.transaction_id, (0, 0))):
        page, url = (reverse(f"admin:points_ledgertransaction_{name}", args=[pk]) for name in ("change", "reverse"))
        assert url in fay.get(page).content.decode()
        assert fay.post(url, {"reason": ""}).status_code == 200
        fay.post(url, {"reason": "a mistake", "debt": "on"})
        assert has(limits) == left
        assert url not in fay.get(page).content.decode()
    assert AuditEntry.objects.filter(action="points.reversed", actor="fay").count() == 2


def test_a_limit_of_goodwill_above_the_limit_of_approval_is_refused(tmp_path: Path, db: None) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(json.dumps(definition("bad", {"approval_above": 10, "goodwill_per_day": 11})))
    with pytest.raises(Exception, match="goodwill_per_day must not exceed approval_above"):
        program_file.load(path)


# --- what is said of it -----------------------------------------------------------------------------------------


def test_what_an_order_earned_in_several_wallets_is_not_added_up(limits: Program) -> None:
    tell(limits, order("o1", (1, 4_000)))
    found = find_order(program=limits, external_id="o1")
    assert found is not None
    said = explain_order(tell_order(found, program=limits))
    assert said == ["Points: The order earned 40 points.", "Gems: The order earned 40 points."]
