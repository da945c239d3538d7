"""Members get coupons: one statement that takes all or nothing, within limits that the database keeps."""

from datetime import datetime
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from core import versions
from core.models import AuditEntry, OutboxEvent, Program
from coupons.models import Claim, ClaimState, CounterShard, CouponCode
from coupons.published import list_offers
from coupons.selectors import list_candidates
from coupons.services import claims, code_batches
from membership.models import Member, MemberStatus
from tests.coupons.giving import DAY, NOW, START, id_of, make_shop, publish, written

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "ben")


def take(shop: Program, member: str = "ada", definition: str = "five", at: datetime = NOW, **told: Any) -> Claim:
    told |= {} if "code" in told else {"definition": definition}
    return claims.claim(program=shop, member_id=id_of(shop, member), at=at, **told)


# --- taking one ------------------------------------------------------------------------------------------------


def test_a_claim_keeps_the_version_and_the_window_of_its_time(shop: Program) -> None:
    definition = publish(shop, valid_days=0)
    claim = take(shop)
    assert (claim.is_new, claim.state, claim.number, claim.shard) == (True, ClaimState.OPEN, 1, None)  # type: ignore[attr-defined]
    assert claim.version == definition.versions.get()
    # The end of the local day: London is an hour ahead of UTC in June.
    assert (claim.valid_from, claim.expires_at) == (NOW, datetime.fromisoformat("2026-06-01T23:00:00Z"))
    event = OutboxEvent.objects.get(topic="coupons.claimed")
    assert event.payload == {"claims": [claim.pk]}
    publish(shop, at=NOW + DAY, valid_days=9)
    assert Claim.objects.get(pk=claim.pk).expires_at == claim.expires_at


def test_a_claim_is_one_statement(shop: Program) -> None:
    publish(shop, limit=10, per_member=2)
    take(shop, "ben")
    member_id = id_of(shop)
    with CaptureQueriesContext(connection) as queries:
        claims.claim(program=shop, member_id=member_id, definition="five", source="a", at=NOW)
    statements = [query["sql"].split()[0] for query in queries]
    assert statements == ["SAVEPOINT", "SELECT", "RELEASE"], "the savepoint is the test's transaction's"


def test_the_window_is_cut_at_the_coupons_own_end(shop: Program) -> None:
    publish(shop, valid_days=30, ends_at="2026-06-05T00:00:00Z")
    assert take(shop).expires_at == datetime.fromisoformat("2026-06-05T00:00:00Z")


@pytest.mark.parametrize(
    ("told", "at", "error"),
    [
        ({"starts_at": "2026-06-01T12:00:01Z"}, NOW, claims.NotYetValid),
        ({"ends_at": "2026-06-01T12:00:00Z"}, NOW, claims.CouponEnded),
        ({"how": "issued"}, NOW, claims.NotClaimable),
        ({"how": "automatic"}, NOW, claims.NotClaimable),
        ({"how": "code"}, NOW, claims.NotClaimable),
        ({}, START - DAY, None),  # the first version is in force from the beginning
    ],
)
def test_what_cannot_be_claimed_leaves_no_trace(
    shop: Program, told: dict[str, Any], at: datetime, error: type[Exception] | None
) -> None:
    publish(shop, limit=5, **told)
    before = written()
    if error is None:
        assert take(shop, at=at).number == 1
        return
    with pytest.raises(error):
        take(shop, at=at)
    assert written() == before


def test_an_unknown_coupon_and_one_that_has_ended_are_refused(shop: Program) -> None:
    definition = publish(shop)
    old = Program.objects.get(pk=shop.pk)
    list_offers(old)
    versions.end(definition, at=NOW - DAY)
    shop.refresh_from_db()
    before = written()
    with pytest.raises(claims.UnknownCoupon):
        take(shop, definition="nothing")
    with pytest.raises(claims.UnknownCoupon):
        take(shop)
    with pytest.raises(claims.CouponEnded):
        take(old)  # a process that has not read the end: the statement itself looks
    assert written() == before


