"""Coupons in the admin: drafted with the form, published, given out, looked up, taken back."""

import csv
import io
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from core.calendar import day_start, local_date
from core.definitions import as_written
from core.models import AuditEntry, Program
from core.services import drafts
from coupons.definitions import CouponTerms
from coupons.models import Claim, CodeBatch, CounterShard, CouponCode, CouponDefinition
from coupons.services import claims, code_batches
from membership.models import Member
from tests.coupons.giving import enroll, make_shop, publish
from tests.storefront.operators import log_in, make_operator

GBP = {"currency": "GBP"}
NEW = "admin:coupons_coupondefinition_new_coupon"


@pytest.fixture(autouse=True)
def _static_root(settings: Any, tmp_path: Path) -> None:
    settings.STATIC_ROOT = tmp_path  # WhiteNoise warns when nothing has been collected


@pytest.fixture
def shop(db: None) -> Program:
    return make_shop("shop", "ada", "bob")


@pytest.fixture
def mia(shop: Program) -> Client:
    views = [f"coupons.view_{name}" for name in ("coupondefinition", "claim", "codebatch", "couponcode", "redemption")]
    gives = ("coupons.add_claim", "coupons.change_claim", "coupons.add_codebatch")
    return log_in(make_operator("mia", *views, *gives, "core.draft_version", "core.publish_version"))


def _page(row: Any, name: str) -> str:
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_{name}", args=[row.pk])


def _form(client: Client, url: str) -> dict[str, Any]:
    """The fields that a page's form begins with."""
    form = client.get(url).context["form"]
    return {field.html_name: value for field in form if (value := field.value()) not in (None, False)}


def _coupon(client: Client, shop: Program, **values: Any) -> dict[str, Any]:
    told = {"program": shop.pk, "code": "spring", "name": "Spring", "kind": "amount", "amount": "gbp 10.00"}
    return _form(client, reverse(NEW)) | told | values


def test_a_coupon_is_described_previewed_drafted_and_published(shop: Program, mia: Client) -> None:
    first = local_date(timezone.now(), shop.time_zone)
    told = _coupon(
        mia, shop, threshold="GBP 50, EUR 60.00", skus="mug, cup", first_day=first.isoformat(),
        last_day=(first + timedelta(days=30)).isoformat(), how="claimed", stack_group="orders", limit="3",
        per_member="1",
    )  # fmt: skip
    preview = mia.post(reverse(NEW), told | {"do": "preview"})
    assert 'threshold:\n  EUR: "60.00"\n  GBP: "50.00"' in preview.context["preview"]
    assert not CouponDefinition.objects.exists()

    saved = mia.post(reverse(NEW), told | {"do": "save"})
    coupon = CouponDefinition.objects.get()
    assert saved["Location"] == _page(coupon, "change")
    draft = drafts.find_draft(coupon)
    assert draft is not None
    assert draft.definition["discount"] == {"amount": {"GBP": "10.00"}}
    assert draft.definition["starts_at"] == day_start(first, shop.time_zone).isoformat().replace("+00:00", "Z")
    assert not CounterShard.objects.exists()

    shown = mia.get(_page(coupon, "publish_draft")).content.decode()
    assert "+ discount.amount.GBP: 10.00" in shown
    done = mia.post(_page(coupon, "publish_draft"), _form(mia, _page(coupon, "publish_draft")) | {"reason": "spring"})
    assert done.status_code == 302
    assert coupon.versions.get().status == "published"
    assert CounterShard.objects.get().limit == 3
    (ada,) = enroll(shop, "eve")
    shop.refresh_from_db()
    assert claims.claim(program=shop, member_id=ada, definition="spring", at=timezone.now()).definition == coupon
    assert "1 of 3" in mia.get(_page(coupon, "change")).content.decode()


