"""One attempt: context, log, progress, follow-ups, hooks, async functions."""

import asyncio
import functools
import logging
import uuid
from datetime import datetime, timedelta, timezone

import fastworker
from fastworker import Task, TaskPriority, TaskStatus, task, testing
from tests.support import Case


class Contexts(Case):
    def test_the_context_is_that_of_the_attempt(self):
        @task
        def tell():
            now = fastworker.current()
            return [
                now.task_id,
                now.name,
                now.attempt,
                now.priority,
                now.parent,
                now.tags,
                now.traceparent,
                now.metadata,
            ]

        metadata = {"priority": "low", "parent": "p", "tags": ["a", 1], "traceparent": "t", "more": 1}
        with testing.Host(attempt=3, task_id="id", metadata=metadata) as host:
            self.assertEqual(host.call("tell"), ["id", "tell", 3, "low", "p", ["a"], "t", metadata])

    def test_metadata_of_other_types_is_not_believed(self):
        with testing.Host(metadata={"priority": "urgent", "parent": 5, "tags": "x"}):
            now = fastworker.current()
            self.assertEqual((now.priority, now.parent, now.tags), (TaskPriority.NORMAL, None, []))

    def test_the_deadline_is_a_moment_with_a_zone(self):
        with testing.Host(remaining=10):
            now = fastworker.current()
            self.assertLess(
                abs(now.deadline - datetime.now(timezone.utc) - timedelta(seconds=10)), timedelta(seconds=5)
            )
            self.assertTrue(5 < now.remaining <= 10)
        with testing.Host(remaining=-10):
            self.assertEqual(fastworker.current().remaining, 0)

    def test_a_call_of_the_host_may_have_any_numbers(self):
        far = fastworker.context.of_invocation("id", "n", 1, 2**64 - 1, "[]")
        self.assertEqual(far.deadline.year, 9999)
        self.assertEqual(far.metadata, {})

    def test_outside_of_an_attempt_it_is_a_first_one(self):
        self.host.__exit__()
        try:
            now = fastworker.current()
            self.assertEqual((now.task_id, now.attempt), ("", 1))
            with self.assertRaisesRegex(RuntimeError, "testing.Host"):
                fastworker.submit("x")
        finally:
            self.host.__enter__()

    def test_log_lines_have_levels(self):
        @task
        def write():
            fastworker.log("warning", "a \ud800")
            logging.getLogger("shop").info("two %d", 2)
            logging.error("three")
            logging.debug("not this")
            with self.assertRaises(ValueError):
                fastworker.log("loud", "x")

        self.host.call("write")
        self.assertEqual(self.host.logs, [("warn", "a \\ud800"), ("info", "two 2"), ("error", "three")])

    def test_progress_and_cancellation_reach_the_host(self):
        @task
        def work():
            fastworker.progress(1, 3, "one")
            fastworker.progress(-1)
            return fastworker.is_cancelled()

        with testing.Host(cancelled=True) as host:
            self.assertIs(host.call("work"), True)
        self.assertEqual(host.progress_reports, [(1, 3, "one"), (0, 0, "")])


class FollowUps(Case):
    def test_a_follow_up_is_named_by_a_task_or_a_name(self):
        @task("other.name")
        def other(x, task=None): ...

        @task
        def start():
            later = other.options(priority=TaskPriority.LOW, countdown=timedelta(minutes=1), max_retries=2)
            ids = [other.submit(1), fastworker.submit(other, 1, task=2), later.submit({uuid.UUID(int=0)})]
            return [*ids, fastworker.options(timeout="5s").submit("any", a=1)]

        ids = self.host.call("start")
        made = [(it.name, it.args, it.kwargs, it.options) for it in self.host.follow_ups]
        self.assertEqual(
            made,
            [
                ("other.name", [1], {}, {}),
                ("other.name", [1], {"task": 2}, {}),
                (
                    "other.name",
                    [["00000000-0000-0000-0000-000000000000"]],
                    {},
                    {"priority": "low", "countdown": 60.0, "max_retries": 2},
                ),
                ("any", [], {"a": 1}, {"timeout": "5s"}),
            ],
        )
        self.assertEqual(ids[0], str(uuid.uuid5(uuid.UUID(self.host.task_id), "0")))
        self.assertEqual(len(set(ids)), 4)

    def test_a_follow_up_that_cannot_be_written_is_refused(self):
        with self.assertRaisesRegex(TypeError, r"'x' cannot be submitted: args\[0\] is of type object"):
            fastworker.submit("x", object())
        with self.assertRaises(TypeError):
            fastworker.submit(lambda: None)
        with self.assertRaises(TypeError):
            fastworker.options().submit()
        with self.assertRaises(TypeError):
            fastworker.options(cron="* * * * *")


