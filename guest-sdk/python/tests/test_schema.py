"""What the host learns of a task: parameters, result, documentation, policy."""

import collections.abc
import functools
import typing
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Literal, Optional, TypedDict
from uuid import UUID

from fastworker import TaskPriority, task, testing
from tests.support import Case


@dataclass
class Node:
    """A node of a tree."""

    name: str
    children: list["Node"] = field(default_factory=list)


class Answer(TypedDict, total=False):
    text: str


class Schemas(Case):
    def schema(self, kind: object) -> object:
        def take(value): ...

        take.__annotations__ = {"value": kind}
        task(take)
        return testing.tasks()["take"].schema["parameters"][0]["schema"]

    def test_types_become_json_schema(self):
        text = {"type": "string"}
        cases = [
            (int, {"type": "integer"}),
            (float, {"type": "number"}),
            (Optional[str], {"anyOf": [text, {"type": "null"}]}),
            (Literal["a", 2, None], {"enum": ["a", 2, None]}),
            (list[str], {"type": "array", "items": text}),
            (dict[str, str], {"type": "object", "additionalProperties": text}),
            (tuple[str, ...], {"type": "array", "items": text}),
            (datetime, {"type": "string", "format": "date-time"}),
            (UUID, {"type": "string", "format": "uuid"}),
            (timedelta, {"type": "number"}),
            (bytes, {"type": "string", "contentEncoding": "base64"}),
            (Answer, {"type": "object", "properties": {"text": text}}),
            (typing.Any, {}),
            (int | typing.Any, {}),
            (collections.abc.Callable[[int], int], {}),
            (typing.Annotated[str, "a name"], {"type": "string", "description": "a name"}),
            (
                tuple[str, int],
                {
                    "type": "array",
                    "prefixItems": [text, {"type": "integer"}],
                    "items": False,
                    "minItems": 2,
                    "maxItems": 2,
                },
            ),
        ]
        for kind, expected in cases:
            with self.subTest(kind=kind):
                self.assertEqual(self.schema(kind), expected)

    def test_a_recursive_dataclass_refers_to_itself(self):
        node = {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/Node"}},
            },
            "required": ["name"],
            "additionalProperties": False,
            "description": "A node of a tree.",
        }
        self.assertEqual(
            self.schema(list[Node]), {"type": "array", "items": {"$ref": "#/$defs/Node"}, "$defs": {"Node": node}}
        )

    def test_a_signature_says_names_types_and_what_is_required(self):
        @task
        def report(
            day: datetime, *, kind: Literal["full", "brief"] = "full", owner: str = None, rest=1
        ) -> list[Node] | None:
            """Make the report.

            With all that it needs.
            """

        described = testing.tasks()["report"]
        self.assertEqual(described.documentation, "Make the report.\n\nWith all that it needs.")
        parameters = [(it["name"], it.get("type"), it["required"]) for it in described.schema["parameters"]]
        self.assertEqual(
            parameters,
            [
                ("day", "datetime", True),
                ("kind", "Literal['full', 'brief']", False),
                ("owner", "str", False),
                ("rest", None, False),
            ],
        )
        self.assertEqual(described.schema["result"]["type"], "list[Node] | None")

    def test_any_number_of_arguments_is_not_described(self):
        @task
        def many(*values: int): ...

        self.assertEqual(testing.tasks()["many"].schema, {})

    def test_callables_of_all_kinds_are_tasks(self):
        class Multiply:
            """Not the documentation of its instances."""

            def __call__(self, x: int) -> int:
                return 2 * x

        def power(base: int, exponent: int) -> int:
            """Raise a base."""
            return base**exponent

        @functools.wraps(power)
        def wrapper(*args, **kwargs):
            return power(*args, **kwargs)

        task("multiply")(Multiply())
        task("square")(functools.partial(power, exponent=2))
        task("wrapped")(wrapper)
        self.assertEqual(self.host.call("multiply", 2), 4)
        self.assertEqual(self.host.call("square", 3), 9)
        self.assertEqual(self.host.call("wrapped", 2, 3), 8)
        self.assertEqual(testing.tasks()["multiply"].documentation, "")
        self.assertEqual(testing.tasks()["wrapped"].documentation, "Raise a base.")


