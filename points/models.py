"""The points ledger: append-only truth, and the projections that can be rebuilt from it.

Ledger rows have id = account_id << 24 | seq, given by the posting function from the locked account row: one
sequence per account over transactions, entries, lots, allocations, accruals and returns. A range of ids is
therefore an account's history in recording order.
"""

import uuid_utils.compat as uuid
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q
from django.db.models.lookups import Exact
from django.utils.translation import gettext_lazy as _

from core.models import Program, Version
from membership.models import Member

SEQ_BITS = 24


class Wallet(models.Model):
    """A kind of points of a program, such as points or diamonds."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    code = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="wallet_code", fields=["program", "code"])]

    def __str__(self) -> str:
        return self.code


class WalletVersion(Version):
    """A wallet's policy: a `WalletPolicy`."""

    owner = models.ForeignKey(Wallet, models.PROTECT, related_name="versions")


class EarnRule(models.Model):
    """An earn rule's identity, kept over versions."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    code = models.SlugField(max_length=63)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="earnrule_code", fields=["program", "code"])]

    def __str__(self) -> str:
        return self.code


class EarnRuleVersion(Version):
    """What a rule says: an `EarnRuleDefinition`."""

    owner = models.ForeignKey(EarnRule, models.PROTECT, related_name="versions")


class Bucket(models.IntegerChoices):
    """Where points are. The first four are an account's balances, the others count what left or came."""

    AVAILABLE = 1, _("Available")
    PENDING = 2, _("Pending")
    HELD = 3, _("Held")
    DEBT = 4, _("Debt")
    ISSUED = 11, _("Issued")
    REDEEMED = 12, _("Redeemed")
    EXPIRED = 13, _("Expired")
    CLAWED_BACK = 14, _("Clawed back")
    TRANSFERRED = 15, _("Transferred")


class TransactionKind(models.IntegerChoices):
    EARN = 1, _("Earn")
    BURN = 2, _("Burn")
    HOLD = 3, _("Hold")
    CAPTURE = 4, _("Capture")
    RELEASE = 5, _("Release")
    REVERSE = 6, _("Reverse")
    EXPIRE = 7, _("Expire")
    VEST = 8, _("Vest")
    ADJUST = 9, _("Adjust")
    TRANSFER = 10, _("Transfer")
    CLAWBACK = 11, _("Clawback")
    GIVE_BACK = 12, _("Give back")


class SourceKind(models.IntegerChoices):
    """What a ledger row's `source_id` points at."""

    NONE = 0, _("None")
    ORDER = 1, _("Order")
    ORDER_LINE = 2, _("Order line")
    REFUND = 3, _("Refund")
    REFUND_LINE = 4, _("Refund line")
    ACTIVITY = 5, _("Activity")
    LOT = 6, _("Lot")
    TRANSACTION = 7, _("Transaction")
    ORDER_EDIT = 8, _("Order edit")
    REFERRAL_REWARD = 9, _("Referral reward")
    CREDIT = 10, _("Qualifying credit")


class AccrualReason(models.IntegerChoices):
    """Why an accrual has the points it has."""

    EARNED = 1, _("Earned")
    BELOW_ONE_POINT = 2, _("Below one point")
    BELOW_MINIMUM = 3, _("Below minimum")
    GRANTED = 4, _("Granted")
    NOT_COVERED = 5, _("Not covered by the rule")
    PAID_THAT_DAY = 6, _("Paid that day already")
    NOTHING_PAID = 7, _("Nothing paid")


