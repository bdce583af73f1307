"""The functions of the host, behind `backend`: the module's imports, or a stand-in outside of the sandbox."""

import sys
from typing import Protocol

LEVELS = ("trace", "debug", "info", "warn", "error")


class Backend(Protocol):
    """What a running attempt can call. All strings are valid Unicode; args, kwargs and options are JSON."""

    def log(self, level: str, message: str) -> None: ...

    def progress(self, done: int, total: int, message: str) -> None: ...

    def is_cancelled(self) -> bool: ...

    def submit(self, name: str, args: str, kwargs: str, options: str) -> str:
        """Returns the id of the follow-up, or raises `RuntimeError`."""
        ...


class Outside:
    """Plain Python: what a task logs is printed on stderr."""

    def log(self, level: str, message: str) -> None:
        print(f"{level}: {message}", file=sys.stderr)

    def progress(self, done: int, total: int, message: str) -> None:
        pass

    def is_cancelled(self) -> bool:
        return False

    def submit(self, name: str, args: str, kwargs: str, options: str) -> str:
        raise RuntimeError("there is no host here: in a test, use `with fastworker.testing.Host():`")


backend: Backend = Outside()


def clean(text: str) -> str:
    """The text with lone surrogates, which the host cannot take, as escapes."""
    if text.isascii():
        return text
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
