"""What happens while a module is built: imports the user's modules, and all that their functions will import.

Only what is imported while building exists in the sandbox. The build writes an `app.py` that calls `modules`, imports
`fastworker.module`, and calls `finish`.
"""

import contextlib
import dis
import gc
import importlib
import importlib.util
import io
import os
import sys
import traceback
import types
from collections.abc import Iterable, Iterator

from . import failure, loop, no_tls, output, run
from .tasks.registry import task_registry

# Looked up by name at run time, so that no import statement shows them.
_BY_NAME = (
    *(f"encodings.{codec}" for codec in ("ascii", "cp1252", "idna", "latin_1", "punycode", "utf_16", "utf_8_sig")),
    "encodings.utf_16_be",
    "encodings.utf_16_le",
    "encodings.utf_32",
    "encodings.iso8859_15",
    "encodings.raw_unicode_escape",
    "encodings.unicode_escape",
    "encodings.hex_codec",
    "encodings.base64_codec",
    "_strptime",
    "concurrent.futures.thread",
    "asyncio.staggered",
)
# What functions of the standard library import for uses that a task does not have.
_NEVER = frozenset(
    [
        "_pyio",
        "_pydatetime",
        "_pydecimal",
        "_pylong",
        "_pyrepl",
        "argparse",
        "bdb",
        "cProfile",
        "cmd",
        "code",
        "compileall",
        "concurrent.futures.process",
        "concurrent.interpreters",
        "ctypes",
        "curses",
        "distutils",
        "doctest",
        "ensurepip",
        "getpass",
        "http.server",
        "idlelib",
        "lib2to3",
        "msvcrt",
        "multiprocessing",
        "nt",
        "ntpath",
        "optparse",
        "pdb",
        "pip",
        "profile",
        "pstats",
        "py_compile",
        "pydoc",
        "readline",
        "runpy",
        "setuptools",
        "socketserver",
        "statistics",
        "sysconfig",
        "test",
        "this",
        "tkinter",
        "trace",
        "tracemalloc",
        "turtle",
        "unittest",
        "venv",
        "webbrowser",
        "winreg",
        "xmlrpc",
    ]
)
_IMPORT = dis.opmap["IMPORT_NAME"]
_ROUNDS_MAX = 8


def modules(*names: str) -> None:
    """Imports the user's modules, and all that they may need at run time."""
    output.install()
    loop.install()
    if has_http():
        importlib.import_module("fastworker.http_client").install()
    for name in _BY_NAME:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    base = {path for path in map(_file, list(sys.modules.values())) if path}
    try:
        _import_users(names)
    except BaseException as error:
        _explain(error)
        raise SystemExit(1) from None
    roots = {_root(sys.modules[name]) for name in names}
    import_lazy(base)
    if has_http():
        sys.modules["fastworker.http_client"].install_in_packages()
    for module in list(sys.modules.values()):
        if _root(module) in roots:
            failure.keep_source(module)
    _keep_time_zones()
    if not task_registry.list_tasks():
        print(f"no task in {', '.join(names)}: write @task above a function", file=sys.stderr)
        raise SystemExit(1)


def _import_users(names: tuple[str, ...]) -> None:
    """Imports the user's modules; again with a stand-in for `ssl` if they need it."""
    try:
        for name in names:
            importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != "_ssl":
            raise
        no_tls.install()
        # The one that failed is executed again, and its tasks replace those of the same names.
        for name in names:
            importlib.import_module(name)


def finish(notes: str) -> None:
    """Writes what the author should know of the module into the file `notes`, a line each."""
    with open(notes, "w", encoding="utf-8") as file:
        for name, task in task_registry.list_task_infos().items():
            for parameter in run.signature(task).unknown():
                file.write(f"{name}() takes any JSON as {parameter}: its annotation has a name that is not defined\n")


