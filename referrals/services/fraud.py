"""What speaks against referrals: accounts of one person that bring each other. Only ever sends to a review."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from core.models import Program
from membership.fingerprints import PUBLIC, STRONG
from membership.models import Fingerprint, FingerprintKind
from referrals.models import Referral, RefusedBinding
from referrals.rules import Evidence, connect, score

# Bounds of one assessment: farms are small, and so are the circles that are looked at.
_STEPS, _MOST_MEMBERS = 6, 20_000
# Of a referrer with more friends the latest are compared.
_MOST_SIBLINGS = 500
_BURST = timedelta(hours=12)


@dataclass(slots=True)
class _Circle:
    """Members, what they were seen with, and who shares it."""

    seen: dict[int, dict[bytes, str]] = field(default_factory=lambda: defaultdict(dict))
    sharing: dict[bytes, set[int]] = field(default_factory=lambda: defaultdict(set))

    def add(self, rows: Iterable[tuple[int, str, Any]]) -> None:
        for member_id, kind, digest in rows:
            self.seen[member_id][bytes(digest)] = kind
            self.sharing[bytes(digest)].add(member_id)

    def tied_by(self, digest: bytes) -> set[int]:
        """Return the members whom a card, a device or an e-mail address ties together: none if it is a public one."""
        return self.sharing[digest] if len(self.sharing[digest]) <= PUBLIC else set()

    def shared(self, member_id: int, kinds: Collection[str], others: Collection[int]) -> int:
        """Return how many of the others share something of these kinds with the member."""
        found: set[int] = set()
        for digest, kind in self.seen[member_id].items():
            if kind in kinds:
                found |= self.sharing[digest].intersection(others)
        return len(found - {member_id})

    def largest_share(self, member_id: int) -> int:
        """Return how many members the member's most used card or device has served."""
        kinds = (FingerprintKind.PAYMENT, FingerprintKind.DEVICE)
        own = (digest for digest, kind in self.seen[member_id].items() if kind in kinds)
        return max((len(self.sharing[digest]) for digest in own), default=0)


def assess(*, program: Program, referral_ids: Sequence[int]) -> dict[int, list[tuple[str, int]]]:
    """Return the signals against each referral, with their points."""
    referrals = {referral.pk: referral for referral in Referral.objects.filter(pk__in=referral_ids)}
    friends = _list_friends({referral.referrer_id for referral in referrals.values()})
    people = {referral.member_id for referral in referrals.values()} | set(friends)
    people |= {friend.member_id for own in friends.values() for friend in own}
    circle = _reach(program, people)
    farms = _count_farms(circle)
    refused = set(
        RefusedBinding.objects.filter(member_id__in=[referral.member_id for referral in referrals.values()])
        .order_by("member_id")
        .values_list("member_id", flat=True)
    )
    found = {}
    for referral_id, referral in referrals.items():
        evidence = _evidence(referral, friends, circle, farms)
        found[referral_id] = score(replace(evidence, refused_before=referral.member_id in refused))
    return found


def note_signals(referral: Referral, signals: Sequence[tuple[str, int]], at: datetime) -> None:
    """Note on a referral what speaks against it; the caller saves it."""
    referral.signals = [{"signal": name, "points": points} for name, points in signals]
    referral.score, referral.scored_at = min(sum(points for _, points in signals), 100), at


def _list_friends(referrer_ids: Collection[int]) -> dict[int, list[Referral]]:
    """Return the friends of each referrer, the last ones of those who have very many."""
    found: dict[int, list[Referral]] = {referrer_id: [] for referrer_id in referrer_ids}
    rows = Referral.objects.filter(referrer_id__in=referrer_ids).order_by("referrer_id", "-pk")
    for referral in rows.only("member_id", "referrer_id", "bound_at").iterator():
        if len(found[referral.referrer_id]) < _MOST_SIBLINGS:
            found[referral.referrer_id].append(referral)
    return found


def _reach(program: Program, people: Collection[int]) -> _Circle:
    """Return what people were seen with, and step by step those who share a card, a device or an e-mail with them."""
    circle, reached, frontier = _Circle(), set[int](), set(people)
    for _ in range(_STEPS):
        circle.add(Fingerprint.objects.filter(member_id__in=frontier).values_list("member_id", "kind", "digest"))
        reached |= frontier
        digests = {digest for one in frontier for digest, kind in circle.seen[one].items() if kind in STRONG}
        others = Fingerprint.objects.filter(program=program, digest__in=list(digests))
        circle.add(others.values_list("member_id", "kind", "digest"))
        frontier = {one for digest in digests for one in circle.tied_by(digest)} - reached
        if not frontier or len(reached) > _MOST_MEMBERS:
            break
    return circle


def _count_farms(circle: _Circle) -> dict[int, int]:
    """Return for each member how many referrals lie within the group that cards, devices and e-mails tie together."""
    strong = {digest for own in circle.seen.values() for digest, kind in own.items() if kind in STRONG}
    pairs = [pair for digest in strong for pair in pairwise(circle.tied_by(digest))]
    groups = connect(pairs)
    inside: dict[int, int] = defaultdict(int)
    rows = Referral.objects.filter(member_id__in=list(groups), referrer_id__in=list(groups))
    for member_id, referrer_id in rows.values_list("member_id", "referrer_id"):
        if groups[member_id] == groups[referrer_id]:
            inside[groups[member_id]] += 1
    return {member_id: inside[group] for member_id, group in groups.items()}


def _evidence(
    referral: Referral, friends: dict[int, list[Referral]], circle: _Circle, farms: dict[int, int]
) -> Evidence:
    member_id, referrer_id = referral.member_id, referral.referrer_id
    own = friends[referrer_id]
    siblings = {friend.member_id for friend in own} - {member_id}
    known = siblings | {referrer_id}
    near = [friend for friend in own if abs(friend.bound_at - referral.bound_at) <= _BURST]
    return Evidence(
        strong_with_referrer=bool(circle.shared(member_id, STRONG, {referrer_id})),
        strong_with_siblings=circle.shared(member_id, STRONG, siblings),
        shared_by=circle.largest_share(member_id),
        farm=farms.get(member_id, 0),
        address=circle.shared(member_id, (FingerprintKind.ADDRESS,), known),
        ip_agent=circle.shared(member_id, (FingerprintKind.IP_AGENT,), known),
        burst=len(near),
    )
