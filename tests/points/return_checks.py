"""Compare what the services made of what a `World` told with the oracle, after every step and at the end."""

from collections import Counter, defaultdict
from copy import deepcopy
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from membership.models import MemberDay, Order, Refund
from points.models import Accrual, AccrualCorrection, AccrualReturn, Hold, SourceKind
from points.selectors import get_balance
from storefront.refund_splits import read_splits
from tests.oracle import returns as model
from tests.points.return_worlds import Sold, World, instant, require


@dataclass
class Kept:
    """What stands of an accrual, and what it counts for."""

    points: int
    stands: int
    corrections: int = 0
    shortfall: int = 0  # of what was asked, what was not there to be taken


class Checks:
    """Counts what is compared; a difference says of what."""

    def __init__(self, world: World) -> None:
        self.world, self.comparisons = world, 0
        self.kept: dict[int, Kept] = {}

    def same(self, what: str, found: object, expected: object) -> None:
        self.comparisons += 1
        require(found == expected, f"{what}: found {found}, expected {expected}")

    def every_step(self) -> None:
        self.orders()
        self.spend()
        self.accruals()
        self.given_back()
        self.balances()

    # --- what membership says ----------------------------------------------------------------------------------------

    def orders(self) -> None:
        rows = {row.external_id: row for row in Order.objects.filter(member=self.world.member)}
        self.same("orders", set(rows), set(self.world.sold))
        units: dict[str, dict[str, int]] = defaultdict(dict)
        for name, line, returned in self.world.line_rows.values_list(
            "order__external_id", "external_id", "returned_units"
        ):
            units[name][line] = returned
        for name, sold in self.world.sold.items():
            at = model.returned_at(sold.order, self.world.refunds)
            self.same(f"returned_at of {name}", rows[name].returned_at, None if at is None else instant(at))
            back = model.answer(sold.order, self.world.refunds).lines
            self.same(f"units of {name}", units[name], {key: state.units for key, state in back.items()})

    def spend(self) -> None:
        counted = self._counted()
        refunds = Refund.objects.filter(member=self.world.member)
        self.same("refunds count", dict(refunds.values_list("external_id", "counted_minor")), dict(counted))
        days: dict[date, Counter[str]] = defaultdict(Counter)
        for sold in self.world.sold.values():
            days[instant(sold.order.paid_at).date()]["orders"] += 1
            for minute, amount in sold.day_amounts:
                days[instant(minute).date()]["spend_minor"] += amount
            at = model.returned_at(sold.order, self.world.refunds)
            if at is not None:
                days[instant(at).date()]["orders_returned"] += 1
        for refund in self.world.refunds:
            days[instant(refund.at).date()]["refunds_minor"] += counted[refund.key]
        names = ("orders", "spend_minor", "orders_returned", "refunds_minor")
        found = {
            row[0]: row[1:] for row in MemberDay.objects.filter(member=self.world.member).values_list("day", *names)
        }
        expected = {day: tuple(sums[name] for name in names) for day, sums in days.items()}
        self.same("days", {d: v for d, v in found.items() if any(v)}, {d: v for d, v in expected.items() if any(v)})

    def _counted(self) -> Counter[str]:
        """What each refund counts: of its orders by their rates, and as told what it says of none."""
        counted: Counter[str] = Counter({refund.key: 0 for refund in self.world.refunds})
        for sold in self.world.sold.values():
            for key, back in model.given_back(sold.order, self.world.refunds).items():
                counted[key] += back.program_money
        for refund in self.world.refunds:
            if refund.order is None:
                counted[refund.key] += refund.amount - sum(line.amount for line in refund.lines if line.line)
        return counted

    # --- what points say ---------------------------------------------------------------------------------------------

    def accruals(self) -> None:
        """Of each accrual stands what is left of it by the share that has come back; what was never taken stays due."""
        for accrual in self._read_accruals():
            pk, order, line, now = accrual
            sold = self.world.sold[order]
            share = sold.shares.get(line, Fraction(0))
            left = now.points - int(now.points * share)
            known = self.kept.get(pk)
            if known is None or (now.corrections > known.corrections and now.points != known.points):
                expected = left
            else:
                expected = min(max(known.stands, left - now.shortfall), left)
            self.same(f"what stands of accrual {pk} of {line}, {now.points} points", now.stands, expected)
            self.kept[pk] = now

    def _read_accruals(self) -> list[tuple[int, str, str, Kept]]:
        world = self.world
        lines = {row[0]: row[1:] for row in world.line_rows.values_list("pk", "order__external_id", "external_id")}
        back: dict[int, list[AccrualReturn]] = defaultdict(list)
        for asked in AccrualReturn.objects.filter(member=world.member):
            back[asked.accrual_id].append(asked)
        corrected: dict[int, list[AccrualCorrection]] = defaultdict(list)
        for row in AccrualCorrection.objects.filter(member=world.member).order_by("pk"):
            corrected[row.accrual_id].append(row)
        found = []
        for accrual in Accrual.objects.filter(member=world.member, source_kind=SourceKind.ORDER_LINE):
            order, line = lines[accrual.source_id]
            rows = corrected[accrual.pk]
            points = rows[-1].points if rows else accrual.points
            moved = sum(row.points_added - row.points_due for row in rows)
            stands = accrual.points + moved - sum(row.points_due for row in back[accrual.pk])
            if accrual.pk not in self.kept:
                self._earned(accrual, self.world.sold[order], line)
            shortfall = sum(row.points_due - row.points_taken for row in rows)
            shortfall += sum(row.points_due - row.points_taken for row in back[accrual.pk])
            found.append((accrual.pk, order, line, Kept(points, stands, len(rows), shortfall)))
        return found

    def _earned(self, accrual: Accrual, sold: Sold, key: str) -> None:
        """An accrual's basis is the line's money at the order's rate, and of nothing paid nothing is earned."""
        line = next(line for line in sold.order.lines if line.key == key)
        if not line.money:
            self.same(f"basis and points of {key}", (accrual.basis, accrual.points), (0, 0))
        if sold.order.program_amount is None:
            self.same(f"basis of {key}", accrual.basis, line.money)
        elif not line.in_points and key not in sold.edits:
            shares = largest_remainder(sold)
            self.same(f"basis of {key}", accrual.basis, shares[key])
        shop = self.world.shop
        wallet = next(code for code, pk in shop.wallets.items() if pk == accrual.wallet_id)
        if not shop.has_multiplier and shop.rounding[wallet] == "line":
            rule = shop.rules[accrual.rule_version_id or 0]
            self.same(f"points of {key} by {rule}", accrual.points, shop.points_of(rule, accrual.basis))

    def given_back(self) -> None:
        """Points paid are given back as far as is due, and what each refund's answer says adds up to it."""
        held = Hold.objects.filter(member=self.world.member).values_list("reference", "points", "captured", "returned")
        found = {reference: (points, captured, returned) for reference, points, captured, returned in held}
        paid = [sold for sold in self.world.sold.values() if sold.by_checkout]
        expected = {sold.checkout: (sold.by_checkout, sold.by_checkout, sold.given) for sold in paid}
        expected |= self.world.unpaid
        self.same("points held, paid and given back", found, expected)

    def splits(self) -> None:
        """Each refund's answer: the difference it makes in its place."""
        orders = self.world.orders.values()
        paid_in_money = sum(order.shipping + sum(line.money for line in order.lines) for order in orders)
        expected: dict[str, list[int]] = {refund.key: [0, 0] for refund in self.world.refunds}
        for sold in self.world.sold.values():
            for key, back in model.given_back(sold.order, self.world.refunds).items():
                expected[key] = [expected[key][0] + back.money, expected[key][1] + back.points]
        for refund in self.world.refunds:
            if refund.order is None:
                of_none = refund.amount - sum(line.amount for line in refund.lines if line.line)
                expected[refund.key][0] += of_none
                paid_in_money += of_none
        rows = list(Refund.objects.filter(member=self.world.member).prefetch_related("lines__order_line"))
        splits = read_splits(rows)
        money = points = 0
        for row in rows:
            whole = splits.of(row).whole
            money, points = money + whole.money_minor, points + (whole.points or 0)
            self.same(f"split of {row.external_id}", [whole.money_minor, whole.points or 0], expected[row.external_id])
        require(money <= paid_in_money, f"{money} of money went out, {paid_in_money} came in")
        paid_in_points = sum(sold.by_checkout for sold in self.world.sold.values())
        require(points <= paid_in_points, f"{points} points went out, {paid_in_points} came in")

    def balances(self) -> None:
        """Available points and debt of both wallets, where nothing has happened that the oracle does not know."""
        purses = self.world.purses
        if not purses.is_followed:
            return
        for code, pk in self.world.shop.wallets.items():
            found = get_balance(member_id=self.world.member.pk, wallet_id=pk, at=instant(self.world.now))
            wallet = deepcopy(purses.wallets[code])
            wallet.settle(self.world.now)
            self.same(f"balance of {code}", (found.available, found.debt), (wallet.available, wallet.debt))

    # --- the theorems ------------------------------------------------------------------------------------------------

    def nothing_kept(self) -> int:
        """Of each order of which all has been told as back, nothing is kept. Return how many these are.

        Read from what was told and from the ledger alone: this asks neither the oracle nor the product what is back.
        """
        found, rows = 0, self._read_accruals()
        for name, sold in self.world.sold.items():
            told = sum(refund.of(name).told for refund in self.world.refunds)
            is_whole = self.world.by_api and told == sold.order.paid()
            stands: Counter[str] = Counter()
            for _, order, line_key, kept in rows:
                stands[line_key] += kept.stands if order == name else 0
            named: Counter[str] = Counter()
            for refund in self.world.refunds:
                named.update(refund.of(name).amounts)
            for line in sold.order.lines:
                if is_whole or (line.amount and named[line.key] >= line.amount):
                    self.same(f"kept of {line.key}, all back", stands[line.key], 0)
            if is_whole or all(named[line.key] >= line.amount for line in sold.order.lines):
                self.same(f"points paid of {name}, all back", sold.given, sold.by_checkout)
                found += 1
        return found


def largest_remainder(sold: Sold) -> dict[str, int]:
    """The lines' shares of the whole order, shipping last, by the largest remainder; ties go to the earlier one."""
    lines = [line for line in sold.order.lines if line.key not in sold.edits]
    weights, total = [line.amount for line in lines] + [sold.order.shipping], sold.day_amounts[0][1]
    whole = sum(weights)
    if not whole:
        return {line.key: total if n == 0 else 0 for n, line in enumerate(lines)}
    parts = [total * weight // whole for weight in weights]
    for n in sorted(range(len(weights)), key=lambda n: (-(total * weights[n] % whole), n))[: total - sum(parts)]:
        parts[n] += 1
    return {line.key: part for line, part in zip(lines, parts, strict=False)}
