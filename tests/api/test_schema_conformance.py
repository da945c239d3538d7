"""Whatever is sent to the API, it answers what the OpenAPI document says: statuses, headers, media types, bodies.

schemathesis makes the requests: such that fit the document and such that do not. Half of them are given real names and
instants where the document has them, so that they get past the first refusal. Each is sent to the same world: what one
wrote is taken back before the next.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import patch

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.db import close_old_connections, transaction
from drf_spectacular.generators import SchemaGenerator
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode, Response, checks
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi import checks as openapi_checks

from config.wsgi import application
from core.api import programs
from core.models import Program
from tests.api.client import Api
from tests.api.conftest import NOW, Clock, MakeKey
from tests.api.shop import JOINED, LATER, PAID, activity, enroll, line, order, refund
from tests.coupons.giving import publish

pytestmark = pytest.mark.django_db

Operation = APIOperation[Any, Any, Any, Any]
Case = schemathesis.Case[Operation]

EXAMPLES = [pytest.param(12, id="few"), pytest.param(150, id="many", marks=pytest.mark.deep)]
CHECKS = [
    checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_headers_conformance,
    openapi_checks.response_schema_conformance,
]
# Refusals of a request's form. Who sends what the document describes gets none of them.
FORM = {"bad_request", "invalid_json", "invalid_parameter", "invalid_request"}
# What it cannot describe: text that is not blank, one parameter that goes with another, bounds of instants.
UNSAID = {
    *("say why", "write the code", "ladder goes with tier."),
    *("from: a month that is not after `to`.", "tier: a tier of the main ladder."),
    *("write an instant of the years 1 to 9999", "ask about an instant before 2100"),
    *("tell either coupon or code", "tell a code or a visitor", "a line is there twice"),
}


@dataclass
class World:
    """What there is: a key with every scope, and real values for parameters and fields of these names.

    special: by the ends of addresses, what stands in such a state that the operation can be done, and with what.
    """

    key: str
    addresses: dict[str, Any]
    special: dict[str, dict[str, Any]]
    values: dict[str, Any]
    answered: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))


@pytest.fixture
def world(program: Program, make_key: MakeKey, clock: Clock) -> Iterator[World]:
    key = make_key(rate_per_minute=1_000_000)
    api = Api(key)
    enroll(program, "zoe")
    enroll(program, "ada", "ben", "flo", "rex")
    clock(JOINED + timedelta(hours=1))
    code = api.post("members/zoe/referral-code", {}).json["code"]
    referral = api.post("members/ada/referral", {"code": code}).json["referral"]
    api.post("members/zoe/fingerprints", {"device": "d-1"})
    evidence = {"fingerprints": {"device": "d-1"}}
    tries = [api.post("members/flo/referral", {"code": code, **more}) for more in (evidence, {})]
    assert [answer.status for answer in tries] == [422, 201]
    rejected = api.post("members/rex/referral", {"code": code}).json["referral"]
    assert api.post(f"referrals/{rejected}/reject", {"reason": "a farm"}, key="k0").status == 200
    publish(program, "tea-time", at=JOINED)
    assert api.post("coupons/tea-time/recall", {"reason": "a mistake"}).status == 200
    clock(NOW)
    for path, body in [("orders", order()), ("refunds", refund()), ("activities", activity())]:
        assert api.post(path, body).status == 201
    redeemed = api.post("members/ada/points/points/redemptions", {"points": 5}, key="k1")
    gold = {"tier": "gold", "valid_until": "2027-01-01T00:00:00Z", "reason": "a gift"}
    assert api.post("members/ada/tiers/main/override", gold, key="k2").status == 201
    endpoint = api.post("webhook-endpoints", {"url": "https://shop.example/hook"}).json["id"]
    event = api.post(f"webhook-endpoints/{endpoint}/test").json["event"]
    publish(program, "tea-time", at=NOW - timedelta(hours=1))
    claim = api.post("members/ada/coupons", {"coupon": "tea-time"}, key="k3").json["coupon"]["id"]
    assert api.post("coupons/tea-time/codes", {"code": code}).status == 201  # a friend's code is a coupon's, too
    batch = api.post("coupons/tea-time/code-batches", {"count": 5}, key="k4").json["batch"]
    large = api.post("members/ada/points/points/adjustments", {"points": 10_001, "reason": "much"}, key="k5")
    assert large.status == 202
    names = {"member": "ada", "order": "o1", "activity": "v1", "seq": redeemed.json["transaction"]["seq"]}
    addresses = {"ladder": "main", "wallet": "points", "refund": "r1", "endpoint": endpoint, "event": event}
    addresses |= {"coupon": "tea-time", "claim": claim, "batch": batch, "adjustment": large.json["id"]}
    addresses["referral"] = referral
    told = {"currency": "GBP", "order_line": "a", "tier": "gold", "ladder": "main", "units": 1, "points": 1, "after": 0}
    told |= {"url": "https://shop.example/new", "reason": "because", "program_amount_minor": None}
    told |= {"coupon": "tea-time", "code": code, "visitor": "somebody", "paid_in_points_minor": 0}
    told |= {"market": "uk", "country": "GB", "source": "web"}
    instants = dict.fromkeys(["joined_at", "paid_at", "occurred_at", "effective_at", "since"], PAID)
    instants |= dict.fromkeys(["refunded_at", "edited_at", "cancelled_at"], LATER) | {
        "valid_until": gold["valid_until"]
    }
    clock(NOW + timedelta(hours=1))
    basket = {"currency": "GBP", "lines": [{"external_id": "a", "units": 1, "list_minor": 500}]}
    addresses["checkout"], told["checkout"] = api.post("checkouts", basket).json["id"], None
    held = api.post("checkouts", basket).json["id"]
    assert api.post(f"checkouts/{held}/hold").status == 200
    assert api.post("orders", order("o7", line("1", 1, 0), paid_at=LATER)).status == 201
    special: dict[str, dict[str, Any]] = {
        "/orders/{order}/corrections": {"order": "o7", "paid_at": PAID, "lines": []},
        "/edits": {"lines": [line("new", 1, 100)], "removed": []},
        "/approve": {"referral": tries[1].json["referral"]},
        "/reopen": {"referral": rejected},
        "/extend": {"checkout": held},
    }
    # The application closes connections after requests, which would end the test's transaction.
    signals = [request_started, request_finished]
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield World(key, names | addresses, special, names | told | instants)
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Our document, in which no answer has more fields than it declares, and credentials are left to `_send`."""
    found: dict[str, Any] = SchemaGenerator().get_schema(public=True)  # type: ignore[no-untyped-call]
    for schema in found["components"]["schemas"].values():
        if schema.get("type") == "object":
            schema.setdefault("additionalProperties", False)
    for operations in found["paths"].values():
        for told in operations.values():
            del told["security"]
    return found


