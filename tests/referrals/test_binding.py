"""Who may be bound to whom: each refusal by its name, and nothing written."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from core.calendar import TICK
from core.models import OutboxEvent, Program
from core.typed_codes import BadCode
from membership.models import Fingerprint, Member
from referrals.models import Referral, ReferralCode, ReferralPolicyVersion, Touch
from referrals.services import binding, codes
from referrals.services.binding import (
    AlreadyBound,
    AttributionExpired,
    BindingRefused,
    ExistingCustomer,
    NoPolicy,
    ReferralCycle,
    SelfReferral,
    UnknownCode,
)  # fmt: skip
from tests.api.client import in_parallel
from tests.referrals.worlds import DAY, NOW, bring, buy, code_of, enroll, make_shop

racing = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.django_db

Act = Callable[[], object]


@pytest.fixture
def program(db: None) -> Program:
    return make_shop()


def content() -> list[Any]:
    tables = (Referral, Fingerprint, Touch, ReferralCode, OutboxEvent)
    return [list(table._default_manager.order_by("pk").values()) for table in tables]


def refused(error: type[BindingRefused], act: Act) -> None:
    before = content()
    with pytest.raises(error):
        act()
    assert content() == before


def bind(program: Program, member: Member, **told: Any) -> binding.Bound:
    return binding.bind(program=program, member=member, **{"at": NOW} | told)


def test_a_code_binds_and_is_the_same_referral_when_it_is_sent_again(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    first, again = (bind(program, ben, code=code_of(ann).lower()) for _ in range(2))
    assert (first.is_new, again.is_new) == (True, False)
    assert first.referral == again.referral
    assert (first.referral.referrer_id, first.referral.source) == (ann.pk, "code")


def test_nobody_brings_themselves(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    code = code_of(ann)
    refused(SelfReferral, lambda: bind(program, ann, code=code))
    bind(program, ben, code=code)


@pytest.mark.parametrize(
    ("kind", "first", "second"),
    [
        ("email", "Ann.Lee@gmail.com", "annlee+shop@googlemail.com"),
        ("email", "ann@shop.example", " ANN+1@shop.example "),
        ("payment", "card-77", "card-77"),
        ("device", "D-1", "d-1"),
    ],
)
def test_two_accounts_of_one_person_are_one(program: Program, kind: str, first: str, second: str) -> None:
    root, ann, ben = enroll(program, "root", "ann", "ben")
    bring(root, ann, told={kind: first})
    code = code_of(ann)
    refused(SelfReferral, lambda: bind(program, ben, code=code, told={kind: second}))


def test_a_shared_address_or_connection_alone_does_not_refuse(program: Program) -> None:
    root, ann, ben = enroll(program, "root", "ann", "ben")
    told = {"address": "1 High St., London", "ip_agent": "192.0.2.1 Firefox"}
    bring(root, ann, told=told)
    assert bring(ann, ben, told=told).referrer_id == ann.pk


def test_no_value_is_kept_of_what_a_member_was_seen_with(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    bring(ann, ben, told={"email": "ben@shop.example"})
    with connection.cursor() as cursor:
        cursor.execute("SELECT f::text FROM membership_fingerprint f")
        (row,) = cursor.fetchone()
    assert "ben" not in row
    assert len(bytes(Fingerprint.objects.get().digest)) == 32


def test_who_has_ordered_is_a_customer_already(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    code = code_of(ann)
    buy(ben, "o1", 100, at=NOW)
    refused(ExistingCustomer, lambda: bind(program, ben, code=code, at=NOW + DAY))


def test_a_member_is_brought_once(program: Program) -> None:
    ann, zoe, ben = enroll(program, "ann", "zoe", "ben")
    code = code_of(zoe)
    bring(ann, ben)
    refused(AlreadyBound, lambda: bind(program, ben, code=code))


def test_a_referrer_is_enrolled_before_the_referee(program: Program) -> None:
    ann, ben, cat = enroll(program, "ann", "ben", "cat")
    bring(ann, ben)
    bring(ben, cat)
    code = code_of(cat)
    refused(ReferralCycle, lambda: bind(program, ann, code=code))


def test_the_database_refuses_a_younger_referrer_and_a_second_referral(program: Program) -> None:
    ann, ben, cat = enroll(program, "ann", "ben", "cat")
    referral = bring(ann, ben)
    told = {
        "program": program, "code": referral.code, "source": "code", "version": referral.version, "bound_at": NOW,
    }  # fmt: skip
    for younger, referee in ((cat, ben), (cat, cat)):
        joined = {"member_joined_at": referee.joined_at, "referrer_joined_at": younger.joined_at}
        with pytest.raises(IntegrityError, match="referral_referrer_is_older"), transaction.atomic():
            Referral.objects.create(**told, **joined, member=referee, referrer_id=younger.pk)
    joined = {"member_joined_at": ben.joined_at, "referrer_joined_at": ann.joined_at}
    with pytest.raises(IntegrityError, match="referral_once"), transaction.atomic():
        Referral.objects.create(**told, **joined, member=ben, referrer_id=ann.pk)


@pytest.mark.parametrize("change", [{"referrer_id": 1}, {"bound_at": NOW + DAY}, {"qualified_at": NOW}])
def test_a_binding_never_changes(program: Program, change: dict[str, Any]) -> None:
    ann, ben = enroll(program, "ann", "ben")
    referral = bring(ann, ben)
    with pytest.raises(IntegrityError, match="refused"), transaction.atomic():
        Referral.objects.filter(pk=referral.pk).update(**change)
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        Referral.objects.filter(pk=referral.pk)._raw_delete("default")


def test_a_code_that_nobody_has_or_whose_member_is_suspended_is_unknown(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    code = code_of(ann)
    refused(UnknownCode, lambda: bind(program, ben, code="NOBODY99"))
    other = make_shop("other")
    refused(UnknownCode, lambda: bind(other, ben, code=code))
    Member.objects.filter(pk=ann.pk).update(status="suspended")
    refused(UnknownCode, lambda: bind(program, ben, code=code))


def test_without_a_policy_nobody_is_bound(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    code = code_of(ann)
    ReferralPolicyVersion.objects.filter(owner__program=program).update(status="retired", ended_at=NOW)
    refused(NoPolicy, lambda: bind(program, ben, code=code))


def test_the_last_click_within_the_window_wins(program: Program) -> None:
    ann, zoe, ben, cat, dan = enroll(program, "ann", "zoe", "ben", "cat", "dan", at=NOW + 10 * DAY)
    for member, at in ((zoe, NOW), (ann, NOW + DAY)):
        binding.record_touch(program=program, code=code_of(member), visitor="v1", at=at)
    last = NOW + 31 * DAY
    bound = bind(program, ben, visitor="v1", at=last - TICK).referral
    assert (bound.referrer_id, bound.source, bound.touched_at) == (ann.pk, "touch", NOW + DAY)
    refused(AttributionExpired, lambda: bind(program, cat, visitor="v1", at=last))
    refused(AttributionExpired, lambda: bind(program, cat, visitor="nobody", at=NOW))
    assert bind(program, dan, visitor="v1", code=code_of(zoe), at=NOW + 30 * DAY).referral.referrer_id == zoe.pk


def test_a_code_is_told_within_the_window_after_joining(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    code = code_of(ann)
    refused(AttributionExpired, lambda: bind(program, ben, code=code, at=ben.joined_at + 30 * DAY))
    assert bind(program, ben, code=code, at=ben.joined_at + 30 * DAY - TICK).is_new


def test_the_chain_of_a_referral_is_that_of_its_binding(program: Program) -> None:
    ann, ben, cat = enroll(program, "ann", "ben", "cat")
    late = bring(ben, cat)
    bring(ann, ben)
    late.refresh_from_db()
    assert late.upline_id is None
    (dan,) = enroll(program, "dan", at=NOW)
    assert bring(ben, dan).upline_id == ann.pk


def test_a_vanity_code_is_one_members_and_so_is_what_looks_like_it(program: Program) -> None:
    ann, ben = enroll(program, "ann", "ben")
    first = codes.add_vanity_code(member=ann, text="lola-10", actor="test", at=NOW)
    assert first.text == "lola-10"
    assert codes.add_vanity_code(member=ann, text="LOLA10", actor="test", at=NOW + DAY) == first
    with pytest.raises(codes.CodeTaken):
        codes.add_vanity_code(member=ben, text="L0LA IO", actor="test", at=NOW)
    for text in ("abc", "x" * 25, "-abcd", "ab/cd", "ab\u0440d9"):
        with pytest.raises(BadCode):
            codes.add_vanity_code(member=ben, text=text, actor="test", at=NOW)
    assert ReferralCode.objects.count() == 1
    assert bind(program, ben, code="l0la-i0").referral.referrer_id == ann.pk


def _race(program: Program, referee: Member, referrers: list[Member]) -> list[Any]:
    told = [code_of(member) for member in referrers]

    def one(code: str) -> Any:
        try:
            return bind(program, referee, code=code)
        except (AlreadyBound, Referral.MultipleObjectsReturned) as refusal:
            return refusal

    return in_parallel([partial(one, code) for code in told])


@racing
def test_of_two_bindings_at_once_one_stands() -> None:
    program = make_shop()
    for round_ in range(10):
        *referrers, ben = enroll(program, *(f"{round_}-{n}" for n in range(4)), f"{round_}-ben")
        outcomes = _race(program, ben, referrers)
        assert sum(isinstance(outcome, binding.Bound) for outcome in outcomes) == 1
        assert Referral.objects.filter(member=ben).count() == 1


@racing
def test_control_without_the_unique_key_both_stand() -> None:
    program = make_shop()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE referrals_referral DROP CONSTRAINT referral_once")
    try:
        doubles = 0
        for round_ in range(20):
            *referrers, ben = enroll(program, *(f"{round_}-{n}" for n in range(4)), f"{round_}-ben")
            _race(program, ben, referrers)
            doubles += Referral.objects.filter(member=ben).count() > 1
        assert doubles
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE referrals_referral DISABLE TRIGGER referrals_referral_kept")
            cursor.execute("DELETE FROM referrals_referral")
            cursor.execute("ALTER TABLE referrals_referral ENABLE TRIGGER referrals_referral_kept")
            cursor.execute("ALTER TABLE referrals_referral ADD CONSTRAINT referral_once UNIQUE (member_id)")