def test_a_limit_that_a_claim_passes_while_it_is_published_is_refused(shop: Program, mia: Client) -> None:
    coupon = publish(shop, limit=3)
    members, at = enroll(shop, "m1", "m2"), timezone.now()
    claims.claim(program=shop, member_id=members[0], definition="five", at=at)
    draft = as_written(CouponTerms.model_validate(coupon.versions.get().definition | {"limit": 1}, context=GBP), "GBP")
    coupon.versions.create(number=2, definition=draft)
    form, late = _form(mia, _page(coupon, "publish_draft")), [members[1]]

    def claim_between(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "FOR NO KEY UPDATE" in sql and "countershard" in sql and late:
            claims.claim(program=shop, member_id=late.pop(), definition="five", at=at)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(claim_between):
        answer = mia.post(_page(coupon, "publish_draft"), form | {"reason": "fewer"})
    assert not late
    assert "2 given out already, so the limit cannot be 1" in answer.content.decode()
    assert sorted(coupon.versions.values_list("status", flat=True)) == ["draft", "published"]


@pytest.mark.parametrize(
    ("values", "field", "problem"),
    [
        ({"amount": "10.00"}, "amount", "Write a currency and an amount, such as GBP 10.00."),
        ({"amount": "GBP 1, GBP 2"}, "amount", "Name each currency once."),
        ({"amount": "GBP 1.005"}, "amount", "1.005 has more decimal places than GBP allows (2)"),
        ({"kind": "percent", "percent": "120"}, "percent", "a percentage lies between 0.01% and 100%"),
        ({"tiers": "gold"}, "tiers", "there is no tier in the main ladder named gold"),
        ({"code": "Not A Code"}, "code", "write lower-case letters, digits"),
        ({"last_day": "9999-12-31"}, "last_day", "less than or equal to"),
        ({"first_day": "0001-01-01"}, "first_day", "greater than or equal to"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(
    shop: Program, mia: Client, values: dict[str, str], field: str, problem: str
) -> None:
    response = mia.post(reverse(NEW), _coupon(mia, shop, **values) | {"do": "save"})
    assert problem in " ".join(response.context["form"].errors[field])
    assert not CouponDefinition.objects.exists()


def test_what_is_wrong_as_a_whole_is_said_above_and_a_code_is_taken_once(shop: Program, mia: Client) -> None:
    days = {"first_day": "2026-05-02", "last_day": "2026-05-01"}
    response = mia.post(reverse(NEW), _coupon(mia, shop, **days) | {"do": "save"})
    assert response.context["problems"] == ["coupon: ends_at must be later than starts_at"]
    assert not CouponDefinition.objects.exists()
    publish(shop, "spring")
    response = mia.post(reverse(NEW), _coupon(mia, shop) | {"do": "save"})
    assert response.context["form"].errors["code"] == ["spring is taken"]
    assert CouponDefinition.objects.count() == 1


def test_a_coupon_is_issued_once_with_a_reason_and_revoked(shop: Program, mia: Client) -> None:
    coupon = publish(shop, "sorry", how="issued", limit=5)
    shown = mia.get(_page(coupon, "change")).content.decode()
    buttons = ("new_draft", "edit_draft", "publish_draft", "issue", "request_codes", "create_code", "end_coupon")
    offered = [name for name in buttons if _page(coupon, name) in shown]
    assert offered == ["new_draft", "issue", "request_codes", "create_code", "end_coupon"]
    form = _form(mia, _page(coupon, "issue")) | {"member": "ada", "reason": "parcel was late"}
    mia.post(_page(coupon, "issue"), form)
    again = mia.post(_page(coupon, "issue"), form)
    assert "sent before" in again.content.decode()
    claim = Claim.objects.get()
    assert (claim.member.external_id, claim.state) == ("ada", "open")
    entry = AuditEntry.objects.get(action="coupon.issued")
    assert (entry.reason, entry.actor, entry.target) == ("parcel was late", "mia", "member ada")
    assert "sorry" in mia.get(reverse("admin:coupons_claim_changelist"), {"q": "ada"}).content.decode()

    mia.post(_page(claim, "revoke"), {"reason": "wrong member"})
    claim.refresh_from_db()
    assert claim.state == "revoked"
    assert CounterShard.objects.get().used == 0


def test_a_coupon_that_cannot_be_issued_says_why(shop: Program, mia: Client) -> None:
    coupon = publish(shop, "once", how="issued", per_member=1, limit=1)
    form = {"member": "nobody", "reason": "why not"}
    asked = mia.post(_page(coupon, "issue"), _form(mia, _page(coupon, "issue")) | form)
    assert asked.context["form"].errors["member"] == ["The program has no such member."]
    for name, problem in (("ada", ""), ("ada", "The member has had as many"), ("bob", "All there were")):
        form = _form(mia, _page(coupon, "issue")) | {"member": name, "reason": "why not"}
        asked = mia.post(_page(coupon, "issue"), form)
        assert asked.status_code == 302 if not problem else problem in asked.content.decode()
    assert Claim.objects.count() == 1


def test_a_batch_of_codes_is_asked_for_made_downloaded_and_another_stopped(shop: Program, mia: Client) -> None:
    coupon = publish(shop, "letter", how="code")
    form = _form(mia, _page(coupon, "request_codes")) | {"count": "300", "beginning": "may"}
    mia.post(_page(coupon, "request_codes"), form)
    mia.post(_page(coupon, "request_codes"), form)
    batch = CodeBatch.objects.get()
    assert (batch.requested, batch.requested_by, batch.prefix) == (300, "mia", "may")
    assert "0 of 300 (0%)" in mia.get(_page(batch, "change")).content.decode()
    code_batches.make_codes(batch_id=batch.pk, at=timezone.now())
    assert "300 of 300 (100%)" in mia.get(_page(batch, "change")).content.decode()
    answer: Any = mia.get(_page(batch, "download"))
    rows = list(csv.reader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert rows[0] == ["code"]
    assert {text for (text,) in rows[1:]} == {code.shown for code in CouponCode.objects.all()}
    assert len(rows) == 301

    mia.post(_page(coupon, "request_codes"), _form(mia, _page(coupon, "request_codes")) | {"count": "5"})
    other = CodeBatch.objects.first()
    assert other is not None
    mia.post(_page(other, "stop"))
    code_batches.make_codes(batch_id=other.pk, at=timezone.now())
    other.refresh_from_db()
    assert (other.made, other.stopped_at is not None) == (0, True)


def test_a_code_is_chosen_found_and_disabled(shop: Program, mia: Client) -> None:
    coupon, other = publish(shop, "summer", how="code"), publish(shop, "other", how="code")
    mia.post(_page(coupon, "create_code"), {"text": "summer-10", "is_shared": "on"})
    code = CouponCode.objects.get()
    assert code.is_shared
    taken = mia.post(_page(other, "create_code"), {"text": "Summer 10", "is_shared": "on"})
    assert taken.context["form"].errors["text"] == ["Another coupon has this code."]
    assert code.shown == "summer-10"
    assert code.shown in mia.get(reverse("admin:coupons_couponcode_changelist"), {"q": "summer-1"}).content.decode()
    mia.post(_page(code, "disable"))
    code.refresh_from_db()
    assert code.disabled_at is not None


def test_an_ended_coupon_is_given_to_nobody(shop: Program, mia: Client) -> None:
    coupon = publish(shop, "gone", how="issued")
    mia.post(_page(coupon, "end_coupon"), {"reason": "too dear"})
    assert AuditEntry.objects.get(action="coupon.removed").reason == "too dear"
    asked = mia.post(_page(coupon, "issue"), _form(mia, _page(coupon, "issue")) | {"member": "ada", "reason": "x"})
    assert "Nothing of this coupon is in force" in asked.content.decode()
    assert not Claim.objects.exists()


def test_support_issues_but_drafts_nothing(shop: Program) -> None:
    sam = log_in(make_operator("sam", "coupons.view_coupondefinition", "coupons.add_claim"))
    coupon = publish(shop, "sorry", how="issued")
    assert sam.get(_page(coupon, "issue")).status_code == 200
    for name in ("new_draft", "publish_draft", "end_coupon", "request_codes", "create_code"):
        assert sam.post(_page(coupon, name), {"reason": "x"}).status_code == 403
    assert sam.get(reverse(NEW)).status_code == 403
    assert User.objects.get(username="sam").has_perm("coupons.add_claim")


def test_what_is_over_is_shown_as_expired(shop: Program, mia: Client) -> None:
    now = timezone.now()
    over = publish(shop, "over", valid_days=0)
    claim = claims.claim(program=shop, member_id=Member.objects.get(external_id="ada").pk, definition="over",
                         at=now - timedelta(days=3))  # fmt: skip
    assert "Expired" in mia.get(_page(claim, "change")).content.decode()
    assert "Expired" not in mia.get(_page(over, "change")).content.decode()
    ended = publish(shop, "ended", ends_at=(now - timedelta(days=1)).isoformat())
    soon = publish(shop, "soon", starts_at=(now + timedelta(days=1)).isoformat())
    assert "Expired" in mia.get(_page(ended, "change")).content.decode()
    assert "Not yet" in mia.get(_page(soon, "change")).content.decode()


def test_a_shared_code_of_an_issued_coupon_is_refused_beside_its_box(shop: Program, mia: Client) -> None:
    coupon = publish(shop, "gift", how="issued")
    asked = mia.post(_page(coupon, "create_code"), {"text": "ALLOFYOU", "is_shared": "on"})
    assert "everybody could take it" in " ".join(asked.context["form"].errors["is_shared"])
    assert not CouponCode.objects.exists()
    asked = mia.post(_page(coupon, "create_code"), {"text": "5\u00b0", "is_shared": "on"})
    assert "“\u00b0” cannot be in a code" in " ".join(asked.context["form"].errors["text"])
