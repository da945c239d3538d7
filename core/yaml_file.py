"""Read YAML as its present specification (1.2) reads it: `on`, `no` and dates are text, only true and false are not.

PyYAML follows the older one, in which the country NO is false and a key `on` is true.
"""

import re
from pathlib import Path
from typing import Any

import yaml


class UnreadableFile(Exception):
    """The file is missing, is no YAML, or says the same key twice; the text says where."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the scalars of the core schema, which refuses a repeated key."""

    yaml_implicit_resolvers = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping, in which YAML itself would let the last of two equal keys win."""
        seen: set[str] = set()
        for key in (key for key, _value in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in seen:
                problem = f"the key {key.value!r} is repeated"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("null", r"|~|null|Null|NULL", ["", "~", "n", "N"]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), _first)


class _Dumper(yaml.SafeDumper):
    """SafeDumper that writes what the loader above reads."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers

    def ignore_aliases(self, _data: Any) -> bool:
        """Write out what occurs twice: a person edits it."""
        return True


def _write_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    """Write text in double quotes where it looks like something else, as program files do."""
    tag = "tag:yaml.org,2002:str"
    is_plain = dumper.resolve(yaml.ScalarNode, text, (True, False)) == tag  # type: ignore[no-untyped-call]
    return dumper.represent_scalar(tag, text, style=None if is_plain else '"')


_Dumper.add_representer(str, _write_text)


def write_yaml(document: Any) -> str:
    """Return a document as YAML in the order of its keys, the innermost lists and mappings on one line."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)


def read_yaml(path: Path) -> Any:
    """Return the one document of a YAML file.

    Raises: UnreadableFile.
    """
    try:
        return parse_yaml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UnreadableFile(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UnreadableFile(f"{path}: is not UTF-8 text") from error
    except UnreadableFile as error:
        raise UnreadableFile(f"{path}: {error}") from error


def parse_yaml(text: str) -> Any:
    """Return the one document of a YAML text.

    Raises: UnreadableFile.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UnreadableFile(f"{where}{error.problem}") from error
    except yaml.YAMLError as error:
        raise UnreadableFile(str(error)) from error
    except RecursionError as error:
        raise UnreadableFile("is nested too deeply") from error
