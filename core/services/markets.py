"""Whether a market can go: facts and definitions name it by its code, so its code never changes while they do.

Each app says how it knows: core does not know who names markets.
"""

from collections.abc import Callable
from typing import TypeVar

from core.models import Market

T = TypeVar("T", bound=Callable[[Market], bool])
_uses: dict[str, tuple[Callable[[Market], bool], bool]] = {}


class MarketInUse(Exception):
    """The market is named by what `by` says, so it keeps its code and stays."""

    def __init__(self, by: str) -> None:
        super().__init__(f"{by} name it")
        self.by = by


def names_markets(by: str, *, in_files: bool) -> Callable[[T], T]:
    """Register the decorated function: it tells whether something of its app, called `by`, names a market.

    in_files: a program file says it too, and is read against its own markets.
    """

    def register(function: T) -> T:
        _uses[by] = (function, in_files)
        return function

    return register


def require_unused(market: Market, *, by_file: bool = False) -> None:
    """Refuse to remove or rename a market that something names.

    by_file: a program file leaves it out, whose definitions take the place of those that there are.
    Raises: MarketInUse.
    """
    for by, (is_named, in_files) in _uses.items():
        if not (by_file and in_files) and is_named(market):
            raise MarketInUse(by)
