"""Facts for retention and sums of the ledger, recomputed from what changed and never counted up."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.models import Program
from membership.models import Member, Tier
from points.models import Wallet


class Segment(models.Model):
    """What a member's first order froze: the tier it was made with, and the market, country, channel, device it named.

    Members of one segment share its row, so that cuts of retention need no join with orders. `tier`: the tier of the
    main ladder held one tick after the first order, the immediate upgrade by that order included; empty for who held
    none then. Nothing that came later bears on it.
    """

    id = models.AutoField(primary_key=True)  # four bytes in each of millions of months
    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    tier = models.ForeignKey(Tier, models.PROTECT, related_name="+", null=True, db_index=False)
    market = models.CharField(max_length=63, blank=True)
    country = models.CharField(max_length=63, blank=True)
    channel = models.CharField(max_length=63, blank=True)
    device = models.CharField(max_length=63, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="segment_once",
                fields=["program", "tier", "market", "country", "channel", "device"],
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.market} {self.country} {self.channel} {self.device}"


class MemberMonth(models.Model):
    """A member in a local month, from the month of the first order on.

    `tier_start` is the tier of the program's main ladder as of the first instant of the month, `tier_before` the one
    as of the first instant of the month before, if the member had ordered before that. Amounts in
    the program's currency; refunds count in the month they were given. Program and tiers come from the member's
    own rows, so only the member is checked by the database: more checks would triple the cost of a refresh.
    """

    pk = models.CompositePrimaryKey("member_id", "month")
    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    month = models.DateField()
    first_month = models.DateField()
    segment = models.ForeignKey(Segment, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    tier_start = models.ForeignKey(
        Tier, models.PROTECT, related_name="+", null=True, db_index=False, db_constraint=False
    )
    tier_before = models.ForeignKey(
        Tier, models.PROTECT, related_name="+", null=True, db_index=False, db_constraint=False
    )
    orders = models.IntegerField()
    net_minor = models.BigIntegerField()

    class Meta:
        indexes = [models.Index(name="membermonth_cells", fields=["program", "month"])]

    def __str__(self) -> str:
        return f"{self.member_id} {self.month}"


class MemberStat(models.Model):
    """A member who ordered, in what the questions by day ask. Gaps are in local days after the first order's day.

    `next_gap`: the first later day with an order. `last_gap`: the last such day within the follow-up of
    `analytics.rules.FOLLOW_UP_DAYS`, 0 if there is none. `same_day`: another order on the first day. `in_30`, `in_60`,
    `in_90`: an order on days 1 to 30, 31 to 60, 61 to 90.
    """

    member = models.OneToOneField(Member, models.PROTECT, related_name="+", primary_key=True)
    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    segment = models.ForeignKey(Segment, models.PROTECT, related_name="+", db_index=False, db_constraint=False)
    entry_day = models.DateField()
    last_day = models.DateField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    orders = models.IntegerField()
    next_gap = models.IntegerField(null=True)
    last_gap = models.SmallIntegerField()
    same_day = models.BooleanField()
    in_30 = models.BooleanField()
    in_60 = models.BooleanField()
    in_90 = models.BooleanField()

    class Meta:
        indexes = [models.Index(name="memberstat_program", fields=["program"])]

    def __str__(self) -> str:
        return f"{self.member_id} since {self.entry_day}"


class DirtyMonth(models.Model):
    """Facts or tiers of this member changed from this month on: recompute its months."""

    pk = models.CompositePrimaryKey("member_id", "since")
    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    since = models.DateField()

    def __str__(self) -> str:
        return f"{self.member_id} from {self.since}"


class Report(models.TextChoices):
    """What a cell counts. `period` is a local month, `step` what the report goes by.

    active: members in a tier at the month's start / who ordered in the month. cohort: members of an entry month / who
    ordered `step` months later. within, same_day: by an entry month, who ordered again within `step` days, the first
    day left out or included. bracket: on days `step` - 29 to `step`. after: on day `step` or later within the
    follow-up. survival: members by the last such day, 90 standing for later ones (a histogram: n is retained).
    migration: moves from `tier` to `to_tier` at the month's start (n is retained). repurchase: who ordered again
    within 90 days, the first day included. ever, cycle: the same without an end, as it is so far: on day `step` or
    later; pairs of consecutive orders / members with two or more / `span`, the time between first and last orders.
    """

    ACTIVE = "active", _("Active rate")
    COHORT = "cohort", _("Cohort retention")
    WITHIN = "within", _("Within N days")
    SAME_DAY = "same_day", _("Within N days, first day included")
    BRACKET = "bracket", _("Bracket of 30 days")
    AFTER = "after", _("On day N or later")
    SURVIVAL = "survival", _("Survival")
    MIGRATION = "migration", _("Tier moves")
    REPURCHASE = "repurchase", _("Repurchase")
    EVER = "ever", _("On day N or later, so far")
    CYCLE = "cycle", _("Repurchase cycle")


class CellKey(models.Model):
    """What names a cell of retention and says when it can change no more.

    `ends_on`: the first local day that has no part in it; empty: it goes on for ever.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    report = models.CharField(max_length=10, choices=Report.choices)
    period = models.DateField()
    step = models.IntegerField()
    tier = models.ForeignKey(Tier, models.PROTECT, related_name="+", null=True, db_index=False)
    to_tier = models.ForeignKey(Tier, models.PROTECT, related_name="+", null=True, db_index=False)

    class Meta:
        abstract = True


