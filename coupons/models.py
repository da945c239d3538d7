"""Coupon definitions, the codes and claims they are given out by, and what redeeming them took off."""

import uuid_utils.compat as uuid
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.models import Program, Version
from membership.models import Member


class CouponDefinition(models.Model):
    """A coupon's identity, kept over versions."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    code = models.SlugField(max_length=63)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="coupondefinition_code", fields=["program", "code"])]

    def __str__(self) -> str:
        return self.code


class CouponRecall(models.Model):
    """A coupon was called back: it ended, and what members had been given by then and not used is revoked.

    From `recalled_at` on no claim that was made by then can be used, whether or not a worker has revoked it: `revoked`
    counts those that were, `finished_at` says that none is left.
    """

    definition = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="recalls", db_index=False)
    reason = models.CharField(max_length=500)
    recalled_by = models.CharField(max_length=150)
    recalled_at = models.DateTimeField()
    revoked = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(name="couponrecall_once", fields=["definition", "recalled_at"])]
        indexes = [models.Index(name="couponrecall_open", fields=["id"], condition=Q(finished_at=None))]

    def __str__(self) -> str:
        return f"{self.definition_id} at {self.recalled_at}"


class CouponDefinitionVersion(Version):
    """What a coupon says: a `coupons.definitions.CouponTerms`."""

    owner = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="versions")


class CounterShard(models.Model):
    """A part of a definition's limit of claims. Without shards there is no limit."""

    definition = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="shards", db_index=False)
    shard = models.SmallIntegerField()
    limit = models.BigIntegerField()
    used = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["definition", "shard"]
        constraints = [
            models.UniqueConstraint(name="countershard_once", fields=["definition", "shard"]),
            models.CheckConstraint(name="countershard_limit", condition=Q(used__gte=0, used__lte=F("limit"))),
        ]

    def __str__(self) -> str:
        return f"{self.used} of {self.limit}"