class Account(models.Model):
    """A member's balances in one wallet: the row every posting locks, and the head of its hash chain.

    A projection of the entries. `debt` is negative-normal (<= 0). `last_effective_at` is the latest instant of
    its transactions; `next_due_at` is never later than the earliest vest or expiry among its open lots.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    available = models.BigIntegerField(default=0)
    pending = models.BigIntegerField(default=0)
    held = models.BigIntegerField(default=0)
    debt = models.BigIntegerField(default=0)
    lifetime_earned = models.BigIntegerField(default=0)
    lifetime_redeemed = models.BigIntegerField(default=0)
    seq = models.IntegerField(default=0)
    head_hash = models.BinaryField(max_length=32)
    last_effective_at = models.DateTimeField(null=True)
    next_due_at = models.DateTimeField(null=True)

    class Meta:
        permissions = [
            ("adjust_points", "Can adjust points and reverse postings"),
            ("approve_adjustment", "Can approve adjustments of others"),
            ("give_goodwill", "Can give points up to the wallet's limit"),
        ]
        constraints = [
            models.UniqueConstraint(name="account_member_wallet", fields=["member", "wallet"]),
            models.CheckConstraint(
                name="account_balances", condition=Q(available__gte=0, pending__gte=0, held__gte=0, debt__lte=0)
            ),
            models.CheckConstraint(name="account_debt_first", condition=Q(debt=0) | Q(available=0)),
            models.CheckConstraint(name="account_seq", condition=Q(seq__gte=0, seq__lt=2**SEQ_BITS)),
            models.CheckConstraint(name="account_id_fits", condition=Q(id__lt=2**29)),
        ]

    def __str__(self) -> str:
        return f"{self.member_id}/{self.wallet_id}"


def follows(name: str, *fields: str) -> models.CheckConstraint:
    """Return the constraint that what these fields name stands before the row, in the same account."""
    condition = Q()
    for field in fields:
        condition &= Q(id__gt=F(field)) & Q(Exact(F("id").bitrightshift(SEQ_BITS), F(field).bitrightshift(SEQ_BITS)))
    return models.CheckConstraint(name=name, condition=condition)


class LedgerRow(models.Model):
    """What every append-only ledger row shares. Written by the posting functions only.

    Rows name member, wallet and rule version without a database constraint: the account row, which every
    posting locks, has them checked, and a check per ledger row would lock one wallet row for all members. A row's
    transaction, lot or accrual lies in its own account, earlier in the sequence, which a CHECK says without a look-up;
    `verify` finds a row whose transaction is missing.
    """

    id = models.BigIntegerField(primary_key=True)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False, db_constraint=False)

    class Meta:
        abstract = True
        ordering = ["id"]

    def __str__(self) -> str:
        return f"{self.pk >> SEQ_BITS}/{self.pk & (2**SEQ_BITS - 1)}"


class LedgerTransaction(LedgerRow):
    """One posting to one account. `hash` covers it, everything posted with it, and the hash before it.

    `reverses_id`: of a reversal what it undoes, of points given back the hold by which they had been paid.
    """

    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    kind = models.SmallIntegerField(choices=TransactionKind.choices)
    source_kind = models.SmallIntegerField(choices=SourceKind.choices)
    source_id = models.BigIntegerField()
    reverses_id = models.BigIntegerField(null=True)
    effective_at = models.DateTimeField()
    recorded_at = models.DateTimeField()
    key_digest = models.BinaryField(max_length=16)
    request_digest = models.BinaryField(max_length=16)
    note_digest = models.BinaryField(max_length=32, null=True)
    hash = models.BinaryField(max_length=32)

    class Meta(LedgerRow.Meta):
        constraints = [
            models.UniqueConstraint(name="ledgertransaction_key", fields=["member", "wallet", "key_digest"]),
            models.UniqueConstraint(
                name="ledgertransaction_reversed_once",
                fields=["member", "reverses_id"],
                condition=Q(kind=TransactionKind.REVERSE),
            ),
        ]
        # Rows come in about the order of both: a summary of blocks finds a day of all accounts, for almost nothing.
        indexes = [BrinIndex(name="ledgertransaction_times", fields=["recorded_at", "effective_at"])]


class LedgerEntry(LedgerRow):
    """Points moved from one bucket to another: zero-sum by construction."""

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="entries", db_index=False, db_constraint=False
    )
    from_bucket = models.SmallIntegerField(choices=Bucket.choices)
    to_bucket = models.SmallIntegerField(choices=Bucket.choices)
    points = models.BigIntegerField()
    from_balance_after = models.BigIntegerField(null=True)
    to_balance_after = models.BigIntegerField(null=True)

    class Meta(LedgerRow.Meta):
        verbose_name_plural = "ledger entries"
        constraints = [
            models.CheckConstraint(name="ledgerentry_points", condition=Q(points__gt=0)),
            models.CheckConstraint(name="ledgerentry_moves", condition=~Q(from_bucket=F("to_bucket"))),
            follows("ledgerentry_follows", "transaction"),
        ]


class Lot(LedgerRow):
    """The birth of points with one expiry. `available_at` in the future means born pending."""

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="lots", db_index=False, db_constraint=False
    )
    points = models.BigIntegerField()
    available_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)

    class Meta(LedgerRow.Meta):
        constraints = [
            models.CheckConstraint(name="lot_points", condition=Q(points__gt=0)),
            follows("lot_follows", "transaction"),
        ]


class LotBalance(models.Model):
    """What is left of an open lot: a projection, gone when nothing is left."""

    lot_id = models.BigIntegerField(primary_key=True)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    remaining = models.BigIntegerField()
    is_pending = models.BooleanField()
    available_at = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["expires_at", "lot_id"]
        constraints = [models.CheckConstraint(name="lotbalance_remaining", condition=Q(remaining__gt=0))]
        indexes = [
            models.Index(name="lotbalance_expires", fields=["expires_at"]),
            models.Index(name="lotbalance_vests", fields=["available_at"], condition=Q(is_pending=True)),
        ]

    def __str__(self) -> str:
        return f"{self.remaining} of {self.lot_id}"


class LotAllocation(LedgerRow):
    """Which posting took how much of which lot (points > 0) or gave it back (points < 0)."""

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="allocations", db_index=False, db_constraint=False
    )
    lot = models.ForeignKey(Lot, models.PROTECT, related_name="allocations", db_constraint=False)
    points = models.BigIntegerField()

    class Meta(LedgerRow.Meta):
        constraints = [
            models.CheckConstraint(name="lotallocation_points", condition=~Q(points=0)),
            follows("lotallocation_follows", "transaction", "lot"),
        ]


class Hold(models.Model):
    """Points that are set aside under the caller's reference: a projection of the hold and of what followed it.

    Keyed by the hold's own transaction. What is neither captured nor released is still held; `returned` is the part
    of what was captured that has been given back. `held_until` is for the caller, who releases what has lapsed.
    """

    transaction_id = models.BigIntegerField(primary_key=True)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    reference = models.CharField(max_length=200)
    points = models.BigIntegerField()
    captured = models.BigIntegerField(default=0)
    released = models.BigIntegerField(default=0)
    returned = models.BigIntegerField(default=0)
    held_until = models.DateTimeField()

    class Meta:
        ordering = ["transaction_id"]
        constraints = [
            models.UniqueConstraint(name="hold_reference", fields=["member", "wallet", "reference"]),
            models.CheckConstraint(
                name="hold_points",
                condition=Q(points__gt=0, captured__gte=0, released__gte=0)
                & Q(points__gte=F("captured") + F("released")),
            ),
            models.CheckConstraint(name="hold_returned", condition=Q(returned__gte=0, returned__lte=F("captured"))),
        ]

    def __str__(self) -> str:
        return self.reference


class Accrual(LedgerRow):
    """Why a source earned what it earned, zero included: what clawback reads.

    `basis` in minor units of the program's currency (order lines) or a count of one (activities, grants). A grant is
    what no earn rule gave: its accrual has no rule version.
    """

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="accruals", db_index=False, db_constraint=False
    )
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    lot_id = models.BigIntegerField(null=True)
    source_kind = models.SmallIntegerField(choices=SourceKind.choices)
    source_id = models.BigIntegerField()
    rule_version = models.ForeignKey(
        EarnRuleVersion, models.PROTECT, null=True, related_name="+", db_index=False, db_constraint=False
    )
    basis = models.BigIntegerField()
    multiplier_bps = models.IntegerField()
    points = models.BigIntegerField()
    capped_points = models.BigIntegerField(default=0)
    reason = models.SmallIntegerField(choices=AccrualReason.choices)

    class Meta(LedgerRow.Meta):
        constraints = [
            models.UniqueConstraint(
                name="accrual_once",
                fields=["source_id", "source_kind", "wallet", "rule_version", "member"],
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="accrual_granted",
                condition=Q(rule_version__isnull=True, reason=AccrualReason.GRANTED)
                | Q(rule_version__isnull=False) & ~Q(reason=AccrualReason.GRANTED),
            ),
            models.CheckConstraint(name="accrual_points", condition=Q(points__gte=0, capped_points__gte=0)),
            follows("accrual_follows", "transaction"),
        ]


class PaidActivity(models.Model):
    """Which activity a rule pays for: the first that came in of a member, kind, subject and local day.

    The natural key of a rule that pays once a day: of two that come at the same moment the second finds it taken.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    rule = models.ForeignKey(EarnRule, models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=63)
    order = models.CharField(max_length=200, blank=True)
    product = models.CharField(max_length=100, blank=True)
    day = models.DateField()
    activity_id = models.BigIntegerField()

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "paid activities"
        constraints = [
            models.UniqueConstraint(
                name="paidactivity_once", fields=["member", "rule", "kind", "order", "product", "day"]
            )
        ]

    def __str__(self) -> str:
        return f"{self.kind} of {self.member_id} on {self.day}"


