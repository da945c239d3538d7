"""What the world is told: every type by a real use case, in the documented form, once, and no history."""

import json
import re
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from core.event_types import EventType
from core.models import Event, Program
from core.services import webhooks
from coupons.services.guessing import publish_alarm
from membership.fact_inputs import MemberInput, OrderEditInput, OrderLineInput
from membership.models import Refund, Tier
from membership.services import evaluations, fact_corrections, overrides
from membership.services.fact_corrections import ActivityCorrection
from membership.services.members import enroll_members, update_member
from membership.services.tiers import apply_dirty
from points.models import SEQ_BITS, Wallet
from points.services import corrections, holds
from points.services.expiry import settle_due
from points.services.reminders import remind
from referrals.models import Referral, ReferralState
from referrals.services import reviews
from storefront.api.event_data import DATA
from storefront.services import intake
from tests.referrals import worlds
from tests.storefront.announced import (
    DAY,
    JOINED,
    NOW,
    adjust,
    announced,
    deliver,
    forget,
    ladder,
    make_shop,
    member,
    redeem,
    reverse,
    tell,
)
from tests.storefront.coupon_uses import use_coupons
from tests.storefront.late_payments import pay_late
from tests.storefront.shop import order, refund, review

pytestmark = pytest.mark.django_db

