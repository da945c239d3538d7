"""Members, the facts the storefront told about them, and the tiers that follow from the facts."""

from django.db import models
from django.db.models import F, Q

from core.models import Program, Version


class MemberKind(models.TextChoices):
    PERSON = "person"
    HOUSEHOLD = "household"


class MemberStatus(models.TextChoices):
    ACTIVE = "active"
    SUSPENDED = "suspended"
    ERASED = "erased"


class Member(models.Model):
    """Someone enrolled in a program, addressed by the storefront's own id.

    `joined_at` is when membership began: the first tier period starts there. Older facts count all the same.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    external_id = models.CharField(max_length=200, db_collation="C")
    kind = models.CharField(max_length=9, choices=MemberKind.choices, default=MemberKind.PERSON)
    status = models.CharField(max_length=9, choices=MemberStatus.choices, default=MemberStatus.ACTIVE)
    locale = models.CharField(max_length=15, blank=True)
    country = models.CharField(max_length=2, blank=True)
    birthday = models.DateField(null=True, blank=True)
    consents = models.JSONField(default=dict, blank=True)
    joined_at = models.DateTimeField()
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="member_external_id", fields=["program", "external_id"])]

    def __str__(self) -> str:
        return self.external_id


class OrderKey(models.Model):
    """The storefront's order id, unique in its program whoever the member is, and the order it names."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    external_id = models.CharField(max_length=200, db_collation="C")
    order_id = models.BigIntegerField(unique=True)

    class Meta:
        constraints = [models.UniqueConstraint(name="orderkey_external_id", fields=["program", "external_id"])]

    def __str__(self) -> str:
        return self.external_id


class Order(models.Model):
    """A paid order as the storefront told it. Without a member it is a guest's: kept, earns nothing.

    `returned_at` is set once, by the refund that brought back the last unit.
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


class OrderLine(models.Model):
    """One paid line. What came back is counted here so that the database can refuse a unit too many.

    The member is the order's, whose constraint the database checks once an order and not once a line.
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
    returned_units = models.PositiveIntegerField(default=0)
    returned_minor = models.BigIntegerField(default=0)

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
        ]

    def __str__(self) -> str:
        return self.external_id


class Refund(models.Model):
    """Money given back. It counts against its member's spend on its own day, whether or not it names an order."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="refunds", null=True, db_index=False)
    order = models.ForeignKey(Order, models.PROTECT, related_name="refunds", null=True)
    external_id = models.CharField(max_length=200, db_collation="C")
    refunded_at = models.DateTimeField()
    local_date = models.DateField()
    currency = models.CharField(max_length=3)
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["refunded_at", "external_id"]
        indexes = [models.Index(name="refund_member_refunded", fields=["member", "refunded_at"])]
        constraints = [
            models.UniqueConstraint(
                name="refund_external_id", fields=["program", "external_id", "member"], nulls_distinct=False
            ),
            models.CheckConstraint(
                name="refund_amounts", condition=Q(amount_minor__gte=0, program_amount_minor__gte=0)
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class RefundLine(models.Model):
    """What came back of one order line: units, or money alone when `units` is empty.

    `returned_units` and `returned_minor` are the line's totals after this refund line, in the order in
    which refunds are dated when they arrive together: the share from which clawback is computed.
    """

    refund = models.ForeignKey(Refund, models.PROTECT, related_name="lines", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", null=True, db_index=False, db_constraint=False)
    order_line = models.ForeignKey(OrderLine, models.PROTECT, related_name="refund_lines", null=True)
    external_id = models.CharField(max_length=200)
    sku = models.CharField(max_length=100, blank=True)
    units = models.PositiveIntegerField(null=True)
    amount_minor = models.BigIntegerField()
    program_amount_minor = models.BigIntegerField()
    returned_units = models.PositiveIntegerField(null=True)
    returned_minor = models.BigIntegerField(null=True)

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
    """Something a member did that is not a purchase: visit, check_in, review, share, survey_answer, ..."""

    member = models.ForeignKey(Member, models.PROTECT, related_name="activities", db_index=False)
    kind = models.CharField(max_length=63)
    source = models.CharField(max_length=63, blank=True)
    external_id = models.CharField(max_length=200)
    occurred_at = models.DateTimeField()
    local_date = models.DateField()
    quality = models.SmallIntegerField(null=True)
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()

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
    day, whenever they were paid. Amounts in the program's currency.
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

    def __str__(self) -> str:
        return f"{self.member_id} {self.day}"


class Ladder(models.Model):
    """An ordered set of tiers. A program may run several side by side; the first by id is its main one.

    `evaluated_at` is the last evaluation instant that has begun: facts dated before it are late and mark
    their member dirty. `completed_at` is the last one that has finished for every member.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    code = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)
    evaluated_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="ladder_code", fields=["program", "code"])]

    def __str__(self) -> str:
        return self.code


