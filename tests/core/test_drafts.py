"""Drafts of ladders, wallets and earn rules: what is written, refused and published, next to program files."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import Model
from django.test.utils import CaptureQueriesContext

from core.definitions import as_written
from core.models import AuditEntry, Program, Version
from core.sections import Kind
from core.services import drafts
from core.services.drafts import DraftRefused
from core.versions import in_force
from membership.models import Ladder, LadderVersion, Tier
from membership.program_section import LADDER
from points.models import EarnRule, EarnRuleVersion, Wallet, WalletVersion
from points.program_section import EARN_RULE, WALLET
from storefront.services import program_file
from tests.storefront.program_files import load_small

FIRST = datetime(2026, 1, 10, 12, tzinfo=UTC)
NOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
RULE = """\
wallet: points
name: Gold spends more
trigger: order_line
formula: {points: 2, per: "1.00"}
tiers: [gold]
"""


@pytest.fixture
def program(db: None, tmp_path: Path) -> Program:
    return program_file.apply(load_small(tmp_path), at=FIRST, actor="file")


@pytest.fixture
def user(db: None) -> User:
    return User.objects.create_user("mia")


@pytest.fixture
def wallet(program: Program) -> Wallet:
    return Wallet.objects.get(program=program)


@pytest.fixture
def ladder(program: Program) -> Ladder:
    return Ladder.objects.get(program=program)


def text_of(kind: Kind, owner: Any, *replacements: tuple[str, str]) -> str:
    """The published definition as text, with some of it replaced."""
    published = drafts.find_published(owner)
    assert published is not None
    text = drafts.as_text(kind, owner, published.definition)
    for old, new in replacements:
        assert old in text, text
        text = text.replace(old, new)
    return text


def save(kind: Kind, owner: Any, user: User, *replacements: tuple[str, str], at: datetime = NOW) -> Version:
    seen = drafts.fingerprint(drafts.find_draft(owner))
    return drafts.save_draft(
        kind=kind, owner=owner, text=text_of(kind, owner, *replacements), seen=seen, at=at, user=user
    )


def publish(kind: Kind, owner: Any, user: User, *, reason: str = "spring", at: datetime = LATER) -> Version:
    seen = drafts.fingerprint(drafts.find_draft(owner))
    return drafts.publish_draft(kind=kind, owner=owner, seen=seen, reason=reason, at=at, user=user)


def everything() -> list[list[dict[str, Any]]]:
    models: list[type[Model]] = [LadderVersion, WalletVersion, EarnRuleVersion, EarnRule, Tier, AuditEntry, Program]
    return [list(model._default_manager.order_by("pk").values()) for model in models]


def refused(act: Callable[[], object]) -> DraftRefused:
    """What the refusal says, after a look that it wrote nothing."""
    before = everything()
    with pytest.raises(DraftRefused) as caught:
        act()
    assert everything() == before
    return caught.value


def test_the_text_is_what_a_program_file_says_in_its_order(ladder: Ladder) -> None:
    text = text_of(LADDER, ladder)
    assert text.startswith("upgrade: immediate\nevaluation: {every: year, on: 07-01}\ndowngrade: {when: at_evaluation")
    assert '- {metric: net_spend, at_least: "250.00"' in text or 'at_least: "250.00"' in text
    assert drafts.read_text(LADDER, ladder, text) == drafts.read_text(LADDER, ladder, text_of(LADDER, ladder))


@pytest.mark.parametrize("word", ["no", "true", "1.5e3", "~", "12", "+1.", "2026-01-01", "on: x", "- a", "ünï", "a\nb"])
def test_every_word_survives_being_written_and_read(program: Program, word: str) -> None:
    rule = EarnRule.objects.get(program=program)
    definition = drafts.read_text(EARN_RULE, rule, text_of(EARN_RULE, rule)).model_copy(update={"skus": (word,)})
    written = drafts.as_text(EARN_RULE, rule, as_written(definition, "GBP"))
    assert drafts.read_text(EARN_RULE, rule, written) == definition


def test_a_draft_is_saved_beside_what_is_published_and_audited(wallet: Wallet, user: User) -> None:
    draft = save(WALLET, wallet, user, ("expiry_days: 365", "expiry_days: 730"))
    assert (draft.number, draft.status, draft.definition["expiry_days"]) == (2, "draft", 730)
    assert drafts.compare(WALLET, wallet, draft.definition) == ["expiry_days: 365 -> 730"]
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.target, entry.actor, entry.user) == ("wallet.drafted", "wallet points", "mia", user)
    assert (entry.before, entry.after) == (None, draft.definition)


def test_saving_the_same_again_changes_nothing(wallet: Wallet, user: User) -> None:
    text = text_of(WALLET, wallet, ("365", "730"))
    doing: dict[str, Any] = {"kind": WALLET, "owner": wallet, "text": text, "seen": "", "at": NOW, "user": user}
    first = drafts.save_draft(**doing)
    before = everything()
    assert drafts.save_draft(**doing) == first
    assert everything() == before


def test_every_mistake_is_told_with_its_path(ladder: Ladder, user: User) -> None:
    text = text_of(LADDER, ladder, ("immediate", "sometimes"), ('"250.00"', '"250.005"'))
    refusal = refused(lambda: drafts.save_draft(kind=LADDER, owner=ladder, text=text, seen="", at=NOW, user=user))
    assert refusal.code == "invalid"
    assert [problem.split(":")[0] for problem in refusal.problems] == [
        "ladder.upgrade",
        "ladder.tiers[1].entry.any_of[0].all_of[0].at_least",
    ]


@pytest.mark.parametrize("text", ["a: [", "[" * 5_000, "x" * 100_001, "- 1", "", "a: 1\na: 2"])
def test_what_is_no_definition_is_refused(wallet: Wallet, user: User, text: str) -> None:
    doing: dict[str, Any] = {"kind": EARN_RULE, "owner": EarnRule.objects.get(), "seen": "", "at": NOW, "user": user}
    assert refused(lambda: drafts.save_draft(text=text, **doing)).code == "invalid"


def test_a_tier_cannot_be_dropped(ladder: Ladder, user: User) -> None:
    text = text_of(LADDER, ladder, ("code: basic", "code: base"))
    refusal = refused(lambda: drafts.save_draft(kind=LADDER, owner=ladder, text=text, seen="", at=NOW, user=user))
    assert refusal.problems == ["ladder.tiers: basic is missing; a tier cannot be removed from a ladder"]


def test_a_rule_names_wallets_and_tiers_that_exist(program: Program, user: User) -> None:
    rule = EarnRule.objects.get(program=program)
    text = text_of(EARN_RULE, rule, ("wallet: points", "wallet: point"), ("[gold]", "[golden]"))
    refusal = refused(lambda: drafts.save_draft(kind=EARN_RULE, owner=rule, text=text, seen="", at=NOW, user=user))
    assert refusal.problems == [
        "earn_rule.wallet: there is no wallet point (did you mean points?)",
        "earn_rule.tiers[0]: there is no tier in the main ladder named golden (did you mean gold?)",
    ]


def test_a_published_draft_is_the_version_that_a_file_would_make(ladder: Ladder, user: User, tmp_path: Path) -> None:
    save(LADDER, ladder, user, ("name: Gold", "name: Golden"), ("250.00", "300.00"))
    revision = ladder.program.revision
    version = publish(LADDER, ladder, user)
    assert (version.number, version.status, version.effective_at) == (2, "published", LATER)
    assert list(ladder.versions.values_list("number", "status")) == [(1, "retired"), (2, "published")]
    assert Tier.objects.get(ladder=ladder, code="gold").name == "Golden"
    assert Program.objects.get().revision > revision
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.target, entry.reason, entry.user) == ("ladder.changed", "ladder main", "spring", user)
    same = load_small(tmp_path, ("name: Gold\n", "name: Golden\n"), ("250.00", "300.00"))
    assert program_file.plan(same, at=LATER + timedelta(hours=1)) == []


def test_a_new_tier_gets_its_row_when_it_is_published(ladder: Ladder, user: User) -> None:
    top = """\
