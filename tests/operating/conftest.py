"""A shop that has sold something, for the tests of what operators do."""

import json
from pathlib import Path

import pytest

from core.models import Program
from membership.services.members import MemberInput, enroll_members
from storefront.services import program_file
from tests.storefront.shop import NOW, START, definition, order, redeem, refund, tell


def open_shop(folder: Path) -> Program:
    path = folder / "shop.yaml"
    path.write_text(json.dumps(definition("shop", {})))
    file = program_file.load(path)
    program = program_file.apply(file, at=NOW, actor="test")
    enroll_members(program=program, members=[MemberInput(external_id="m0", joined_at=START)], at=NOW)
    tell(program, order("A", (2, 5_000), (1, 9_000)), order("B", (1, 20_000), at=START))
    tell(program, refund("R", ("A.1", 1, 2_500)))
    redeem(program, 10)
    return program


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    return open_shop(tmp_path)
