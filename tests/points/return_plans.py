"""Random histories of returns, by a seed: what is told when, and in which order."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random

from membership.fact_inputs import OrderInput
from tests.oracle import returns as model
from tests.points.return_checks import Checks
from tests.points.return_shops import Shop
from tests.points.return_worlds import Difference, Item, World, foreign

DAY = 24 * 60
PRESENT = 5  # minutes between two calls


@dataclass
class Outcome:
    """What a history came to. `difference`: empty where the services and the oracle agree; `story`: what was told."""

    seed: str
    steps: int
    comparisons: int
    whole: int  # orders of which all came back
    refused: int
    difference: str
    story: str

    def __str__(self) -> str:
        return f"history {self.seed}: {self.difference}\n{self.story}"


class Plan:
    """One history: a world, and what happens next in it."""

    def __init__(self, shop: Shop, seed: str) -> None:
        self.random = random = Random(seed)
        self.by_api = random.random() < 0.7
        self.days = random.choice([3, 20, 90])
        self.has_checkouts = random.random() < 0.4
        gift = random.choice([10, 500, 5_000, 50_000]) if self.has_checkouts or random.random() < 0.2 else 0
        now = (self.days + 2) * DAY
        self.world = World(shop, f"m{seed}", now, by_api=self.by_api, gift=gift)
        self.checks = Checks(self.world)
        self.taken: set[int] = set()
        self.currency = random.choice([shop.currency] * 3 + sorted({"GBP", "EUR", "JPY", "KWD"} - {shop.currency}))
        self.told: list[model.Refund] = []
        self.steps = 0

    def run(self) -> None:
        self.step(self.orders)
        if self.world.shop.expiry_days and self.random.random() < 0.2:
            self.step(self.burn)  # of what has a part spent, the rest expires before anything comes back
            self.step(self.wait)
        kinds = [self.refund] * 6 + [self.orders, self.edit, self.edit, self.batch, self.several, self.burn]
        kinds += [self.repeat, self.close, self.goodwill, self.burn, self.wait]
        for _ in range(self.random.randint(2, 7)):
            self.step(self.random.choice(kinds))
        if self.random.random() < 0.2:
            self.step(self.cancel)
        if self.random.random() < 0.6:
            self.end()
        if self.world.shop.has_multiplier:
            self.step(self.close)
        self.checks.splits()

    def step(self, do: Callable[[], None]) -> None:
        self.world.now += PRESENT
        do()
        self.steps += 1
        self.checks.every_step()

    # --- what is chosen ----------------------------------------------------------------------------------------------

    def minute(self, earliest: int) -> int:
        """Choose an instant that no other fact has."""
        while True:
            last = max(earliest, self.world.now)
            near = min(last, earliest + 2 * DAY)
            at = self.random.randint(earliest, self.random.choice([near, last]))
            if at not in self.taken:
                self.taken.add(at)
                return at
            self.world.now += 1

    def item(self, *, in_points: bool) -> Item:
        random = self.random
        amount = random.choice([0, 1, 7, 99, 100, random.randint(1, 2_000), random.randint(1, 20_000)])
        part = random.choice([0, 0, amount, random.randint(0, amount)]) if in_points else 0
        return Item(random.randint(1, 4), amount, part, random.choice(["", "hats", "shoes"]))

    def orders(self) -> None:
        if len(self.world.sold) < 3:
            self.world.tell([self.new_order()], [])

    def new_order(self) -> OrderInput:
        random, world = self.random, self.world
        name = f"{world.name}-{len(world.sold) + 1}"
        by_checkout = self.has_checkouts and random.random() < 0.6
        items = [self.item(in_points=not by_checkout) for _ in range(random.randint(1, 4))]
        shipping = random.choice([0, 0, 1, 499, random.randint(0, 3_000)])
        amount = sum(one.amount for one in items) + shipping
        worth = max(0, foreign(amount, self.currency, world.shop.currency) + random.randint(-2, 2)) if amount else 0
        at = world.now + 1 if by_checkout else self.minute(1)
        order = world.order(name, at, self.currency, items, shipping, worth)
        if by_checkout:
            available = world.available()
            order = world.pay_by_checkout(order, random.choice([1, 10, random.randint(1, max(1, available))]))
            world.now += 2
        return order

    def order_of(self) -> model.Order:
        return self.random.choice(list(self.world.orders.values()))

    def refund(self) -> None:
        refund = self.new_refund()
        if self.random.random() < 0.05:
            refund = self.malformed(refund)
        self.told.append(refund)
        self.world.tell([], [refund])

    def malformed(self, refund: model.Refund) -> model.Refund:
        """A refund whose lines give back more than it does, or that tells units of no line, or names no order."""
        way = self.random.choice(["above", "units", "no order"])
        if way == "above":
            lines = (*refund.lines, model.RefundLine(None, 0, refund.amount + 1))
            return replace(refund, lines=lines)
        if way == "units":
            return replace(refund, lines=(*refund.lines, model.RefundLine(None, 1, 0)))
        is_foreign = self.currency != self.world.shop.currency
        return replace(refund, lines=(), order=refund.order if is_foreign else None)

    def new_refund(self, order: model.Order | None = None, beside: tuple[model.Refund, ...] = ()) -> model.Refund:
        """A refund of an order, of some shape; by the API seldom of more than is left."""
        random, order = self.random, order or self.order_of()
        at = self.minute(order.paid_at)
        lines = [line for line in order.lines if line.paid_at <= at]
        known = [*self.world.refunds, *beside]
        left = self.left(order, at, known)
        key = f"r{random.randint(0, 99):02}.{len(known)}.{self.steps}"
        shape = random.choice(["lineless", "lineless", "units", "money", "mixed", "whole lines", "above", "no line"])
        if shape == "lineless":
            return model.Refund(key, at, self.some(left), (), order.key)
        told: list[model.RefundLine] = []
        for line in random.sample(lines, random.randint(1, len(lines))):
            told.append(self.refund_line(order, line, shape, left - sum(one.amount for one in told), known))
        if shape == "no line":
            told.append(model.RefundLine(None, 0, self.some(left - sum(one.amount for one in told))))
        total = sum(one.amount for one in told)
        above = self.some(left - total) if shape == "above" else 0
        return model.Refund(key, at, total + above, tuple(told), order.key)

    def left(self, order: model.Order, at: int, known: list[model.Refund]) -> int:
        if not self.by_api:
            return order.paid(at)
        return min(model.left_of_order(order, known), model.left_of_order(order, known, at))

    def some(self, left: int) -> int:
        left = max(0, left)
        more = left + (1 if self.random.random() < 0.1 else 0)
        return self.random.choice([0, min(1, left), left, left // 2, self.random.randint(0, left), more])

    def refund_line(
        self, order: model.Order, line: model.Line, shape: str, left: int, known: list[model.Refund]
    ) -> model.RefundLine:
        random = self.random
        units_left = line.units - sum(one.of(order.key).units.get(line.key, 0) for one in known)
        units_left += random.random() < 0.02
        of_line = line.amount
        if self.by_api:
            of_line = max(0, min(left, model.left_of_line(order, line.key, known)))
        units = random.randint(0, units_left) if shape in ("units", "mixed", "above") else 0
        units = units_left if shape == "whole lines" else units
        money = random.choice([0, 1, of_line, line.amount * units // line.units, self.some(of_line)])
        money = min(money, of_line) if self.by_api and random.random() < 0.95 else money
        money = {"whole lines": of_line, "units": 0}.get(shape, money)
        return model.RefundLine(line.key, units, money)

    def several(self) -> None:
        """A refund that names no order, or one, and whose lines name several."""
        orders = list(self.world.orders.values())
        first = self.random.choice(orders)
        at = self.minute(max(order.paid_at for order in orders))
        told = []
        for order in orders:
            lines = [line for line in order.lines if line.paid_at <= at]
            line = self.random.choice(lines)
            left = self.left(order, at, self.world.refunds)
            one = self.refund_line(order, line, "mixed", left, self.world.refunds)
            told.append(model.RefundLine(one.line, one.units, one.amount, order.key))
        above = 0 if self.currency != self.world.shop.currency else self.random.choice([0, 0, 1, 500])
        total = sum(one.amount for one in told)
        name = self.random.choice([None, first.key])
        above = above if name is None else 0
        refund = model.Refund(f"s{self.steps}", at, total + above, tuple(told), name)
        self.told.append(refund)
        self.world.tell([], [refund])

    def goodwill(self) -> None:
        """A refund with goodwill on top, or of goodwill alone."""
        refund = self.new_refund()
        told = model.Refund(refund.key, refund.at, refund.amount, refund.lines, refund.order, 777)
        self.told.append(told)
        self.world.tell([], [told])

    def batch(self) -> None:
        """New orders and refunds in one call; by the API only those that fit beside one another."""
        orders = [self.new_order() for _ in range(self.random.randint(0, 1)) if len(self.world.sold) < 3]
        refunds: list[model.Refund] = []
        for _ in range(self.random.randint(2, 3)):
            refund = self.new_refund(beside=tuple(refunds))
            if self.world.refusal(refund, [*self.world.refunds, *refunds]) is None:
                refunds.append(refund)
        if len(refunds) > 1:
            self.told += refunds
            self.random.shuffle(refunds)
            self.world.tell(orders, refunds)
        else:
            for order in orders:
                self.world.tell([order], [])

    def edit(self) -> None:
        random, order = self.random, self.order_of()
        at = self.minute(order.paid_at + 1)
        key = f"e{self.steps}"
        items = [self.item(in_points=True) for _ in range(random.randint(0, 2))]
        worth = [max(0, foreign(one.amount, self.currency, self.world.shop.currency)) for one in items]
        removed: list[model.RefundLine] = []
        if not items or random.random() < 0.3:
            lines = [line for line in order.lines if line.paid_at <= at]
            line = random.choice(lines)
            left = self.left(order, at, self.world.refunds)
            one = self.refund_line(order, line, "mixed", left, self.world.refunds)
            removed += [one] if one.units else []
        if items or removed:
            self.world.edit(order.key, key, at, items, worth, tuple(removed))

    # --- what else happens -------------------------------------------------------------------------------------------

    def repeat(self) -> None:
        """Tell again what was told."""
        known = [refund for refund in self.told if refund in self.world.refunds]
        if known:
            self.world.repeat(self.random.choice(known))

    def burn(self) -> None:
        """Spend points, so that there may be too few to be taken back."""
        step = self.world.shop.step
        steps = self.world.available() // step
        if steps > 0:
            self.world.burn(step * self.random.choice([steps, self.random.randint(1, steps), (steps + 1) // 2]))

    def wait(self) -> None:
        """Let time pass, so that points expire."""
        self.world.now += self.random.choice([self.random.randint(1, 70), 65]) * DAY
        self.world.say("wait")

    def close(self) -> None:
        self.world.correct()

    def cancel(self) -> None:
        self.world.cancel(self.order_of().key)

    def end(self) -> None:
        """Bring everything back, by one way or several."""
        for order in list(self.world.orders.values()):
            for _ in range(self.random.randint(0, 2)):
                self.step(lambda order=order: self.rest(self.world.orders[order.key]))  # type: ignore[misc]
            if order.key in self.world.sold:
                self.step(lambda order=order: self.finish(order.key))  # type: ignore[misc]

    def rest(self, order: model.Order) -> None:
        refund = self.new_refund(order)
        self.told.append(refund)
        self.world.tell([], [refund])

    def finish(self, name: str) -> None:
        order, way = self.world.orders[name], self.random.choice(["cancel", "lineless", "named"])
        if way == "cancel":
            self.world.cancel(name)
            return
        at = self.minute(max(line.paid_at for line in order.lines))
        left = self.left(order, at, self.world.refunds)
        if way == "lineless":
            self.world.tell([], [model.Refund(f"z{name}", at, left, (), name)])
            return
        told = []
        for line in order.lines:
            amount = max(0, min(left, model.left_of_line(order, line.key, self.world.refunds)))
            left -= amount
            told.append(model.RefundLine(line.key, 0, amount))
        self.world.tell([], [model.Refund(f"z{name}", at, sum(one.amount for one in told) + left, tuple(told), name)])


def run(shop: Shop, seed: str) -> Outcome:
    """Run the history of a seed; it is the same in every run, whatever ran before it."""
    plan, difference, whole = Plan(shop, seed), "", 0
    try:
        plan.run()
        whole = plan.checks.nothing_kept()
    except Difference as error:
        difference = str(error)
    world = plan.world
    return Outcome(seed, plan.steps, plan.checks.comparisons, whole, world.refused, difference, "\n".join(world.story))
