"""How often a caller may call: the generic cell rate algorithm, atomic in Redis.

Redis protects the database from a flood and decides nothing else: while it cannot be reached, nobody is refused.
"""

import logging
import math
from functools import lru_cache
from typing import Any

import redis
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from core.api.problems import Problem

logger = logging.getLogger(__name__)

WINDOW_SECONDS = 60
# How long a request waits for a Redis that does not answer, before it is let in.
PATIENCE_SECONDS = 0.5
# Source: the generic cell rate algorithm (ITU-T I.371). The key holds the theoretical arrival time of the next call
# in microseconds; a burst of a whole window's calls is allowed. Returns what is left and microseconds to wait.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window, limit = tonumber(ARGV[1]), tonumber(ARGV[2])
local step = window / limit
local arrival = math.max(tonumber(redis.call('GET', KEYS[1]) or now), now)
local following = arrival + step
if following - now > window then
    return {0, math.ceil(following - now - window)}
end
redis.call('SET', KEYS[1], string.format('%.0f', following), 'PX', math.ceil((following - now) / 1000))
return {math.floor((window - (following - now)) / step), 0}
"""


@lru_cache(maxsize=1)
def _script() -> Any:
    client = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=PATIENCE_SECONDS,
        socket_connect_timeout=PATIENCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return client.register_script(_SCRIPT)


def client() -> Any:
    """Return the Redis in which is counted. One that does not answer is not waited for."""
    return _script().registered_client


def count(name: str, *, limit: int) -> tuple[int, float]:
    """Count a call and return how many are left and, if none was, the seconds to wait."""
    remaining, wait = _script()(keys=[f"rate:{name}"], args=[WINDOW_SECONDS * 1_000_000, limit])
    return int(remaining), wait / 1_000_000


class RateLimit(BaseThrottle):
    """One limit per key, and a smaller one per member for tokens."""

    def allow_request(self, request: Request, _view: Any) -> bool:
        """Return True, and leave the standard headers for the middleware.

        Raises: Problem 429.
        """
        caller: Any = request.auth
        if caller.member is None:
            name, limit = f"key:{caller.key.id}", caller.key.rate_per_minute or settings.API_RATE_PER_MINUTE
        else:
            name, limit = f"member:{caller.program.pk}:{caller.member}", settings.API_MEMBER_RATE_PER_MINUTE
        try:
            remaining, wait = count(name, limit=limit)
        except redis.RedisError:
            logger.warning("rate limits are off: Redis cannot be reached")
            return True
        request._request.rate_headers = {  # type: ignore[attr-defined]
            "RateLimit-Policy": f'"default";q={limit};w={WINDOW_SECONDS}',
            "RateLimit": f'"default";r={remaining};t={math.ceil(wait or WINDOW_SECONDS)}',
        }
        if wait:
            headers = {"Retry-After": str(math.ceil(wait))}
            raise Problem(429, "rate_limited", f"At most {limit} requests a minute.", headers=headers)
        return True
