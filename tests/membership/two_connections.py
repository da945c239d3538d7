"""Two connections whose overlap is made certain: the first commits when the second waits for it, or has ended."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

PATIENCE_SECONDS = 20.0


@contextmanager
def another_connection() -> Iterator[ThreadPoolExecutor]:
    """Yield one thread that keeps its own connection."""
    with ThreadPoolExecutor(max_workers=1) as executor:
        yield executor
        executor.submit(lambda: connection.close()).result()  # noqa: PLW0108 the thread's own connection


def overlap(first: Callable[[], Any], second: Callable[[], Any]) -> bool:
    """Run `second` on another connection while `first` is done but not committed; tell whether it had to wait."""
    with another_connection() as other:
        pid = other.submit(own_pid).result()
        with transaction.atomic():
            first()
            running: Future[Any] = other.submit(second)
            deadline = time.monotonic() + PATIENCE_SECONDS
            while not running.done() and not (waited := _is_waiting(pid)):
                assert time.monotonic() < deadline
            waited = not running.done()
        running.result(timeout=PATIENCE_SECONDS)
        return waited


def await_lock(pid: int) -> None:
    """Wait until a connection waits for a lock."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not _is_waiting(pid):
        assert time.monotonic() < deadline


def own_pid() -> int:
    """Return the process that serves this thread's connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return int(cursor.fetchone()[0])


def _is_waiting(pid: int) -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)", [pid])
        return bool(cursor.fetchone()[0])
