"""Of combinations that take off as much: which one to use, so that least is given up. It knows nothing of coupons.

An exact search like that of `coupons.combination`, over the same vectors, that may also leave a group out. What a
combination gives up is compared part by part, as `compare_key` says; docs/coupons.md has the rule in words.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from operator import sub
from typing import NamedTuple

from core.money import BPS
from coupons.combination import Entry, Group, Space, Vector, add_up, plus

# As `combination.WORK`; a node takes six times as long, and there is half of the time.
WORK = 500_000
# The place of an entry that stands for using no option of a group.
NONE = -1
Key = tuple[int, int, tuple[float, ...], int, tuple[tuple[int, str, str], ...]]


class Use(NamedTuple):
    """What using an option gives up, in the order in which it counts.

    unlimited: 1 if it could take off any amount; most_minor: else what it could take off at most, anywhere. ends_at:
    the second since 1970 from which it can no longer be used. rank: settles what is equal otherwise, unique.
    """

    unlimited: int
    most_minor: int
    ends_at: float
    rank: tuple[int, str, str]


class _Node(NamedTuple):
    """A partial choice: its options by group, the sum of their vectors, and the groups that are open."""

    chosen: dict[int, int]
    vector: Vector
    groups: list[Group]


def compare_key(uses: Iterable[Use]) -> Key:
    """Return what a combination gives up: the smaller is preferred.

    First how many of its options could take off any amount, then what the others could take off at most, all together:
    as combinations are compared that take off as much, that is what they give up. Then the ends, the first of all
    first; then the number of options; then their ranks.
    """
    all_uses = list(uses)
    return (
        sum(use.unlimited for use in all_uses),
        sum(use.most_minor for use in all_uses),
        tuple(sorted(use.ends_at for use in all_uses)),
        len(all_uses),
        tuple(sorted(use.rank for use in all_uses)),
    )


def choose(
    space: Space, uses: Sequence[Sequence[Use]], places: Sequence[int], *, minor: int, node_budget: int
) -> dict[int, int]:
    """Return the combination that gives up least of those that take off as much as the one found: places by group.

    places: the option found in each group; minor: what they take off in all, in whole minor units, the most there is.
    When the budget is used up, it is the best combination so far; no option of it could be left out in any case.
    """
    run = _Thrift(space, uses, places, minor)
    left, stack = space.count_nodes(node_budget, work=WORK) if space.groups else 0, [run.root()]
    while stack and left:
        left -= 1
        stack.extend(run.expand(stack.pop()))
    return run.reduce(run.best) if stack else run.best


class _Thrift:
    """The combination that gives up least so far, and the way to a better one. Worths are in 1/10,000 of a unit."""

    def __init__(self, space: Space, uses: Sequence[Sequence[Use]], places: Sequence[int], minor: int) -> None:
        """Begin with what of the combination found is needed."""
        self.space, self.uses, self.minor = space, uses, minor
        self.best = self.reduce(dict(enumerate(places)))
        self.best_key = compare_key(self._uses_of(self.best))

    def reduce(self, places: dict[int, int]) -> dict[int, int]:
        """Leave out every option without which as much comes off, the dearest first."""
        vectors = {group: self.space.groups[group].entries[place].vector for group, place in places.items()}
        vector = add_up(self.space.nothing, vectors.values())
        kept = dict(places)
        for group in sorted(places, key=lambda group: self.uses[group][places[group]], reverse=True):
            without = tuple(map(sub, vector, vectors[group]))
            if self._is_enough(without):
                vector = without
                del kept[group]
        return kept

    def offer(self, chosen: dict[int, int]) -> None:
        """Keep a combination if it gives up less than the best so far."""
        kept = {group: place for group, place in chosen.items() if place != NONE}
        key = compare_key(self._uses_of(kept))
        if key < self.best_key:
            self.best, self.best_key = kept, key

    def root(self) -> _Node:
        """Return the choice in which everything is open."""
        nothing = Entry(NONE, self.space.nothing)
        groups = self.space.groups
        return _Node({}, self.space.nothing, [Group(g.place, (*g.entries, nothing)) for g in groups])

    def expand(self, node: _Node) -> list[_Node]:
        """Return what is left to look at below a node, the most promising last: nothing if it is settled."""
        chosen, vector, groups = node
        while not self._is_enough(vector):
            groups = self._require(vector, groups)
            if not groups or not all(group.entries for group in groups):
                return []
            if all(len(group.entries) > 1 for group in groups):
                gains = self._gains(vector, groups)
                groups = self._keep(vector, groups, gains)
                if not all(group.entries for group in groups) or self._is_dearer(chosen, vector, groups, gains):
                    return []
                if all(len(group.entries) > 1 for group in groups):
                    return self._branch(_Node(chosen, vector, groups), gains)
            settled = [group for group in groups if len(group.entries) == 1]
            groups = [group for group in groups if len(group.entries) > 1]
            chosen = chosen | {group.place: group.entries[0].place for group in settled}
            vector = add_up(vector, (group.entries[0].vector for group in settled))
        self.offer(chosen)
        return []

    def _require(self, vector: Vector, groups: list[Group]) -> list[Group]:
        """Leave out the options with which, all of the other groups at once beside them, as much cannot come off."""
        while True:
            unions = [group.union for group in groups]
            whole = add_up(vector, unions)
            kept = [
                self._fit(tuple(map(sub, whole, union)), group) for group, union in zip(groups, unions, strict=True)
            ]
            if kept == groups or any(len(group.entries) < 2 for group in kept):
                return kept
            groups = kept

    def _fit(self, others: Vector, group: Group) -> Group:
        needed = self.minor * BPS - self.space.worth(others)
        if needed <= 0:
            return group
        fitting = (entry for entry in group.entries if self.space.count_most(entry.vector) >= needed)
        return group.keep(entry for entry in fitting if self._is_enough(plus(others, entry.vector)))

    def _gains(self, vector: Vector, groups: list[Group]) -> dict[tuple[int, int], int]:
        """Return what each open option adds to a choice, by group and place: it never adds more to a larger one."""
        worth = self.space.worth
        now = worth(vector)
        return {
            (group.place, entry.place): worth(plus(vector, entry.vector)) - now if entry.place != NONE else 0
            for group in groups
            for entry in group.entries
        }

    def _is_enough(self, vector: Vector) -> bool:
        return bool(self.space.worth(vector) // BPS >= self.minor)

    def _uses_of(self, chosen: dict[int, int]) -> list[Use]:
        return [self.uses[group][place] for group, place in chosen.items() if place != NONE]

    def _is_dearer(
        self, chosen: dict[int, int], vector: Vector, groups: list[Group], gains: Mapping[tuple[int, int], int]
    ) -> bool:
        """Tell whether whatever is added to a choice that is not enough gives up no less than the best so far."""
        had = self._uses_of(chosen)
        left = [
            (self.uses[g.place][e.place], gains[g.place, e.place]) for g in groups for e in g.entries if e.place != NONE
        ]
        if not left:
            return True
        unlimited, most, more = _least(left, self.minor * BPS - self.space.worth(vector))
        ends_at, rank = min(use.ends_at for use, _ in left), min(use.rank for use, _ in left)
        least: Key = (
            sum(use.unlimited for use in had) + unlimited,
            sum(use.most_minor for use in had) + most,
            tuple(sorted([*(min(use.ends_at, ends_at) for use in had), *[ends_at] * more])),
            len(had) + more,
            tuple(sorted([*(min(use.rank, rank) for use in had), *[rank] * more])),
        )
        return bool(least >= self.best_key)

    def _keep(self, vector: Vector, groups: list[Group], gains: Mapping[tuple[int, int], int]) -> list[Group]:
        """Leave out the options with which, the best of each other group beside them, as much cannot come off.

        Many coupons may each take off the whole fee: of shipping they add no more together than is left of it.
        """
        fee = max(0, self.space.caps[-1] - self.space.shipping(vector)) * BPS
        parts = [[self._part(gains[g.place, e.place], e.vector, fee) for e in g.entries] for g in groups]
        best = [(max(goods for goods, _ in its), max(fees for _, fees in its)) for its in parts]
        goods_most, fees_most = sum(goods for goods, _ in best), sum(fees for _, fees in best)
        missing = self.minor * BPS - self.space.worth(vector)

        def is_kept(of_group: tuple[int, int], its: tuple[int, int]) -> bool:
            goods = goods_most - of_group[0] + its[0]
            return goods + min(fee, fees_most - of_group[1] + its[1]) >= missing

        return [
            g.keep(e for e, its in zip(g.entries, of_entries, strict=True) if is_kept(of_group, its))
            for g, of_entries, of_group in zip(groups, parts, best, strict=True)
        ]

    def _part(self, gain: int, vector: Vector, fee: int) -> tuple[int, int]:
        """Part what an option adds into goods and shipping, of which the fee is left."""
        shipping = min(fee, self.space.shipping(vector) * BPS)
        return gain - shipping, shipping

    def _branch(self, node: _Node, gains: Mapping[tuple[int, int], int]) -> list[_Node]:
        """Part the node by the group that may add most; the option that wastes least comes last, none of them first."""

        def waste(place: int, entry: Entry) -> tuple[float, ...]:
            if entry.place == NONE:
                return inf, inf, inf
            use = self.uses[place][entry.place]
            return use.unlimited, use.most_minor * BPS - gains[place, entry.place], use.ends_at

        def order(group: Group) -> tuple[float, ...]:
            return -max(gains[group.place, e.place] for e in group.entries), *min(
                waste(group.place, e) for e in group.entries
            )

        chosen, vector, groups = node
        parted = min(groups, key=order)
        rest = [group for group in groups if group is not parted]
        return [
            _Node(chosen | {parted.place: entry.place}, plus(vector, entry.vector), rest)
            for entry in sorted(parted.entries, key=lambda entry: waste(parted.place, entry), reverse=True)
        ]


def _least(left: Sequence[tuple[Use, int]], missing: int) -> tuple[int, int, int]:
    """Return bounds of what options give up that add what is missing: of those without limit, of others, of all.

    left: the options with what they add at most. As if parts of them could be used, those first that give up least for
    what they add.
    """
    endless = sorted((gain for use, gain in left if use.unlimited), reverse=True)
    limited = [(use.most_minor, gain) for use, gain in left if gain and not use.unlimited]
    unlimited, rest = 0, missing
    while rest > sum(gain for _, gain in limited) and unlimited < len(endless):
        rest -= endless[unlimited]
        unlimited += 1
    most = 0
    for minor, gain in sorted(limited, key=lambda one: one[0] / one[1]):
        if rest <= 0:
            break
        most += minor * min(gain, rest) // gain
        rest -= gain
    more = 0
    for gain in sorted((gain for _, gain in left), reverse=True):
        if missing <= 0:
            break
        missing -= gain
        more += 1
    return unlimited, most, more
