"""Keys are issued, rotated and revoked with a trace; what a key is cannot be changed behind the services' back."""

import io
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, transaction
from django.db.models import Model

from core.models import ApiKey, AuditEntry, Program, Scope
from core.services import api_keys
from tests.core.conftest import NOW
from tests.membership.two_connections import overlap

DAY = timedelta(days=1)


def _issue(program: Program, **told: Any) -> api_keys.IssuedKey:
    given: dict[str, Any] = {"name": "shop", "scopes": [Scope.POINTS_READ], "actor": "test", "at": NOW} | told
    return api_keys.issue(program=program, **given)


def _trail() -> list[tuple[str, str]]:
    return list(AuditEntry.objects.order_by("id").values_list("action", "target"))


@pytest.mark.django_db
def test_a_keys_text_is_told_once_and_only_its_digest_is_kept(program: Program) -> None:
    issued = _issue(program)
    secret = issued.text.partition(".")[2]
    kept = str([*ApiKey.objects.values(), *AuditEntry.objects.values()])
    assert issued.text.startswith(f"pnl_live_{issued.key.prefix}.")
    assert secret not in kept
    assert bytes(ApiKey.objects.get().secret_digest) == api_keys.digest(secret)
    assert (found := api_keys.find(issued.text)) is not None
    assert (found.id, found.program, list(found.scopes)) == (issued.key.pk, program, ["points:read"])


@pytest.mark.django_db
def test_every_change_of_a_key_leaves_an_audit_entry(program: Program) -> None:
    first = _issue(program, expires_at=NOW + DAY, reason="new shop").key
    second = api_keys.rotate(key=first, actor="test", at=NOW).key
    api_keys.revoke(key=second, actor="test", at=NOW, reason="leaked")
    assert _trail() == [
        ("api_key.issued", f"api_key {first.prefix}"),
        ("api_key.rotated", f"api_key {second.prefix}"),
        ("api_key.revoked", f"api_key {second.prefix}"),
    ]
    issued, rotated, revoked = AuditEntry.objects.order_by("id")
    assert (issued.reason, revoked.reason, issued.program) == ("new shop", "leaked", program)
    assert issued.after is not None
    assert (issued.after["scopes"], issued.after["expires_at"]) == (["points:read"], "2026-03-02T09:30:00Z")
    assert rotated.after is not None
    assert rotated.after["rotated_from"] == first.prefix


@pytest.mark.django_db
@pytest.mark.parametrize(
    "told",
    [
        {"scopes": []}, {"scopes": ["points:steal"]}, {"name": " "}, {"expires_at": NOW}, {"rate_per_minute": 0},
        *({"allowed_origins": [origin]} for origin in (
            "*", "shop.example", "https://shop.example/", "https://Shop.example", "https://a.example https://b.example",
            "ftp://shop.example", "https://shop.example:x", "https://", "null", "",
        )),
    ],
    ids=str,
)  # fmt: skip
def test_a_key_that_makes_no_sense_is_refused(program: Program, told: dict[str, Any]) -> None:
    with pytest.raises(api_keys.KeyRefused):
        _issue(program, **told)
    assert (ApiKey.objects.count(), _trail()) == (0, [])


@pytest.mark.django_db
@pytest.mark.parametrize(
    "origin", ["https://shop.example", "http://localhost:3000", "http://127.0.0.1", "https://[::1]:8443"]
)
def test_an_origin_is_written_as_browsers_send_it(program: Program, origin: str) -> None:
    assert _issue(program, allowed_origins=[origin]).key.allowed_origins == [origin]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("expires_at", "overlap", "ends_at"),
    [(None, DAY, NOW + DAY), (NOW + DAY / 2, DAY, NOW + DAY / 2), (NOW + 2 * DAY, DAY, NOW + DAY),
     (None, timedelta(), NOW), (None, -DAY, NOW)],
)  # fmt: skip
def test_a_rotated_key_ends_with_the_overlap_or_sooner(
    program: Program, expires_at: Any, overlap: timedelta, ends_at: Any
) -> None:
    key = _issue(program, expires_at=expires_at).key
    later = NOW + timedelta(hours=1)
    successor = api_keys.rotate(key=key, actor="test", at=later, overlap=overlap).key
    key.refresh_from_db()
    overlap_ends_at = ends_at + timedelta(hours=1)
    assert key.expires_at == (min(overlap_ends_at, expires_at) if expires_at else overlap_ends_at)
    # It lives as long as the first one was given.
    assert successor.expires_at == (expires_at + timedelta(hours=1) if expires_at else None)


@pytest.mark.django_db
@pytest.mark.parametrize("ended", ["revoked", "expired", "rotated"])
def test_a_key_that_ended_or_has_a_successor_is_not_rotated(program: Program, ended: str) -> None:
    key = _issue(program, expires_at=NOW + DAY).key
    if ended == "revoked":
        api_keys.revoke(key=key, actor="test", at=NOW)
    if ended == "rotated":
        api_keys.rotate(key=key, actor="test", at=NOW)
    before, trail = list(ApiKey.objects.values()), _trail()
    with pytest.raises(api_keys.KeyRefused, match="successor" if ended == "rotated" else "not valid"):
        api_keys.rotate(key=key, actor="test", at=NOW + DAY if ended == "expired" else NOW)
    assert (list(ApiKey.objects.values()), _trail()) == (before, trail)


