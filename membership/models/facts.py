"""The facts that the storefront told, and what a member's days add up to."""

from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models import F, Q

from core.models import Program
from membership.models.members import Member, any_case


class OrderKey(models.Model):
    """The storefront's order id, unique in its program whoever the member is, and the order it names."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    external_id = models.CharField(max_length=200, db_collation="C")
    order_id = models.BigIntegerField(unique=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="orderkey_external_id", fields=["program", "external_id"])]
        indexes = [any_case("orderkey_any_case")]

    def __str__(self) -> str:
        return self.external_id


class Order(models.Model):
    """A paid order as the storefront told it. Without a member it is a guest's: kept, earns nothing.

    `returned_at` is the instant of the refund since which all of it is back (`membership/returns.py`); a late refund
    may move it, a late edit that adds a line takes it away.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="orders", null=True, db_index=False)
    external_id = models.CharField(max_length=200)
    paid_at = models.DateTimeField()
    local_date = models.DateField()
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    market = models.CharField(max_length=63, blank=True)
    country = models.CharField(max_length=63, blank=True)
    channel = models.CharField(max_length=63, blank=True)
    device = models.CharField(max_length=63, blank=True)
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()
    returned_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["paid_at", "external_id"]
        indexes = [
            models.Index(name="order_member_paid", fields=["member", "paid_at"]),
            models.Index(
                name="order_member_returned", fields=["member", "returned_at"], condition=~Q(returned_at=None)
            ),
        ]
        constraints = [
            models.CheckConstraint(name="order_amounts", condition=Q(amount_minor__gte=0, program_amount_minor__gte=0)),
        ]

    def __str__(self) -> str:
        return self.external_id


