"""A real browser before a live server: Debian's Chromium, a fresh profile for each test, no other host."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.management import call_command
from playwright.sync_api import Browser, Page, sync_playwright

from analytics.services import wallet_days
from core.models import Program
from tests.storefront.operators import NOW, make_shop

NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
PASSWORD = "correct horse battery staple"


def find_chromium() -> str:
    """Return the browser named by PERENNIAL_CHROMIUM, or the first on the path; empty if there is none."""
    named = os.environ.get("PERENNIAL_CHROMIUM", "")
    found = (path for name in NAMES if (path := shutil.which(name)))
    return named or next(found, "")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find_chromium()
    assert path, "no Chromium: apt-get install chromium, or name it with PERENNIAL_CHROMIUM"
    # Playwright keeps an event loop running in this thread, in which Django would refuse to touch the database.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture(scope="session")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures of the pages go: PERENNIAL_SCREENSHOTS, else a directory that pytest keeps for a while."""
    named = os.environ.get("PERENNIAL_SCREENSHOTS")
    place = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    place.mkdir(parents=True, exist_ok=True)
    return place


class Visitor:
    """A browser window. It remembers which other hosts its pages asked for, and what went wrong in them."""

    def __init__(self, page: Page, base: str, screenshots: Path) -> None:
        self.page, self.base, self.screenshots = page, base, screenshots
        self.foreign: list[str] = []
        self.errors: list[str] = []
        page.on("request", self._note_request)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("response", self._note_response)

    def _note_request(self, request: Any) -> None:
        if urlsplit(request.url).scheme != "data" and not request.url.startswith(f"{self.base}/"):
            self.foreign.append(request.url)

    def _note_response(self, response: Any) -> None:
        if response.status >= 400:
            self.errors.append(f"{response.status} {response.url}")

    def visit(self, path: str) -> None:
        self.page.goto(f"{self.base}{path}", wait_until="load")

    def log_in(self, name: str) -> None:
        self.visit("/admin/login/?next=/admin/")
        self.page.fill("[name=username]", name)
        self.page.fill("[name=password]", PASSWORD)
        self.page.click("[type=submit]")
        self.page.wait_for_url(f"{self.base}/admin/")

    def photograph(self, name: str) -> None:
        size = self.page.viewport_size
        width = size["width"] if size else 0
        self.page.screenshot(path=self.screenshots / f"{name}-{width}.png", full_page=True)

    def is_as_wide_as_the_window(self) -> bool:
        """Tell whether the page itself does not scroll sideways."""
        found: bool = self.page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
        return found


@pytest.fixture(params=[1400, 400])
def visitor(request: pytest.FixtureRequest, browser: Browser, live_server: Any, screenshots: Path) -> Iterator[Visitor]:
    """A fresh profile, at a desk and on a phone; afterwards nothing foreign was asked for and nothing broke."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, locale="en-US")
    context.set_default_timeout(20_000)
    visitor = Visitor(context.new_page(), live_server.url, screenshots)
    yield visitor
    context.close()
    assert visitor.foreign == []
    assert visitor.errors == []


@pytest.fixture(scope="session", autouse=True)
def _static_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Serve what `collectstatic` collects, as in production."""
    from django.conf import settings  # noqa: PLC0415 after the settings' environment

    settings.STATIC_ROOT, before = tmp_path_factory.mktemp("static"), settings.STATIC_ROOT
    call_command("collectstatic", "--noinput", verbosity=0)
    yield
    settings.STATIC_ROOT = before


@pytest.fixture
def shop(transactional_db: None, tmp_path: Path) -> Program:
    cache.clear()
    program = make_shop(tmp_path)
    wallet_days.refresh(program=program, at=NOW)
    User.objects.create_superuser("olivia", password=PASSWORD)
    return program