DOCUMENT = Path(__file__).parents[2] / "docs" / "events.md"
EXAMPLE = re.compile(r"^### `([a-z_.]+)`\n\n.+?\n\n```json\n(.+?)```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def program(tmp_path: Path) -> Program:
    program = make_shop(tmp_path)
    forget()
    return program


def paid(name: str, minor: int, *, at: Any = NOW, who: str = "m0") -> dict[str, Any]:
    return {"orders": [order(name, (2, minor), at=at, member=who)]}


def live_through_everything(program: Program) -> None:
    """Every use case that is announced, each once or more."""
    enroll_members(program=program, members=[MemberInput(external_id="m9", joined_at=NOW, birthday=None)], at=NOW)
    update_member(member=member(program), changes={"locale": "en-GB"}, actor="ops", at=NOW)
    tell(program, **paid("o1", 15_000), activities=[review("v1", at=NOW)])
    wrong = ActivityCorrection(member="m0", activity="v1", external_id="c1", reason="a mistake", kind="visit")
    fact_corrections.correct_activity(program=program, correction=wrong, decided_by="ops", at=NOW)
    line = OrderLineInput(external_id="added", units=1, amount_minor=2_000)
    edit = OrderEditInput(order="o1", external_id="e1", edited_at=NOW, currency="GBP", lines=(line,))
    intake.edit_order(program=program, edit=edit, at=NOW)
    spent = redeem(program, 20)
    reverse(program, spent)
    adjust(program, -5)
    who: dict[str, Any] = {"program": program, "member_id": member(program).pk, "reference": "c"}
    who["wallet_id"] = Wallet.objects.get(program=program, code="points").pk
    holds.hold(**who, points=10, held_until=NOW + DAY, at=NOW)
    holds.capture(**who, points=7, at=NOW)
    holds.release(**who, at=NOW)
    tell(program, refunds=[refund("r1", ("o1.1", 1, 7_500), at=NOW)])
    holds.give_back(**who, points=2, refund_id=Refund.objects.get(external_id="r1").pk, at=NOW)
    held: dict[str, Any] = {
        "member": member(program),
        "ladder": ladder(program),
        "decided_by": "ops",
        "reason": "a complaint",
    }
    overrides.override_tier(**held, tier=Tier.objects.get(code="gold"), valid_until=NOW + 9 * DAY, at=NOW)
    deliver()
    overrides.lift_override(member=held["member"], ladder=held["ladder"], reason="done", decided_by="ops", at=NOW + DAY)
    deliver(NOW + DAY)
    settle_due(program=program, through=NOW + 4 * DAY, at=NOW + 4 * DAY)
    remind(program=program, through=NOW + 58 * DAY, at=NOW + 58 * DAY)
    settle_due(program=program, through=NOW + 70 * DAY, at=NOW + 70 * DAY)
    use_coupons(program, at=NOW)
    pay_late(program, at=NOW)
    publish_alarm(program_id=program.pk, wrong_codes=1_000, at=NOW)
    endpoint = webhooks.create(program=program, url="https://a.example", by=webhooks.By("ops"), at=NOW)
    webhooks.send_test(endpoint=endpoint, by=webhooks.By("ops"), at=NOW)
    assert deliver(NOW + 70 * DAY).failed == 0


def test_every_type_is_documented_with_an_example_of_its_keys(program: Program, tmp_path: Path) -> None:
    documented = {kind: json.loads(example) for kind, example in EXAMPLE.findall(DOCUMENT.read_text())}
    assert set(documented) == set(EventType.values)
    live_through_everything(program)
    live_through_a_downgrade(make_shop(tmp_path, "other"))
    live_through_a_correction(make_shop(tmp_path, "late"))
    live_through_referrals()
    found = announced()
    assert {kind for kind, _ in found} == set(EventType.values)
    assert set(DATA) == set(EventType)
    for kind, data in [*found, *documented.items()]:
        DATA[EventType(kind)].model_validate(data)
    for kind, data in found:
        assert data.keys() == documented[kind].keys(), kind
        for key, value in data.items():
            assert value is None or documented[kind][key] is None or type(value) is type(documented[kind][key]), kind


def live_through_a_correction(program: Program) -> None:
    """An order that moves up is told after a later one."""
    tell(program, **paid("o2", 1_000, at=NOW - DAY))
    tell(program, **paid("o1", 15_000, at=NOW - 2 * DAY))
    corrections.correct(program=program, through=NOW, at=NOW)
    deliver()


def test_what_becomes_of_a_hold_is_told_with_its_points(program: Program) -> None:
    tell(program, **paid("o1", 15_000))
    who: dict[str, Any] = {"program": program, "member_id": member(program).pk, "reference": "c"}
    who["wallet_id"] = Wallet.objects.get(program=program, code="points").pk
    held = holds.hold(**who, points=60, held_until=NOW + DAY, at=NOW).transaction_id % (1 << SEQ_BITS)
    holds.capture(**who, points=45, at=NOW)
    tell(program, refunds=[replace(refund("r1", ("o1.1", 2, 15_000), at=NOW), order="o1")])
    holds.give_back(**who, points=20, refund_id=Refund.objects.get().pk, at=NOW)
    holds.release(**who, at=NOW)
    deliver()
    told = {kind: {key: data.get(key) for key in ("points", "hold", "order", "refund")} for kind, data in announced()}
    assert told[EventType.POINTS_HELD] == {"points": 60, "hold": None, "order": None, "refund": None}
    assert told[EventType.POINTS_CAPTURED] == {"points": 45, "hold": held, "order": None, "refund": None}
    assert told[EventType.POINTS_GIVEN_BACK] == {"points": 20, "hold": held, "order": "o1", "refund": "r1"}
    assert told[EventType.POINTS_RELEASED] == {"points": 15, "hold": held, "order": None, "refund": None}


def live_through_referrals() -> None:
    """A friend who qualifies, is paid for and gives the order back; friends with one device, refused at first."""
    shop = worlds.make_shop("referrals")
    referrer, friend, *others = worlds.enroll(shop, "ann", "ben", "cat", "dan", "eve")
    worlds.bring(referrer, friend)
    worlds.buy(friend, "good", 5_000)
    worlds.settle(shop)
    worlds.give_back(friend, "back", "good", 5_000, at=worlds.SETTLED)
    for other in others:
        worlds.bring(referrer, other, told={"device": "one tablet"})
        worlds.buy(other, f"by {other.external_id}", 5_000)
    worlds.settle(shop)
    ops = User.objects.create_user("reviewer")
    waiting = Referral.objects.filter(program=shop, state=ReferralState.FLAGGED)
    rejected = reviews.reject(referral=waiting[0], reason="one tablet", actor="ops", user=ops, at=worlds.SETTLED)
    assert deliver(worlds.SETTLED).failed == 0
    reviews.reopen(referral=rejected, reason="a family", actor="ops", user=ops, at=worlds.SETTLED)
    assert deliver(worlds.SETTLED).failed == 0


def live_through_a_downgrade(program: Program) -> None:
    """Silver by an order that ages out of its window, and silver by an order that comes back."""
    enroll_members(program=program, members=[MemberInput(external_id="m1", joined_at=JOINED)], at=JOINED)
    tell(program, **paid("o1", 15_000))
    tell(program, **paid("o2", 15_000, who="m1"))
    tell(program, refunds=[refund("r2", ("o2.1", 2, 15_000), at=NOW + DAY, member="m1")], at=NOW + DAY)
    for instant in evaluations.list_due(ladder=ladder(program), until=NOW + 400 * DAY):
        evaluations.evaluate(ladder=ladder(program), instant=instant, at=instant)
        assert deliver(instant).failed == 0


def test_a_downgrade_and_a_correction_are_told_apart(program: Program) -> None:
    live_through_a_downgrade(program)
    told = [(kind, data["member"], data["previous_tier"], data["tier"]) for kind, data in announced() if "tier" in kind]
    assert told == [
        ("tier.upgraded", "m0", "basic", "silver"),
        ("tier.upgraded", "m1", "basic", "silver"),
        ("tier.corrected", "m1", "silver", "basic"),
        ("tier.downgraded", "m0", "silver", "basic"),
    ]


def test_an_order_and_what_follows_from_it(program: Program) -> None:
    tell(program, **paid("o1", 15_000))
    deliver()
    (paid_event, *rest) = announced("order.paid", "points.earned", "tier.upgraded")
    assert paid_event[1] == {
        "order": "o1", "member": "m0", "paid_at": "2026-06-01T12:00:00Z", "amount_minor": 15_000, "currency": "GBP",
        "program_amount_minor": 15_000,
    }  # fmt: skip
    tier, points, gems = (data for _, data in rest)
    assert tier == {
        "member": "m0", "ladder": "main", "tier": "silver", "previous_tier": "basic",
        "valid_from": "2026-06-01T12:00:00.000001Z",
    }  # fmt: skip
    assert points == {
        "member": "m0", "wallet": "points", "seq": 1, "points": 150, "order": "o1", "activity": None,
        "available_at": "2026-06-01T12:00:00Z", "expires_at": "2026-07-31T23:00:00Z",
    }  # fmt: skip
    assert (gems["wallet"], gems["points"], gems["available_at"]) == ("gems", 150, "2026-06-03T23:00:00Z")
    assert set(Event.objects.values_list("subject", flat=True)) == {"m0"}


def test_points_are_told_with_their_sign_their_source_and_their_number(program: Program) -> None:
    tell(program, **paid("o1", 15_000))
    first, second = adjust(program, 40, key="up"), adjust(program, -30, key="down")
    reverse(program, second)
    tell(program, refunds=[replace(refund("r1", ("o1.1", 1, 7_500), at=NOW), order="o1")])
    deliver()
    assert [data["points"] for _, data in announced("points.adjusted")] == [40, -30]
    (reversed_,) = announced("points.reversed")
    assert (reversed_[1]["points"], reversed_[1]["reverses"]) == (30, second & 0xFFFFFF)
    back = [
        (data["wallet"], data["points"], data["order"], data["refund"]) for _, data in announced("points.clawed_back")
    ]
    assert back == [("points", 75, "o1", "r1"), ("gems", 75, "o1", "r1")]
    numbers = [data["seq"] for kind, data in announced() if data.get("wallet") == "points"]
    assert numbers == sorted(set(numbers))
    assert first & 0xFFFFFF in numbers


def test_what_falls_due_on_the_way_is_told_in_its_place(program: Program) -> None:
    """An order two months later: the points of the first have expired, though no job ran."""
    tell(program, **paid("o1", 1_000))
    deliver()
    forget()
    later = NOW + 65 * DAY
    tell(program, **paid("o2", 2_000, at=later), at=later)
    deliver(later)
    told = [
        (kind, data["points"], data.get("opened_in")) for kind, data in announced() if data.get("wallet") == "points"
    ]
    assert told == [("points.expired", 10, 1), ("points.earned", 20, None)]


def test_the_job_that_settles_is_told(program: Program) -> None:
    tell(program, **paid("o1", 1_000))
    forget()
    for at in (NOW + 4 * DAY, NOW + 61 * DAY):
        settle_due(program=program, through=at, at=at)
        deliver(at)
    assert [(kind, data["wallet"], data["points"]) for kind, data in announced()] == [
        ("points.vested", "gems", 10), ("points.expired", "points", 10),
    ]  # fmt: skip


def test_a_guests_order_has_no_subject_and_earns_nothing(program: Program) -> None:
    tell(program, **paid("o1", 1_000, who=""))
    deliver()
    assert [(kind, data["member"]) for kind, data in announced()] == [("order.paid", None)]
    assert Event.objects.get().subject == ""


def test_no_points_are_no_news(program: Program) -> None:
    tell(program, **paid("o1", 99))
    deliver()
    assert [kind for kind, _ in announced()] == ["order.paid"]


def test_history_is_not_announced_and_what_follows_it_is(program: Program, tmp_path: Path) -> None:
    """A bulk load of old orders says nothing, moves the tier quietly, and the next order is told from there."""
    old = NOW - 30 * DAY - timedelta(seconds=1)
    enroll_members(program=program, members=[MemberInput(external_id="old", joined_at=old - DAY)], at=NOW)
    tell(program, **paid("o1", 15_000, at=old, who="old"), activities=[review("v1", at=old, member="old")])
    tell(program, refunds=[refund("r1", ("o1.1", 1, 100), at=old, member="old")])
    deliver()
    assert announced() == []
    tell(program, **paid("o2", 20_000, who="old"))
    deliver()
    assert [(kind, data.get("previous_tier")) for kind, data in announced("tier.upgraded")] == [
        ("tier.upgraded", "silver")
    ]
    assert [data["order"] for _, data in announced("points.earned")] == ["o2", "o2"]


def test_what_is_thirty_days_old_is_news(program: Program) -> None:
    tell(program, **paid("o1", 1_000, at=JOINED), at=JOINED + 30 * DAY)
    deliver(JOINED + 30 * DAY)
    assert {kind for kind, _ in announced()} >= {"order.paid", "points.earned"}


def test_news_hold_no_personal_data_and_no_internal_ids(program: Program) -> None:
    live_through_everything(program)
    words = json.dumps(announced()) + json.dumps(list(Event.objects.values_list("subject", flat=True)))
    for word in ("a reason with a name in it", "a complaint", "en-GB", "ops"):
        assert word not in words
    named = [value for _, data in announced() for key, value in data.items() if key in ("order", "refund")]
    assert {type(value) for value in named} <= {str, type(None)}
    assert all(data.get("seq", 0) < 1 << SEQ_BITS for _, data in announced())


def test_a_thousand_facts_are_announced_with_a_handful_of_statements(tmp_path: Path) -> None:
    counts = []
    for size in (10, 1_000):
        program = make_shop(tmp_path, f"shop{size}", members=size)
        forget()
        orders = [order(f"{size}-{n}", (1, 15_000), at=NOW, member=f"m{n}") for n in range(size)]
        tell(program, orders=orders)
        with CaptureQueriesContext(connection) as queries:
            assert deliver().failed == 0
        counts.append(len([q for q in queries if "SAVEPOINT" not in q["sql"]]))
        kinds = [kind for kind, _ in announced()]
        assert kinds.count("order.paid") == kinds.count("tier.upgraded") == size
        assert kinds.count("points.earned") == 2 * size
    # Three news and their receipts for two apps, whatever they hold.
    assert counts[1] <= counts[0] + 2
    assert counts[1] < 70


def test_late_facts_that_take_a_tier_away_are_told_at_the_close(program: Program) -> None:
    tell(program, **paid("o1", 15_000, at=NOW - DAY), at=NOW - DAY)
    evaluations.evaluate(ladder=ladder(program), instant=NOW.replace(hour=0, day=1) - timedelta(hours=1), at=NOW)
    forget()
    tell(program, refunds=[refund("r1", ("o1.1", 2, 15_000), at=NOW - DAY)], at=NOW)
    apply_dirty(ladder=ladder(program), at=NOW)
    deliver()
    (told,) = announced("tier.corrected", "tier.downgraded", "tier.upgraded")
    assert (told[0], told[1]["previous_tier"], told[1]["tier"]) == ("tier.corrected", "silver", "basic")
