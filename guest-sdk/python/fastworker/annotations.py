"""Annotations to shapes, and to the text that people read."""

import base64
import collections
import collections.abc
import dataclasses
import enum
import functools
import inspect
import types
import typing
from datetime import date, datetime, time, timedelta
from typing import Any

from .shapes import (
    Alias,
    Choice,
    Described,
    Either,
    Field,
    Fixed,
    Items,
    Mapping,
    Mismatch,
    Parsed,
    Plain,
    Record,
    Shape,
)

_PLAIN = (bool, int, float, str)
_ARRAYS = {
    list: list,
    set: set,
    frozenset: frozenset,
    collections.deque: collections.deque,
    collections.abc.Sequence: list,
    collections.abc.MutableSequence: list,
    collections.abc.Collection: list,
    collections.abc.Iterable: list,
    collections.abc.Container: list,
    collections.abc.Reversible: list,
    collections.abc.Set: set,
    collections.abc.MutableSet: set,
}
_OBJECTS = {
    dict: dict,
    collections.OrderedDict: collections.OrderedDict,
    collections.Counter: collections.Counter,
    collections.defaultdict: lambda items: collections.defaultdict(None, items),
    collections.abc.Mapping: dict,
    collections.abc.MutableMapping: dict,
}
_UNIONS = (typing.Union, types.UnionType)
_TEXT = {"type": "string"}


def _bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


_PARSED = {
    datetime: Parsed(datetime.fromisoformat, "a date and time", {**_TEXT, "format": "date-time"}),
    date: Parsed(date.fromisoformat, "a date", {**_TEXT, "format": "date"}),
    time: Parsed(time.fromisoformat, "a time of day", {**_TEXT, "format": "time"}),
    timedelta: Parsed(_seconds, "a number of seconds", {"type": "number"}, (int, float)),
    bytes: Parsed(_bytes, "base64", {**_TEXT, "contentEncoding": "base64"}),
    bytearray: Parsed(lambda text: bytearray(_bytes(text)), "base64", {**_TEXT, "contentEncoding": "base64"}),
}
# Types of modules that the SDK does not import: each costs memory in every component.
_TEXTS = {
    "uuid.UUID": ("a UUID", "uuid"),
    "ipaddress.IPv4Address": ("an IPv4 address", "ipv4"),
    "ipaddress.IPv6Address": ("an IPv6 address", "ipv6"),
    "pathlib.Path": ("a path", None),
    "pathlib.PurePath": ("a path", None),
    "pathlib.PosixPath": ("a path", None),
    "pathlib.PurePosixPath": ("a path", None),
    "zoneinfo.ZoneInfo": ("a time zone", None),
}
_NUMBERS = {
    "decimal.Decimal": "a decimal number",
    "fractions.Fraction": "a fraction",
    "builtins.complex": "a complex number",
}


def _parsed(kind: type) -> Parsed | None:
    """A type that is written as text."""
    if kind in _PARSED:
        return _PARSED[kind]
    name = f"{kind.__module__.removesuffix('._local')}.{kind.__qualname__}"
    if name in _TEXTS:
        expected, form = _TEXTS[name]
        return Parsed(kind, expected, _TEXT | ({"format": form} if form else {}))
    if name in _NUMBERS:
        # Through the shortest text of a float: 0.1 is meant as 0.1.
        parse = lambda value: kind(repr(value) if isinstance(value, float) else value)  # noqa: E731
        return Parsed(parse, _NUMBERS[name], {"type": ["string", "number"]}, (str, int, float))
    return None


