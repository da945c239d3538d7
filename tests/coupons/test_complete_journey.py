"""The Complete Journey: 2,102 real redemptions of 981 coupons in 27 campaigns, as claims, holds and commits.

A definition is a coupon of a campaign, open from the campaign's first local day through its last. What households did,
is accepted; the same moved out of the campaigns is refused.
"""

import csv
import gzip
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from core import versions
from core.calendar import day_start
from core.definitions import as_written
from core.models import OutboxEvent, Program
from coupons.definitions import CouponTerms
from coupons.models import Claim, ClaimState, CouponDefinition, Redemption, RedemptionState
from coupons.published import list_offers
from coupons.rules import Applied, Basket, Candidate, Line
from coupons.services import claims, redemptions
from membership.models import Member
from tests.coupons.giving import DAY, START, enroll, written

FILES = Path(__file__).parents[2] / "samples" / "complete_journey"
ZONE = "America/New_York"
TICK = timedelta(microseconds=1)
BASKET = Basket("USD", (Line("1", "sku", "grocery", 1, 500, 500),))

# The whole takes two minutes.
SOME = [pytest.param(12, id="some"), pytest.param(1, id="all", marks=pytest.mark.deep)]

pytestmark = pytest.mark.django_db


@dataclass(frozen=True)
class Use:
    """A household used a coupon of a campaign; `nth`: for how many-th time."""

    household: str
    coupon: str
    campaign: str
    day: date
    nth: int

    @property
    def code(self) -> str:
        return f"{self.campaign}-{self.coupon}"

    @property
    def reference(self) -> str:
        return f"{self.household}-{self.code}-{self.nth}"