class AccrualReturn(LedgerRow):
    """What one refund line asked back of an accrual and what was taken.

    After it, `returned / whole` of the accrual has come back; `points_due` is the growth of
    floor(points x returned / whole), `points_owed` what of it the account owes: what of the lot has expired is
    forgiven (empty in rows older than this column). `points_taken` is what the account gave.
    """

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="returns", db_index=False, db_constraint=False
    )
    accrual = models.ForeignKey(Accrual, models.PROTECT, related_name="returns", db_constraint=False)
    source_kind = models.SmallIntegerField(choices=SourceKind.choices)
    source_id = models.BigIntegerField()
    returned = models.BigIntegerField()
    whole = models.BigIntegerField()
    points_due = models.BigIntegerField()
    points_owed = models.BigIntegerField(null=True)
    points_taken = models.BigIntegerField()

    class Meta(LedgerRow.Meta):
        constraints = [
            models.UniqueConstraint(
                name="accrualreturn_once", fields=["accrual", "source_kind", "source_id", "member"]
            ),
            models.CheckConstraint(
                name="accrualreturn_share", condition=Q(returned__gte=0, whole__gt=0, returned__lte=F("whole"))
            ),
            models.CheckConstraint(
                name="accrualreturn_points",
                condition=Q(points_taken__gte=0)
                & (
                    Q(points_owed__isnull=True, points_taken__lte=F("points_due"))
                    | Q(points_owed__isnull=False, points_taken__lte=F("points_owed"))
                ),
            ),
            follows("accrualreturn_follows", "transaction", "accrual"),
        ]


