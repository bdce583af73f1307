"""Arguments: bound by Python's rules, refused in the host's words, and converted into the annotated types."""

from __future__ import annotations

import collections
import enum
import typing
import uuid
from dataclasses import InitVar, dataclass, field
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Optional, TypedDict, Union

from fastworker import task
from tests.support import Case


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Bits(enum.Flag):
    A = 1
    B = 2


class Shape(enum.Enum):
    SQUARE = (1, 1)


@dataclass
class Item:
    name: str
    price: float = 1.5


@dataclass(frozen=True)
class Order:
    items: list[Item]
    note: str = None
    tags: set[str] = field(default_factory=set)


@dataclass
class Tree:
    value: int
    children: list[Tree] = field(default_factory=list)


@dataclass
class Scaled:
    base: int
    factor: InitVar[int] = 2
    total: int = field(init=False)

    def __post_init__(self, factor):
        if factor < 0:
            raise ValueError("factor below 0")
        self.total = self.base * factor


class Point(NamedTuple):
    x: int
    y: int = 0


class Receipt(TypedDict):
    total: float
    lines: NotRequired[list[Item]]


class UserId(str):
    pass


Meters = typing.NewType("Meters", float)

CONVERSIONS = [
    (int, 1, 1),
    (int, 2.0, 2),
    (int, 10**30, 10**30),
    (float, 1, 1.0),
    (str, "a", "a"),
    (bool, True, True),
    (None, None, None),
    (Any, {"a": [1]}, {"a": [1]}),
    (object, 1, 1),
    (Optional[int], None, None),
    (int | str, "1", "1"),
    (Union[float, int], 1, 1),
    (datetime | str, "2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)),
    (datetime | str, "soon", "soon"),
    (list[Item], [{"name": "a"}], [Item("a", 1.5)]),
    (Order, {"items": [{"name": "a", "price": 2}], "tags": ["x"]}, Order([Item("a", 2.0)], None, {"x"})),
    (Order, {"items": [], "note": None}, Order([])),
    (Tree, {"value": 1, "children": [{"value": 2}]}, Tree(1, [Tree(2)])),
    (Point, [1], Point(1, 0)),
    (Point, {"x": 1, "y": 2}, Point(1, 2)),
    (Receipt, {"total": 1, "lines": [{"name": "a"}]}, {"total": 1.0, "lines": [Item("a")]}),
    (Receipt, {"total": 1, "more": 2}, {"total": 1.0, "more": 2}),
    (Literal["a", 1], 1, 1),
    (Color, "blue", Color.BLUE),
    (Level, 2, Level.HIGH),
    (Bits, 3, Bits.A | Bits.B),
    (Shape, "SQUARE", Shape.SQUARE),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple, [1, "a"], (1, "a")),
    (tuple[()], [], ()),
    (set[int], [1, 1], {1}),
    (frozenset[Color], ["red"], frozenset([Color.RED])),
    (list, [1], [1]),
    (collections.deque[int], [1], collections.deque([1])),
    (collections.abc.Sequence[Item], [{"name": "a"}], [Item("a")]),
    (dict[str, Item], {"k": {"name": "a"}}, {"k": Item("a")}),
    (dict[int, float], {"1": 2}, {1: 2.0}),
    (dict[Color, int], {"red": 1}, {Color.RED: 1}),
    (collections.abc.Mapping[str, Any], {"a": 1}, {"a": 1}),
    (date, "2026-01-02", date(2026, 1, 2)),
    (time, "03:04", time(3, 4)),
    (timedelta, 1.5, timedelta(seconds=1.5)),
    (Decimal, 0.1, Decimal("0.1")),
    (Decimal, "1.10", Decimal("1.10")),
    (Fraction, "1/3", Fraction(1, 3)),
    (uuid.UUID, "00000000-0000-4000-8000-000000000000", uuid.UUID(int=0x4000 << 64 | 0x8000 << 48)),
    (bytes, "aGk=", b"hi"),
    (UserId, "u", UserId("u")),
    (Meters, 1, 1.0),
    (Annotated[int, "the year"], 1, 1),
]

