"""What is accepted has its effect: every field of a definition is read, every public service is called."""

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import storefront.services.program_file  # noqa: F401 it reads every section of a program file
from core.definitions import Definition
from tests.architecture.test_source import APPS, ROOT

# How the functions are decorated that check a definition or write it; what only they read has no effect.
CHECKS = ("validator", "serializer")
# Fields that no code reads by their names, each with its reason.
UNREAD = dict.fromkeys(["MarketEntry.locales", "MarketEntry.countries"], "told to storefronts with the program")
# Public services that no code calls, each with its reason.
UNCALLED = {
    "membership/services/facts.py::record_facts": "tests of membership record facts without what follows from them",
    "membership/services/evaluations.py::due_evaluations": "tests ask a ladder for its plan",
}

FILES = {
    str(path.relative_to(ROOT)): ast.parse(path.read_text(encoding="utf-8"))
    for app in (*APPS, "config")
    for path in (ROOT / app).rglob("*.py")
    if "migrations" not in path.parts
}


def _definitions(model: type[Definition] = Definition) -> Iterator[type[Definition]]:
    for found in model.__subclasses__():
        if found.__module__.split(".")[0] in APPS:
            yield found
        yield from _definitions(found)


def _is_check(node: ast.AST) -> bool:
    """Tell whether a function checks or writes a definition: what only it reads has no effect."""
    decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else ()
    return any(check in ast.unparse(decorator) for decorator in decorators for check in CHECKS)


def _reads(node: ast.AST) -> Iterator[str]:
    """Yield the names of the attributes that are read below a node, outside of checks."""
    for child in ast.iter_child_nodes(node):
        if _is_check(child):
            continue
        if isinstance(child, ast.Attribute) and isinstance(child.ctx, ast.Load):
            yield child.attr
        yield from _reads(child)


def _named(tree: ast.Module, *, but: ast.AST | None = None) -> Iterator[str]:
    """Yield the names that a file uses, outside of one of its functions; imports use nothing."""
    for top in tree.body:
        if top is not but:
            for node in ast.walk(top):
                if isinstance(node, ast.Name):
                    yield node.id
                elif isinstance(node, ast.Attribute):
                    yield node.attr


def test_every_field_of_a_definition_is_read() -> None:
    read = {name for tree in FILES.values() for name in _reads(tree)}
    models = set(_definitions())
    assert len(models) > 20
    unread = {f"{model.__name__}.{field}" for model in models for field in model.model_fields if field not in read}
    assert unread == set(UNREAD), "a field that nothing reads is refused, or read"


def test_every_public_service_is_called() -> None:
    users: dict[str, set[str]] = defaultdict(set)
    for path, tree in FILES.items():
        for name in _named(tree):
            users[name].add(path)
    uncalled = set()
    for path, tree in FILES.items():
        if "services" not in Path(path).parts:
            continue
        for node in tree.body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                own = node.name in _named(tree, but=node)
                if not own and not users[node.name] - {path}:
                    uncalled.add(f"{path}::{node.name}")
    assert uncalled == set(UNCALLED), "a service that nothing calls goes, or gets its door"
