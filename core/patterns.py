"""What text must look like, in words: whoever wrote it does not read regular expressions."""

_NO_CONTROL = "write it without control characters, such as line breaks"
_CODE = "write lower-case letters, digits, - and _, a letter or a digit first"

_WORDS = {
    r"^[^\x00-\x1f\x7f]*$": _NO_CONTROL,
    r"^[a-z0-9][a-z0-9_-]*$": _CODE,
    r"^[a-z0-9][a-z0-9_-]{0,62}$": f"{_CODE}, 63 at most",
    r"^[A-Z]{3}$": "write a currency as three capital letters, such as GBP",
    r"^[A-Z]{2}$": "write a country as two capital letters, such as GB",
    r"^([A-Z]{2})?$": "write a country as two capital letters, such as GB, or nothing",
    r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$": "write a language, such as en or zh-Hans",
    r"^([A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*)?$": "write a language, such as en or zh-Hans, or nothing",
    r"^[!-~]+$": "write an address in plain ASCII, without blanks",
    r"^(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])$": "write a day of every year as MM-DD, at most the 28th, such as 04-06",
    r"^(19|20)[0-9]{2}-(0[1-9]|1[0-2])$": "write a month as YYYY-MM, such as 2026-03",
    r"^[0-9A-TV-Za-tv-z-]*$": "write letters but U, digits and -",
    r"^[0-9A-Za-z]{3}[0-9A-Za-z -]{0,37}$": "write 3 to 40 letters, digits, blanks and -, no blank in the first three",
    r"^[^/\x00-\x1f\x7f]*$": "write it without / and control characters",
}


def say_pattern(pattern: str) -> str:
    """Return what a text of a pattern looks like. A test finds patterns that have no words."""
    return _WORDS.get(pattern, "it has a form that is not accepted here")


def has_words(pattern: str) -> bool:
    """Tell whether a pattern can be said."""
    return pattern in _WORDS
