"""Settings, URLs, Celery, the embedded servers. No business rule."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
