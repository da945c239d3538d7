"""A shop's members as they come: singles, households and offices that share much, and farms of one person.

Everything goes through the services. The same seed gives the same members.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from core.models import Program
from core.services import outbox
from membership.fact_inputs import MemberInput
from membership.models import Member
from membership.services import fingerprints
from membership.services.members import enroll_members
from referrals.models import Referral
from referrals.services import binding, codes, qualification
from storefront.services import intake
from tests.referrals.worlds import DAY, NOW, make_shop
from tests.storefront.shop import order

SPAN_DAYS = 90


@dataclass
class Person:
    """An account to be: when it joins, what it is seen with, who brings it, and the farm that it is of."""

    name: str
    joined_at: datetime
    seen: dict[str, str]
    referrer: "Person | None" = None
    farm: int | None = None


@dataclass
class World:
    """What came of it, by referral: caught means refused at the door or sent to review."""

    farm_referrals: int = 0
    farm_caught: int = 0
    honest_referrals: int = 0
    honest_caught: int = 0
    refused: dict[str, int] = field(default_factory=dict)
    by_farm: dict[int, list[bool]] = field(default_factory=dict)

    @property
    def precision(self) -> float:
        caught = self.farm_caught + self.honest_caught
        return self.farm_caught / caught if caught else 1.0

    def in_review(self) -> str:
        """Return how those fared that were not refused at the door."""
        refused = [sum(n for name, n in self.refused.items() if name.endswith(side)) for side in ("farm", "honest")]
        farm, honest = self.farm_caught - refused[0], self.honest_caught - refused[1]
        return f"in review {farm} of farms and {honest} honest ones"

    @property
    def recall(self) -> float:
        return self.farm_caught / self.farm_referrals


class Town:
    """Makes people."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.people: list[Person] = []

    def add(self, at: datetime, **seen: str) -> Person:
        number = len(self.people)
        own = {"email": f"p{number}@mail.example", "payment": f"card {number}", "device": f"device {number}"}
        own |= {"address": f"{number} Long Lane", "ip_agent": f"ip {number}"}
        person = Person(f"p{number}", at, own | seen)
        self.people.append(person)
        return person

    def some_day(self) -> datetime:
        return NOW + self.dice.random() * SPAN_DAYS * DAY

    def add_honest(self, count: int) -> None:
        while len(self.people) < count:
            match self.dice.choices(["single", "household", "office"], [60, 30, 2])[0]:
                case "single":
                    # One in five comes by a carrier that puts many behind one address.
                    shared = {"ip_agent": f"carrier {self.dice.randrange(40)}"} if self.dice.random() < 0.2 else {}
                    self.add(self.some_day(), **shared)
                case "household":
                    self._add_household()
                case "office":
                    self._add_office()
        self._bring_friends()

    def _add_household(self) -> None:
        """Two to five at one address and connection; some share a tablet, some a card."""
        home, size = len(self.people), self.dice.randint(2, 5)
        shared = {"address": f"{home} Home Street", "ip_agent": f"home {home}"}
        has_tablet, has_card = self.dice.random() < 0.2, self.dice.random() < 0.2
        family: list[Person] = []
        for place in range(size):
            both = place >= size - 2
            more = {"device": f"tablet {home}"} if both and has_tablet else {}
            more |= {"payment": f"joint card {home}"} if both and has_card else {}
            person = self.add(self.some_day(), **shared, **more)
            if family and self.dice.random() < 0.4:
                person.referrer = self.dice.choice(family)
            family.append(person)

    def _add_office(self) -> None:
        """Colleagues who have things sent to work, and in one week tell each other of a code."""
        work, week = len(self.people), self.some_day()
        first = self.add(week - DAY, address=f"{work} Office Park", ip_agent=f"office {work}")
        for _ in range(self.dice.randint(10, 40)):
            place = {"address": f"{work} Office Park"} if self.dice.random() < 0.5 else {}
            person = self.add(week + self.dice.random() * 5 * DAY, ip_agent=f"office {work}", **place)
            if self.dice.random() < 0.4:
                person.referrer = first

    def _bring_friends(self) -> None:
        """A quarter of the rest were brought by somebody they know; some referrers have very many friends."""
        honest = list(self.people)
        stars = self.dice.sample(honest, max(1, len(honest) // 2_000))
        for person in honest:
            if person.referrer is None and self.dice.random() < 0.25:
                person.referrer = self.dice.choice(stars if self.dice.random() < 0.1 else honest)

    def add_farm(self, number: int, size: int, *, is_careful: bool) -> None:
        """One person's accounts, made within days; a careful one has a card and device for each."""
        begun, farm = self.some_day(), f"farm {number}"
        devices, cards = max(2, size // 4), max(2, size // 3)
        accounts: list[Person] = []
        for place in range(size):
            seen = {"address": f"{1 + place % 2} {farm}", "ip_agent": f"{farm} {self.dice.randrange(3)}"}
            if not is_careful:
                seen |= {"device": f"{farm} {place % devices}", "payment": f"{farm} {self.dice.randrange(cards)}"}
            person = self.add(begun + self.dice.random() * 3 * DAY, **seen)
            person.farm = number
            accounts.append(person)
        accounts.sort(key=lambda person: person.joined_at)
        for place, person in enumerate(accounts[1:], 1):
            # Most by the first account, the rest one by another, never by one that obviously is the same.
            known = [one for one in accounts[:place] if one.seen["device"] != person.seen["device"]] or accounts[:1]
            person.referrer = known[0] if self.dice.random() < 0.7 else self.dice.choice(known)


def live(people: Sequence[Person]) -> World:
    """Let everybody join, bind, order and settle; return what was caught."""
    program = make_shop()
    people = sorted(people, key=lambda person: person.joined_at)
    members = _enroll(program, people)
    world, bound = World(), {}
    for person in people:
        fingerprints.record(member=members[person.name], seen_with=person.seen, at=person.joined_at)
        if person.referrer is not None and person.referrer.joined_at < person.joined_at:
            _count(world, person)
            referral = _bind(world, program, members, person)
            if referral is not None:
                bound[referral] = person
    _order(program, list(bound.values()))
    end = NOW + (SPAN_DAYS + 60) * DAY
    while qualification.mature(program=program, at=end):
        pass
    for pk in Referral.objects.filter(state="flagged").values_list("pk", flat=True):
        _catch(world, bound[pk])
    return world


def _enroll(program: Program, people: Sequence[Person]) -> dict[str, Member]:
    told = [MemberInput(external_id=person.name, joined_at=person.joined_at) for person in people]
    enroll_members(program=program, members=told, at=NOW)
    return {member.external_id: member for member in Member.objects.filter(program=program)}


def _bind(world: World, program: Program, members: dict[str, Member], person: Person) -> int | None:
    assert person.referrer is not None
    referrer, member, at = members[person.referrer.name], members[person.name], person.joined_at + timedelta(minutes=5)
    code = codes.ensure_code(member=referrer, at=at).text
    try:
        return binding.bind(program=program, member=member, code=code, told=person.seen, at=at).referral.pk
    except binding.BindingRefused as refusal:
        name = f"{type(refusal).__name__}, {'honest' if person.farm is None else 'farm'}"
        world.refused[name] = world.refused.get(name, 0) + 1
        _catch(world, person)
        return None


def _count(world: World, person: Person) -> None:
    if person.farm is None:
        world.honest_referrals += 1
    else:
        world.farm_referrals += 1
        world.by_farm.setdefault(person.farm, []).append(False)


def _catch(world: World, person: Person) -> None:
    if person.farm is None:
        world.honest_caught += 1
    else:
        world.farm_caught += 1
        world.by_farm[person.farm].append(True)


def _order(program: Program, people: Sequence[Person]) -> None:
    for start in range(0, len(people), 500):
        batch = people[start : start + 500]
        orders = [order(person.name, (1, 5_000), at=person.joined_at + DAY, member=person.name) for person in batch]
        intake.record(program=program, orders=orders, at=NOW + (SPAN_DAYS + 30) * DAY)
    outbox.drain(at=NOW + (SPAN_DAYS + 31) * DAY)
