"""Read settings from the environment; docs/settings.md names each of them."""

import os
from pathlib import Path

from config.failure import StartError

PROJECT = Path(__file__).resolve().parent.parent
TRUE, FALSE = {"1", "true", "yes", "on"}, {"", "0", "false", "no", "off"}


def variables() -> dict[str, str]:
    """Return all of them, for a process that is started."""
    return dict(os.environ)


def text(name: str, default: str = "") -> str:
    """Return a variable's text."""
    return os.environ.get(name, default)


def words(name: str, default: str = "") -> list[str]:
    """Return the parts of a comma-separated variable."""
    return [word.strip() for word in text(name, default).split(",") if word.strip()]


def flag(name: str) -> bool:
    """Return a yes or no, no by default.

    Raises: StartError for anything else.
    """
    value = text(name).strip().lower()
    if value not in TRUE | FALSE:
        raise StartError(f"{name} must be 1 or 0, not {value!r}.")
    return value in TRUE


def integer(name: str, default: int) -> int:
    """Return a whole number that is not negative.

    Raises: StartError for anything else.
    """
    value = text(name, str(default)).strip()
    if not value.isdecimal():
        raise StartError(f"{name} must be a whole number, not {value!r}.")
    return int(value)


def data_directory() -> Path:
    """Return where this installation keeps its files; a relative path starts at the project."""
    return PROJECT / text("PERENNIAL_DATA_DIR", ".data")