def test_only_an_active_member_of_the_program_claims(shop: Program) -> None:
    publish(shop, limit=5)
    stranger = make_shop("other", "eve")
    Member.objects.filter(external_id="ben").update(status=MemberStatus.SUSPENDED)
    before = written()
    for member_id in (id_of(shop, "ben"), id_of(stranger, "eve"), 0):
        with pytest.raises(claims.MemberNotActive):
            claims.claim(program=shop, member_id=member_id, definition="five", at=NOW)
    assert written() == before


# --- once ------------------------------------------------------------------------------------------------------


def test_the_same_source_gives_the_same_claim(shop: Program) -> None:
    publish(shop, "gift", how="code", limit=5)
    told: dict[str, Any] = {
        "program": shop,
        "member_id": id_of(shop),
        "definition_code": "gift",
        "source": "birthday:2026",
    }
    first = claims.issue(**told, at=NOW)
    before = written()
    again = claims.issue(**told, at=NOW + DAY)
    assert (first.is_new, again.is_new) == (True, False)  # type: ignore[attr-defined]
    assert (again.pk, again.code, again.claimed_at) == (first.pk, first.code, NOW)
    assert written() == before
    # Another source and another member are another claim with another code.
    assert claims.issue(**(told | {"source": "birthday:2027"}), at=NOW).code != first.code
    assert claims.issue(**(told | {"member_id": id_of(shop, "ben")}), at=NOW).code != first.code


def test_the_same_source_gives_the_same_claim_after_the_coupon_has_ended(shop: Program) -> None:
    gift, five = publish(shop, "gift", how="code"), publish(shop)
    told: dict[str, Any] = {"program": shop, "member_id": id_of(shop), "definition_code": "gift", "source": "b:2026"}
    code_batches.create_code(program=shop, definition=gift, text="SUMMER", actor="test", at=NOW)
    first = [claims.issue(**told, at=NOW), take(shop, source="k1"), take(shop, code="SUMMER", source="k2")]
    versions.end(gift, at=NOW + DAY)
    versions.end(five, at=NOW + DAY)
    shop.refresh_from_db()
    later = NOW + 2 * DAY
    again = [claims.issue(**told, at=later), take(shop, source="k1", at=later),
             take(shop, code="summer", source="k2", at=later)]  # fmt: skip
    assert again == first
    assert [one.is_new for one in again] == [False] * 3  # type: ignore[attr-defined]
    with pytest.raises(claims.UnknownCoupon):
        claims.issue(**(told | {"source": "b:2027"}), at=later)
    with pytest.raises(claims.CodeNotAvailable):
        take(shop, code="SUMMER", at=later)


def test_what_was_revoked_is_not_issued_again_by_its_source(shop: Program) -> None:
    publish(shop, "gift", how="issued")
    told: dict[str, Any] = {
        "program": shop,
        "member_id": id_of(shop),
        "definition_code": "gift",
        "source": "s",
        "at": NOW,
    }
    first = claims.issue(**told)
    claims.revoke(program=shop, member_id=id_of(shop), claim_id=first.pk, reason="mistake", actor="test", at=NOW)
    assert claims.issue(**told).state == ClaimState.REVOKED


def test_a_coupon_is_issued_before_its_window_opens(shop: Program) -> None:
    publish(shop, "gift", how="issued", starts_at="2026-07-01T00:00:00Z", valid_days=1)
    claim = claims.issue(program=shop, member_id=id_of(shop), definition_code="gift", source="s", at=NOW)
    assert claim.valid_from == datetime.fromisoformat("2026-07-01T00:00:00Z")
    assert claim.expires_at == datetime.fromisoformat("2026-07-02T23:00:00Z")


def test_an_automatic_coupon_is_issued_to_nobody(shop: Program) -> None:
    publish(shop, how="automatic")
    with pytest.raises(claims.NotClaimable):
        claims.issue(program=shop, member_id=id_of(shop), definition_code="five", source="s", at=NOW)


# --- codes -----------------------------------------------------------------------------------------------------


def test_a_shared_code_is_claimed_by_many(shop: Program) -> None:
    definition = publish(shop, "summer", how="code", per_member=1)
    code = code_batches.create_code(program=shop, definition=definition, text="Summer-10", actor="test", at=NOW)
    assert take(shop, code="summer 1o").code == code
    assert take(shop, "ben", code="SUMMER10").code == code
    with pytest.raises(claims.AlreadyClaimed):
        take(shop, code="SUMMER10")
    assert CouponCode.objects.get().claimed_by is None


