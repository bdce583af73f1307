"""What is wrong with tasks while a module is built, and what is taken as any JSON."""

from collections.abc import Callable
from typing import Any
from unittest import mock

from fastworker import run, task, testing
from fastworker.tasks.registry import task_registry
from tests.support import Case


class Mistakes(Case):
    def mistakes(self, *tasks: Callable[[], Any]) -> list[str]:
        with mock.patch.object(task_registry, "mistakes", []) as mistakes:
            for register in tasks:
                register()
        return [mistake.partition(": ")[2] for mistake in mistakes]

    def test_all_mistakes_of_a_build_are_collected(self):
        def nothing(): ...

        found = self.mistakes(
            lambda: task(max_cpu_time=-1, needs=["foo:bar"], timeout="soon")(nothing),
            lambda: task("b", retries=3, priority="urgent")(nothing),
            lambda: task("c", frobnicate=1, retry_backoff=0.5)(nothing),
        )
        self.assertEqual([line.partition(":")[0] for line in found], ["nothing"] * 3 + ["b"] * 2 + ["c"] * 2)
        self.assertIn("task() has no option retries: did you mean max_retries?", found[3])
        self.assertIn("'urgent' is none of critical, high", found[4])
        self.assertIn("the options are name, ", found[5])

    def test_a_name_that_is_registered_twice_is_refused_while_building(self):
        def make():
            @task("twice")
            def one(): ...

        (found,) = self.mistakes(make, make)
        self.assertRegex(found, r'the task twice is already registered by File ".*test_mistakes.py", line \d+: give one')

    def test_values_that_the_host_reads_are_allowed(self):
        for values in [
            {"timeout": "1h 30min", "retry_delay": 0, "retry_backoff": 1, "max_retries": 0},
            {"timeout": "30", "priority": "HIGH", "retry_backoff_max": "1.5s"},
        ]:
            task("a", **values)(lambda: None)
            self.assertEqual(testing.tasks()["a"].policy, values)


class AnyJson(Case):
    def test_a_class_without_known_fields_is_any_json_and_said_so(self):
        class Plain:
            def __init__(self, a: int):
                self.a = a

        @task
        def take(x: Plain, y: "list[Plain] | None" = None, z: int = 1, w: object = None) -> Plain:
            return x

        (first, *_) = testing.tasks()["take"].schema["parameters"]
        self.assertEqual((first["type"], first["schema"]), ("Any", {}))
        notes = run.signature(task_registry.list_task_infos()["take"]).notes()
        self.assertIn("takes any JSON as x, and gets no Plain, of which no fields are known", notes[0])
        self.assertNotIn(" z", " ".join(notes))

    def test_any_number_of_arguments_are_shown_in_the_documentation(self):
        @task("named")
        def take(x: int, *rest: int, y: int = 3, z: list = [], **kw: str) -> int:  # noqa: B006
            """Takes them."""
            return x

        described = testing.tasks()["named"]
        expected = "named(x: int, *rest: int, y: int = 3, z: list = …, **kw: str)\n\nTakes them."
        self.assertEqual(described.documentation, expected)
        self.assertNotIn("parameters", described.schema)

    def test_classes_of_attrs_are_built_like_dataclasses(self):
        try:
            import attrs
        except ImportError:
            self.skipTest("attrs is not installed")

        @attrs.define
        class Item:
            name: str
            _count: int = attrs.field(default=3, validator=attrs.validators.ge(1))
            tags: list[str] = attrs.field(factory=list)

        @task
        def take(item: Item) -> list[Any]:
            return [isinstance(item, Item), item]

        self.assertEqual(
            self.host.call("take", {"name": "a", "count": 4}), [True, {"name": "a", "count": 4, "tags": []}]
        )
        self.assertIn("item.count: expected integer", self.refusal("take", {"name": "a", "count": "4"}))
        self.assertIn("expected a valid Item", self.refusal("take", {"name": "a", "count": 0}))
