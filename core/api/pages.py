"""Lists come in pages, each with a cursor for the next: stable while rows are added, and as fast at the end."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from pydantic import BaseModel
from rest_framework.exceptions import NotFound
from rest_framework.pagination import CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response

from core.api.paths import sent_path
from core.api.problems import Problem

PAGE_SIZE = 50
MAX_PAGE_SIZE = 200


class Page(CursorPagination):
    """`limit` rows from `cursor` on, in the query set's own order: its first field must be unique among the rows."""

    page_size = PAGE_SIZE
    page_size_query_param = "limit"
    max_page_size = MAX_PAGE_SIZE

    def get_page_size(self, request: Request) -> int:
        """Return the limit asked for.

        Raises: Problem 400 for one out of bounds: quietly giving another would look like the end of the list.
        """
        told = request.query_params.get("limit", str(PAGE_SIZE))
        if not re.fullmatch("[0-9]{1,3}", told) or not 1 <= int(told) <= MAX_PAGE_SIZE:
            raise Problem(400, "invalid_parameter", f"limit: a whole number from 1 to {MAX_PAGE_SIZE}.")
        return int(told)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe `cursor` and `limit`."""
        bounds = {"minimum": 1, "maximum": MAX_PAGE_SIZE, "default": PAGE_SIZE}
        told = super().get_schema_operation_parameters(view)
        return [
            part | {"schema": part["schema"] | (bounds if part["name"] == "limit" else {"minLength": 1})}
            for part in told
        ]

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        """Return the rows of the page.

        Raises: Problem 400 for a cursor that was made up: its position is no value of the order's field.
        """
        if request.query_params.get("cursor") == "":
            raise NotFound
        try:
            rows: list[Any] | None = super().paginate_queryset(queryset, request, view)
        except (ValueError, TypeError, ValidationError):
            if "cursor" not in request.query_params:
                raise
            raise NotFound from None
        self.base_url = request.build_absolute_uri(f"{sent_path(request._request)}?{request.META['QUERY_STRING']}")
        return rows

    def get_ordering(self, _request: Request, queryset: Any, _view: Any) -> tuple[str, ...]:
        """Return the order that the query set has."""
        return tuple(queryset.query.order_by)

    def get_paginated_response(self, data: Any) -> Response:
        """Return the rows with the addresses of the pages beside them."""
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})


class PageOf(BaseModel):
    """What every page has beside its `results`: the addresses of the next and the previous page, if there are."""

    next: str | None
    previous: str | None
