"""A shop in pounds that gives out coupons: how the tests of claims, codes and redemptions make what they need."""

from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps

from core import versions
from core.definitions import as_written
from core.models import Program
from coupons.definitions import CouponTerms
from coupons.models import Claim, CouponDefinition
from coupons.published import get_offer, list_offers
from coupons.rules import Applied, Basket, Candidate, Line
from coupons.services import limits
from membership.models import Member
from membership.services.members import MemberInput, enroll_members

START = datetime(2026, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
HELD_UNTIL = NOW + timedelta(minutes=15)
BASKET = Basket("GBP", (Line("a", "sku-a", "tea", 3, 3000, 3000), Line("b", "sku-b", "cups", 1, 2000, 2000)), 500)


def make_shop(code: str = "shop", *members: str) -> Program:
    """A program in London with members."""
    program = Program.objects.create(code=code, name="Shop", currency="GBP", time_zone="Europe/London")
    enroll(program, *members)
    return program


def enroll(program: Program, *names: str) -> list[int]:
    told = [MemberInput(external_id=name, joined_at=START) for name in names]
    enroll_members(program=program, members=told, at=START)
    return [id_of(program, name) for name in names]


def id_of(program: Program, name: str = "ada") -> int:
    return Member.objects.get(program=program, external_id=name).pk


def publish(program: Program, code: str = "five", *, at: datetime = START, **told: Any) -> CouponDefinition:
    """Publish a coupon of 5.00 off that members may claim, unless told otherwise; the program is read again."""
    terms = CouponTerms.model_validate(
        {"name": code.title(), "discount": {"amount": {"GBP": "5.00"}}, "how": "claimed"} | told,
        context={"currency": program.currency},
    )
    definition, _ = CouponDefinition.objects.get_or_create(program=program, code=code)
    versions.publish(definition, as_written(terms, program.currency), at=at)
    limits.set_limit(definition=definition, limit=terms.limit, shards=terms.shards)
    program.refresh_from_db()
    return definition


def use(program: Program, claim: Claim, *minor: int, shipping: int = 0) -> Applied:
    """What a quote says of a claim: so much off each line of the basket."""
    offer = get_offer(program, claim.version_id)
    candidate = Candidate(f"claim:{claim.pk}", claim.definition_id, claim.version_id, offer.code, offer.terms, claim.pk)
    return Applied(candidate, minor or (300, 200), shipping)


def without_claim(shop: Program, code: str, key: str = "") -> Applied:
    """A quote's coupon that needs no claim before."""
    offer = list_offers(shop).find(code, NOW)
    assert offer is not None
    key = key or f"offer:{offer.version_id}"
    return Applied(Candidate(key, offer.definition_id, offer.version_id, code, offer.terms), (300, 200))


def written() -> dict[str, int]:
    """Return how many rows there are of everything that coupons write, the outbox and counters included."""
    counts = {model.__name__: model._default_manager.count() for model in apps.get_app_config("coupons").get_models()}
    outbox = apps.get_model("core", "OutboxEvent")._default_manager.count()
    used = sum(apps.get_model("coupons", "CounterShard")._default_manager.values_list("used", flat=True))
    taken = apps.get_model("coupons", "CouponCode")._default_manager.exclude(claimed_by=None).count()
    return counts | {"outbox": outbox, "used": used, "taken": taken}
