"""A registry that is empty in each test."""

import unittest
from typing import Any

from fastworker import testing
from fastworker.tasks.registry import task_registry


class Case(unittest.TestCase):
    """A test with its own tasks and a host."""

    def setUp(self) -> None:
        before = dict(task_registry._tasks)
        task_registry._tasks.clear()
        self.addCleanup(lambda: (task_registry._tasks.clear(), task_registry._tasks.update(before)))
        self.host = testing.Host()
        self.host.__enter__()
        self.addCleanup(self.host.__exit__, None, None, None)

    def failure(self, name: str, *args: Any, **kwargs: Any) -> testing.run.Failure:
        """The failure of a call that must fail."""
        with self.assertRaises(testing.Failed) as caught:
            self.host.call(name, *args, **kwargs)
        return caught.exception.failure

    def refusal(self, name: str, *args: Any, **kwargs: Any) -> str:
        """The message of a call whose arguments must be refused."""
        failure = self.failure(name, *args, **kwargs)
        self.assertEqual(failure.outcome, "bad-arguments")
        return failure.message
