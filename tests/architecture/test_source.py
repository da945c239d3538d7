"""What holds for every source file: its size, its name, no clock in the domain, locks in one place."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
APPS = ("core", "membership", "coupons", "points", "referrals", "analytics", "storefront")
SOURCE = sorted(
    path
    for folder in (*APPS, "config", "tests", "bench")
    for path in (ROOT / folder).rglob("*.py")
    if "migrations" not in path.parts
)
# The interfaces of an app may ask what time it is; they hand it on as `at`.
INTERFACES = {"tasks.py", "admin.py", "apps.py"}
DOMAIN = [
    path
    for path in SOURCE
    if path.relative_to(ROOT).parts[0] in APPS
    and path.name not in INTERFACES
    and not {"management", "api", "admin"} & set(path.relative_to(ROOT).parts)
]
GRAB_BAGS = {"utils", "helpers", "common", "managers", "misc"}
CLOCKS = {"now", "utcnow", "today", "localtime", "monotonic", "time_ns"}
LONGEST = 400


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_the_files_are_found() -> None:
    assert {"core/services/outbox.py", "config/settings.py"} <= {_id(path) for path in SOURCE}
    assert "core/versions.py" in {_id(path) for path in DOMAIN}


@pytest.mark.parametrize("path", SOURCE, ids=_id)
def test_no_file_outgrows_its_topic(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LONGEST or path.name == "models.py", f"{lines} lines: make it a package by topic"


def test_no_file_is_a_grab_bag() -> None:
    assert [_id(path) for path in SOURCE if {*path.with_suffix("").parts} & GRAB_BAGS] == []


@pytest.mark.parametrize("path", DOMAIN, ids=_id)
def test_the_domain_has_no_clock(path: Path) -> None:
    found = [
        f"line {node.lineno}: {ast.unparse(node)}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _called(node) in CLOCKS and _owner(node) in _CLOCK_OWNERS
    ]
    assert found == []


_CLOCK_OWNERS = {"datetime", "datetime.datetime", "date", "datetime.date", "timezone", "time", "django.utils.timezone"}


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else ""


def _owner(call: ast.Call) -> str:
    return ast.unparse(call.func.value) if isinstance(call.func, ast.Attribute) else ""


@pytest.mark.parametrize("path", DOMAIN, ids=_id)
def test_the_domain_imports_no_bare_clock(path: Path) -> None:
    """`from django.utils.timezone import now` would slip past the test above."""
    found = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom) and {alias.name for alias in node.names} & CLOCKS
    ]
    assert found == []


@pytest.mark.parametrize("path", [path for path in DOMAIN if path.name != "locks.py"], ids=_id)
def test_rows_are_locked_in_locks_alone(path: Path) -> None:
    calls = [
        f"line {node.lineno}"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and _called(node) == "select_for_update"
    ]
    assert calls == []


# What counts activities leaves out those that are void; the rest names, lists or takes back what void ones earned.
COUNTS_ACTIVITIES = {
    "membership/qualification.py",
    "membership/services/fact_corrections.py",
    "membership/services/past_changes.py",
    "membership/services/rebuild.py",
    "membership/services/walk.py",
    "membership/stories.py",
    "points/services/daily_pay.py",
    "points/services/earning.py",
}
SHOWS_ACTIVITIES = {
    "membership/admin/__init__.py",
    "membership/locks.py",
    "membership/models/__init__.py",
    "membership/services/activities.py",
    "points/admin/__init__.py",
    "points/earned_stories.py",
    "points/services/corrections.py",
    "points/statement.py",
    "storefront/admin/member_page.py",
    "storefront/admin/timeline.py",
    "storefront/api/activities.py",
    "storefront/api/answers.py",
    "storefront/api/corrections.py",
    "storefront/selectors.py",
    "storefront/services/announcements.py",
    "storefront/services/fact_news.py",
    "storefront/services/posting_news.py",
}


def _reads_activities(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    imported = (
        alias.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("membership.models")
        for alias in node.names
    )
    return "membership_activity" in text or "Activity" in imported


def test_activities_are_read_where_void_ones_are_thought_of() -> None:
    readers = {_id(path) for path in SOURCE if path.relative_to(ROOT).parts[0] in APPS and _reads_activities(path)}
    assert readers == COUNTS_ACTIVITIES | SHOWS_ACTIVITIES
    unaware = {name for name in COUNTS_ACTIVITIES if "voided_at" not in (ROOT / name).read_text(encoding="utf-8")}
    assert unaware == set()


def test_no_app_imports_the_configuration_or_a_higher_layer() -> None:
    """import-linter checks this too; here it also covers imports inside functions."""
    wrong = []
    for path in SOURCE:
        app = path.relative_to(ROOT).parts[0]
        if app not in APPS:
            continue
        forbidden = {"config", "tests", *APPS[APPS.index(app) + 1 :]}
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            wrong += [f"{_id(path)}: {name}" for name in names if name.split(".", maxsplit=1)[0] in forbidden]
    assert wrong == []
