"""A shop in London that the trials visit over HTTP: ada and ben are members, `api` calls with every scope."""

import pytest

from core.models import Program, Scope
from core.services import api_keys
from tests.api.client import Api
from tests.api.conftest import NOW, clock, forget_wrong_codes
from tests.coupons.giving import make_shop

__all__ = ["clock", "forget_wrong_codes"]


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("trial", "ada", "ben")


@pytest.fixture
def api(shop: Program) -> Api:
    return Api(api_keys.issue(program=shop, scopes=Scope.values, name="trial", actor="trial", at=NOW).text)
