"""The exceptions with which a task decides whether it is retried."""

from datetime import timedelta
from typing import Any


class TaskError(Exception):
    """The task failed. Its policy decides whether it is retried.

    `kind` is a machine-readable name, by default that of the exception's type; `details` is any JSON of at most 2 KiB.
    Other exceptions do the same without details.
    """

    def __init__(self, message: str = "", *, kind: str | None = None, details: Any = None):
        super().__init__(message)
        self.kind = kind
        self.details = details


class BadArguments(TaskError):
    """The arguments do not match the parameters. Never retried."""


class GiveUp(TaskError):
    """The task failed, and another attempt would fail too. Never retried, regardless of the policy."""


class Retry(TaskError):
    """The task failed, and the next attempt must wait for `delay` seconds. Its policy decides whether there is one."""

    def __init__(
        self, message: str = "", delay: float | timedelta = 0.0, *, kind: str | None = None, details: Any = None
    ):
        super().__init__(message, kind=kind, details=details)
        self.delay = delay.total_seconds() if isinstance(delay, timedelta) else float(delay)
        if not 0 <= self.delay < float("inf"):
            raise ValueError(f"the delay of a Retry is a number of seconds from 0 up, not {delay}")
