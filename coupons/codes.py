"""The texts of coupon codes: how one that is typed is read, and how random ones are drawn."""

import math
import secrets
from collections.abc import Callable
from functools import reduce

# Source: Crockford's base 32. U is in no random code; what people choose may have it.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
LONGEST = 40
SHORTEST = 3
LONGEST_PREFIX = 12
# Bits beyond those that tell the live codes apart: a guess hits one of them once in 2^35.
SPARE_BITS = 35
# 65 bits: enough beside a billion live codes.
SINGLE_SYMBOLS = 13

_BITS = 5
_READ_AS = str.maketrans("OIL", "011")
_LOW_BITS = bytes(value & 31 for value in range(256))
_AS_TEXT = ALPHABET.encode().ljust(256, b"?")
_VALUES = {symbol: value for value, symbol in enumerate(ALPHABET)}

Random = Callable[[int], bytes]


def normalize(text: str) -> str:
    """Return a code as it is stored: upper case, without blanks and hyphens, O read as 0, I and L as 1."""
    return "".join(text.upper().split()).replace("-", "").translate(_READ_AS)


def is_text(text: str) -> bool:
    """Tell whether a normalized text can be a code."""
    return SHORTEST <= len(text) <= LONGEST and all(symbol in _VALUES or symbol == "U" for symbol in text)


def is_prefix(text: str) -> bool:
    """Tell whether a normalized text can begin random codes."""
    return len(text) <= LONGEST_PREFIX and all(symbol in _VALUES for symbol in text)


def symbols_for(live: int) -> int:
    """Return how many random symbols each code needs beside so many live ones."""
    return math.ceil((math.log2(max(live, 2)) + SPARE_BITS) / _BITS)


def draw(
    count: int, *, prefix: str = "", symbols: int = SINGLE_SYMBOLS, random: Random = secrets.token_bytes
) -> list[str]:
    """Return random codes in ascending order: the prefix, so many random symbols, the check symbol.

    All codes are worked out at once, symbol by symbol: a column is one text of `count` bytes.
    """
    stream = random(count * symbols).translate(_LOW_BITS)
    columns = [bytes([_VALUES[symbol]]) * count for symbol in prefix]
    columns += [stream[first::symbols] for first in range(symbols)]
    columns.append(_check(columns, count))
    width = len(columns)
    laid = bytearray(count * width)
    for place, column in enumerate(columns):
        laid[place::width] = column.translate(_AS_TEXT)
    text = laid.decode("ascii")
    return sorted(text[first : first + width] for first in range(0, count * width, width))


def has_check(text: str) -> bool:
    """Tell whether a normalized text ends with the check symbol of what stands before it."""
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
