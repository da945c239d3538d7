"""Referrals over HTTP: codes, clicks, bindings with each refusal, a member's own page, reasons, K."""

from datetime import timedelta
from typing import Any

import pytest

from core.models import AuditEntry, Event, Program, Scope
from core.services import outbox
from membership.models import Fingerprint, Member
from referrals.models import Referral, ReferralCode, ReferralPolicy, Touch
from referrals.services import qualification
from tests.api.client import Api
from tests.api.conftest import NOW, Clock, MakeKey

DAY = timedelta(days=1)
TABLES = (Referral, ReferralCode, Touch, Fingerprint, Event)

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(api: Api) -> Api:
    """Ann has a code; Ben, Cat and Dan joined after her."""
    for number, name in enumerate(("ann", "ben", "cat", "dan")):
        at = NOW - DAY + timedelta(minutes=number)
        api.post("members", {"external_id": name, "joined_at": at.isoformat()})
    return api


def code_of(api: Api, member: str) -> str:
    return str(api.post(f"members/{member}/referral-code", {}).json["code"])


def content() -> list[Any]:
    return [list(table._default_manager.order_by("pk").values()) for table in TABLES]


def bind(api: Api, member: str, **told: Any) -> Any:
    return api.post(f"members/{member}/referral", told)


def order(api: Api, member: str, name: str, minor: int, clock: Clock, *, at: Any = NOW + DAY) -> None:
    clock(at)
    told = {
        "external_id": name, "member": member, "paid_at": at.isoformat(), "currency": "GBP", "amount_minor": minor,
    }  # fmt: skip
    assert api.post("orders", told).status == 201
    outbox.drain(at=at)


def settle(program: Program, at: Any) -> None:
    qualification.mature(program=program, at=at)
    assert outbox.drain(at=at).failed == 0


def refused(answer: Any, before: list[Any], status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code)
    assert content() == before


def test_a_code_is_made_once(shop: Api) -> None:
    code = code_of(shop, "ann")
    assert len(code) == 8
    assert code_of(shop, "ann") == code
    assert ReferralCode.objects.count() == 1


def test_a_vanity_code_is_shown_from_then_on_and_belongs_to_one_member(shop: Api) -> None:
    made = code_of(shop, "ann")
    assert shop.post("members/ann/referral-code", {"code": "Ann-Lee"}).json == {"code": "Ann-Lee"}
    assert shop.get("members/ann/referrals").json["code"] == "Ann-Lee"
    before = content()
    refused(shop.post("members/ben/referral-code", {"code": "ANN LEE"}), before, 409, "referral_code_taken")
    refused(shop.post("members/ben/referral-code", {"code": "?!"}), before, 422, "invalid_referral_code")
    assert bind(shop, "ben", code=made).json["referrer"] == "ann"


def test_a_binding_is_recorded_once_and_repeated_after_that(shop: Api) -> None:
    code = code_of(shop, "ann")
    first, again = (bind(shop, "ben", code=code, fingerprints={"email": "ben@shop.example"}) for _ in range(2))
    assert (first.status, first.json["outcome"], first.json["referrer"]) == (201, "recorded", "ann")
    assert (again.status, again.json["outcome"], again.json["referral"]) == (200, "repeated", first.json["referral"])
    assert Referral.objects.count() == 1


def test_a_dry_run_binds_nobody(shop: Api) -> None:
    code = code_of(shop, "ann")
    before = content()
    answer = shop.post("members/ben/referral", {"code": code}, query={"dry_run": "true"})
    assert (answer.status, answer.json["outcome"]) == (200, "recorded")
    assert content() == before


