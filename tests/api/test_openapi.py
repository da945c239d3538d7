"""The OpenAPI document says all that the API does; its page loads nothing from elsewhere."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import drf_spectacular_sidecar
import pytest
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.test import Client
from pydantic import BaseModel

from core.api.pages import PageOf
from core.api.types import Answer, Body
from core.event_types import EventType
from core.models import Scope
from tests.api.client import Api

SIDECAR = Path(drf_spectacular_sidecar.__file__).parent / "static" / "drf_spectacular_sidecar" / "swagger-ui-dist"
# What a browser follows by itself; a link that a person may click is none.
LOADED = re.compile(r"""(?:\bsrc=|\bhref=|url\(|@import|fetch\(|import\()\s*["'`]?(?:https?:)?//[^\s"'`)]+""")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    reply = Client().get("/api/openapi.json")
    assert reply.status_code == 200
    found: dict[str, Any] = json.loads(reply.content)
    return found


def _operations(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {f"{verb} {path}": told for path, verbs in document["paths"].items() for verb, told in verbs.items()}


def test_the_document_is_valid_and_nothing_in_it_was_guessed(tmp_path: Path) -> None:
    file = tmp_path / "openapi.json"
    call_command("spectacular", "--validate", "--fail-on-warn", "--format", "openapi-json", "--file", str(file))
    assert json.loads(file.read_text())["openapi"].startswith("3.1")


def test_every_operation_says_what_it_is_and_who_may_call_it(document: dict[str, Any]) -> None:
    operations = _operations(document)
    assert len({told["operationId"] for told in operations.values()}) == len(operations)
    for name, told in operations.items():
        assert re.fullmatch(r"(list|get|post|put|patch|delete)(_[a-z]+)+", told["operationId"]), name
        assert len(told["tags"]) == 1, name
        assert told["summary"][0].isupper(), name
        assert not told["summary"].endswith("."), name
        (security,) = told["security"]
        assert [scope in Scope.values for scope in security["bearer"]] == [True], name


def test_operations_are_named_after_what_they_are_about(document: dict[str, Any]) -> None:
    told = _operations(document)["post /api/v1/members/{member}/tokens"]
    assert (told["operationId"], told["tags"]) == ("post_member_tokens", ["tokens"])
    assert _operations(document)["get /api/v1/program"]["operationId"] == "get_program"


def test_every_refusal_is_described_as_a_problem(document: dict[str, Any]) -> None:
    for name, told in _operations(document).items():
        shared = {
            int(status): answer["$ref"].removeprefix("#/components/responses/")
            for status, answer in told["responses"].items() if int(status) >= 400
        }  # fmt: skip
        refusals = {status: document["components"]["responses"][at] for status, at in shared.items()}
        expected = {400, 401, 403, 404, 405, 429, 503} | (set() if name.startswith("get ") else {409, 413, 415, 422})
        assert set(refusals) >= expected, name
        for answer in (refusals[status] for status in expected):
            assert answer["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
            }, name
            assert "`" in answer["description"], name


def test_lists_say_how_they_are_paged(document: dict[str, Any]) -> None:
    lists = {name: told for name, told in _operations(document).items() if told["operationId"].startswith("list_")}
    schemas = document["components"]["schemas"].items()
    pages = {name for name, schema in schemas if "previous" in schema.get("properties", {})}
    assert len(lists) == len(pages) >= 10
    for name, told in lists.items():
        assert {"cursor", "limit"} <= {parameter["name"] for parameter in told["parameters"]}, name
        shown = told["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert shown.rpartition("/")[2] in pages, name


def test_every_reference_leads_somewhere_and_every_component_is_used(document: dict[str, Any]) -> None:
    used = set(re.findall(r'"\$ref": "#/components/([^"]+)"', json.dumps(document)))
    made = {f"{kind}/{name}" for kind, parts in document["components"].items() for name in parts}
    assert used == {name for name in made if not name.startswith("securitySchemes/")}


def test_no_two_models_share_the_name_of_their_component() -> None:
    names = Counter(model.__name__ for base in (Body, Answer, PageOf) for model in _models_below(base))
    assert [name for name, count in names.items() if count > 1] == []


def _models_below(base: type[BaseModel]) -> set[type[BaseModel]]:
    below = {model for model in base.__subclasses__() if not model.__module__.startswith("tests.")}
    return below.union(*(_models_below(model) for model in below))


# --- the page --------------------------------------------------------------------------------------------------


def test_the_page_and_what_it_loads_are_our_own() -> None:
    page = Client().get("/api/docs/")
    html = page.content.decode()
    loaded = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(loaded) >= 4
    assert all(address.startswith("/") and not address.startswith("//") for address in loaded)
    assert "<script>" not in html
    for address in loaded:
        name = address.partition("?")[0]
        if name.startswith("/static/"):
            assert finders.find(name.removeprefix("/static/")) is not None, name
        else:
            script = Client().get(address)
            assert (script.status_code, LOADED.search(script.content.decode())) == (200, None)


def test_the_browser_is_told_to_load_nothing_else() -> None:
    policy = Client().get("/api/docs/").headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "http" not in policy


@pytest.mark.parametrize("name", ["swagger-ui.css", "swagger-ui-bundle.js", "swagger-ui-standalone-preset.js"])
def test_the_files_of_the_page_load_nothing_from_another_host(name: str) -> None:
    text = (SIDECAR / name).read_text(encoding="utf-8")
    assert LOADED.findall(text) == []


def test_the_search_for_foreign_hosts_finds_them() -> None:
    for text in ('<script src="https://cdn.example/x.js">', "url(//fonts.example/a)", "fetch('http://a.example')"):
        assert LOADED.search(text)


@pytest.mark.django_db
def test_the_document_needs_no_key() -> None:
    assert Api(None).get("/api/openapi.json").status == 200


# --- what a generated client does with it -----------------------------------------------------------------------


def test_a_request_carries_no_default_that_a_client_would_send(document: dict[str, Any]) -> None:
    """A generated client sends the defaults of what its caller leaves out."""
    schemas = document["components"]["schemas"]
    reached: set[str] = set()
    waiting = [
        told["requestBody"]["content"]["application/json"]["schema"]
        for told in _operations(document).values() if "requestBody" in told
    ]  # fmt: skip
    assert len(waiting) > 20
    while waiting:
        text = json.dumps(waiting.pop())
        assert '"default"' not in text, text
        for name in set(re.findall(r"#/components/schemas/([^\"]+)", text)) - reached:
            reached.add(name)
            waiting.append(schemas[name])


def test_webhooks_are_described_type_by_type(document: dict[str, Any]) -> None:
    assert set(document["webhooks"]) == set(EventType.values)
    for kind, told in document["webhooks"].items():
        message = told["post"]["requestBody"]["content"]["application/json"]["schema"]["allOf"]
        assert message[0] == {"$ref": "#/components/schemas/EventAnswer"}
        assert message[1]["properties"]["type"]["const"] == kind
        data = message[1]["properties"]["data"]["$ref"].rpartition("/")[2]
        assert document["components"]["schemas"][data]["additionalProperties"] is False


def test_the_document_is_small_enough_to_read(document: dict[str, Any]) -> None:
    assert len(json.dumps(document)) < 500_000
