"""The clock's runs over a program's days, and how far its ledger has been announced."""

from django.db import models
from django.db.models import F, Q

from core.models import Program
from membership.models import Ladder, Member, Tier


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
