"""Finding things in the admin: members, coupons, what operators did, what was reversed; links that may be followed."""

from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import reverse

from core.models import Program
from core.services import audit
from coupons.models import Claim, CouponCode
from coupons.services import claims
from membership.models import Activity, TierOverride
from points.models import AdjustmentRequest, LedgerTransaction
from points.services import operations
from tests.coupons.giving import publish
from tests.storefront.operators import DAY, NOW, log_in, make_operator, make_shop, member, wallet


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def shop(db: None, tmp_path: Path) -> Program:
    return make_shop(tmp_path)


@pytest.fixture
def boss(client: Client, admin_user: User) -> Client:
    client.force_login(admin_user)
    return client


def _found(client: Client, page: str, **query: Any) -> list[str]:
    response = client.get(reverse(f"admin:{page}_changelist"), query)
    assert response.status_code == 200
    return sorted(str(row) for row in response.context["cl"].result_list)


def _page(client: Client, row: Any, name: str = "change") -> str:
    url = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])
    return client.get(url).content.decode()


@pytest.mark.parametrize("day", ["9999-12-31", "2100-01-01"])
def test_an_override_without_an_end_is_refused_at_its_field(shop: Program, boss: Client, day: str) -> None:
    url = reverse("admin:membership_member_override_tier", args=[member(shop).pk])
    form = boss.get(url).context["form"]
    tier = form.fields["tier"].queryset.get(code="gold")
    told = {"key": form["key"].value(), "ladder": tier.ladder_id, "tier": tier.pk, "until": day, "reason": "x"}
    answer = boss.post(url, told | {"confirmed": "yes"})
    assert answer.status_code == 200
    assert answer.context["form"].errors == {"until": ["An override ends in the future, before the year 2100."]}
    assert not TierOverride.objects.exists()


@pytest.fixture
def coupons(shop: Program) -> dict[str, Claim]:
    """Of two coupons: m0 has one of each, m1 one, by a code, of the first; m0's of the second is revoked."""
    publish(shop, "spring", at=NOW - DAY, per_member=5)
    publish(shop, "fall", at=NOW - DAY, per_member=5)
    made = {}
    for name, code in (("m0", "spring"), ("m0", "fall"), ("m1", "spring")):
        told: Any = {"program": shop, "member_id": member(shop, name).pk, "definition_code": code, "source": "test"}
        made[f"{name} {code}"] = claims.issue(**told, at=NOW)
    claims.revoke(
        program=shop, member_id=member(shop).pk, claim_id=made["m0 fall"].pk, reason="a mistake", at=NOW, user=None
    )
    return made


def test_who_holds_a_coupon_is_found_by_coupon_state_and_member(
    shop: Program, boss: Client, coupons: dict[str, Claim]
) -> None:
    def names(*keys: str) -> list[str]:
        return sorted(str(coupons[key]) for key in keys)

    spring = coupons["m1 spring"].definition
    assert _found(boss, "coupons_claim", q="PRIN") == names("m0 spring", "m1 spring")
    assert _found(boss, "coupons_claim", q="M1") == names("m1 spring")
    assert _found(boss, "coupons_claim", q=str(coupons["m0 fall"].public_id)) == names("m0 fall")
    assert _found(boss, "coupons_claim", shown="revoked") == names("m0 fall")
    assert _found(boss, "coupons_claim", shown="open") == names("m0 spring", "m1 spring")
    assert _found(boss, "coupons_claim", definition__id__exact=spring.pk) == names("m0 spring", "m1 spring")
    to_claims = boss.get(reverse("admin:coupons_coupondefinition_claims", args=[spring.pk]))
    assert to_claims["Location"].endswith(f"?definition__id__exact={spring.pk}")


def test_a_claim_is_found_by_the_code_that_was_typed(shop: Program, boss: Client, coupons: dict[str, Claim]) -> None:
    definition = coupons["m0 spring"].definition
    code = CouponCode.objects.create(program=shop, text="ABCD1234", definition=definition, is_shared=True, made_at=NOW)
    Claim.objects.filter(pk=coupons["m1 spring"].pk).update(code=code)
    assert _found(boss, "coupons_claim", q="abcd-1234") == [str(coupons["m1 spring"])]


def test_a_members_page_shows_the_coupons_to_those_who_may_see_them(
    shop: Program, boss: Client, coupons: dict[str, Claim]
) -> None:
    page = _page(boss, member(shop))
    for key, word in (("m0 spring", "Open"), ("m0 fall", "Revoked")):
        assert reverse("admin:coupons_claim_change", args=[coupons[key].pk]) in page
        assert word in page
    assert reverse("admin:coupons_claim_change", args=[coupons["m1 spring"].pk]) not in page
    support = log_in(make_operator("sue", "membership.view_member"))
    assert "/coupons/claim/" not in _page(support, member(shop))