def test_a_unique_code_is_claimed_once(shop: Program) -> None:
    definition = publish(shop, "lucky", how="code")
    code_batches.create_code(program=shop, definition=definition, text="LUCKY7", is_shared=False, actor="test", at=NOW)
    assert take(shop, code="LUCKY7").state == ClaimState.OPEN
    before = written()
    for member in ("ada", "ben"):
        with pytest.raises(claims.CodeNotAvailable):
            take(shop, member, code="LUCKY7")
    assert written() == before
    assert CouponCode.objects.get().claimed_by == id_of(shop)


def test_unknown_disabled_and_foreign_codes_are_refused_alike(shop: Program) -> None:
    definition = publish(shop, "summer", how="code")
    code = code_batches.create_code(program=shop, definition=definition, text="SUMMER", actor="test", at=NOW)
    other = make_shop("other")
    code_batches.create_code(program=other, definition=publish(other), text="THEIRS", actor="test", at=NOW)
    code_batches.disable_code(code=code, actor="test", at=NOW)
    before = written()
    for text in ("SUMMER", "THEIRS", "NOTHING", "!"):
        with pytest.raises(claims.CodeNotAvailable):
            take(shop, code=text)
    assert written() == before


def test_the_statement_itself_refuses_a_code_that_was_disabled_meanwhile(shop: Program) -> None:
    definition = publish(shop, "summer", how="code", limit=3)
    code = code_batches.create_code(program=shop, definition=definition, text="SUMMER", actor="test", at=NOW)
    offer = list_offers(shop).find("summer", NOW)
    assert offer is not None
    code_batches.disable_code(code=code, actor="test", at=NOW)
    before = written()
    with pytest.raises(claims.CodeNotAvailable):
        claims.take(program=shop, member_id=id_of(shop), offer=offer, code_id=code.pk, at=NOW)
    assert written() == before


# --- revoking --------------------------------------------------------------------------------------------------


def test_revoking_gives_the_place_back_and_says_why(shop: Program) -> None:
    publish(shop, limit=1)
    claim = take(shop)
    told: dict[str, Any] = {"program": shop, "member_id": id_of(shop), "claim_id": claim.pk, "actor": "test", "at": NOW}
    revoked = claims.revoke(**told, reason="issued by mistake")
    assert (revoked.state, revoked.revoked_at, CounterShard.objects.get().used) == (ClaimState.REVOKED, NOW, 0)
    entry = AuditEntry.objects.get(action="coupon.revoked")
    assert (entry.reason, entry.actor, entry.target) == ("issued by mistake", "test", "member ada")
    before = written()
    claims.revoke(**told, reason="again")
    assert (written(), AuditEntry.objects.filter(action="coupon.revoked").count()) == (before, 1)
    assert take(shop, "ben").state == ClaimState.OPEN


def test_only_an_open_claim_of_the_member_is_revoked(shop: Program) -> None:
    publish(shop)
    claim = take(shop)
    told: dict[str, Any] = {"program": shop, "reason": "no", "actor": "test", "at": NOW}
    with pytest.raises(claims.UnknownClaim):
        claims.revoke(**told, member_id=id_of(shop, "ben"), claim_id=claim.pk)
    with pytest.raises(claims.UnknownClaim):
        claims.revoke(**told | {"program": make_shop("other")}, member_id=id_of(shop), claim_id=claim.pk)
    Claim.objects.update(state=ClaimState.HELD)
    with pytest.raises(claims.ClaimNotOpen):
        claims.revoke(**told, member_id=id_of(shop), claim_id=claim.pk)
    assert Claim.objects.get().state == ClaimState.HELD


