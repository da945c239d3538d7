"""System checks of what the project stands on."""

from importlib.util import find_spec
from typing import Any

from django.core.checks import CheckMessage, Error, register


@register()
def check_driver(**_kwargs: Any) -> list[CheckMessage]:
    """Refuse psycopg 3: Django prefers it silently, and the code is written and measured for psycopg2."""
    if find_spec("psycopg") is None:
        return []
    return [
        Error("psycopg 3 is installed; Perennial needs psycopg2 alone.", hint="pip uninstall psycopg", id="config.E001")
    ]