def test_the_audit_trail_is_searched_by_part_of_target_actor_and_action(shop: Program, boss: Client) -> None:
    told = [("alice", "test.begun", "thing One"), ("Bob", "test.Ended", "thing two"), ("carol", "test.x", "thing")]
    for actor, action, target in told:
        audit.record(action=action, target=target, actor=actor, program=shop, at=NOW)
    found = [f"{action} {target}" for _actor, action, target in told]
    assert _found(boss, "core_auditentry", q="bOB") == [found[1]]
    assert _found(boss, "core_auditentry", q="ENDED") == [found[1]]
    assert _found(boss, "core_auditentry", q="one") == [found[0]]
    assert _found(boss, "core_auditentry", q="thing") == [found[2]]  # whole
    assert _found(boss, "core_auditentry", actor="alice") == [found[0]]


def test_an_operators_history_shows_what_they_did(shop: Program, boss: Client) -> None:
    sue, tom = make_operator("sue"), make_operator("tom")
    for user in (sue, tom):
        audit.record(action=f"test.{user}", target="member m0", actor=str(user), user=user, program=shop, at=NOW)
    page = _page(boss, sue, "history")
    assert "test.sue" in page
    assert "test.tom" not in page


def test_members_are_found_by_a_part_where_none_begins_so(shop: Program, boss: Client) -> None:
    assert _found(boss, "membership_member", q="M") == ["m0", "m1", "m2"]
    assert _found(boss, "membership_member", q="1") == ["m1"]
    assert len(_found(boss, "membership_order", q="1")) == 1  # the orders of m1: none begins with 1


def test_nobody_is_invited_to_create_what_nobody_may(shop: Program, boss: Client) -> None:
    page = boss.get(reverse("admin:membership_member_changelist"), {"q": "nobody"}).content.decode()
    assert "Create a new item" not in page
    assert "Search for something else" in page


def test_links_go_where_the_operator_may_go(shop: Program, boss: Client) -> None:
    sue = log_in(make_operator("sue", "membership.view_member", "storefront.view_dayclose"))
    for client, may in ((boss, True), (sue, False)):
        dashboard = client.get(reverse("admin:index")).content.decode()
        assert (f'<a href="{reverse("admin:core_outboxevent_changelist")}">All events' in dashboard) is may
        assert (f"{reverse('admin:core_auditentry_changelist')}?q=" in _page(client, member(shop))) is may


def test_an_adjustment_is_named_after_the_member_whose_id_stays_as_it_is(shop: Program, boss: Client) -> None:
    asked = AdjustmentRequest.objects.create(
        member=member(shop), wallet=wallet(shop), points=10_001, reason="x", key="k", requested_by="sue",
        requested_at=NOW,
    )  # fmt: skip
    assert str(asked) == "10,001 points for m0"
    page = _page(boss, Activity.objects.filter(member=member(shop))[0])
    assert str(Activity.objects.filter(member=member(shop))[0]) in page


def test_a_reversed_posting_says_so_and_is_not_reversed_again(shop: Program, boss: Client) -> None:
    account: Any = {"program": shop, "member_id": member(shop).pk, "wallet_id": wallet(shop).pk, "at": NOW}
    gave = operations.adjust(**account, points=5, reason="x", decided_by="x", idempotency_key="gave")
    took = operations.adjust(**account, points=-5, reason="x", decided_by="x", idempotency_key="took")
    url = reverse("admin:points_ledgertransaction_reverse", args=[gave.transaction_id])
    assert "debt" in boss.get(url).context["form"].fields
    taken = reverse("admin:points_ledgertransaction_reverse", args=[took.transaction_id])
    assert "debt" not in boss.get(taken).context["form"].fields
    assert boss.post(taken, {"reason": "a mistake"}).status_code == 302
    reversal = LedgerTransaction.objects.get(reverses_id=took.transaction_id)
    page = _page(boss, LedgerTransaction.objects.get(pk=took.transaction_id))
    assert "Reversed by" in page
    assert reverse("admin:points_ledgertransaction_change", args=[reversal.pk]) in page
    assert taken not in page
    assert boss.get(taken).status_code == 302
    assert url in _page(boss, LedgerTransaction.objects.get(pk=gave.transaction_id))


def test_forms_begin_in_their_first_field_and_name_every_one(shop: Program, boss: Client) -> None:
    page = boss.get(reverse("admin:membership_member_adjust_points", args=[member(shop).pk])).content.decode()
    assert page.count("autofocus") == 1
    assert 'href="#content"' in page
    shop.markets.create(code="uk", currency="GBP", time_zone="Europe/London", locales=["en"], countries=["GB"])
    edited = _page(boss, shop)
    assert 'aria-label="Time zone"' in edited


def test_the_language_is_chosen_before_logging_in(db: None, client: Client) -> None:
    page = client.get(reverse("admin:login"))
    assert "简体中文" in page.content.decode()
    chosen = client.post(reverse("set_language"), {"language": "zh-hans", "next": reverse("admin:login")})
    assert chosen["Location"] == reverse("admin:login")
    assert client.get(reverse("admin:login")).headers["Content-Language"] == "zh-hans"


def test_chinese_dates_and_ranges_are_chinese(shop: Program, boss: Client) -> None:
    page = boss.get(
        reverse("admin:points_ledgertransaction_changelist"), headers={"Accept-Language": "zh-hans"}
    ).content.decode()
    assert "转入" not in page.split('id="changelist-filter"')[-1]
    assert "至" in page
