"""`print` and the module `logging` to the log of the task."""

import contextlib
import logging
import sys
from typing import Any

from . import host

_DEFAULT_FORMATS = (logging.BASIC_FORMAT, "%(message)s", None)
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warn"), (logging.INFO, "info"), (logging.DEBUG, "debug"))


def _level(number: int) -> str:
    return next((name for least, name in _LEVELS if number >= least), "trace")


def _emit(handler: logging.StreamHandler[Any], record: logging.LogRecord) -> None:
    """Instead of `StreamHandler.emit`: what goes to stdout or stderr is logged with its level."""
    if handler.stream not in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        _emit_to_stream(handler, record)
        return
    try:
        formatter = handler.formatter
        # The default format repeats the level, which the log has.
        is_default = formatter is None or getattr(formatter, "_fmt", None) in _DEFAULT_FORMATS
        text = _formatter.format(record) if is_default else handler.format(record)
        sys.stdout.flush()
        host.backend.log(_level(record.levelno), host.clean(text))
    except RecursionError:
        raise
    except Exception:
        handler.handleError(record)


_formatter = logging.Formatter()
_emit_to_stream = logging.StreamHandler.emit


def install() -> None:
    """Connects `logging`, `warnings` and the standard streams. The default level is info."""
    logging.StreamHandler.emit = _emit  # type: ignore[method-assign, assignment]
    logging.root.setLevel(logging.INFO)
    if logging.lastResort is not None:
        logging.lastResort.setLevel(logging.NOTSET)
    logging.captureWarnings(True)
    for stream in (sys.stdout, sys.stderr):
        # By lines, so that prints and log lines keep their order; nothing that is printed may fail.
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]


def flush() -> None:
    """Writes incomplete lines."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # closed by the task
            stream.flush()
