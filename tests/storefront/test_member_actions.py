"""What operators do for a member: asked, confirmed, done once, audited; refused without the permission."""

import re
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.messages import get_messages
from django.db import connection, connections
from django.test import Client
from django.urls import reverse

from core.calendar import day_start, local_date
from core.models import AuditEntry, Program
from membership.models import Ladder, Tier, TierOverride
from membership.selectors import tiers_at
from points.models import LedgerTransaction, TransactionKind
from points.selectors import Balance, get_balance
from tests.storefront.operators import NOW, log_in, make_operator, make_shop, member, wallet

pytestmark = pytest.mark.django_db

# The address of each action and the permission it wants.
ACTIONS = {
    "adjust_points": "points.adjust_points",
    "override_tier": "membership.override_tier",
    "lift_override": "membership.override_tier",
    "suspend": "membership.suspend_member",
    "reactivate": "membership.suspend_member",
}


@pytest.fixture
def shop(tmp_path: Path) -> Program:
    return make_shop(tmp_path)


@pytest.fixture
def support(shop: Program) -> Client:
    return log_in(make_operator("sue", "membership.view_member", *ACTIONS.values()))


def _url(program: Program, action: str, name: str = "m0") -> str:
    return reverse(f"admin:membership_member_{action}", args=[member(program, name).pk])


def _form(program: Program, action: str, **given: Any) -> dict[str, Any]:
    ladder = Ladder.objects.get(program=program)
    filled: dict[str, dict[str, Any]] = {
        "adjust_points": {"wallet": wallet(program).pk, "points": 50},
        "override_tier": {"ladder": ladder.pk, "tier": _tier(program, "gold").pk, "until": "2099-12-30"},
        "lift_override": {"ladder": ladder.pk},
    }
    return {"key": str(uuid.uuid4()), "reason": "a good one"} | filled.get(action, {}) | given


def _tier(program: Program, code: str) -> Tier:
    return Tier.objects.get(ladder__program=program, code=code)


def _confirm(client: Client, program: Program, action: str, **given: Any) -> Any:
    return client.post(_url(program, action), _form(program, action, **given) | {"confirmed": "yes"})


def _balance(program: Program) -> Balance:
    return get_balance(member_id=member(program).pk, wallet_id=wallet(program).pk, at=NOW + timedelta(hours=1))


def _held(program: Program) -> str:
    ladder = Ladder.objects.get(program=program)
    at = NOW + timedelta(hours=1)
    return tiers_at(ladder_id=ladder.pk, at=at, member_ids=[member(program).pk]).select_related("tier")[0].tier.code


def _written(program: Program) -> tuple[Any, ...]:
    """Everything an action could have written."""
    return (
        LedgerTransaction.objects.count(), TierOverride.objects.count(), AuditEntry.objects.count(),
        member(program).status, _held(program), _balance(program),
    )  # fmt: skip


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_wants_its_own_permission(shop: Program, action: str) -> None:
    others = sorted({"membership.view_member", *ACTIONS.values()} - {ACTIONS[action]})
    client, before = log_in(make_operator("no", *others)), _written(shop)
    assert client.get(_url(shop, action)).status_code == 403
    assert _confirm(client, shop, action).status_code == 403
    assert _written(shop) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_nobody_acts_without_logging_in(shop: Program, action: str) -> None:
    before = _written(shop)
    assert _confirm(Client(), shop, action).status_code == 302
    assert _written(shop) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_a_form_without_its_token_is_refused(shop: Program, action: str) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_operator("sue", *ACTIONS.values()))
    before = _written(shop)
    assert client.post(_url(shop, action), _form(shop, action) | {"confirmed": "yes"}).status_code == 403
    assert _written(shop) == before


@pytest.mark.parametrize("action", ACTIONS)
def test_asking_shows_the_effect_and_does_nothing(shop: Program, support: Client, action: str) -> None:
    before = _written(shop)
    assert support.get(_url(shop, action), _form(shop, action) | {"confirmed": "yes"}).status_code == 200
    response = support.post(_url(shop, action), _form(shop, action))
    assert response.status_code == 200
    assert _written(shop) == before
    if action in ("adjust_points", "override_tier", "suspend"):
        assert response.context["effect"].changes
        assert "This will change" in response.content.decode()