def test_each_refusal_has_its_code_and_writes_nothing(shop: Api, clock: Clock) -> None:
    ann, dan = code_of(shop, "ann"), code_of(shop, "dan")
    bind(shop, "ben", code=ann)
    order(shop, "cat", "o1", 100, clock, at=NOW)
    shop.post("members/ann/fingerprints", {"device": "d-1"})
    before = content()
    refused(bind(shop, "ann", code=ann), before, 422, "self_referral")
    refused(bind(shop, "cat", code=ann), before, 422, "existing_customer")
    refused(bind(shop, "ben", code=dan), before, 409, "already_bound")
    refused(bind(shop, "ann", code=dan), before, 422, "referral_cycle")
    refused(bind(shop, "dan", code="NOBODY00"), before, 422, "unknown_referral_code")
    refused(bind(shop, "dan", visitor="never seen here"), before, 422, "attribution_expired")
    refused(bind(shop, "dan"), before, 422, "invalid_request")
    refused(shop.get("referrals/0"), before, 404, "unknown_referral")
    clock(NOW + 30 * DAY)
    refused(bind(shop, "dan", code=ann), before, 422, "attribution_expired")


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "try-1"}])
def test_a_refused_try_leaves_its_evidence_and_the_second_goes_to_a_review(shop: Api, headers: dict[str, str]) -> None:
    code = code_of(shop, "ann")
    shop.post("members/ann/fingerprints", {"device": "d-1"})
    told = {"code": code, "fingerprints": {"device": "D-1", "payment": "card-1"}}
    before = content()
    refused(shop.post("members/dan/referral", told, query={"dry_run": "true"}), before, 422, "self_referral")
    answer = shop.post("members/dan/referral", told, headers=headers)
    assert (answer.status, answer.code) == (422, "self_referral")
    kept = Fingerprint.objects.filter(member__external_id="dan").order_by("kind")
    assert list(kept.values_list("kind", flat=True)) == ["device", "payment"]
    assert not Referral.objects.exists()
    second = shop.post("members/dan/referral", {"code": code})
    assert (second.status, second.json["outcome"], second.json["state"]) == (201, "recorded", "flagged")
    again = shop.post("members/dan/referral", {"code": code})
    assert (again.status, again.json["outcome"], again.json["referral"]) == (200, "repeated", second.json["referral"])
    (waiting,) = shop.get("referrals", awaits_review="true").json["results"]
    assert (waiting["member"], waiting["awaits_review"]) == ("dan", True)
    assert shop.get("referrals", awaits_review="false").json["results"] == []


def decide(api: Api, verb: str, member: str, key: str, reason: str = "seen the papers") -> Any:
    referral = Referral.objects.get(member__external_id=member)
    return api.post(f"referrals/{referral.pk}/{verb}", {"reason": reason}, headers={"Idempotency-Key": key})


def test_without_a_policy_there_is_nothing_to_bind_by(shop: Api, program: Program) -> None:
    code = code_of(shop, "ann")
    policy = ReferralPolicy.objects.get(program=program)
    policy.versions.update(status="retired", ended_at=NOW)
    before = content()
    refused(bind(shop, "ben", code=code), before, 409, "no_referral_policy")
    refused(shop.get("referrals/k-factor"), before, 409, "no_referral_policy")


def test_the_last_click_binds_and_an_entered_code_beats_it(shop: Api, clock: Clock) -> None:
    ann, ben = code_of(shop, "ann"), code_of(shop, "ben")
    for code, at in ((ann, NOW), (ben, NOW + timedelta(hours=1))):
        clock(at)
        assert shop.post("referral-touches", {"code": code, "visitor": "visitor-1"}).status == 201
    clock(NOW + DAY)
    assert bind(shop, "dan", visitor="visitor-1", code=ann).json["referrer"] == "ann"
    assert bind(shop, "cat", visitor="visitor-1").json["referrer"] == "ben"


@pytest.fixture
def friends(shop: Api, program: Program, clock: Clock) -> Api:
    """Ann has brought Ben, who has qualified, and Cat, who has not; Ben has brought Dan."""
    ann, ben = code_of(shop, "ann"), code_of(shop, "ben")
    for name in ("ben", "cat"):
        bind(shop, name, code=ann)
    bind(shop, "dan", code=ben)
    order(shop, "ben", "o1", 5_000, clock)
    clock(NOW + 20 * DAY)
    settle(program, NOW + 20 * DAY)
    return shop