class Reader:
    """Turns annotations into shapes. Keeps the named ones, which may contain themselves."""

    def __init__(self) -> None:
        self._named: dict[Any, Record | Alias] = {}
        self._open: set[Any] = set()
        self.opaque: dict[str, bool] = {}
        """The names of classes whose values JSON Schema does not describe."""

    def shape(self, kind: Any) -> Shape:
        """The shape of a type. What JSON Schema does not describe is any JSON, as it is."""
        if kind is None or kind is type(None):
            return Plain(type(None))
        if kind in (Any, object, inspect.Parameter.empty) or isinstance(kind, (str, typing.ForwardRef)):
            return Shape()
        if isinstance(kind, typing.NewType):
            return self.shape(kind.__supertype__)
        if isinstance(kind, typing.TypeVar):
            return self.shape(kind.__bound__) if kind.__bound__ else Shape()
        if isinstance(kind, getattr(typing, "TypeAliasType", ())):
            return self._alias(kind)
        if typing.get_origin(kind) is not None:
            return self._generic(kind, typing.get_origin(kind), typing.get_args(kind))
        return self._class(kind) if isinstance(kind, type) else Shape()

    def _class(self, kind: type) -> Shape:
        if issubclass(kind, enum.Enum):
            return _enum(kind)
        if kind in _PLAIN:
            return Plain(kind)
        parsed = _parsed(kind)
        if parsed is not None:
            return parsed
        if typing.is_typeddict(kind) or dataclasses.is_dataclass(kind) or is_attrs(kind):
            return self._record(kind)
        if issubclass(kind, tuple) and hasattr(kind, "_fields"):
            return self._named_tuple(kind)
        if kind is tuple:
            return Items(Shape(), tuple)
        if kind in _ARRAYS:
            return Items(Shape(), _ARRAYS[kind])
        if kind in _OBJECTS:
            return Mapping(Shape(), Shape(), _OBJECTS[kind])
        for base in _PLAIN:
            if base is not bool and issubclass(kind, base):
                return Plain(base, kind)
        self.opaque[kind.__name__] = True
        return Shape()

    def _generic(self, kind: Any, origin: Any, args: tuple[Any, ...]) -> Shape:
        if origin is typing.Annotated:
            texts = [it for it in kind.__metadata__ if isinstance(it, str)]
            texts += [
                it.documentation for it in kind.__metadata__ if isinstance(getattr(it, "documentation", None), str)
            ]
            return Described(self.shape(args[0]), texts[0]) if texts else self.shape(args[0])
        if origin in _UNIONS:
            return Either([self.shape(arg) for arg in args])
        if origin is typing.Literal:
            return Choice([(_plain_choice(arg), arg) for arg in args])
        if origin is tuple:
            if len(args) == 2 and args[1] is Ellipsis:
                return Items(self.shape(args[0]), tuple)
            return Fixed([self.shape(arg) for arg in args], lambda *items: items)
        if origin in _ARRAYS:
            return Items(self.shape(args[0]), _ARRAYS[origin])
        if origin is collections.Counter:
            return Mapping(self.shape(args[0]), Plain(int), collections.Counter)
        if origin in _OBJECTS:
            return Mapping(self.shape(args[0]), self.shape(args[1]), _OBJECTS[origin])
        if origin in (typing.Final, typing.ClassVar, typing.Required, typing.NotRequired) or _is_read_only(origin):
            return self.shape(args[0])
        # A dataclass, TypedDict or alias with type arguments: these are any JSON.
        return self.shape(origin) if origin is not type and origin is not collections.abc.Callable else Shape()

    def _alias(self, kind: Any) -> Shape:
        if kind in self._named:
            return self._named[kind]
        alias = self._named[kind] = Alias(kind.__name__)
        alias.shape = self.shape(kind.__value__)
        return alias

    def _record(self, kind: Any) -> Shape:
        if kind in self._named:
            record = self._named[kind]
            if kind in self._open and isinstance(record, Record):
                record.recursive = True
            return record
        is_dict = typing.is_typeddict(kind)
        make = (lambda fields: fields) if is_dict else (lambda fields: kind(**fields))
        record = Record(kind.__name__, make, closed=not is_dict)
        self._named[kind] = record
        self._open.add(kind)
        record.fields = self._dict_fields(kind) if is_dict else self._class_fields(kind)
        self._open.discard(kind)
        # A dataclass without a docstring gets its signature as one.
        documentation = inspect.cleandoc(kind.__doc__ or "") if not is_attrs(kind) or "__doc__" in vars(kind) else ""
        record.description = "" if documentation.startswith(f"{kind.__name__}(") or is_dict else documentation
        return record

    def _dict_fields(self, kind: Any) -> dict[str, Field]:
        return {name: Field(self.shape(hint), _is_required(kind, name, hint)) for name, hint in hints(kind).items()}

    def _class_fields(self, kind: Any) -> dict[str, Field]:
        hinted, missing = hints(kind), dataclasses.MISSING
        # attrs strips the underscore of private names, and may call parameters otherwise.
        attributes = {getattr(it, "alias", None) or it.name.lstrip("_"): it for it in getattr(kind, "__attrs_attrs__", ())}
        hinted |= {alias: hinted.get(it.name, it.type or Any) for alias, it in attributes.items()}
        fields = {}
        for name, parameter in inspect.signature(kind).parameters.items():
            declared = getattr(kind, "__dataclass_fields__", {}).get(name)
            hint = hinted.get(name, parameter.annotation)
            if isinstance(hint, dataclasses.InitVar):
                hint = hint.type
            has_default = parameter.default is not parameter.empty or (
                declared is not None and declared.default_factory is not missing
            )
            fields[name] = Field(optional(self.shape(hint), parameter.default), not has_default)
        return fields

    def _named_tuple(self, kind: Any) -> Shape:
        hinted = hints(kind)
        shapes = [
            optional(self.shape(hinted.get(name, Any)), kind._field_defaults.get(name, ...)) for name in kind._fields
        ]
        return Fixed(shapes, kind, kind._fields, len(kind._fields) - len(kind._field_defaults))


