"""All settings, from the environment only; docs/settings.md explains each variable."""

from typing import Any

from celery.schedules import crontab

from config import environment, unfold
from config.installation import installation_secret
from config.server_urls import celery_broker_url, parse_database_url

BASE_DIR = environment.PROJECT
DATA_DIR = environment.data_directory()

SECRET_KEY = environment.text("PERENNIAL_SECRET_KEY") or installation_secret(DATA_DIR / "secret-key", random_bytes=50)
DEBUG = environment.flag("PERENNIAL_DEBUG")
ALLOWED_HOSTS = environment.words("PERENNIAL_ALLOWED_HOSTS", "127.0.0.1,localhost,[::1]")
CSRF_TRUSTED_ORIGINS = environment.words("PERENNIAL_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "core",
    "membership",
    "coupons",
    "points",
    "referrals",
    "analytics",
    "storefront",
    "config",
]

MIDDLEWARE = [
    "core.request_id.RequestIdMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "core.api.middleware.ApiMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "core.admin.two_step.TwoStepMiddleware",
    "core.admin.errors.RefuseNul",
]
CSRF_FAILURE_VIEW = "core.admin.errors.refuse_forgery"

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "config" / "templates"],  # what we say otherwise than the admin's theme
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Commands that need no server run without URLs; whatever connects all the same finds nobody there.
NO_DATABASE = "postgresql:///perennial?host=/nonexistent"
NO_REDIS = "unix:///nonexistent/redis.sock"


def _database() -> dict[str, Any]:
    database = parse_database_url(environment.text("DATABASE_URL") or NO_DATABASE)
    timeouts = {
        "statement_timeout": environment.integer("PERENNIAL_STATEMENT_TIMEOUT_MS", 30_000),
        "lock_timeout": environment.integer("PERENNIAL_LOCK_TIMEOUT_MS", 10_000),
        "idle_in_transaction_session_timeout": environment.integer("PERENNIAL_IDLE_TIMEOUT_MS", 60_000),
    }
    options = " ".join(f"-c {name}={milliseconds}" for name, milliseconds in timeouts.items() if milliseconds)
    if options:
        database["OPTIONS"] = {**database["OPTIONS"], "options": options}
    return database | {
        "CONN_MAX_AGE": environment.integer("PERENNIAL_CONNECTION_SECONDS", 600),
        "CONN_HEALTH_CHECKS": True,
        # A cursor held on the server outlives the transaction that PgBouncer gives a connection for.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }


DATABASES = {"default": _database()}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

REDIS_URL = environment.text("REDIS_URL") or NO_REDIS

CELERY_BROKER_URL = celery_broker_url(REDIS_URL)
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_SOFT_TIME_LIMIT = 600
CELERY_TASK_TIME_LIMIT = 660
# Redis hands a task out again after this time without an acknowledgment: it must exceed the time limit.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3_600}
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "check-ledgers": {"task": "points.check_ledgers", "schedule": crontab(hour=3, minute=10)},
    "refresh-wallet-days": {"task": "analytics.refresh_wallet_days", "schedule": 300.0, "options": {"expires": 300}},
    "deliver-outbox": {"task": "core.deliver_outbox", "schedule": 5.0, "options": {"expires": 30}},
    "close-days": {"task": "storefront.close_days", "schedule": 300.0, "options": {"expires": 300}},
    "end-overrides": {"task": "membership.end_overrides", "schedule": 300.0, "options": {"expires": 300}},
    "release-lapsed-coupons": {"task": "coupons.release_lapsed", "schedule": 60.0, "options": {"expires": 60}},
    "revoke-recalled-coupons": {"task": "coupons.revoke_recalled", "schedule": 5.0, "options": {"expires": 5}},
    "start-code-batches": {"task": "coupons.start_batches", "schedule": 5.0, "options": {"expires": 5}},
    "mature-referrals": {"task": "referrals.mature", "schedule": 300.0, "options": {"expires": 300}},
    "forget-touches": {
        "task": "referrals.forget_touches",
        "schedule": crontab(minute=50),
        "options": {"expires": 3_000},
    },
    "forget-fingerprints": {
        "task": "membership.forget_fingerprints",
        "schedule": crontab(minute=55),
        "options": {"expires": 3_000},
    },
    "forget-persons": {
        "task": "coupons.forget_persons",
        "schedule": crontab(minute=55),
        "options": {"expires": 3_000},
    },
    "clean-up": {"task": "core.clean_up", "schedule": crontab(minute=40), "options": {"expires": 3_000}},
    "send-webhooks": {"task": "core.send_webhooks", "schedule": 5.0, "options": {"expires": 10}},
    "end-checkouts": {"task": "storefront.end_checkouts", "schedule": 60.0, "options": {"expires": 60}},
}

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in ("UserAttributeSimilarityValidator", "MinimumLengthValidator", "CommonPasswordValidator")
]

