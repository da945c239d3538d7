"""A ladder is published and a key issued in a browser, at a desk and on a phone."""

import re

import pytest

from core.models import ApiKey, Program
from core.services import api_keys
from membership.models import Ladder
from tests.browser.conftest import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


def test_a_ladder_is_drafted_and_published(shop: Program, visitor: Visitor) -> None:
    ladder, page = Ladder.objects.get(), visitor.page
    visitor.log_in("olivia")
    visitor.visit(f"/admin/membership/ladder/{ladder.pk}/change/")
    visitor.photograph("ladder")
    visitor.visit(f"/admin/membership/ladder/{ladder.pk}/new-draft/")
    text = page.input_value("textarea[name=text]")
    page.fill("textarea[name=text]", text.replace('"300.00"', '"400.00"').replace("upgrade: immediate", "upgrade: now"))
    page.click("button[value=save]")
    page.wait_for_selector("text=ladder.upgrade: must be")
    visitor.photograph("draft-refused")
    page.fill("textarea[name=text]", text.replace('"300.00"', '"400.00"'))
    page.click("button[value=compare]")
    page.wait_for_selector("text=300.00 -> 400.00")
    page.click("button[value=save]")
    page.wait_for_selector("text=The draft is saved.")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("draft")
    page.click("text=Publish saved draft")
    page.wait_for_selector("text=members are on this ladder")
    visitor.photograph("publish")
    page.fill("textarea[name=reason]", "gold was too easy")
    page.click("button:has-text('Publish')")
    page.wait_for_selector("text=Version 2 is published and in force.")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("published")
    assert ladder.versions.get(status="published").number == 2


def test_a_key_is_issued_and_read_once(shop: Program, visitor: Visitor) -> None:
    page = visitor.page
    visitor.log_in("olivia")
    visitor.visit("/admin/core/apikey/issue/")
    page.select_option("select[name=program]", label="shop")
    page.fill("input[name=name]", "shop server")
    page.check("input[value='members:read']")
    page.fill("textarea[name=reason]", "launch")
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("issue-key")
    page.click("button:has-text('Issue key')")
    text = page.inner_text("#secret")
    assert re.fullmatch(r"pnl_live_\w{12}\.[\w-]+", text)
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("key")
    found = api_keys.find(text)
    assert found is not None
    assert found.id == ApiKey.objects.get().pk
    page.click("text=Done")
    assert text not in page.content()
    visitor.photograph("key-page")


def test_lists_read_well_in_chinese(shop: Program, visitor: Visitor) -> None:
    visitor.log_in("olivia")
    visitor.visit("/admin/core/auditentry/")
    visitor.photograph("audit")
    page = visitor.page
    page.evaluate(
        """async () => {
            const token = document.querySelector('[name=csrfmiddlewaretoken]').value;
            await fetch('/language/', {method: 'POST', headers: {'X-CSRFToken': token},
                body: new URLSearchParams({language: 'zh-hans'})});
        }"""
    )
    visitor.visit("/admin/core/auditentry/")
    assert "审计日志" in page.content()
    assert visitor.is_as_wide_as_the_window()
    visitor.photograph("audit-chinese")
    visitor.visit(f"/admin/membership/ladder/{Ladder.objects.get().pk}/new-draft/")
    visitor.photograph("draft-chinese")
