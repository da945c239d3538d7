"""Random orders with their refunds, and what must hold of the answers of `tests/oracle/returns.py`."""

from __future__ import annotations

import random
from typing import Any

from tests.oracle import returns as model

CURRENCIES = {"GBP": 2, "JPY": 0, "KWD": 3}


def make_line(generator: random.Random, key: str, paid_at: int) -> model.Line:
    amount = generator.choice([0, 1, 7, 99, 100, generator.randint(1, 2_000), generator.randint(1, 20_000)])
    in_points = generator.choice([0, 0, amount, generator.randint(0, amount)])
    worth = generator.choice([(1, 1), (10, 1), (100, 1), (1, 7), (3, 2)])
    points = in_points * worth[0] // worth[1]
    if not points:
        in_points = 0
    earned = generator.choice([0, 1, (amount - in_points) // 100, (amount - in_points) // 3])
    return model.Line(
        key, generator.randint(1, 4), amount, in_points, points, earned if amount > in_points else 0, paid_at
    )


def make_order(generator: random.Random, *, with_edits: bool) -> model.Order:
    lines = [make_line(generator, f"l{number}", 0) for number in range(generator.randint(1, 4))]
    amount = sum(line.amount for line in lines) + generator.choice([0, 0, 1, 499, generator.randint(0, 3_000)])
    for edit in range(generator.choice([0, 0, 1, 2]) if with_edits else 0):
        at = 5 * (edit + 1)
        lines += [make_line(generator, f"e{edit}-{number}", at) for number in range(generator.randint(1, 2))]
    program = generator.choice([None, None, generator.randint(0, 2 * amount)])
    return model.Order("o", amount, tuple(lines), program_amount=program)


def make_refund(
    generator: random.Random, order: model.Order, key: str, at: int, refunds: list[Any], *, by_api: bool
) -> model.Refund:
    lines = [line for line in order.lines if line.paid_at <= at]
    left = order.paid(at) if not by_api else model.left_of_order(order, refunds, at)
    shape = generator.choice(["lineless", "lineless", "units", "money", "mixed", "all", "line with shipping"])
    if shape == "lineless":
        return model.Refund(
            key, at, generator.choice([0, 1, left, left // 2, generator.randint(0, left + 1)]), (), order.key
        )
    amount = 0
    told = []
    for line in generator.sample(lines, generator.randint(1, len(lines))):
        of_line = line.amount if not by_api else min(left, model.left_of_line(order, line.key, refunds))
        back = sum(one.of(order.key).units.get(line.key, 0) for one in refunds)
        units = generator.randint(0, line.units - back) if shape in ("units", "mixed") else 0
        units = line.units - back if shape == "all" else units
        money = generator.choice([0, 1, of_line, line.amount * units // line.units, generator.randint(0, of_line)])
        money = of_line if shape == "all" else min(money, of_line) if by_api else money
        money = 0 if shape == "units" else money
        left -= money
        amount += money
        told.append(model.RefundLine(line.key, units, money))
    extra = generator.randint(0, max(0, left)) if shape == "line with shipping" else 0
    return model.Refund(key, at, amount + extra, tuple(told), order.key)


def make_refunds(generator: random.Random, order: model.Order, *, by_api: bool) -> list[model.Refund]:
    refunds: list[model.Refund] = []
    for number in range(generator.randint(1, 6)):
        key, at = f"r{generator.randint(0, 9)}{number}", generator.randint(1, 15)
        refund = make_refund(generator, order, key, at, refunds, by_api=by_api)
        if not by_api or model.refusal({order.key: order}, refunds, refund) is None:
            refunds.append(refund)
    return refunds


def shares(answer: Any) -> list[Any]:
    return [(state.worth, state.money_share, state.points, state.due, state.money) for state in answer.lines.values()]


def is_below(first: Any, second: Any) -> bool:
    """Whether anything of `first` is above `second`."""
    pairs = zip(shares(first), shares(second), strict=True)
    return first.money <= second.money and all(all(a <= b for a, b in zip(*pair, strict=True)) for pair in pairs)


def broken_properties(module: Any, generator: random.Random) -> set[str]:
    """Names of what does not hold in one random history; empty when `module` is right."""
    by_api = generator.random() < 0.7
    order = make_order(generator, with_edits=by_api)
    refunds = make_refunds(generator, order, by_api=by_api)
    order, refunds = copied(module, order, refunds)
    broken = of_the_answer(module, order, refunds)
    broken |= of_telling(module, generator, order, refunds)
    if by_api:
        broken |= of_the_api(module, generator, order, refunds)
    return broken


def copied(module: Any, order: Any, refunds: list[Any]) -> tuple[Any, list[Any]]:
    """The same facts in the classes of `module`."""
    lines = tuple(module.Line(**vars(line)) for line in order.lines)
    return module.Order(**{**vars(order), "lines": lines}), [
        module.Refund(**{**vars(refund), "lines": tuple(module.RefundLine(**vars(line)) for line in refund.lines)})
        for refund in refunds
    ]


def of_lines(answer: Any) -> set[str]:
    broken = set()
    for state in answer.lines.values():
        line = state.line
        if line.money and state.money == line.money and state.due != line.earned:
            broken.add("all money back, earned points kept")
        if line.amount and state.told == line.amount and state.points != line.points_paid:
            broken.add("all worth told, points paid kept")
        if not (0 <= state.money <= line.money and 0 <= state.points <= line.points_paid and 0 <= state.worth <= 1):
            broken.add("more out than came in")
        if line.in_points * state.points >= line.points_paid * (state.in_points + 1) > 0:
            broken.add("points worth more than what was told")
    return broken


def of_the_answer(module: Any, order: Any, refunds: list[Any]) -> set[str]:
    answer = module.answer(order, refunds)
    broken = of_lines(answer)
    money_paid = order.shipping + sum(line.money for line in order.lines)
    told = sum(refund.of("o").told for refund in refunds)
    if not 0 <= answer.money <= min(money_paid, told):
        broken.add("more money out than came in or was told")
    if answer.is_returned != (module.returned_at(order, refunds) is not None):
        broken.add("returned, but at no instant")
    backs = module.given_back(order, refunds).values()
    if any(min(one.money, one.points, one.program_money) < 0 for one in backs):
        broken.add("a refund gave back less than nothing")
    if (sum(one.money for one in backs), sum(one.points for one in backs)) != (answer.money, answer.points):
        broken.add("the refunds' parts do not add up")
    program_money = sum(one.program_money for one in backs)
    if order.program_amount not in (None, program_money) and told == order.paid() > 0:
        broken.add("all told, but not all of the program amount")
    return broken


def of_telling(module: Any, generator: random.Random, order: Any, refunds: list[Any]) -> set[str]:
    """ "of the **set** of an order's refunds (not of their arrival)"; "a share never goes down" """
    broken = set()
    arrival = generator.sample(refunds, len(refunds))
    whole = module.answer(order, refunds)
    if shares(module.answer(order, arrival)) != shares(whole):
        broken.add("another order of telling, another answer")
    known: list[Any] = []
    before = module.answer(order, known)
    for refund in arrival:
        known.append(refund)
        after = module.answer(order, known)
        if not is_below(before, after):
            broken.add("a share went down")
        before = after
    return broken


def of_the_api(module: Any, generator: random.Random, order: Any, refunds: list[Any]) -> set[str]:
    """What holds while no refund was refused."""
    broken = set()
    answer = module.answer(order, refunds)
    told = sum(refund.of("o").told for refund in refunds)
    money_paid = order.shipping + sum(line.money for line in order.lines)
    points_paid = sum(line.points_paid for line in order.lines)
    in_points = sum(state.in_points for state in answer.lines.values())
    is_priced = not any(state.unpriced for state in answer.lines.values())
    if is_priced and not told - 3 * len(order.lines) < answer.money + in_points <= told:
        broken.add("not what was told")
    if (
        told == order.paid()
        and is_priced
        and any(state.worth != 1 for state in answer.lines.values() if state.line.amount)
    ):
        broken.add("all told, but not all worth back")
    if told == order.paid() and (answer.money, answer.points) != (money_paid, points_paid):
        broken.add("all told, but not all given back")
    if told == order.paid() and any(
        state.due != state.line.earned for state in answer.lines.values() if state.line.amount
    ):
        broken.add("all told, but earned points kept")
    cancel = module.cancellation(order, refunds, "o:cancel", 20)
    if cancel is not None:
        if module.refusal({"o": order}, refunds, cancel) is not None:
            broken.add("a cancellation is refused")
        after = module.answer(order, [*refunds, cancel])
        if (after.money, after.points) != (money_paid, points_paid) or not after.is_returned:
            broken.add("cancelled, but not all given back")
        if any(state.due != state.line.earned for state in after.lines.values()):
            broken.add("cancelled, but earned points kept")
        if module.cancellation(order, [*refunds, cancel], "o:cancel2", 21) is not None:
            broken.add("cancelled twice")
    return broken
