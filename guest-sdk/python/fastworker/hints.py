"""What the sandbox has to do with an exception, and what to do about it."""

import sys
import traceback

_FILES = "there are no files of the code in a module: read them at the top of a file, while building"
_PROCESSES = "a task cannot start processes: submit another task, or do it in Python"
_COMPILED = (
    "has compiled code, which does not run in a module: use a package in pure Python, or write the task in another "
    "language, such as Rust or C"
)
# Parts of the standard library that CPython in WebAssembly does not have, and what to do instead.
_ABSENT = {
    "_ctypes": ("ctypes", "it cannot load libraries: write the task in C, Rust or Zig, or use a package in pure Python"),
    "_multiprocessing": ("processes", "submit another task, or do it in Python"),
    "_posixshmem": ("processes", "submit another task, or do it in Python"),
    "_posixsubprocess": ("processes", "submit another task, or do it in Python"),
    "_tkinter": ("tkinter", "a task has no screen"),
    "_curses": ("curses", "a task has no terminal"),
    "readline": ("readline", "a task has no terminal"),
    "_bz2": ("bz2", "compress with zlib or gzip"),
    "_lzma": ("lzma", "compress with zlib or gzip"),
    "_zstd": ("zstd", "compress with zlib or gzip"),
    "_sqlite3": ("sqlite3", "use a database that tasks reach through TCP or HTTP, or keep data in dicts"),
    "_dbm": ("dbm", "write files in a granted folder (--allow-dir)"),
    "_gdbm": ("dbm", "write files in a granted folder (--allow-dir)"),
}
_ABSENT |= {name: _ABSENT[f"_{name}"] for name in ("ctypes", "tkinter", "curses", "bz2", "lzma", "sqlite3", "dbm")}
# Packages that are nothing without their compiled code, as they are imported.
_COMPILED_PACKAGES = frozenset(
    """
    bcrypt cffi cryptography cv2 duckdb grpc h5py jax lxml matplotlib nacl numpy onnxruntime orjson pandas PIL polars
    psycopg2 pyarrow pydantic_core pynng rpds scipy sklearn tensorflow tiktoken tokenizers torch ujson uvloop xgboost
    """.split()
)
_data_files: dict[str, str] = {}


def keep_files(files: dict[str, str]) -> None:
    """Keeps the names of files that lie beside the code, with their paths: errors may be about them."""
    _data_files.update(files)


def data_files() -> list[str]:
    """The paths of these files."""
    return list(_data_files.values())


def of(error: BaseException, text: str) -> str | None:
    """What to do about an exception of a task. `text` is its message."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        return _of_import(error.name)
    if isinstance(error, SystemExit):
        return "a task returns its result or raises an exception; sys.exit() ends the attempt as failed"
    if isinstance(error, LookupError) and text.startswith("unknown encoding: "):
        codec = text.removeprefix("unknown encoding: ").replace("-", "_")
        return f"codecs are imported while building: add `import encodings.{codec}` at the top of the file"
    if isinstance(error, RuntimeError) and "can't start new thread" in text:
        return "a task has no threads: call the function directly, or use asyncio"
    if "does not support processes" in text or _is_missing_process(error, text):
        return _PROCESSES
    if type(error).__name__ == "ZoneInfoNotFoundError":
        return "the sandbox has no time zones: add tzdata to requirements.txt or to dependencies in pyproject.toml"
    variable = _variable(error)
    if variable is not None:
        return f"a task sees only variables that the worker grants: --allow-env {variable}, or --allow-env {variable}=VALUE"
    if isinstance(error, OSError) and error.filename is not None:
        return _of_file(error)
    known = next((path for name, path in _data_files.items() if name in text), None)
    return f"{known} is not in the module. {_FILES[0].upper()}{_FILES[1:]}" if known else None


def of_build(error: BaseException, text: str, missing: list[str], *, is_script: bool) -> str | None:
    """What to do about an exception while a module is built. `missing` are the packages that its file lacks."""
    if isinstance(error, ModuleNotFoundError) and error.name:
        top = error.name.partition(".")[0]
        if top in sys.stdlib_module_names:
            return _of_import(error.name)
        names = list(dict.fromkeys([top, *missing]))
        compiled = [name for name in names if name in _COMPILED_PACKAGES]
        others = [name for name in names if name not in _COMPILED_PACKAGES]
        advice = [f"{name} {_COMPILED}" for name in compiled]
        return "; ".join([*advice, _add(others, is_script=is_script)] if others else advice)
    variable = _variable(error)
    if variable is not None:
        return f"there are no environment variables while building: read {variable} in the task, with --allow-env {variable}"
    return of(error, text)


def _add(names: list[str], *, is_script: bool) -> str:
    packages = f"the package{'s' if len(names) > 1 else ''} of {' and '.join(names)}"
    if is_script:
        listed = ", ".join(f'"{name}"' for name in names)
        return (
            f"list {packages} at the top of the file, in three lines: `# /// script`, `# dependencies = [{listed}]` and "
            "`# ///`; or in a requirements.txt beside it. It must be pure Python"
        )
    return f"add {packages} to requirements.txt or to dependencies in pyproject.toml; it must be pure Python"


def _of_import(name: str) -> str:
    top = name.partition(".")[0]
    if top in ("ssl", "_ssl"):
        return "Python in WebAssembly has no TLS: use fastworker.http, urllib or requests for https, and plain TCP else"
    if top == "multiprocessing" or name.startswith("concurrent.futures.process"):
        return _PROCESSES
    if name.startswith(("importlib.r", "pkg_resources")):
        return _FILES
    if top in _ABSENT:
        what, instead = _ABSENT[top]
        return f"Python in WebAssembly has no {what}: {instead}"
    if top in sys.stdlib_module_names and top not in sys.builtin_module_names:
        return f"modules are imported while building: add `import {name}` at the top of the file"
    if top in _COMPILED_PACKAGES:
        return f"{top} {_COMPILED}"
    return (
        f"modules are imported while building: add `import {name}` at the top of the file, and its package to "
        "requirements.txt or to dependencies in pyproject.toml"
    )


def _is_missing_process(error: BaseException, text: str) -> bool:
    calls = ("fork", "system", "popen", "posix_spawn", "spawnv", "execv", "waitpid")
    return isinstance(error, AttributeError) and any(text == f"module 'os' has no attribute '{call}'" for call in calls)


def _variable(error: BaseException) -> str | None:
    """The environment variable that is missing."""
    if not isinstance(error, KeyError) or not error.args or not isinstance(error.args[0], str):
        return None
    *_, (frame, _) = [(None, 0), *traceback.walk_tb(error.__traceback__)]
    is_environment = frame is not None and frame.f_code.co_filename.endswith(("/os.py", "<frozen os>"))
    return error.args[0] if is_environment else None


def _of_file(error: OSError) -> str | None:
    if not isinstance(error, (FileNotFoundError, PermissionError)):
        return None
    path = str(error.filename)
    if any(folder and path.startswith(folder.rstrip("/") + "/") for folder in sys.path):
        return _FILES
    return (
        "a task sees only folders that the worker grants (--allow-dir HOST::GUEST); read files that belong to the "
        "code at the top of the file, while building"
    )