def _schema(document: dict[str, Any]) -> BaseSchema:
    schema = schemathesis.openapi.from_dict(document)
    schema.app = application
    return schema


def _operations(schema: BaseSchema) -> Iterator[Operation]:
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        yield result.ok()


def _whole(told: Any) -> Any:
    """Return a body in which whole numbers are written as such: 7.0 is one to JSON Schema, and to us a float."""
    if isinstance(told, list):
        return [_whole(item) for item in told]
    if isinstance(told, dict):
        return {name: _whole(value) for name, value in told.items()}
    return int(told) if isinstance(told, float) and told.is_integer() else told


def _with_real_values(told: Any, world: World) -> Any:
    """Return a body or a query with real values; the amounts of lines add up to the whole."""
    if isinstance(told, list):
        return [_with_real_values(item, world) for item in told]
    if not isinstance(told, dict):
        return told
    result = {name: world.values.get(name, _with_real_values(value, world)) for name, value in told.items()}
    if "amount_minor" in result:
        lines = result.get("lines") or []
        result["amount_minor"] = (
            sum(line.get("amount_minor") or 0 for line in lines) if lines else (result["amount_minor"] or 0) % 100
        )
    return result


def _make_real(case: Case, world: World) -> None:
    """Give a request real values wherever it is not meant to be wrong."""
    assert case.meta is not None
    sound = {location for location, part in case.meta.components.items() if part.mode.is_positive}
    own = next((own for end, own in world.special.items() if case.path.endswith(end)), {})
    if ParameterLocation.PATH in sound:
        case.path_parameters = {name: own.get(name, world.addresses[name]) for name in case.path_parameters}
    if ParameterLocation.QUERY in sound:
        case.query = {name: value for name, value in _with_real_values(case.query, world).items() if name != "cursor"}
    if ParameterLocation.BODY in sound:
        case.body = _with_real_values(case.body, world)
        if isinstance(case.body, dict):
            case.body |= {name: value for name, value in own.items() if name not in world.addresses}


