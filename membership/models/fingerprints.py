"""What members were seen with: how several accounts of one person are recognized."""

from django.db import models
from django.utils.translation import gettext_lazy as _

from core.models import Program
from membership.models.members import Member


class FingerprintKind(models.TextChoices):
    EMAIL = "email", _("E-mail")
    PAYMENT = "payment", _("Means of payment")
    DEVICE = "device", _("Device")
    ADDRESS = "address", _("Address")
    IP_AGENT = "ip_agent", _("IP address and browser")


class Fingerprint(models.Model):
    """That a member was seen with an e-mail address, a card, a device, ...: a keyed digest, never the value itself."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    member = models.ForeignKey(Member, models.PROTECT, related_name="+", db_index=False)
    kind = models.CharField(max_length=8, choices=FingerprintKind.choices)
    digest = models.BinaryField(max_length=32)
    seen_at = models.DateTimeField()

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="fingerprint_once", fields=["member", "kind", "digest"])]
        indexes = [models.Index(name="fingerprint_digest", fields=["digest", "member"])]

    def __str__(self) -> str:
        return f"{self.kind} of {self.member_id}"
