"""The shapes of values: each describes itself as JSON Schema, and turns JSON into the value of its Python type.

Invariant: `read` accepts what `schema` allows, so a call that the host has checked is refused here only for what JSON
Schema cannot say, such as a date that does not exist.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

_FOUND_MAX = 60

Schema = dict[str, Any]


class Mismatch(Exception):
    """A value that does not have the expected shape, in the host's words."""

    def __init__(self, path: str, expected: str, value: Any):
        self.path = path
        self.expected = expected
        self.found = value.text if isinstance(value, Nothing) else _found(value)
        super().__init__(f"{path}: expected {expected}, found {self.found}")


class Nothing:
    """Instead of a value that is missing."""

    text = "nothing"


def shorten(value: Any) -> str:
    """The value as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= _FOUND_MAX else text[:_FOUND_MAX] + "…"


def _found(value: Any) -> str:
    if value is None:
        return "null"
    kinds = ((bool, "boolean"), (str, "string"), (list, "array"), (dict, "object"))
    return f"{next((name for kind, name in kinds if isinstance(value, kind)), 'number')} {shorten(value)}"


def key_path(path: str, key: str) -> str:
    """The path of a value in an object: `order.price`, or `order["unit price"]`."""
    return f"{path}.{key}" if key.isidentifier() else f"{path}[{json.dumps(key[:_FOUND_MAX])}]"


class Shape:
    """Any JSON, as it is."""

    def schema(self, definitions: Schema) -> Schema:
        """The JSON Schema. Recursive shapes put theirs into `definitions`."""
        return {}

    def read(self, value: Any, path: str) -> Any:
        """The Python value of a JSON value. Raises `Mismatch`."""
        return value


class Plain(Shape):
    """A value that JSON has as well: none, bool, int, float, str, or a subclass of these."""

    _TYPES: ClassVar = {
        type(None): ("null", "null"),
        bool: ("boolean", "boolean"),
        int: ("integer", "integer"),
        float: ("number", "number"),
        str: ("string", "string"),
    }

    def __init__(self, base: type, make: Callable[[Any], Any] | None = None):
        self.base = base
        self._make = make
        self._type, self._expected = self._TYPES[base]

    def schema(self, definitions: Schema) -> Schema:
        return {"type": self._type}

    def read(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is not self.base:
            if self.base is float and kind is int:
                value = _float(value, path)
            elif self.base is int and kind is float and value.is_integer():
                value = int(value)
            else:
                raise Mismatch(path, self._expected, value)
        return self._make(value) if self._make else value


def _float(value: int, path: str) -> float:
    try:
        return float(value)
    except OverflowError:
        raise Mismatch(path, "number", value) from None


@dataclass
class Parsed(Shape):
    """A type that is written as text, such as a date."""

    parse: Callable[[Any], Any]
    expected: str
    keywords: Schema
    kinds: tuple[type, ...] = (str,)

    def schema(self, definitions: Schema) -> Schema:
        return dict(self.keywords)

    def read(self, value: Any, path: str) -> Any:
        if type(value) not in self.kinds:
            raise Mismatch(path, self.expected, value)
        try:
            return self.parse(value)
        except (ValueError, ArithmeticError, TypeError):
            raise Mismatch(path, self.expected, value) from None


class Choice(Shape):
    """One of some values: a Literal or an Enum."""

    def __init__(self, choices: Sequence[tuple[Any, Any]]):
        self._choices = choices  # JSON value and Python value

    def schema(self, definitions: Schema) -> Schema:
        return {"enum": [value for value, _ in self._choices]}

    def read(self, value: Any, path: str) -> Any:
        for choice, made in self._choices:
            if choice == value and isinstance(choice, bool) == isinstance(value, bool):
                return made
        raise Mismatch(path, " or ".join(shorten(choice) for choice, _ in self._choices), value)


@dataclass
class Items(Shape):
    """An array of values of one shape: list, set, variadic tuple."""

    item: Shape
    make: Callable[[Iterable[Any]], Any]

    def schema(self, definitions: Schema) -> Schema:
        items = self.item.schema(definitions)
        return {"type": "array", "items": items} if items else {"type": "array"}

    def read(self, value: Any, path: str) -> Any:
        if type(value) is not list:
            raise Mismatch(path, "array", value)
        read = self.item.read
        items = [read(item, f"{path}[{index}]") for index, item in enumerate(value)]
        try:
            return items if self.make is list else self.make(items)
        except TypeError:  # a set of what cannot be hashed
            raise Mismatch(path, "an array of values that can be in a set", value) from None


@dataclass
class Fixed(Shape):
    """An array of values of their own shapes: a tuple, or a NamedTuple, which may be an object as well."""

    items: Sequence[Shape]
    make: Callable[..., Any]
    names: Sequence[str] = ()
    required: int = 0

    def schema(self, definitions: Schema) -> Schema:
        items = [item.schema(definitions) for item in self.items]
        array: Schema = {"type": "array", "minItems": self._least(), "maxItems": len(items)}
        if items:
            array = {"type": "array", "prefixItems": items, "items": False, **array}
        if not self.names:
            return array
        fields = dict(zip(self.names, items, strict=True))
        required = list(self.names[: self.required])
        return {"anyOf": [array, _object(fields, required, closed=True)]}

    def _least(self) -> int:
        return self.required if self.names else len(self.items)

    def read(self, value: Any, path: str) -> Any:
        if self.names and type(value) is dict:
            return self._read_object(value, path)
        if type(value) is not list:
            raise Mismatch(path, "array or object" if self.names else "array", value)
        least, most = self._least(), len(self.items)
        if not least <= len(value) <= most:
            count = f"{most}" if least == most else f"{least} to {most}"
            raise Mismatch(path, f"an array of {count} items", value)
        return self.make(*(self.items[index].read(item, f"{path}[{index}]") for index, item in enumerate(value)))

    def _read_object(self, value: dict[str, Any], path: str) -> Any:
        named = enumerate(zip(self.names, self.items, strict=True))
        fields = {name: Field(item, index < self.required) for index, (name, item) in named}
        return self.make(**read_fields(fields, value, path, closed=True))


@dataclass
class Mapping(Shape):
    """An object whose keys are data: a dict."""

    key: Shape
    value: Shape
    make: Callable[[dict[Any, Any]], Any]

    def schema(self, definitions: Schema) -> Schema:
        values = self.value.schema(definitions)
        return {"type": "object", "additionalProperties": values} if values else {"type": "object"}

    def read(self, value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise Mismatch(path, "object", value)
        read = {self._key(key, path): self.value.read(item, key_path(path, key)) for key, item in value.items()}
        return read if self.make is dict else self.make(read)

    def _key(self, key: str, path: str) -> Any:
        """A key as its type. JSON has only strings as keys: those of numbers are read."""
        if type(self.key) is Shape:
            return key
        try:
            return self.key.read(key, path)
        except Mismatch:
            try:
                return self.key.read(json.loads(key), path)
            except ValueError:
                raise Mismatch(f"{path} (its key)", "another key", key) from None


@dataclass
class Field:
    """A field of an object."""

    shape: Shape
    required: bool


def read_fields(fields: dict[str, Field], value: dict[str, Any], path: str, *, closed: bool) -> dict[str, Any]:
    """Reads the fields of an object. Raises `Mismatch` for missing ones, and for unknown ones if it is closed."""
    read = {}
    for name, item in value.items():
        field = fields.get(name)
        if field is not None:
            read[name] = field.shape.read(item, key_path(path, name))
        elif closed:
            raise Mismatch(key_path(path, name), "no such field", item)
        else:
            read[name] = item
    for name, field in fields.items():
        if field.required and name not in value:
            raise Mismatch(key_path(path, name), _expected(field.shape, Nothing(), path), Nothing())
    return read


def _object(properties: Schema, required: list[str], *, closed: bool) -> Schema:
    schema: Schema = {"type": "object", "properties": properties}
    if required:
        schema["required"] = required
    if closed:
        schema["additionalProperties"] = False
    return schema


class Record(Shape):
    """An object with fields: a dataclass or a TypedDict. Its `fields` are set later, so that it can contain itself."""

    def __init__(self, name: str, make: Callable[[dict[str, Any]], Any], *, closed: bool):
        self.name = name
        self.make = make
        self.closed = closed
        self.fields: dict[str, Field] = {}
        self.description = ""
        self.recursive = False

    def schema(self, definitions: Schema) -> Schema:
        if not self.recursive:
            return self._schema(definitions)
        if self.name not in definitions:
            definitions[self.name] = {}  # ends the recursion
            definitions[self.name] = self._schema(definitions)
        return {"$ref": f"#/$defs/{self.name}"}

    def _schema(self, definitions: Schema) -> Schema:
        properties = {name: field.shape.schema(definitions) for name, field in self.fields.items()}
        required = [name for name, field in self.fields.items() if field.required]
        schema = _object(properties, required, closed=self.closed)
        return schema | ({"description": self.description} if self.description else {})

    def read(self, value: Any, path: str) -> Any:
        if type(value) is not dict:
            raise Mismatch(path, "object", value)
        read = read_fields(self.fields, value, path, closed=self.closed)
        try:
            return self.make(read)
        except (TypeError, ValueError) as error:  # of a __post_init__ or a validator
            raise Mismatch(path, f"a valid {self.name} ({error})", value) from error


class Alias(Shape):
    """A named type that contains itself: `type Tree = dict[str, Tree]`."""

    def __init__(self, name: str):
        self.name = name
        self.shape = Shape()

    def schema(self, definitions: Schema) -> Schema:
        if self.name not in definitions:
            definitions[self.name] = {}
            definitions[self.name] = self.shape.schema(definitions)
        return {"$ref": f"#/$defs/{self.name}"}

    def read(self, value: Any, path: str) -> Any:
        return self.shape.read(value, path)


@dataclass
class Either(Shape):
    """A Union: the first shape that fits, but a number, boolean or null prefers its own type."""

    shapes: Sequence[Shape]

    def schema(self, definitions: Schema) -> Schema:
        schemas = [shape.schema(definitions) for shape in self.shapes]
        return {} if {} in schemas else {"anyOf": schemas}

    def read(self, value: Any, path: str) -> Any:
        if type(value) is not str:
            for shape in self.shapes:
                if type(shape) is Plain and shape.base is type(value):
                    return shape.read(value, path)
        deepest: Mismatch | None = None
        for shape in self.shapes:
            try:
                return shape.read(value, path)
            except Mismatch as mismatch:
                if deepest is None or len(mismatch.path) > len(deepest.path):
                    deepest = mismatch
        if deepest is not None and deepest.path != path:
            raise deepest
        expected = [_expected(shape, value, path) for shape in self.shapes]
        raise Mismatch(path, " or ".join(dict.fromkeys(expected)), value)


def _expected(shape: Shape, value: Any, path: str) -> str:
    try:
        shape.read(value, path)
    except Mismatch as mismatch:
        return mismatch.expected
    return "any value"


@dataclass
class Described(Shape):
    """A shape with a description: `Annotated[int, "the year"]`."""

    shape: Shape
    description: str

    def schema(self, definitions: Schema) -> Schema:
        return self.shape.schema(definitions) | {"description": self.description}

    def read(self, value: Any, path: str) -> Any:
        return self.shape.read(value, path)