def _keep_time_zones() -> None:
    """Keeps the data of the package tzdata, if zoneinfo is used: there are no files in the sandbox."""
    zones = sys.modules.get("zoneinfo")
    if zones is None or importlib.util.find_spec("tzdata") is None:
        return
    folder = os.path.dirname(importlib.import_module("tzdata").__file__ or "")
    data = {}
    with open(os.path.join(folder, "zones"), encoding="utf-8") as names:
        for name in names.read().split():
            with open(os.path.join(folder, "zoneinfo", *name.split("/")), "rb") as file:
                data[name] = file.read()

    def load(key: str) -> io.BytesIO:
        if key not in data:
            raise zones.ZoneInfoNotFoundError(f"No time zone found with key {key}")
        return io.BytesIO(data[key])

    sys.modules["zoneinfo._common"].load_tzdata = load  # type: ignore[attr-defined]
    zones.available_timezones = lambda: set(data)  # type: ignore[attr-defined]


def has_http() -> bool:
    """Whether the component imports wasi:http, as the build decides."""
    return importlib.util.find_spec("wit_world.imports.outgoing_handler") is not None


def _file(module: types.ModuleType) -> str | None:
    return getattr(module, "__file__", None)


def _root(module: types.ModuleType) -> str | None:
    """The entry of sys.path in which a module was found."""
    path = _file(module)
    folders = [folder for folder in sys.path if path and folder and path.startswith(folder.rstrip("/") + "/")]
    return max(folders, key=len, default=None)


def _explain(error: BaseException) -> None:
    """Prints the error of a user's module as Python does, without the frames of the build."""
    trace = error.__traceback__
    while trace is not None and _is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    lines = traceback.format_exception(type(error), error, trace)
    why = failure.hint_of_build(error)
    print("".join(lines).rstrip() + (f"\nhint: {why}" if why else ""), file=sys.stderr)


def _is_own(path: str) -> bool:
    return path == __file__ or path.startswith("<frozen importlib") or path.endswith("/importlib/__init__.py")


def import_lazy(base: set[str]) -> None:
    """Imports what functions import when they are called, until there is nothing new.

    Functions in the files of `base` are not looked at: what these need is in `_BY_NAME`. Nor is what only functions of the
    standard library import: it would end in half of it.
    """
    base = set(base)
    seen: set[types.CodeType] = set()
    tried: set[str] = set()
    for _ in range(_ROUNDS_MAX):
        needed: set[str] = set()
        of_library: set[str] = set()
        for function in _functions(base):
            is_library = failure.is_standard(function.__code__.co_filename)
            (of_library if is_library else needed).update(_imports(function, seen))
        _import_all(needed - tried)
        before = set(sys.modules)
        _import_all(name for name in of_library - tried if not _is_never(name))
        base |= {path for name in set(sys.modules) - before if (path := _file(sys.modules[name]))}
        if needed | of_library <= tried:
            return
        tried |= needed | of_library


def _import_all(names: Iterable[str]) -> None:
    for name in sorted(set(names) - set(sys.modules)):
        # A platform's module, or an optional dependency: whether it is needed shows at run time.
        with contextlib.suppress(Exception):
            importlib.import_module(name)


def _functions(base: set[str]) -> list[types.FunctionType]:
    functions = [it for it in gc.get_objects() if isinstance(it, types.FunctionType)]
    files = [it.__code__.co_filename for it in functions]
    return [
        it for it, file in zip(functions, files, strict=True) if file not in base and not file.startswith("<frozen ")
    ]


def _imports(function: types.FunctionType, seen: set[types.CodeType]) -> Iterator[str]:
    """The modules that a function imports."""
    package = function.__globals__.get("__package__") or ""
    stack = [function.__code__]
    while stack:
        code = stack.pop()
        if code not in seen:
            seen.add(code)
            stack.extend(it for it in code.co_consts if isinstance(it, types.CodeType))
            if _IMPORT in code.co_code[::2]:
                yield from _imports_of(code, package)


def _is_never(name: str) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:length]) in _NEVER for length in range(1, len(parts) + 1))


def _imports_of(code: types.CodeType, package: str) -> Iterator[str]:
    level, previous, name = 0, None, ""
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            name = _absolute(step.argval, level if isinstance(level, int) else 0, package)
            if name:
                yield name
        elif step.opname == "IMPORT_FROM" and name:
            yield f"{name}.{step.argval}"  # a module in a package, or nothing
        else:
            # The level is pushed before the names.
            level, previous = previous, step.argval


def _absolute(name: str, level: int, package: str) -> str:
    if level == 0:
        return name
    base = package.rsplit(".", level - 1)[0] if level > 1 else package
    return f"{base}.{name}" if name else base