class Tier(models.Model):
    """A tier's identity, kept over versions; its rank and requirements stand in the version."""

    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="tiers")
    code = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="tier_code", fields=["ladder", "code"])]

    def __str__(self) -> str:
        return self.name


class LadderVersion(Version):
    """What a ladder demands: a `LadderDefinition`."""

    owner = models.ForeignKey(Ladder, models.PROTECT, related_name="versions")


class TierCause(models.TextChoices):
    ENROLLED = "enrolled"
    UPGRADED = "upgraded"
    STAYED = "stayed"
    DOWNGRADED = "downgraded"
    OVERRIDDEN = "overridden"
    PAID = "paid"
    CORRECTED = "corrected"
    IMPORTED = "imported"


class TierPeriod(models.Model):
    """From `valid_from` the member holds `tier`, until the next live row's `valid_from`.

    A row is live until `superseded_at`; a trigger refuses every other change. `guaranteed_until` is the
    instant before which no evaluation takes the tier away (grace, minimum stay); a row with cause
    `stayed` exists only because it moved that instant. `evidence` holds the metric values that decided,
    by `metric:window` key. Ladder, tier and version are checked by nobody but the services that write the rows: a check
    would lock the same few rows for every member who moves.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="tier_periods", db_index=False)
    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    tier = models.ForeignKey(Tier, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    version = models.ForeignKey(LadderVersion, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    valid_from = models.DateTimeField()
    recorded_at = models.DateTimeField()
    superseded_at = models.DateTimeField(null=True)
    cause = models.CharField(max_length=10, choices=TierCause.choices)
    guaranteed_until = models.DateTimeField(null=True)
    evidence = models.JSONField(default=dict)

    class Meta:
        ordering = ["member", "ladder", "valid_from", "id"]
        constraints = [
            models.UniqueConstraint(
                name="tierperiod_live", fields=["member", "ladder", "valid_from"], condition=Q(superseded_at=None)
            ),
        ]
        indexes = [models.Index(name="tierperiod_history", fields=["member", "ladder", "valid_from"])]

    def __str__(self) -> str:
        return f"{self.tier_id} from {self.valid_from}"


class DirtyMember(models.Model):
    """A fact arrived that is older than the ladder's last evaluation: re-run this member from `since`.

    `since` is the instant of the earliest such fact. Cleared by the recompute that has seen it.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="+")
    since = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="dirtymember_once", fields=["member", "ladder"])]

    def __str__(self) -> str:
        return f"{self.member_id} since {self.since}"


class Evaluation(models.Model):
    """One scheduled evaluation of a ladder, its progress by chunk and its outcome. Unique by instant."""

    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="evaluations", db_index=False)
    version = models.ForeignKey(LadderVersion, models.PROTECT, related_name="+", db_index=False)
    at = models.DateTimeField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["ladder", "at"]
        constraints = [models.UniqueConstraint(name="evaluation_once", fields=["ladder", "at"])]

    def __str__(self) -> str:
        return f"{self.ladder_id} at {self.at}"


class EvaluationChunk(models.Model):
    """A range of member ids of one evaluation: claimed by its row lock, done in one transaction."""

    evaluation = models.ForeignKey(Evaluation, models.CASCADE, related_name="chunks", db_index=False)
    first_member_id = models.BigIntegerField()
    last_member_id = models.BigIntegerField()
    done_at = models.DateTimeField(null=True)
    upgraded = models.IntegerField(default=0)
    downgraded = models.IntegerField(default=0)

    class Meta:
        ordering = ["evaluation", "first_member_id"]
        constraints = [
            models.UniqueConstraint(name="evaluationchunk_range", fields=["evaluation", "first_member_id"]),
        ]

    def __str__(self) -> str:
        return f"{self.first_member_id}-{self.last_member_id}"
