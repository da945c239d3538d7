"""Codes that people type: how they are read whatever is pasted with them, and how a chosen one is kept."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import typed_codes
from core.typed_codes import BadCode, check_chosen, clean, key

ZERO_WIDTH_SPACE, BYTE_ORDER_MARK, SOFT_HYPHEN, NO_BREAK_SPACE = "\u200b", "\ufeff", "\u00ad", "\u00a0"


@pytest.mark.parametrize(
    "typed",
    [
        "TEN-10", " ten-10 ", "Ten 1O", "t-e-n-l-o", "TEN\t10", "TEN10\r\n", "TEN10\u2028", f"{NO_BREAK_SPACE}TEN10",
        f"TEN{ZERO_WIDTH_SPACE}10", f"{BYTE_ORDER_MARK}TEN10", f"TE{SOFT_HYPHEN}N10", "\uff34\uff25\uff2e\uff11\uff10",
        "TEN\u201110", "TEN\u201310", "TEN\u221210", "TEN_10", "TEN\ufe0f10", "TEN\u034f10", "TEN\u180e10",
        "\u202eTEN10\u202c", "TEN\u3000IO", "TEN\x0010",
    ],
)  # fmt: skip
def test_what_is_pasted_with_a_code_and_how_it_is_written_do_not_matter(typed: str) -> None:
    assert key(typed) == "TEN10"


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("SHOES20", "SHOES20"), ("  Shoes\t 20\n", "Shoes 20"), (f"Sho{ZERO_WIDTH_SPACE}es-20", "Shoes-20"),
        ("\uff33hoes", "Shoes"), ("", ""), (" \u200b ", ""), ("\u5341\u5143", "\u5341\u5143"),
    ],
)  # fmt: skip
def test_a_code_is_shown_as_it_was_written_but_for_what_cannot_be_seen(typed: str, shown: str) -> None:
    assert clean(typed) == shown


def test_what_is_longer_than_any_code_is_cut_and_means_none() -> None:
    shown = clean("SUMMER" + " -" * 200 + "X")
    assert len(shown) == typed_codes.LONGEST_TYPED + 1
    assert not key(shown).isalnum()
    assert clean(shown) == shown
    assert clean("x" * typed_codes.LONGEST_TYPED) == "x" * typed_codes.LONGEST_TYPED


@given(st.text())
def test_reading_twice_is_reading_once(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert key(key(text)) == key(clean(text)) == key(text)


@pytest.mark.parametrize("text", ["SHOES20", "Sun-Day", "first_order", "two words", "UNIT", "a" * 40])
def test_a_chosen_code_keeps_its_spelling(text: str) -> None:
    assert check_chosen(f" {text}\n", shortest=3, longest=40) == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("NO\u00cbL", "“\u00cb” cannot be in a code"), ("\u5341\u5143\u5238", "“\u5341” cannot be in a code"),
        ("50%OFF", "“%” cannot be in a code"), ("ab", "3 to 40 letters"), ("a-b", "3 to 40 letters"),
        ("a" * 41, "3 to 40 letters"), ("-abc", "between two of them"), ("ab--cd", "between two of them"),
        ("", "3 to 40 letters"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_code_is_refused_with_what_is_wrong(text: str, reason: str) -> None:
    with pytest.raises(BadCode, match=reason):
        check_chosen(text, shortest=3, longest=40)
