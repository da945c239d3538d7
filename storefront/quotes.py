"""What a basket costs at an instant, for whom, and why. Reads only."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import NoReturn

from core.models import Program
from coupons import rules as coupons
from coupons.own_claims import RefusedCode
from coupons.services import quotes
from membership.fact_checks import DIGEST_BYTES
from membership.fact_inputs import BadFact, OrderInput, OrderLineInput
from membership.field_checks import MAX_AMOUNT
from membership.models import Member, MemberStatus
from membership.selectors import find_member, list_standings
from points.definitions import WalletPolicy
from points.models import Wallet
from points.preview import preview_order
from points.selectors import get_balance
from points.services.earning import terms_of
from points.tender import Tender
from points.tender import tender as tender_points
from storefront import pricing
from storefront.checkout_inputs import CheckoutInput
from storefront.models import Checkout

_NO_COUPONS = coupons.Evaluation((), (), exact=True, gap_minor=0, nodes=0)


@dataclass(frozen=True)
class Quote:
    """What a basket costs at an instant.

    is_spender: whether somebody is there who may use coupons and points: a member who is not suspended. unknown_codes:
    why a code that was typed gives nothing. policy: of the wallet. earns: points that the order would earn by wallet,
    None where that is not known.
    """

    told: CheckoutInput
    member: Member | None
    is_spender: bool
    benefits: pricing.Benefits
    wallet: Wallet | None
    policy: WalletPolicy | None
    price: pricing.Price
    unknown_codes: dict[str, RefusedCode]
    earns: dict[str, int] | None

    @property
    def points(self) -> int:
        return self.price.tender.points if self.price.tender else 0

    @cached_property
    def digest(self) -> bytes:
        """What tells two prices apart: all that the shopper pays and uses, not why."""
        price, basket = self.price, self.told.basket
        lines = [
            (line.key, line.sku, line.units, *amounts)
            for line, *amounts in zip(
                basket.lines, price.amounts, price.discounts, price.in_points, price.points, strict=True
            )
        ]
        used = [
            (applied.candidate.code, applied.line_minor, applied.shipping_minor) for applied in price.evaluation.applied
        ]
        whose = (self.member.pk if self.member else None, self.wallet.pk if self.wallet and self.points else None)
        content = (whose, basket.currency, basket.market, lines, price.shipping_minor, used, self.points)
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=DIGEST_BYTES).digest()


def work_out(*, program: Program, told: CheckoutInput, at: datetime) -> Quote:
    """Return what a basket costs at an instant. Reads only. A guest has no benefits, no coupons and no points.

    Raises: BadFact.
    """
    _check(told)
    quote = _work_out(program, told, at)
    return replace(quote, earns=_preview(program, told, quote.member, quote.price, at))


def work_out_again(*, program: Program, checkout: Checkout, at: datetime) -> Quote:
    """Return what the basket of a checkout costs now, with the coupons and the points that were quoted. Reads only.

    The combination is priced, not searched for: what came since and would take off more is for another quote. What the
    order would earn is left out.
    """
    told = CheckoutInput.from_json(checkout.basket)
    told = replace(told, wallet=told.wallet if checkout.points else "", points=checkout.points or None)
    return _work_out(program, told, at, combination=checkout.combination or [])


def _work_out(
    program: Program, told: CheckoutInput, at: datetime, combination: Sequence[Sequence[str]] | None = None
) -> Quote:
    """Return what a basket costs with the best combination of coupons, or with the one that is named."""
    member = _member(program, told)
    spender = member if member and member.status == MemberStatus.ACTIVE else None
    wallet = _wallet(program, told)
    policy = terms_of(program).policy_at(wallet.pk, at) if wallet else None
    benefits = _benefits(program, member, at)
    unknown_codes: dict[str, RefusedCode] = {}

    def evaluate(basket: coupons.Basket) -> coupons.Evaluation:
        if spender is None:
            return _NO_COUPONS
        if combination is not None:
            return quotes.price_combination(
                program=program, member=spender, basket=basket, codes=told.codes, combination=combination, at=at
            )
        choice = quotes.Choice(told.without, told.only)
        found = quotes.quote_basket(
            program=program, member=spender, basket=basket, codes=told.codes, at=at, choice=choice
        )
        unread = dict.fromkeys(told.unread_codes, RefusedCode("too_many_codes"))
        unknown_codes.update(found.unknown_codes | unread)
        return found.evaluation

    price = pricing.price(
        told.basket,
        benefits=benefits,
        evaluate=evaluate,
        tender=_tender(spender, wallet, policy, told, at),
    )
    return Quote(
        told=told,
        member=member,
        is_spender=spender is not None,
        benefits=benefits,
        wallet=wallet,
        policy=policy,
        price=price,
        unknown_codes=unknown_codes,
        earns=None,
    )


def _check(told: CheckoutInput) -> None:
    """Refuse lines that come twice, and sums that nothing can hold."""
    seen: set[str] = set()
    for index, line in enumerate(told.basket.lines):
        if line.key in seen:
            refuse(f"lines.{index}.external_id", f"line {line.key} comes twice", "duplicate_line")
        seen.add(line.key)
    total = told.basket.shipping_minor + sum(line.list_minor + line.tax_minor for line in told.basket.lines)
    if total > MAX_AMOUNT:
        refuse("lines", f"{total} is more than {MAX_AMOUNT}", "invalid_value")


def _member(program: Program, told: CheckoutInput) -> Member | None:
    if not told.member:
        return None
    member = find_member(program_id=program.pk, external_id=told.member)
    return member or refuse("member", f"member {told.member} is not enrolled", "unknown_member")


def _wallet(program: Program, told: CheckoutInput) -> Wallet | None:
    if not told.wallet:
        return None
    wallet = Wallet.objects.filter(program=program, code=told.wallet).first()
    return wallet or refuse("redeem.wallet", f"the program has no wallet {told.wallet}", "unknown_wallet")


def refuse(field: str, reason: str, code: str) -> NoReturn:
    """Refuse what is wrong with a basket.

    Raises: BadFact.
    """
    raise BadFact(field=field, external_id="", reason=reason, code=code)


def _benefits(program: Program, member: Member | None, at: datetime) -> pricing.Benefits:
    """Return what the tier held on the main ladder gives, by the version in force."""
    standings = list_standings(program=program, member_id=member.pk, at=at)[:1] if member else []
    for standing in standings:
        plan, code = standing.plans.at(at), standing.period.tier.code
        for tier in plan.definition.tiers if plan else ():
            if tier.code == code:
                return pricing.Benefits(code, tier.benefits.discount or 0, tier.benefits.free_shipping)
    return pricing.Benefits()


def _tender(
    spender: Member | None, wallet: Wallet | None, policy: WalletPolicy | None, told: CheckoutInput, at: datetime
) -> Callable[[int], Tender] | None:
    if spender is None or wallet is None or policy is None:
        return None
    available = get_balance(member_id=spender.pk, wallet_id=wallet.pk, at=at).available
    return lambda payable: tender_points(
        policy, currency=told.basket.currency, payable_minor=payable, available=available, asked=told.points
    )


def _preview(
    program: Program, told: CheckoutInput, member: Member | None, price: pricing.Price, at: datetime
) -> dict[str, int] | None:
    """Return what the order would earn. What another currency is worth is only told with the order."""
    if member is None or told.basket.currency != program.currency:
        return None
    lines = tuple(
        OrderLineInput(
            external_id=line.key,
            units=line.units,
            amount_minor=amount,
            paid_in_points_minor=in_points,
            sku=line.sku,
            category=line.category,
        )
        for line, amount, in_points in zip(told.basket.lines, price.amounts, price.in_points, strict=True)
    )
    order = OrderInput(
        external_id="quote",
        member=member.external_id,
        paid_at=at,
        currency=program.currency,
        amount_minor=price.amount_minor,
        market=told.basket.market,
        channel=told.channel,
        lines=lines,
    )
    earned = preview_order(program=program, member_id=member.pk, order=order)
    codes = terms_of(program)
    return {codes.get_wallet_code(wallet.wallet_id): wallet.points for wallet in earned.wallets}
