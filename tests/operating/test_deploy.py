"""deploy/ is documentation that is checked: it can be read, starts what the supervisor starts, and sets what exists."""

import configparser
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from config import supervisor

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
DOCUMENTED = set(re.findall(r"^\| `([A-Z_]+)`", (ROOT / "docs" / "settings.md").read_text(), re.MULTILINE))
EXPECTED = {"web": supervisor.WEB, "worker": supervisor.WORKER, "beat": supervisor.BEAT}


def normal(command: str | list[str]) -> set[str]:
    """Return a command's words; `--name value` and `--name=value` are the same."""
    words = command if isinstance(command, list) else command.split()
    joined = re.sub(r" (--[a-z-]+) (?!-)(?=\S)", r" \1=", " ".join(words))
    return {word for word in joined.split() if not word.startswith(("--bind", "--schedule"))}


def read_compose() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return services


def test_compose_names_every_part() -> None:
    services = read_compose()
    assert set(services) == {"database", "redis", "setup", "web", "worker", "beat"}
    for name, expected in EXPECTED.items():
        assert normal(services[name]["command"]) == normal(expected), name
    for service in services.values():
        for need in service.get("depends_on", {}):
            assert need in services


def test_compose_sets_only_variables_that_exist() -> None:
    own = [service for name, service in read_compose().items() if name not in {"database", "redis"}]
    assert {variable for service in own for variable in service["environment"]} <= DOCUMENTED


def test_web_processes_add_up_their_histograms() -> None:
    """Otherwise each scrape is answered by one of them, with its own counts."""
    web = read_compose()["web"]
    directory = web["environment"]["PROMETHEUS_MULTIPROC_DIR"]
    assert [place.partition(":")[0] for place in web["tmpfs"]] == [directory]
    for name in ("web", "worker"):
        unit = (DEPLOY / "systemd" / f"perennial-{name}.service").read_text()
        assert {"RuntimeDirectory=perennial", "PROMETHEUS_MULTIPROC_DIR=/run/perennial"} <= set(
            unit.replace("Environment=", "").split()
        )


def test_the_application_does_not_connect_as_the_owner() -> None:
    services = read_compose()
    owners = [
        name
        for name, service in services.items()
        if "//owner:" in service.get("environment", {}).get("DATABASE_URL", "")
    ]
    assert owners == ["setup"]


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
def test_units_start_what_the_supervisor_starts(path: Path) -> None:
    unit = configparser.RawConfigParser(strict=True)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(path)
    command = unit["Service"]["ExecStart"].removeprefix("/opt/perennial/.venv/bin/")
    assert normal(command) == normal(EXPECTED[path.stem.removeprefix("perennial-")])
    target = (DEPLOY / "systemd" / "perennial.target").read_text()
    assert path.name in target


def test_the_example_environment_sets_only_variables_that_exist() -> None:
    text = (DEPLOY / "systemd" / "environment.example").read_text()
    names = re.findall(r"^([A-Z_]+)=", text, re.MULTILINE)
    assert len(names) > 5
    assert set(names) <= DOCUMENTED


def test_the_image_installs_what_is_locked_and_role_script_is_a_shell_script() -> None:
    assert "--require-hashes --requirement requirements.lock" in (DEPLOY / "Dockerfile").read_text()
    outcome = subprocess.run(["/bin/sh", "-n", str(DEPLOY / "create_role.sh")], capture_output=True, check=False)
    assert (outcome.returncode, outcome.stderr) == (0, b"")