REFUSALS = [
    (int, "1", 'value: expected integer, found string "1"'),
    (int, 1.5, "value: expected integer, found number 1.5"),
    (int, True, "value: expected integer, found boolean true"),
    (float, False, "value: expected number, found boolean false"),
    (float, 10**400, "value: expected number, found number 1"),
    (str, None, "value: expected string, found null"),
    (Literal["a", "b"], "c", 'value: expected "a" or "b", found string "c"'),
    (Literal[1], True, "value: expected 1, found boolean true"),
    (Color, "green", 'value: expected "red" or "blue", found string "green"'),
    (Order, {"items": [{}]}, "value.items[0].name: expected string, found nothing"),
    (Order, {"items": [], "x y": 1}, 'value["x y"]: expected no such field, found number 1'),
    (Order, [], "value: expected object, found array []"),
    (Order | None, {"items": [{"name": 1}]}, "value.items[0].name: expected string, found number 1"),
    (Optional[int], "x", 'value: expected integer or null, found string "x"'),
    (tuple[int, str], [1], "value: expected an array of 2 items, found array [1]"),
    (Point, [], "value: expected an array of 1 to 2 items, found array []"),
    (set[list[int]], [[1]], "value: expected an array of values that can be in a set, found array [[1]]"),
    (date, "2026-02-30", 'value: expected a date, found string "2026-02-30"'),
    (datetime, 5, "value: expected a date and time, found number 5"),
    (Decimal, "one", 'value: expected a decimal number, found string "one"'),
    (bytes, "a", 'value: expected base64, found string "a"'),
    (timedelta, 1e300, "value: expected a number of seconds, found number 1e+300"),
    (dict[int, int], {"a": 1}, 'value (its key): expected another key, found string "a"'),
    (Scaled, {"base": 1, "factor": -1}, "value: expected a valid Scaled (factor below 0), found object"),
]


class Conversions(Case):
    def check(self, kind: Any, value: Any) -> Any:
        seen = []

        def take(value):
            seen.append(value)

        take.__annotations__ = {"value": kind}
        task(take)
        self.host.call("take", value)
        return seen[0]

    def test_values_become_what_the_annotation_says(self):
        for kind, value, expected in CONVERSIONS:
            with self.subTest(kind=kind, value=value):
                read = self.check(kind, value)
                self.assertEqual(read, expected)
                self.assertIs(type(read), type(expected))

    def test_values_of_other_types_are_refused(self):
        for kind, value, message in REFUSALS:
            with self.subTest(kind=kind, value=value):

                def take(value):
                    self.fail("it must not be called")

                take.__annotations__ = {"value": kind}
                task(take)
                self.assertEqual(self.refusal("take", value)[: len(message)], message)

    def test_an_init_only_field_is_a_parameter(self):
        self.assertEqual(self.check(Scaled, {"base": 2, "factor": 3}).total, 6)

    def test_annotations_that_cannot_be_evaluated_take_any_json(self):
        def take(a: Unknown, b: int):  # noqa: F821
            return [a, b]

        task(take)
        self.assertEqual(self.host.call("take", {"x": 1}, 2), [{"x": 1}, 2])
        self.assertIn("expected integer", self.refusal("take", 1, "b"))


class Binding(Case):
    def setUp(self) -> None:
        super().setUp()

        @task
        def add(x: int, y: int = 2):
            return [x, y]

        @task
        def mixed(a: int, /, b: int, *rest: float, c: int, d: int = 4, **others: str):
            return [a, b, rest, c, d, others]

    def test_arguments_go_by_position_and_by_name(self):
        self.assertEqual(self.host.call("add", 1), [1, 2])
        self.assertEqual(self.host.call("add", 1, y=3), [1, 3])
        self.assertEqual(self.host.call("add", y=3, x=1), [1, 3])
        self.assertEqual(self.host.call("mixed", 1, 2, 3, 4, c=5, a="x"), [1, 2, [3.0, 4.0], 5, 4, {"a": "x"}])

    def test_wrong_arguments_are_refused_in_the_words_of_the_host(self):
        self.assertEqual(self.refusal("add"), "add() missing 1 required argument: 'x'")
        self.assertEqual(self.refusal("mixed"), "mixed() missing 3 required arguments: 'a', 'b' and 'c'")
        self.assertEqual(self.refusal("add", 1, 2, 3), "add() takes from 1 to 2 arguments but 3 were given")
        self.assertEqual(self.refusal("add", 1, x=1), "add() got multiple values for argument 'x'")
        self.assertEqual(self.refusal("add", 1, z=1), "add() got an unexpected keyword argument 'z'")
        self.assertEqual(self.refusal("mixed", 1, 2, "x", c=1), 'rest[0]: expected number, found string "x"')
        self.assertEqual(self.refusal("nope"), "this module has no task 'nope'")

    def test_a_refusal_is_machine_readable(self):
        failure = self.failure("add", "x")
        self.assertEqual(failure.kind, "type-mismatch")
        self.assertEqual(failure.details, '{"path":"x","expected":"integer","found":"string \\"x\\""}')

    def test_arguments_that_are_no_json_are_refused(self):
        for args, kwargs in (("{}", "{}"), ("[", "{}"), ("[]", "[]"), ("[]", "{"), ("[" * 10**6, "{}")):
            with self.subTest(args=args[:9], kwargs=kwargs), self.assertRaises(Exception) as caught:
                self.host.call_json("add", args, kwargs)
            self.assertEqual(caught.exception.failure.outcome, "bad-arguments")
