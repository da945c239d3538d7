"""What orders, refunds and activities have in common as the API takes them in."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

from rest_framework.response import Response

from core.api.views import ApiView
from core.models import Scope


class FactView(ApiView):
    """A view of facts. Those dated after `latest` are refused."""

    scopes: ClassVar = {"GET": Scope.FACTS_READ, "POST": Scope.FACTS_WRITE}

    @contextmanager
    def trying(self, *, dry_run: bool) -> Iterator[None]:
        """Take everything back after a dry run; what is no dry run commits where its services do."""
        if not dry_run:
            yield
            return
        with self.writing(dry_run=True):
            yield

    def answer(self, content: dict[str, Any], *, is_new: bool, dry_run: bool) -> Response:
        """Answer what became of one fact: 201 if it was made, 200 if it was there or is not to stay."""
        outcome = {"outcome": "recorded" if is_new else "repeated"}
        return Response(outcome | content, 201 if is_new and not dry_run else 200)
