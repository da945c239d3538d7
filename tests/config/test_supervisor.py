"""`manage.py run` from start to stop, as its user sees it."""

import http.cookiejar
import json
import re
import signal
import urllib.parse
import urllib.request
from pathlib import Path

from config import supervisor as supervising
from config.embedded import postgres, redis
from tests.config.installation import PROJECT, Installation, assert_gone, descendants, read_until

READY = "Ctrl-C stops everything"
# What it gives web, worker, beat and its two servers, one after the other, before it kills them.
PATIENCE_SECONDS = 3 * supervising.STOP_SECONDS + redis.STOP_SECONDS + postgres.STOP_SECONDS


def test_keeps_data_over_a_kill_and_leaves_nothing_behind(tmp_path: Path) -> None:
    shop = tmp_path / "a shop"
    shop.mkdir(mode=0o755)
    installation = Installation(shop / "data")
    modes = {path: path.stat().st_mode for path in (PROJECT, tmp_path, shop)}

    with installation.started("run", "--no-demo") as first:
        login = _login(read_until(first, READY))
        assert _can_log_in(installation.port, *login)
        _second_is_refused(installation)
        shared = installation.manage("shell", "-c", MAKE_USER)
        assert shared.returncode == 0, shared.stderr
        children = descendants(first)
        runtime = Path(json.loads((installation.data / "owner.json").read_text())["runtime"])
        assert {"postgres", "redis-server"} <= {child.name() for child in children}
        first.send_signal(signal.SIGKILL)
        assert_gone(children)
        assert runtime.exists()

    with installation.started("run", "--no-demo") as second:
        assert _login(read_until(second, READY)) == login
        assert not runtime.exists()
        found = installation.manage("shell", "-c", COUNT_USERS)
        assert found.stdout.strip().splitlines()[-1] == "2", found.stdout
        children = descendants(second)
        runtime = Path(json.loads((installation.data / "owner.json").read_text())["runtime"])
        second.send_signal(signal.SIGINT)
        assert second.wait(PATIENCE_SECONDS) == 0
        assert_gone(children)
        assert not runtime.exists()

    assert modes == {path: path.stat().st_mode for path in modes}
    assert [path.name for path in shop.iterdir()] == ["data"]


MAKE_USER = "from django.contrib.auth.models import User; User.objects.create(username='kept')"
COUNT_USERS = "from django.contrib.auth.models import User; print(User.objects.count())"


def test_brings_everything_down_when_a_child_dies(tmp_path: Path) -> None:
    installation = Installation(tmp_path / "data")
    with installation.started("run", "--no-demo") as supervisor:
        read_until(supervisor, "Running migrations")
        children = descendants(supervisor)
        next(child for child in children if child.name() == "redis-server").kill()
        assert "redis ended with code -9" in read_until(supervisor, "redis ended")
        assert supervisor.wait(PATIENCE_SECONDS) == 1
        assert_gone(children)


def _second_is_refused(installation: Installation) -> None:
    elsewhere = Installation(installation.data)
    result = elsewhere.manage("run", "--no-demo")
    assert result.returncode == 1
    assert re.fullmatch(
        r"perennial: The data directory .* is in use by `manage.py run` \(process \d+\): stop that first.\n",
        result.stderr,
    )


def _login(output: str) -> tuple[str, str]:
    found = re.search(r"user: +(\S+)\n +password: (\S+)\n", output)
    assert found, output
    return found[1], found[2]


def _can_log_in(port: int, user: str, password: str) -> bool:
    address = f"http://127.0.0.1:{port}/admin/login/?next=/admin/"
    cookies = http.cookiejar.CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    with browser.open(address) as page:
        assert page.status == 200
    token = next(cookie.value for cookie in cookies if cookie.name == "csrftoken")
    form = {"username": user, "password": password, "csrfmiddlewaretoken": token or ""}
    with browser.open(address, urllib.parse.urlencode(form).encode()) as page:
        return str(page.url).endswith("/admin/")
