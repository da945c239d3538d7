"""Drafts in the admin: written, compared, published, rebased and discarded through the pages."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.models import AuditEntry, Program
from core.services import drafts
from membership.models import Ladder
from points.models import EarnRule, Wallet
from storefront.services import program_file
from tests.storefront.operators import log_in, make_operator
from tests.storefront.program_files import load_small


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return program_file.apply(load_small(tmp_path), at=timezone.now(), actor="file")


@pytest.fixture
def mia(program: Program) -> Client:
    rights = ("membership.view_ladder", "membership.view_ladderversion", "points.view_wallet", "points.view_earnrule")
    return log_in(make_operator("mia", *rights, "core.draft_version", "core.publish_version"))


def page(row: Any, name: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])


def form_of(client: Client, url: str) -> dict[str, str]:
    """The fields that a page's form begins with."""
    response = client.get(url)
    assert response.status_code == 200
    return {field.html_name: field.value() or "" for field in response.context["form"]}


def save(client: Client, row: Any, old: str, new: str) -> Any:
    form = form_of(client, page(row, "edit_draft"))
    assert old in form["text"]
    return client.post(page(row, "edit_draft"), form | {"text": form["text"].replace(old, new), "do": "save"})


def messages(client: Client, row: Any) -> str:
    return client.get(page(row, "change")).content.decode()


def test_a_ladder_is_drafted_compared_and_published(program: Program, mia: Client) -> None:
    ladder = Ladder.objects.get()
    overview = mia.get(page(ladder, "change")).content.decode()
    assert page(ladder, "new_draft") in overview
    assert page(ladder, "publish_draft") not in overview

    form = form_of(mia, page(ladder, "new_draft"))
    text = form["text"].replace("250.00", "300.00")
    compared = mia.post(page(ladder, "new_draft"), form | {"text": text, "do": "compare"})
    line = "tiers[gold].entry.any_of[0].all_of[0].at_least: 250.00 -&gt; 300.00"
    assert line in compared.content.decode()
    assert drafts.find_draft(ladder) is None

    saved = mia.post(page(ladder, "new_draft"), form | {"text": text, "do": "save"})
    assert saved["Location"] == page(ladder, "edit_draft")
    assert page(ladder, "edit_draft") in mia.get(page(ladder, "change")).content.decode()

    asked = mia.get(page(ladder, "publish_draft"))
    assert line in asked.content.decode()
    assert "0 members are on this ladder." in asked.content.decode()
    form = form_of(mia, page(ladder, "publish_draft"))
    assert mia.post(page(ladder, "publish_draft"), form).context["form"].errors == {
        "reason": ["This field is required."]
    }
    assert ladder.versions.filter(status="published").get().number == 1

    done = mia.post(page(ladder, "publish_draft"), form | {"reason": "gold was too easy"})
    assert done["Location"] == page(ladder, "change")
    assert list(ladder.versions.values_list("number", "status")) == [(1, "retired"), (2, "published")]
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.reason, entry.user) == ("ladder.changed", "gold was too easy", User.objects.get())
    assert "Version 2 is published and in force." in messages(mia, ladder)


def test_every_mistake_is_shown_with_the_text_as_it_was(program: Program, mia: Client) -> None:
    wallet = Wallet.objects.get()
    text = "expiry_days: never\nclawback: maybe\ncolour: red"
    answer = mia.post(page(wallet, "edit_draft"), {"seen": "", "text": text, "do": "save"})
    shown = answer.content.decode()
    for path in ("wallet.expiry_days: ", "wallet.clawback: ", "wallet.colour: is an unknown key"):
        assert path in shown
    assert "expiry_days: never" in shown
    assert drafts.find_draft(wallet) is None


def test_any_version_can_be_the_beginning(program: Program, mia: Client) -> None:
    wallet = Wallet.objects.get()
    save(mia, wallet, "365", "730")
    mia.post(page(wallet, "publish_draft"), form_of(mia, page(wallet, "publish_draft")) | {"reason": "x"})
    assert "expiry_days: 730" in form_of(mia, page(wallet, "new_draft"))["text"]
    assert "expiry_days: 365" in form_of(mia, page(wallet, "new_draft") + "?from=1")["text"]
    assert "expiry_days: 730" in form_of(mia, page(wallet, "new_draft") + "?from=99x")["text"]


