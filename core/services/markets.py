"""Whether a market can go: facts and definitions name it by its code, so its code never changes while they do.

Each app says how it knows: core does not know who names markets.
"""

from collections.abc import Callable
from typing import TypeVar

from core.models import Market

T = TypeVar("T", bound=Callable[[Market], bool])
_uses: dict[str, Callable[[Market], bool]] = {}


class MarketInUse(Exception):
    """The market is named by what `by` says, so it keeps its code and stays."""

    def __init__(self, by: str) -> None:
        super().__init__(f"{by} name it")
        self.by = by


def names_markets(by: str) -> Callable[[T], T]:
    """Register the decorated function: it tells whether something of its app, called `by`, names a market."""

    def register(function: T) -> T:
        _uses[by] = function
        return function

    return register


def require_unused(market: Market) -> None:
    """Refuse to remove or rename a market that something names.

    Raises: MarketInUse.
    """
    for by, is_named in _uses.items():
        if is_named(market):
            raise MarketInUse(by)