def _send(case: Case, world: World) -> Response:
    """Send a request and take back what it wrote."""
    before = transaction.savepoint()
    response = case.call(headers={"Authorization": f"Bearer {world.key}"})
    transaction.savepoint_rollback(before)
    transaction.savepoint_commit(before)  # forget it: thousands of them would use up the server's locks
    return response


def _misread(case: Case, response: Response) -> str | None:
    """Return what is wrong with a refusal: a request that fits the document is not malformed."""
    assert case.meta is not None
    if case.meta.generation.mode.is_positive and response.status_code in {400, 422}:
        problem = response.json()
        told = {problem["detail"], *(error["detail"] for error in problem["errors"])}
        if problem["code"] in FORM and not told & UNSAID:
            return f"{case.as_curl_command()}\n{problem}"
    return None


def _has_refused_items(response: Response) -> bool:
    return response.status_code == 200 and any(item["outcome"] == "refused" for item in response.json()["results"])


def _try(operation: Operation, mode: GenerationMode, world: World, examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), is_real=st.booleans())
    def check(case: Case, is_real: bool) -> None:
        if mode.is_positive:
            case.body = _whole(case.body)
        if is_real:
            _make_real(case, world)
        response = _send(case, world)
        world.answered[operation.label][response.status_code] += 1
        case.validate_response(response, checks=CHECKS)
        mistake = _misread(case, response)
        assert mistake is None, mistake
        # A body that may be left out is no wrong one where it is. A batch refuses what does not fit item by item.
        body = operation.definition.raw.get("requestBody", {})
        if body.get("required") is False and not response.request.body:
            return
        if not operation.path.endswith("/batch") or not _has_refused_items(response):
            case.validate_response(response, checks=[openapi_checks.negative_data_rejection])

    check()


def _failures(document: dict[str, Any], mode: GenerationMode, world: World, examples: int) -> list[str]:
    found = []
    for operation in _operations(_schema(document)):
        try:
            _try(operation, mode, world, examples)
        except (AssertionError, FailureGroup) as failure:
            found.append(f"{operation.label}: {failure}")
        except Unsatisfiable:
            assert mode.is_negative, operation.label  # nothing about it can be wrong
    return found


@pytest.mark.parametrize("examples", EXAMPLES)
def test_what_fits_the_document_is_answered_as_it_says(document: dict[str, Any], world: World, examples: int) -> None:
    found = _failures(document, GenerationMode.POSITIVE, world, examples)
    assert not found, "\n\n".join(found)
    unmet = [name for name, statuses in world.answered.items() if not any(200 <= status < 300 for status in statuses)]
    assert not unmet, {name: world.answered[name] for name in unmet}


@pytest.mark.parametrize("examples", EXAMPLES)
def test_what_does_not_fit_the_document_is_refused_as_it_says(
    document: dict[str, Any], world: World, examples: int
) -> None:
    found = _failures(document, GenerationMode.NEGATIVE, world, examples)
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize(
    "wrong", [{"code": 7}, {"more": "than declared"}, {"markets": [{"code": "uk"}]}], ids=["type", "more", "less"]
)
def test_an_answer_that_is_not_as_described_is_found(
    document: dict[str, Any], world: World, wrong: dict[str, Any]
) -> None:
    show = programs.show_program
    with patch.object(programs, "show_program", lambda program: show(program) | wrong):
        found = _failures(document, GenerationMode.POSITIVE, world, 2)
    assert [failure.partition(":")[0] for failure in found] == ["GET /api/v1/program"]
