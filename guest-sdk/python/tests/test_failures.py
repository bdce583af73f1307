"""Exceptions: outcome, kind, message with the last lines, and the whole traceback in the log."""

import asyncio
import os
import sys
from datetime import timedelta
from unittest import mock

import fastworker
from fastworker import failure, hints, task
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
        self.assertIsNone(hints.of(ValueError("x"), "x"))

    def test_a_missing_variable_names_the_option_that_grants_it(self):
        def read() -> BaseException:
            try:
                return os.environ["NO_SUCH_VARIABLE"]
            except KeyError as error:
                return error

        self.assertIn("--allow-env NO_SUCH_VARIABLE=VALUE", hints.of(read(), "") or "")
        built = hints.of_build(read(), "", [], is_script=True)
        self.assertIn("no environment variables while building: read NO_SUCH_VARIABLE in the task", built or "")
        self.assertIsNone(hints.of(KeyError("NO_SUCH_VARIABLE"), "'NO_SUCH_VARIABLE'"))

    def test_files_and_parts_that_do_not_exist_are_explained(self):
        path = f"{os.path.dirname(__file__)}/data/page.html"
        for error, words in [
            (ModuleNotFoundError("x", name="importlib.readers"), "no files of the code in a module"),
            (FileNotFoundError(2, "No such file or directory", path), "no files of the code in a module"),
            (ModuleNotFoundError("x", name="multiprocessing.popen_spawn_posix"), "cannot start processes"),
            (ModuleNotFoundError("x", name="_ctypes"), "cannot load libraries"),
            (ModuleNotFoundError("x", name="numpy"), "numpy has compiled code"),
        ]:
            with self.subTest(words):
                self.assertIn(words, hints.of(error, str(error)) or "")
        with mock.patch.dict(hints._data_files, {"page.html": "shop/data/page.html"}):
            for error in (LookupError("page.html"), OSError("page.html")):  # jinja2's is both
                found = hints.of(error, "page.html")
                self.assertTrue((found or "").startswith("shop/data/page.html is not in the module. There are no"))

    def test_a_missing_package_is_listed_where_the_source_lists_packages(self):
        missing = ModuleNotFoundError("x", name="rich.text")
        script = hints.of_build(missing, "x", ["rich", "click"], is_script=True) or ""
        self.assertIn('`# /// script`, `# dependencies = ["rich", "click"]`', script)
        project = hints.of_build(missing, "x", [], is_script=False) or ""
        self.assertIn("add the package of rich to requirements.txt", project)
        compiled = hints.of_build(missing, "x", ["numpy", "torch"], is_script=True) or ""
        self.assertIn("torch has compiled code", compiled)
        self.assertIn("list the package of rich at the top", compiled)

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
