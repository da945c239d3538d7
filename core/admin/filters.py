"""Filters of lists that may be long: what they offer is found by an index, as is what they choose."""

from __future__ import annotations

from datetime import MAXYEAR, UTC, datetime, timedelta
from typing import Any

from django.contrib.admin import SimpleListFilter
from django.contrib.admin.views.main import SEARCH_VAR
from django.db import connection
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from unfold.contrib.filters.admin import RangeDateFilter

from core.timestamps import parse_day

# Reads one entry of the index for each value that there is, however many rows have it.
_DISTINCT = """
    WITH RECURSIVE found AS (
        (SELECT {column} AS value FROM {table} ORDER BY {column} LIMIT 1)
        UNION ALL
        SELECT (SELECT {column} FROM {table} WHERE {column} > found.value ORDER BY {column} LIMIT 1)
        FROM found WHERE found.value IS NOT NULL
    )
    SELECT value FROM found WHERE value IS NOT NULL LIMIT %s"""
MOST_VALUES = 200


class ValueFilter(SimpleListFilter):
    """Offers the values that a text column has. The column leads an index."""

    def lookups(self, _request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        quote = connection.ops.quote_name
        statement = _DISTINCT.format(table=quote(model_admin.opts.db_table), column=quote(str(self.parameter_name)))
        with connection.cursor() as cursor:
            cursor.execute(statement, [MOST_VALUES])
            return [(value, value) for (value,) in cursor.fetchall()]

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(**{str(self.parameter_name): self.value()}) if self.value() else queryset


class DayRangeFilter(RangeDateFilter):  # type: ignore[misc]
    """Offers a first and a last day, in UTC; both count. What is no day is no limit."""

    def queryset(self, _request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (self._midnight(f"{self.parameter_name}_{end}") for end in ("from", "to"))
        if first:
            queryset = queryset.filter(**{f"{self.parameter_name}__gte": first})
        if last:
            queryset = queryset.filter(**{f"{self.parameter_name}__lt": last + timedelta(days=1)})
        return queryset

    def is_chosen(self) -> bool:
        """Tell whether a first or a last day was chosen that is one."""
        return any(self._midnight(f"{self.parameter_name}_{end}") for end in ("from", "to"))

    def _midnight(self, parameter: str) -> datetime | None:
        try:
            day = parse_day(self.used_parameters.get(parameter) or "")
            return datetime(day.year, day.month, day.day, tzinfo=UTC) if day.year < MAXYEAR else None
        except ValueError:
            return None


class LatestDaysFilter(DayRangeFilter):
    """Shows the latest days of a table that may hold millions of rows, until days are chosen or something is sought.

    The column has an index of ranges (BRIN), which finds days and sorts nothing.
    """

    days = 7

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.is_chosen() or request.GET.get(SEARCH_VAR, "").strip():
            return super().queryset(request, queryset)
        return queryset.filter(**{f"{self.parameter_name}__gte": timezone.now() - timedelta(days=self.days)})
