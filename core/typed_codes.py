"""Codes that people type, of coupons and of members who invite friends: how one is cleaned, looked up, and chosen."""

import re
import unicodedata

from django.utils.translation import gettext

# Source: Crockford's base 32, which has no I, L, O and U. Random codes are drawn from it.
ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
# Longer than any code. What is typed beyond it is cut off and marked by a character that no code has.
LONGEST_TYPED = 100
_CUT = "\N{HORIZONTAL ELLIPSIS}"

_LOOK_ALIKES = str.maketrans("OIL", "011")
_MINUS = "\N{MINUS SIGN}"
# What takes no room in a text and is not of Unicode's category of format characters: joiners, fillers, selectors.
_FILLERS = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_INVISIBLE = {"Cc", "Cf", "Cs"}
_CHOSEN = re.compile(r"[A-Za-z0-9]+([-_ ][A-Za-z0-9]+)*")
_SYMBOL = re.compile(r"[A-Za-z0-9_ -]")


class BadCode(ValueError):
    """A code that somebody chose cannot be one; the text says why."""


def clean(text: str) -> str:
    """Return a text that was typed or pasted as it is shown: what cannot be seen is gone, and width does not count.

    Control and format characters go, blanks, tabs and line ends become single blanks, and there are none around it.
    """
    visible = "".join(symbol for symbol in _FILLERS.sub("", text) if _is_visible(symbol))
    plain = " ".join(unicodedata.normalize("NFKC", visible).split())
    return plain if len(plain) <= LONGEST_TYPED else plain[:LONGEST_TYPED] + _CUT


def key(text: str) -> str:
    """Return what is compared of a code: capitals, no separators, O read as 0, I and L as 1."""
    symbols = "".join(symbol for symbol in clean(text) if not _separates(symbol))
    return unicodedata.normalize("NFKC", symbols.upper()).translate(_LOOK_ALIKES)


def check_chosen(text: str, *, shortest: int, longest: int) -> str:
    """Return the spelling of a code that somebody chose: as it was written, but for what cannot be seen.

    Raises: BadCode.
    """
    spelling = clean(text)
    for symbol in spelling:
        if not _SYMBOL.fullmatch(symbol):
            reason = gettext(
                "“%(symbol)s” cannot be in a code: write letters from A to Z, digits, and - _ between them"
            )
            raise BadCode(reason % {"symbol": symbol})
    if len(key(spelling)) < shortest or len(spelling) > longest or not _CHOSEN.fullmatch(spelling):
        reason = gettext(
            "a code has %(shortest)s to %(longest)s letters from A to Z and digits; one - or _ or blank may stand"
            " between two of them"
        )
        raise BadCode(reason % {"shortest": shortest, "longest": longest})
    return spelling


def _is_visible(symbol: str) -> bool:
    return symbol.isspace() or unicodedata.category(symbol) not in _INVISIBLE


def _separates(symbol: str) -> bool:
    return symbol.isspace() or symbol in {"_", _MINUS} or unicodedata.category(symbol) == "Pd"
