"""Codes: how they are drawn and made by the million; who makes a batch, and who takes over."""

import math
import secrets
import time
from collections import Counter

import pytest
from django.db import IntegrityError, transaction
from django.db.models.functions import Now
from hypothesis import given
from hypothesis import strategies as st

from core.models import AuditEntry, Program
from core.typed_codes import ALPHABET, BadCode, key
from coupons import codes
from coupons.models import CodeBatch, CouponCode, CouponDefinition
from coupons.services import code_batches
from coupons.tasks import make_codes, start_batches
from tests.coupons.giving import NOW, make_shop, publish

ANY_CODE = st.text(alphabet=ALPHABET, min_size=3, max_size=29)


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada")


@pytest.fixture
def coupon(shop: Program) -> CouponDefinition:
    return publish(shop, "lucky", how="code")


def ask(coupon: CouponDefinition, count: int, prefix: str = "") -> CodeBatch:
    return code_batches.request_batch(
        program=coupon.program, definition=coupon, count=count, prefix=prefix, requested_by="test", at=NOW
    )


def texts() -> list[str]:
    return list(CouponCode.objects.order_by("pk").values_list("text", flat=True))


# --- their texts -----------------------------------------------------------------------------------------------


def test_what_is_drawn_is_normal_sorted_different_and_checked() -> None:
    drawn = codes.draw(5_000, prefix="TEA", symbols=10)
    assert drawn == sorted(set(drawn))
    assert {(len(text), text[:3], key(text) == text, codes.has_check(text)) for text in drawn} == {
        (14, "TEA", True, True)
    }
    assert codes.draw(1) != codes.draw(1)


def test_every_symbol_is_drawn_as_often_as_any_other() -> None:
    counts = Counter("".join(text[:10] for text in codes.draw(32_000, symbols=10)))
    assert set(counts) == set(ALPHABET)
    assert all(abs(number - 10_000) < 600 for number in counts.values())  # six standard deviations


@given(ANY_CODE, st.data())
def test_one_wrong_symbol_and_two_that_changed_places_are_found(text: str, data: st.DataObject) -> None:
    sound = next(text + symbol for symbol in ALPHABET if codes.has_check(text + symbol))
    place = data.draw(st.integers(0, len(text)))
    other = data.draw(st.sampled_from([symbol for symbol in ALPHABET if symbol != sound[place]]))
    assert not codes.has_check(sound[:place] + other + sound[place + 1 :])
    first, second = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True)))
    if sound[first] != sound[second]:
        turned = list(sound)
        turned[first], turned[second] = sound[second], sound[first]
        assert not codes.has_check("".join(turned))


@pytest.mark.parametrize("live", [1, 2, 1000, 1_000_000, 1_000_001, 10**9])
def test_codes_are_long_enough_to_be_guessed_by_nobody(live: int) -> None:
    assert codes.symbols_for(live) * 5 >= math.log2(live) + 35
    assert (codes.symbols_for(live) - 1) * 5 < math.log2(max(live, 2)) + 35


# --- batches ---------------------------------------------------------------------------------------------------


def test_a_batch_is_made_chunk_by_chunk(coupon: CouponDefinition) -> None:
    batch = ask(coupon, 250, prefix="tea")
    assert code_batches.make_codes(batch_id=batch.pk, at=NOW, chunk=100) == 250
    batch.refresh_from_db()
    assert (batch.made, batch.finished_at, batch.leased_until) == (250, NOW, None)
    made = texts()
    assert len(set(made)) == 250
    assert all(text.startswith("TEA") and codes.has_check(text) for text in made)
    assert len(made[0]) == 3 + codes.symbols_for(250) + 1
    code = CouponCode.objects.first()
    assert code is not None
    assert (code.definition, code.program, code.is_shared, code.claimed_by, code.made_at) == (
        coupon, coupon.program, False, None, NOW,
    )  # fmt: skip
    assert AuditEntry.objects.get(action="coupon.codes_requested").after == {"count": 250, "prefix": "tea"}
    assert code_batches.make_codes(batch_id=batch.pk, at=NOW) == 0
    assert CouponCode.objects.count() == 250


