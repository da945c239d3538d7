"""The oracle's wallets of one member, moved as the member of a `World` buys and brings back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from copy import deepcopy
from fractions import Fraction
from typing import TYPE_CHECKING

from points.models import Accrual, SourceKind
from tests.oracle.returned_points import Wallet
from tests.points.return_shops import Shop

if TYPE_CHECKING:
    from tests.points.return_worlds import World

DAY_MINUTES = 24 * 60


class Purses:
    """`is_followed`: nothing has happened that these wallets do not know. `is_refused`: the last clawback was."""

    def __init__(self, shop: Shop) -> None:
        self.shop = shop
        self.wallets = {code: Wallet(policy) for code, policy in shop.clawback.items()}
        self.earned: dict[str, dict[str, list[int]]] = {code: {} for code in self.wallets}  # by line, of each accrual
        self.is_followed = not shop.has_multiplier
        self.is_refused = False

    def __deepcopy__(self, memo: dict[int, object]) -> Purses:
        copy = Purses(self.shop)
        copy.wallets, copy.earned = deepcopy(self.wallets, memo), deepcopy(self.earned, memo)
        copy.is_followed = self.is_followed
        return copy

    def _expiry(self, code: str, at: int) -> int | None:
        """ "to the end of that many local days after the day they were earned" """
        days = self.shop.expiry_days if code == "points" else None
        return None if days is None else (at // DAY_MINUTES + 1 + days) * DAY_MINUTES

    def earn(self, code: str, key: str, points: int, at: int) -> None:
        self.wallets[code].earn(key, points, at, self._expiry(code, at))

    def pay(self, code: str, key: str, points: int, at: int) -> None:
        assert not points or self.wallets[code].pay(key, points, at) or not self.is_followed

    def give_back(self, code: str, key: str, points: int, at: int) -> None:
        if self.is_followed:
            self.wallets[code].give_back(key, points, at)

    def earn_order(self, world: World, name: str, edit: str, at: int) -> None:
        """Take what an order, or what an edit added, has earned: as it was recorded."""
        if not self.is_followed:
            return
        sold = world.sold[name]
        lines = [line.key for line in sold.order.lines if sold.edits.get(line.key, "") == edit]
        found = Accrual.objects.filter(member=world.member, source_kind=SourceKind.ORDER_LINE)
        names = dict(world.line_rows.values_list("pk", "external_id"))
        points: dict[str, dict[str, list[int]]] = {code: defaultdict(list) for code in self.wallets}
        codes = {pk: code for code, pk in self.shop.wallets.items()}
        for accrual in found:
            points[codes[accrual.wallet_id]][names[accrual.source_id]].append(accrual.points)
        for code, by_line in points.items():
            own = {line: by_line[line] for line in lines if line in by_line}
            self.earned[code] |= own
            self.earn(code, f"{name}/{edit}", sum(map(sum, own.values())), at)

    def claw_back(self, world: World, shares: Mapping[str, Mapping[str, Fraction]], at: int) -> None:
        """Take back of each lot of these orders what is due by the shares of their lines."""
        if not self.is_followed:
            return
        for code, wallet in self.wallets.items():
            due: dict[str, int] = defaultdict(int)
            for name, of_lines in shares.items():
                for line, share in of_lines.items():
                    lot = f"{name}/{world.sold[name].edits.get(line, '')}"
                    due[lot] += sum(int(points * share) for points in self.earned[code].get(line, ()))
            for lot, points in due.items():
                if lot in wallet.lots and points > wallet.lots[lot].due and wallet.claw_back(lot, points, at) is None:
                    self.is_refused = True
