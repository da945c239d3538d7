"""The storefront's own ids: one rule for what the API, replays and imports take in.

What is taken in can be looked up: an address carries it and gives it back as it was. References to what is recorded
are not held to the rule, so that what came in before it can still be found, refunded and cancelled.
"""

import re

MOST_CHARACTERS = 200

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
# Browsers and proxies take the first two for places, and the last one is an address of its own.
_TAKEN = {".", "..", "batch"}


def find_flaw(text: str) -> str:
    """Return why a text cannot be the id of something new; nothing if it can."""
    if not text:
        return "is empty"
    if len(text) > MOST_CHARACTERS:
        return f"is longer than {MOST_CHARACTERS} characters"
    if text != text.strip():
        return "begins or ends with a blank"
    if _CONTROL.search(text) or _SURROGATE.search(text):
        return "holds a control character or half a character"
    if text in _TAKEN:
        return f"{text} means something else in an address, so it could not be looked up"
    return ""
