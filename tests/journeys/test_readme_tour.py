"""The README's five minutes with the API: every block pasted works, and answers what the README says it does."""

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.environment import PROJECT
from tests.journeys.service import running_service

ADDRESS = "http://127.0.0.1:8000"
BASH = shutil.which("bash") or "bash"
DEADLINE_SECONDS = 60.0
_SECTION = re.compile(r"^## Five minutes with the API$(.*?)^## ", re.MULTILINE | re.DOTALL)
_BLOCK = re.compile(r"^```(sh|json)$\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Days that depend on the day of the tour.
_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d{4}年\d{1,2}月\d{1,2}日")

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="the tour needs curl")


def _read_tour() -> tuple[str, list[tuple[str, Any]]]:
    """Return what sets the variables, and every command with the answer that is told."""
    section = _SECTION.search((PROJECT / "README.md").read_text(encoding="utf-8"))
    assert section is not None
    (first, variables), *blocks = _BLOCK.findall(section[1])
    assert first == "sh"
    assert [language for language, _ in blocks] == ["sh", "json"] * (len(blocks) // 2)
    texts = [text for _, text in blocks]
    return variables, [(command, json.loads(answer)) for command, answer in zip(texts[::2], texts[1::2], strict=True)]


@pytest.fixture
def terminal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """Where the tour is pasted: a directory with the key of a fresh program, and the address of its API."""
    folder = tmp_path_factory.mktemp("tour")
    with running_service(folder) as service:
        key = re.search(r"pnl_test_\S+", service.manage("api_key", "issue", "aurora", "--name", "tour"))
        assert key is not None
        (folder / ".data").mkdir()
        (folder / ".data" / "api-key").write_text(key[0])
        yield folder, f"http://127.0.0.1:{service.port}"


def _paste(folder: Path, text: str) -> Any:
    done = subprocess.run(
        [BASH, "-euo", "pipefail", "-c", text], cwd=folder, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, (text, done.stderr)
    return json.loads(done.stdout)


def _fits(told: Any, answer: Any) -> bool:
    """Tell whether an answer is what is told of it: keys and items may be left out, dates are of another day."""
    if isinstance(told, dict):
        return isinstance(answer, dict) and all(key in answer and _fits(told[key], answer[key]) for key in told)
    if isinstance(told, list):
        items = iter(answer)
        return all(any(_fits(one, item) for item in items) for one in told)
    if isinstance(told, str):
        return _DATE.sub("", told) == _DATE.sub("", answer)
    return bool(told == answer)


def test_every_command_of_the_tour_answers_what_the_readme_says_and_pasted_again_moves_nothing(
    terminal: tuple[Path, str],
) -> None:
    folder, address = terminal
    variables, steps = _read_tour()
    assert len(steps) >= 11
    assert {"members", "orders", "refunds", "events"} <= {
        found for step, _ in steps for found in re.findall(r"\w+", step)
    }
    for command, told in steps:
        text = (variables + command).replace(ADDRESS, address)
        answer = _paste(folder, text)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while "/events" in command and not _fits(told, answer) and time.monotonic() < deadline:
            time.sleep(0.5)  # "a few seconds later"
            answer = _paste(folder, text)
        assert _fits(told, answer), (command, answer)

    outcomes = []
    for command, _ in steps:
        if "-d" in command and not any(word in command for word in ("preview", "dry_run", "refunded_at")):
            answer = _paste(folder, (variables + command).replace(ADDRESS, address))
            outcomes.append((answer["outcome"], answer.get("balance", {}).get("available")))
    assert outcomes == [("repeated", None), ("repeated", None), ("recorded", 110)]


def test_an_answer_that_differs_from_the_readme_is_found() -> None:
    assert _fits({"a": [{"b": "on 2026-01-02"}]}, {"a": [{"c": 1}, {"b": "on 2027-11-12", "d": 2}], "e": 3})
    for answer in ({"a": 2}, {"b": 1}, {"a": [1]}):
        assert not _fits({"a": 1}, answer)
    assert not _fits([1, 2], [2, 1])