class Policies(Case):
    def test_all_keywords_arrive_as_the_contract_names_them(self):
        @task(
            name="all",
            priority=TaskPriority.HIGH,
            timeout=timedelta(minutes=1),
            max_retries=3,
            retry_delay="5s",
            retry_backoff=2,
            retry_backoff_max=60,
            cron="0 9 * * *",
            tz="Europe/Paris",
            overlap="queue",
        )
        def many(): ...

        self.assertEqual(
            testing.tasks()["all"].policy,
            {
                "priority": "high",
                "timeout": 60.0,
                "max_retries": 3,
                "retry_delay": "5s",
                "retry_backoff": 2,
                "retry_backoff_max": 60,
                "cron": "0 9 * * *",
                "tz": "Europe/Paris",
                "overlap": "queue",
            },
        )

    def test_both_names_of_a_schedule_work(self):
        task("a", every=timedelta(seconds=5), count=2, until=datetime(2030, 1, 1))(lambda: None)
        task("b", repeat_interval=5, repeat_count=2, repeat_until="2030-01-01T00:00:00+02:00")(lambda: None)
        until = {name: described.policy["until"] for name, described in testing.tasks().items()}
        self.assertEqual(until, {"a": "2030-01-01T00:00:00+00:00", "b": "2030-01-01T00:00:00+02:00"})

    def test_a_count_without_a_schedule_means_nothing(self):
        task("a", repeat_count=2)(lambda: None)
        self.assertEqual(testing.tasks()["a"].policy, {})

    def test_mistakes_are_told_where_the_task_is_declared(self):
        with self.assertRaises(ValueError):
            task(repeat_interval=5, cron="* * * * *")
        with self.assertRaises(ValueError):
            task(repeat_interval=-5)
        with self.assertRaises(TypeError):
            task(max_retry=5)
        for name in ("x\n", "x" * 129):
            with self.subTest(name), self.assertRaises(ValueError):
                task(name)(lambda: None)
        with self.assertRaises(TypeError):
            task(5)
        with self.assertWarnsRegex(UserWarning, "required parameters"):
            task(repeat_interval=5)(lambda x: x)

    def test_limits_and_needs_arrive_in_bytes_and_seconds(self):
        @task(
            needs=("http:api.example.com", "secret:KEY"),
            max_memory="64 MiB",
            max_cpu_time="500ms",
            max_host_time=timedelta(minutes=1),
            max_output="1.5KiB",
            max_log=2048,
            max_result="1 GiB",
            max_connections=4,
            max_received="10 TiB",
            max_sent="500 B",
        )
        def confined(): ...

        self.assertEqual(
            testing.tasks()["confined"].policy,
            {
                "needs": ["http:api.example.com", "secret:KEY"],
                "max_memory": 64 << 20,
                "max_cpu_time": 0.5,
                "max_host_time": 60.0,
                "max_output": 1536,
                "max_log": 2048,
                "max_result": 1 << 30,
                "max_connections": 4,
                "max_received": 10 << 40,
                "max_sent": 500,
            },
        )

    def test_values_that_are_no_limits_and_needs_are_refused(self):
        for values, error, words in [
            ({"max_memory": "64MB"}, ValueError, "max_memory: '64MB' is not a size; write bytes"),
            ({"max_memory": "64"}, ValueError, "is not a size"),
            ({"max_memory": 1.5}, TypeError, "and not float"),
            ({"max_log": True}, TypeError, "and not bool"),
            ({"max_output": 0}, ValueError, "more than zero"),
            ({"max_sent": -1}, ValueError, "more than zero"),
            ({"max_cpu_time": "soon"}, ValueError, "'soon' is not a time"),
            ({"max_cpu_time": "1m soon"}, ValueError, "is not a time"),
            ({"max_host_time": [1]}, TypeError, "and not list"),
            ({"max_host_time": float("nan")}, ValueError, "more than zero"),
            ({"max_connections": "4"}, TypeError, "and not str"),
            ({"max_connections": 2**32}, ValueError, "more than 4294967295"),
            ({"needs": "env:A"}, TypeError, "needs is a list of grants"),
            ({"needs": 1}, TypeError, "needs is a list of grants"),
            ({"needs": ["disk"]}, ValueError, "'disk' names no grant"),
            ({"needs": ["env:"]}, ValueError, "names no grant"),
            ({"needs": [1]}, TypeError, "1 names no grant"),
            ({"needs": ["env:A"] * 101}, ValueError, "at most 100"),
        ]:
            with self.subTest(values), self.assertRaisesRegex(error, words):
                task("a", **values)(lambda: None)
        self.assertEqual(testing.tasks(), {})
        task("b", needs=[])(lambda: None)
        self.assertEqual(testing.tasks()["b"].policy, {})

    def test_the_last_task_of_a_name_wins(self):
        task("a")(lambda: 1)
        task("a")(lambda: 2)
        self.assertEqual(self.host.call("a"), 2)
        self.assertIn(("warn", "Task a is already registered. Overwriting."), self.host.logs)
