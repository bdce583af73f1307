"""Runs one attempt: arguments from JSON, hooks, the function, the result to JSON."""

import inspect
import json
from datetime import datetime
from typing import Any

from . import context, failure, loop
from .encode import to_json
from .errors import BadArguments
from .failure import Failure
from .signature import Signature
from .tasks.models import Task, TaskStatus
from .tasks.registry import TaskInfo, task_registry

_signatures: dict[str, tuple[TaskInfo, Signature]] = {}
_POLICY_OF_TASK = ("max_retries", "retry_delay", "retry_backoff", "retry_backoff_max", "timeout")


class Failed(Exception):
    """The attempt failed."""

    def __init__(self, failure: Failure):
        super().__init__(failure.message)
        self.failure = failure


def signature(task: TaskInfo) -> Signature:
    """The signature of a task. While the module is built it is made once and kept."""
    known = _signatures.get(task.name)
    if known is None or known[0] is not task:
        known = _signatures[task.name] = (task, Signature(task.func, task.name))
    return known[1]


def attempt(call: context.Context, args: str, kwargs: str) -> str:
    """Runs a task and returns its result as JSON. Raises `Failed`, and nothing else."""
    token = context.enter(call)
    try:
        return _attempt(call, args, kwargs)
    except BaseException as error:  # also SystemExit, KeyboardInterrupt, CancelledError: the attempt has an outcome
        result = failure.of(error)
        if failure.is_worth_logging(error):
            failure.log(error)
        raise Failed(result) from error
    finally:
        context.leave(token)


def _attempt(call: context.Context, args: str, kwargs: str) -> str:
    info = task_registry.get_task_info(call.name)
    if info is None:
        raise BadArguments(f"this module has no task '{call.name}'", kind="unknown-task")
    positional, named = signature(info).bind(_parse(args, list), _parse(kwargs, dict))
    if info.before is None and info.after is None:
        result = info.func(*positional, **named)
        return to_json(loop.run(_finished(result)) if inspect.isawaitable(result) else result)
    return to_json(loop.run(_with_hooks(info, _task(call, info, positional, named))))


def _parse(text: str, kind: type) -> Any:
    which, expected = ("positional", "array") if kind is list else ("named", "object")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadArguments(f"the {which} arguments are not a JSON {expected}: {error}") from None
    if type(value) is not kind:
        raise BadArguments(f"the {which} arguments are not a JSON {expected}: {failure._cut(text)}")
    return value


def _task(call: context.Context, info: TaskInfo, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Task:
    policy = {key: info.policy[key] for key in _POLICY_OF_TASK if isinstance(info.policy.get(key), (int, float))}
    return Task(
        info.name,
        call.task_id,
        args,
        kwargs,
        call.priority,
        started_at=datetime.now(),
        status=TaskStatus.STARTED,
        retry_count=call.attempt - 1,
        **policy,
    )


async def _with_hooks(info: TaskInfo, task: Task) -> Any:
    """As the Python FastWorker does it: hooks get the task, may change its arguments, and may be async."""
    if info.before is not None:
        await _finished(info.before(task))
    # A plain function runs as if in a thread: it may run an event loop of its own.
    result = await _finished(loop.without_loop(info.func, *task.args, **task.kwargs))
    if info.after is not None:
        task.status, task.result, task.completed_at = TaskStatus.SUCCESS, result, datetime.now()
        await _finished(info.after(task))
    return result


async def _finished(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value
