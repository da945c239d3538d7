"""Filters of lists that read what they are given as the bodies do."""

from datetime import datetime
from typing import Any

import django_filters
from django import forms
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema_field
from pydantic import TypeAdapter, ValidationError

from core.api.types import Instant

_INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


class _InstantField(forms.CharField):
    def clean(self, value: Any) -> Any:
        if not value:
            return None
        try:
            return _INSTANT.validate_python(value)
        except ValidationError as error:
            raise forms.ValidationError("write an instant with its zone, such as 2026-03-01T12:00:00Z") from error


@extend_schema_field(OpenApiTypes.DATETIME)
class InstantFilter(django_filters.Filter):  # type: ignore[misc]
    """An instant with its zone: what has none is refused."""

    field_class = _InstantField
