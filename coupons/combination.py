"""Which coupons to combine: an exact search over integers that knows nothing of coupons.

Of each group at most one option may be chosen. What a choice takes off never shrinks with another option, and an
option adds the less, the more are chosen already. docs/coupons.md says why that holds and how the bounds follow.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from operator import add, sub
from typing import NamedTuple

from core.money import BPS

Vector = tuple[int, ...]

# Nodes that are looked at, times the size of one: with the second search (`coupons.thrift`) at most half a second on a
# core of 2026. docs/benchmarks.md has the worst basket measured, `bench/hard_baskets.py` makes it.
WORK = 6_000_000


@dataclass(frozen=True, slots=True)
class Option:
    """What a coupon takes off each line, off what the lines leave (a rate of it, at most so much), off shipping."""

    lines: Vector
    rate_bps: int = 0
    most_minor: int = 0
    shipping_minor: int = 0


class Found(NamedTuple):
    """The place of the chosen option in each group; what they take off; by how much another choice could be better."""

    chosen: tuple[int, ...]
    minor: int
    gap_minor: int
    nodes: int


class Entry(NamedTuple):
    """An option in a group: its place there and its vector."""

    place: int
    vector: Vector


@dataclass(frozen=True)
class Group:
    """A group of which an option is still to be chosen."""

    place: int
    entries: tuple[Entry, ...]

    @cached_property
    def union(self) -> Vector:
        """What all options together take off at most."""
        return _highest([entry.vector for entry in self.entries])

    def keep(self, entries: Iterable[Entry]) -> "Group":
        """Return the group with some of its entries: itself, with what it knows, if these are all."""
        kept = tuple(entries)
        return self if len(kept) == len(self.entries) else Group(self.place, kept)


class _Node(NamedTuple):
    """A partial choice: its options by group, the sum of their vectors, and the most that can come of it."""

    bound: int
    chosen: dict[int, int]
    vector: Vector
    groups: list[Group]


class Space:
    """The amounts that are there to be taken off, and what options are worth together.

    An option is a vector: an entry for each line that could be taken off more than once over, one for all other lines
    together, one for shipping, and what it takes off the order, in 1/10,000 of a minor unit, for some amounts that the
    lines may leave. Between two neighbors of these it is linear, so that sums of vectors say all that matters.
    """

    def __init__(self, amounts: Sequence[int], shipping_minor: int, groups: Sequence[Sequence[Option]]) -> None:
        """Find the lines and the amounts that matter."""
        self.whole = sum(amounts)
        most = [sum(parts) for parts in zip(*(_highest([o.lines for o in group]) for group in groups), strict=True)]
        self.contested = [i for i, amount in enumerate(amounts) if groups and most[i] > amount]
        self.caps = (*(amounts[i] for i in self.contested), self.whole, shipping_minor)
        least = self.whole - sum(map(min, most, amounts))
        self.lefts = self._find_lefts(least, [option for group in groups for option in group])
        self.no_order = (0,) * len(self.lefts)
        self.nothing: Vector = (0,) * len(self.caps) + self.no_order
        self.groups = [
            Group(place, tuple(Entry(i, self.vector(option)) for i, option in enumerate(group)))
            for place, group in enumerate(groups)
        ]

    def count_nodes(self, most: int, *, work: int) -> int:
        """Return how many nodes may be looked at: the larger one is, the fewer, the same for the same basket."""
        size = sum(len(group.entries) for group in self.groups) * (len(self.nothing) + 30)
        return min(most, work // size)

    def _find_lefts(self, least: int, options: Sequence[Option]) -> list[int]:
        """Return both ends of the range, and the whole amounts around each point where an option meets its cap."""
        lefts = {least, self.whole}
        for option in options:
            if option.rate_bps:
                meets = option.most_minor * BPS // option.rate_bps
                lefts |= {left for left in (meets, meets + 1) if least < left < self.whole}
        return sorted(lefts)

    def vector(self, option: Option) -> Vector:
        """Return an option as what the search adds up."""
        contested = [option.lines[i] for i in self.contested]
        return (*contested, sum(option.lines) - sum(contested), option.shipping_minor, *self._off_order(option))

    def _off_order(self, option: Option) -> Sequence[int]:
        """Return what an option takes off the amounts that the lines may leave: a rate of them, at most its cap."""
        most, rate = option.most_minor * BPS, option.rate_bps
        if not rate:
            return self.no_order
        below = bisect_right(self.lefts, most // rate)
        return [rate * left for left in self.lefts[:below]] + [most] * (len(self.lefts) - below)

    def worth(self, vector: Vector) -> int:
        """Return what comes off in all, in 1/10,000 of a minor unit."""
        # The innermost step of the search: calls of min() would take twice as long. There are fewer caps than parts.
        parts = [part if part < cap else cap for part, cap in zip(vector, self.caps)]  # noqa: B905, FURB136
        shipping = parts.pop()
        off = sum(parts)
        left = self.whole - off
        order = min(left * BPS, self._order(vector, left)) if vector[-1] else 0
        return (off + shipping) * BPS + order

    def shipping(self, vector: Vector) -> int:
        """Return what a vector takes off shipping by itself, though there may be less."""
        return vector[len(self.caps) - 1]

    def count_most(self, vector: Vector) -> int:
        """Return a bound of what a vector adds to any other, in 1/10,000 of a minor unit."""
        first = len(self.caps)
        return sum(vector[:first]) * BPS + vector[-1]

    def _order(self, vector: Vector, left: int) -> int:
        """Return what the vector takes off the amount that the lines leave."""
        lefts, first = self.lefts, len(self.caps)
        place = bisect_right(lefts, left, 0, len(lefts) - 1)
        if place == 0:
            return vector[first]
        low, high = lefts[place - 1], lefts[place]
        at_low, at_high = vector[first + place - 1 : first + place + 1]
        return at_low + (at_high - at_low) * (left - low) // (high - low)


class _Search:
    """The best choice so far, and the way to a better one. Worths are in 1/10,000 of a minor unit."""

    def __init__(self, space: Space, certain: Vector, groups: list[Group]) -> None:
        """Begin with the option of each group that adds most, and exchange one at a time while that helps.

        `certain`: the sum of what is chosen in any case.
        """
        self.worth = space.worth
        self.chosen: dict[int, int] = {}
        self.found = self.worth(certain)
        self.root = _Node(self.worth(add_up(certain, (group.union for group in groups))), {}, certain, groups)
        self._climb(certain, groups)

    def _climb(self, vector: Vector, groups: list[Group]) -> None:
        picks: dict[int, Entry] = {}
        before = -1
        while self.found > before:
            before = self.found
            for group in groups:
                pick = picks.get(group.place)
                rest = tuple(map(sub, vector, pick.vector)) if pick else vector
                worths = [self.worth(plus(rest, entry.vector)) for entry in group.entries]
                picks[group.place] = entry = group.entries[worths.index(max(worths))]
                vector = plus(rest, entry.vector)
            self._offer({place: entry.place for place, entry in picks.items()}, self.worth(vector))

    def _offer(self, chosen: dict[int, int], worth: int) -> None:
        if worth > self.found:
            self.found, self.chosen = worth, chosen

    def is_hopeless(self, bound: int) -> bool:
        """Tell whether nothing within a bound takes a whole minor unit more off than the best choice."""
        return bound // BPS <= self.found // BPS

    def expand(self, node: _Node) -> list[_Node]:
        """Return what is left to look at below a node, the most promising last: nothing if it is settled."""
        bound, chosen, vector, groups = node
        while groups:
            worth = self.worth(vector)
            gains = [[self.worth(plus(vector, entry.vector)) - worth for entry in group.entries] for group in groups]
            self._take_best(chosen, vector, groups, gains)
            total = worth + sum(map(max, gains))
            bound = min(bound, total, self.worth(add_up(vector, (group.union for group in groups))))
            if self.is_hopeless(bound):
                return []
            kept = [self._keep(group, gain, total) for group, gain in zip(groups, gains, strict=True)]
            settled = [group for group in kept if len(group.entries) == 1]
            groups = [group for group in kept if len(group.entries) > 1]
            if not settled:
                return self._branch(_Node(bound, chosen, vector, groups), total)
            chosen = chosen | {group.place: group.entries[0].place for group in settled}
            vector = add_up(vector, (group.entries[0].vector for group in settled))
        self._offer(chosen, self.worth(vector))
        return []

    def _take_best(self, chosen: dict[int, int], vector: Vector, groups: list[Group], gains: list[list[int]]) -> None:
        """Look at the choice of what gains most in each group by itself."""
        picks = {group.place: group.entries[gain.index(max(gain))] for group, gain in zip(groups, gains, strict=True)}
        worth = self.worth(add_up(vector, (entry.vector for entry in picks.values())))
        self._offer(chosen | {place: entry.place for place, entry in picks.items()}, worth)

    def _keep(self, group: Group, gains: list[int], total: int) -> Group:
        """Leave out the options that cannot be part of anything better."""
        without = total - max(gains)
        kept = (e for e, gain in zip(group.entries, gains, strict=True) if not self.is_hopeless(without + gain))
        return group.keep(kept)

    def _branch(self, node: _Node, total: int) -> list[_Node]:
        """Part the node by the group whose best option is furthest ahead of its second."""
        worth = self.worth(node.vector)
        gains = [sorted(self.worth(plus(node.vector, e.vector)) - worth for e in g.entries) for g in node.groups]
        place = max(range(len(gains)), key=lambda i: gains[i][-1] - gains[i][-2])
        without = total - gains[place][-1]
        rest = node.groups[:place] + node.groups[place + 1 :]
        nodes = []
        for entry in reversed(node.groups[place].entries):
            vector = plus(node.vector, entry.vector)
            bound = min(node.bound, without + self.worth(vector) - worth)
            nodes.append(_Node(bound, node.chosen | {node.groups[place].place: entry.place}, vector, rest))
        return sorted(nodes, key=lambda node: node.bound)


def search(space: Space, *, node_budget: int) -> Found:
    """Choose an option of each group so that as much as possible comes off.

    A node is a partial choice that was looked at: at most as many as the budget, fewer in large baskets. When they are
    used up, the best choice so far is returned, and no choice takes off more than `gap_minor` beyond it.
    """
    if not space.groups:
        return Found((), 0, 0, 0)
    several = [_undominated(group) for group in space.groups if len(group.entries) > 1]
    single = (group.entries[0].vector for group in space.groups if len(group.entries) == 1)
    run = _Search(space, add_up(space.nothing, single), several)
    nodes, stack, most = 0, [run.root], space.count_nodes(node_budget, work=WORK)
    while stack and nodes < most:
        node = stack.pop()
        if not run.is_hopeless(node.bound):
            nodes += 1
            stack.extend(run.expand(node))
    bound = max((node.bound for node in stack), default=0)
    gap = max(0, bound // BPS - run.found // BPS)
    chosen = tuple(run.chosen.get(group.place, 0) for group in space.groups)
    return Found(chosen, run.found // BPS, gap, nodes)


def _undominated(group: Group) -> Group:
    """Leave out an option if another takes off as much everywhere; of equal ones the first stays."""
    kept: list[Entry] = []
    for entry in sorted(group.entries, key=lambda entry: (-sum(entry.vector), entry.place)):
        if not any(all(map(int.__ge__, other.vector, entry.vector)) for other in kept):
            kept.append(entry)
    return Group(group.place, tuple(sorted(kept)))


def _highest(vectors: Sequence[Vector]) -> Vector:
    return tuple(map(max, *vectors)) if len(vectors) > 1 else vectors[0]


def plus(vector: Vector, other: Vector) -> Vector:
    """Return the sum of two vectors."""
    return tuple(map(add, vector, other))


def add_up(vector: Vector, others: Iterable[Vector]) -> Vector:
    """Return the sum of a vector and others."""
    for other in others:
        vector = plus(vector, other)
    return vector