class AccrualCorrection(LedgerRow):
    """What an accrual is worth by what is known of the past now; the accrual itself stays.

    From it on refunds read `points`. `returned / whole` of the accrual had come back. What stands of it grew by
    `points_added`, in a lot with the dates of the accrual's own, or lessens by `points_due`: `points_owed` and
    `points_taken` are as those of a return. The fact is what changed what is known of the past (kind 0: none that
    is known), the evaluation the ladder's last one before the correction.
    """

    transaction = models.ForeignKey(
        LedgerTransaction, models.PROTECT, related_name="corrections", db_index=False, db_constraint=False
    )
    accrual = models.ForeignKey(Accrual, models.PROTECT, related_name="corrections", db_constraint=False)
    lot_id = models.BigIntegerField(null=True)
    fact_kind = models.SmallIntegerField(choices=SourceKind.choices)
    fact_id = models.BigIntegerField(null=True)
    evaluation_id = models.BigIntegerField(null=True)
    basis = models.BigIntegerField()
    multiplier_bps = models.IntegerField()
    points = models.BigIntegerField()
    reason = models.SmallIntegerField(choices=AccrualReason.choices)
    returned = models.BigIntegerField()
    whole = models.BigIntegerField()
    points_added = models.BigIntegerField()
    points_due = models.BigIntegerField()
    points_owed = models.BigIntegerField()
    points_taken = models.BigIntegerField()

    class Meta(LedgerRow.Meta):
        constraints = [
            models.CheckConstraint(
                name="accrualcorrection_share", condition=Q(returned__gte=0, whole__gt=0, returned__lte=F("whole"))
            ),
            models.CheckConstraint(
                name="accrualcorrection_points",
                condition=Q(points__gte=0, points_added__gte=0, points_due__gte=0, points_taken__gte=0)
                & Q(points_taken__lte=F("points_owed"))
                & (Q(points_added=0) | Q(points_due=0)),
            ),
            models.CheckConstraint(
                name="accrualcorrection_lot",
                condition=Q(points_added=0, lot_id__isnull=True) | Q(points_added__gt=0, lot_id__isnull=False),
            ),
            follows("accrualcorrection_follows", "transaction", "accrual"),
        ]