class CodeBatch(models.Model):
    """A job that makes unique codes of a definition, a chunk at a time; what is left goes on where it ended.

    `prefix` is spelled as it was chosen. `symbols`: the random ones of each code, between the prefix and the check
    symbol. While a worker has the batch, it is leased; what keeps a chunk from being made twice is `made`, which only
    grows from what was seen.
    """

    definition = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="batches")
    prefix = models.CharField(max_length=12, blank=True, db_collation="C")
    symbols = models.PositiveSmallIntegerField()
    requested = models.PositiveIntegerField()
    made = models.PositiveIntegerField(default=0)
    requested_by = models.CharField(max_length=150)
    requested_at = models.DateTimeField()
    leased_until = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)
    stopped_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "code batches"
        constraints = [
            models.CheckConstraint(name="codebatch_made", condition=Q(made__lte=F("requested"), requested__gte=1)),
            models.CheckConstraint(
                name="codebatch_end", condition=Q(finished_at=None) | Q(made=F("requested"), stopped_at=None)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.made} of {self.requested}"


class CouponCode(models.Model):
    """A code by which a coupon is had. Shared ones are claimed by many; one of a batch, or a member's own, once.

    `text` is what is compared, `core.typed_codes.key` of what was chosen or drawn. `spelling` is how it is shown, and
    empty where that is the text.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    text = models.CharField(max_length=40, db_collation="C")
    spelling = models.CharField(max_length=40, db_default="", default="")
    definition = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="codes", db_index=False)
    batch = models.ForeignKey(CodeBatch, models.PROTECT, related_name="codes", null=True)
    is_shared = models.BooleanField(default=False)
    claimed_by = models.BigIntegerField(null=True)
    made_at = models.DateTimeField()
    disabled_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(name="couponcode_text", fields=["program", "text"]),
            models.CheckConstraint(name="couponcode_claimed_once", condition=Q(is_shared=False) | Q(claimed_by=None)),
            models.CheckConstraint(name="couponcode_normal", condition=Q(text__regex=r"^[0-9A-HJKMNP-Z]{3,40}$")),
        ]

    def __str__(self) -> str:
        return self.shown

    @property
    def shown(self) -> str:
        """Return the code as it is shown."""
        return self.spelling or self.text


class ClaimState(models.TextChoices):
    """open: may be used; held: by a checkout; used: by a paid order; revoked: taken back before it was used."""

    OPEN = "open", _("Open")
    HELD = "held", _("Held")
    USED = "used", _("Used")
    REVOKED = "revoked", _("Revoked")


class Claim(models.Model):
    """A member took or was issued a coupon: the right to use it once, under the version of that time.

    open -> held by a checkout -> used by its order, or open again; what is open may be revoked. `number` counts a
    member's claims of a definition, so that the database keeps the limit per member; a revoked one frees its number.
    The same `source`, such as `birthday:2026`, gives the same claim. `shard`: the counter that it took from.
    `is_automatic`: made by the checkout that uses it, and revoked with its release.
    """

    public_id = models.UUIDField(default=uuid.uuid7, editable=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    definition = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="+")
    version = models.ForeignKey(CouponDefinitionVersion, models.PROTECT, related_name="+", db_index=False)
    code = models.ForeignKey(CouponCode, models.PROTECT, related_name="+", null=True, db_index=False)
    shard = models.SmallIntegerField(null=True)
    number = models.PositiveIntegerField()
    source = models.CharField(max_length=200, blank=True)
    is_automatic = models.BooleanField(default=False)
    state = models.CharField(max_length=7, choices=ClaimState.choices, default=ClaimState.OPEN)
    claimed_at = models.DateTimeField()
    valid_from = models.DateTimeField()
    expires_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        constraints = [
            models.UniqueConstraint(name="claim_public_id", fields=["public_id", "member"]),
            models.UniqueConstraint(
                name="claim_number", fields=["member", "definition", "number"], condition=~Q(state="revoked")
            ),
            models.UniqueConstraint(
                name="claim_source", fields=["member", "definition", "source"], condition=~Q(source="")
            ),
            models.CheckConstraint(name="claim_revoked", condition=Q(state="revoked") ^ Q(revoked_at=None)),
            models.CheckConstraint(
                name="claim_validity", condition=Q(expires_at=None) | Q(expires_at__gt=F("valid_from"))
            ),
        ]

    def __str__(self) -> str:
        return str(self.public_id)


class PersonClaim(models.Model):
    """That somebody seen with an e-mail address, a card or a device has a coupon that a person has once.

    One row for each digest of the member's fingerprints, as long as the member has a claim: so of two accounts that
    claim at the same time one comes first, whichever they are.
    """

    definition = models.ForeignKey(CouponDefinition, models.PROTECT, related_name="+", db_index=False)
    digest = models.BinaryField(max_length=32)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    claimed_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="personclaim_once", fields=["definition", "digest"])]
        indexes = [
            models.Index(name="personclaim_member", fields=["member", "definition"]),
            models.Index(name="personclaim_claimed", fields=["claimed_at"]),
        ]

    def __str__(self) -> str:
        return f"{self.definition_id} of {self.member_id}"


class RedemptionState(models.TextChoices):
    """held -> committed or released; committed -> reversed once the whole order has come back."""

    HELD = "held", _("Held")
    COMMITTED = "committed", _("Committed")
    RELEASED = "released", _("Released")
    REVERSED = "reversed", _("Reversed")


class RedemptionFlag(models.TextChoices):
    """first_order_used: a coupon for the first order, used by an order that turned out to be none."""

    FIRST_ORDER_USED = "first_order_used", _("Another order came first")


class ReturnOutcome(models.TextChoices):
    """What became of the coupon of an order that came back whole. lost: it was given back after its end."""

    KEPT = "kept", _("Stays used")
    RESTORED = "restored", _("Given back")
    LOST = "lost", _("Lost: its end is over")


class Redemption(models.Model):
    """A claim used by an order: held at checkout, committed when it is paid, released when it is not.

    `reference` names the checkout (its public id) or the order. Amounts in minor units of `currency`. `outcome`: of the
    coupon, once it is reversed. If the order of a checkout comes after its release, but was paid before, what it uses
    is another row.
    """

    public_id = models.UUIDField(default=uuid.uuid7, editable=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    claim = models.ForeignKey(Claim, models.PROTECT, related_name="redemptions", db_index=False)
    reference = models.CharField(max_length=200)
    state = models.CharField(max_length=9, choices=RedemptionState.choices, default=RedemptionState.HELD)
    currency = models.CharField(max_length=3)
    discount_minor = models.BigIntegerField()
    shipping_discount_minor = models.BigIntegerField(default=0)
    order_id = models.BigIntegerField(null=True)
    held_at = models.DateTimeField()
    held_until = models.DateTimeField()
    committed_at = models.DateTimeField(null=True)
    released_at = models.DateTimeField(null=True)
    reversed_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=8, choices=ReturnOutcome.choices, blank=True, db_default="", default="")
    flag = models.CharField(max_length=16, choices=RedemptionFlag.choices, blank=True, db_default="", default="")

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(name="redemption_held", fields=["held_until"], condition=Q(state="held"))]
        constraints = [
            models.UniqueConstraint(name="redemption_public_id", fields=["public_id", "member"]),
            models.UniqueConstraint(
                name="redemption_claim_once", fields=["claim", "member"], condition=Q(state__in=["held", "committed"])
            ),
            models.UniqueConstraint(
                name="redemption_reference", fields=["member", "reference", "claim"], condition=~Q(state="released")
            ),
            models.CheckConstraint(
                name="redemption_amounts", condition=Q(discount_minor__gte=0, shipping_discount_minor__gte=0)
            ),
            models.CheckConstraint(
                name="redemption_state",
                condition=Q(state="held", committed_at=None, released_at=None)
                | Q(state="released", committed_at=None, released_at__isnull=False)
                | Q(state="committed", committed_at__isnull=False, released_at=None, order_id__isnull=False)
                | Q(state="reversed", committed_at__isnull=False, released_at=None, order_id__isnull=False),
            ),
            models.CheckConstraint(name="redemption_reversed", condition=Q(state="reversed") ^ Q(reversed_at=None)),
        ]

    def __str__(self) -> str:
        return str(self.public_id)


class RedemptionLine(models.Model):
    """What a redemption took off one line, and how much of that has come back with refunds: it only grows."""

    redemption = models.ForeignKey(Redemption, models.PROTECT, related_name="lines", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    line = models.CharField(max_length=200)
    discount_minor = models.BigIntegerField()
    reversed_minor = models.BigIntegerField(default=0)

    class Meta:
        ordering = ["redemption", "id"]
        constraints = [
            models.UniqueConstraint(name="redemptionline_once", fields=["redemption", "line", "member"]),
            models.CheckConstraint(
                name="redemptionline_reversed",
                condition=Q(discount_minor__gte=0, reversed_minor__gte=0, reversed_minor__lte=F("discount_minor")),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.discount_minor} off {self.line}"
