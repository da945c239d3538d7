"""Plays a case of `tests/trials/points/`: each step is one call of a service, and answers what the case compares."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from core.models import Program
from membership.fact_inputs import MemberInput
from membership.models import Ladder, Member, Order, Refund
from membership.selectors import tiers_at
from membership.services.facts import RecordedFacts
from membership.services.members import enroll_members
from points.models import LedgerTransaction, Lot, Wallet
from points.postings import digest
from points.selectors import get_balance
from points.services import operations
from points.services.expiry import settle_due
from storefront.api.bodies import ActivityBody, OrderBody, OrderEditBody, RefundBody
from storefront.checkout_inputs import CheckoutInput
from storefront.models import Checkout
from storefront.pricing import Basket, Line
from storefront.refund_splits import read_splits
from storefront.services import day_close, intake, program_file
from storefront.services.checkouts import holding, quoting

LONG_AGO = datetime(2015, 1, 1, tzinfo=UTC)
Step = dict[str, Any]
Answer = dict[str, Any]


class Player:
    """One case: its program under a code of its own, and the checkouts and postings that later steps name."""

    def __init__(self, name: str, folder: Path) -> None:
        self.code, self.folder = f"trial-{name.partition('-')[0]}", folder
        self.program: Program | None = None
        self.checkouts: dict[str, Checkout] = {}
        self.now = LONG_AGO

    def play(self, step: Step) -> Answer:
        """Return what a step answers, `error` with the code of its refusal or the name of its exception."""
        do: Callable[[Step], Answer] = getattr(self, f"_{step['op']}")
        if "at" in step:
            self.now = instant(step["at"])
        try:
            return {"error": None} | do(step)
        except AssertionError:
            raise
        except Exception as error:
            if "error" not in step.get("expect", {}):
                raise
            return {"error": name_of(error)}

    # --- definitions -----------------------------------------------------------------------------------------------

    def _program(self, step: Step) -> Answer:
        path = self.folder / f"{self.code}.yaml"
        path.write_text(json.dumps(step["doc"]))
        at = instant(step["at"]) if "at" in step else LONG_AGO
        self.program = program_file.apply(program_file.load(path, code=self.code), at=at, actor="test")
        return {}

    def _member(self, step: Step) -> Answer:
        joined_at = instant(step["joined_at"])
        told = MemberInput(external_id=step["id"], joined_at=joined_at)
        enroll_members(program=self._shop, members=[told], at=joined_at)
        return {}

    # --- facts -----------------------------------------------------------------------------------------------------

    def _order(self, step: Step) -> Answer:
        body = with_zones(step["body"])
        if "checkout" in body:
            body["checkout"] = str(self.checkouts[body["checkout"]].public_id)
        told = OrderBody.model_validate_json(json.dumps(body)).told()
        return counted(intake.record(program=self._shop, orders=[told], at=self._told_at(step, told.paid_at)))

    def _refund(self, step: Step) -> Answer:
        told = RefundBody.model_validate_json(json.dumps(with_zones(step["body"]))).told()
        recorded = intake.record(program=self._shop, refunds=[told], at=self._told_at(step, told.refunded_at))
        refund = Refund.objects.get(program=self._shop, external_id=told.external_id, member=self._member_id(step))
        return counted(recorded) | given_back(refund)

    def _edit(self, step: Step) -> Answer:
        body = with_zones(step["body"])
        told = OrderEditBody.model_validate_json(json.dumps(body)).told(step["order"])
        return counted(intake.edit_order(program=self._shop, edit=told, at=self._told_at(step, told.edited_at)))

    def _activity(self, step: Step) -> Answer:
        told = ActivityBody.model_validate_json(json.dumps(with_zones(step["body"]))).told()
        at = self._told_at(step, told.occurred_at)
        return counted(intake.record(program=self._shop, activities=[told], at=at))

    def _cancel(self, step: Step) -> Answer:
        at = instant(step["at"])
        return counted(intake.cancel_order(program=self._shop, order=step["order"], cancelled_at=at, at=at))

    # --- decisions -------------------------------------------------------------------------------------------------

    def _adjust(self, step: Step) -> Answer:
        told = self._decision(step) | {"reason": "a trial", "decided_by": "test"}
        operations.adjust(**told, points=step["points"], debt=step.get("debt", False))
        return {}

    def _redeem(self, step: Step) -> Answer:
        operations.redeem(**self._decision(step), points=step["points"])
        return {}

    def _reverse(self, step: Step) -> Answer:
        told = self._decision(step) | {"reason": "a trial", "decided_by": "test"}
        own = LedgerTransaction.objects.filter(member_id=told["member_id"])
        reversed_id = own.get(key_digest=digest(f"client:{step['of']}")).pk
        operations.reverse(**told, transaction_id=reversed_id)
        return {}

    def _checkout(self, step: Step) -> Answer:
        basket, points = step["basket"], step.get("points", 0)
        lines = tuple(Line(**line) for line in basket["lines"])
        told = CheckoutInput(
            basket=Basket(basket["currency"], lines, basket.get("shipping_minor", 0)),
            member=step.get("member", "m"),
            wallet=step.get("wallet", "points") if points else "",
            points=points or None,
        )
        checkout = quoting.quote(program=self._shop, told=told, at=self.now)
        if step.get("hold", True):
            checkout = holding.hold(program=self._shop, public_id=checkout.public_id, at=self.now).checkout
        self.checkouts[step["ref"]] = checkout
        earns = sum(each["points"] for each in checkout.price["earns"] or [])
        return {"to_pay_minor": checkout.price["to_pay_minor"], "points": checkout.points, "earns": earns}

    def _release(self, step: Step) -> Answer:
        checkout = self.checkouts[step["ref"]]
        return {"ended": holding.release(program=self._shop, public_id=checkout.public_id, at=self.now).is_new}

    def _lapse(self, _step: Step) -> Answer:
        return {"ended": bool(holding.end_lapsed(at=self.now))}

    # --- time and what is asked ------------------------------------------------------------------------------------

    def _evaluate(self, step: Step) -> Answer:
        until = instant(step["until"])
        for day in day_close.list_due_days(program=self._shop, at=until):
            day_close.close_day(program=self._shop, day=day, at=until)
        return {}

    def _settle(self, step: Step) -> Answer:
        through = instant(step["through"])
        settle_due(program=self._shop, through=through, at=through)
        return {}

    def _points(self, step: Step) -> Answer:
        balance = get_balance(member_id=self._member_id(step), wallet_id=self._wallet_id(step), at=self.now)
        return {name: getattr(balance, name) for name in ("available", "pending", "held", "debt")}

    def _tier(self, step: Step) -> Answer:
        ladder = Ladder.objects.get(program=self._shop, code="main")
        period = tiers_at(ladder_id=ladder.pk, at=self.now, member_ids=[self._member_id(step)]).get()
        return {"tier": period.tier.code}

    def _returned(self, step: Step) -> Answer:
        return {"returned": Order.objects.get(program=self._shop, external_id=step["order"]).returned_at is not None}

    def _expires(self, _step: Step) -> Answer:
        newest = Lot.objects.filter(member__program=self._shop).order_by("-pk")[0]
        return {"expires_at": newest.expires_at and newest.expires_at.isoformat()}

    # --- what steps name -------------------------------------------------------------------------------------------

    @property
    def _shop(self) -> Program:
        assert self.program is not None, "a case begins with its program"
        return self.program

    def _told_at(self, step: Step, fact_at: datetime) -> datetime:
        return instant(step["at"]) if "at" in step else fact_at

    def _member_id(self, step: Step) -> int:
        name = step.get("body", step).get("member", "m")
        return Member.objects.get(program=self._shop, external_id=name).pk

    def _wallet_id(self, step: Step) -> int:
        return Wallet.objects.get(program=self._shop, code=step.get("wallet", "points")).pk

    def _decision(self, step: Step) -> dict[str, Any]:
        return {
            "program": self._shop,
            "member_id": self._member_id(step),
            "wallet_id": self._wallet_id(step),
            "idempotency_key": step["key"],
            "at": self.now,
        }


def instant(text: str) -> datetime:
    """Read an instant; without a zone it is UTC."""
    read = datetime.fromisoformat(text)
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def with_zones(body: dict[str, Any]) -> dict[str, Any]:
    """Return a body as a shop would send it."""
    return {name: instant(value).isoformat() if name.endswith("_at") else value for name, value in body.items()}


def counted(recorded: RecordedFacts) -> Answer:
    return {"repeated": recorded.repeated}


def given_back(refund: Refund) -> Answer:
    """Return what a refund gave back, as its answer says."""
    split = read_splits([refund]).of(refund).whole
    return {"money_minor": split.money_minor, "points": split.points or 0}


def name_of(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return "invalid_request"
    return str(getattr(error, "code", "") or type(error).__name__)