def test_a_member_sees_where_they_stand_and_of_friends_the_state_and_the_month(friends: Api) -> None:
    token = Api(friends.post("members/ann/tokens").json["token"])
    told = token.get("members/ann/referrals").json
    assert told["summary"] == "2 invited, 1 qualified, 2 to the next reward"
    assert (told["invited"], told["qualified"], told["next_milestone"], told["to_next"]) == (2, 1, 3, 2)
    assert told["results"] == [
        {"member": None, "state": "pending", "month": "2026-06"},
        {"member": None, "state": "qualified", "month": "2026-06"},
    ]
    shown = friends.get("members/ann/referrals").json["results"]
    assert [friend["member"] for friend in shown] == ["cat", "ben"]
    assert token.get("members/ben/referrals").status == 404
    assert token.get("referrals").code == "key_required"
    assert bind(token, "ann", code="X").code == "scope_missing"


def test_a_review_is_none_of_the_members_business(friends: Api) -> None:
    Referral.objects.filter(member__external_id="cat").update(state="flagged", decided_at=NOW)
    token = Api(friends.post("members/ann/tokens").json["token"])
    assert token.get("members/ann/referrals").json["results"][0]["state"] == "pending"
    assert friends.get("members/ann/referrals").json["results"][0]["state"] == "flagged"


def test_lists_are_filtered_by_state_and_by_either_side(friends: Api) -> None:
    def members(**query: Any) -> list[str]:
        return [row["member"] for row in friends.get("referrals", **query).json["results"]]

    assert members() == ["dan", "cat", "ben"]
    assert members(state="qualified") == ["ben"]
    assert members(referrer="ann") == ["cat", "ben"]
    assert members(member="dan") == ["dan"]
    assert members(bound_before=(NOW - DAY).isoformat()) == []
    assert friends.get("referrals", state="odd").code == "invalid_parameter"


def test_a_referral_says_who_has_what_for_it_and_why(friends: Api) -> None:
    told = friends.get(f"referrals/{Referral.objects.get(member__external_id='ben').pk}").json
    assert (told["member"], told["referrer"], told["upline"], told["order"]) == ("ben", "ann", None, "o1")
    assert (told["state"], told["score"], told["signals"]) == ("qualified", 0, [])
    rewards = [(row["member"], row["level"], row["points"], row["coupon"], row["state"]) for row in told["rewards"]]
    assert rewards == [("ben", 0, None, "welcome", "paid"), ("ann", 1, 500, None, "paid")]
    assert friends.get("members/ann/points").json["wallets"][0]["balance"]["available"] == 500


def test_another_programs_referral_is_unknown(friends: Api, foreign_program: Program, make_key: MakeKey) -> None:
    other = Api(make_key(Scope.REFERRALS_READ, program=foreign_program))
    assert other.get(f"referrals/{Referral.objects.first().pk}").code == "unknown_referral"  # type: ignore[union-attr]
    assert other.get("referrals").json["results"] == []


def test_events_tell_each_step_once(friends: Api, program: Program, clock: Clock) -> None:
    told = {"external_id": "r1", "member": "ben", "order": "o1", "refunded_at": (NOW + 21 * DAY).isoformat()}
    clock(NOW + 21 * DAY)
    assert friends.post("refunds", told | {"currency": "GBP", "amount_minor": 5_000}).status == 201
    outbox.drain(at=NOW + 21 * DAY)
    events = Event.objects.filter(program=program, type__startswith="referral.").order_by("number")
    assert [(event.type, event.subject) for event in events] == [
        ("referral.bound", "ben"),
        ("referral.bound", "cat"),
        ("referral.bound", "dan"),
        ("referral.qualified", "ben"),
        ("referral.rewarded", "ben"),
        ("referral.rewarded", "ann"),
        ("referral.clawed_back", "ben"),
        ("referral.clawed_back", "ann"),
    ]
    rewarded = events[5].data
    assert (rewarded["points"], rewarded["wallet"], rewarded["level"], rewarded["event"]) == (500, "points", 1, "order")


