"""The Chinese of the admin and of explanations: whole, compiled, and in step with the source."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import polib
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from config.environment import PROJECT

FOLDER = PROJECT / "locale" / "zh_Hans" / "LC_MESSAGES"
SOURCES = ("core", "membership", "coupons", "points", "referrals", "analytics", "storefront", "config")
HOLE = re.compile(r"%\(\w+\)[sd]|%[sd]|\{\w*\}|</?\w+")


@pytest.fixture(scope="module")
def catalog() -> polib.POFile:
    return polib.pofile(str(FOLDER / "django.po"))


def texts(entry: polib.POEntry) -> list[str]:
    """What stands for an entry in Chinese, which has one form for any number."""
    return list(entry.msgstr_plural.values()) if entry.msgid_plural else [entry.msgstr]


def key(entry: polib.POEntry) -> tuple[str | None, str, str]:
    return (entry.msgctxt, entry.msgid, entry.msgid_plural)


def test_the_compiled_catalog_is_the_text(catalog: polib.POFile) -> None:
    compiled = {key(entry): texts(entry) for entry in polib.mofile(str(FOLDER / "django.mo"))}
    assert compiled == {key(entry): texts(entry) for entry in catalog}


def test_every_message_is_translated(catalog: polib.POFile) -> None:
    assert [entry.msgid for entry in catalog if entry.fuzzy or entry.obsolete or not all(texts(entry))] == []
    assert len(catalog) > 600


def test_translations_keep_what_is_filled_in(catalog: polib.POFile) -> None:
    wrong = []
    for entry in catalog:
        expected = Counter(HOLE.findall(entry.msgid_plural or entry.msgid))
        wrong += [entry.msgid for text in texts(entry) if Counter(HOLE.findall(text)) != expected]
    assert wrong == []


@pytest.mark.skipif(shutil.which("xgettext") is None, reason="xgettext is not on the PATH")
def test_the_catalog_has_every_message_of_the_source(catalog: polib.POFile, tmp_path: Path) -> None:
    for name in SOURCES:
        unneeded = shutil.ignore_patterns("__pycache__", "static", "migrations")
        shutil.copytree(PROJECT / name, tmp_path / name, ignore=unneeded)
    (tmp_path / "locale").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "django", "makemessages", "-l", "zh_Hans", "--verbosity", "0"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    found = polib.pofile(str(tmp_path / "locale" / "zh_Hans" / "LC_MESSAGES" / "django.po"))
    assert {key(entry) for entry in found} ^ {key(entry) for entry in catalog} == set()


@pytest.mark.django_db
def test_an_operator_switches_the_language(client: Client, admin_user: User, settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected
    login = client.get(reverse("admin:login"), headers={"accept-language": "zh-CN,zh;q=0.9"}).content.decode()
    assert "登录" in login
    client.force_login(admin_user)
    page = reverse("admin:membership_ladder_changelist")
    assert "等级体系" not in client.get(page).content.decode()
    assert reverse("set_language") in client.get(page).content.decode()
    client.post(reverse("set_language"), {"language": "zh-hans", "next": page})
    shown = client.get(page).content.decode()
    assert all(text in shown for text in ("等级体系", "积分钱包", "审计日志", "会员计划"))
