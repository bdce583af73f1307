"""A host for tests: runs tasks under plain Python, and records what they ask of the host.

from fastworker import testing
import mytasks

def test_add():
    assert mytasks.add(1, 2) == 3  # a task is a function

def test_retries():
    with testing.Host(attempt=2) as host:
        assert host.call("fetch", "https://example.org") == 200  # through JSON, as the host calls it
    assert host.logs == [("info", "attempt 2")]
"""

import json
import logging
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from . import context, host, run
from .encode import to_json
from .tasks.registry import task_registry

__all__ = ["Failed", "FollowUp", "Host", "TaskDescription", "tasks"]

Failed = run.Failed
"""Raised by `Host.call`; its `failure` has `outcome`, `message`, `kind`, `details` and `delay`."""


@dataclass(frozen=True)
class FollowUp:
    """A follow-up task as the host receives it."""

    id: str
    name: str
    args: list[Any]
    kwargs: dict[str, Any]
    options: dict[str, Any]


@dataclass(frozen=True)
class TaskDescription:
    """A task as the host receives it."""

    name: str
    documentation: str
    schema: dict[str, Any]
    policy: dict[str, Any]


def tasks() -> dict[str, TaskDescription]:
    """All registered tasks, by name."""
    return {name: _describe(name) for name in task_registry.list_task_infos()}


def _describe(name: str) -> TaskDescription:
    info = task_registry.list_task_infos()[name]
    signature = run.signature(info)
    schema, policy = json.loads(to_json(signature.describe())), json.loads(to_json(info.policy))
    return TaskDescription(name, signature.documentation, schema, policy)


class _Logs(logging.Handler):
    """Passes on what a task writes with the module `logging`."""

    def __init__(self, host: "Host"):
        super().__init__()
        self._host = host

    def emit(self, record: logging.LogRecord) -> None:
        """Records a line with the level that the host gives it."""
        level = next((name for least, name in _LEVELS if record.levelno >= least), "trace")
        self._host.log(level, self.format(record))


_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug"))


@dataclass
class Host:
    """A host in whose context a test calls tasks: a first attempt with a minute left, if nothing else is set."""

    attempt: int = 1
    task_id: str = "00000000-0000-4000-8000-000000000000"
    remaining: float = 60.0
    """Seconds until the deadline."""
    metadata: dict[str, Any] = field(default_factory=dict)
    """The keys `priority`, `parent`, `tags`, `traceparent`, and any others."""
    cancelled: bool = False
    """What `is_cancelled` returns."""
    logs: list[tuple[str, str]] = field(default_factory=list)
    """What was logged: level and message."""
    progress_reports: list[tuple[int, int, str]] = field(default_factory=list)
    """Progress: done, total, message."""
    follow_ups: list[FollowUp] = field(default_factory=list)
    """Submitted follow-up tasks."""
    name: str = ""
    """The task name, for tasks that the test calls as functions."""

    def __enter__(self) -> "Host":
        self._handler = _Logs(self)
        self._before = host.backend, logging.root.level
        host.backend = self
        logging.root.addHandler(self._handler)
        logging.root.setLevel(logging.INFO)
        self._token = context.enter(self._context(self.name))
        return self

    def __exit__(self, *exception: object) -> None:
        context.leave(self._token)
        logging.root.removeHandler(self._handler)
        host.backend, level = self._before
        logging.root.setLevel(level)

    def _context(self, name: str) -> context.Context:
        deadline = datetime.now(timezone.utc) + timedelta(seconds=self.remaining)
        return context.Context(self.task_id, name, self.attempt, deadline, self.metadata)

    def call(self, name: str, /, *args: Any, **kwargs: Any) -> Any:
        """Calls a task through JSON, as the host does, and returns its result. Raises `Failed`."""
        return json.loads(self.call_json(name, to_json(args, "args"), to_json(kwargs, "kwargs")))

    def call_json(self, name: str, args: str = "[]", kwargs: str = "{}") -> str:
        """Calls a task with a JSON array and a JSON object, and returns the JSON of its result. Raises `Failed`."""
        return run.attempt(self._context(name), args, kwargs)

    def log(self, level: str, message: str) -> None:
        """Records a line of the log."""
        self.logs.append((level, message))

    def progress(self, done: int, total: int, message: str) -> None:
        """Records a progress report."""
        self.progress_reports.append((done, total, message))

    def is_cancelled(self) -> bool:
        """Whether the attempt is about to be stopped."""
        return self.cancelled

    def submit(self, name: str, args: str, kwargs: str, options: str) -> str:
        """Records a follow-up, with the id that the real host would give it."""
        try:
            namespace = uuid.UUID(self.task_id)
        except ValueError:
            namespace = uuid.uuid5(uuid.NAMESPACE_OID, self.task_id)
        follow_up = str(uuid.uuid5(namespace, str(len(self.follow_ups))))
        self.follow_ups.append(FollowUp(follow_up, name, json.loads(args), json.loads(kwargs), json.loads(options)))
        return follow_up
