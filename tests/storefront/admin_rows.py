"""Rows for every list of the admin, as many as a test wants."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from django.contrib.auth.models import Group, User

from analytics.models import RetentionState
from analytics.services import cells
from core.event_types import EventType
from core.models import Program, Scope, WebhookAttempt, WebhookDelivery
from core.services import api_keys, audit, feed, outbox, webhooks
from coupons.services import claims, code_batches, redemptions
from membership.fact_inputs import MemberInput
from membership.models import Evaluation, Ladder, Member
from membership.services.members import enroll_members
from points.models import AdjustmentRequest, Wallet
from referrals.models import ReferralPolicy
from storefront.checkout_inputs import CheckoutInput
from storefront.models import DayClose
from storefront.pricing import Basket, Line
from storefront.services import intake, program_file
from storefront.services.checkouts import quoting
from tests.coupons.giving import BASKET, publish, use
from tests.referrals import worlds
from tests.storefront.shop import definition, order, refund, review

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
# Registered for a page of its own, which is no list of rows.
NO_LISTS = {RetentionState}
START = datetime(2026, 1, 10, 9, 30, tzinfo=UTC)
DAY = timedelta(days=1)


def make_program(folder: Path, code: str) -> Program:
    path = folder / f"{code}.yaml"
    path.write_text(json.dumps(definition(code, {})))
    return program_file.apply(program_file.load(path), at=START, actor="test")


def add_rows(folder: Path, numbers: range) -> Program:
    """Add a row for each number to every list, and return the program that most of them belong to."""
    programs = [make_program(folder, f"shop{n}") for n in numbers]
    program = Program.objects.get(code="shop0")
    joined = [MemberInput(external_id=f"m{n}", joined_at=START) for n in numbers]
    enroll_members(program=program, members=joined, at=START)
    intake.record(
        program=program,
        orders=[order(f"o{n}", (2, 3_000), (1, 1_050), member=f"m{n}") for n in numbers],
        refunds=[refund(f"r{n}", (f"o{n}.1", 1, 1_500), member=f"m{n}") for n in numbers],
        activities=[review(f"a{n}", member=f"m{n}") for n in numbers],
        at=NOW,
    )
    cells.refresh(program=program, through=NOW, at=NOW)
    for n, other in zip(numbers, programs, strict=True):
        add_operations(program, n)
        add_referrals(program, other, n)
        ladder = Ladder.objects.get(program=other)
        version = ladder.versions.get()
        Evaluation.objects.create(ladder=ladder, version=version, at=START, started_at=NOW)
    return program


def add_operations(program: Program, n: int) -> None:
    """Keys, endpoints, events with deliveries, closes, news, audit entries, operators and groups."""
    at = NOW + timedelta(minutes=n)
    api_keys.issue(program=program, name=f"key {n}", scopes=[Scope.MEMBERS_READ], actor="test", at=at)
    url, by = f"https://shop.example/hooks/{n}", webhooks.By("test")
    endpoint = webhooks.create(program=program, url=url, by=by, at=at, event_types=[EventType.MEMBER_UPDATED])
    webhooks.send_test(endpoint=endpoint, by=webhooks.By("test"), at=at)
    delivery = WebhookDelivery.objects.get(endpoint=endpoint)
    WebhookAttempt.objects.create(delivery=delivery, attempted_at=at, duration_ms=12, status=503)
    member = Member.objects.filter(program=program).order_by("id")[n]
    add_coupons(program, member, n)
    basket = CheckoutInput(basket=Basket("GBP", (Line("a", 1, 1_000 + n),), 499), member=member.external_id)
    quoting.quote(program=program, told=basket, at=at)
    feed.announce(program_id=program.pk, news=[feed.News(EventType.MEMBER_ENROLLED, f"m{n}", {}, at)], at=at)
    outbox.publish(program_id=program.pk, topic="test.told", payload={"n": n}, at=at)
    audit.record(action=f"test.done{n % 3}", target=f"test {n}", actor=f"actor{n % 4}", program=program, at=at)
    close = DayClose.objects.create(
        program=program, day=(START + n * DAY).date(), through=START + (n + 1) * DAY, requested_by="clock",
        started_at=at, leased_until=at, finished_at=at + DAY,
    )  # fmt: skip
    close.steps.create(position=1, name="settle", started_at=at, finished_at=at, counts={"accounts": n})
    account = {"member_id": member.pk, "wallet_id": Wallet.objects.filter(program=program).earliest("pk").pk}
    AdjustmentRequest.objects.create(
        **account, points=500 + n, reason="sorry", key=str(n), requested_by=f"actor{n}", requested_at=at
    )
    User.objects.create_user(f"user{n}")
    Group.objects.create(name=f"group {n}")


def add_coupons(program: Program, member: Member, n: int) -> None:
    """A coupon with a code, a batch of codes, a member's claim, and what a checkout takes off by it."""
    at = NOW + timedelta(minutes=n)
    coupon = publish(program, f"five{n}", limit=10 + n)
    code_batches.create_code(program=program, definition=coupon, text=f"SUMMER{n}", actor="test", at=at)
    code_batches.request_batch(program=program, definition=coupon, count=100, requested_by="test", at=at)
    claim = claims.claim(program=program, member_id=member.pk, definition=coupon.code, at=at)
    redemptions.hold(
        program=program, member_id=member.pk, reference=f"checkout {n}", currency="GBP", basket=BASKET,
        applied=[use(program, claim)], held_until=at + DAY, at=at,
    )  # fmt: skip


def add_referrals(program: Program, other: Program, n: int) -> None:
    """A policy for the other program, and a friend of a member of the first."""
    worlds.publish_terms(ReferralPolicy.objects.create(program=other, code="main"), at=START)
    referrer, friend = worlds.enroll(program, f"referrer{n}", f"friend{n}")
    worlds.bring(referrer, friend)
