"""Benefits that nothing reads are refused: those of ladders beside the main one."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from core.sections import ProgramFileError
from membership.models import Ladder
from storefront.services import program_file
from tests.api.conftest import AURORA, NOW


def load(tmp_path: Path, benefits: dict[str, Any]) -> program_file.ProgramFile:
    document = yaml.safe_load(AURORA.read_text())
    main = document["ladders"][0]
    tiers = [{"code": tier["code"], "name": tier["name"], "entry": tier.get("entry")} for tier in main["tiers"][:2]]
    tiers[1]["benefits"] = benefits
    document["ladders"].append(main | {"code": "club", "name": "Club", "tiers": tiers})
    path = tmp_path / "program.yaml"
    path.write_text(json.dumps(document))
    return program_file.load(path)


@pytest.mark.django_db
@pytest.mark.parametrize("benefits", [{"points_multiplier": "1.50"}, {"discount": "5%"}, {"free_shipping": True}])
def test_benefits_of_a_side_ladder_are_refused(tmp_path: Path, benefits: dict[str, Any]) -> None:
    with pytest.raises(ProgramFileError) as refused:
        program_file.apply(load(tmp_path, benefits), at=NOW, actor="test")
    assert refused.value.problems == [
        "ladders[1].tiers[1].benefits: only tiers of the main ladder main have benefits; leave them out"
    ]
    assert not Ladder.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("benefits", [{}, {"points_multiplier": "1.00"}])
def test_a_side_ladder_without_benefits_is_taken(tmp_path: Path, benefits: dict[str, Any]) -> None:
    program_file.apply(load(tmp_path, benefits), at=NOW, actor="test")
    assert Ladder.objects.count() == 2
