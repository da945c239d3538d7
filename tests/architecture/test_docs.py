"""What the documentation says exists: its links, the files and functions it names, the locks; ADRs have one shape."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = sorted(path for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith("."))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in folder.rglob("*.md"))])
ADRS = sorted((ROOT / "docs" / "adr").glob("*.md"))
SQL_SOURCES = sorted(
    path
    for app in ("core", "membership", "coupons", "points", "referrals", "analytics", "storefront")
    for path in (ROOT / app).rglob("*")
    if path.suffix in {".py", ".sql"}
)
TOP = {path.name for path in FOLDERS} | {".ci"}
SUFFIXES = (".py", ".sql", ".md", ".yaml", ".toml", ".lock", ".txt", ".gz")
ELSEWHERE = ("http://", "https://", "mailto:")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"`([^`\n]+)`")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+ +(.*)$", re.MULTILINE)


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def find_broken_links(page: Path, text: str) -> list[str]:
    """Return the relative links that lead to no file, or to no heading of it."""
    return [link for link in LINK.findall(text) if not link.startswith(ELSEWHERE) and not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.parent / name if name else page
    return target.exists() and (not anchor or anchor in _anchors(target))


def _anchors(page: Path) -> set[str]:
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_missing_names(text: str) -> list[str]:
    """Return the files named in backticks that do not exist, and the names that `file::name` does not find in one."""
    return [token for token in CODE.findall(FENCE.sub("", text)) if not _exists(token)]


def _exists(token: str) -> bool:
    name, _, inner = token.partition("::")
    if re.search(r"[\s<>*]", token) or "/" not in name or not _looks_like_a_path(name):
        return True
    target = ROOT / name
    return target.exists() and (not inner or _defines(target.read_text(encoding="utf-8"), inner))


def _looks_like_a_path(name: str) -> bool:
    return name.partition("/")[0] in TOP or name.endswith(SUFFIXES)


def _defines(source: str, name: str) -> bool:
    return bool(re.search(rf"^ *(def|class|CREATE FUNCTION) {name}\b|^{name}\b.* = ", source, re.MULTILINE))


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/architecture.md", "docs/concurrency.md"} <= {_id(page) for page in DOCUMENTS}


@pytest.mark.parametrize("page", DOCUMENTS, ids=_id)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    assert find_broken_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", DOCUMENTS, ids=_id)
def test_every_file_and_function_named_exists(page: Path) -> None:
    assert find_missing_names(page.read_text(encoding="utf-8")) == []


def test_what_does_not_exist_is_found() -> None:
    """The control for the two tests above."""
    page = ROOT / "README.md"
    links = "[a](docs/settings.md) [b](docs/setings.md) [c](#start) [d](#stop) [e](https://example.org/x)"
    assert find_broken_links(page, links) == ["docs/setings.md", "#stop"]
    names = (
        "`core/locks.py::lock_row` `core/locks.py::lock_raw` `cor/locks.py` `core/sql/` `core/sqls/` `a / b` `locks.py`"
    )
    assert find_missing_names(names) == ["core/locks.py::lock_raw", "cor/locks.py", "core/sqls/"]


def test_every_lock_is_documented() -> None:
    told = (ROOT / "docs" / "concurrency.md").read_text(encoding="utf-8")
    locks = [
        f"{_id(path)}::{node.name}"
        for path in SQL_SOURCES
        if path.name == "locks.py"
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    ]
    functions = [
        f"{_id(path)}::{body.partition('(')[0]}"
        for path in SQL_SOURCES
        if path.suffix == ".sql"
        for body in path.read_text(encoding="utf-8").split("CREATE FUNCTION ")[1:]
        if "FOR NO KEY UPDATE" in body
    ]
    assert len(locks) > 5
    assert len(functions) > 2
    assert [name for name in [*locks, *functions] if f"`{name}`" not in told] == []


def test_sql_converts_no_time_zone() -> None:
    """docs/adr/0005: core/calendar.py alone knows zones."""
    wrong = re.compile(r"\bAT\s+TIME\s+ZONE\b|\bSET\s+(LOCAL\s+)?TIME\s*ZONE\b", re.IGNORECASE)
    assert wrong.search("paid_at at time zone 'UTC'")
    assert [_id(path) for path in SQL_SOURCES if wrong.search(path.read_text(encoding="utf-8"))] == []


def test_decisions_are_numbered_without_a_gap() -> None:
    assert [int(path.name[:4]) for path in ADRS] == list(range(1, len(ADRS) + 1))


@pytest.mark.parametrize("path", ADRS, ids=_id)
def test_a_decision_has_context_decision_and_rejected(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.startswith(f"# {path.name[:4]}: ")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "Rejected"]
