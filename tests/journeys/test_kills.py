"""`kill -9` of the loading process and of a database backend: replaying again completes the job.

Nothing is lost and nothing is there twice: the report equals the brute-force calculation, the ledger verifies clean,
and each table has as many rows as after a replay that nobody disturbed.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest

from tests.journeys.killable import Cluster, Replay, durable_cluster, expected_report

KILLS = 10


@dataclass
class Undisturbed:
    """What a replay from beginning to end took and wrote."""

    cluster: Cluster
    seconds: float
    rows: Counter[str]
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    with durable_cluster(tmp_path_factory.mktemp("durable")) as cluster:
        before, seconds = cluster.count_rows(), 0.0
        with cluster.replaying("reference") as run:
            run.finish()
            seconds = run.elapsed()
        yield Undisturbed(cluster, seconds, cluster.count_rows() - before, expected_report())


def kill_process(world: Undisturbed, run: Replay) -> bool:
    """Kill the loading process."""
    run.process.kill()
    run.finish()
    return True


def kill_backend(world: Undisturbed, run: Replay) -> bool:
    """Kill the database process that serves the load and tell whether that was in time to break it."""
    if not world.cluster.kill_backend():
        return False
    said = run.finish()
    assert run.process.returncode == 1, said
    assert "to go on." in said.splitlines()[-1], said
    return True


def check_complete(world: Undisturbed, code: str, before: Counter[str]) -> None:
    """Replay again and compare: the report with the oracle's, the rows with those of the undisturbed replay."""
    assert world.cluster.replay(code) == world.expected
    assert world.cluster.count_rows() - before == world.rows


def test_killed_loads_are_completed_by_the_next(undisturbed: Undisturbed) -> None:
    before = undisturbed.cluster.count_rows()
    for kill, share in ((kill_process, 0.3), (kill_backend, 0.6)):
        with undisturbed.cluster.replaying("quick") as run:
            orders = int(share * undisturbed.rows["membership_order"])
            assert undisturbed.cluster.wait_for_orders(run, "quick", orders)
            assert kill(undisturbed, run)
    check_complete(undisturbed, "quick", before)


@pytest.mark.deep
@pytest.mark.parametrize("number", range(KILLS))
@pytest.mark.parametrize("kill", [kill_process, kill_backend])
def test_whenever_a_load_is_killed_the_next_completes_it(undisturbed: Undisturbed, kill: Any, number: int) -> None:
    before, code = undisturbed.cluster.count_rows(), f"{kill.__name__.replace('_', '-')}-{number}"
    fraction = (number + Random(number).random()) / KILLS
    with undisturbed.cluster.replaying(code) as run:
        was_broken = not run.wait(fraction * undisturbed.seconds) and kill(undisturbed, run)
    assert was_broken or fraction > 0.8
    check_complete(undisturbed, code, before)
