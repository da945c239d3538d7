"""Whoever tries codes is slowed down: failures are counted for each member and for each program."""

import logging
import math

import redis

from core.api.problems import Problem
from core.api.throttle import count

logger = logging.getLogger(__name__)

# A shopper mistypes a few; with this many a minute, one of 2^35 is met after thousands of years.
FAILURES_PER_MEMBER = 10
FAILURES_PER_PROGRAM = 1_000


def refuse_guessing(*, program_id: int, member_id: int) -> None:
    """Refuse to read codes for whoever has failed too often within the last minute.

    Raises: Problem 429.
    """
    wait = _look(program_id, member_id, is_counted=False)
    if wait:
        headers = {"Retry-After": str(math.ceil(wait))}
        raise Problem(429, "too_many_codes", "Too many codes that were wrong; wait a little.", headers=headers)


def note_failure(*, program_id: int, member_id: int) -> None:
    """Count a code that was wrong."""
    _look(program_id, member_id, is_counted=True)


def _look(program_id: int, member_id: int, *, is_counted: bool) -> float:
    names = {f"codes:{program_id}:{member_id}": FAILURES_PER_MEMBER, f"codes:{program_id}": FAILURES_PER_PROGRAM}
    try:
        return max(count(name, limit=limit, is_counted=is_counted)[1] for name, limit in names.items())
    except redis.RedisError:
        logger.warning("wrong codes are not counted: Redis cannot be reached")
        return 0
