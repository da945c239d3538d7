"""Ladders and tiers, who holds which tier since when and why, and the evaluations that decide it."""

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core.models import Program, Version
from membership.models.members import Member


class Ladder(models.Model):
    """An ordered set of tiers. A program may run several side by side; the first by id is its main one.

    `evaluated_at` is the last evaluation instant that has begun: facts dated before it are late and mark
    their member dirty. `completed_at` is the last one that has finished for every member. `reviewed_at` is the start
    of the last local day up to which upgrades have been reviewed whose orders came back.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    code = models.SlugField(max_length=63)
    name = models.CharField(max_length=200)
    evaluated_at = models.DateTimeField(null=True, editable=False)
    completed_at = models.DateTimeField(null=True, editable=False)
    reviewed_at = models.DateTimeField(null=True, editable=False)

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
    ENROLLED = "enrolled", _("Enrolled")
    UPGRADED = "upgraded", _("Upgraded")
    STAYED = "stayed", _("Stayed")
    DOWNGRADED = "downgraded", _("Downgraded")
    OVERRIDDEN = "overridden", _("Overridden")
    RESTORED = "restored", _("Restored")
    PAID = "paid", _("Paid")
    CORRECTED = "corrected", _("Corrected")
    IMPORTED = "imported", _("Imported")


# What these gave is not taken away when orders come back.
FLOORS = (TierCause.ENROLLED, TierCause.DOWNGRADED, TierCause.PAID, TierCause.IMPORTED)


class TierPeriod(models.Model):
    """From `valid_from` the member holds `tier`, until the next live row's `valid_from`.

    A row is live until `superseded_at`; a trigger refuses every other change. `guaranteed_until` is the
    instant before which no evaluation takes the tier away (grace, minimum stay); a row with cause
    `stayed` exists only because it moved that instant, and one with cause `restored` because an override ended: it has
    what the facts have given by then. `evidence` holds the metric values that decided,
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
            # With the tier in it, who holds which tier now is counted from the index alone.
            models.UniqueConstraint(
                name="tierperiod_live",
                fields=["member", "ladder", "valid_from"],
                include=["tier"],
                condition=Q(superseded_at=None),
            ),
        ]
        indexes = [models.Index(name="tierperiod_history", fields=["member", "ladder", "valid_from"])]

    def __str__(self) -> str:
        return f"{self.tier_id} from {self.valid_from}"


class TierOverride(models.Model):
    """An operator's decision: in [valid_from, valid_until) the member holds this tier, whatever the facts say.

    `lifted_at` ends it early. What is recorded never changes, but for that instant, once.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="tier_overrides", db_index=False)
    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="+")
    tier = models.ForeignKey(Tier, models.PROTECT, related_name="+")
    valid_from = models.DateTimeField()
    valid_until = models.DateTimeField()
    reason = models.TextField()
    decided_by = models.CharField(max_length=150, help_text="Login, or the key that decided")
    recorded_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["member", "valid_from"]
        constraints = [
            models.UniqueConstraint(name="tieroverride_once", fields=["member", "ladder", "valid_from"]),
            models.CheckConstraint(name="tieroverride_lasts", condition=Q(valid_until__gt=F("valid_from"))),
            models.CheckConstraint(name="tieroverride_reason", condition=~Q(reason="")),
        ]

    def __str__(self) -> str:
        return f"{self.tier_id} until {self.valid_until}"


class DirtyMember(models.Model):
    """The next close works this member's tiers out again from `since` on.

    Either a fact arrived that is older than the ladder's last evaluation, and `since` is its instant; or an order came
    back that an upgrade may have counted, and `since` is the instant up to which that has been reviewed, or of the
    first refund that has not been. Removed when neither is so any more.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    ladder = models.ForeignKey(Ladder, models.PROTECT, related_name="+")
    since = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(name="dirtymember_once", fields=["member", "ladder"])]

    def __str__(self) -> str:
        return f"{self.member_id} since {self.since}"


class FactKind(models.IntegerChoices):
    """What a fact is, where a row names one. The numbers are the ledger's."""

    NONE = 0, _("None")
    ORDER = 1, _("Order")
    REFUND = 3, _("Refund")
    ACTIVITY = 5, _("Activity")
    ORDER_EDIT = 8, _("Order edit")
    CREDIT = 10, _("Qualifying credit")


class PastChange(models.Model):
    """What is known of a member's past has changed: the next close looks again at what was earned in [since, until).

    Either the member holds other tiers there than those with which facts had earned, or a fact was corrected; then
    `both_ways`: differences are posted up and down, whatever the program's `corrections` say. The fact is the one that
    was recorded last of those that can have changed it. `until` empty: no end. Removed by the close that has looked.
    """

    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    since = models.DateTimeField()
    until = models.DateTimeField(null=True)
    fact_kind = models.SmallIntegerField(choices=FactKind.choices)
    fact_id = models.BigIntegerField(null=True)
    both_ways = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(name="pastchange_once", fields=["member"]),
            models.CheckConstraint(name="pastchange_lasts", condition=Q(until=None) | Q(until__gt=F("since"))),
        ]

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
