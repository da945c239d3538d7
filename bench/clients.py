"""Run the same work in processes of our own, in pgbench and in psql."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from time import perf_counter
from typing import Any

from django.db import connections

from config.embedded.binaries import INSTALLATIONS, WHEEL
from config.failure import StartError

# Makes what a client repeats, once it has a process of its own; the number tells the clients apart.
Maker = Callable[[int], Callable[[], object]]
PATIENCE_SECONDS = 3_600


def program(name: str) -> str:
    """Return the path of one of PostgreSQL's client programs: the embedded server's own, else the PATH's.

    Raises: StartError where there is none.
    """
    wheel = find_spec(WHEEL)
    if wheel is not None and wheel.submodule_search_locations:
        path = Path(wheel.submodule_search_locations[0]) / INSTALLATIONS[18] / "bin" / name
        if path.exists():
            return str(path)
    found = shutil.which(name)
    if found is None:
        raise StartError(f"There is no {name} here: install PostgreSQL's client programs.")
    return found


def rate(processes: int, seconds: float, make: Maker) -> float:
    """Return how many repetitions a second all processes together reach."""
    context = get_context("fork")
    start, results = context.Barrier(processes), context.Queue()
    connections.close_all()
    clients = [
        context.Process(target=_client, args=(make, number, seconds, start, results)) for number in range(processes)
    ]
    for client in clients:
        client.start()
    rates = [results.get(timeout=PATIENCE_SECONDS) for _ in clients]
    for client in clients:
        client.join()
    return float(sum(rates))


def _client(make: Maker, number: int, seconds: float, start: Barrier, results: "Queue[float]") -> None:
    repeat = make(number)
    # The first one connects and loads what is cached per connection.
    repeat()
    start.wait()
    count, began = 0, perf_counter()
    while (now := perf_counter()) - began < seconds:
        repeat()
        count += 1
    results.put(count / (now - began))


def elapsed(processes: int, work: Callable[[int], object]) -> float:
    """Return the seconds until all processes have done their part."""
    context = get_context("fork")
    connections.close_all()
    workers = [context.Process(target=work, args=(number,)) for number in range(processes)]
    began = perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        if worker.exitcode:
            raise RuntimeError(f"a worker ended with {worker.exitcode}")
    return perf_counter() - began


def pgbench(script: Path, *, clients: int, seconds: float, variables: dict[str, Any]) -> float:
    """Return the transactions a second that pgbench reaches with a script, in the protocol that psycopg2 speaks."""
    defined = [f"--define={name}={value}" for name, value in variables.items()]
    count = str(clients)
    done = subprocess.run(
        [program("pgbench"), "--no-vacuum", "--protocol=simple", f"--client={count}", f"--jobs={count}",
         f"--time={max(1, round(seconds))}", f"--file={script}", *defined, os.environ["DATABASE_URL"]],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = re.search(r"tps = ([\d.]+) \(without initial connection time\)", done.stdout)
    if done.returncode or found is None:
        raise RuntimeError(f"pgbench: {done.stderr or done.stdout}")
    return float(found[1])


def psql(scripts: Sequence[str]) -> float:
    """Run each text in a psql of its own, all at once, and return the seconds until the last one ended."""
    command = [
        program("psql"),
        "--no-psqlrc",
        "--quiet",
        "--tuples-only",
        "--set=ON_ERROR_STOP=1",
        "--output=/dev/null",
    ]
    began = perf_counter()
    running = [
        subprocess.Popen(
            [*command, os.environ["DATABASE_URL"]], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in scripts
    ]
    for process, script in zip(running, scripts, strict=True):
        assert process.stdin is not None  # noqa: S101
        process.stdin.write(script)
        process.stdin.close()
    for process in running:
        assert process.stderr is not None  # noqa: S101
        complaint = process.stderr.read()
        if process.wait():
            raise RuntimeError(f"psql: {complaint}")
    return perf_counter() - began