@pytest.mark.parametrize(("count", "prefix"), [(0, ""), (10_000_001, ""), (5, "TOOLONGAPREFIX"), (5, "sun"), (5, "é")])
def test_a_batch_that_makes_no_sense_is_refused(coupon: CouponDefinition, count: int, prefix: str) -> None:
    with pytest.raises(code_batches.BadBatch):
        ask(coupon, count, prefix)
    assert not CodeBatch.objects.exists()


def test_a_chunk_that_meets_a_taken_text_is_drawn_again(coupon: CouponDefinition) -> None:
    first = ask(coupon, 10)
    fixed = secrets.token_bytes(10 * first.symbols)
    code_batches.make_codes(batch_id=first.pk, at=NOW, random=lambda _count: fixed)
    second, draws = ask(coupon, 10), []

    def draw(count: int) -> bytes:
        draws.append(count)
        return fixed if len(draws) == 1 else secrets.token_bytes(count)

    assert second.symbols == first.symbols
    assert code_batches.make_codes(batch_id=second.pk, at=NOW, random=draw) == 10
    assert (len(draws), CouponCode.objects.count()) == (2, 20)
    third = ask(coupon, 10)
    with pytest.raises(IntegrityError):
        code_batches.make_codes(batch_id=third.pk, at=NOW, random=lambda _count: fixed)
    third.refresh_from_db()
    assert (third.made, CouponCode.objects.count()) == (0, 20)


def test_a_batch_that_is_stopped_keeps_what_it_has(coupon: CouponDefinition) -> None:
    batch = ask(coupon, 300)
    left = [1]

    def draw(count: int) -> bytes:
        if not left.pop():
            code_batches.stop_batch(batch=batch, actor="test", at=NOW)
        left.append(0)
        return secrets.token_bytes(count)

    assert code_batches.make_codes(batch_id=batch.pk, at=NOW, random=draw, chunk=100) == 100
    batch.refresh_from_db()
    assert (batch.made, batch.stopped_at, batch.finished_at) == (100, NOW, None)
    assert CouponCode.objects.count() == 100
    assert code_batches.stop_batch(batch=batch, actor="test", at=NOW).made == 100
    assert code_batches.make_codes(batch_id=batch.pk, at=NOW) == 0
    assert AuditEntry.objects.filter(action="coupon.codes_stopped").count() == 1


def test_a_batch_that_is_done_cannot_be_stopped(coupon: CouponDefinition) -> None:
    batch = ask(coupon, 3)
    code_batches.make_codes(batch_id=batch.pk, at=NOW)
    with pytest.raises(code_batches.BatchEnded):
        code_batches.stop_batch(batch=batch, actor="test", at=NOW)
    assert CodeBatch.objects.get().stopped_at is None


def test_a_leased_batch_is_left_alone_and_a_lapsed_lease_is_taken_over(coupon: CouponDefinition) -> None:
    batch = ask(coupon, 5)
    CodeBatch.objects.update(leased_until=Now() + code_batches.LEASE)
    assert code_batches.list_waiting() == []
    assert code_batches.make_codes(batch_id=batch.pk, at=NOW) == 0
    CodeBatch.objects.update(leased_until=Now())
    assert code_batches.list_waiting() == [batch.pk]
    assert code_batches.make_codes(batch_id=batch.pk, at=NOW) == 5
    assert code_batches.list_waiting() == []


def test_a_worker_that_lost_its_lease_makes_no_chunk_twice(coupon: CouponDefinition) -> None:
    """That nothing is made twice does not rest on the lease."""
    batch = ask(coupon, 30)
    inner: list[int] = []

    def draw(count: int) -> bytes:
        if not inner:
            inner.append(0)
            CodeBatch.objects.update(leased_until=Now())
            inner.append(code_batches.make_codes(batch_id=batch.pk, at=NOW, chunk=10))
        return secrets.token_bytes(count)

    assert code_batches.make_codes(batch_id=batch.pk, at=NOW, chunk=10, random=draw) == 0
    assert (inner[1], CouponCode.objects.count()) == (30, 30)


