"""What a task takes and returns: for the host as JSON, and to bind the arguments of a call."""

import inspect
from collections.abc import Callable
from typing import Any

from . import annotations
from .errors import BadArguments
from .shapes import Mismatch, Shape

_DEFAULT_MAX = 40
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class Signature:
    """The parameters and the result of a function. Made while the module is built, so calls find it ready."""

    def __init__(self, func: Callable[..., Any], task: str):
        self._task = task
        self._parameters = list(inspect.signature(func).parameters.values())
        target = func if inspect.isroutine(func) or inspect.isclass(func) else type(func).__call__
        self._hints = annotations.hints(inspect.unwrap(target))
        self._shapes: dict[str, Shape] = {}
        self._reader = annotations.Reader()
        for parameter in self._parameters:
            shape = self._reader.shape(self._hints.get(parameter.name, Any))
            self._shapes[parameter.name] = annotations.optional(shape, parameter.default)
        kinds = inspect.Parameter
        self._positional = [
            it for it in self._parameters if it.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        ]
        self._named = {
            it.name for it in self._parameters if it.kind in (kinds.KEYWORD_ONLY, kinds.POSITIONAL_OR_KEYWORD)
        }
        self._rest = next((it.name for it in self._parameters if it.kind is kinds.VAR_POSITIONAL), None)
        self._others = next((it.name for it in self._parameters if it.kind is kinds.VAR_KEYWORD), None)
        self.documentation = self._documentation(func)

    def notes(self) -> list[str]:
        """What the author should know: where any JSON is taken, although an annotation says more."""
        notes = []
        for name in [it.name for it in self._parameters if it.name in self._hints]:
            hint = self._hints[name]
            if isinstance(hint, (str, annotations.typing.ForwardRef)):
                notes.append(f"takes any JSON as {name}: its annotation has a name that is not defined")
            elif classes := _opaque(hint):
                advice = "a dataclass is checked and converted"
                notes.append(f"takes any JSON as {name}, and gets no {classes}, of which no fields are known: {advice}")
        return notes

    def _documentation(self, func: Callable[..., Any]) -> str:
        """The docstring, below the parameters if the schema cannot have them: there are any number of them."""
        documentation = _documentation(func)
        if self._rest is None and self._others is None:
            return documentation
        return f"{self._task}{self._text()}" + (f"\n\n{documentation}" if documentation else "")

    def _text(self) -> str:
        """The parameters as they are written."""
        empty = inspect.Parameter.empty
        written = [
            it.replace(
                annotation=_Text(annotations.text(self._hints[it.name])) if it.name in self._hints else empty,
                default=it.default if it.default is empty else _Text(_default(it.default)),
            )
            for it in self._parameters
        ]
        return str(inspect.Signature(written))

    def describe(self) -> dict[str, Any]:
        """The `schema` of the contract. Without parameters, if there are any number of them."""
        described: dict[str, Any] = {}
        if self._rest is None and self._others is None:
            described["parameters"] = [self._describe(parameter) for parameter in self._parameters]
        if "return" in self._hints:
            hint = self._hints["return"]
            described["result"] = {"type": annotations.text(hint), "schema": _schema(self._reader.shape(hint))}
        return described

    def _describe(self, parameter: inspect.Parameter) -> dict[str, Any]:
        described: dict[str, Any] = {"name": parameter.name, "required": parameter.default is parameter.empty}
        if parameter.name in self._hints:
            described["type"] = annotations.text(self._hints[parameter.name])
            described["schema"] = _schema(self._shapes[parameter.name])
        return described

    def bind(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments as the function's types. Raises `BadArguments`, in the host's words."""
        most = len(self._positional)
        if len(args) > most and self._rest is None:
            least = sum(it.default is it.empty for it in self._positional)
            count = f"from {least} to {most} arguments" if least < most else _counted(most, "argument")
            were = "was" if len(args) == 1 else "were"
            raise self._refuse("too-many-arguments", f"takes {count} but {len(args)} {were} given")
        given = {parameter.name for parameter in self._positional[: len(args)]}
        for name in kwargs:
            if name in given and name in self._named:
                raise self._refuse("duplicate-argument", f"got multiple values for argument '{name}'")
            if name not in self._named and self._others is None:
                raise self._refuse("unknown-argument", f"got an unexpected keyword argument '{name}'")
        missing = [it.name for it in self._parameters if self._is_missing(it, given, kwargs)]
        if missing:
            count = _counted(len(missing), "required argument")
            raise self._refuse("missing-arguments", f"missing {count}: {_listed(missing)}")
        try:
            return self._read(args, kwargs)
        except Mismatch as mismatch:
            details = {"path": mismatch.path, "expected": mismatch.expected, "found": mismatch.found}
            raise BadArguments(str(mismatch), kind="type-mismatch", details=details) from None

    def _is_missing(self, parameter: inspect.Parameter, given: set[str], kwargs: dict[str, Any]) -> bool:
        if parameter.kind in _VARIADIC or parameter.default is not parameter.empty or parameter.name in given:
            return False
        return parameter.name not in kwargs or parameter.name not in self._named

    def _read(self, args: list[Any], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        read = []
        for index, value in enumerate(args):
            is_named = index < len(self._positional)
            name = self._positional[index].name if is_named else self._rest or ""
            path = name if is_named else f"{name}[{index - len(self._positional)}]"
            read.append(self._shapes[name].read(value, path))
        named = {}
        for name, value in kwargs.items():
            shape = self._shapes[name if name in self._named else self._others or ""]
            named[name] = shape.read(value, name)
        return tuple(read), named

    def _refuse(self, kind: str, problem: str) -> BadArguments:
        return BadArguments(f"{self._task}() {problem}", kind=kind)


class _Text:
    """A text that is written as it is."""

    def __init__(self, text: str):
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _default(value: Any) -> str:
    """A default as Python writes it, if that is short and the same in every build."""
    is_plain = value is None or isinstance(value, (bool, int, float, str))
    text = repr(value) if is_plain else "…"
    return text if len(text) <= _DEFAULT_MAX else "…"


def _opaque(hint: Any) -> str:
    """The classes in an annotation that are no more than any JSON."""
    reader = annotations.Reader()
    reader.shape(hint)
    return " or ".join(reader.opaque)


def _schema(shape: Shape) -> dict[str, Any]:
    definitions: dict[str, Any] = {}
    schema = shape.schema(definitions)
    return schema | ({"$defs": definitions} if definitions else {})


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _listed(names: list[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return f"{', '.join(quoted[:-1])} and {quoted[-1]}" if len(quoted) > 1 else quoted[0]


def _documentation(func: Callable[..., Any]) -> str:
    """The docstring of a function. That of the class of a callable object is not its own."""
    is_own = inspect.isroutine(func) or inspect.isclass(func) or "__doc__" in vars(func)
    return inspect.cleandoc(func.__doc__) if is_own and isinstance(func.__doc__, str) else ""
