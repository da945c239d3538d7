"""Coupons in program files: what is checked, planned, applied and ended; the counters follow the limit."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from config.environment import PROJECT
from core.models import Program
from core.sections import ProgramFileError
from coupons.models import CounterShard, CouponDefinition, CouponDefinitionVersion
from coupons.services import claims
from storefront.services import program_file
from tests.coupons.giving import enroll
from tests.storefront.program_files import SMALL

NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
WELCOME = """
coupons:
  - code: welcome
    name: Welcome
    discount: {amount: {GBP: "10.00"}}
    threshold: {GBP: "50.00"}
    how: claimed
    limit: 3
"""


def _load(folder: Path, text: str) -> program_file.ProgramFile:
    path = folder / "program.yaml"
    path.write_text(SMALL + text, encoding="utf-8")
    return program_file.load(path)


def _apply(folder: Path, text: str, at: datetime = NOW) -> Program:
    return program_file.apply(_load(folder, text), at=at, actor="test")


def _limit() -> list[tuple[int, int]]:
    return list(CounterShard.objects.order_by("shard").values_list("limit", "used"))


@pytest.mark.django_db
def test_a_plan_names_new_coupons_and_writes_nothing(tmp_path: Path) -> None:
    lines = program_file.plan(_load(tmp_path, WELCOME), at=NOW)
    assert [line for line in lines if "coupon" in line] == ["+ coupon welcome", "+ coupon welcome: v1"]
    assert not CouponDefinition.objects.exists()
    assert not CounterShard.objects.exists()


@pytest.mark.django_db
def test_applying_publishes_and_sets_the_limit_and_again_changes_nothing(tmp_path: Path) -> None:
    _apply(tmp_path, WELCOME)
    version = CouponDefinitionVersion.objects.get()
    assert (version.number, version.status, version.owner.code) == (1, "published", "welcome")
    assert _limit() == [(3, 0)]
    assert program_file.plan(_load(tmp_path, WELCOME), at=LATER) == []
    assert _limit() == [(3, 0)]


@pytest.mark.django_db
def test_a_changed_coupon_becomes_a_new_version_and_its_counters_follow(tmp_path: Path) -> None:
    program = _apply(tmp_path, WELCOME)
    for member_id in enroll(program, "ada", "bob"):
        claims.claim(program=program, member_id=member_id, definition="welcome", at=NOW + timedelta(hours=1))
    more = WELCOME.replace("limit: 3", "limit: 8\n    shards: 4")
    lines = program_file.plan(_load(tmp_path, more), at=LATER)
    assert lines == ["~ coupon welcome: v1 -> v2", "    limit: 3 -> 8", "    shards: 1 -> 4"]
    assert _limit() == [(3, 2)]
    _apply(tmp_path, more, LATER)
    assert sum(limit for limit, _ in _limit()) == 8
    assert sum(used for _, used in _limit()) == 2


@pytest.mark.django_db
def test_a_limit_below_what_is_given_out_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    program = _apply(tmp_path, WELCOME)
    for member_id in enroll(program, "ada", "bob"):
        claims.claim(program=program, member_id=member_id, definition="welcome", at=NOW + timedelta(hours=1))
    with pytest.raises(ProgramFileError) as refused:
        _apply(tmp_path, WELCOME.replace("limit: 3", "limit: 1").replace('"10.00"', '"9.00"'), LATER)
    assert refused.value.problems == ["coupons[0].limit: 2 given out already, so the limit cannot be 1"]
    assert _limit() == [(3, 2)]
    assert CouponDefinitionVersion.objects.count() == 1


@pytest.mark.django_db
def test_a_coupon_that_the_file_leaves_out_ends_and_begins_anew_when_named_again(tmp_path: Path) -> None:
    _apply(tmp_path, WELCOME)
    _apply(tmp_path, "", LATER)
    ended = CouponDefinitionVersion.objects.get()
    assert (ended.status, ended.ended_at) == ("retired", LATER)
    _apply(tmp_path, WELCOME, LATER + timedelta(days=1))
    assert CouponDefinitionVersion.objects.get(status="published").number == 2


def test_unknown_tiers_and_markets_and_bad_terms_are_named_with_their_place(tmp_path: Path) -> None:
    text = (
        WELCOME
        + """    tiers: [silver, gold]
    markets: ["ukk"]
  - code: shipping
    name: Shipping
    discount: {free_shipping: false}
"""
    )
    with pytest.raises(ProgramFileError) as refused:
        _load(tmp_path, text)
    assert refused.value.problems == [
        "coupons[1].discount.free_shipping: must be True",
        "coupons[0].tiers[0]: there is no tier in the main ladder named silver",
        "coupons[0].markets[0]: there is no market ukk (did you mean uk?)",
    ]


@pytest.mark.django_db
def test_the_demo_program_has_its_coupons() -> None:
    program_file.apply(program_file.load(PROJECT / "programs" / "aurora.yaml"), at=NOW, actor="test")
    published: dict[str, Any] = dict(
        CouponDefinitionVersion.objects.filter(status="published").values_list("owner__code", "definition")
    )
    assert {"welcome", "repurchase", "birthday", "win-back"} <= set(published)
    assert published["welcome"]["discount"] == {"amount": {"CNY": "90.00", "EUR": "12.00", "GBP": "10.00"}}
    assert published["welcome"]["threshold"]["GBP"] == "50.00"
