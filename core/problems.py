"""What is wrong with a definition, in the words of someone who writes a program file."""

import difflib
import re
from collections.abc import Collection, Iterator

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from core.definitions import Definition
from core.patterns import say_pattern

# In a choice between forms: signs that another one was meant.
_WRONG_FORM = {"missing", "extra_forbidden"}
_NO_MAPPING = {"model_type", "model_attributes_type"}


def explain(error: ValidationError, root: str) -> list[str]:
    """Return pydantic's errors as `path: reason`, those of a choice between forms as one."""
    problems: list[str] = []
    choices: dict[str, dict[str, list[ErrorDetails]]] = {}
    for detail in _without_consequences(error.errors(include_url=False)):
        place = _place_of_form(detail)
        if place is None:
            problems.append(f"{root}{_path(detail['loc'])}: {_reason(detail)}")
        else:
            path, form = root + _path(detail["loc"][:place]), str(detail["loc"][place])
            choices.setdefault(path, {}).setdefault(form, []).append(detail)
    for path, forms in choices.items():
        problems.extend(_explain_choice(path, forms))
    return problems


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a hint at the known word that is closest, nothing if none is close."""
    close = difflib.get_close_matches(word, sorted(known), n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _without_consequences(details: list[ErrorDetails]) -> Iterator[ErrorDetails]:
    """Leave out lists that are too short only because an entry is wrong."""
    for detail in details:
        place = detail["loc"]
        inside = (other for other in details if len(other["loc"]) > len(place) and other["loc"][: len(place)] == place)
        if detail["type"] != "too_short" or not any(inside):
            yield detail


def _place_of_form(detail: ErrorDetails) -> int | None:
    """Return where the location names a form, a class or a literal: neither looks like a key of a file."""
    location = detail["loc"][:-1] if detail["type"] == "extra_forbidden" else detail["loc"]
    return next((i for i, part in enumerate(location) if not re.fullmatch(r"[a-z0-9_]+", str(part))), None)


def _explain_choice(path: str, forms: dict[str, list[ErrorDetails]]) -> list[str]:
    """Explain the form that was meant: the one with the fewest keys too many or too few; name all if unclear."""
    models = _all_definitions()
    misfits = {
        form: sum(detail["type"] in _WRONG_FORM for detail in found)
        for form, found in forms.items()
        if form in models and not any(detail["type"] in _NO_MAPPING for detail in found)
    }
    meant = [form for form, count in misfits.items() if count == min(misfits.values())]
    if len(meant) == 1:
        found = forms[meant[0]]
        return [
            f"{path}{_path(detail['loc'][(_place_of_form(detail) or 0) + 1 :])}: {_reason(detail)}" for detail in found
        ]
    shapes = [_shape(models[form]) if form in models else ", ".join(re.findall(r"'(.+?)'", form)) for form in forms]
    return [f"{path}: write one of {' | '.join(shapes)}"]


def _shape(model: type[Definition]) -> str:
    return "{" + ", ".join(f"{key}: ..." for key, field in model.model_fields.items() if field.is_required()) + "}"


def _path(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location)


def _reason(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            known = {key for model in _all_definitions().values() for key in model.model_fields}
            return "is an unknown key" + did_you_mean(str(detail["loc"][-1]), known)
        case "missing":
            return "is missing"
        case "value_error":
            return str(detail["ctx"]["error"])
        case "string_type":
            return "write text, in quotes if it looks like a number"
        case "tuple_type":
            return "write a list"
        case "too_short":
            return f"needs at least {detail['ctx']['min_length']} entries"
        case "string_pattern_mismatch":
            return f"{detail['input']!r} cannot be accepted: {say_pattern(detail['ctx']['pattern'])}"
        case kind if kind in _NO_MAPPING:
            return "write a mapping of keys to values"
    return detail["msg"].replace("Input should be", "must be")


def _all_definitions() -> dict[str, type[Definition]]:
    """Return every definition there is, by class name."""
    found: list[type[Definition]] = [Definition]
    for model in found:
        found.extend(model.__subclasses__())
    return {model.__name__: model for model in found}