@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_needs_a_reason(shop: Program, support: Client, action: str) -> None:
    before = _written(shop)
    response = _confirm(support, shop, action, reason="   ")
    assert response.context["form"].errors["reason"] == ["This field is required."]
    assert _written(shop) == before


def _entry(action: str) -> AuditEntry:
    return AuditEntry.objects.get(action=action)


def _message(response: Any) -> str:
    return [str(one) for one in get_messages(response.wsgi_request)][-1]


def test_points_are_given_with_an_audit_entry(shop: Program, support: Client) -> None:
    before = _balance(shop)
    asked = support.post(_url(shop, "adjust_points"), _form(shop, "adjust_points"))
    (change,) = asked.context["effect"].changes
    assert (change.before, change.after) == (f"{before.available}", f"{before.available + 50}")
    response = _confirm(support, shop, "adjust_points", reason="sorry for\n the delay")
    assert response.status_code == 302
    assert _message(response) == "Gave 50 points (Points)."
    assert _balance(shop).available == before.available + 50
    entry: Any = _entry("points.adjusted")
    assert (entry.actor, entry.user.username, entry.target) == ("sue", "sue", "member m0")
    assert (entry.reason, entry.program) == ("sorry for the delay", shop)
    assert (entry.before["available"], entry.after["available"]) == (before.available, before.available + 50)


def test_points_are_taken(shop: Program, support: Client) -> None:
    before = _balance(shop)
    assert _message(_confirm(support, shop, "adjust_points", points=-3)) == "Took 3 points (Points)."
    assert _balance(shop).available == before.available - 3


@pytest.mark.parametrize("step", [{}, {"confirmed": "yes"}])
def test_more_points_than_there_are_cannot_be_taken(shop: Program, support: Client, step: dict[str, str]) -> None:
    before, available = _written(shop), _balance(shop).available
    form = _form(shop, "adjust_points", points=-(available + 1))
    response = support.post(_url(shop, "adjust_points"), form | step)
    assert response.context["form"].non_field_errors() == [f"Only {available} points are available."]
    assert _written(shop) == before
    # The form's key is free again: what was refused can be changed and sent once more.
    again = support.post(_url(shop, "adjust_points"), form | {"points": -available, "confirmed": "yes"})
    assert again.status_code == 302


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"points": 0}, "points"),
        ({"points": "ten"}, "points"),
        ({"points": 10**12}, "points"),
        ({"points": "1.5"}, "points"),
        ({"wallet": 0}, "wallet"),
        ({"key": "no uuid"}, "key"),
        ({"reason": "x" * 501}, "reason"),
    ],
)
def test_a_form_that_makes_no_sense_says_where(
    shop: Program, support: Client, given: dict[str, Any], field: str
) -> None:
    before = _written(shop)
    response = _confirm(support, shop, "adjust_points", **given)
    assert list(response.context["form"].errors) == [field]
    assert _written(shop) == before


def test_another_programs_wallet_and_tier_are_refused(shop: Program, support: Client, tmp_path: Path) -> None:
    other = make_shop(tmp_path, "other")
    before = _written(shop)
    response = _confirm(support, shop, "adjust_points", wallet=wallet(other).pk)
    assert list(response.context["form"].errors) == ["wallet"]
    response = _confirm(support, shop, "override_tier", tier=_tier(other, "gold").pk)
    assert list(response.context["form"].errors) == ["tier"]
    assert _written(shop) == before


@pytest.mark.parametrize("action", ["adjust_points", "override_tier", "suspend"])
def test_a_form_sent_twice_counts_once_and_is_told_the_same(shop: Program, support: Client, action: str) -> None:
    form = _form(shop, action) | {"confirmed": "yes"}
    first = support.post(_url(shop, action), form)
    after = _written(shop)
    second = support.post(_url(shop, action), form)
    assert (first.status_code, second.status_code) == (302, 302)
    assert _message(first) == _message(second)
    assert _written(shop) == after


def test_a_key_with_other_content_is_refused(shop: Program, support: Client) -> None:
    key = str(uuid.uuid4())
    _confirm(support, shop, "adjust_points", key=key)
    before = _written(shop)
    response = _confirm(support, shop, "adjust_points", key=key, points=60)
    assert "sent before with other content" in str(response.context["form"].non_field_errors())
    assert _written(shop) == before


