"""The clock's runs over a program's days, how far its ledger has been announced, and checkouts."""

import uuid_utils.compat as uuid
from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.models import Program
from membership.models import Ladder, Member, Order, Tier
from points.models import Wallet


class DayClose(models.Model):
    """The close of one local day of a program: what is due by `through`, the first instant of the next day.

    Unique by day. A worker holds it until `leased_until`; a lapsed lease is taken over and the close goes on where it
    stopped. `requested_by`: the clock, or the login of the operator who asked for it.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    day = models.DateField()
    through = models.DateTimeField()
    requested_by = models.CharField(max_length=150)
    started_at = models.DateTimeField()
    leased_until = models.DateTimeField()
    attempts = models.PositiveIntegerField(default=0)
    finished_at = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["-day", "program"]
        permissions = [("close_day", "Can start the close of days that are due")]
        constraints = [
            models.UniqueConstraint(name="dayclose_once", fields=["program", "day"]),
        ]

    def __str__(self) -> str:
        return f"{self.program_id} {self.day}"


class DayCloseStep(models.Model):
    """One step of a close,, in the fixed order: when it ran and what it did, as counts by name."""

    close = models.ForeignKey(DayClose, models.CASCADE, related_name="steps", db_index=False)
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=63)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    counts = models.JSONField(default=dict)

    class Meta:
        ordering = ["close", "position"]
        constraints = [
            models.UniqueConstraint(name="dayclosestep_once", fields=["close", "position"]),
            models.CheckConstraint(
                name="dayclosestep_times", condition=Q(finished_at=None) | Q(finished_at__gte=F("started_at"))
            ),
        ]

    def __str__(self) -> str:
        return self.name


class AnnouncedAccount(models.Model):
    """Up to which ledger row of an account the events feed has told."""

    account_id = models.BigIntegerField(primary_key=True)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    seq = models.IntegerField()

    def __str__(self) -> str:
        return f"{self.account_id}: {self.seq}"


class AnnouncedTier(models.Model):
    """Which tier of a ladder the world was last told that a member holds; before the first news: the one of joining."""

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="+")
    tier = models.ForeignKey(Tier, models.PROTECT, related_name="+")

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="announcedtier_once", fields=["member", "ladder"])]

    def __str__(self) -> str:
        return f"{self.member_id}: {self.tier_id}"


class CheckoutPolicy(models.Model):
    """What a program allows of its checkouts, as its file says; without a row the defaults hold.

    A hold ends at most so many minutes after it began, however often it is extended. One member may have so many
    checkouts held at a time: what is abandoned ties up no more.
    """

    program = models.OneToOneField(Program, models.PROTECT, related_name="+", primary_key=True)
    maximum_hold_minutes = models.PositiveIntegerField(default=1_440)
    holds_per_member = models.PositiveIntegerField(default=5)

    class Meta:
        constraints = [
            models.CheckConstraint(
                name="checkoutpolicy_bounds", condition=Q(maximum_hold_minutes__gte=1, holds_per_member__gte=1)
            ),
        ]

    def __str__(self) -> str:
        return f"{self.program_id}"


class CheckoutState(models.TextChoices):
    """quoted -> held -> paid, released or lapsed. What has nothing to hold may be paid, released or lapse as quoted.

    lapsed -> paid, if the payment was made in time and is told late.
    """

    QUOTED = "quoted", _("Quoted")
    HELD = "held", _("Held")
    PAID = "paid", _("Paid")
    RELEASED = "released", _("Released")
    LAPSED = "lapsed", _("Lapsed")


class Checkout(models.Model):
    """A basket with its price, worked out for a member or a guest: what an order that names it must agree with.

    `basket` as it was told; `price` step by step, as it is shown; `combination`: its coupons, each with its claim or an
    empty text, to be priced again by a hold; `digest` of what the shopper pays. What was paid from `lapses_at` on does
    not pay it. `points` of `wallet` are paid with it; `points_reference` names them in the ledger. `shortfall`: what of
    the price could not be taken any more when a payment in time was told late; `amount_minor`, `points` and `price` are
    without it. The shop gave it.
    """

    public_id = models.UUIDField(default=uuid.uuid7, editable=False)
    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", null=True)
    market = models.CharField(max_length=63, blank=True)
    currency = models.CharField(max_length=3)
    basket = models.JSONField()
    price = models.JSONField()
    combination = models.JSONField(null=True)
    digest = models.BinaryField(max_length=16)
    amount_minor = models.BigIntegerField()
    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", null=True, db_index=False)
    points = models.BigIntegerField(default=0)
    points_reference = models.CharField(max_length=60, blank=True, default="", db_default="")
    shortfall = models.JSONField(null=True)
    state = models.CharField(max_length=8, choices=CheckoutState.choices, default=CheckoutState.QUOTED)
    quoted_at = models.DateTimeField()
    lapses_at = models.DateTimeField()
    held_at = models.DateTimeField(null=True)
    closed_at = models.DateTimeField(null=True)
    order = models.ForeignKey(Order, models.PROTECT, related_name="+", null=True, db_index=False)

    class Meta:
        ordering = ["-id"]
        indexes = [
            models.Index(name="checkout_open", fields=["lapses_at"], condition=Q(closed_at=None)),
            models.Index(name="checkout_unpaid", fields=["closed_at"], condition=Q(state__in=["released", "lapsed"])),
        ]
        constraints = [
            models.UniqueConstraint(name="checkout_public_id", fields=["public_id", "member"], nulls_distinct=False),
            models.UniqueConstraint(
                name="checkout_order", fields=["order", "member"], condition=~Q(order=None), nulls_distinct=False
            ),
            models.CheckConstraint(
                name="checkout_amounts",
                condition=Q(amount_minor__gte=0) & (Q(points=0) | Q(points__gt=0, wallet__isnull=False)),
            ),
            models.CheckConstraint(name="checkout_lapse", condition=Q(lapses_at__gt=F("quoted_at"))),
            models.CheckConstraint(
                name="checkout_state",
                condition=Q(state="quoted", held_at=None, closed_at=None, order=None)
                | Q(state="held", held_at__isnull=False, closed_at=None, order=None)
                | Q(state="paid", closed_at__isnull=False, order__isnull=False)
                | Q(state__in=["released", "lapsed"], closed_at__isnull=False, order=None),
            ),
        ]

    def __str__(self) -> str:
        return str(self.public_id)

    @property
    def is_late(self) -> bool:
        """Tell whether its points were held anew by an order that was told late."""
        return self.points_reference not in ("", str(self.public_id))

    @property
    def ledger_reference(self) -> str:
        """By which the ledger knows the points of the checkout."""
        return self.points_reference or str(self.public_id)
