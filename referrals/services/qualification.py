"""From bound to qualified: which order counts, when it is settled, and what happens when it comes back.

Every step reads what is true now (`referrals.verdict`) and moves the referral there, so news that comes twice, late or
in another order ends the same. What follows for members other than the referee goes by outbox, a member at a time.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Q

from core.models import Program
from referrals.definitions import ReferralTerms
from referrals.locks import lock_referral
from referrals.models import Referral, ReferralState
from referrals.rules import FLAGGED
from referrals.selectors import terms_of
from referrals.services.fraud import assess, note_signals
from referrals.services.moves import move, tell_beneficiaries, tell_suspicion
from referrals.verdict import Outcome, Verdict, judge

EXISTING_CUSTOMER = "existing_customer"

# Referrals assessed together; each is decided in a transaction of its own.
BATCH = 200
# How long after it qualified a referral is looked at again, and how often, for evidence that came later.
RECHECKED_FOR, RECHECKED_EVERY = timedelta(days=90), timedelta(days=1)

# What a referral of a state becomes by its facts, where that is something else. A review has the last word on what is
# flagged; whether a pending one qualifies is decided by `mature`, with a look at the evidence.
_BECOMES = {
    (ReferralState.PENDING, Outcome.REVERSED): ReferralState.REVERSED,
    (ReferralState.FLAGGED, Outcome.REVERSED): ReferralState.REVERSED,
    (ReferralState.QUALIFIED, Outcome.REVERSED): ReferralState.REVERSED,
    (ReferralState.QUALIFIED, Outcome.WAITING): ReferralState.PENDING,
    (ReferralState.REVERSED, Outcome.WAITING): ReferralState.PENDING,
    (ReferralState.REVERSED, Outcome.SETTLED): ReferralState.PENDING,
}


@transaction.atomic
def follow_facts(*, program: Program, member_ids: Iterable[int], at: datetime) -> None:
    """Move the referrals of members of whom facts were recorded to where the facts put them.

    Locks: each referral, ascending by referee.
    """
    touched = Referral.objects.filter(program=program, member_id__in=list(member_ids))
    for referral_id in touched.order_by("member_id").values_list("pk", flat=True):
        follow(program, lock_referral(referral_id), at)


def mature(*, program: Program, at: datetime, limit: int = BATCH) -> int:
    """Decide referrals whose return window is over, and return how many were looked at.

    What is suspicious waits for a person, the rest qualifies. Safe to run twice and side by side.
    Locks: each referral in a transaction of its own.
    """
    due = Referral.objects.filter(program=program, state=ReferralState.PENDING, due_at__lte=at)
    found = list(due.order_by("due_at", "pk").values_list("pk", flat=True)[:limit])
    signals = assess(program=program, referral_ids=found)
    for referral_id in found:
        with transaction.atomic():
            _decide(program, lock_referral(referral_id), signals[referral_id], at)
    return len(found)


def recheck(*, program: Program, at: datetime, limit: int = BATCH) -> int:
    """Look for new evidence against referrals that have qualified, and return how many were looked at.

    What is paid stays until a person decides; more evidence than was known at the decision asks for a review.
    Locks: each referral in a transaction of its own.
    """
    due = Referral.objects.filter(
        Q(scored_at=None) | Q(scored_at__lte=at - RECHECKED_EVERY),
        program=program,
        state=ReferralState.QUALIFIED,
        qualified_at__gt=at - RECHECKED_FOR,
    )
    found = list(due.order_by("scored_at", "pk").values_list("pk", flat=True)[:limit])
    signals = assess(program=program, referral_ids=found)
    for referral_id in found:
        with transaction.atomic():
            _suspect(lock_referral(referral_id), signals[referral_id], at)
    return len(found)


def follow(program: Program, referral: Referral, at: datetime) -> Verdict:
    """Move a locked referral to where its facts put it, and return what they say.

    One that a person has rejected stays so, whatever the facts say.
    """
    terms = terms_of(referral.version, program.currency)
    verdict = judge(referral, terms, at=at)
    if referral.state == ReferralState.REJECTED and referral.reviewed_by:
        return verdict
    if verdict.outcome is Outcome.EXISTING_CUSTOMER:
        if referral.state != ReferralState.REJECTED:
            referral.reason, referral.reviewed_by = EXISTING_CUSTOMER, ""  # learned late
            move(referral, ReferralState.REJECTED, at)
        return verdict
    state = ReferralState(referral.state)
    is_new_order = _note_order(referral, terms, verdict)
    if state == ReferralState.REJECTED:
        referral.reason = ""  # the order of before came back whole, or was told wrong
        move(referral, ReferralState.PENDING, at)
        state = ReferralState.PENDING
    becomes = _BECOMES.get((state, verdict.outcome), state)
    if becomes != state:
        move(referral, becomes, at)
    elif is_new_order:
        referral.save(update_fields=["order_id", "market", "due_at"])
        tell_beneficiaries(referral, at)
    return verdict


def _note_order(referral: Referral, terms: ReferralTerms, verdict: Verdict) -> bool:
    """Note which order counts, or would, and when something is decided; return whether that is new."""
    is_enrollment_due = terms.pays_for_enrollment and referral.cleared_at is None
    due_at = referral.bound_at if is_enrollment_due else verdict.due_at
    known = (referral.order_id, referral.market, referral.due_at)
    referral.order_id, referral.market, referral.due_at = verdict.order_id, verdict.market, due_at
    return known != (verdict.order_id, verdict.market, due_at)


def _decide(program: Program, referral: Referral, signals: list[tuple[str, int]], at: datetime) -> None:
    if referral.state != ReferralState.PENDING:
        return
    verdict = follow(program, referral, at)
    if referral.state != ReferralState.PENDING or referral.due_at is None or referral.due_at > at:
        return
    if _score(referral, signals, at):
        move(referral, ReferralState.FLAGGED, at)
        return
    referral.cleared_at = referral.cleared_at or at
    if verdict.outcome is Outcome.SETTLED:
        move(referral, ReferralState.QUALIFIED, at)
        return
    referral.due_at = verdict.due_at  # what the enrollment gives is due, and the order is waited for
    referral.save()
    tell_beneficiaries(referral, at)


def _suspect(referral: Referral, signals: list[tuple[str, int]], at: datetime) -> None:
    if referral.state != ReferralState.QUALIFIED:
        return
    known = referral.score
    if _score(referral, signals, at) and referral.score > known and referral.suspected_at is None:
        referral.suspected_at = at
        tell_suspicion(referral, at)
    referral.save()


def _score(referral: Referral, signals: list[tuple[str, int]], at: datetime) -> bool:
    """Note what speaks against a referral, and return whether a person has to look at it.

    What a review has accepted asks for no other one.
    """
    accepted = referral.score if referral.reviewed_by else 0
    note_signals(referral, signals, at)
    return referral.score >= FLAGGED and referral.score > accepted
