"""Facts that were told wrong and are corrected: every version of them that there has been."""

from django.db import models

from core.models import Program
from membership.models.members import Member
from membership.models.tiers import FactKind


class FactCorrection(models.Model):
    """A correction of a fact, with what the fact said before and says after it. Append-only.

    The fact's own row says what the last correction says: that is the view which everything reads. `before` of the
    first correction is the fact as it was told.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", null=True, db_index=False)
    fact_kind = models.SmallIntegerField(choices=FactKind.choices)
    fact_id = models.BigIntegerField()
    number = models.PositiveSmallIntegerField()
    external_id = models.CharField(max_length=200)
    reason = models.CharField(max_length=500)
    decided_by = models.CharField(max_length=200)
    before = models.JSONField()
    after = models.JSONField()
    content_digest = models.BinaryField(max_length=16)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["fact_kind", "fact_id", "number"]
        constraints = [
            models.UniqueConstraint(
                name="factcorrection_number", fields=["fact_id", "fact_kind", "number", "member"], nulls_distinct=False
            ),
            models.UniqueConstraint(
                name="factcorrection_external_id",
                fields=["fact_id", "fact_kind", "external_id", "member"],
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"{self.external_id} ({self.number})"