@pytest.mark.parametrize(
    ("before", "after"),
    [("open", "used"), ("revoked", "open"), ("revoked", "held"), ("used", "held"), ("revoked", "used")],
)
def test_the_database_refuses_a_claim_that_goes_another_way(shop: Program, before: str, after: str) -> None:
    publish(shop)
    claim = take(shop)
    ways = {"open": (), "revoked": ("revoked",), "used": ("held", "used")}
    for state in ways[before]:
        Claim.objects.update(state=state, revoked_at=NOW if state == "revoked" else None)
    with pytest.raises(IntegrityError, match=str(claim.public_id)), transaction.atomic():
        Claim.objects.update(state=after, revoked_at=None)


# --- candidates ------------------------------------------------------------------------------------------------


def candidates(shop: Program, *codes: str, sku: str = "tea-1", category: str = "tea", at: datetime = NOW) -> Any:
    return list_candidates(program=shop, member_id=id_of(shop), codes=codes, at=at, skus={sku}, categories={category})


def test_candidates_are_the_automatic_ones_that_touch_the_basket_and_the_open_claims(shop: Program) -> None:
    publish(shop, "all", how="automatic")
    publish(shop, "tea", how="automatic", categories=["tea"])
    publish(shop, "one-tea", how="automatic", skus=["tea-1", "tea-2"], categories=["tea"])
    publish(shop, "cups", how="automatic", categories=["cups"], skus=["cup-1"])
    publish(shop, "over", how="automatic", ends_at="2026-06-01T12:00:00Z")
    publish(shop, "soon", how="automatic", starts_at="2026-06-01T12:00:01Z")
    publish(shop, "mine", valid_days=3)
    claim = take(shop, definition="mine")
    take(shop, "ben", definition="mine")
    found = candidates(shop).candidates
    assert sorted(one.code for one in found) == ["all", "mine", "one-tea", "tea"]
    mine = next(one for one in found if one.code == "mine")
    assert (mine.claim_id, mine.expires_at) == (claim.pk, claim.expires_at)
    assert "mine" not in {one.code for one in candidates(shop, at=NOW + 9 * DAY).candidates}


def test_what_has_been_given_out_is_no_candidate(shop: Program) -> None:
    publish(shop, "all", how="automatic", limit=1)
    publish(shop, "once", how="automatic", per_member=1)
    assert {one.code for one in candidates(shop).candidates} == {"all", "once"}
    for code in ("all", "once"):
        offer = list_offers(shop).find(code, NOW)
        assert offer is not None
        claims.take(program=shop, member_id=id_of(shop), offer=offer, is_automatic=True, at=NOW)
    Claim.objects.update(state=ClaimState.HELD)
    assert candidates(shop).candidates == ()


def test_a_typed_code_is_a_candidate_or_has_a_reason(shop: Program) -> None:
    summer, lucky = publish(shop, "summer", how="code", per_member=1), publish(shop, "lucky", how="code")
    shared = code_batches.create_code(program=shop, definition=summer, text="SUMMER", actor="test", at=NOW)
    for text in ("LUCKY7", "LUCKY8"):
        code_batches.create_code(program=shop, definition=lucky, text=text, is_shared=False, actor="test", at=NOW)
    take(shop, "ben", code="LUCKY8")
    found = candidates(shop, "summer", "SUM-MER", "lucky7", "lucky8", "nothing")
    assert sorted(one.key for one in found.candidates if one.code == "summer") == [f"code:{shared.pk}"]
    assert [one.code for one in found.candidates].count("lucky") == 1
    assert found.unknown_codes == {"lucky8": ("unknown", {}), "nothing": ("unknown", {})}
    take(shop, code="summer")
    found = candidates(shop, "summer")
    assert [one.claim_id is not None for one in found.candidates] == [True]
    for state in (ClaimState.HELD, ClaimState.USED):
        Claim.objects.filter(member=id_of(shop)).update(state=state)
    assert candidates(shop, "summer").unknown_codes == {"summer": ("already_used", {})}


def test_candidates_cost_the_same_few_queries_however_many_there_are(shop: Program) -> None:
    for n in range(30):
        publish(shop, f"c{n}", how="automatic", per_member=1, limit=10)
    candidates(shop)
    with CaptureQueriesContext(connection) as queries:
        found = list_candidates(program=shop, member_id=id_of(shop), codes=["x"], at=NOW, skus={"s"}, categories={"c"})
    assert (len(found.candidates), len(queries)) == (30, 5), "one reads the member's id"
