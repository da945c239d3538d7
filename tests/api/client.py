"""A caller of the API in tests.

    api = Api(text)                       text: a key or a member token; None: no credential
    answer = api.post("orders", {...}, key="k-1", query={"dry_run": "true"}, headers={"Origin": "..."})
    answer.status, answer.json, answer.headers, answer.code (a problem's code, else None)

Addresses are relative to /api/v1/. `key` is the Idempotency-Key. `raw` sends bytes in place of a body made of JSON.
A mistake of the server's own is an answer with status 500, as outside of tests. `in_parallel` runs calls in threads.
"""

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db import connections
from django.test import Client

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What the server answered."""

    status: int
    headers: Mapping[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        return self.json["code"] if self.headers["Content-Type"] == "application/problem+json" else None


class Api:
    """Calls the API with one credential."""

    def __init__(self, text: str | None) -> None:
        self.text = text

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        raw: bytes | None = None,
        content_type: str = "application/json",
    ) -> Reply:
        sent = dict(headers or {})
        if self.text is not None:
            sent.setdefault("Authorization", f"Bearer {self.text}")
        if key is not None:
            sent["Idempotency-Key"] = key
        if raw is None and body is not None:
            raw = json.dumps(body).encode()
        path = path.removeprefix("http://testserver")  # as pages tell the address of the next one
        path = path if path.startswith("/") else f"/api/v1/{path}"
        response = Client(raise_request_exception=False).generic(
            method,
            path,
            raw or b"",
            content_type if raw is not None else "",
            headers=sent,
            query_params=query,
            RAW_URI=path,  # as gunicorn hands it on
        )
        return Reply(response.status_code, response.headers, response.getvalue().decode())

    def get(self, path: str, **query: Any) -> Reply:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.call("POST", path, body, **more)

    def patch(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.call("PATCH", path, body, **more)

    def delete(self, path: str, body: Any = None, **more: Any) -> Reply:
        return self.call("DELETE", path, body, **more)


def in_parallel(calls: Sequence[Callable[[], T]]) -> list[T]:
    """Start all calls at once, each in a thread with connections of its own; needs a test that commits."""
    gate = threading.Barrier(len(calls))

    def run(call: Callable[[], T]) -> T:
        gate.wait(timeout=30)
        try:
            return call()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(max_workers=len(calls)) as executor:
        return list(executor.map(run, calls))
