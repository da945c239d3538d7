"""The texts of coupon codes: what one that people choose may be, and how random ones are drawn."""

import math
import secrets
from collections.abc import Callable
from functools import reduce

from django.utils.translation import gettext

from core.typed_codes import ALPHABET, BadCode, check_chosen, clean, key

LONGEST = 40
SHORTEST = 3
LONGEST_PREFIX = 12
# Bits beyond those that tell the live codes apart: a guess hits one of them once in 2^35.
SPARE_BITS = 35
# 65 bits: enough beside a billion live codes.
SINGLE_SYMBOLS = 13

_BITS = 5
_LOW_BITS = bytes(value & 31 for value in range(256))
_AS_TEXT = ALPHABET.encode().ljust(256, b"?")
_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)}

Random = Callable[[int], bytes]


def check_text(text: str) -> str:
    """Return the spelling of a code that people chose, such as `SHOES20`.

    Raises: BadCode.
    """
    return check_chosen(text, shortest=SHORTEST, longest=LONGEST)


def check_prefix(text: str) -> str:
    """Return the spelling of what random codes are to begin with; it may be empty.

    Raises: BadCode.
    """
    spelling = check_chosen(text, shortest=0, longest=LONGEST_PREFIX) if clean(text) else ""
    if "U" in key(spelling):
        raise BadCode(gettext("random codes have no U, so that their last symbol can check the others"))
    return spelling


def symbols_for(live: int) -> int:
    """Return how many random symbols each code needs beside so many live ones."""
    return math.ceil((math.log2(max(live, 2)) + SPARE_BITS) / _BITS)


def draw(
    count: int, *, prefix: str = "", symbols: int = SINGLE_SYMBOLS, random: Random = secrets.token_bytes
) -> list[str]:
    """Return random codes in ascending order: the key of the prefix, so many random symbols, the check symbol.

    All codes are worked out at once, symbol by symbol: a column is one text of `count` bytes.
    """
    stream = random(count * symbols).translate(_LOW_BITS)
    columns = [bytes([_VALUES[symbol]]) * count for symbol in key(prefix)]
    columns += [stream[first::symbols] for first in range(symbols)]
    columns.append(_check(columns, count))
    width = len(columns)
    laid = bytearray(count * width)
    for place, column in enumerate(columns):
        laid[place::width] = column.translate(_AS_TEXT)
    text = laid.decode("ascii")
    return sorted(text[first : first + width] for first in range(0, count * width, width))


def has_check(text: str) -> bool:
    """Tell whether the key of a code ends with the check symbol of what stands before it."""
    if len(text) < SHORTEST or not all(symbol in _VALUES for symbol in text):
        return False
    values = [bytes([_VALUES[symbol]]) for symbol in text]
    return _check(values[:-1], 1) == values[-1]


def _times(value: int, other: int) -> int:
    """Multiply in the field of 32 elements (x^5 + x^2 + 1)."""
    product = 0
    while other:
        product ^= value if other & 1 else 0
        value = value << 1 ^ (0b100101 if value & 16 else 0)
        other >>= 1
    return product


def _weights() -> list[bytes]:
    """Return, for each place counted from the check symbol, the table that multiplies by that place's weight.

    The weights are the powers of 2, which differ over 31 places: every wrong symbol and every two that changed places
    are found.
    """
    weight, tables = 1, []
    for _place in range(31):
        tables.append(bytes(_times(value, weight) for value in range(32)).ljust(256, b"\0"))
        weight = _times(weight, 2)
    return tables


_TABLES = _weights()


def _check(columns: list[bytes], count: int) -> bytes:
    """Return the column of check symbols: the weighted sum of the columns before it, where a sum is XOR."""
    weighted = (
        int.from_bytes(column.translate(_TABLES[(place + 1) % 31])) for place, column in enumerate(reversed(columns))
    )
    return reduce(int.__xor__, weighted, 0).to_bytes(count)
