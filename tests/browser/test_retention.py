"""The page Retention in a browser, at a desk and on a phone, in light and in dark."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.urls import reverse

from core.models import Program
from tests.analytics.customers import bought, open_shop, refresh, tell
from tests.browser.conftest import PASSWORD, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

DAY = timedelta(days=1)
START = datetime(2025, 1, 3, 12, tzinfo=UTC)
PAGE = "admin:analytics_retentionstate_changelist"


@pytest.fixture
def shop(transactional_db: None, tmp_path: Path) -> Program:
    """A year of a hundred and twenty customers who buy more or less often, and a late fact."""
    cache.clear()
    program = open_shop(tmp_path)
    markets = [{"market": "uk", "country": "GB", "channel": "web"}, {"market": "eu", "country": "DE", "channel": "app"}]
    orders = [
        bought(f"o{n}.{k}", f"m{n}", START + (n * 3 + k * (9 + n % 50)) * DAY, 2_000 + 900 * (n % 9), **markets[n % 2])
        for n in range(120)
        for k in range(1 + n % 7)
        if n * 3 + k * (9 + n % 50) < 480
    ]
    tell(program, [replace(one, member=one.member) for one in orders])
    refresh(program, START + 490 * DAY)
    tell(program, [bought("late", "m3", START + 60 * DAY)])
    refresh(program, START + 491 * DAY)
    User.objects.create_superuser("olivia", password=PASSWORD)
    return program


def test_the_page_shows_charts_beside_tables(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    page = visitor.page
    visitor.visit(reverse(PAGE))
    for chart in page.locator("[data-chart]").all():
        assert chart.locator("svg").count() == 1
        assert chart.locator("svg path").count() > 3
    assert page.locator(".rt-hatched").count() > 5, "what is not over is visibly empty"
    assert page.get_by_text("Restatements").is_visible()
    assert page.locator(".rt-said").first.inner_text().startswith("Of ")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("retention")
    page.evaluate("document.documentElement.classList.add('dark')")
    dark = "getComputedStyle(document.querySelector('.rt-card')).backgroundColor !== 'rgb(255, 255, 255)'"
    page.wait_for_function(dark)
    page.wait_for_timeout(300)  # the charts follow at the next frame, or the one after
    visitor.photograph("retention-dark")


def test_filters_narrow_what_is_shown(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    page = visitor.page
    visitor.visit(reverse(PAGE))
    before = page.locator(".rt-said").all_inner_texts()
    page.select_option("[name=market]", "eu")
    page.get_by_role("button", name="Show").click()
    page.wait_for_url("**market=eu**")
    after = page.locator(".rt-said").all_inner_texts()
    assert before[2] != after[2]
    assert page.locator("[name=market]").input_value() == "eu"


def test_the_page_works_under_a_strict_policy(shop: Program, visitor: Visitor) -> None:
    """The charts need neither eval nor inline scripts: with both forbidden they are drawn all the same."""
    visitor.log_in("olivia")

    def forbid(route: object) -> None:
        response = route.fetch()  # type: ignore[attr-defined]
        policy = "script-src 'self'; object-src 'none'"
        route.fulfill(response=response, headers={**response.headers, "content-security-policy": policy})  # type: ignore[attr-defined]

    visitor.page.route(f"**{reverse(PAGE)}", forbid)
    visitor.visit(reverse(PAGE))
    visitor.page.locator("[data-chart=sankey] svg path").first.wait_for(state="attached")
    assert visitor.page.locator("[data-chart] svg").count() == 4
    visitor.errors.clear()  # the theme's own scripts want more than this policy grants