def test_a_tier_is_overridden_through_the_end_of_a_local_day(shop: Program, support: Client) -> None:
    until = local_date(NOW, shop.time_zone) + timedelta(days=10)
    response = _confirm(support, shop, "override_tier", until=until.isoformat())
    assert _message(response) == f"The member holds gold (Tiers) through {until}."
    override = TierOverride.objects.get()
    assert override.valid_until == day_start(until + timedelta(days=1), "Europe/London")
    assert (override.reason, override.decided_by, _held(shop)) == ("a good one", "sue", "gold")
    assert _entry("tier.overridden").user == User.objects.get(username="sue")


def test_an_override_ends_in_the_future(shop: Program, support: Client) -> None:
    before = _written(shop)
    for until in ("2020-01-01", "2199-01-01", "soon", ""):
        response = _confirm(support, shop, "override_tier", until=until)
        assert response.status_code == 200, until
        assert response.context["form"].errors, until
    assert _written(shop) == before


def test_an_override_is_lifted(shop: Program, support: Client) -> None:
    _confirm(support, shop, "override_tier")
    response = _confirm(support, shop, "lift_override", reason="by mistake")
    assert _message(response) == "Lifted the override: the member holds silver (Tiers)."
    assert _held(shop) == "silver"
    assert _entry("tier.override_lifted").reason == "by mistake"


def test_there_is_nothing_to_lift_without_an_override(shop: Program, support: Client) -> None:
    before = _written(shop)
    response = _confirm(support, shop, "lift_override")
    assert response.context["form"].non_field_errors() == ["No override is in force on this ladder."]
    assert _written(shop) == before


def test_a_member_is_suspended_and_reactivated(shop: Program, support: Client) -> None:
    assert _message(_confirm(support, shop, "suspend", reason="fraud?")) == "The member is suspended now."
    assert member(shop).status == "suspended"
    assert _message(_confirm(support, shop, "reactivate", reason="no fraud")) == "The member is active now."
    assert member(shop).status == "active"
    assert [entry.reason for entry in AuditEntry.objects.filter(action="member.updated").order_by("pk")] == [
        "fraud?",
        "no fraud",
    ]
    response = _confirm(support, shop, "reactivate")
    assert response.context["form"].non_field_errors() == ["The member has this status already."]


def test_the_page_offers_what_is_allowed_and_makes_sense(shop: Program, support: Client) -> None:
    def offered(client: Client) -> list[str]:
        response = client.get(reverse("admin:membership_member_change", args=[member(shop).pk]))
        found = re.findall(r'href="/admin/membership/member/\d+/([a-z-]+)/"', response.content.decode())
        return [name for name in found if name != "change"]

    assert offered(log_in(make_operator("reader", "membership.view_member"))) == []
    assert set(offered(support)) == {"adjust-points", "override-tier", "suspend"}
    _confirm(support, shop, "override_tier")
    _confirm(support, shop, "suspend")
    assert "lift-override" in offered(support)
    assert "reactivate" in offered(support)
    assert "suspend" not in offered(support)


def _at_once(send: Callable[[int], Any], times: int) -> list[Any]:
    def run(number: int) -> Any:
        try:
            return send(number)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(run, range(times)))


@pytest.mark.django_db(transaction=True)
def test_a_double_click_gives_the_points_once(tmp_path: Path) -> None:
    shop = make_shop(tmp_path)
    user = make_operator("sue", *ACTIONS.values())
    before, form = _balance(shop), _form(shop, "adjust_points") | {"confirmed": "yes"}
    url = _url(shop, "adjust_points")
    clients = [log_in(user) for _ in range(4)]
    codes = [response.status_code for response in _at_once(lambda n: clients[n].post(url, form), 4)]
    assert set(codes) <= {200, 302}
    assert 302 in codes
    assert _balance(shop).available == before.available + 50
    assert LedgerTransaction.objects.filter(kind=TransactionKind.ADJUST).count() == 1
    assert AuditEntry.objects.filter(action="points.adjusted").count() == 1
    assert not connection.in_atomic_block
