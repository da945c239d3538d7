"""How large and how long the measurements are."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sizes:
    """The full sizes; `QUICK` is for a look of a few minutes."""

    repetitions: int = 3
    seconds: float = 10
    accounts: int = 50_000
    orders: int = 100_000
    lots: int = 1_000_000
    members: int = 2_000_000
    orders_per_member: int = 10
    looped_members: int = 2_000
    codes: int = 1_000_000


QUICK = Sizes(
    repetitions=3,
    seconds=3,
    accounts=10_000,
    orders=20_000,
    lots=60_000,
    members=400_000,
    looped_members=500,
    codes=200_000,
)
