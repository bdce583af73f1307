"""Values to JSON."""

import base64
import collections.abc
import dataclasses
import enum
import json
import math
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

_encode = json.JSONEncoder(
    allow_nan=False, separators=(",", ":"), ensure_ascii=False, default=lambda it: _plain(it)
).encode


class NotSerializable(TypeError):
    """A value that JSON cannot hold."""


def to_json(value: Any, path: str = "result") -> str:
    """The value as JSON. Raises `NotSerializable` with the path of what JSON cannot hold."""
    try:
        text = _encode(value)
    except (TypeError, ValueError) as error:
        if "Circular" in str(error):
            raise NotSerializable(f"{path} is not JSON serializable: it contains itself") from None
        text = _encode_slowly(value, path)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            # Half of a surrogate pair is no text for the host, and no JSON for most readers.
            where = next((at for at, it in _walk(value, path) if isinstance(it, str) and _is_broken(it)), path)
            raise NotSerializable(f"{where} has a lone surrogate, which is no Unicode text: replace it") from None
    return text


def _encode_slowly(value: Any, path: str) -> str:
    """Encodes what the fast way refuses: keys that are no strings. Finds what JSON cannot hold."""
    try:
        return _encode(_with_plain_keys(value))
    except (TypeError, ValueError) as error:
        for at, item in _walk(value, path):
            if isinstance(item, float) and not math.isfinite(item):
                raise NotSerializable(f"{at} is {item}, which JSON does not have: use None or text instead") from None
            if not _is_json(item):
                raise NotSerializable(
                    f"{at} is of type {type(item).__qualname__}, which is not JSON serializable: {_advice(item)}"
                ) from None
        raise NotSerializable(f"{path} is not JSON serializable: {error}") from None


def _advice(value: Any) -> str:
    if isinstance(value, (collections.abc.Coroutine, collections.abc.Awaitable)):
        return "await it"
    if isinstance(value, (collections.abc.Iterator, collections.abc.AsyncIterator)):
        return "make a list of it"
    return "use numbers, text, lists, dicts or dataclasses"


def _is_broken(text: str) -> bool:
    return any("\ud800" <= character <= "\udfff" for character in text)


def _is_json(value: Any) -> bool:
    if isinstance(value, (type(None), bool, int, float, str, list, tuple, dict)):
        return True
    try:
        _plain(value)
    except TypeError:
        return False
    return True


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def _alias(attribute: Any) -> str:
    """The name of a field of the package attrs as it is read."""
    return getattr(attribute, "alias", None) or attribute.name.lstrip("_")


def _plain(value: Any) -> Any:
    """A value that JSON does not know, as one that it knows better. Raises `TypeError` for others."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    if "__attrs_attrs__" in vars(type(value)):
        return {_alias(it): getattr(value, it.name) for it in type(value).__attrs_attrs__}
    if isinstance(value, enum.Enum):
        return value.value if isinstance(value.value, (str, int, float, type(None))) else value.name
    if isinstance(value, (date, datetime, time)):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if isinstance(value, (collections.abc.Set, collections.abc.KeysView)):
        return _ordered(value)
    if isinstance(value, collections.abc.Mapping):
        return dict(value)
    if isinstance(value, (collections.abc.Sequence, collections.abc.ValuesView, collections.deque)):
        return list(value)
    if isinstance(value, complex) or type(value).__module__ in _TEXT_MODULES:
        return str(value)
    raise TypeError(f"{type(value).__qualname__} is not JSON serializable")


_TEXT_MODULES = ("decimal", "fractions", "ipaddress", "pathlib", "pathlib._local", "uuid", "zoneinfo")


def _ordered(values: Any) -> list[Any]:
    """A set in one order, whatever the hashes are."""
    try:
        return sorted(values)
    except TypeError:
        return list(values)


def _with_plain_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_key(key): _with_plain_keys(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_plain_keys(item) for item in value]
    if isinstance(value, (type(None), bool, int, float, str)):
        return value
    return _with_plain_keys(_plain(value))


def _key(key: Any) -> Any:
    if isinstance(key, enum.Enum):
        key = _plain(key)
    if isinstance(key, (str, int, float, bool, type(None))):
        return key
    plain = _plain(key)
    if isinstance(plain, (str, int, float)):
        return plain
    raise TypeError(f"a key of the type {type(key).__qualname__}")


def _walk(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """All values in a value, with their paths."""
    stack = [(path, value)]
    seen = set()
    while stack:
        path, value = stack.pop()
        yield path, value
        if isinstance(value, (str, bytes, int, float)) or id(value) in seen:
            continue
        seen.add(id(value))
        if not isinstance(value, (list, tuple, dict)):
            try:
                value = _plain(value)
            except TypeError:
                continue
        if isinstance(value, dict):
            stack.extend((f"{path} (the key {key!r})", _key_or_itself(key)) for key in reversed(value))
            stack.extend((f"{path}.{key}", item) for key, item in reversed(value.items()))
        elif isinstance(value, (list, tuple)):
            stack.extend((f"{path}[{index}]", item) for index, item in reversed(list(enumerate(value))))


def _key_or_itself(key: Any) -> Any:
    try:
        return _key(key)
    except TypeError:
        return _NoKey()


class _NoKey:
    """A key that JSON cannot hold."""
