"""Filters of lists that read what they are given as the bodies do."""

from datetime import datetime
from typing import Annotated, Any

import django_filters
from django import forms
from drf_spectacular.utils import extend_schema_field
from pydantic import StringConstraints, TypeAdapter, ValidationError

from core.api.types import Flag, Text
from core.timestamps import INSTANT_FORM, Instant

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)
_TEXT: TypeAdapter[str] = TypeAdapter(Annotated[Text, StringConstraints(min_length=1, max_length=200)])


class _Field(forms.Field):
    kind: TypeAdapter[Any]
    hint: str

    def clean(self, value: Any) -> Any:
        if value is None:
            return None
        try:
            return self.kind.validate_python(value)
        except ValidationError as error:
            raise forms.ValidationError(self.hint) from error


class _FlagField(_Field):
    kind, hint = TypeAdapter(Flag), "write true or false"


class _InstantField(_Field):
    kind, hint = _INSTANT, INSTANT_FORM


class _TextField(_Field):
    kind, hint = _TEXT, "write at most 200 characters without control characters"


@extend_schema_field(_TEXT.json_schema())
class TextFilter(django_filters.Filter):  # type: ignore[misc]
    """Exactly this text."""

    field_class = _TextField


@extend_schema_field(_INSTANT.json_schema())
class InstantFilter(django_filters.Filter):  # type: ignore[misc]
    """An instant with its zone: what has none is refused."""

    field_class = _InstantField


@extend_schema_field({"type": "boolean"})
class FlagFilter(django_filters.Filter):  # type: ignore[misc]
    """True or false, written so."""

    field_class = _FlagField
