"""A member of a shop who buys and brings back, told to the real services and to the oracle of returns beside them.

Instants are minutes since `START`. What the services do with a call is compared in `tests/points/return_checks.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from django.db.models import QuerySet

from membership.fact_inputs import (
    BadFact,
    MemberInput,
    OrderEditInput,
    OrderInput,
    OrderLineInput,
    RefundInput,
    RefundLineInput,
    RemovedLineInput,
)
from membership.models import Ladder, Member, OrderLine
from membership.models import Refund as RefundRow
from membership.services.members import enroll_members
from membership.services.tiers import apply_dirty
from points.selectors import get_balance
from points.services import corrections, operations
from points.services.posting import ClawbackRefused
from storefront.checkout_inputs import CheckoutInput
from storefront.pricing import Basket
from storefront.pricing import Line as BasketLine
from storefront.services import intake
from storefront.services.checkouts import holding, quoting
from tests.oracle import returns as model
from tests.points.return_purses import Purses
from tests.points.return_shops import MINUTE, START, WORTH, Shop

CODES = {"lines_above_refund": "invalid_value", "units_without_line": "invalid_value"}


class Difference(AssertionError):
    """The services and the oracle disagree."""


def require(is_right: bool, difference: str) -> None:
    if not is_right:
        raise Difference(difference)


def instant(minute: int) -> datetime:
    return START + minute * MINUTE


@dataclass(frozen=True)
class Item:
    """A line as it is bought: `in_points` are the minor units of it that were paid in points."""

    units: int
    amount: int
    in_points: int = 0
    category: str = ""


@dataclass
class Sold:
    """An order with its edits. `shares`: of each line, by which earned points are taken back."""

    order: model.Order
    categories: dict[str, str]
    day_amounts: list[tuple[int, int]]  # (minute, minor units of the program's currency) that count as spend
    edits: dict[str, str] = field(default_factory=dict)  # by line
    checkout: str = ""
    by_checkout: int = 0  # points
    shares: dict[str, Fraction] = field(default_factory=dict)
    given: int = 0  # points paid, given back


@dataclass(frozen=True)
class Expected:
    """What becomes of a call: the code of its refusal, what is left then, and whether it earns."""

    code: str
    left: int | None = None
    earns: bool = False


class World:
    """The services and the oracle, for one member."""

    def __init__(self, shop: Shop, name: str, now: int, *, by_api: bool, gift: int) -> None:
        self.shop, self.name, self.now, self.by_api = shop, name, now, by_api
        self.sold: dict[str, Sold] = {}
        self.refunds: list[model.Refund] = []
        self.story: list[str] = []
        self.unpaid: dict[str, tuple[int, int, int]] = {}  # checkouts whose order was refused
        self.purses = Purses(shop)
        self.refused = 0
        joined = MemberInput(external_id=name, joined_at=START - MINUTE)
        enroll_members(program=shop.program, members=[joined], at=START)
        self.member = Member.objects.get(program=shop.program, external_id=name)
        if gift:
            self.give(gift)

    def say(self, *words: object) -> None:
        self.story.append(f"now {self.now}: " + " ".join(map(str, words)))

    @property
    def orders(self) -> dict[str, model.Order]:
        return {name: sold.order for name, sold in self.sold.items()}

    @property
    def line_rows(self) -> QuerySet[OrderLine]:
        return OrderLine.objects.filter(member=self.member).order_by()

    def _decision(self, key: str) -> dict[str, Any]:
        ids = {"member_id": self.member.pk, "wallet_id": self.shop.wallets["points"]}
        return ids | {"program": self.shop.program, "idempotency_key": f"{self.name} {key}", "at": instant(self.now)}

    def give(self, points: int) -> None:
        self.say("gift", points)
        operations.adjust(**self._decision("gift"), points=points, reason="a gift", decided_by="test")
        self.purses.earn("points", "gift", points, self.now)

    def burn(self, points: int) -> None:
        self.say("burn", points)
        operations.redeem(**self._decision(f"burn {self.now}"), points=points)
        self.purses.pay("points", f"burn {self.now}", points, self.now)

    def correct(self) -> None:
        """Do what the close of a day does with facts that came late."""
        self.say("correct")
        apply_dirty(ladder=Ladder.objects.get(program=self.shop.program), at=instant(self.now))
        corrections.correct(program=self.shop.program, through=instant(self.now), at=instant(self.now))

    # --- orders ----------------------------------------------------------------------------------------------------

    def order(self, name: str, at: int, currency: str, items: Sequence[Item], shipping: int, worth: int) -> OrderInput:
        """Write an order down in the oracle, and return it as it is told. `worth`: in the program's currency."""
        lines = tuple(model.Line(f"{name}.{n}", one.units, one.amount, one.in_points) for n, one in enumerate(items, 1))
        amount = sum(one.amount for one in items) + shipping
        is_foreign = currency != self.shop.currency
        worth = worth if is_foreign else amount
        lines = tuple(replace(line, paid_at=at) for line in lines)
        order = model.Order(name, amount, lines, at, worth if is_foreign else None, currency)
        categories = {line.key: one.category for line, one in zip(lines, items, strict=True)}
        self.sold[name] = Sold(order, categories, [(at, worth)])
        return OrderInput(
            external_id=name, member=self.name, paid_at=instant(at), currency=currency, amount_minor=amount,
            program_amount_minor=worth if is_foreign else None, lines=self._lines(lines, categories),
        )  # fmt: skip

    def _lines(self, lines: Sequence[model.Line], categories: dict[str, str]) -> tuple[OrderLineInput, ...]:
        return tuple(
            OrderLineInput(
                external_id=line.key, units=line.units, amount_minor=line.amount, category=categories[line.key],
                paid_in_points_minor=line.in_points,
            )
            for line in lines
        )  # fmt: skip

    def pay_by_checkout(self, order: OrderInput, points: int) -> OrderInput:
        """Quote and hold the order's basket with so many points at most, and return it as it pays the checkout."""
        lines = tuple(
            BasketLine(one.external_id, one.units, one.amount_minor, category=one.category) for one in order.lines
        )
        shipping = order.amount_minor - sum(one.amount_minor for one in order.lines)
        basket = Basket(order.currency, lines, shipping)
        told = CheckoutInput(basket=basket, member=self.name, wallet="points", points=points)
        checkout = quoting.quote(program=self.shop.program, told=told, at=instant(self.now))
        checkout = holding.hold(program=self.shop.program, public_id=checkout.public_id, at=instant(self.now)).checkout
        sold = self.sold[order.external_id]
        priced = {one["external_id"]: one for one in checkout.price["lines"]}
        paid = tuple(
            replace(line, in_points=priced[line.key]["paid_in_points_minor"], points_paid=priced[line.key]["points"])
            for line in sold.order.lines
        )
        sold.order = replace(sold.order, lines=paid)
        sold.checkout, sold.by_checkout = str(checkout.public_id), checkout.points
        assert sum(line.points_paid for line in paid) == checkout.points
        self.purses.pay("points", order.external_id, checkout.points, self.now)
        self.say("checkout", order.external_id, checkout.points, [(one.in_points, one.points_paid) for one in paid])
        return replace(order, checkout=str(checkout.public_id))

    def edit(
        self, name: str, key: str, at: int, items: Sequence[Item], worth: Sequence[int],
        removed: tuple[model.RefundLine, ...],
    ) -> None:  # fmt: skip
        """Tell an edit: lines that are added, each of `worth` in the program's currency, and units taken out."""
        sold = self.sold[name]
        lines = tuple(
            model.Line(f"{key}.{n}", one.units, one.amount, one.in_points, paid_at=at) for n, one in enumerate(items, 1)
        )
        categories = {line.key: one.category for line, one in zip(lines, items, strict=True)}
        is_foreign = sold.order.currency != self.shop.currency
        told = self._lines(lines, categories)
        if is_foreign:
            told = tuple(replace(one, program_amount_minor=part) for one, part in zip(told, worth, strict=True))
        edit = OrderEditInput(
            order=name, external_id=key, edited_at=instant(at), currency=sold.order.currency, lines=told,
            removed=tuple(
                RemovedLineInput(order_line=one.line or "", units=one.units, amount_minor=one.amount) for one in removed
            ),
        )  # fmt: skip
        total = sum(worth) if is_foreign else sum(one.amount for one in items)
        back = model.returned_at(sold.order, self.refunds)
        expected = "order_returned" if back is not None and at > back else ""
        longer = self._with_lines(sold, lines, total if is_foreign else 0)
        refund = model.Refund(f"{name}:{key}", at, sum(one.amount for one in removed), removed, name)
        if not expected and removed:
            found = self.refusal(refund, order=longer)
            expected = found.code if found else ""
        self.say("edit", name, key, f"at {at}", lines, [*worth] if is_foreign else "", removed or "", expected)
        before = deepcopy(self.purses)

        def tell() -> None:
            intake.edit_order(program=self.shop.program, edit=edit, last=self._last, at=instant(self.now))

        def follow() -> None:
            sold.order = longer
            sold.categories |= categories
            sold.edits |= dict.fromkeys(categories, key)
            sold.day_amounts.append((at, total))
            # Which lot gets back what was taken too much is not followed here.
            self.purses.is_followed &= not (lines and any(one.of(name).says for one in self.refunds))
            self._bring_back([refund] if removed else [], [(name, key, at)] if lines else [])

        self._do(tell, follow, Expected(expected, earns=bool(lines)), before)

    @staticmethod
    def _with_lines(sold: Sold, lines: tuple[model.Line, ...], program_amount: int) -> model.Order:
        known = sold.order.program_amount
        whole = None if known is None else known + program_amount
        return replace(sold.order, lines=sold.order.lines + lines, program_amount=whole)

    # --- what comes back -------------------------------------------------------------------------------------------

    @property
    def _last(self) -> datetime | None:
        return instant(self.now + 5) if self.by_api else None

    def refusal(
        self, refund: model.Refund, beside: Sequence[model.Refund] | None = None, order: model.Order | None = None
    ) -> model.Refusal | None:
        """Whether a refund is refused beside others, those that are known if none are named."""
        orders = self.orders | ({order.key: order} if order else {})
        known = self.refunds if beside is None else beside
        found = model.refusal(orders, known, refund)
        if found is None or found.code != "more_than_paid" or self.by_api:
            return found
        units = tuple(replace(line, amount=0) for line in refund.lines)
        return model.refusal(orders, known, replace(refund, amount=0, lines=units))

    def repeat(self, refund: model.Refund) -> None:
        """Tell a refund again: nothing follows."""
        self.say("repeat", refund.key)
        told = self._refund(refund)
        recorded = intake.record(program=self.shop.program, refunds=[told], last=self._last, at=instant(self.now))
        require(recorded.repeated == 1, f"{refund.key} is no repetition")

    def available(self) -> int:
        wallet = self.shop.wallets["points"]
        return get_balance(member_id=self.member.pk, wallet_id=wallet, at=instant(self.now)).available

    def tell(self, orders: Sequence[OrderInput], refunds: Sequence[model.Refund]) -> None:
        """Tell orders, which are written down already, and refunds in one call. One refund that is refused is alone."""
        found = self.refusal(refunds[0]) if len(refunds) == 1 else None
        expected = found.code if found else ""
        self.say("tell", [self.sold[one.external_id].order for one in orders] or "", [*refunds] or "", expected)
        before = deepcopy(self.purses)

        def tell() -> None:
            told = [self._refund(refund) for refund in refunds]
            intake.record(program=self.shop.program, orders=orders, refunds=told, last=self._last, at=instant(self.now))

        def follow() -> None:
            paid = [(one.external_id, "", self.sold[one.external_id].order.paid_at) for one in orders]
            self._bring_back(refunds, paid)

        left = found.left if found else None
        self._do(tell, follow, Expected(expected, left, earns=bool(orders)), before)

    def cancel(self, name: str) -> None:
        """Cancel an order. How its lines share what is left is not said, so it is read."""
        key, sold = f"{name}:cancel{self.now}", self.sold[name]
        expected = model.cancellation(sold.order, self.refunds, key, self.now)
        self.say("cancel", name)
        before = deepcopy(self.purses)

        def tell() -> None:
            intake.cancel_order(
                program=self.shop.program, order=name, external_id=key, cancelled_at=instant(self.now),
                last=self._last, at=instant(self.now),
            )  # fmt: skip

        def follow() -> None:
            assert expected is not None
            row = RefundRow.objects.filter(member=self.member, external_id=key).first()
            if row is None:  # the points are not there
                self._bring_back([expected], [])
                return
            told = row.lines.values_list("order_line__external_id", "units", "amount_minor")
            lines = tuple(model.RefundLine(line, units or 0, minor) for line, units, minor in told)
            units = {one.line: one.units for one in lines if one.units}
            rest = {one.line: one.units for one in expected.lines if one.units}
            found = (units, row.amount_minor)
            require(found == (rest, expected.amount), f"cancelled {found}, expected {(rest, expected.amount)}")
            self._bring_back([model.Refund(key, self.now, row.amount_minor, lines, name)], [])

        self._do(tell, follow, Expected("" if expected else "nothing_left"), before)

    def _do(self, tell: Callable[[], None], follow: Callable[[], None], expected: Expected, before: Purses) -> None:
        """Tell, and let the oracle follow; what must be refused is refused, and nothing follows."""
        code = expected.code
        try:
            tell()
        except BadFact as error:
            require(error.code == CODES.get(code, code), f"refused as {error.code}: {error.reason}, expected {code!r}")
            is_told = expected.left is None or f"only {expected.left} are left" in error.reason
            require(is_told, f"{error.reason}, expected {expected.left}")
            self.refused += 1
            return
        except ClawbackRefused:
            require(not code, f"the clawback is refused, expected {code!r}")
            self._follow_refused_clawback(follow, expected, before)
            return
        require(not code, f"taken, expected {code!r}")
        follow()
        require(not self.purses.is_refused, "taken, but the points are not there")

    def _follow_refused_clawback(self, follow: Callable[[], None], expected: Expected, before: Purses) -> None:
        """See that the points to be taken back are not there, where nothing was earned in the call, and forget it."""
        sold, refunds = deepcopy((self.sold, self.refunds))
        if not expected.earns:
            follow()
            assert self.purses.is_refused or not self.purses.is_followed, (
                "the clawback is refused, the points are there"
            )
        self.sold, self.refunds, self.purses = sold, refunds, before
        self.refused += 1
        if expected.earns:
            self._forget_unpaid()  # no other call tells its orders

    def _forget_unpaid(self) -> None:
        known = set(self.member.orders.values_list("external_id", flat=True))
        unpaid = [sold for name, sold in self.sold.items() if name not in known and sold.by_checkout]
        self.unpaid |= {sold.checkout: (sold.by_checkout, 0, 0) for sold in unpaid}
        self.sold = {name: sold for name, sold in self.sold.items() if name in known}
        self.purses.is_followed = False

    def _refund(self, refund: model.Refund) -> RefundInput:
        names = {one.order or refund.order for one in refund.lines if one.line} | {refund.order}
        currency = {self.sold[name].order.currency for name in names if name} or {self.shop.currency}
        assert len(currency) == 1
        return RefundInput(
            external_id=refund.key, member=self.name, refunded_at=instant(refund.at), currency=currency.pop(),
            amount_minor=refund.amount, order=refund.order or "", goodwill_minor=refund.goodwill,
            lines=tuple(
                RefundLineInput(
                    external_id=f"{n}", units=one.units or None, amount_minor=one.amount, order=one.order or "",
                    order_line=one.line or "",
                )
                for n, one in enumerate(refund.lines)
            ),
        )  # fmt: skip

    def _bring_back(self, refunds: Sequence[model.Refund], paid: Sequence[tuple[str, str, int]]) -> None:
        """Let new refunds count one by one in the order of their dates, and the purses move in the ledger's order."""
        moves: list[tuple[int, int, Callable[[], None]]] = []
        for name, edit, at in paid:
            moves.append((at, 0, lambda name=name, edit=edit, at=at: self.purses.earn_order(self, name, edit, at)))  # type: ignore[misc]
        for refund in sorted(refunds, key=lambda one: one.place):
            self.refunds.append(refund)
            changed = [name for name in self.sold if refund.of(name).says]
            for name in changed:
                self._raise_shares(self.sold[name])
            if len(changed) > 1:
                self.purses.is_followed = False
            due = {name: self.sold[name].shares.copy() for name in changed}
            moves.append((refund.at, 1, lambda due=due, at=refund.at: self.purses.claw_back(self, due, at)))  # type: ignore[misc]
        for sold in self.sold.values():
            self._raise_shares(sold)
        for _, _, move in sorted(moves, key=lambda one: one[:2]):
            move()

    def _raise_shares(self, sold: Sold) -> None:
        answer = model.answer(sold.order, self.refunds)
        sold.shares = {key: max(state.worth, state.money_share) for key, state in answer.lines.items()}
        if answer.points > sold.given:
            self.purses.give_back("points", sold.order.key, answer.points - sold.given, self.now)
            sold.given = answer.points


def foreign(minor: int, currency: str, to: str) -> int:
    """Return about what an amount is worth in another currency."""
    return minor * WORTH[to] // WORTH[currency]