- code: top
  name: Top
  entry:
    any_of:
    - all_of: [{metric: order_count, at_least: 9, window: lifetime}]
"""
    text = text_of(LADDER, ladder) + top
    drafts.save_draft(kind=LADDER, owner=ladder, text=text, seen="", at=NOW, user=user)
    assert not Tier.objects.filter(code="top").exists()
    publish(LADDER, ladder, user)
    assert Tier.objects.get(code="top").ladder == ladder


def test_a_file_published_meanwhile_makes_the_draft_stale(wallet: Wallet, user: User, tmp_path: Path) -> None:
    draft = save(WALLET, wallet, user, ("365", "730"))
    program_file.apply(load_small(tmp_path, ("expiry_days: 365", "expiry_days: 100")), at=NOW, actor="file")
    assert list(wallet.versions.order_by("id").values_list("number", "status")) == [
        (1, "retired"), (2, "draft"), (2, "published"),
    ]  # fmt: skip
    assert refused(lambda: publish(WALLET, wallet, user)).code == "stale"
    assert refused(lambda: save(WALLET, wallet, user, ("100", "800"))).code == "stale"
    rebased = drafts.rebase_draft(kind=WALLET, owner=wallet, at=NOW, user=user)
    assert (rebased.pk, rebased.number) == (draft.pk, 3)
    assert drafts.compare(WALLET, wallet, rebased.definition) == ["expiry_days: 100 -> 730"]
    assert publish(WALLET, wallet, user).number == 3


def test_what_somebody_else_changed_is_neither_written_over_nor_published(wallet: Wallet, user: User) -> None:
    seen = drafts.fingerprint(save(WALLET, wallet, user, ("365", "730")))
    save(WALLET, wallet, user, ("365", "731"))
    doing: dict[str, Any] = {"kind": WALLET, "owner": wallet, "seen": seen, "at": LATER, "user": user}
    text = text_of(WALLET, wallet, ("365", "732"))
    assert refused(lambda: drafts.save_draft(text=text, **doing)).code == "changed"
    assert refused(lambda: drafts.publish_draft(reason="x", **doing)).code == "changed"
    assert refused(lambda: drafts.discard_draft(**doing)).code == "changed"


def test_a_draft_that_says_nothing_new_is_not_published(wallet: Wallet, user: User) -> None:
    save(WALLET, wallet, user)
    assert refused(lambda: publish(WALLET, wallet, user)).code == "unchanged"


def test_publishing_twice_publishes_once(wallet: Wallet, user: User) -> None:
    seen = drafts.fingerprint(save(WALLET, wallet, user, ("365", "730")))
    doing: dict[str, Any] = {"kind": WALLET, "owner": wallet, "seen": seen, "reason": "x", "user": user}
    drafts.publish_draft(at=LATER, **doing)
    assert refused(lambda: drafts.publish_draft(at=LATER + timedelta(hours=1), **doing)).code == "missing"


def test_a_discarded_draft_is_kept_by_the_audit_trail_alone(wallet: Wallet, user: User) -> None:
    draft = save(WALLET, wallet, user, ("365", "730"))
    for _ in range(2):
        drafts.discard_draft(kind=WALLET, owner=wallet, seen=drafts.fingerprint(draft), at=LATER, user=user)
    assert drafts.find_draft(wallet) is None
    entries = AuditEntry.objects.filter(action="wallet.draft_discarded")
    assert [entry.before for entry in entries] == [draft.definition]


def new_rule(program: Program, code: str, user: User) -> EarnRule:
    return drafts.draft_new(kind=EARN_RULE, owners=EarnRule, program=program, code=code, text=RULE, at=NOW, user=user)


def test_a_new_rule_earns_nothing_and_binds_no_file_until_it_is_published(
    program: Program, user: User, tmp_path: Path
) -> None:
    rule = new_rule(program, "double", user)
    assert program_file.plan(load_small(tmp_path), at=NOW) == []
    version = publish(EARN_RULE, rule, user)
    assert (version.number, version.effective_at) == (1, None)
    assert program_file.plan(load_small(tmp_path), at=LATER + timedelta(hours=1)) == ["- earn_rule double"]


def test_a_rule_ends_once_and_a_draft_begins_it_anew(program: Program, user: User) -> None:
    rule = EarnRule.objects.get(program=program)
    assert drafts.end_published(kind=EARN_RULE, owner=rule, reason="over", at=NOW, user=user)
    entry = AuditEntry.objects.latest("id")
    assert (entry.action, entry.target, entry.reason) == ("earn_rule.removed", "earn_rule spend", "over")
    assert in_force(rule.versions.all(), NOW) is None
    before = everything()
    assert not drafts.end_published(kind=EARN_RULE, owner=rule, reason="over", at=LATER, user=user)
    assert everything() == before
    latest = drafts.find_latest(rule)
    assert latest is not None
    text = drafts.as_text(EARN_RULE, rule, latest.definition)
    draft = drafts.save_draft(kind=EARN_RULE, owner=rule, text=text, seen="", at=LATER, user=user)
    assert draft.number == 2
    assert in_force(rule.versions.all(), LATER) is None
    assert publish(EARN_RULE, rule, user, at=LATER) == in_force(rule.versions.all(), LATER)


def test_a_new_rules_code_is_checked_and_not_taken(program: Program, user: User) -> None:
    for code, problem in (("spend", "spend is taken"), ("A b", "cannot be accepted: write lower-case letters")):
        refusal = refused(lambda code=code: new_rule(program, code, user))  # type: ignore[misc]
        assert refusal.code == "invalid"
        assert problem in refusal.problems[0]


def test_a_rule_that_was_never_published_goes_with_its_draft(program: Program, user: User) -> None:
    rule = new_rule(program, "double", user)
    seen = drafts.fingerprint(drafts.find_draft(rule))
    for _ in range(2):
        drafts.discard_draft(kind=EARN_RULE, owner=rule, seen=seen, at=NOW, user=user)
    assert not EarnRule.objects.filter(code="double").exists()


def test_the_database_allows_one_draft(wallet: Wallet, user: User) -> None:
    save(WALLET, wallet, user, ("365", "730"))
    with pytest.raises(IntegrityError, match="walletversion_draft"), transaction.atomic():
        WalletVersion.objects.create(owner=wallet, number=7, definition={})


def test_publishing_locks_the_program_and_then_the_owner(wallet: Wallet, user: User) -> None:
    seen = drafts.fingerprint(save(WALLET, wallet, user, ("365", "730")))
    with CaptureQueriesContext(connection) as queries:
        drafts.publish_draft(kind=WALLET, owner=wallet, seen=seen, reason="x", at=LATER, user=user)
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert [statement.endswith("FOR NO KEY UPDATE") for statement in statements[:3]] == [True, True, False]
    assert 'FROM "core_program"' in statements[0]
    assert 'FROM "points_wallet"' in statements[1]


@pytest.mark.django_db(transaction=True)
def test_of_operators_who_publish_at_once_one_does(tmp_path: Path) -> None:
    program = program_file.apply(load_small(tmp_path), at=FIRST, actor="file")
    wallet, user = Wallet.objects.get(program=program), User.objects.create_user("mia")
    seen = drafts.fingerprint(save(WALLET, wallet, user, ("365", "730")))
    together = threading.Barrier(4, timeout=30)

    def attempt(_number: int) -> str:
        try:
            together.wait()
            drafts.publish_draft(kind=WALLET, owner=wallet, seen=seen, reason="x", at=LATER, user=user)
        except DraftRefused as refusal:
            return refusal.code
        finally:
            connections.close_all()
        return "published"

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(attempt, range(4))) == ["missing", "missing", "missing", "published"]
    assert list(wallet.versions.values_list("number", "status")) == [(1, "retired"), (2, "published")]
