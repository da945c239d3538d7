"""The tree around a member: who brought them, whom they brought, and whom those did."""

from dataclasses import dataclass, field

from django.db.models import Count, Window
from django.db.models.functions import RowNumber

from membership.models import Member
from referrals.models import Referral

# Of a member with more friends the last ones are shown, and how many there are.
WIDTH = 50


@dataclass(slots=True)
class Node:
    """A member in the tree, with the referral that brought them. `friends` counts all, `below` holds those shown."""

    member: Member
    referral: Referral | None
    friends: int = 0
    below: list["Node"] = field(default_factory=list)

    @property
    def hidden(self) -> int:
        """Return how many friends are not shown."""
        return self.friends - len(self.below)


@dataclass(frozen=True, slots=True)
class Tree:
    """A member with two levels below, and one above."""

    above: Member | None
    root: Node


def read_tree(member: Member) -> Tree:
    """Return the tree around a member."""
    own = Referral.objects.filter(member=member).select_related("code__member").first()
    root = Node(member, own)
    first = _fill([root], deeper=True)
    _fill(first, deeper=False)
    return Tree(own.code.member if own else None, root)


def _fill(nodes: list[Node], *, deeper: bool) -> list[Node]:
    """Hang the friends on their referrers, and return them; where it ends, only count those one level further down."""
    by_member = {node.member.pk: node for node in nodes}
    _count(by_member)
    found: list[Node] = []
    latest = Window(RowNumber(), partition_by="referrer_id", order_by="-id")
    rows = Referral.objects.filter(referrer_id__in=by_member).annotate(place=latest).filter(place__lte=WIDTH)
    for referral in rows.select_related("member").order_by("referrer_id", "-id"):
        node = Node(referral.member, referral)
        by_member[referral.referrer_id].below.append(node)
        found.append(node)
    if not deeper:
        _count({node.member.pk: node for node in found})
    return found


def _count(nodes: dict[int, Node]) -> None:
    counts = Referral.objects.filter(referrer_id__in=nodes).values_list("referrer_id").annotate(Count("id"))
    for referrer_id, friends in counts.order_by("referrer_id"):
        nodes[referrer_id].friends = friends
