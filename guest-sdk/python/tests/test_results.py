"""Results: values to JSON, and what JSON cannot hold."""

import collections
import enum
import ipaddress
import pathlib
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Any, NamedTuple
from uuid import UUID

from fastworker import task
from tests.support import Case


class Color(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


@dataclass
class Item:
    name: str
    color: Color
    inner: Any = None


class Point(NamedTuple):
    x: int
    y: int


class Results(Case):
    def returned(self, value: Any) -> Any:
        task("give")(lambda: value)
        return self.host.call_json("give")

    def test_values_are_written_as_json(self):
        cases = [
            (None, "null"),
            (2**70, "1180591620717411303424"),
            (0.1, "0.1"),
            ("é\n", '"é\\n"'),
            (Item("a", Color.RED, [Item("b", Color.PAIR)]), None),
            (Point(1, 2), "[1,2]"),
            ({"b", "a"}, '["a","b"]'),
            ({7: "a", None: 2, True: 3, 1.5: 4}, '{"7":"a","null":2,"true":3,"1.5":4}'),
            ({Color.RED: 1, date(2026, 1, 2): {UUID(int=1): 2}}, None),
            (datetime(2026, 1, 2, tzinfo=timezone.utc), '"2026-01-02T00:00:00+00:00"'),
            (timedelta(minutes=1), "60.0"),
            (Decimal("1.10"), '"1.10"'),
            (Fraction(1, 3), '"1/3"'),
            (b"hi", '"aGk="'),
            (pathlib.PurePosixPath("a/b"), '"a/b"'),
            (ipaddress.ip_address("::1"), '"::1"'),
            (collections.deque([1]), "[1]"),
            (collections.OrderedDict(a=1).keys(), '["a"]'),
            (range(3), "[0,1,2]"),
            (collections.ChainMap({"a": 1}), '{"a":1}'),
        ]
        for value, expected in cases:
            with self.subTest(value=value):
                text = self.returned(value)
                if expected is not None:
                    self.assertEqual(text, expected)
        self.assertEqual(
            self.returned(Item("a", Color.RED, [Item("b", Color.PAIR)])),
            '{"name":"a","color":"red","inner":[{"name":"b","color":"PAIR","inner":null}]}',
        )
        self.assertEqual(
            self.returned({Color.RED: 1, date(2026, 1, 2): {UUID(int=1): 2}}),
            '{"red":1,"2026-01-02":{"00000000-0000-0000-0000-000000000001":2}}',
        )

    def test_what_json_cannot_hold_is_named_with_its_path(self):
        circle: list[Any] = []
        circle.append(circle)
        cases = [
            ({"a": [1.0, float("nan")]}, "result.a[1] is nan, which JSON does not have: use None or text instead"),
            (float("-inf"), "result is -inf, which JSON does not have: use None or text instead"),
            ([Item("a", Color.RED, object())], "result[0].inner is of type object, which is not JSON serializable"),
            ((i for i in range(3)), "result is of type generator, which is not JSON serializable: make a list of it"),
            ({(1, 2): 3}, "result (the key (1, 2)) is of type"),
            (circle, "result is not JSON serializable: it contains itself"),
            (["\ud800"], "result[0] has a lone surrogate"),
            ({"\ud800": 1}, "has a lone surrogate"),
        ]
        for value, message in cases:
            with self.subTest(message):
                task("give")(lambda: value)  # noqa: B023
                failure = self.failure("give")
                self.assertEqual(failure.outcome, "failed")
                self.assertEqual(failure.kind, "NotSerializable")
                self.assertIn(message, failure.message)

    def test_a_coroutine_in_a_result_asks_to_be_awaited(self):
        async def inner(): ...

        coroutine = inner()
        task("give")(lambda: [coroutine])
        self.assertIn("await it", self.failure("give").message)
        coroutine.close()
