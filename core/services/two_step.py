"""Logging in in two steps: the password, then a code that changes every half minute (TOTP, RFC 6238).

Codes that are used once, made with the device, let an operator in who has lost it.
"""

from collections.abc import Iterable
from datetime import datetime

from django.contrib.auth.models import User
from django.db import transaction
from django_otp import devices_for_user
from django_otp.models import Device
from django_otp.plugins.otp_static.models import StaticDevice, StaticToken
from django_otp.plugins.otp_totp.models import TOTPDevice

from core.services import audit

RECOVERY_CODES = 10
_NAME = "operator"


class WrongCode(Exception):
    """The code is not the one that the device shows now, or has been used."""


def is_on(user: User) -> bool:
    """Tell whether the operator logs in in two steps."""
    return bool(TOTPDevice.objects.filter(user=user, confirmed=True).exists())


def begin(user: User) -> TOTPDevice:
    """Return the operator's device that is not confirmed yet; a new one if there is none."""
    device = TOTPDevice.objects.filter(user=user, confirmed=False).order_by("pk").first()
    return device or TOTPDevice.objects.create(user=user, name=_NAME, confirmed=False)


def confirm(*, user: User, code: str, at: datetime) -> tuple[TOTPDevice, list[str]]:
    """Switch the second step on with the first code of the device; return the device and the recovery codes.

    Raises: WrongCode.
    """
    with transaction.atomic():
        waiting = TOTPDevice.objects.filter(user=user, confirmed=False).order_by("pk").first()
        device = _match([waiting] if waiting and not is_on(user) else [], code)
    if not isinstance(device, TOTPDevice):
        raise WrongCode
    with transaction.atomic():
        device.confirmed = True
        device.save(update_fields=["confirmed"])
        codes = _new_recovery_codes(user)
        _record(user, "operator.two_step_on", actor=user, at=at)
    return device, codes


def check(*, user: User, code: str) -> Device:
    """Return the operator's device or recovery code that accepts a code; a recovery code is gone then.

    Raises: WrongCode.
    """
    with transaction.atomic():
        device = _match(devices_for_user(user, for_verify=True), code)
    if device is None:
        raise WrongCode
    return device


def switch_off(*, user: User, actor: User, reason: str, at: datetime) -> bool:
    """Remove an operator's device and recovery codes; return whether there was one."""
    with transaction.atomic():
        removed, _ = TOTPDevice.objects.filter(user=user).delete()
        StaticDevice.objects.filter(user=user).delete()
        if removed:
            _record(user, "operator.two_step_off", actor=actor, reason=reason, at=at)
    return bool(removed)


def _match(devices: Iterable[Device], code: str) -> Device | None:
    """Return the device that accepts the code. Failures slow the device down, so they must be committed."""
    return next((device for device in devices if device.verify_token(code)), None)


def _new_recovery_codes(user: User) -> list[str]:
    StaticDevice.objects.filter(user=user).delete()
    device = StaticDevice.objects.create(user=user, name=_NAME)
    codes = [StaticToken.random_token() for _ in range(RECOVERY_CODES)]
    StaticToken.objects.bulk_create(StaticToken(device=device, token=code) for code in codes)
    return codes


def _record(user: User, action: str, *, actor: User, at: datetime, reason: str = "") -> None:
    name = user.get_username()
    audit.record(action=action, target=f"operator:{name}", actor=actor.get_username(), user=actor, reason=reason, at=at)
