"""Programs and their markets, versions, the outbox and the audit trail; what the world sees: keys, events, webhooks."""

import base64
import secrets

import uuid_utils.compat as uuid
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Corrections(models.TextChoices):
    """Which differences are posted when late facts change what had been earned."""

    BOTH = "both", _("Upward and downward")
    UPWARD = "upward", _("Upward")
    NEVER = "never", _("Never")


class Program(models.Model):
    """One brand: its ladders, wallets and rules, its currency and its business days.

    `opened_at` is the instant at which its first fact was recorded; from then on the database refuses
    to change currency or zone. Facts dated before `start_date` (local; empty: no limit) are refused. `channels`: by
    which orders may come (empty: any). A sandbox is for trying things out: only test keys open it. `revision` grows
    with every change of what its definitions say, so that whoever keeps them in memory sees when to read them again.
    `corrections`: when facts come late, which differences to what had been earned are posted.
    """

    code = models.SlugField(max_length=63, unique=True)
    name = models.CharField(max_length=200)
    currency = models.CharField(max_length=3)
    time_zone = models.CharField(max_length=63)
    start_date = models.DateField(null=True, blank=True)
    channels = ArrayField(models.CharField(max_length=63), default=list, blank=True)
    is_sandbox = models.BooleanField(default=False)
    corrections = models.CharField(max_length=6, choices=Corrections.choices, default=Corrections.UPWARD)
    revision = models.PositiveIntegerField(default=0, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    opened_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["code"]
        permissions = [
            ("draft_version", "Can write drafts of ladders, wallets and earn rules"),
            ("publish_version", "Can publish drafts"),
        ]
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
    DRAFT = "draft", _("Draft")
    PUBLISHED = "published", _("Published")
    RETIRED = "retired", _("Retired")


class Version(models.Model):
    """What every versioned definition shares: draft -> published -> retired.

    Subclasses add the foreign key `owner` and install the trigger `core_guard_version`, which refuses
    any change to a version that is no longer a draft. A version that left the draft state is in force for
    everything that happens from `effective_at` (empty: from the beginning) until its successor's, or until `ended_at`:
    from then on none is, until another one is published. An owner has at
    most one draft. Its number is the one it will be published as; once another version has taken that, it is stale.
    """

    number = models.PositiveIntegerField()
    status = models.CharField(max_length=9, choices=VersionStatus.choices, default=VersionStatus.DRAFT)
    definition = models.JSONField()
    published_at = models.DateTimeField(null=True, editable=False)
    effective_at = models.DateTimeField(null=True, editable=False)
    ended_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        abstract = True
        ordering = ["owner", "number"]
        constraints = [
            models.UniqueConstraint(name="%(class)s_number", fields=["owner", "number"], condition=~Q(status="draft")),
            models.UniqueConstraint(name="%(class)s_draft", fields=["owner"], condition=Q(status="draft")),
            models.UniqueConstraint(
                name="%(class)s_effective",
                fields=["owner", "effective_at"],
                condition=~Q(status="draft"),
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                name="%(class)s_ended",
                condition=Q(ended_at=None)
                | Q(status="retired") & (Q(effective_at=None) | Q(ended_at__gt=models.F("effective_at"))),
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
        permissions = [("retry_receipt", "Can retry failed deliveries of the outbox")]
        constraints = [models.UniqueConstraint(name="outboxreceipt_once", fields=["event", "subscriber"])]
        indexes = [models.Index(name="outboxreceipt_due", fields=["next_attempt_at"], condition=Q(done_at=None))]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.subscriber}"


class AuditEntry(models.Model):
    """Who changed what, why, from what to what. Append-only."""

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", null=True, db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", null=True)
    actor = models.CharField(max_length=150, help_text="Login, or the command that acted")
    action = models.CharField(max_length=63)
    target = models.CharField(max_length=300)  # a word and an id of 200 characters
    reason = models.TextField(blank=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["-recorded_at", "-id"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(name="auditentry_target", fields=["target", "recorded_at", "id"]),
            models.Index(name="auditentry_program", fields=["program", "recorded_at", "id"]),
            models.Index(name="auditentry_action", fields=["action", "recorded_at", "id"]),
            models.Index(name="auditentry_actor", fields=["actor", "recorded_at", "id"]),
            models.Index(name="auditentry_recorded", fields=["recorded_at", "id"]),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


class Scope(models.TextChoices):
    """What a key may do. A member token may do less: see core.api.credentials."""

    PROGRAMS_READ = "programs:read"
    MEMBERS_READ = "members:read"
    MEMBERS_WRITE = "members:write"
    FACTS_READ = "facts:read"
    FACTS_WRITE = "facts:write"
    TIERS_READ = "tiers:read"
    TIERS_OVERRIDE = "tiers:override"
    POINTS_READ = "points:read"
    POINTS_REDEEM = "points:redeem"
    POINTS_ADJUST = "points:adjust"
    COUPONS_READ = "coupons:read"
    COUPONS_CLAIM = "coupons:claim"
    COUPONS_ISSUE = "coupons:issue"
    REFERRALS_READ = "referrals:read"
    REFERRALS_WRITE = "referrals:write"
    REFERRALS_REVIEW = "referrals:review"
    CHECKOUTS_WRITE = "checkouts:write"
    RETENTION_READ = "retention:read"
    EVENTS_READ = "events:read"
    WEBHOOKS_MANAGE = "webhooks:manage"
    TOKENS_ISSUE = "tokens:issue"


class ApiKey(models.Model):
    """A storefront's key: `pnl_live_<prefix>.<secret>`, `pnl_test_` for a sandbox. Only the secret's digest is kept.

    Valid until `expires_at` or `revoked_at`, whichever comes first. Rotation makes a successor and lets the old key
    expire after an overlap. `rate_per_minute` empty: the setting's. `allowed_origins`: the web origins from which
    browsers may use the key's member tokens.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=12, unique=True, editable=False)
    secret_digest = models.BinaryField(max_length=32, editable=False)
    scopes = ArrayField(models.CharField(max_length=31, choices=Scope.choices))
    allowed_origins = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    rate_per_minute = models.PositiveIntegerField(null=True, blank=True)
    rotated_from = models.ForeignKey("self", models.PROTECT, related_name="+", null=True, editable=False)
    created_at = models.DateTimeField(editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, editable=False)
    last_used_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        ordering = ["-id"]
        verbose_name = "API key"
        permissions = [("issue_key", "Can issue, rotate and revoke API keys")]

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class IdempotencyRecord(models.Model):
    """A write under way or answered, by the key its sender chose.

    `caller`: `key` for a program's server keys, `member:<external id>` for a member's tokens. While `status` is empty
    the work is under way until `leased_until`; after that the next sender may take it over. The answer is written in
    the work's own transaction. Lapsed rows are cleaned up: what is true for ever stands in the ledger's own keys.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    caller = models.CharField(max_length=210)
    key = models.CharField(max_length=255, db_collation="C")
    request_digest = models.BinaryField(max_length=32)
    lease = models.UUIDField()
    leased_until = models.DateTimeField()
    created_at = models.DateTimeField()
    status = models.SmallIntegerField(null=True)
    body = models.TextField(null=True)  # noqa: DJ001 no answer yet is not an empty one

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(name="idempotencyrecord_key", fields=["program", "caller", "key"]),
            models.CheckConstraint(
                name="idempotencyrecord_answer", condition=Q(status=None, body=None) | ~Q(status=None) & ~Q(body=None)
            ),
        ]
        indexes = [models.Index(name="idempotencyrecord_created", fields=["created_at"])]

    def __str__(self) -> str:
        return self.key


class EventFeed(models.Model):
    """The number of a program's last event: the row that everyone who announces something locks."""

    program = models.OneToOneField(Program, models.PROTECT, related_name="+", primary_key=True)
    last_number = models.BigIntegerField(default=0)

    def __str__(self) -> str:
        return f"{self.program_id}: {self.last_number}"


class Event(models.Model):
    """What happened, as the world is told: a row of the events feed and the content of webhooks.

    Numbers are gapless and ascend in the order of commits, so a reader that remembers the last one misses nothing.
    `subject`: the member's external id, where it is about one. Cleaned up after the retention time.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+", db_index=False)
    number = models.BigIntegerField()
    public_id = models.UUIDField(unique=True, default=uuid.uuid7)
    type = models.CharField(max_length=63)
    subject = models.CharField(max_length=200, blank=True)
    data = models.JSONField()
    occurred_at = models.DateTimeField()
    recorded_at = models.DateTimeField()

    class Meta:
        ordering = ["program", "number"]
        constraints = [models.UniqueConstraint(name="event_number", fields=["program", "number"])]
        indexes = [models.Index(name="event_recorded", fields=["recorded_at"])]

    def __str__(self) -> str:
        return f"{self.type} {self.number}"


def make_webhook_secret() -> str:
    """Return a new signing secret in the form of the Standard Webhooks specification: 32 random bytes."""
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


class WebhookEndpoint(models.Model):
    """Where a program's events are sent. `event_types` empty: all.

    Disabled by hand or, after days of failures, by itself: then `disabled_reason` says why. While a rotated secret's
    overlap lasts, messages carry the signatures of both.
    """

    program = models.ForeignKey(Program, models.PROTECT, related_name="+")
    public_id = models.UUIDField(unique=True, default=uuid.uuid7, editable=False)
    url = models.URLField(max_length=500)
    description = models.CharField(max_length=200, blank=True)
    event_types = ArrayField(models.CharField(max_length=63), default=list, blank=True)
    secret = models.CharField(max_length=100, editable=False)
    previous_secret = models.CharField(max_length=100, blank=True, editable=False)
    previous_secret_expires_at = models.DateTimeField(null=True, editable=False)
    created_at = models.DateTimeField(editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    disabled_at = models.DateTimeField(null=True, editable=False)
    disabled_reason = models.CharField(max_length=200, blank=True, editable=False)

    class Meta:
        ordering = ["id"]

    def __str__(self) -> str:
        return self.url


class WebhookDelivery(models.Model):
    """One event for one endpoint: due at `next_attempt_at`, delivered, or given up.

    A sender claims it by setting `leased_until` and works outside any transaction; a lapsed lease is due again.
    """

    endpoint = models.ForeignKey(WebhookEndpoint, models.PROTECT, related_name="deliveries", db_index=False)
    event = models.ForeignKey(Event, models.CASCADE, related_name="deliveries")
    attempts = models.PositiveIntegerField(default=0)
    next_attempt_at = models.DateTimeField(null=True)
    leased_until = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    given_up_at = models.DateTimeField(null=True)

    class Meta:
        ordering = ["-id"]
        verbose_name_plural = "webhook deliveries"
        permissions = [("replay_delivery", "Can send webhook deliveries again")]
        constraints = [models.UniqueConstraint(name="webhookdelivery_once", fields=["endpoint", "event"])]
        indexes = [
            models.Index(
                name="webhookdelivery_due", fields=["endpoint", "next_attempt_at"], condition=~Q(next_attempt_at=None)
            )
        ]

    def __str__(self) -> str:
        return f"{self.event_id} to {self.endpoint_id}"


class WebhookAttempt(models.Model):
    """One sending: what the endpoint answered, or why nothing did."""

    delivery = models.ForeignKey(WebhookDelivery, models.CASCADE, related_name="log")
    attempted_at = models.DateTimeField()
    duration_ms = models.PositiveIntegerField()
    status = models.SmallIntegerField(null=True)
    error = models.CharField(max_length=500, blank=True)
    answer = models.CharField(max_length=1000, blank=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return f"{self.delivery_id} at {self.attempted_at}"


class LoginTries(models.Model):
    """How often somebody tried to log in as an operator since the window began; a log-in gives its try back.

    `key`: a digest of the account, or of the account and the client's address.
    """

    key = models.CharField(max_length=64, primary_key=True)
    tries = models.PositiveIntegerField()
    since = models.DateTimeField(db_index=True)

    class Meta:
        ordering = ["key"]
        verbose_name_plural = "login tries"

    def __str__(self) -> str:
        return f"{self.tries} since {self.since}"
