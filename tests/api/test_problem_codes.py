"""docs/api.md lists every code that a refusal may have, with its statuses, and no other."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from core.api.codes import CODES
from storefront.api.problems import UNPROCESSABLE

ROOT = Path(__file__).parents[2]
APPS = ("core", "membership", "coupons", "points", "referrals", "analytics", "storefront")
SOURCE = [path for app in APPS for path in (ROOT / app).rglob("*.py") if "admin" not in path.parts]
SOURCE += [ROOT / "config" / "urls.py"]
ROW = re.compile(r"^\| `(\w+)` \| ([\d, ]+) \|", re.MULTILINE)
CODE = re.compile(r"[a-z]+(_[a-z]+)*")


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _texts(node: ast.AST | None) -> Iterator[str]:
    """Yield the codes that an expression may be: a text, or one of two."""
    match node:
        case ast.Constant(value=str(text)) if CODE.fullmatch(text):
            yield text
        case ast.IfExp(body=body, orelse=orelse):
            yield from _texts(body)
            yield from _texts(orelse)


def _in_call(call: ast.Call) -> Iterator[tuple[int, str]]:
    name, keyword = _called(call), {word.arg: word.value for word in call.keywords}
    told = call.args[1] if len(call.args) > 1 else None
    match name, call.args:
        case (("Problem" | "page"), [ast.Constant(value=int(status)), *_]):
            yield from ((status, code) for code in _texts(told))
        case "_refused", [first, *_]:  # of core.api.credentials
            yield from ((401, code) for code in _texts(first))
        case "BadOverride", [first, *_]:
            yield from ((422, code) for code in _texts(first))
        case "CheckoutRefused", [first, *_]:
            yield from ((422 if code in UNPROCESSABLE else 409, code) for code in _texts(first))
        case (("BadFact" | "refuse"), arguments):
            told = keyword.get("code") or (arguments[2] if len(arguments) > 2 else None)
            yield from ((422, code) for code in _texts(told))


def _in_assignment(assignment: ast.Assign) -> Iterator[tuple[int, str]]:
    """Yield the code of `field, reason, code = ...`, with which a fact is refused further down."""
    match assignment:
        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=values)):
            for name, value in zip(names, values, strict=True):
                if isinstance(name, ast.Name) and name.id == "code":
                    yield from ((422, code) for code in _texts(value))


def _in_function(function: ast.FunctionDef) -> Iterator[tuple[int, str]]:
    """Yield the code that a fact is refused with unless told otherwise."""
    arguments = function.args
    named = [*zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    named += zip(arguments.args[::-1], arguments.defaults[::-1], strict=False)
    for argument, default in named:
        if argument.arg == "code":
            yield from ((422, code) for code in _texts(default))


def _codes_in_source() -> set[tuple[int, str]]:
    found: set[tuple[int, str]] = set()
    for path in SOURCE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                found.update(_in_call(node))
            if isinstance(node, ast.Assign):
                found.update(_in_assignment(node))
            if isinstance(node, ast.FunctionDef):
                found.update(_in_function(node))
    return found


def _codes_in_the_document() -> set[tuple[int, str]]:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    return {(int(status), code) for code, statuses in ROW.findall(text) for status in statuses.split(",")}


def test_the_codes_are_found() -> None:
    known = {
        (401, "token_expired"),
        (404, "not_found"),
        (409, "in_flight"),
        (422, "unknown_member"),
        (429, "rate_limited"),
    }
    assert known <= _codes_in_source()


def test_the_openapi_document_names_every_code() -> None:
    assert sorted(CODES) == sorted({code for _status, code in _codes_in_source()})


def test_the_document_has_every_code_and_no_other() -> None:
    assert sorted(_codes_in_source() - _codes_in_the_document()) == []
    assert sorted(_codes_in_the_document() - _codes_in_source()) == []
