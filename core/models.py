"""Programs and their markets, versions, the outbox and the audit trail."""

from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q


class Program(models.Model):
    """One brand: its ladders, wallets and rules, its currency and its business days.

    `opened_at` is the instant at which its first fact was recorded; from then on the database refuses
    to change currency or zone.
    """

    code = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    currency = models.CharField(max_length=3)
    time_zone = models.CharField(max_length=63)
    created_at = models.DateTimeField(auto_now_add=True)
    opened_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["code"]
        constraints = [models.CheckConstraint(name="program_currency", condition=Q(currency__regex=r"^[A-Z]{3}$"))]

    def __str__(self) -> str:
        return self.code


class Market(models.Model):
    """Where a program sells: currency, zone for display, locales, countries."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="markets")
    code = models.SlugField(max_length=63)
    currency = models.CharField(max_length=3)
    time_zone = models.CharField(max_length=63)
    locales = ArrayField(models.CharField(max_length=15))
    countries = ArrayField(models.CharField(max_length=2))

    class Meta:
        ordering = ["code"]
        constraints = [
            models.UniqueConstraint(name="market_code", fields=["program", "code"]),
            models.CheckConstraint(name="market_currency", condition=Q(currency__regex=r"^[A-Z]{3}$")),
        ]

    def __str__(self) -> str:
        return self.code


class VersionStatus(models.TextChoices):
    DRAFT = "draft"
    PUBLISHED = "published"
    RETIRED = "retired"


class Version(models.Model):
    """What every versioned definition shares: draft -> published -> retired.

    Subclasses add the foreign key `owner` and install the trigger `core_guard_version`, which refuses
    any change to a version that is no longer a draft. A version that left the draft state is in force for
    everything that happens from `effective_at` (empty: from the beginning) until its successor's.
    """

    number = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=VersionStatus.choices, default=VersionStatus.DRAFT)
    definition = models.JSONField()
    published_at = models.DateTimeField(null=True, editable=False)
    effective_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True
        ordering = ["owner", "number"]
        constraints = [
            models.UniqueConstraint(name="%(class)s_number", fields=["owner", "number"]),
            models.UniqueConstraint(
                name="%(class)s_effective",
                fields=["owner", "effective_at"],
                condition=~Q(status="draft"),
                nulls_distinct=False,
            ),
        ]

    def __str__(self) -> str:
        return f"v{self.number} ({self.status})"


class OutboxEvent(models.Model):
    """News for apps above the writer and for the world, written in the writer's transaction.

    `dispatched_at` is set when the worker has made one receipt for each subscriber.
    """

    id = models.BigAutoField(primary_key=True)
    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    topic = models.CharField(max_length=63)
    payload = models.JSONField()
    recorded_at = models.DateTimeField()
    dispatched_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["id"]
        indexes = [models.Index(name="outboxevent_waiting", fields=["id"], condition=Q(dispatched_at=None))]

    def __str__(self) -> str:
        return f"{self.topic} {self.pk}"


class OutboxReceipt(models.Model):
    """One event for one subscriber: waiting, done, or failed and due again at `next_attempt_at`."""

    event = models.ForeignKey(OutboxEvent, models.CASCADE, related_name="receipts")
    subscriber = models.CharField(max_length=100)
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    done_at = models.DateTimeField(null=True)
    last_error = models.TextField(blank=True)

    class Meta:
        ordering = ["id"]
        constraints = [models.UniqueConstraint(name="outboxreceipt_once", fields=["event", "subscriber"])]
        indexes = [models.Index(name="outboxreceipt_due", fields=["next_attempt_at"], condition=Q(done_at=None))]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.subscriber}"


class AuditEntry(models.Model):
    """Who changed what, why, from what to what. Append-only."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", null=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", null=True)
    actor = models.CharField(max_length=150, help_text="Login, or the command that acted")
    action = models.CharField(max_length=63)
    target = models.CharField(max_length=200)
    reason = models.TextField(blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "audit entries"
        indexes = [models.Index(name="auditentry_target", fields=["target", "id"])]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"