class Hooks(Case):
    def test_hooks_get_the_task_and_may_change_its_arguments(self):
        seen = []

        def before(running: Task):
            seen.append(
                (running.name, running.args, running.kwargs, running.status, running.retry_count, running.max_retries)
            )
            running.args = (10,)

        async def after(running: Task):
            await asyncio.sleep(0)
            seen.append((running.result, running.status, running.started_at <= running.completed_at))

        @task("hooked", before=before, after=after, max_retries=3)
        def hooked(x: int, y: int = 1):
            return x + y

        with testing.Host(attempt=2) as host:
            self.assertEqual(host.call("hooked", 1, y=2), 12)
        self.assertEqual(seen, [("hooked", (1,), {"y": 2}, TaskStatus.STARTED, 1, 3), (12, TaskStatus.SUCCESS, True)])
        self.assertEqual(TaskStatus.RUNNING.value, "started")

    def test_a_hook_that_fails_fails_the_task(self):
        def refuse(running: Task):
            raise fastworker.GiveUp("not today")

        called = []
        task("a", before=refuse, after=called.append)(lambda: called.append("ran"))
        self.assertEqual(self.failure("a").outcome, "give-up")
        task("b", after=refuse)(lambda: called.append("ran"))
        self.assertEqual(self.failure("b").outcome, "give-up")
        self.assertEqual(called, ["ran"])

    def test_hooks_run_in_an_event_loop_and_functions_do_not(self):
        task("a", before=lambda running: asyncio.get_running_loop())(lambda: asyncio.run(asyncio.sleep(0, 5)))
        self.assertEqual(self.host.call("a"), 5)


class AsyncFunctions(Case):
    def test_coroutines_gather_time_out_and_use_threads_inline(self):
        @task
        async def together():
            values = await asyncio.gather(asyncio.sleep(0.01, 1), asyncio.sleep(0.02, 2))
            threaded = await asyncio.to_thread(lambda x: x + 1, 2)
            try:
                await asyncio.wait_for(asyncio.sleep(10), 0.01)
            except TimeoutError:
                return [*values, threaded, fastworker.current().name]

        self.assertEqual(self.host.call("together"), [1, 2, 3, "together"])

    def test_all_kinds_of_coroutine_functions_are_awaited(self):
        async def double(x: int) -> int:
            return 2 * x

        class Later:
            async def __call__(self, x: int) -> int:
                return await double(x)

        def plain(x: int):
            return double(x)

        seen = []
        for name, func in {"a": functools.partial(double, 2), "b": Later(), "c": plain}.items():
            task(name)(func)
            task(f"{name} hooked", after=lambda running: seen.append(running.result))(func)
        calls = {"a": (), "b": (2,), "c": (2,)}
        for name, args in calls.items():
            self.assertEqual(self.host.call(name, *args), 4)
            self.assertEqual(self.host.call(f"{name} hooked", *args), 4)
        self.assertEqual(seen, [4, 4, 4])

    def test_what_runs_in_a_thread_can_run_its_own_loop(self):
        @task
        async def outer():
            return await asyncio.to_thread(asyncio.run, asyncio.sleep(0, 5))

        self.assertEqual(self.host.call("outer"), 5)

    def test_waiting_for_nothing_fails_instead_of_waiting(self):
        @task
        async def forever():
            await asyncio.Event().wait()

        self.assertIn("nobody will set", self.failure("forever").message)

    def test_an_exception_in_a_thread_arrives(self):
        @task
        async def outer():
            await asyncio.to_thread(int, "x")

        self.assertEqual(self.failure("outer").kind, "ValueError")