@pytest.mark.django_db(transaction=True)
def test_a_key_rotated_by_two_at_once_has_one_successor(program: Program) -> None:
    key = _issue(program).key
    refused: list[str] = []

    def rotate_too() -> None:
        try:
            api_keys.rotate(key=key, actor="test", at=NOW)
        except api_keys.KeyRefused as error:
            refused.append(str(error))

    assert overlap(lambda: api_keys.rotate(key=key, actor="test", at=NOW), rotate_too)  # it had to wait
    assert len(refused) == 1
    assert ApiKey.objects.filter(rotated_from=key).count() == 1


@pytest.mark.django_db
def test_control_without_the_lock_the_unique_index_still_refuses_a_second_successor(program: Program) -> None:
    key = _issue(program).key
    for prefix in ("a" * 12, "b" * 12):
        twin = ApiKey(
            program=program, name="x", prefix=prefix, secret_digest=bytes(32), scopes=[], created_at=NOW,
            rotated_from=key,
        )  # fmt: skip
        if prefix[0] == "a":
            twin.save()
        else:
            with pytest.raises(IntegrityError, match="apikey_successor"), transaction.atomic():
                twin.save()


@pytest.mark.django_db
def test_a_key_is_revoked_once(program: Program) -> None:
    key = _issue(program).key
    assert api_keys.revoke(key=key, actor="test", at=NOW)
    assert not api_keys.revoke(key=key, actor="test", at=NOW + DAY)
    assert ApiKey.objects.get().revoked_at == NOW
    assert len(_trail()) == 2


# --- what the database refuses ---------------------------------------------------------------------------------


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"prefix": "a" * 12}, "are fixed"),
        ({"secret_digest": bytes(32)}, "are fixed"),
        ({"created_at": NOW + DAY}, "are fixed"),
        ({"revoked_at": None}, "are fixed"),
        ({"revoked_at": NOW + DAY}, "are fixed"),
        ({"rate_per_minute": 0}, "apikey_rate"),
    ],
    ids=str,
)
def test_what_a_key_is_does_not_change(program: Program, change: dict[str, Any], rule: str) -> None:
    api_keys.revoke(key=_issue(program).key, actor="test", at=NOW)
    _refuses(lambda: ApiKey.objects.update(**change), rule)


@pytest.mark.django_db
def test_a_key_does_not_move_to_another_program(program: Program) -> None:
    other = Program.objects.create(code="borealis", name="B", currency="GBP", time_zone="UTC")
    _issue(program)
    _refuses(lambda: ApiKey.objects.update(program=other), "are fixed")


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("wrong", "rule"), [({"secret_digest": b"x"}, "apikey_digest"), ({"prefix": "A" * 12}, "apikey_prefix")]
)
def test_a_key_has_a_whole_digest_and_prefix(program: Program, wrong: dict[str, Any], rule: str) -> None:
    sound = {"program": program, "name": "x", "prefix": "a" * 12, "secret_digest": bytes(32), "scopes": []}
    _refuses(lambda: ApiKey.objects.create(**sound | wrong, created_at=NOW), rule)


def _refuses(change: Callable[[], Model | int], rule: str) -> None:
    before = list(ApiKey.objects.values())
    with pytest.raises(IntegrityError, match=rule), transaction.atomic():
        change()
    assert list(ApiKey.objects.values()) == before


# --- the command -----------------------------------------------------------------------------------------------


def _run(*words: str) -> str:
    out = io.StringIO()
    call_command("api_key", *words, stdout=out)
    return out.getvalue().strip()


@pytest.mark.django_db
def test_the_command_issues_lists_rotates_and_revokes(program: Program) -> None:
    text = _run("issue", "aurora", "--name", "shop", "--scope", "points:read", "--origin", "https://shop.example",
                "--rate", "10", "--days", "30", "--reason", "new")  # fmt: skip
    key = ApiKey.objects.get()
    assert text == f"pnl_live_{key.prefix}.{text.partition('.')[2]}"
    assert (key.scopes, key.rate_per_minute) == (["points:read"], 10)
    assert key.expires_at is not None
    assert key.expires_at - key.created_at == 30 * DAY
    successor = _run("rotate", key.prefix, "--overlap-hours", "1").partition(".")[0].removeprefix("pnl_live_")
    assert _run("revoke", key.prefix) == "revoked"
    assert _run("revoke", key.prefix) == "it was revoked before"
    listed = _run("list", "aurora").splitlines()
    assert [line.split()[:2] for line in listed] == [[successor, "valid"], [key.prefix, "revoked"]]
    assert text.partition(".")[2] not in "".join(listed)
    assert [entry.actor for entry in AuditEntry.objects.all()] == ["manage.py api_key"] * 3


@pytest.mark.django_db
def test_the_command_gives_every_scope_unless_told(program: Program) -> None:
    _run("issue", "aurora", "--name", "shop")
    assert ApiKey.objects.get().scopes == sorted(Scope.values)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["issue", "nowhere", "--name", "x"], "no program nowhere"),
        (["issue", "aurora", "--name", "x", "--days", "0"], "expire in the future"),
        (["issue", "aurora", "--name", "x", "--origin", "*"], "no web origin"),
        (["issue", "aurora", "--name", "x", "--scope", "all"], "invalid choice"),
        (["rotate", "nokey"], "no key nokey"),
        (["list", "nowhere"], "no program nowhere"),
    ],
)
def test_the_command_says_in_a_sentence_what_is_wrong(program: Program, words: list[str], said: str) -> None:
    with pytest.raises(CommandError, match=said):
        _run(*words)
    assert not ApiKey.objects.exists()