def test_k_counts_clicks_and_entered_codes_and_shows_no_value_before_its_time(friends: Api, clock: Clock) -> None:
    """June: two friends by code of four members, one click that led nowhere; one of the three invites qualified."""
    code = code_of(friends, "ann")
    clock(NOW + DAY)
    for _ in range(2):
        friends.post("referral-touches", {"code": code, "visitor": "visitor-9"})
    young = friends.get("referrals/k-factor", months=1).json["results"][0]
    assert (young["month"], young["state"], young["invites"]) == ("2026-06-01", "immature", 4)
    assert (young["qualified"], young["conversion"], young["k_gross"], young["k_net"]) == (None, None, None, None)
    clock(NOW + 120 * DAY)
    told = friends.get("referrals/k-factor", months=4).json
    assert told["horizon_days"] == 74
    june = told["results"][3]
    assert (june["month"], june["state"], june["members"], june["invites"], june["qualified"]) == (
        "2026-06-01", "mature", 4, 4, 1,
    )  # fmt: skip
    assert (june["invites_per_member"], june["conversion"]) == ("1.0000", "0.2500")
    assert (june["k_gross"], june["k_net"]) == ("0.2500", "0.2500")
    refund = {"external_id": "r1", "member": "ben", "order": "o1", "refunded_at": (NOW + 100 * DAY).isoformat()}
    friends.post("refunds", refund | {"currency": "GBP", "amount_minor": 5_000})
    outbox.drain(at=NOW + 120 * DAY)
    june = friends.get("referrals/k-factor", months=4).json["results"][3]
    assert (june["k_gross"], june["k_net"], june["qualified_net"]) == ("0.2500", "0.0000", 0)
    assert friends.get("referrals/k-factor", months=0).code == "invalid_parameter"


def test_values_of_fingerprints_are_not_kept(shop: Api) -> None:
    told = {"email": "ann@shop.example", "payment": "card-1", "address": "1 High St"}
    assert shop.post("members/ann/fingerprints", told).status == 204
    assert shop.post("members/ann/fingerprints", told).status == 204
    rows = Fingerprint.objects.filter(member=Member.objects.get(external_id="ann"))
    assert sorted(rows.values_list("kind", flat=True)) == ["address", "email", "payment"]
    assert all(len(bytes(row.digest)) == 32 for row in rows)


def test_a_key_may_reject_and_reopen_and_stands_in_the_trail(
    friends: Api, program: Program, clock: Clock, make_key: MakeKey
) -> None:
    later = NOW + 21 * DAY
    clock(later)
    rejected = decide(friends, "reject", "ben", "k1")
    assert (rejected.status, rejected.json["state"], rejected.json["reason"]) == (200, "rejected", "seen the papers")
    outbox.drain(at=later)
    assert friends.get("members/ann/points").json["wallets"][0]["balance"]["available"] == 0
    assert decide(friends, "reject", "ben", "k1").headers["Idempotent-Replayed"] == "true"
    before = content()
    refused(decide(friends, "reject", "ben", "k2"), before, 409, "wrong_referral_state")
    refused(decide(friends, "approve", "ben", "k3"), before, 409, "wrong_referral_state")
    refused(decide(friends, "reopen", "cat", "k4"), before, 409, "wrong_referral_state")
    refused(decide(friends, "reopen", "ben", "k5", reason=""), before, 422, "invalid_request")
    refused(friends.post("referrals/0/reopen", {"reason": "x"}, headers={"Idempotency-Key": "k"}), before, 404,
            "unknown_referral")  # fmt: skip
    refused(friends.post(f"referrals/{Referral.objects.first().pk}/reopen", {"reason": "x"}), before, 400,  # type: ignore[union-attr]
            "idempotency_key_missing")  # fmt: skip
    weak = Api(make_key(Scope.REFERRALS_READ, Scope.REFERRALS_WRITE))
    refused(decide(weak, "reopen", "ben", "k6"), before, 403, "scope_missing")
    assert decide(friends, "reopen", "ben", "k7").json["state"] == "pending"
    settle(program, later)
    told = friends.get(f"referrals/{Referral.objects.get(member__external_id='ben').pk}").json
    assert (told["state"], told["reopened_at"]) == ("qualified", later.isoformat().replace("+00:00", "Z"))
    paid = [(row["level"], row["round"], row["state"]) for row in told["rewards"]]
    assert paid == [(0, 1, "clawed_back"), (0, 2, "paid"), (1, 1, "clawed_back"), (1, 2, "paid")]
    entries = AuditEntry.objects.filter(action__startswith="referral.").order_by("pk")
    assert [(entry.action, entry.actor.split()[0], entry.reason) for entry in entries] == [
        ("referral.rejected", "key", "seen the papers"), ("referral.reopened", "key", "seen the papers"),
    ]  # fmt: skip
