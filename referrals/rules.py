"""Arithmetic of referrals without a database: who hangs together, scores."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

N = TypeVar("N", bound=Hashable)


def connect(pairs: Iterable[tuple[N, N]]) -> dict[N, N]:
    """Return for everything named in pairs a representative that all of its group share: union-find."""
    parents: dict[N, N] = {}

    def find(one: N) -> N:
        parents.setdefault(one, one)
        while parents[one] != one:
            parents[one] = parents[parents[one]]
            one = parents[one]
        return one

    for left, right in pairs:
        parents[find(left)] = find(right)
    return {one: find(one) for one in list(parents)}


def groups_of(representatives: dict[N, N], among: Collection[N]) -> dict[N, list[N]]:
    """Return the members of each group, of those asked for."""
    found: dict[N, list[N]] = defaultdict(list)
    for one in among:
        if one in representatives:
            found[representatives[one]].append(one)
    return found


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks against a referral. Counts are of others: the referrer and the referrer's other friends.

    `refused_before`: the member was refused as one person with a referrer, this one or another;
    `strong_with_referrer`: e-mail, card or device shared with the referrer; `strong_with_siblings`: how many other
    friends share one; `shared_by`: how many members one card or device has served; `farm`: how many referrals lie
    within the group that shared cards, devices and e-mails tie together, this one among them; `address`, `ip_agent`:
    how many share them; `burst`: friends of the referrer bound within a day of this one.
    """

    refused_before: bool = False
    strong_with_referrer: bool = False
    strong_with_siblings: int = 0
    shared_by: int = 0
    farm: int = 0
    address: int = 0
    ip_agent: int = 0
    burst: int = 0


# Points of suspicion. From FLAGGED on a referral waits for a person; an IP address adds to others and is none alone.
FLAGGED = 50
# The points of what is known, and not only likely.
REFUSED_BEFORE, CERTAIN = "refused_before", 60
_FARM, _FAN_OUT, _BURST = 4, 4, 8


def score(evidence: Evidence) -> list[tuple[str, int]]:
    """Return the signals that speak against a referral, each with its points."""
    signals = [
        (REFUSED_BEFORE, CERTAIN if evidence.refused_before else 0),
        ("shared_with_referrer", 60 if evidence.strong_with_referrer else 0),
        ("shared_with_friends", min(30 + 10 * evidence.strong_with_siblings, 60) * bool(evidence.strong_with_siblings)),
        ("connected_farm", 60 if evidence.farm >= _FARM else 0),
        ("fan_out", 30 if evidence.shared_by >= _FAN_OUT else 0),
        ("shared_address", 20 if evidence.address else 0),
        ("velocity", 20 if evidence.burst >= _BURST else 0),
    ]
    found = [(name, points) for name, points in signals if points]
    if found and evidence.ip_agent:
        found.append(("shared_ip", 10))
    return found
