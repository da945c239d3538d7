"""Logging in: how often it may be tried, the second step, and what the audit trail says of it."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client, RequestFactory
from django.urls import reverse
from django_otp.oath import TOTP
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.client_address import client_address
from core.models import AuditEntry, LoginTries
from core.services import cleanup, logins

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
PASSWORD = "ivory-kettle-7"
RIGHT = {"username": "ada", "password": PASSWORD}
WRONG = {"username": "ada", "password": "guess"}


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_superuser("ada", password=PASSWORD)


def log_in(client: Client, data: dict[str, str], **meta: Any) -> Any:
    return client.post(reverse("admin:login"), data, **meta)


def is_in(client: Client) -> bool:
    return client.get(reverse("admin:index")).status_code == 200


def actions() -> list[str]:
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def code_of(user: User, *, skip: int = 0) -> str:
    device = TOTPDevice.objects.get(user=user)
    totp = TOTP(device.bin_key, device.step, device.t0, device.digits, device.drift)
    totp.time = datetime.now(UTC).timestamp() + skip * device.step
    return f"{totp.token():06}"


def switch_on(client: Client, user: User) -> list[str]:
    client.get(reverse("two_step_begin"))
    page = client.post(reverse("two_step_begin"), {"code": code_of(user)})
    return list(page.context["codes"])


def test_a_sixth_try_is_refused_before_the_password_is_looked_at(ada: User) -> None:
    for _ in range(logins.TRIES_PER_ADDRESS):
        page = log_in(Client(), WRONG)
        assert page.context["form"].errors.as_data()["__all__"][0].code == "invalid_login"
    client = Client()
    page = log_in(client, RIGHT)
    assert page.context["form"].errors.as_data()["__all__"][0].code == "too_many_tries"
    assert "15 minutes" in page.content.decode()
    assert not is_in(client)
    assert actions() == ["operator.login_failed"] * logins.TRIES_PER_ADDRESS


def test_another_address_may_still_try_until_the_account_has_had_enough(ada: User) -> None:
    for number in range(logins.TRIES_PER_ACCOUNT):
        log_in(Client(), WRONG, REMOTE_ADDR=f"10.0.0.{number}")
    page = log_in(Client(), RIGHT, REMOTE_ADDR="10.0.1.1")
    assert page.context["form"].errors.as_data()["__all__"][0].code == "too_many_tries"


def test_a_right_password_gives_the_tries_back(ada: User) -> None:
    for _ in range(2):
        for _ in range(logins.TRIES_PER_ADDRESS - 1):
            log_in(Client(), WRONG)
        client = Client()
        log_in(client, RIGHT)
        assert is_in(client)
    assert not LoginTries.objects.exists()
    assert actions().count("operator.logged_in") == 2
    assert AuditEntry.objects.filter(action="operator.logged_in").earliest("id").after == {"address": "127.0.0.1"}


def test_the_window_ends_by_itself_and_trying_does_not_lengthen_it(db: None) -> None:
    for minute in range(10):
        at = NOW + timedelta(minutes=minute)
        if minute < logins.TRIES_PER_ADDRESS:
            logins.take_try(account="ada", address="a", at=at)
            continue
        with pytest.raises(logins.TooManyTries) as refused:
            logins.take_try(account="ada", address="a", at=at)
        assert refused.value.until == NOW + logins.WINDOW
    logins.take_try(account="ada", address="a", at=NOW + logins.WINDOW)
    assert LoginTries.objects.filter(tries=1).count() == 2


@pytest.mark.django_db(transaction=True)
def test_parallel_tries_do_not_pass_the_limit() -> None:
    passed: list[int] = []
    start = threading.Barrier(8)

    def attempt(number: int) -> None:
        start.wait()
        try:
            for _ in range(3):
                logins.take_try(account="ada", address="a", at=NOW)
                passed.append(number)
        except logins.TooManyTries:
            pass
        finally:
            connection.close()

    threads = [threading.Thread(target=attempt, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(passed) == logins.TRIES_PER_ADDRESS


def test_names_that_are_no_operators_leave_no_trace_but_the_count(ada: User) -> None:
    log_in(Client(), {"username": "a password in the wrong field", "password": "x"})
    assert actions() == []
    assert LoginTries.objects.count() == 2
    keep = cleanup.Retention(idempotency=1, outbox=1, events=1, webhook_log=1, audit=0)
    assert cleanup.clean_up(keep=keep, at=datetime.now(UTC) + timedelta(hours=1))["login_tries"] == 2


@pytest.mark.parametrize(
    ("proxies", "forwarded", "expected"),
    [
        (0, "1.1.1.1", "9.9.9.9"),
        (1, "", "9.9.9.9"),
        (1, "1.1.1.1", "1.1.1.1"),
        (1, "6.6.6.6, 1.1.1.1", "1.1.1.1"),
        (2, "6.6.6.6, 1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (5, "1.1.1.1", "1.1.1.1"),
    ],
)
def test_a_forged_header_changes_nothing(settings: Any, proxies: int, forwarded: str, expected: str) -> None:
    settings.TRUSTED_PROXIES = proxies
    request = RequestFactory().get("/", REMOTE_ADDR="9.9.9.9", HTTP_X_FORWARDED_FOR=forwarded)
    assert client_address(request) == expected


@pytest.fixture
def in_two_steps(ada: User) -> tuple[User, list[str]]:
    client = Client()
    log_in(client, RIGHT)
    codes = switch_on(client, ada)
    assert is_in(client)
    return ada, codes


def test_the_second_step_asks_for_a_code(in_two_steps: tuple[User, list[str]]) -> None:
    ada, codes = in_two_steps
    assert len(set(codes)) == 10
    client = Client()
    for data, error in (
        (RIGHT, "code_missing"),
        (RIGHT | {"code": "000000x"}, "wrong_code"),
    ):
        page = log_in(client, data)
        assert page.context["form"].errors.as_data()["__all__"][0].code == error
        assert not is_in(client)
    TOTPDevice.objects.update(throttling_failure_count=0, last_t=-1)  # the device waits a second after a failure
    log_in(client, RIGHT | {"code": code_of(ada)})
    assert is_in(client)
    assert "operator.two_step_on" in actions()


def test_a_recovery_code_lets_in_once(in_two_steps: tuple[User, list[str]]) -> None:
    _ada, codes = in_two_steps
    client = Client()
    log_in(client, RIGHT | {"code": codes[0]})
    assert is_in(client)
    assert StaticToken.objects.count() == 9
    other = Client()
    log_in(other, RIGHT | {"code": codes[0]})
    assert not is_in(other)


def test_a_wrong_code_counts_as_a_try(in_two_steps: tuple[User, list[str]]) -> None:
    for _ in range(logins.TRIES_PER_ADDRESS):
        log_in(Client(), RIGHT | {"code": "1"})
    page = log_in(Client(), RIGHT)
    assert page.context["form"].errors.as_data()["__all__"][0].code == "too_many_tries"


def test_sessions_from_before_the_second_step_end(ada: User) -> None:
    old, new = Client(), Client()
    for client in (old, new):
        log_in(client, RIGHT)
    switch_on(new, ada)
    assert is_in(new)
    assert not is_in(old)


def test_where_it_is_required_everybody_is_led_to_it(ada: User, settings: Any) -> None:
    settings.REQUIRE_TWO_STEP = True
    client = Client()
    log_in(client, RIGHT)
    for name in ("admin:index", "admin:membership_member_changelist", "admin:password_change"):
        assert client.get(reverse(name)).headers["Location"] == reverse("two_step_begin")
    switch_on(client, ada)
    assert is_in(client)
    client.post(reverse("two_step_end"), {"code": code_of(ada, skip=1)})
    assert TOTPDevice.objects.filter(user=ada).exists()


def test_it_is_switched_off_with_a_code(in_two_steps: tuple[User, list[str]]) -> None:
    ada, codes = in_two_steps
    client = Client()
    log_in(client, RIGHT | {"code": codes[1]})
    client.post(reverse("two_step_end"), {"code": "123"})
    assert TOTPDevice.objects.filter(user=ada).exists()
    StaticDevice.objects.update(throttling_failure_count=0)  # it waits a second after a failure
    client.post(reverse("two_step_end"), {"code": codes[2]})
    assert not TOTPDevice.objects.filter(user=ada).exists()
    assert actions()[-1] == "operator.two_step_off"
