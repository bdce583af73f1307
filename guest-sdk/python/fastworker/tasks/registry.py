"""The decorator `task`, and the tasks that it registered."""

import contextlib
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from .. import policy as policies
from ..follow_up import Submitter

_logger = logging.getLogger(__name__)

Seconds = float | timedelta | str
Size = int | str
LIMITS = (
    "max_memory",
    "max_cpu_time",
    "max_host_time",
    "max_output",
    "max_log",
    "max_result",
    "max_connections",
    "max_received",
    "max_sent",
)
NAME_BYTES_MAX = 128


@dataclass
class TaskInfo:
    """A registered task."""

    func: Callable[..., Any]
    name: str
    module: str = ""
    policy: dict[str, Any] = field(default_factory=dict)
    """The task's defaults and schedule: the keys of `policy` in the contract."""
    before: Callable[..., Any] | None = None
    after: Callable[..., Any] | None = None
    place: "Place | None" = None
    """Where it was registered."""


@dataclass(frozen=True)
class Place:
    """A line of the user's code."""

    module: str
    file: str
    line: int

    def __str__(self) -> str:
        return f'File "{self.file}", line {self.line}'


def place() -> Place:
    """The line that called this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return Place(frame.f_globals.get("__name__", ""), frame.f_code.co_filename, frame.f_lineno)


class TaskRegistry:
    """The registered tasks, by name."""

    def __init__(self) -> None:
        self._tasks: dict[str, TaskInfo] = {}
        self.mistakes: list[str] | None = None
        """What is wrong with tasks: collected while a module is built, so that all of it is shown, and else raised."""

    def mistake(self, error: Exception, at: Place | None = None) -> None:
        """Notes what is wrong with a task, or raises it."""
        if self.mistakes is None:
            raise error
        self.mistakes.append(f"{at or place()}: {error}")

    def forget(self, is_gone: Callable[[str], bool]) -> None:
        """Removes the tasks of modules that failed, before these are imported again."""
        self._tasks = {
            name: info for name, info in self._tasks.items() if info.place is None or not is_gone(info.place.module)
        }

    def register(
        self,
        func: Callable[..., Any],
        name: str | None = None,
        policy: dict[str, Any] | None = None,
        before: Callable[..., Any] | None = None,
        after: Callable[..., Any] | None = None,
    ) -> Callable[..., Any]:
        """Registers a function as a task, and returns it."""
        if not callable(func):
            raise TypeError(f"a task is a function, not {type(func).__name__}")
        task_name = name or getattr(func, "__name__", "")
        at = place()
        try:
            _check_name(task_name)
            self._check_is_new(task_name, at)
        except ValueError as error:
            self.mistake(error, at)
            return func
        module = getattr(func, "__module__", "")
        self._tasks[task_name] = TaskInfo(func, task_name, module, policy or {}, before, after, at)
        _add_methods(func, task_name)
        return func

    def _check_is_new(self, name: str, at: Place) -> None:
        known = self._tasks.get(name)
        if known is None:
            return
        if self.mistakes is None or known.place is None:
            # As the Python FastWorker does it: in tests, modules are imported again.
            _logger.warning("Task %s is already registered. Overwriting.", name)
            return
        # One file may be imported under two names.
        if (at.file, at.line) != (known.place.file, known.place.line) or at.module == known.place.module:
            raise ValueError(
                f'the task {name} is already registered by {known.place}: give one of them another name, @task("name")'
            )

    def get_task(self, name: str) -> Callable[..., Any] | None:
        """The function of a task."""
        info = self._tasks.get(name)
        return info.func if info else None

    def get_task_info(self, name: str) -> TaskInfo | None:
        """A task."""
        return self._tasks.get(name)

    def list_tasks(self) -> dict[str, Callable[..., Any]]:
        """The functions of all tasks."""
        return {name: info.func for name, info in self._tasks.items()}

    def list_task_infos(self) -> dict[str, TaskInfo]:
        """All tasks."""
        return self._tasks.copy()

    def get_periodic_tasks(self) -> dict[str, TaskInfo]:
        """The tasks with a schedule."""
        return {name: info for name, info in self._tasks.items() if info.policy.keys() & {"every", "cron"}}


def _check_name(name: str) -> None:
    if not isinstance(name, str) or not 0 < len(name.encode()) <= NAME_BYTES_MAX or not name.isprintable():
        raise ValueError(f"a task name has 1 to {NAME_BYTES_MAX} bytes and no control characters: {name!r} is none")


def _add_methods(func: Callable[..., Any], name: str) -> None:
    # Not all callables take attributes, and a function with own attributes keeps them.
    submitter = Submitter(name)
    with contextlib.suppress(AttributeError, TypeError):
        func.task_name = name  # type: ignore[attr-defined]
        for method in ("submit", "options"):
            if not hasattr(func, method):
                setattr(func, method, getattr(submitter, method))


task_registry = TaskRegistry()


def task(
    func_or_name: Callable[..., Any] | str | None = None,
    *,
    name: str | None = None,
    repeat_interval: Seconds | None = None,
    cron: str | None = None,
    repeat_count: int | None = None,
    repeat_until: str | datetime | None = None,
    before: Callable[..., Any] | None = None,
    after: Callable[..., Any] | None = None,
    every: Seconds | None = None,
    count: int | None = None,
    until: str | datetime | None = None,
    tz: Any = None,
    overlap: str | None = None,
    priority: Any = None,
    timeout: Seconds | None = None,
    max_retries: int | None = None,
    retry_delay: Seconds | None = None,
    retry_backoff: float | None = None,
    retry_backoff_max: Seconds | None = None,
    needs: Iterable[str] | None = None,
    max_memory: Size | None = None,
    max_cpu_time: Seconds | None = None,
    max_host_time: Seconds | None = None,
    max_output: Size | None = None,
    max_log: Size | None = None,
    max_result: Size | None = None,
    max_connections: int | None = None,
    max_received: Size | None = None,
    max_sent: Size | None = None,
    **unknown: Any,
) -> Any:
    """Registers a function as a task: `@task`, `@task("name")` or `@task(…)`.

    `name`: the task name, by default that of the function.
    `repeat_interval` (seconds), `cron`, `repeat_count`, `repeat_until`: the schedule, as in the Python FastWorker. So
    are the hooks `before` and `after`, which get the `Task`. `every`, `count` and `until` are other names for the
    schedule; `tz` is the time zone of `cron`, by default UTC; `overlap` is "skip" or "queue".
    `priority` ("critical", "high", "normal", "low"), `timeout`, `max_retries`, `retry_delay`, `retry_backoff` (factor)
    and `retry_backoff_max`: the defaults of the task. Times are seconds, a `timedelta`, or text such as "5m".
    `needs`: the grants without which no worker runs the task, such as `["http:api.example.com", "secret:KEY"]`.
    `max_memory`, `max_cpu_time`, `max_host_time`, `max_output`, `max_log`, `max_result` (with the follow-ups),
    `max_connections` (at a time), `max_received` and `max_sent` (through the network): limits of one attempt. Sizes are
    bytes, or text such as "64 MiB".
    """
    values = locals()
    given = func_or_name if isinstance(func_or_name, str) and func_or_name else name
    problems = [_unknown(option) for option in unknown]
    policy: dict[str, Any] = {}
    parts: list[Callable[[], dict[str, Any]]] = [
        *(lambda key=key: policies.default(key, values[key]) for key in policies.DEFAULTS),
        lambda: policies.schedule(
            every=repeat_interval or every,
            cron=cron,
            count=repeat_count if repeat_count is not None else count,
            end=repeat_until or until,
            tz=tz,
            overlap=overlap,
        ),
        lambda: policies.needs(needs),
        *(lambda key=key: policies.limits(**{key: values[key]}) for key in LIMITS),
    ]
    for part in parts:
        try:
            policy |= part()
        except (TypeError, ValueError) as error:
            problems.append(error)
    if problems and task_registry.mistakes is None:
        raise problems[0] if len(problems) == 1 else ValueError("; ".join(map(str, problems)))

    def decorator(func: Callable[..., Any]) -> Callable[..., Any]:
        for problem in problems:
            task_registry.mistake(type(problem)(f"{given or getattr(func, '__name__', 'task')}: {problem}"))
        _warn_of_schedule(func, policy)
        return task_registry.register(func, given, policy, before, after)

    if func_or_name is not None and not isinstance(func_or_name, str):
        return decorator(func_or_name)
    return decorator


def _unknown(option: str) -> TypeError:
    """The error of an option that does not exist, with the one that was probably meant."""
    import difflib

    known = [name for name in inspect.signature(task).parameters if name not in ("func_or_name", "unknown")]
    near = difflib.get_close_matches(option, known, 1) or [name for name in known if option in name or name in option]
    advice = f"did you mean {near[0]}?" if near else f"the options are {', '.join(known)}"
    return TypeError(f"task() has no option {option}: {advice}")


def _warn_of_schedule(func: Callable[..., Any], policy: dict[str, Any]) -> None:
    if not policy.keys() & {"every", "cron"} or not callable(func):
        return
    empty, variadic = inspect.Parameter.empty, (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    with contextlib.suppress(TypeError, ValueError):
        parameters = inspect.signature(func).parameters.values()
        required = [it.name for it in parameters if it.default is empty and it.kind not in variadic]
        if required:
            warnings.warn(
                f"{getattr(func, '__name__', 'a task')}() has a schedule and required parameters "
                f"({', '.join(required)}): give them defaults, or it is not scheduled",
                stacklevel=3,
            )
