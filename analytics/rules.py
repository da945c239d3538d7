"""The arithmetic of retention: intervals, and what may be said of a cell yet."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from math import sqrt

# Grows with every change of what a cell counts; stored cells of an older one are restated.
DEFINITION_VERSION = 1

DAY_N = (1, 7, 14, 30, 60, 90)
BRACKETS = (30, 60, 90)
# Every member is followed for as long after the first order, whichever N is asked for: the shares compare.
FOLLOW_UP_DAYS = 180
SURVIVAL_DAYS = 90
REPURCHASE_DAYS = 90
# A period that is over waits this long for late facts before its cells are final.
SETTLE_DAYS = 14

# The 97.5 % point of the normal distribution.
_Z = 1.959963984540054


class State(StrEnum):
    """`immature`: not all of it has happened. `provisional`: it is over, late facts may still come. `final`."""

    IMMATURE = "immature"
    PROVISIONAL = "provisional"
    FINAL = "final"


@dataclass(frozen=True, slots=True)
class Interval:
    """Where the true rate lies, as fractions: an estimate, not a count."""

    low: float
    high: float

    @property
    def low_bps(self) -> int:
        """The lower bound in basis points."""
        return round(10_000 * self.low)

    @property
    def high_bps(self) -> int:
        """The upper bound in basis points."""
        return round(10_000 * self.high)


def find_state(*, ends_on: date, watermark: date) -> State:
    """Return what may be said of a cell that ends before `ends_on` when the facts are in through the watermark."""
    if watermark + timedelta(days=1) < ends_on:
        return State.IMMATURE
    return State.FINAL if watermark + timedelta(days=1) >= ends_on + timedelta(days=SETTLE_DAYS) else State.PROVISIONAL


def rate_bps(retained: int, n: int) -> int | None:
    """Return retained / n, halves up; None where there is nobody. Units: basis points."""
    return (2 * 10_000 * retained + n) // (2 * n) if n else None


def wilson(retained: int, n: int) -> Interval | None:
    """Return the Wilson score interval at 95 %; None where there is nobody.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", Journal of the
    American Statistical Association 22 (1927), 209-212; without continuity correction.
    """
    if not n:
        return None
    share, square = retained / n, _Z * _Z
    center = share + square / (2 * n)
    reach = _Z * sqrt(share * (1 - share) / n + square / (4 * n * n))
    whole = 1 + square / n
    # At the ends the bound is the end itself; floats would miss it by an ulp.
    return Interval((center - reach) / whole if retained else 0.0, (center + reach) / whole if retained < n else 1.0)
