"""The policy in program files and in the admin."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from core.models import Program
from core.sections import ProgramFileError
from core.services import drafts
from core.services.drafts import DraftRefused
from core.yaml_file import write_yaml
from referrals.admin.policies import EXAMPLE
from referrals.models import ReferralPolicy, ReferralPolicyVersion
from referrals.program_section import POLICY
from referrals.selectors import find_version
from referrals.services import policies
from storefront.services import program_file
from tests.referrals.worlds import DAY, NOW, TERMS
from tests.storefront.shop import definition

pytestmark = pytest.mark.django_db


def load(folder: Path, referrals: Any) -> program_file.ProgramFile:
    document = definition("shop", {}) | ({"referrals": referrals} if referrals is not None else {})
    document["markets"] = [
        {"code": "uk", "currency": "GBP", "time_zone": "Europe/London", "locales": ["en-GB"], "countries": ["GB"]}
    ]
    path = folder / "shop.yaml"
    path.write_text(write_yaml(document))
    return program_file.load(path)


def test_a_file_makes_a_policy_and_changes_it_as_a_new_version(tmp_path: Path) -> None:
    file = load(tmp_path, TERMS)
    assert any(line.startswith("+ referral_policy main: v1") for line in program_file.plan(file, at=NOW))
    assert not ReferralPolicy.objects.exists()
    program = program_file.apply(file, at=NOW, actor="test")
    assert program_file.plan(file, at=NOW) == []
    changed = load(tmp_path, TERMS | {"return_days": 30})
    assert "    return_days: 14 -> 30" in program_file.plan(changed, at=NOW + DAY)
    program_file.apply(changed, at=NOW + DAY, actor="test")
    assert [version.number for version in ReferralPolicyVersion.objects.all()] == [1, 2]
    version = find_version(program, at=NOW + DAY)
    assert version is not None
    assert version.number == 2


def test_a_file_without_a_policy_ends_it(tmp_path: Path) -> None:
    program = program_file.apply(load(tmp_path, TERMS), at=NOW, actor="test")
    program_file.apply(load(tmp_path, None), at=NOW + DAY, actor="test")
    assert find_version(program, at=NOW + DAY) is None
    assert find_version(program, at=NOW) is not None


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"referrer": {"points": 5, "wallet": "pints"}}, "referrals.referrer.wallet: there is no wallet pints"),
        ({"referee": {"coupon": "welcom"}}, "referrals.referee.coupon: there is no coupon welcom"),
        (
            {"chains": [{"market": "us", "depth": 2, "reward": TERMS["referrer"], "at_most_per_month": 1}]},
            "referrals.chains[0].market: there is no market us",
        ),
        ({"chains": [{"market": "uk", "depth": 3}]}, "pyramid selling"),
        ({"minimum_order": 20.5}, "referrals.minimum_order"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_path(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ProgramFileError) as refusal:
        load(tmp_path, TERMS | change)
    assert problem in str(refusal.value)


def test_the_example_of_the_admin_is_drafted_and_published(tmp_path: Path) -> None:
    program: Program = program_file.apply(load(tmp_path, None), at=NOW, actor="test")
    user = User.objects.create_user("olivia")
    policy = policies.draft_policy(program=program, text=EXAMPLE, at=NOW, user=user)
    with pytest.raises(DraftRefused):
        policies.draft_policy(program=program, text=EXAMPLE, at=NOW, user=user)
    assert find_version(program, at=NOW) is None
    seen = drafts.fingerprint(drafts.find_draft(policy))
    drafts.publish_draft(kind=POLICY, owner=policy, seen=seen, reason="go", at=NOW, user=user)
    version = find_version(program, at=NOW)
    assert version is not None
    with pytest.raises(IntegrityError, match="refused"), transaction.atomic():
        ReferralPolicyVersion.objects.filter(pk=version.pk).update(definition={})