class OrderEdit(models.Model):
    """A change of a paid order: the lines it added, in force from `edited_at`. What it removed is a refund.

    `amount_minor` of the order's currency: what the added lines cost.
    """

    order = models.ForeignKey(Order, models.PROTECT, related_name="edits", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", null=True, db_index=False)
    external_id = models.CharField(max_length=200)
    edited_at = models.DateTimeField()
    local_date = models.DateField()
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["edited_at", "external_id"]
        indexes = [models.Index(name="orderedit_member_edited", fields=["member", "edited_at"])]
        constraints = [
            models.UniqueConstraint(
                name="orderedit_external_id", fields=["order", "external_id", "member"], nulls_distinct=False
            ),
            models.CheckConstraint(
                name="orderedit_amounts", condition=Q(amount_minor__gte=0, program_amount_minor__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class OrderLine(models.Model):
    """One paid line. The units that came back are counted here so that the database can refuse one too many.

    `paid_in_points_minor` is the part of the amount that was paid in points: it counts as spend and earns nothing.
    A line that an edit added after payment names the edit and counts from its instant on. The member is the order's,
    whose constraint the database checks once an order and not once a line.
    """

    order = models.ForeignKey(Order, models.PROTECT, related_name="lines", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", null=True, db_index=False, db_constraint=False)
    external_id = models.CharField(max_length=200)
    position = models.PositiveIntegerField()
    sku = models.CharField(max_length=100, blank=True)
    category = models.CharField(max_length=100, blank=True)
    units = models.PositiveIntegerField()
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    discount_minor = models.BigIntegerField(default=0)
    paid_in_points_minor = models.BigIntegerField(default=0)
    program_paid_in_points_minor = models.BigIntegerField(default=0)
    edit = models.ForeignKey(
        "OrderEdit", models.PROTECT, related_name="lines", null=True, db_index=False, db_constraint=False
    )
    returned_units = models.PositiveIntegerField(default=0)

    class Meta:
        ordering = ["order", "position"]
        constraints = [
            models.UniqueConstraint(
                name="orderline_external_id", fields=["order", "external_id", "member"], nulls_distinct=False
            ),
            models.CheckConstraint(name="orderline_returned", condition=Q(returned_units__lte=F("units"))),
            models.CheckConstraint(
                name="orderline_amounts", condition=Q(amount_minor__gte=0, program_amount_minor__gte=0)
            ),
            models.CheckConstraint(
                name="orderline_paid_in_points",
                condition=Q(
                    paid_in_points_minor__range=(0, F("amount_minor")),
                    program_paid_in_points_minor__range=(0, F("program_amount_minor")),
                ),
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class Refund(models.Model):
    """Money given back. It counts against its member's spend on its own day, whether or not it names an order.

    `goodwill_minor` was given on top of the amount and takes nothing back. `program_amount_minor` is what was recorded;
    `counted_minor` is what counts: the share of its orders' program amounts, which a refund dated before it may still
    change (`membership/returns.py::count_against_spend`).
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="refunds", null=True, db_index=False)
    order = models.ForeignKey(Order, models.PROTECT, related_name="refunds", null=True)
    external_id = models.CharField(max_length=200, db_collation="C")
    refunded_at = models.DateTimeField()
    local_date = models.DateField()
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    counted_minor = models.BigIntegerField()
    goodwill_minor = models.BigIntegerField(default=0)
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["refunded_at", "external_id"]
        indexes = [
            models.Index(name="refund_member_refunded", fields=["member", "refunded_at"]),
            any_case("refund_any_case"),
        ]
        constraints = [
            models.UniqueConstraint(
                name="refund_external_id", fields=["program", "external_id", "member"], nulls_distinct=False
            ),
            models.CheckConstraint(
                name="refund_amounts", condition=Q(amount_minor__gte=0, program_amount_minor__gte=0)
            ),
            models.CheckConstraint(name="refund_goodwill", condition=Q(goodwill_minor__gte=0)),
        ]

    def __str__(self) -> str:
        return self.external_id


class RefundLine(models.Model):
    """What came back of one order line: units, or money alone when `units` is empty. Amounts: as of `Refund`."""

    refund = models.ForeignKey(Refund, models.PROTECT, related_name="lines", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", null=True, db_index=False, db_constraint=False)
    order_line = models.ForeignKey(OrderLine, models.PROTECT, related_name="refund_lines", null=True)
    external_id = models.CharField(max_length=200)
    sku = models.CharField(max_length=100, blank=True)
    units = models.PositiveIntegerField(null=True)
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    counted_minor = models.BigIntegerField()

    class Meta:
        ordering = ["refund", "id"]
        constraints = [
            models.UniqueConstraint(
                name="refundline_external_id", fields=["refund", "external_id", "member"], nulls_distinct=False
            ),
            models.CheckConstraint(
                name="refundline_amounts", condition=Q(amount_minor__gte=0, program_amount_minor__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class Activity(models.Model):
    """Something a member did that is not a purchase: visit, check_in, review, share, survey_answer, ...

    `order` and `product` are the storefront's names of what it was about (empty: nothing).
    The row says what the last correction says (`FactCorrection`); `content_digest` is of what was told first.
    `voided_at`: when it was found that it never happened; it counts for nothing.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="activities", db_index=False)
    kind = models.CharField(max_length=63)
    source = models.CharField(max_length=63, blank=True)
    external_id = models.CharField(max_length=200)
    occurred_at = models.DateTimeField()
    local_date = models.DateField()
    quality = models.SmallIntegerField(null=True)
    order = models.CharField(max_length=200, blank=True, default="", db_default="")
    product = models.CharField(max_length=100, blank=True, default="", db_default="")
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()
    voided_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["occurred_at", "id"]
        verbose_name_plural = "activities"
        indexes = [models.Index(name="activity_member_occurred", fields=["member", "occurred_at"])]
        constraints = [
            models.UniqueConstraint(name="activity_external_id", fields=["member", "source", "external_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.external_id}"


class QualifyingCredit(models.Model):
    """What counts toward a tier beside spend and orders. Append-only; a correction is a negative row."""

    member = models.ForeignKey(Member, models.PROTECT, related_name="qualifying_credits", db_index=False)
    source = models.CharField(max_length=200, help_text="What earned it, such as activity:42")
    rule = models.CharField(max_length=100)
    credits = models.IntegerField()
    effective_at = models.DateTimeField()
    local_date = models.DateField()
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["effective_at", "id"]
        indexes = [models.Index(name="qualifyingcredit_effective", fields=["member", "effective_at"])]
        constraints = [models.UniqueConstraint(name="qualifyingcredit_once", fields=["member", "source", "rule"])]

    def __str__(self) -> str:
        return f"{self.credits} for {self.source}"


class MemberDay(models.Model):
    """A member's local day in sums, kept in step with the facts: the input of qualification.

    `orders` counts every order paid that day; `orders_returned` the orders whose last unit came back that
    day, whenever they were paid. `activities`: those that are engagement (`membership/engagement.py`). Amounts in the
    program's currency.
    """

    pk = models.CompositePrimaryKey("member_id", "day")
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    orders = models.IntegerField(default=0)
    orders_returned = models.IntegerField(default=0)
    spend_minor = models.BigIntegerField(default=0)
    refunds_minor = models.BigIntegerField(default=0)
    credits = models.IntegerField(default=0)
    activities = models.IntegerField(default=0)

    class Meta:
        # Days come in about their order: a summary of blocks finds the last ones of all members, for almost nothing.
        indexes = [BrinIndex(name="memberday_day", fields=["day"])]

    def __str__(self) -> str:
        return f"{self.member_id} {self.day}"
