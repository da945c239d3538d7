"""The policies that a program file can choose, read from the types of its sections, and rows that have every pair.

A policy is a field that is a choice: of literals, of true and false, or of several shapes. A new one, or a new value of
one, is found here by itself.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from random import Random
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel

from storefront.services.program_file import ProgramFile

Values = tuple[Any, ...]
Row = dict[str, Any]
Pair = tuple[tuple[str, Any], tuple[str, Any]]
CANDIDATES = 40


def read_policies() -> dict[str, Values]:
    """Return every policy by its path in the file, as `wallets.rounding`, with its values; None: left out."""
    found: dict[str, Values] = {}
    for section, annotation in get_type_hints(ProgramFile).items():
        found |= _walk(annotation, section)
    return found


def _walk(annotation: Any, path: str) -> dict[str, Values]:
    """Return the policies within an annotation."""
    if get_origin(annotation) is Annotated:
        return _walk(get_args(annotation)[0], path)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        found: dict[str, Values] = {}
        for name, field in annotation.model_fields.items():
            found |= _walk(field.annotation, f"{path}.{name}")
        return found
    if get_origin(annotation) in (Union, UnionType):
        return _of_union(get_args(annotation), path)
    if get_origin(annotation) in (tuple, list, dict):
        found = {}
        for inner in get_args(annotation):
            found |= _walk(inner, path)
        return found
    values = _values(annotation)
    return {path: values} if len(values) > 1 else {}


def _of_union(members: Sequence[Any], path: str) -> dict[str, Values]:
    """Return the choice between the members, and the choices within them."""
    found: dict[str, Values] = {}
    values = tuple(value for member in members for value in _values(member))
    shapes = tuple(member.__name__ for member in members if isinstance(member, type) and issubclass(member, BaseModel))
    if len(shapes) > 1 or values:
        absent = (None,) if NoneType in members else ()
        found[path] = absent + shapes + values
    for member in members:
        found |= _walk(member, path) if not _values(member) else {}
    return {name: known for name, known in found.items() if len(known) > 1}


def _values(annotation: Any) -> Values:
    if get_origin(annotation) is Annotated:
        return _values(get_args(annotation)[0])
    if annotation is bool:
        return (False, True)
    return get_args(annotation) if get_origin(annotation) is Literal else ()


def list_chosen(file: ProgramFile) -> set[tuple[str, Any]]:
    """Return what a file chooses: every field by its path, with its value or the name of its shape."""
    return {choice for section in get_type_hints(ProgramFile) for choice in _chosen(getattr(file, section), section)}


def _chosen(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, tuple | list):
        for one in value:
            yield from _chosen(one, path)
    elif isinstance(value, BaseModel):
        yield path, type(value).__name__
        for name in type(value).model_fields:
            yield from _chosen(getattr(value, name), f"{path}.{name}")
    elif isinstance(value, bool | str | int | NoneType):
        yield path, value


def list_pairs(policies: Mapping[str, Values]) -> set[Pair]:
    """Return every two values of different policies."""
    return {
        ((one, a), (other, b))
        for one, other in combinations(sorted(policies), 2)
        for a in policies[one]
        for b in policies[other]
    }


def pairs_of(row: Row) -> set[Pair]:
    return set(combinations(sorted(row.items()), 2))


def cover_pairs(policies: Mapping[str, Values], *, is_sound: Callable[[Row], bool], seed: int) -> list[Row]:
    """Return rows of one value of each policy, that between them have every pair: of some candidates the best is taken.

    is_sound: whether the values of a row go together.
    """
    random, missing = Random(seed), list_pairs(policies)
    rows = []
    while missing:
        wanted = min(missing, key=repr)
        candidates = [row for row in _candidates(policies, wanted, missing, random) if is_sound(row)]
        best = max(candidates, key=lambda row: len(pairs_of(row) & missing))
        missing -= pairs_of(best)
        rows.append(best)
    return rows


def _candidates(policies: Mapping[str, Values], wanted: Pair, missing: set[Pair], random: Random) -> Iterator[Row]:
    """Yield rows that have a pair; each of their other values has most of the missing pairs with those before it."""
    for _ in range(CANDIDATES):
        row: Row = dict(wanted)
        for name in random.sample(sorted(policies), len(policies)):
            if name not in row:
                values = random.sample(policies[name], len(policies[name]))
                row[name] = max(values, key=lambda value, name=name: _gain(row, name, value, missing))  # type: ignore[misc]
        yield row


def _gain(row: Row, name: str, value: Any, missing: set[Pair]) -> int:
    return sum(
        (min((name, value), (other, known), key=_name), max((name, value), (other, known), key=_name)) in missing
        for other, known in row.items()
    )


def _name(choice: tuple[str, Any]) -> str:
    return choice[0]
