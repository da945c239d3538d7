"""The published terms of a program's coupons, kept in memory: which was in force when, and what covers what."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, lru_cache

from core.models import Program, VersionStatus
from core.names import fold
from coupons.definitions import CouponTerms
from coupons.models import CouponDefinitionVersion

_BEGINNING = datetime.min.replace(tzinfo=UTC)
_END = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Offer:
    """A version of a definition, in force from `begins_at` until `ends_at`."""

    definition_id: int
    code: str
    version_id: int
    terms: CouponTerms
    begins_at: datetime
    ends_at: datetime

    def is_in_force(self, at: datetime) -> bool:
        """Tell whether what happens at an instant follows this version."""
        return self.begins_at <= at < self.ends_at

    def is_open(self, at: datetime) -> bool:
        """Tell whether the version is in force and the window of its terms is open."""
        starts_at, ends_at = self.terms.starts_at or _BEGINNING, self.terms.ends_at or _END
        return self.is_in_force(at) and starts_at <= at < ends_at


@dataclass
class Offers:
    """All versions of a program's definitions that have left the draft state."""

    by_version: dict[int, Offer] = field(default_factory=dict)
    _by_definition: dict[int, list[Offer]] = field(default_factory=lambda: defaultdict(list))
    _by_code: dict[str, list[Offer]] = field(default_factory=lambda: defaultdict(list))
    _automatic: dict[tuple[str, str], list[Offer]] = field(default_factory=lambda: defaultdict(list))

    @cached_property
    def has_first_order(self) -> bool:
        """Tell whether any version is for a member's first order."""
        return any(offer.terms.first_order for offer in self.by_version.values())

    def add(self, offer: Offer) -> None:
        """Take in a version; automatic ones by each sku and category that they cover."""
        self.by_version[offer.version_id] = offer
        self._by_definition[offer.definition_id].append(offer)
        self._by_code[offer.code].append(offer)
        if offer.terms.how == "automatic":
            skus, categories, *_left_out = offer.terms.scope
            scope = [("sku", sku) for sku in skus] + [("category", name) for name in categories]
            for key in scope or [("", "")]:
                self._automatic[key].append(offer)

    def find(self, code: str, at: datetime) -> Offer | None:
        """Return the version of a definition in force at an instant."""
        return next((offer for offer in self._by_code.get(code, ()) if offer.is_in_force(at)), None)

    def has(self, code: str) -> bool:
        """Tell whether the program has, or has had, a coupon of this code."""
        return code in self._by_code

    def find_by_id(self, definition_id: int, at: datetime) -> Offer | None:
        """Return the version of a definition in force at an instant."""
        return next((offer for offer in self._by_definition.get(definition_id, ()) if offer.is_in_force(at)), None)

    def list_open(self, at: datetime) -> list[Offer]:
        """Return the versions in force whose window is open, by code."""
        return sorted((one for one in self.by_version.values() if one.is_open(at)), key=lambda offer: offer.code)

    def list_automatic(self, at: datetime, skus: Collection[str], categories: Collection[str]) -> list[Offer]:
        """Return what may apply by itself to a basket of these skus and categories."""
        found = {offer.version_id: offer for offer in self._touching(skus, categories) if offer.is_open(at)}
        return list(found.values())

    def _touching(self, skus: Collection[str], categories: Collection[str]) -> Iterator[Offer]:
        yield from self._automatic.get(("", ""), ())
        for sku in skus:
            yield from self._automatic.get(("sku", fold(sku)), ())
        for category in categories:
            yield from self._automatic.get(("category", fold(category)), ())


def list_offers(program: Program) -> Offers:
    """Return a program's offers, from memory if its revision is known."""
    return _list_offers(program.pk, program.revision, program.created_at, program.currency)


def get_offer(program: Program, version_id: int) -> Offer:
    """Return a version from memory; one that was published since the program was read is read."""
    found = list_offers(program).by_version.get(version_id)
    return found or list_offers(Program.objects.get(pk=program.pk)).by_version[version_id]


@lru_cache(maxsize=64)
def _list_offers(program_id: int, _revision: int, _created_at: datetime, currency: str) -> Offers:
    """Read the versions once per revision. The instant tells recreated databases apart."""
    versions = CouponDefinitionVersion.objects.filter(owner__program=program_id).exclude(status=VersionStatus.DRAFT)
    rows: dict[int, list[CouponDefinitionVersion]] = defaultdict(list)
    for version in versions.select_related("owner").order_by("owner", "number"):
        rows[version.owner_id].append(version)
    offers = Offers()
    for own in rows.values():
        following = [*(version.effective_at for version in own[1:]), None]
        for version, next_at in zip(own, following, strict=True):
            offers.add(
                Offer(
                    definition_id=version.owner_id,
                    code=version.owner.code,
                    version_id=version.pk,
                    terms=CouponTerms.model_validate(version.definition, context={"currency": currency}),
                    begins_at=version.effective_at or _BEGINNING,
                    ends_at=min(next_at or _END, version.ended_at or _END),
                )
            )
    return offers
