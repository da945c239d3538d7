"""The Celery application: workers and beat read everything else from the Django settings."""

import os
import time
from typing import Any

from celery import Celery, signals

from core.log_context import log_context
from core.metrics import TASK_SECONDS

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("perennial")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@signals.setup_logging.connect
def keep_logging(**_kwargs: Any) -> None:
    """Leave the logs as the settings have them: JSON, to the standard error output."""


class _Running:
    """What a worker's process knows of the task it runs: there is one at a time."""

    context: Any = None
    started = 0.0


@signals.task_prerun.connect
def begin_task(task_id: str, task: Any, **_kwargs: Any) -> None:
    """Let every line of a task's log carry its id and name."""
    _Running.context = log_context(task_id=task_id, task=task.name)
    _Running.context.__enter__()
    _Running.started = time.perf_counter()


@signals.task_postrun.connect
def end_task(task: Any, state: str | None, **_kwargs: Any) -> None:
    """Note how long it took and how it ended."""
    TASK_SECONDS.labels(task.name, str(state).lower()).observe(time.perf_counter() - _Running.started)
    if _Running.context is not None:
        _Running.context.__exit__(None, None, None)
        _Running.context = None