def test_a_stale_draft_is_shown_and_rebased(program: Program, mia: Client, tmp_path: Path) -> None:
    wallet = Wallet.objects.get()
    save(mia, wallet, "365", "730")
    program_file.apply(load_small(tmp_path, ("expiry_days: 365", "expiry_days: 100")), at=timezone.now(), actor="file")
    shown = mia.get(page(wallet, "edit_draft")).content.decode()
    assert "Rebase draft" in shown
    assert "Save draft" not in shown
    form = form_of(mia, page(wallet, "publish_draft")) | {"reason": "x"}
    refused = mia.post(page(wallet, "publish_draft"), form).content.decode()
    assert "Rebase the draft first." in refused
    mia.post(page(wallet, "edit_draft"), {"do": "rebase"})
    assert "expiry_days: 100 -&gt; 730" in mia.get(page(wallet, "edit_draft")).content.decode()
    mia.post(page(wallet, "publish_draft"), form_of(mia, page(wallet, "publish_draft")) | {"reason": "x"})
    assert wallet.versions.get(status="published").definition["expiry_days"] == 730


def test_what_somebody_else_saved_meanwhile_is_not_written_over(program: Program, mia: Client) -> None:
    wallet = Wallet.objects.get()
    form = form_of(mia, page(wallet, "edit_draft"))
    save(mia, wallet, "365", "730")
    text = form["text"].replace("365", "10")
    answer = mia.post(page(wallet, "edit_draft"), form | {"text": text, "do": "save"})
    assert "Somebody else changed the draft meanwhile." in answer.content.decode()
    draft = drafts.find_draft(wallet)
    assert draft is not None
    assert draft.definition["expiry_days"] == 730


def test_a_new_rule_begins_as_a_draft_and_goes_with_it(program: Program, mia: Client) -> None:
    url = reverse("admin:points_earnrule_new_rule")
    form = form_of(mia, url) | {"program": str(program.pk), "code": "double"}
    refused = mia.post(url, form | {"code": "spend"}).content.decode()
    assert "spend is taken" in refused
    assert mia.post(url, form).status_code == 302
    rule = EarnRule.objects.get(code="double")
    assert list(rule.versions.values_list("status", flat=True)) == ["draft"]
    shown = mia.get(page(rule, "publish_draft")).content.decode()
    assert "This is the rule&#x27;s first version" in shown
    form = form_of(mia, page(rule, "edit_draft"))
    assert mia.post(page(rule, "edit_draft"), form | {"do": "discard"})["Location"] == reverse(
        "admin:points_earnrule_changelist"
    )
    assert not EarnRule.objects.filter(code="double").exists()


def test_who_may_draft_may_not_publish(program: Program) -> None:
    client = log_in(make_operator("noa", "points.view_wallet", "core.draft_version"))
    wallet = Wallet.objects.get()
    assert save(client, wallet, "365", "730").status_code == 302
    assert "Publish saved draft" not in client.get(page(wallet, "edit_draft")).content.decode()
    assert client.post(page(wallet, "publish_draft"), {"reason": "x"}).status_code == 403
    assert wallet.versions.get(status="published").number == 1


def test_a_draft_of_an_unseen_table_is_refused(program: Program) -> None:
    client = log_in(make_operator("noa", "core.draft_version", "core.publish_version"))
    wallet = Wallet.objects.get()
    for name in ("new_draft", "edit_draft", "publish_draft"):
        assert client.get(page(wallet, name)).status_code == 403


def test_the_versions_are_shown_as_program_files_say_them(program: Program, mia: Client) -> None:
    shown = mia.get(page(Ladder.objects.get(), "change")).content.decode()
    assert "upgrade: immediate\nevaluation: {every: year, on: 07-01}\n" in shown


def test_publishing_what_is_gone_says_so(program: Program, mia: Client) -> None:
    wallet = Wallet.objects.get()
    answer = mia.post(page(wallet, "publish_draft"), {"seen": "x", "reason": "x"})
    assert answer["Location"] == page(wallet, "change")
    assert "There is no draft" in messages(mia, wallet)