# Whether every operator must log in in two steps; and how many proxies of ours add to X-Forwarded-For.
REQUIRE_TWO_STEP = environment.flag("PERENNIAL_REQUIRE_TWO_STEP")
TRUSTED_PROXIES = max(0, environment.integer("PERENNIAL_TRUSTED_PROXIES", 0))
OTP_TOTP_ISSUER = "Perennial"

TIME_ZONE = "UTC"
USE_TZ = True
UNFOLD = unfold.UNFOLD

LANGUAGE_CODE = "en"
FORMAT_MODULE_PATH = "config.formats"
LOCALE_PATHS = [BASE_DIR / "locale"]
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]

STATIC_URL = "/static/"
STATIC_ROOT = DATA_DIR / "static"

if environment.flag("PERENNIAL_HTTPS"):
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    SECURE_SSL_REDIRECT = SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = True
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = True

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "config.logs.JsonFormatter"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "json"}},
    # Its warnings name paths, and so members; what it says of refused requests, core.request_id says by route.
    "loggers": {"django.request": {"level": "ERROR"}},
    "root": {"handlers": ["stderr"], "level": environment.text("PERENNIAL_LOG_LEVEL", "WARNING").upper()},
}

REST_FRAMEWORK = {
    "UNAUTHENTICATED_USER": None,
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_SCHEMA_CLASS": "core.api.openapi.Operations",
    "EXCEPTION_HANDLER": "core.api.problems.handle",
}
WEBHOOKS_PRIVATE_HOSTS = environment.flag("PERENNIAL_WEBHOOKS_PRIVATE_HOSTS")
API_RATE_PER_MINUTE = environment.integer("PERENNIAL_API_RATE_PER_MINUTE", 6_000)
API_MEMBER_RATE_PER_MINUTE = environment.integer("PERENNIAL_API_MEMBER_RATE_PER_MINUTE", 120)
# A thousand orders of a few lines each stay below it.
DATA_UPLOAD_MAX_MEMORY_SIZE = environment.integer("PERENNIAL_API_BODY_BYTES", 8_000_000)
# How long a quote stands, and a hold after it; and how many days one that was not paid is kept.
CHECKOUT_MINUTES = max(1, environment.integer("PERENNIAL_CHECKOUT_MINUTES", 15))
CHECKOUT_DAYS = environment.integer("PERENNIAL_CHECKOUT_DAYS", 30)
HELD_CHECKOUT_DAYS = environment.integer("PERENNIAL_HELD_CHECKOUT_DAYS", 90)

# How many days what has served its time is kept; core/services/cleanup.py.
RETENTION_DAYS = {
    "idempotency": environment.integer("PERENNIAL_IDEMPOTENCY_DAYS", 2),
    "outbox": environment.integer("PERENNIAL_OUTBOX_DAYS", 7),
    "events": environment.integer("PERENNIAL_EVENTS_DAYS", 90),
    "webhook_log": environment.integer("PERENNIAL_WEBHOOK_LOG_DAYS", 30),
    "audit": environment.integer("PERENNIAL_AUDIT_DAYS", 0),
}
# How many days clicks and fingerprints are kept. A click counts for as long as a policy may say, 366 days.
TOUCH_DAYS = max(366, environment.integer("PERENNIAL_TOUCH_DAYS", 1_200))
FINGERPRINT_DAYS = max(1, environment.integer("PERENNIAL_FINGERPRINT_DAYS", 1_200))

METRICS_TOKEN = environment.text("PERENNIAL_METRICS_TOKEN")

SPECTACULAR_SETTINGS = {
    "TITLE": "Perennial",
    "DESCRIPTION": "Members, tiers and points for storefronts.",
    "VERSION": "1",
    "LICENSE": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    "SERVERS": [{"url": "/", "description": "This installation"}],
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": r"/api/v1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "COMPONENT_SPLIT_REQUEST": False,
    "COMPONENT_SPLIT_PATCH": False,
    "PATH_CONVERTER_OVERRIDES": {"slug": {"type": "string", "pattern": "^[-a-zA-Z0-9_]+$"}},
    # Not the one that gathers enumerations: fields of one name have different ones.
    "POSTPROCESSING_HOOKS": [
        "core.api.openapi.add_headers",
        "core.api.openapi.share_refusals",
        "core.api.openapi.leave_bodies_out",
        "storefront.api.event_data.add_webhooks",
    ],
    "ENABLE_DJANGO_DEPLOY_CHECK": False,
}
