"""Whoever tries codes is slowed down, and nobody else: a code that is not known yet costs a try before it is read.

A right one gives its try back. A code that was read once is read again without a try, so a basket that is quoted anew
with one wrong code in it has cost one. Tries are counted for each member and for each address; while Redis cannot be
reached, every code is read.
"""

import logging
import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b

import redis
from kombu.exceptions import OperationalError

from core.api import throttle
from core.api.problems import Problem
from core.metrics import WRONG_CODES
from core.models import Program
from core.typed_codes import key
from coupons.tasks import tell_of_guessing

logger = logging.getLogger(__name__)

# A shopper mistypes a few; with this many a minute, one of 2^35 is met after thousands of years.
FAILURES_PER_MEMBER = 10
# Households, offices and shops share an address; an address with more accounts than these is one that tries codes.
FAILURES_PER_ADDRESS = 60
# More than this many a minute in all refuse no code, for they are many people's: they raise an alarm.
FAILURES_PER_PROGRAM = 1_000
# For how long a code that was read stays known, from its last reading on: as long as a basket is worked on.
KNOWN_SECONDS = 3_600
# An alarm is raised once in this time.
ALARM_SECONDS = 600

# The counters hold the arrival times of the generic cell rate algorithm, as those of core.api.throttle do.
# KEYS: the counters, then one key for each code. ARGV: the window, KNOWN_SECONDS, how many counters, their limits.
# Answers for each code 0: it is known; -1: it took a try; else the microseconds until one is free.
_RESERVE = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local window, counters = tonumber(ARGV[1]), tonumber(ARGV[3])
local arrivals, steps, answers = {}, {}, {}
for place = 1, counters do
    arrivals[place] = math.max(tonumber(redis.call('GET', KEYS[place]) or now), now)
    steps[place] = window / tonumber(ARGV[3 + place])
end
for place = counters + 1, #KEYS do
    local answer = 0
    if redis.call('EXPIRE', KEYS[place], ARGV[2]) == 0 then
        for counter = 1, counters do
            answer = math.max(answer, math.ceil(arrivals[counter] + steps[counter] - window - now))
        end
        if answer == 0 then
            answer = -1
            for counter = 1, counters do
                arrivals[counter] = arrivals[counter] + steps[counter]
            end
            redis.call('SET', KEYS[place], '1', 'EX', ARGV[2])
        end
    end
    answers[#answers + 1] = answer
end
for place = 1, counters do
    local ahead = math.ceil((arrivals[place] - now) / 1000)
    if ahead > 0 then
        redis.call('SET', KEYS[place], string.format('%.0f', arrivals[place]), 'PX', ahead)
    end
end
return answers
"""

# KEYS: the counters, then the keys of codes that are to be unknown again. ARGV: the window, how many tries, how many
# counters, their limits.
_GIVE_BACK = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local counters = tonumber(ARGV[3])
for place = 1, counters do
    local arrival = tonumber(redis.call('GET', KEYS[place]) or now) - ARGV[2] * ARGV[1] / ARGV[3 + place]
    local ahead = math.ceil((arrival - now) / 1000)
    if ahead > 0 then
        redis.call('SET', KEYS[place], string.format('%.0f', arrival), 'PX', ahead)
    else
        redis.call('DEL', KEYS[place])
    end
end
for place = counters + 1, #KEYS do
    redis.call('DEL', KEYS[place])
end
"""


class Tries:
    """The codes of one request: which may be read, which not, and which took a try to be read.

    `wait_seconds`: until one of those that may not can be read; 0 if there is none.
    """

    def __init__(self, codes: Sequence[str], waits: dict[str, int]) -> None:
        self.readable = [code for code in codes if waits[key(code)] <= 0]
        self.refused = [code for code in codes if waits[key(code)] > 0]
        self.wait_seconds = math.ceil(min((wait for wait in waits.values() if wait > 0), default=0) / 1_000_000)
        self.taken = {name for name, wait in waits.items() if wait < 0}
        self.wrong: set[str] = set()
        self.is_read = False

    def note_read(self, *, wrong: Collection[str]) -> None:
        """Note that the codes have been read, and which of them were wrong: the others give their tries back."""
        self.is_read, self.wrong = True, {key(code) for code in wrong}


@contextmanager
def reserve(*, program: Program, member_id: int, address: str, codes: Sequence[str]) -> Iterator[Tries]:
    """Take a try for each code that the member is not known to have tried; what was not read gives it back.

    `address`: the shopper's, empty where it is not known.
    """
    room = f"rate:codes:{program.pk}"
    limits = {f"{room}:member:{member_id}": FAILURES_PER_MEMBER}
    if address:
        limits[f"{room}:address:{address}"] = FAILURES_PER_ADDRESS
    names = {key(code): _name(room, member_id, key(code)) for code in codes}
    tries = Tries(codes, _take(limits, names))
    try:
        yield tries
    finally:
        _settle(program, tries, limits, names)


def refuse_unread(tries: Tries) -> None:
    """Refuse a request that is about its codes alone, if one of them may not be read.

    Raises: Problem 429.
    """
    if tries.refused:
        headers = {"Retry-After": str(tries.wait_seconds)}
        raise Problem(429, "too_many_codes", "Too many codes that were wrong; wait a little.", headers=headers)


def _name(room: str, member_id: int, text: str) -> str:
    return f"{room}:known:{member_id}:{blake2b(text.encode(), digest_size=16).hexdigest()}"


def _take(limits: dict[str, int], names: dict[str, str]) -> dict[str, int]:
    """Return for each code 0 if it is known, -1 if it took a try, else the microseconds until one is free."""
    if not names:
        return {}
    window = throttle.WINDOW_SECONDS * 1_000_000
    try:
        answers = throttle.client().register_script(_RESERVE)(
            keys=[*limits, *names.values()], args=[window, KNOWN_SECONDS, len(limits), *limits.values()]
        )
    except redis.RedisError:
        logger.warning("wrong codes are not counted: Redis cannot be reached")
        return dict.fromkeys(names, 0)
    return dict(zip(names, map(int, answers), strict=True))


def _settle(program: Program, tries: Tries, limits: dict[str, int], names: dict[str, str]) -> None:
    """Give back the tries of codes that were right, or not read: those are as unknown as before."""
    back = tries.taken - tries.wrong
    unknown = set() if tries.is_read else back
    try:
        if back:
            window = throttle.WINDOW_SECONDS * 1_000_000
            throttle.client().register_script(_GIVE_BACK)(
                keys=[*limits, *(names[text] for text in unknown)],
                args=[window, len(back), len(limits), *limits.values()],
            )
        for _text in tries.taken & tries.wrong:
            _count_wrong(program)
    except redis.RedisError:
        logger.warning("wrong codes are not counted: Redis cannot be reached")


def _count_wrong(program: Program) -> None:
    """Count a wrong code for the program, and raise an alarm when there are too many."""
    WRONG_CODES.labels(program=program.code).inc()
    if not throttle.count(f"codes:{program.pk}", limit=FAILURES_PER_PROGRAM)[1]:
        return
    alarm = f"rate:codes:{program.pk}:alarm"
    if throttle.client().set(alarm, 1, nx=True, ex=ALARM_SECONDS):
        try:
            tell_of_guessing.delay(program_id=program.pk, wrong_codes=FAILURES_PER_PROGRAM)
        except OperationalError:
            throttle.client().delete(alarm)
            logger.warning("program %s: many wrong codes, and no worker can be told", program.code)
