"""Exceptions to failures: the message with the last lines of the traceback, and what the sandbox has to do with it."""

import json
import linecache
import posixpath
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType, TracebackType

from . import hints, host
from .encode import NotSerializable, to_json
from .errors import BadArguments, GiveUp, Retry, TaskError

_FRAMES_MAX = 3
_TEXT_MAX = 4_000
_CAUSES_MAX = 5
_LOG_CHUNK = 12_000  # The host cuts longer lines of a log.
_KIND_BYTES_MAX = 128

_SDK = posixpath.dirname(__file__)
_STDLIB = posixpath.dirname(posixpath.dirname(json.__file__))
_user_files: set[str] = set()


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed, as in the contract."""

    outcome: str
    """"bad-arguments", "failed", "try-again-after" or "give-up"."""
    message: str
    kind: str = ""
    details: str = ""
    delay: float = 0.0


def keep_source(module: ModuleType) -> None:
    """Keeps the source of a user's module for tracebacks: there are no files in the sandbox."""
    path = getattr(module, "__file__", None)
    if path:
        lines = linecache.getlines(path)
        # Without a modification time it is not looked for again.
        linecache.cache[path] = (sum(map(len, lines)), None, lines, path)
        _user_files.add(path)


def of(error: BaseException) -> Failure:
    """The failure that an exception means."""
    error = _only(error)
    if isinstance(error, TaskError):
        kind = error.kind or ("" if isinstance(error, BadArguments) else type(error).__name__)
        details = _details(error)
        outcomes = ((BadArguments, "bad-arguments"), (Retry, "try-again-after"), (GiveUp, "give-up"))
        outcome = next((outcome for cls, outcome in outcomes if isinstance(error, cls)), "failed")
        message = _cut(_text(error) or kind) + "".join(f"\n{line}" for line in _causes(error))
        delay = error.delay if isinstance(error, Retry) else 0.0
        return Failure(outcome, host.clean(message), _kind(kind), details, delay)
    return Failure("failed", host.clean(_message(error)), _kind(type(error).__name__))


def is_worth_logging(error: BaseException) -> bool:
    """Whether the traceback says more than the failure: not for what a task decided, nor for what it returned."""
    if isinstance(error, TaskError):
        return error.__cause__ is not None or (error.__context__ is not None and not error.__suppress_context__)
    return not isinstance(error, NotSerializable)


def log(error: BaseException) -> None:
    """Writes the whole traceback to the log."""
    try:
        lines = "".join(traceback.format_exception(type(error), error, _below_sdk(error.__traceback__))).rstrip()
    except Exception as broken:  # of a broken __str__, or no memory for it
        lines = f"{type(error).__name__} (its traceback cannot be written: {type(broken).__name__})"
    lines = host.clean(_relative_text(lines))
    for start in range(0, len(lines), _LOG_CHUNK):
        host.backend.log("error", lines[start : start + _LOG_CHUNK])


def _below_sdk(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's code on, if it gets there."""
    user = trace
    while user is not None and is_standard(user.tb_frame.f_code.co_filename):
        user = user.tb_next
    return user or trace


def _only(error: BaseException) -> BaseException:
    """What a task raised in a TaskGroup, if it is the only one, and a decision about retries."""
    inner = error
    while isinstance(inner, BaseExceptionGroup) and len(inner.exceptions) == 1:
        inner = inner.exceptions[0]
    return inner if isinstance(inner, TaskError) else error


def _details(error: TaskError) -> str:
    if error.details is None:
        return ""
    try:
        return to_json(error.details, "details")
    except (TypeError, ValueError) as why:
        host.backend.log("warn", host.clean(f"the details of an error are no JSON: {why}"))
        return ""


def _kind(name: str) -> str:
    name = "".join(character for character in name if character.isprintable())
    return name.encode("utf-8", "ignore")[:_KIND_BYTES_MAX].decode("utf-8", "ignore")


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(its message cannot be made)"


def _cut(text: str) -> str:
    return text if len(text) <= _TEXT_MAX else text[:_TEXT_MAX] + "…"


def _head(error: BaseException) -> str:
    text = _text(error)
    return f"{type(error).__name__}: {_cut(text)}" if text else type(error).__name__


def _message(error: BaseException) -> str:
    lines = [_head(error), *_notes(error), *_frames(error)]
    if isinstance(error, BaseExceptionGroup):
        lines += [f"  - {_head(inner)}" for inner in error.exceptions[:_CAUSES_MAX]]
    lines += _causes(error)
    why = hints.of(error, _text(error))
    return "\n".join(lines + ([f"hint: {why}"] if why else []))


def _notes(error: BaseException) -> list[str]:
    notes = getattr(error, "__notes__", None)
    return [_cut(str(note)) for note in notes] if isinstance(notes, list) else []


def _causes(error: BaseException) -> Iterator[str]:
    seen = {id(error)}
    for _ in range(_CAUSES_MAX):
        cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        if cause is None or id(cause) in seen or type(cause).__name__ == "CancelledError":
            return
        yield ("caused by " if error.__cause__ else "while handling ") + _head(cause)
        seen.add(id(cause))
        error = cause


def _frames(error: BaseException) -> list[str]:
    """The last lines of the traceback that are in the user's files, or else in a dependency."""
    entries = [
        (frame.f_code.co_filename, line, frame.f_code.co_name) for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    if isinstance(error, SyntaxError):
        return ["".join(traceback.format_exception_only(error)).rstrip().rpartition("\n")[0]]
    entries = [entry for entry in entries if not _is_under(entry[0], _SDK)]
    chosen = [entry for entry in entries if entry[0] in _user_files] or [
        entry for entry in entries if not is_standard(entry[0])
    ]
    lines = []
    for path, line, function in _without_repeats(chosen)[-_FRAMES_MAX:]:
        lines.append(f'  File "{relative(path)}", line {line}, in {function}')
        source = linecache.getline(path, line or 0).strip()
        if source:
            lines.append(f"    {source}")
    return lines


def _without_repeats(entries: list[tuple[str, int | None, str]]) -> list[tuple[str, int | None, str]]:
    """A recursion once: its frames are all the same."""
    return [entry for index, entry in enumerate(entries) if index == 0 or entry != entries[index - 1]]


def _is_under(path: str, folder: str) -> bool:
    return path.startswith(folder + "/") or path.startswith("<frozen")


def relative(path: str) -> str:
    """The path of a file below the folder in which it was found."""
    folders = [folder for folder in sys.path if folder and path.startswith(folder.rstrip("/") + "/")]
    return path[len(max(folders, key=len).rstrip("/")) + 1 :] if folders else path


def _relative_text(text: str) -> str:
    """A traceback with the user's files as the user knows them."""
    for path in _user_files:
        text = text.replace(f'File "{path}"', f'File "{relative(path)}"')
    return text


def is_standard(path: str) -> bool:
    """Whether a file is one of the standard library or of this package."""
    return _is_under(path, _STDLIB) or _is_under(path, _SDK)