def rows(name: str) -> list[dict[str, str]]:
    with gzip.open(FILES / f"{name}.csv.gz", "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def uses() -> Iterator[Use]:
    seen: Counter[tuple[str, str, str]] = Counter()
    for row in rows("coupon_redemptions"):
        key = (row["household_id"], row["coupon_upc"], row["campaign_id"])
        seen[key] += 1
        yield Use(*key, date.fromisoformat(row["redemption_date"]), seen[key])


def some_or_all(one_in: int) -> list[Use]:
    """Return the uses of one in so many households, and of all who used a coupon twice."""
    found = list(uses())
    twice = {use.household for use in found if use.nth > 1} if one_in > 1 else set()
    return [use for use in found if use.household in twice or int(use.household) % one_in == 0]


def windows() -> dict[str, tuple[datetime, datetime]]:
    """Return from when to when each campaign's coupons can be used."""
    return {
        row["campaign_id"]: (
            day_start(date.fromisoformat(row["start_date"]), ZONE),
            day_start(date.fromisoformat(row["end_date"]) + DAY, ZONE),
        )
        for row in rows("campaign_descriptions")
    }


def set_up(uses_: list[Use], *, how: str = "claimed") -> Program:
    """A program with the coupons that were used, every one of them in its campaign, and the households that did."""
    program = Program.objects.create(code="journey", name="Journey", currency="USD", time_zone=ZONE)
    enroll(program, *sorted({use.household for use in uses_}))
    spans, used = windows(), {use.code for use in uses_}
    for row in rows("coupons"):
        if f"{row['campaign_id']}-{row['coupon_upc']}" not in used:
            continue
        starts_at, ends_at = spans[row["campaign_id"]]
        told = {"name": row["coupon_upc"], "discount": {"amount": {"USD": "1.00"}}, "how": how}
        terms = CouponTerms.model_validate(
            told | {"starts_at": starts_at.isoformat(), "ends_at": ends_at.isoformat()}, context={"currency": "USD"}
        )
        code = f"{row['campaign_id']}-{row['coupon_upc']}"
        definition = CouponDefinition.objects.create(program=program, code=code)
        versions.publish(definition, as_written(terms, "USD"), at=START)
    program.refresh_from_db()
    return program


def applied(program: Program, claim: Claim) -> Applied:
    offer = list_offers(program).by_version[claim.version_id]
    key = f"claim:{claim.pk}"
    return Applied(Candidate(key, offer.definition_id, offer.version_id, offer.code, offer.terms, claim.pk), (100,))


def members(program: Program) -> dict[str, int]:
    return dict(Member.objects.filter(program=program).values_list("external_id", "pk"))


def use_coupon(program: Program, member_id: int, use: Use, at: datetime, order_id: int) -> None:
    claim = claims.claim(program=program, member_id=member_id, definition=use.code, source=f"use:{use.nth}", at=at)
    told: dict[str, Any] = {"program": program, "member_id": member_id, "reference": use.reference, "at": at}
    redemptions.hold(
        **told, currency="USD", applied=[applied(program, claim)], basket=BASKET, held_until=at + timedelta(minutes=15)
    )
    redemptions.commit(**told, order_id=order_id)


def test_the_data_are_what_the_issue_says() -> None:
    found = list(uses())
    told = {(row["household_id"], row["campaign_id"]) for row in rows("campaigns")}
    coupons = {(row["campaign_id"], row["coupon_upc"]) for row in rows("coupons")}
    assert (len(found), len(windows()), len({coupon for _, coupon in coupons})) == (2_102, 27, 981)
    assert sum(use.nth > 1 for use in found) == 27
    assert all((use.household, use.campaign) in told and (use.campaign, use.coupon) in coupons for use in found)


@pytest.mark.parametrize("one_in", SOME)
def test_every_real_redemption_is_accepted(one_in: int) -> None:
    found = some_or_all(one_in)
    program = set_up(found)
    ids = members(program)
    for number, use in enumerate(found, 1):
        use_coupon(program, ids[use.household], use, day_start(use.day, ZONE) + DAY / 2, number)
    assert Claim.objects.filter(state=ClaimState.USED).count() == len(found)
    assert Claim.objects.filter(number=2).count() == 27
    assert Redemption.objects.filter(state=RedemptionState.COMMITTED, discount_minor=100).count() == len(found)
    topics = Counter(OutboxEvent.objects.filter(topic__startswith="coupons.").values_list("topic", flat=True))
    assert topics == dict.fromkeys(("coupons.claimed", "coupons.held", "coupons.redeemed"), len(found))


@pytest.mark.parametrize("one_in", SOME)
def test_the_same_outside_of_their_campaigns_are_refused_and_leave_no_trace(one_in: int) -> None:
    found, spans = some_or_all(one_in), windows()
    program = set_up(found)
    ids = members(program)
    before = written()
    said: Counter[str] = Counter()
    for use in found:
        starts_at, ends_at = spans[use.campaign]
        at, length = day_start(use.day, ZONE) + DAY / 2, ends_at - starts_at
        for moved in (starts_at - TICK, at - length, ends_at, at + length):
            with pytest.raises(claims.CouponRefused) as refusal:
                use_coupon(program, ids[use.household], use, moved, 1)
            said[type(refusal.value).__name__] += 1
    assert said == {"NotYetValid": 2 * len(found), "CouponEnded": 2 * len(found)}
    assert written() == before


def test_the_first_and_the_last_instant_of_a_campaign_belong_to_it() -> None:
    found, spans = list(uses())[:40], windows()
    program = set_up(found)
    ids = members(program)
    for number, use in enumerate(found, 1):
        starts_at, ends_at = spans[use.campaign]
        use_coupon(program, ids[use.household], use, starts_at if number % 2 else ends_at - TICK, number)
    assert Redemption.objects.filter(state=RedemptionState.COMMITTED).count() == 40


def test_what_was_issued_before_the_campaign_cannot_be_used_outside_of_it() -> None:
    found, spans = list(uses())[:40], windows()
    program = set_up(found, how="issued")
    ids = members(program)
    for use in found:
        starts_at, ends_at = spans[use.campaign]
        told: dict[str, Any] = {"program": program, "member_id": ids[use.household]}
        claim = claims.issue(**told, definition_code=use.code, source=f"campaign:{use.nth}", at=starts_at - 9 * DAY)
        told |= {"currency": "USD", "applied": [applied(program, claim)], "basket": BASKET}
        before = written()
        for at in (starts_at - TICK, ends_at):
            with pytest.raises(redemptions.CouponUnavailable):
                redemptions.hold(**told, reference=use.reference, held_until=at + DAY, at=at)
        assert written() == before
        assert redemptions.hold(**told, reference=use.reference, held_until=ends_at, at=starts_at)