class RetentionCell(CellKey):
    """How many members of a segment are in a cell, and how many of them were retained; see `Report`.

    Summed from MemberMonth and MemberStat by `analytics/services/cells.py`. Units: `span` in microseconds.
    """

    segment = models.ForeignKey(Segment, models.PROTECT, related_name="+", db_index=False)
    ends_on = models.DateField(null=True)
    n = models.BigIntegerField()
    retained = models.BigIntegerField()
    span = models.DecimalField(max_digits=30, decimal_places=0, null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                name="retentioncell_once",
                fields=["program", "report", "period", "step", "tier", "to_tier", "segment"],
                nulls_distinct=False,
            )
        ]

    def __str__(self) -> str:
        return f"{self.report} {self.period} {self.step}"


class RetentionState(models.Model):
    """Through which local day the cells of a program have the facts, when that was, and by which definitions."""

    program = models.OneToOneField(Program, models.PROTECT, related_name="+", primary_key=True)
    watermark = models.DateField()
    definition_version = models.PositiveIntegerField()
    refreshed_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.program_id} through {self.watermark}"


class RestatementCause(models.TextChoices):
    FACTS = "facts", _("Facts or tiers told later")
    DEFINITION = "definition", _("New definition")


class Restatement(CellKey):
    """A final cell that changed. Append-only. Without a segment: the whole cell; with one: that part of it."""

    segment = models.ForeignKey(Segment, models.PROTECT, related_name="+", null=True, db_index=False)
    n_before = models.BigIntegerField()
    retained_before = models.BigIntegerField()
    n_after = models.BigIntegerField()
    retained_after = models.BigIntegerField()
    cause = models.CharField(max_length=10, choices=RestatementCause.choices)
    definition_version = models.PositiveIntegerField()
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(name="restatement_program", fields=["program", "id"])]

    def __str__(self) -> str:
        return f"{self.report} {self.period} {self.step}"


class WalletDay(models.Model):
    """What moved in a wallet on a local day, over all members: a projection of the ledger.

    Outstanding points grow by earned + adjusted - redeemed - expired - clawed_back. A reversal gives back what was
    redeemed; `adjusted` is what operators gave less what they took. `refreshed_at`: when the day was last summed.
    """

    wallet = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    day = models.DateField()
    earned = models.BigIntegerField()
    redeemed = models.BigIntegerField()
    expired = models.BigIntegerField()
    clawed_back = models.BigIntegerField()
    adjusted = models.BigIntegerField()
    refreshed_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="walletday_once", fields=["wallet", "day"])]

    def __str__(self) -> str:
        return f"{self.wallet_id} {self.day}"