class LedgerNote(models.Model):
    """The words of a transaction: reason, references, meta. Erasable; the ledger keeps its salted digest."""

    transaction_id = models.BigIntegerField(primary_key=True)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    salt = models.BinaryField(max_length=16)
    body = models.JSONField()

    def __str__(self) -> str:
        return str(self.transaction_id)


class ExpiryReminder(models.Model):
    """That a member was reminded of points that expire at an instant: once, whoever runs the job how often."""

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    expires_at = models.DateTimeField()
    points = models.BigIntegerField()
    reminded_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="expiryreminder_once", fields=["member", "wallet", "expires_at"])]

    def __str__(self) -> str:
        return f"{self.points} of {self.member_id}"


class LedgerCheck(models.Model):
    """One run of `verify` over a program: how many findings it had, and the first of them in words."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    findings = models.PositiveIntegerField(default=0)
    examples = models.JSONField(default=list)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.program_id} at {self.started_at}"


class RequestState(models.TextChoices):
    WAITING = "waiting", _("waiting")
    APPROVED = "approved", _("approved")
    REJECTED = "rejected", _("rejected")


class AdjustmentRequest(models.Model):
    """An adjustment that is above the wallet's limit and waits for a second person; the database refuses the first.

    `key`: what makes asking twice ask once. `transaction_id`: the posting, once it is approved.
    """

    public_id = models.UUIDField(default=uuid.uuid7, editable=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+")
    points = models.BigIntegerField()
    debt = models.BooleanField(default=False)
    reason = models.CharField(max_length=500)
    key = models.CharField(max_length=400)
    requested_by = models.CharField(max_length=200)
    requested_at = models.DateTimeField()
    state = models.CharField(max_length=15, choices=RequestState.choices, default=RequestState.WAITING)
    decided_by = models.CharField(max_length=200, blank=True)
    decided_at = models.DateTimeField(null=True)
    decision_reason = models.CharField(max_length=500, blank=True)
    transaction_id = models.BigIntegerField(null=True)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(name="adjustmentrequest_waiting", fields=["wallet", "id"], condition=Q(state="waiting")),
        ]
        constraints = [
            models.UniqueConstraint(name="adjustmentrequest_key", fields=["member", "wallet", "key"]),
            models.UniqueConstraint(name="adjustmentrequest_public_id", fields=["member", "public_id"]),
            models.CheckConstraint(
                name="adjustmentrequest_decided",
                condition=Q(state="waiting", decided_by="", decided_at=None, transaction_id=None)
                | Q(state="approved", decided_at__isnull=False, transaction_id__isnull=False) & ~Q(decided_by="")
                | Q(state="rejected", decided_at__isnull=False, transaction_id=None) & ~Q(decided_by=""),
            ),
            models.CheckConstraint(
                name="adjustmentrequest_two_persons", condition=~Q(decided_by=F("requested_by")) | Q(state="waiting")
            ),
        ]

    def __str__(self) -> str:
        return f"{self.points:,} points for {self.member.external_id}"


class GoodwillDay(models.Model):
    """How many points a member was given as goodwill on a local day: counted up to the wallet's limit, never above."""

    pk = models.CompositePrimaryKey("member_id", "wallet_id", "day")
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    points = models.BigIntegerField()

    class Meta:
        ordering = ["day"]

    def __str__(self) -> str:
        return f"{self.points} on {self.day}"
