"""What every line of the log says about the request or task that wrote it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_context: ContextVar[dict[str, str]] = ContextVar("log_context")


def get_log_context() -> dict[str, str]:
    """Return what is known about the request or task that is running, nothing outside of both."""
    return _context.get({})


@contextmanager
def log_context(**values: str) -> Iterator[None]:
    """Begin a request or a task: its lines carry these values and those that `note` adds."""
    token = _context.set(dict(values))
    try:
        yield
    finally:
        _context.reset(token)


def note(**values: str) -> None:
    """Add what has become known meanwhile, such as the program; outside of a request or task it is lost."""
    get_log_context().update(values)
