"""asyncio without threads and socket pairs.

Timers, tasks, TCP streams and timeouts work as usual. Waiting without sockets is a sleep, and what would run in another
thread runs at once.
"""

import asyncio
import asyncio.runners
import select
import selectors
import time
from collections.abc import Callable, Coroutine
from typing import Any


class _Selector(selectors.SelectSelector if not hasattr(select, "poll") else selectors.PollSelector):  # type: ignore[misc]
    """Waits for sockets, or only for time."""

    def select(self, timeout: float | None = None) -> Any:
        if self.get_map():
            return super().select(timeout)
        if timeout is None:
            raise RuntimeError("the task waits for something that nobody will set: no timer and no socket is pending")
        if timeout > 0:
            time.sleep(timeout)
        return []


class Loop(asyncio.SelectorEventLoop):
    """An event loop for a single thread."""

    def __init__(self, selector: Any = None):
        super().__init__(selector or _Selector())

    def _make_self_pipe(self) -> None:  # nobody can wake it
        self._internal_fds = 0

    def _close_self_pipe(self) -> None:
        pass

    def _write_to_self(self) -> None:
        pass

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        """Runs the function at once."""
        future = self.create_future()
        try:
            future.set_result(without_loop(func, *args))
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            future.set_exception(error)
        return future

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        pass

    def add_signal_handler(self, sig: int, callback: Callable[..., Any], *args: Any) -> None:
        pass  # no signals arrive

    def remove_signal_handler(self, sig: int) -> bool:
        return False


def without_loop(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Calls a plain function as if no event loop ran, so that it can run its own."""
    running = asyncio._get_running_loop()
    if running is None:
        return func(*args, **kwargs)
    current = asyncio.current_task(running)
    if current is not None:
        asyncio.tasks._leave_task(running, current)
    asyncio._set_running_loop(None)
    try:
        return func(*args, **kwargs)
    finally:
        asyncio._set_running_loop(running)
        if current is not None:
            asyncio.tasks._enter_task(running, current)


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Runs a coroutine to its end, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(coroutine)


def install() -> None:
    """Makes this the event loop of `asyncio.run` and of its relatives."""
    asyncio.SelectorEventLoop = asyncio.DefaultEventLoop = asyncio.EventLoop = Loop  # type: ignore[misc, attr-defined]
    asyncio.new_event_loop = asyncio.events.new_event_loop = Loop  # type: ignore[assignment]
    policies = [value for value in vars(asyncio.unix_events).values() if isinstance(value, type)]
    for policy in policies:
        if hasattr(policy, "_loop_factory"):
            policy._loop_factory = Loop
