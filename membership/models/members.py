"""Members of a program."""

from django.db import models
from django.db.models.functions import Upper
from django.utils.translation import gettext_lazy as _

from core.models import Program


def any_case(name: str) -> models.Index:
    """Return the index by which operators find ids that begin with some letters, in upper or lower case."""
    return models.Index("program", Upper("external_id"), name=name)


class MemberKind(models.TextChoices):
    PERSON = "person", _("Person")
    HOUSEHOLD = "household", _("Household")


class MemberStatus(models.TextChoices):
    ACTIVE = "active", _("Active")
    SUSPENDED = "suspended", _("Suspended")
    ERASED = "erased", _("Erased")


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
        permissions = [
            ("override_tier", "Can override a member's tier"),
            ("suspend_member", "Can suspend and reactivate members"),
        ]
        constraints = [models.UniqueConstraint(name="member_external_id", fields=["program", "external_id"])]
        indexes = [any_case("member_any_case")]

    def __str__(self) -> str:
        return self.external_id
