"""Where a fact may come from: a currency, a country, a market and a channel that there are."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from core.countries import COUNTRIES
from core.models import Market, Program
from core.money import CURRENCIES
from core.problems import did_you_mean


@dataclass(frozen=True, slots=True)
class Places:
    """A program's markets and channels by code. Where its file names none of a kind, any name will do."""

    markets: frozenset[str]
    channels: frozenset[str]

    def find_flaw(self, field: str, value: str) -> str:
        """Return why a fact cannot come from there; nothing if it can, or says nothing."""
        if not value:
            return ""
        match field:
            case "currency" if value not in CURRENCIES:
                return f"{value!r} is no currency of ISO 4217, such as GBP"
            case "country" if value not in COUNTRIES:
                return f"{value!r} is no country of ISO 3166, such as GB"
            case "market" if self.markets and value not in self.markets:
                return f"the program has no market {value}{did_you_mean(value, self.markets)}"
            case "channel" if self.channels and value not in self.channels:
                return f"the program has no channel {value}{did_you_mean(value, self.channels)}"
        return ""


def places_of(program: Program) -> Places:
    """Return a program's places as of its revision, from memory if they were read before."""
    return _places(program.pk, program.revision, program.created_at)


@lru_cache(maxsize=64)
def _places(program_id: int, _revision: int, _created_at: datetime) -> Places:
    """Keep places by the program's revision. The instant tells recreated databases apart."""
    markets = Market.objects.filter(program_id=program_id).values_list("code", flat=True)
    return Places(frozenset(markets), frozenset(Program.objects.get(pk=program_id).channels))
