"""The exports of the component: `register` and `run` over the registered tasks.

Imported last by the `app.py` that the build writes, after the user's modules: what is made here lies in the memory
image of the component, and a call finds it ready.
"""

import os

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import tasks as contract
from wit_world.imports import environment
from wit_world.imports import host as imports

from . import context, encode, failure, host, output, run
from .tasks.registry import task_registry

_FAILURES = {
    "bad-arguments": contract.Failure_BadArguments,
    "failed": contract.Failure_Failed,
    "give-up": contract.Failure_GiveUp,
}
_DELAY_MS_MAX = 2**63 - 1


class _Imports:
    """The host's functions."""

    def log(self, level: str, message: str) -> None:
        output.flush()
        imports.log(imports.Level[level.upper()], message)

    def progress(self, done: int, total: int, message: str) -> None:
        imports.progress(done, total, message)

    def is_cancelled(self) -> bool:
        return imports.is_cancelled()

    def submit(self, name: str, args: str, kwargs: str, options: str) -> str:
        try:
            return imports.submit(imports.FollowUp(name, args, kwargs, options))
        except Err as error:
            raise RuntimeError(error.value) from None


class Tasks(exports.Tasks):
    """The interface `tasks` of the contract."""

    def register(self) -> list[contract.Descriptor]:
        """The registered tasks."""
        return _descriptors

    def run(self, call: contract.Invocation) -> str:
        """Runs one attempt."""
        host.backend = _Imports()
        # What was granted to this attempt, instead of what the build had.
        os.environ.clear()
        os.environ.update(environment.get_environment())
        this = context.of_invocation(call.task_id, call.name, call.attempt, call.deadline_ms, call.metadata)
        try:
            return run.attempt(this, call.args, call.kwargs)
        except run.Failed as failed:
            raise Err(_failure(failed.failure)) from None
        finally:
            output.flush()


def _failure(failed: failure.Failure) -> contract.Failure:
    error = contract.TaskError(failed.message, failed.kind, failed.details)
    if failed.outcome == "try-again-after":
        delay_ms = min(round(failed.delay * 1000), _DELAY_MS_MAX)
        return contract.Failure_TryAgainAfter(contract.Retry(error, delay_ms))
    return _FAILURES[failed.outcome](error)


def descriptors() -> list[contract.Descriptor]:
    """The tasks as the contract describes them."""
    described = []
    for name, task in task_registry.list_task_infos().items():
        signature = run.signature(task)
        schema, policy = encode.to_json(signature.describe()), encode.to_json(task.policy)
        described.append(contract.Descriptor(name, signature.documentation, schema, policy))
    return described


_descriptors = descriptors()