def test_the_clock_makes_what_waits(coupon: CouponDefinition, settings: object) -> None:
    batch = ask(coupon, 5)
    make_codes(batch_id=batch.pk)
    assert CouponCode.objects.count() == 5
    start_batches()  # nothing waits: nothing is sent


def test_a_batch_is_read_as_csv_in_pages(coupon: CouponDefinition, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = ask(coupon, 45)
    code_batches.make_codes(batch_id=batch.pk, at=NOW)
    code_batches.make_codes(batch_id=ask(coupon, 5).pk, at=NOW)
    monkeypatch.setattr(code_batches, "CSV_ROWS", 20)
    pages = list(code_batches.iter_csv(batch=batch))
    assert [page.count("\r\n") for page in pages] == [1, 20, 20, 5]
    assert "".join(pages).split() == ["code", *texts()[:45]]


@pytest.mark.deep
def test_a_million_codes_take_seconds(coupon: CouponDefinition) -> None:
    batch = ask(coupon, 1_000_000)
    began = time.perf_counter()
    code_batches.make_codes(batch_id=batch.pk, at=NOW)
    assert time.perf_counter() - began < 60
    assert CouponCode.objects.count() == 1_000_000


# --- codes that people choose ----------------------------------------------------------------------------------


def test_a_chosen_code_is_one_however_often_it_is_made(shop: Program, coupon: CouponDefinition) -> None:
    told = {"program": shop, "definition": coupon, "actor": "test", "at": NOW}
    first = code_batches.create_code(**told, text="Sun-Day")  # type: ignore[arg-type]
    assert (first.text, first.shown) == ("SUNDAY", "Sun-Day")
    again = code_batches.create_code(**told, text="SUNDAY")  # type: ignore[arg-type]
    assert (again, again.shown) == (first, "Sun-Day")
    with pytest.raises(code_batches.CodeTaken):
        code_batches.create_code(**told | {"definition": publish(shop, "other")}, text="SUNDAY")  # type: ignore[arg-type]
    with pytest.raises(code_batches.CodeTaken):
        code_batches.create_code(**told, text="SUNDAY", is_shared=False)  # type: ignore[arg-type]
    for text in ("ab", "x" * 41, "é" * 5, "A_B", "50%"):
        with pytest.raises(BadCode):
            code_batches.create_code(**told, text=text)  # type: ignore[arg-type]
    assert texts() == ["SUNDAY"]


@pytest.mark.parametrize("text", ["SHOES20", "UNIT", "First", "lil-oil_1"])
def test_a_chosen_code_is_shown_as_it_was_chosen(shop: Program, coupon: CouponDefinition, text: str) -> None:
    made = code_batches.create_code(program=shop, definition=coupon, text=text, actor="test", at=NOW)
    assert (made.shown, made.text) == (text, key(text))
    assert str(CouponCode.objects.get(pk=made.pk)) == text
    assert AuditEntry.objects.get(action="coupon.code_created").after == {"text": text, "is_shared": True}


def test_random_codes_begin_as_was_chosen(coupon: CouponDefinition) -> None:
    batch = ask(coupon, 5, prefix="Oil-1")
    code_batches.make_codes(batch_id=batch.pk, at=NOW)
    for code in CouponCode.objects.all():
        assert code.text.startswith("0111")
        assert (code.shown, key(code.shown)) == (f"Oil-1{code.text[4:]}", code.text)
        assert codes.has_check(code.text)
    shown = "".join(code_batches.iter_csv(batch=batch)).split()[1:]
    assert shown == [code.shown for code in CouponCode.objects.order_by("pk")]


def test_the_database_takes_normal_texts_only(shop: Program, coupon: CouponDefinition) -> None:
    for text in ("sunday", "SUN-DAY", "OIL", "A"):
        with pytest.raises(IntegrityError, match="couponcode_normal"), transaction.atomic():
            CouponCode.objects.create(program=shop, definition=coupon, text=text, made_at=NOW)
