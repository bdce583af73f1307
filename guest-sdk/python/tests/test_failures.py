"""Exceptions: outcome, kind, message with the last lines, and the whole traceback in the log."""

import asyncio
import sys
from datetime import timedelta

import fastworker
from fastworker import failure, task
from tests.support import Case


class Odd(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Failures(Case):
    def fails(self, error: BaseException) -> failure.Failure:
        @task
        def fail():
            raise error

        return self.failure("fail")

    def test_each_decision_has_its_outcome(self):
        retry = self.fails(fastworker.Retry("busy", delay=timedelta(seconds=1.5), kind="busy", details={"at": [1]}))
        self.assertEqual((retry.outcome, retry.message, retry.delay), ("try-again-after", "busy", 1.5))
        self.assertEqual((retry.kind, retry.details), ("busy", '{"at":[1]}'))
        self.assertEqual(self.fails(fastworker.Retry()).message, "Retry")
        self.assertEqual(self.fails(fastworker.GiveUp("closed")).outcome, "give-up")
        self.assertEqual(self.fails(fastworker.BadArguments("x is odd")).outcome, "bad-arguments")
        self.assertEqual(self.fails(fastworker.TaskError("no", kind="k")).kind, "k")
        self.assertNotIn("error", {level for level, _ in self.host.logs}, "a decision needs no traceback")

    def test_a_retry_needs_a_delay_that_is_a_span(self):
        for delay in (-1, float("nan"), float("inf")):
            with self.subTest(delay), self.assertRaises(ValueError):
                fastworker.Retry("x", delay)

    def test_a_message_has_notes_causes_and_the_users_lines(self):
        @task
        def chained():
            try:
                inner()
            except KeyError as error:
                problem = ValueError("bad")
                problem.add_note("look here")
                raise problem from error

        def inner():
            return {}["key"]

        found = self.failure("chained")
        lines = found.message.split("\n")
        self.assertEqual(lines[:2], ["ValueError: bad", "look here"])
        self.assertRegex(lines[2], r'^  File ".*test_failures.py", line \d+, in chained$')
        self.assertEqual(lines[3:], ["    raise problem from error", "caused by KeyError: 'key'"])
        level, logged = self.host.logs[-1]
        self.assertEqual(level, "error")
        self.assertIn("KeyError: 'key'", logged)
        self.assertIn("in inner", logged)
        self.assertNotIn("fastworker/run.py", logged)

    def test_every_way_to_end_is_a_failure(self):
        cases = [
            (SystemExit(0), "SystemExit: 0"),
            (KeyboardInterrupt(), "KeyboardInterrupt"),
            (MemoryError(), "MemoryError"),
            (asyncio.CancelledError(), "CancelledError"),
            (GeneratorExit(), "GeneratorExit"),
            (Odd(), "Odd: (its message cannot be made)"),
            (ValueError("\ud800"), "ValueError: \\ud800"),
            (ValueError("x" * 10_000), "ValueError: " + "x" * 4_000 + "…"),
            (BaseExceptionGroup("two", [KeyError("a"), OSError("b")]), "ExceptionGroup: two (2 sub-exceptions)"),
        ]
        for error, first in cases:
            with self.subTest(first[:30]):
                found = self.fails(error)
                self.assertEqual(found.outcome, "failed")
                self.assertEqual(found.message.split("\n")[0][: len(first)], first)
                self.assertEqual(found.kind, type(error).__name__)

    def test_a_recursion_is_shown_once(self):
        @task
        def deep():
            deep()

        found = self.failure("deep")
        self.assertEqual(found.kind, "RecursionError")
        self.assertEqual(found.message.count("in deep"), 1)

    def test_the_only_decision_in_a_task_group_counts(self):
        @task
        async def grouped():
            async with asyncio.TaskGroup() as group:
                group.create_task(asyncio.sleep(10))
                group.create_task(gives_up())

        async def gives_up():
            raise fastworker.GiveUp("no")

        self.assertEqual(self.failure("grouped").outcome, "give-up")

    def test_a_hint_says_what_the_sandbox_has_to_do_with_it(self):
        cases = [
            (ModuleNotFoundError("No module named 'csv'", name="csv"), "add `import csv` at the top of the file"),
            (ModuleNotFoundError("No module named 'rich'", name="rich.text"), "its package to requirements.txt"),
            (ModuleNotFoundError("No module named 'ssl'", name="ssl"), "no TLS"),
            (LookupError("unknown encoding: cp-437"), "`import encodings.cp_437`"),
            (RuntimeError("can't start new thread"), "a task has no threads"),
            (OSError(58, "wasi does not support processes."), "cannot start processes"),
            (AttributeError("module 'os' has no attribute 'fork'"), "cannot start processes"),
            (FileNotFoundError(2, "No such file or directory", "/etc/x"), "--allow-dir HOST::GUEST"),
            (SystemExit(3), "sys.exit() ends the attempt"),
        ]
        for error, words in cases:
            with self.subTest(words):
                self.assertIn(words, self.fails(error).message.rpartition("hint: ")[2])
        self.assertIsNone(failure.hint(ValueError("x")))

    def test_a_kind_fits_the_contract(self):
        long = type("É" * 100, (Exception,), {})
        self.assertEqual(self.fails(long("x")).kind, "É" * 64)

    def test_details_that_are_no_json_are_left_out_with_a_warning(self):
        found = self.fails(fastworker.GiveUp("x", details={"a": object()}))
        self.assertEqual(found.details, "")
        self.assertEqual(self.host.logs[0][0], "warn")

    def test_a_long_traceback_is_logged_in_parts(self):
        self.fails(ValueError("line\n" * 5_000))
        self.assertGreater(len(self.host.logs), 1)
        self.assertEqual({level for level, _ in self.host.logs}, {"error"})

    def test_files_are_named_below_their_folder(self):
        self.assertEqual(failure.relative(f"{sys.path[-1]}/a/b.py"), "a/b.py")
