"""The tree around a member: the latest friends of each, however many another has."""

import pytest

from referrals import tree
from tests.referrals.worlds import bring, enroll, make_shop

pytestmark = pytest.mark.django_db(transaction=True)


def test_a_member_with_many_friends_hides_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "WIDTH", 2)
    program = make_shop()
    ann, ben, cat, *others = enroll(program, "ann", "ben", "cat", *(f"f{n}" for n in range(7)))
    bring(ann, ben)
    bring(ann, cat)
    for friend in others[:6]:
        bring(ben, friend)
    bring(cat, others[6])
    root = tree.read_tree(ann).root
    shown = [
        (node.member.external_id, [one.member.external_id for one in node.below], node.hidden) for node in root.below
    ]
    assert shown == [("cat", ["f6"], 0), ("ben", ["f5", "f4"], 4)]
