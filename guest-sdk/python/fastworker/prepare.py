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

from . import failure, hints, loop, no_tls, output, run
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


_DATA_FILES_MAX = 1_000
_SDK = os.path.dirname(__file__)


def modules(*names: str, is_script: bool = False) -> None:
    """Imports the user's modules, and all that they may need at run time. `is_script`: they are one lone file."""
    task_registry.mistakes = []
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
        _print_mistakes()
        _explain(error, is_script=is_script)
        raise SystemExit(1) from None
    if _print_mistakes():
        raise SystemExit(1)
    roots = {_root(sys.modules[name]) for name in names}
    import_lazy(base)
    if has_http():
        sys.modules["fastworker.http_client"].install_in_packages()
    for module in list(sys.modules.values()):
        if _root(module) in roots:
            failure.keep_source(module)
    _keep_time_zones()
    hints.keep_files(_data_files(roots))
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
        # The one that failed is executed again, and registers its tasks again.
        task_registry.forget(lambda name: name not in sys.modules)
        for name in names:
            importlib.import_module(name)


def finish(notes: str) -> None:
    """Writes what the author should know of the module into the file `notes`, a line each."""
    with open(notes, "w", encoding="utf-8") as file:
        for name, task in task_registry.list_task_infos().items():
            file.writelines(f"{name}() {note}\n" for note in run.signature(task).notes())
        data = sorted(hints.data_files())
        if data:
            more = f" and {len(data) - 3} more" if len(data) > 3 else ""
            file.write(
                f"files are not in the module, only what was read while building: {', '.join(data[:3])}{more}; "
                "read them at the top of a file\n"
            )


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


def _print_mistakes() -> bool:
    """Prints what is wrong with the tasks, all of it, and returns whether there is anything."""
    mistakes = list(dict.fromkeys(task_registry.mistakes or ()))
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    if len(mistakes) > 1:
        print(f"{len(mistakes)} mistakes in the tasks", file=sys.stderr)
    return bool(mistakes)


def _explain(error: BaseException, *, is_script: bool) -> None:
    """Prints the error of a user's module as Python does, without the frames of the build and of the SDK."""
    trace = error.__traceback__
    while trace is not None and _is_own(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    shown = traceback.TracebackException(type(error), error, trace)
    _leave_out_sdk(shown)
    files = [frame.f_code.co_filename for frame, _ in traceback.walk_tb(trace)]
    missing = _missing_packages(files[-1]) if files and isinstance(error, ModuleNotFoundError) else []
    why = hints.of_build(error, str(error), missing, is_script=is_script)
    print("".join(shown.format()).rstrip() + (f"\nhint: {why}" if why else ""), file=sys.stderr)


def _leave_out_sdk(shown: traceback.TracebackException) -> None:
    link: traceback.TracebackException | None = shown
    for _ in range(_ROUNDS_MAX):
        if link is None:
            return
        link.stack[:] = [frame for frame in link.stack if not frame.filename.startswith(f"{_SDK}/")] or link.stack[:]
        link = link.__cause__ or link.__context__


def _missing_packages(path: str) -> list[str]:
    """The packages that a file imports at its top and that do not exist: all of them, and not only the first one."""
    import ast

    try:
        with open(path, encoding="utf-8") as file:
            body = ast.parse(file.read()).body
    except (OSError, SyntaxError, ValueError):
        return []
    names = [alias.name for statement in body if isinstance(statement, ast.Import) for alias in statement.names]
    names += [it.module for it in body if isinstance(it, ast.ImportFrom) and it.module and not it.level]
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return [top for top in tops if top not in sys.modules and importlib.util.find_spec(top) is None]


def _data_files(roots: set[str | None]) -> dict[str, str]:
    """The files in the folders of the user's packages that are no code, by name."""
    found: dict[str, str] = {}
    for root in filter(None, roots):
        paths = [path for it in list(sys.modules.values()) if _root(it) == root and (path := _file(it))]
        packages = {os.path.relpath(path, root).split(os.sep)[0] for path in paths}
        for package in sorted(packages):
            for folder, _, files in os.walk(os.path.join(root, package)):
                data = [name for name in files if not name.endswith((".py", ".pyi", ".pyc")) and name != "py.typed"]
                found |= {name: os.path.relpath(os.path.join(folder, name), root) for name in data}
                if len(found) > _DATA_FILES_MAX:
                    return found
    return found


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
