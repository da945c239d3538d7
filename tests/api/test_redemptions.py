"""Redeem, adjust and reverse over HTTP: once per key, never too much, and refused without a trace."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core import versions
from core.models import IdempotencyRecord, Program, Scope
from core.services.idempotency import LEASE
from membership.models import Member, MemberStatus, Refund
from points.models import Account, LedgerNote, LedgerTransaction, TransactionKind, Wallet
from points.services import operations
from points.services.posting import MemberSuspended, UnknownAccount
from points.services.verify import verify
from tests.api.buyers import ANN, account_of, enroll, posted
from tests.api.client import Api, in_parallel
from tests.api.conftest import Clock, MakeKey
from tests.storefront.shop import DAY, NOW, order, tell

REDEEM, ADJUST, REVERSE = (f"{ANN}/points/{name}" for name in ("redemptions", "adjustments", "reversals"))
STATEMENT = f"{ANN}/points/statement"

pytestmark = pytest.mark.django_db


@pytest.fixture
def ann(program: Program) -> Program:
    """Ann has 100 points."""
    enroll(program, "ann", "ben")
    tell(program, order("o1", (4, 10_000), member="ann"))
    return program


def token(api: Api, member: str = "ann") -> Api:
    return Api(api.post(f"members/{member}/tokens").json["token"])


# --- what is done ----------------------------------------------------------------------------------------------


def test_a_redemption_answers_the_posting_and_the_balance(ann: Program, api: Api) -> None:
    answer = api.post(REDEEM, {"points": 30, "reason": "a mug"}, key="k1")
    assert answer.status == 201
    assert answer.json["outcome"] == "recorded"
    assert answer.json["transaction"] == api.get(STATEMENT).json["results"][0]
    assert answer.json["transaction"]["points"] == -30
    assert answer.json["balance"] == {
        "available": 70, "pending": 0, "held": 0, "debt": 0, "lifetime_earned": 100, "lifetime_redeemed": 30,
    }  # fmt: skip


def test_a_redemption_sent_again_replays_the_first_answer(ann: Program, api: Api) -> None:
    first, again = (api.post(REDEEM, {"points": 30}, key="k1") for _ in range(2))
    assert (again.status, again.json) == (first.status, first.json)
    assert len(posted()) == 2


def test_after_the_record_lapsed_the_ledger_still_knows_the_key(ann: Program, api: Api, clock: Clock) -> None:
    first = api.post(REDEEM, {"points": 30}, key="k1").json
    api.post(ADJUST, {"points": 5, "reason": "sorry"}, key="k2")
    IdempotencyRecord.objects.all().delete()
    # The points have expired meanwhile: the first posting is answered, with the balance of today.
    clock(NOW + 400 * DAY)
    again = api.post(REDEEM, {"points": 30}, key="k1")
    assert (again.status, again.json["outcome"]) == (200, "repeated")
    assert again.json["transaction"] == first["transaction"]
    assert again.json["balance"] == api.get(ANN).json["wallets"][0]["balance"]
    assert again.json["balance"]["available"] == 0
    IdempotencyRecord.objects.all().delete()
    before = posted()
    assert api.post(REDEEM, {"points": 31}, key="k1").code == "idempotency_key_reused"
    assert posted() == before


def test_a_dry_run_answers_and_keeps_nothing(ann: Program, api: Api) -> None:
    before = posted()
    answer = api.post(REDEEM, {"points": 30}, key="k1", query={"dry_run": "true"})
    assert (answer.status, answer.json["outcome"], answer.json["transaction"]) == (200, "recorded", None)
    assert answer.json["balance"]["available"] == 70
    assert api.post(REDEEM, {"points": 300}, key="k1", query={"dry_run": "true"}).code == "insufficient_points"
    assert posted() == before
    assert api.get(ANN).json["wallets"][0]["balance"]["available"] == 100
    assert api.post(REDEEM, {"points": 40}, key="k1").status == 201


def test_an_adjustment_gives_and_takes_and_says_who_decided(ann: Program, api: Api) -> None:
    given = api.post(ADJUST, {"points": 25, "reason": "late parcel"}, key="k1").json
    taken = api.post(ADJUST, {"points": -5, "reason": "too much"}, key="k2").json
    assert [part["balance"]["available"] for part in (given, taken)] == [125, 120]
    assert given["transaction"]["reason"] == "late parcel"
    note = LedgerNote.objects.order_by("pk")[0]
    assert note.body["decided_by"].startswith("key ")


def test_a_reversal_gives_the_points_back_once(ann: Program, api: Api) -> None:
    redeemed = api.post(REDEEM, {"points": 30}, key="k1").json["transaction"]
    body = {"seq": redeemed["seq"], "reason": "order cancelled"}
    answer = api.post(REVERSE, body, key="k2")
    assert (answer.status, answer.json["balance"]["available"]) == (201, 100)
    assert answer.json["transaction"]["source"] == {"kind": "transaction", "external_id": None, "seq": redeemed["seq"]}
    before = posted()
    assert (api.post(REVERSE, body, key="k3").status, api.post(REVERSE, body, key="k3").code) == (409, "not_reversible")
    assert posted() == before


def test_a_member_redeems_with_a_token_and_under_keys_of_their_own(ann: Program, api: Api) -> None:
    own = token(api)
    assert own.post(REDEEM, {"points": 30}, key="k1").status == 201
    assert api.post(REDEEM, {"points": 10}, key="k1").status == 201
    assert api.get(ANN).json["wallets"][0]["balance"]["available"] == 60


def test_a_decision_posts_in_one_statement(ann: Program) -> None:
    told: dict[str, Any] = {"program": ann, **account_of(ann), "at": NOW}
    with CaptureQueriesContext(connection) as queries:
        operations.redeem(**told, points=1, idempotency_key="k")
    assert len([query for query in queries if "SAVEPOINT" not in query["sql"]]) == 1


# --- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "code"),
    [
        (0, "invalid_request"), (-5, "invalid_request"), (1.5, "invalid_request"), ("7", "invalid_request"),
        (True, "invalid_request"), (None, "invalid_request"), (2**53, "invalid_request"), (10**30, "invalid_request"),
        (101, "insufficient_points"), (2**53 - 1, "insufficient_points"),
    ],
)  # fmt: skip
def test_points_that_cannot_be_redeemed_are_refused(ann: Program, api: Api, points: Any, code: str) -> None:
    before = posted()
    answer = api.post(REDEEM, {"points": points}, key="k1")
    assert (answer.status, answer.code) == (422, code)
    assert posted() == before
    # The refused request has freed its key.
    assert api.post(REDEEM, {"points": 1}, key="k1").status == 201


def test_a_shopper_is_told_what_was_asked_and_what_there_is(ann: Program, api: Api) -> None:
    answer = api.post(REDEEM, {"points": 1_500}, key="k1")
    assert answer.json["detail"] == "This takes 1,500 points, and 100 can be used now."


@pytest.mark.parametrize(
    "body",
    [
        {"points": 0, "reason": "x"}, {"points": 5}, {"points": 5, "reason": " "}, {"points": 1.0, "reason": "x"},
        {"points": 500_000_001, "reason": "x"}, {"points": -500_000_001, "reason": "x"}, {"points": "5", "reason": "x"},
        {"points": 5, "reason": "x" * 501}, {"points": 5, "reason": "x", "at": "2020-01-01T00:00:00Z"}, [], "5",
    ],
    ids=lambda body: str(body)[:40],
)  # fmt: skip
def test_an_adjustment_that_cannot_be_read_is_refused(ann: Program, api: Api, body: Any) -> None:
    before = posted()
    answer = api.post(ADJUST, body, key="k1")
    assert (answer.status, answer.code) == (422, "invalid_request")
    assert posted() == before


def test_what_is_not_there_is_not_found_and_makes_no_account(
    ann: Program, foreign_program: Program, api: Api, make_key: MakeKey
) -> None:
    enroll(foreign_program, "eve")
    before, accounts = posted(), Account.objects.count()
    body = {"points": 1, "reason": "x"}
    for name in ("redemptions", "adjustments"):
        assert api.post(f"members/eve/points/points/{name}", body, key="k").code == "unknown_member"
        assert api.post(f"members/nobody/points/points/{name}", body, key="k").code == "unknown_member"
        assert api.post(f"{ANN}/gems/{name}", body, key="k").code == "unknown_wallet"
    for seq, status in ((2, 404), (3, 404), (10**9, 422), (0, 422), ("1", 422)):
        assert api.post(REVERSE, {"seq": seq, "reason": "x"}, key="k").status == status
    assert api.post(REVERSE, {"seq": 3, "reason": "x"}, key="k").code == "unknown_transaction"
    assert api.post("members/ben/points/points/reversals", {"seq": 1, "reason": "x"}, key="k").status == 404
    assert (posted(), Account.objects.count()) == (before, accounts)


def test_what_an_order_earned_cannot_be_reversed(ann: Program, api: Api) -> None:
    before = posted()
    assert api.post(REVERSE, {"seq": 1, "reason": "x"}, key="k").code == "not_reversible"
    assert posted() == before


def test_a_key_used_for_another_request_is_refused(ann: Program, api: Api) -> None:
    api.post(REDEEM, {"points": 30}, key="k1")
    before = posted()
    assert api.post(REDEEM, {"points": 31}, key="k1").code == "idempotency_key_reused"
    assert api.post(ADJUST, {"points": 31, "reason": "x"}, key="k1").code == "idempotency_key_reused"
    assert api.post(REDEEM, {"points": 31}).code == "idempotency_key_missing"
    assert posted() == before


def test_who_may_not_is_refused(ann: Program, api: Api, make_key: MakeKey) -> None:
    before = posted()
    reader = Api(make_key(Scope.POINTS_READ))
    for path in (REDEEM, ADJUST, REVERSE):
        assert reader.post(path, {"points": 1, "seq": 1, "reason": "x"}, key="k").code == "scope_missing"
    redeemer = Api(make_key(Scope.POINTS_REDEEM))
    assert redeemer.post(ADJUST, {"points": 1, "reason": "x"}, key="k").code == "scope_missing"
    own = token(api)
    for path in (ADJUST, REVERSE):
        assert own.post(path, {"points": 1, "seq": 1, "reason": "x"}, key="k").status == 403
    assert own.post("members/ben/points/points/redemptions", {"points": 1}, key="k").code == "unknown_member"
    assert posted() == before


def test_a_suspended_member_does_not_redeem_but_a_repetition_is_answered(ann: Program, api: Api) -> None:
    first = api.post(REDEEM, {"points": 30}, key="k1").json
    Member.objects.filter(external_id="ann").update(status=MemberStatus.SUSPENDED)
    IdempotencyRecord.objects.all().delete()
    before = posted()
    refused = api.post(REDEEM, {"points": 30}, key="k2")
    assert (refused.status, refused.code) == (422, "member_suspended")
    again = api.post(REDEEM, {"points": 30}, key="k1").json
    assert (again["outcome"], again["transaction"]) == ("repeated", first["transaction"])
    assert posted() == before
    assert api.post(ADJUST, {"points": -30, "reason": "fraud"}, key="k3").status == 201


def test_services_refuse_members_and_wallets_of_another_program(ann: Program, foreign_program: Program) -> None:
    enroll(foreign_program, "eve")
    here, there = account_of(ann), account_of(foreign_program, "eve")
    before, accounts = posted(), Account.objects.count()
    mixed = [here | {"wallet_id": there["wallet_id"]}, there | {"wallet_id": here["wallet_id"]}, there,
             here | {"member_id": 10**15}]  # fmt: skip
    for account in mixed:
        told: dict[str, Any] = {"program": ann, **account, "at": NOW, "idempotency_key": "k"}
        with pytest.raises(UnknownAccount):
            operations.redeem(**told, points=1)
        with pytest.raises(UnknownAccount):
            operations.adjust(**told, points=1, reason="x", decided_by="test")
        with pytest.raises(UnknownAccount):
            operations.reverse(**told, transaction_id=before[0], reason="x", decided_by="test")
    assert (posted(), Account.objects.count()) == (before, accounts)


def test_the_service_refuses_a_suspended_member(ann: Program) -> None:
    Member.objects.filter(external_id="ann").update(status=MemberStatus.SUSPENDED)
    before = posted()
    told: dict[str, Any] = {"program": ann, **account_of(ann), "at": NOW}
    with pytest.raises(MemberSuspended):
        operations.redeem(**told, points=1, idempotency_key="k")
    assert posted() == before


def test_a_refund_that_the_policy_refuses_leaves_no_trace(ann: Program, api: Api) -> None:
    wallet = Wallet.objects.get(program=ann)
    versions.publish(wallet, {"expiry_days": 365, "clawback": "refuse"}, at=NOW)
    api.post(REDEEM, {"points": 30}, key="k1")
    before = posted()
    back = {"external_id": "1", "order": "o1", "order_line": "o1.1", "units": 4, "amount_minor": 10_000}
    told = {"external_id": "r1", "member": "ann", "refunded_at": "2026-06-01T12:00:00Z", "currency": "GBP"}
    answer = api.post("refunds", told | {"amount_minor": 10_000, "lines": [back]})
    assert (answer.status, answer.code) == (422, "clawback_refused")
    assert posted() == before
    assert not Refund.objects.exists()


# --- many at once ----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_32_requests_with_one_key_have_one_effect(ann: Program, api: Api) -> None:
    answers = in_parallel([lambda: api.post(REDEEM, {"points": 30}, key="k1")] * 32)
    assert {answer.status for answer in answers} <= {201, 409}
    assert len({answer.text for answer in answers if answer.status == 201}) == 1
    assert {answer.code for answer in answers if answer.status == 409} <= {"in_flight"}
    assert LedgerTransaction.objects.filter(kind=TransactionKind.BURN).count() == 1
    assert api.post(REDEEM, {"points": 30}, key="k1").status == 201
    assert Account.objects.get(member__external_id="ann").available == 70
    assert list(verify(program=ann)) == []


@pytest.mark.django_db(transaction=True)
def test_of_16_redemptions_as_many_succeed_as_the_balance_allows(ann: Program, api: Api) -> None:
    def redeem(n: int) -> Any:
        return lambda: api.post(REDEEM, {"points": 20}, key=f"k{n}")

    answers = in_parallel([redeem(n) for n in range(16)])
    assert Counter(answer.code for answer in answers) == {None: 5, "insufficient_points": 11}
    account = Account.objects.get(member__external_id="ann")
    assert (account.available, account.lifetime_redeemed) == (0, 100)
    assert list(verify(program=ann)) == []


@pytest.mark.django_db(transaction=True)
def test_a_key_whose_worker_died_is_taken_over_and_posts_once(ann: Program, api: Api, clock: Clock) -> None:
    """The worker died between the commit of its lease and that of its work."""
    first = api.post(REDEEM, {"points": 30}, key="k1")
    IdempotencyRecord.objects.update(status=None, body=None)
    assert api.post(REDEEM, {"points": 30}, key="k1").code == "in_flight"
    clock(NOW + LEASE + timedelta(seconds=1))
    again = api.post(REDEEM, {"points": 30}, key="k1")
    assert (again.json["outcome"], again.json["transaction"]) == ("repeated", first.json["transaction"])
    assert Account.objects.get(member__external_id="ann").available == 70
