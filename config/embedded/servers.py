"""Own the embedded servers for a while, or use those that another process of this installation owns."""

import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO

from config.embedded.account import service_account
from config.embedded.binaries import postgres_programs, redis_program
from config.embedded.child import Child, Spawner
from config.embedded.directory import DataDirectory, Owner, try_lock
from config.embedded.leftovers import clear_leftovers
from config.embedded.postgres import STOP_SECONDS as POSTGRES_STOP_SECONDS
from config.embedded.postgres import Cluster
from config.embedded.redis import STOP_SECONDS as REDIS_STOP_SECONDS
from config.embedded.redis import Store
from config.embedded.runtime import runtime_directory
from config.failure import StartError
from config.server_urls import check_postgres, check_redis

# A command that finds an owner which is still starting waits this long for its URLs.
OWNER_SECONDS = 60.0


@dataclass(frozen=True)
class Request:
    """What a process wants of the servers of one data directory."""

    data: Path
    command: str
    # Given URLs are used as they are; an empty one asks for an embedded server.
    database_url: str = ""
    redis_url: str = ""
    durable: bool = True
    postgres_major: int = 18


@dataclass(frozen=True)
class ServerUrls:
    """The servers to use."""

    database: str
    redis: str


@dataclass(frozen=True)
class OwnServers(ServerUrls):
    """Servers that run here as `children`, and what starts more beside them."""

    children: tuple[Child, ...]
    spawner: Spawner


@contextmanager
def own_servers(request: Request) -> Iterator[OwnServers]:
    """Start what no URL was given for, for this process first: when it ends, so do all who share its servers.

    Raises: StartError, also when another process uses the data directory.
    """
    _check_given(request)
    directory = DataDirectory(request.data)
    directory.prepare()
    with ExitStack() as stack:
        if not try_lock(stack.enter_context(directory.open_lock("owner"))):
            raise _in_use(directory)
        yield _own(stack, directory, request)


@contextmanager
def use_servers(request: Request) -> Iterator[ServerUrls]:
    """Give the URLs of both servers; one that is not given is shared by a running owner, or else started here.

    Raises: StartError.
    """
    _check_given(request)
    if request.database_url and request.redis_url:
        yield ServerUrls(request.database_url, request.redis_url)
        return
    directory = DataDirectory(request.data)
    directory.prepare()
    with ExitStack() as stack:
        owner_lock = stack.enter_context(directory.open_lock("owner"))
        users_lock = stack.enter_context(directory.open_lock("users"))
        urls = None if try_lock(owner_lock) else _share(directory, owner_lock, users_lock)
        if urls is None:
            urls = _own(stack, directory, request)
            # Let other commands that use these servers end first, and no new one begin.
            stack.callback(fcntl.flock, users_lock, fcntl.LOCK_EX)
        yield urls


def _check_given(request: Request) -> None:
    if request.database_url:
        check_postgres(request.database_url)
    if request.redis_url:
        check_redis(request.redis_url)


def _share(directory: DataDirectory, owner_lock: IO[str], users_lock: IO[str]) -> ServerUrls | None:
    """Wait for a running owner's URLs; return None when it has gone and this process holds the owner lock."""
    deadline = time.monotonic() + OWNER_SECONDS
    while not try_lock(owner_lock):
        # The shared lock keeps the owner from stopping; while it is stopping, the lock is not to be had.
        if try_lock(users_lock, shared=True):
            owner = directory.read_owner()
            if owner is not None and owner.database_url:
                check_postgres(owner.database_url)
                return ServerUrls(owner.database_url, owner.redis_url)
            fcntl.flock(users_lock, fcntl.LOCK_UN)
        if time.monotonic() > deadline:
            raise _in_use(directory)
        time.sleep(0.05)
    return None


def _own(stack: ExitStack, directory: DataDirectory, request: Request) -> OwnServers:
    """Start what is embedded; what is pushed on the stack undoes it in reverse order."""
    alive = stack.enter_context(directory.open_lock("alive"))
    clear_leftovers(directory, alive)
    stack.callback(directory.forget_owner)
    runtime = stack.enter_context(runtime_directory(service_account(directory.cluster(request.postgres_major))))
    owner = Owner(pid=os.getpid(), command=request.command, runtime=str(runtime))
    directory.write_owner(owner)
    spawner = Spawner(directory, alive.fileno())
    urls = _start(stack, request, runtime, spawner)
    directory.write_owner(replace(owner, database_url=urls.database, redis_url=urls.redis))
    return urls


def _start(stack: ExitStack, request: Request, runtime: Path, spawner: Spawner) -> OwnServers:
    """Start both servers, then wait for both: each takes a part of a second."""
    directory, major = spawner.directory, request.postgres_major
    account = service_account(directory.cluster(major))
    waits: list[Callable[[], None]] = []
    children: list[Child] = []
    database, memory = request.database_url, request.redis_url
    if not database:
        cluster = Cluster(directory.cluster(major), postgres_programs(major, runtime, account), runtime, account, major)
        child = cluster.start(spawner, durable=request.durable)
        stack.callback(child.stop, patience_seconds=POSTGRES_STOP_SECONDS)
        children.append(child)
        waits.append(partial(cluster.wait_until_ready, child))
        database = cluster.url
    if not memory:
        store = Store(directory.path / "redis", redis_program(runtime, account), runtime, account)
        child = store.start(spawner)
        stack.callback(child.stop, patience_seconds=REDIS_STOP_SECONDS)
        children.append(child)
        waits.append(partial(store.wait_until_ready, child))
        memory = store.url
    stack.callback(ignore_signals)
    for wait in waits:
        wait()
    return OwnServers(database, memory, tuple(children), spawner)


def ignore_signals() -> None:
    """Keep a second Ctrl-C from breaking the ordered stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _in_use(directory: DataDirectory) -> StartError:
    owner = directory.read_owner()
    by = f"`{owner.command}` (process {owner.pid})" if owner else "another process"
    return StartError(f"The data directory {directory.path} is in use by {by}: stop that first.")