def is_attrs(kind: Any) -> bool:
    """Whether a class is one of the package attrs."""
    return isinstance(kind, type) and "__attrs_attrs__" in vars(kind)


def optional(shape: Shape, default: Any) -> Shape:
    """`x: int = None` takes none as well, although its annotation does not say so."""
    if default is not None or type(shape) is Shape:
        return shape
    try:
        shape.read(None, "")
    except Mismatch:
        return Either([shape, Plain(type(None))])
    return shape


def _is_required(kind: Any, name: str, hint: Any) -> bool:
    """Whether a TypedDict needs a key. `__required_keys__` does not see into annotations that are strings."""
    while (origin := typing.get_origin(hint)) is not None:
        if origin in (typing.Required, typing.NotRequired):
            return origin is typing.Required
        if not _is_read_only(origin):
            break
        hint = typing.get_args(hint)[0]
    return name in kind.__required_keys__


def _is_read_only(origin: Any) -> bool:
    return str(origin).endswith(".ReadOnly")


def _enum(kind: type[enum.Enum]) -> Shape:
    if issubclass(kind, enum.Flag):
        return Parsed(kind, "flags as an integer", {"type": "integer"}, (int,))
    members = list(kind.__members__.values())
    # Values that JSON does not have are written by name.
    by_value = all(isinstance(member.value, (str, int, float, type(None))) for member in members)
    return Choice([(member.value if by_value else name, member) for name, member in kind.__members__.items()])


def _plain_choice(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, (str, int, float)) else value.name
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def hints(owner: Any) -> dict[str, Any]:
    """The annotations of a function or class, evaluated. One that cannot be evaluated stays as it is written."""
    try:
        return typing.get_type_hints(owner, include_extras=True)
    except Exception:
        return {name: _hint(owner, name, raw) for name, raw in _raw_annotations(owner).items()}


def _raw_annotations(owner: Any) -> dict[str, Any]:
    try:
        import annotationlib  # of Python 3.14
    except ImportError:
        return dict(inspect.get_annotations(owner))
    return annotationlib.get_annotations(owner, format=annotationlib.Format.FORWARDREF)


def _hint(owner: Any, name: str, raw: Any) -> Any:
    one = types.SimpleNamespace(__annotations__={name: raw})
    scope = getattr(owner, "__globals__", None) or vars(inspect.getmodule(owner) or types)
    try:
        return typing.get_type_hints(one, scope, include_extras=True)[name]
    except Exception:
        return raw


def is_opaque(kind: type) -> bool:
    """Whether JSON Schema does not describe the values of a class: they are any JSON, and not made into the class."""
    reader = Reader()
    reader.shape(kind)
    return kind.__name__ in reader.opaque


@functools.singledispatch
def text(kind: Any) -> str:
    """A type as people write it: `list[Order] | None`."""
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if kind is None or kind is type(None):
        return "None"
    if kind is Ellipsis:
        return "..."
    if origin is typing.Annotated:
        return text(args[0])
    if origin in _UNIONS:
        return " | ".join(text(arg) for arg in args)
    if origin is typing.Literal:
        return f"Literal[{', '.join(str(arg) if isinstance(arg, enum.Enum) else repr(arg) for arg in args)}]"
    if isinstance(kind, type) and origin is None and kind is not object and is_opaque(kind):
        return "Any"
    name = getattr(origin or kind, "__name__", None) or str(kind).rpartition(".")[2]
    return f"{name}[{', '.join(text(arg) for arg in args)}]" if args else name


@text.register
def _(kind: str) -> str:
    return "Any"  # a name that is not defined


@text.register
def _(kind: typing.ForwardRef) -> str:
    return "Any"


@text.register
def _(kind: list) -> str:  # the parameters of a Callable
    return f"[{', '.join(text(item) for item in kind)}]"
