"""What members were seen with: how accounts of one person are recognized, and that nothing is lost or kept too long."""

from datetime import timedelta
from importlib import import_module

import pytest
from django.db import connection

from core.models import Program
from membership.fingerprints import PUBLIC, digests, is_same_person, list_same_person, normalize
from membership.models import Fingerprint, Member
from membership.services import fingerprints
from membership.services.members import MemberInput, enroll_members
from tests.membership.conftest import JOINED, NOW


def _enroll(program: Program, *names: str) -> list[Member]:
    told = [MemberInput(external_id=name, joined_at=JOINED) for name in names]
    enroll_members(program=program, members=told, at=JOINED)
    return [Member.objects.get(program=program, external_id=name) for name in names]


def _see(member: Member, **seen_with: str) -> None:
    fingerprints.record(member=member, seen_with=seen_with, at=NOW)


@pytest.mark.parametrize(
    ("kind", "told", "meant"),
    [
        ("email", " J.Doe+x@GoogleMail.com", "jdoe@gmail.com"),
        ("email", "j.doe+x@shop.example", "j.doe@shop.example"),
        ("email", "  ", ""),
        ("address", "1, High St.\n London", "1 high st london"),
        ("device", "\uff21\uff22 c", "ab c"),
    ],
)
def test_spelling_does_not_count(kind: str, told: str, meant: str) -> None:
    assert normalize(kind, told) == meant


def test_digests_of_one_value_differ_by_program_and_kind() -> None:
    found = [
        digests(program_id=program, seen_with={kind: "x"})[kind] for program in (1, 2) for kind in ("device", "payment")
    ]
    assert len(set(found)) == 4


def test_accounts_of_one_person_share_an_email_a_card_or_a_device(program: Program) -> None:
    ann, ben, cat, dan, eve = _enroll(program, "ann", "ben", "cat", "dan", "eve")
    _see(ann, email="ann@shop.example", payment="card-1", address="1 High St", ip_agent="192.0.2.1 Firefox")
    _see(ben, email=" ANN+2@shop.example")
    _see(cat, payment="CARD-1", device="d-1")
    _see(dan, address="1 High St.", ip_agent="192.0.2.1 Firefox")
    _see(eve, device="d-1")
    assert list_same_person(ann.pk) == {ben.pk, cat.pk}
    assert list_same_person(cat.pk) == {ann.pk, eve.pk}
    assert list_same_person(dan.pk) == set()
    assert [is_same_person(ann.pk, other.pk) for other in (ben, cat, dan, eve)] == [True, True, False, False]


def test_what_everybody_shares_makes_nobody_one_person(program: Program) -> None:
    first, second, *others = _enroll(program, *(f"m{n:03}" for n in range(PUBLIC + 1)))
    for member in (first, second, *others[:-1]):
        _see(member, device="till")
    assert len(list_same_person(first.pk)) == PUBLIC - 1
    _see(others[-1], device="till")
    assert list_same_person(first.pk) == set()
    for member in (first, second):
        _see(member, payment="card-1")
    assert list_same_person(first.pk) == {second.pk}


def test_what_was_seen_twice_is_kept_once_and_forgotten_in_time(program: Program) -> None:
    (ann,) = _enroll(program, "ann")
    for _ in range(2):
        _see(ann, email="ann@shop.example")
    assert Fingerprint.objects.get().seen_at == NOW
    assert fingerprints.forget(before=NOW) == 0
    assert [fingerprints.forget(before=NOW + timedelta(seconds=1)) for _ in range(2)] == [1, 0]


def test_the_table_of_referrals_moves_here_with_its_rows(program: Program) -> None:
    (ann,) = _enroll(program, "ann")
    _see(ann, email="ann@shop.example", device="d-1")
    before = list(Fingerprint.objects.values())
    migration = import_module("referrals.migrations.0003_fingerprints_to_membership").Migration
    (rename,) = migration.operations[0].database_operations
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(rename.reverse_sql)
        assert "referrals_fingerprint" in connection.introspection.table_names(cursor)
        cursor.execute(rename.sql)
    assert list(Fingerprint.objects.values()) == before
    _see(ann, payment="card-1")
    assert Fingerprint.objects.count() == 3
