"""Follow-up tasks: queued if the attempt that submits them succeeds."""

from datetime import timedelta
from typing import Any

from . import host, policy
from .encode import to_json


def _name(task: Any) -> str:
    name = task if isinstance(task, str) else getattr(task, "task_name", None)
    if not isinstance(name, str):
        raise TypeError(f"a follow-up is named by a task or the name of one, not by {type(task).__name__}")
    return name


class Options:
    """Options of a follow-up; those not set have the defaults of the named task."""

    def __init__(self, options: dict[str, Any], task: str | None = None):
        self._options = options
        self._task = task

    def submit(self, *args: Any, **kwargs: Any) -> str:
        """Submits the follow-up and returns its id.

        For options of no task in particular, the first argument is the task or its name.
        """
        if self._task is None:
            if not args:
                raise TypeError("submit() needs the task or its name as the first argument")
            name, args = _name(args[0]), args[1:]
        else:
            name = self._task
        try:
            texts = to_json(args, "args"), to_json(kwargs, "kwargs"), to_json(self._options, "options")
            return host.backend.submit(name, *texts)
        except (RuntimeError, TypeError, ValueError) as error:
            raise type(error)(f"the follow-up {name!r} cannot be submitted: {error}") from None


def options(
    *,
    priority: Any = None,
    countdown: float | timedelta | str | None = None,
    timeout: float | timedelta | str | None = None,
    max_retries: int | None = None,
    retry_delay: float | timedelta | str | None = None,
    retry_backoff: float | None = None,
    retry_backoff_max: float | timedelta | str | None = None,
) -> Options:
    """Options for a follow-up: `options(priority="low", countdown=60).submit("report", day)`. Times in seconds."""
    return Options(policy.of(**locals()))


def submit(task: Any, /, *args: Any, **kwargs: Any) -> str:
    """Submits a task, given as a function or by name, to run when this attempt succeeds, and returns its id.

    An attempt that runs twice submits it once, if it submits the same follow-ups in the same order.
    """
    return Options({}, _name(task)).submit(*args, **kwargs)


class Submitter:
    """The methods `submit` and `options` of a task function."""

    def __init__(self, name: str):
        self._name = name

    def submit(self, *args: Any, **kwargs: Any) -> str:
        """Submits this task as a follow-up and returns its id."""
        return Options({}, self._name).submit(*args, **kwargs)

    def options(self, **values: Any) -> Options:
        """This task as a follow-up with options; see `fastworker.options`."""
        return Options(options(**values)._options, self._name)
