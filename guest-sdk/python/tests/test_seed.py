"""A file written for the Python FastWorker runs unchanged."""

import asyncio
import importlib
import sys
import unittest

from fastworker import testing
from fastworker.outside import OutsideSandbox
from tests.support import Case


class Seed(Case):
    def setUp(self) -> None:
        super().setUp()
        sys.modules.pop("tests.seed_tasks", None)
        self.seed = importlib.import_module("tests.seed_tasks")

    def test_its_tasks_run(self):
        self.assertEqual(self.host.call("add", 1, y=2), 3)
        self.assertEqual(self.host.call("async_add", 1, 2), 3)
        self.assertEqual(self.host.call("divide", 1, 2), 0.5)
        self.assertEqual(self.host.call("reports.daily", "today"), {"report": "daily", "date": "today"})
        self.assertEqual(self.seed.add(1, 2), 3, "the decorator returns the function")

    def test_a_default_of_none_allows_none(self):
        self.assertEqual(self.host.call("notify_user", 1, "m", None), {"email": 1})
        self.assertEqual(self.host.call("notify_user", 1, "m", ["sms"]), {"sms": 1})

    def test_its_schedules_are_declared(self):
        policies = {name: task.policy for name, task in testing.tasks().items() if task.policy}
        self.assertEqual(
            policies,
            {
                "refresh_cache": {"every": 300},
                "generate_hourly_metrics": {"cron": "0 */6 * * *"},
                "limited_job": {"every": 30, "count": 100, "until": "2030-01-01T00:00:00+00:00"},
            },
        )

    def test_its_failures_have_the_type_and_the_line(self):
        failure = self.failure("divide", 1, 0)
        self.assertEqual(failure.kind, "ValueError")
        first, second, third = failure.message.split("\n")
        self.assertEqual(first, "ValueError: Cannot divide by zero")
        self.assertRegex(second, r'File ".*seed_tasks.py", line \d+, in divide')
        self.assertEqual(third.strip(), 'raise ValueError("Cannot divide by zero")')

    def test_its_client_code_says_where_it_runs(self):
        with self.assertRaisesRegex(OutsideSandbox, r"Client.start\(\) runs outside of the sandbox"):
            asyncio.run(self.seed.main())

    def test_every_module_of_the_original_can_be_imported(self):
        for name in ("clients.client", "workers.subworker", "integration.fastapi", "telemetry", "utils.hooks", "cli"):
            with self.subTest(name):
                importlib.import_module(f"fastworker.{name}")
        from fastworker.integration.fastapi import FastWorker
        from fastworker.tasks.serializer import SerializationFormat

        self.assertEqual(SerializationFormat.JSON.value, "json")
        with self.assertRaises(OutsideSandbox):
            FastWorker(None).delay("x")


if __name__ == "__main__":
    unittest.main()
