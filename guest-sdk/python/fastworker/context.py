"""The running attempt: its properties, and functions that call the host."""

import json
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from . import host
from .tasks.models import TaskPriority

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Context:
    """The properties of an attempt."""

    task_id: str = ""
    """The id of the task, the same for each of its attempts: the idempotency key of effects that must happen once."""
    name: str = ""
    """The task name that the client submitted."""
    attempt: int = 1
    """The number of this attempt, counted from 1."""
    deadline: datetime = field(default_factory=lambda: datetime.now(timezone.utc) + _DAY)
    """The time at which the host stops this attempt."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The task's metadata. The host may add any keys to it."""

    @property
    def remaining(self) -> float:
        """Seconds left until the deadline; zero if it has passed."""
        return max(0.0, self.deadline.timestamp() - time.time())

    @property
    def priority(self) -> TaskPriority:
        """The priority of the task."""
        try:
            return TaskPriority(self.metadata.get("priority", "normal"))
        except ValueError:
            return TaskPriority.NORMAL

    @property
    def parent(self) -> str | None:
        """The id of the task that submitted this one as a follow-up."""
        return self._text("parent")

    @property
    def tags(self) -> list[str]:
        """The tags that the client set for the task."""
        tags = self.metadata.get("tags")
        return [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []

    @property
    def traceparent(self) -> str | None:
        """The trace context of the task: a `traceparent` of W3C Trace Context."""
        return self._text("traceparent")

    def _text(self, key: str) -> str | None:
        value = self.metadata.get(key)
        return value if isinstance(value, str) else None


_running: ContextVar[Context | None] = ContextVar("fastworker_context", default=None)


def enter(context: Context) -> Any:
    """Makes an attempt the running one, and returns the token for `leave`."""
    return _running.set(context)


def leave(token: Any) -> None:
    """Ends what `enter` began."""
    _running.reset(token)


def of_invocation(task_id: str, name: str, attempt: int, deadline_ms: int, metadata: str) -> Context:
    """The context of a call of the host."""
    try:
        deadline = datetime.fromtimestamp(deadline_ms / 1000, timezone.utc)
    except (OverflowError, ValueError, OSError):
        deadline = datetime.max.replace(tzinfo=timezone.utc)
    try:
        entries = json.loads(metadata or "{}")
    except ValueError:
        entries = {}
    return Context(task_id, name, attempt, deadline, entries if isinstance(entries, dict) else {})


def current() -> Context:
    """Returns the running attempt. Outside of one it is a first attempt without an id and with a day left."""
    return _running.get() or Context()


def log(level: str, message: object) -> None:
    """Adds a line to the log of the task. Levels: trace, debug, info, warn, error.

    `print` and the module `logging` write to the same log.
    """
    level = {"warning": "warn", "critical": "error"}.get(level.lower(), level.lower())
    if level not in host.LEVELS:
        raise ValueError(f"no log level {level!r}: {', '.join(host.LEVELS)}")
    host.backend.log(level, host.clean(str(message)))


def progress(done: int, total: int = 0, message: str = "") -> None:
    """Reports progress: `done` of `total` steps, and a description of the current step. 0: the total is unknown."""
    host.backend.progress(max(0, int(done)), max(0, int(total)), host.clean(str(message)))


def is_cancelled() -> bool:
    """Returns whether the attempt is about to be stopped: cancelled, or past its deadline.

    An attempt that checks this can clean up before it ends; one that does not is terminated anyway.
    """
    return host.backend.is_cancelled()
