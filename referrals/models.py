"""Who was brought by whom, and what both have for it.

A referral belongs to the member who was brought (`member`); the referrer and the referrer's own referrer are plain
numbers. A reward belongs to the member who has it.
"""

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.models import Program, Version
from membership.models import Member


class ReferralPolicy(models.Model):
    """A program's referral policy, kept over versions. A program has one."""

    program = models.OneToOneField(Program, models.PROTECT, related_name="+")
    code = models.SlugField(max_length=63)

    class Meta:
        ordering = ["id"]
        verbose_name_plural = "referral policies"

    def __str__(self) -> str:
        return self.code


class ReferralPolicyVersion(Version):
    """What a policy says: `ReferralTerms`."""

    owner = models.ForeignKey(ReferralPolicy, models.PROTECT, related_name="versions")


class ReferralCode(models.Model):
    """A code that friends are given. `key` is what is compared, `text` what is shown: see `core.typed_codes.key`.

    A member has one code that was made, and any number of vanity codes. All of them stay valid; the newest is shown.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+")
    key = models.CharField(max_length=32, db_collation="C")
    text = models.CharField(max_length=32)
    is_vanity = models.BooleanField(default=False)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        permissions = [("add_vanity_code", "Can give members vanity codes")]
        constraints = [
            models.UniqueConstraint(name="referralcode_key", fields=["program", "key"]),
            models.UniqueConstraint(name="referralcode_made", fields=["member"], condition=Q(is_vanity=False)),
        ]

    def __str__(self) -> str:
        return self.text


class Touch(models.Model):
    """A visitor came by a member's code. Of the visitor nothing is kept but a digest of the token told."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", help_text="The referrer")
    code = models.ForeignKey(ReferralCode, models.PROTECT, related_name="+", db_index=False)
    visitor_digest = models.BinaryField(max_length=32)
    touched_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "touches"
        indexes = [
            models.Index(name="touch_visitor", fields=["program", "visitor_digest", "touched_at"]),
            models.Index(name="touch_touched", fields=["program", "touched_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.code_id} at {self.touched_at}"


class ReferralSource(models.TextChoices):
    CODE = "code", _("Entered code")
    TOUCH = "touch", _("Click")


class ReferralState(models.TextChoices):
    PENDING = "pending", _("Pending")
    FLAGGED = "flagged", _("Waiting for review")
    QUALIFIED = "qualified", _("Qualified")
    REJECTED = "rejected", _("Rejected")
    REVERSED = "reversed", _("Order came back")


class Referral(models.Model):
    """That `member` was brought by `referrer`: once and for good.

    `upline_id`: who had brought the referrer by then. `order_id`: the order that counts, or would; `due_at`: when a
    pending one is decided next. `cleared_at`: since when what is given for the enrollment alone is due. `scored_at`:
    when evidence was last looked at; `suspected_at`: since when new evidence against a qualified one waits for a
    review. `reopened_at`: a person took the rejection back, and with it what earlier orders say. A trigger refuses any
    change of who was brought by whom, and moves of the state that there are not. A referrer joined before the referee
    (of two who joined at one instant, the one with the lower id did), so no chain of referrers leads back to where it
    began.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    referrer_id = models.BigIntegerField()
    upline_id = models.BigIntegerField(null=True)
    member_joined_at = models.DateTimeField()
    referrer_joined_at = models.DateTimeField()
    source = models.CharField(max_length=5, choices=ReferralSource.choices)
    code = models.ForeignKey(ReferralCode, models.PROTECT, related_name="+", db_index=False)
    touched_at = models.DateTimeField(null=True)
    version = models.ForeignKey(ReferralPolicyVersion, models.PROTECT, related_name="+", db_index=False)
    bound_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=ReferralState.choices, default=ReferralState.PENDING)
    order_id = models.BigIntegerField(null=True)
    market = models.CharField(max_length=63, blank=True)
    due_at = models.DateTimeField(null=True)
    decided_at = models.DateTimeField(null=True)
    qualified_at = models.DateTimeField(null=True)
    cleared_at = models.DateTimeField(null=True)
    reopened_at = models.DateTimeField(null=True)
    scored_at = models.DateTimeField(null=True)
    suspected_at = models.DateTimeField(null=True)
    score = models.SmallIntegerField(default=0)
    signals = models.JSONField(default=list)
    reason = models.CharField(max_length=500, blank=True)
    reviewed_by = models.CharField(max_length=150, blank=True)

    class Meta:
        ordering = ["-id"]
        permissions = [("review_referral", "Can approve, reject and reopen referrals")]
        constraints = [
            models.UniqueConstraint(name="referral_once", fields=["member"]),
            models.CheckConstraint(
                name="referral_referrer_is_older",
                condition=Q(referrer_joined_at__lt=F("member_joined_at"))
                | Q(referrer_joined_at=F("member_joined_at"), referrer_id__lt=F("member_id")),
            ),
            models.CheckConstraint(
                name="referral_decided", condition=Q(state="pending", decided_at=None) | ~Q(state="pending")
            ),
        ]
        indexes = [
            models.Index(name="referral_program", fields=["program", "-id"]),
            models.Index(name="referral_referrer", fields=["referrer_id", "-id"]),
            models.Index(name="referral_bound", fields=["program", "bound_at"]),
            models.Index(
                name="referral_due", fields=["program", "due_at"], condition=Q(state="pending", due_at__isnull=False)
            ),
            models.Index(name="referral_scored", fields=["program", "scored_at"], condition=Q(state="qualified")),
            models.Index(
                name="referral_review",
                fields=["program", "id"],
                condition=Q(state="flagged") | Q(suspected_at__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return str(self.pk)


class RefusedBinding(models.Model):
    """That a member was refused as a referrer's friend because both are one person: the next try goes to a review."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    referrer_id = models.BigIntegerField()
    refused_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="refusedbinding_once", fields=["member", "referrer_id"])]

    def __str__(self) -> str:
        return f"{self.member_id} by {self.referrer_id}"


class RewardState(models.TextChoices):
    PENDING = "pending", _("Pending")
    FLAGGED = "flagged", _("Waiting for review")
    APPROVED = "approved", _("Approved")
    PAID = "paid", _("Paid")
    CANCELLED = "cancelled", _("Cancelled")
    REJECTED = "rejected", _("Rejected")
    CLAWED_BACK = "clawed_back", _("Clawed back")


# Those of a referral or a milestone that stand; of the others there may be several.
STANDING = (RewardState.PENDING, RewardState.FLAGGED, RewardState.APPROVED, RewardState.PAID)


class ReferralReward(models.Model):
    """What a member has, or will have, for a referral: points of a wallet, or a coupon.

    `event`: `order:<id>`, `enrollment`, or `milestone:<invitees>`. `level`: 0 the referee's own, 1 the referrer's,
    2 that of the referrer's referrer. `round`: 1, and one more each time it is promised anew after it was taken back
    or rejected. `month`: the local month of the approval, for the caps. A trigger refuses a change of what was
    promised, and a way back of the state.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    referral = models.ForeignKey(Referral, models.PROTECT, related_name="rewards", db_index=False)
    event = models.CharField(max_length=40)
    level = models.SmallIntegerField()
    round = models.SmallIntegerField(default=1)
    wallet_id = models.BigIntegerField(null=True)
    points = models.BigIntegerField(null=True)
    coupon = models.CharField(max_length=63, blank=True)
    claim_id = models.BigIntegerField(null=True)
    state = models.CharField(max_length=11, choices=RewardState.choices, default=RewardState.PENDING)
    reason = models.CharField(max_length=63, blank=True)
    month = models.DateField(null=True)
    created_at = models.DateTimeField()
    paid_at = models.DateTimeField(null=True)
    moved_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(
                name="referralreward_once", fields=["program", "referral", "event", "member", "level", "round"]
            ),
            models.UniqueConstraint(
                name="referralreward_standing",
                fields=["referral", "member", "level"],
                condition=Q(state__in=STANDING) & ~Q(event__startswith="milestone:"),
            ),
            models.UniqueConstraint(
                name="referralreward_milestone",
                fields=["member", "event"],
                condition=Q(state__in=STANDING, event__startswith="milestone:"),
            ),
            models.CheckConstraint(
                name="referralreward_what",
                condition=Q(points__gt=0, wallet_id__isnull=False, coupon="")
                | Q(points=None, wallet_id=None) & ~Q(coupon=""),
            ),
            models.CheckConstraint(name="referralreward_level", condition=Q(level__gte=0, level__lte=2)),
            models.CheckConstraint(
                name="referralreward_paid",
                condition=Q(state__in=("paid", "clawed_back"), paid_at__isnull=False)
                | ~Q(state__in=("paid", "clawed_back")) & Q(paid_at=None),
            ),
        ]
        indexes = [
            models.Index(name="referralreward_member", fields=["member", "level", "month"]),
            models.Index(name="referralreward_referral", fields=["referral"]),
            models.Index(name="referralreward_waiting", fields=["program", "moved_at"], condition=Q(state="approved")),
        ]

    def __str__(self) -> str:
        return str(self.pk)
