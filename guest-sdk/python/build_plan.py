"""Plans the build of a module: `fastworker build` runs it with the Python that runs componentize-py, 3.9 or newer.

    build_plan.py requirements FOLDER [FILE]           the packages that are needed
    build_plan.py modules FOLDER [FILE] --packages P --copy C
                                                       the modules with tasks, and whether they send HTTP requests

FILE is a lone source, FOLDER its folder or that of a project, and C a new folder, into which the files are copied that
the module may read while it is built. Prints one JSON object, with `error` and `hint` if there
is nothing to build.
"""

import argparse
import ast
import json
import os
import re
import shutil
import sys

try:
    import tomllib
except ImportError:  # before Python 3.11
    from pip._vendor import tomli as tomllib

FILES_MAX = 10_000
COPIED_MAX = 256 << 20  # bytes
REQUIREMENTS_DEEP = 5
# Folders without modules of the project.
OTHER_FOLDERS = {
    "__pycache__",
    "build",
    "dist",
    "env",
    "node_modules",
    "site-packages",
    "target",
    "test",
    "tests",
    "venv",
}
OTHER_FILES = {"__main__.py", "conftest.py", "setup.py"}
# What tools write, never read by the code of a task. So are modules, which are large.
TOOL_FOLDERS = {"__pycache__", "node_modules", "site-packages"}
HTTP_MODULES = ("fastworker.http", "http.client", "urllib.request", "urllib3", "requests", "httpx")
IMPORT = re.compile(r"^\s*(?:from|import)\s+fastworker\b", re.MULTILINE)
DECORATOR = re.compile(r"^\s*@(?:\w+\.)*task\b|\btask\(", re.MULTILINE)
INLINE = re.compile(r"^# /// script\s*$\n(?P<content>(?:^#(?:| .*)$\n)+?)^# ///\s*$", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class Problem(Exception):
    """Why there is nothing to build, and what to do."""

    def __init__(self, message, hint):
        super().__init__(message)
        self.hint = hint


def read(path):
    """The text of a file. What is not UTF-8 is shown by Python itself later."""
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        return file.read()


# Requirements


def requirements(folder, file):
    """The packages that the sources need, from the lone file itself, requirements.txt and pyproject.toml."""
    lines = list(inline_requirements(file)) if file else []
    manifest = os.path.join(folder, "pyproject.toml")
    if not lines and os.path.isfile(manifest):
        lines += load(manifest).get("project", {}).get("dependencies", [])
    listed = os.path.join(folder, "requirements.txt")
    if os.path.isfile(listed) and not (file and lines):
        lines += listed_requirements(listed, REQUIREMENTS_DEEP)
    return {"requirements": [line for line in lines if not is_own(line)]}


def load(path):
    """A TOML file."""
    try:
        return tomllib.loads(read(path))
    except tomllib.TOMLDecodeError as error:
        raise Problem(f"{path} is not TOML: {error}", "correct it") from None


def inline_requirements(file):
    """The dependencies that a script itself lists (PEP 723)."""
    for match in INLINE.finditer(read(file)):
        content = "".join(line[2:] if line.startswith("# ") else line[1:] for line in match["content"].splitlines(True))
        try:
            yield from tomllib.loads(content).get("dependencies", [])
        except tomllib.TOMLDecodeError as error:
            raise Problem(f"the script metadata of {file} is not TOML: {error}", "correct it") from None


def listed_requirements(path, deep):
    """The lines of a requirements.txt, with those of the files that it includes."""
    if deep == 0:
        raise Problem(f"{path} is included too deeply", "requirement files that include each other need no more levels")
    text = re.sub(r"\\\r?\n", " ", read(path))
    for line in text.splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        included = re.match(r"(?:-r|--requirement)[\s=]*(.+)", line)
        constrained = re.match(r"(?:-c|--constraint)[\s=]*(.+)", line)
        if included:
            yield from listed_requirements(beside(path, included[1]), deep - 1)
        elif constrained:
            yield f"-c {beside(path, constrained[1])}"
        elif line:
            yield line


def beside(path, name):
    """A file that another one names."""
    found = os.path.join(os.path.dirname(path), name.strip())
    if not os.path.isfile(found):
        raise Problem(f"{path} names {name.strip()}, which does not exist", "correct the path")
    return os.path.abspath(found)


def is_own(line):
    """Whether a requirement is fastworker, which is the SDK here, or the project itself."""
    name = NAME.match(line)
    is_project = re.match(r"(?:-e|--editable)?[\s=]*\.(?:\[.*\])?$", line)
    return bool(is_project) or (
        name is not None and name[0].lower().replace("_", "-") in ("fastworker", "fastworker-guest")
    )


# Modules


def modules(folder, file, packages, copy):
    """The modules with tasks, the folder in which they are found, whether HTTP is used, and what to tell the author."""
    root, names = (folder, [module_of_file(file)]) if file else project_modules(folder)
    files = {}
    open_names = list(names)
    uses_http = False
    while open_names:
        name = open_names.pop()
        path = find(name, [root, *packages])
        if path is None or path in files or len(files) >= FILES_MAX:
            continue
        files[path] = True
        for imported in imports(path, name):
            uses_http = uses_http or any(imported == it or imported.startswith(f"{it}.") for it in HTTP_MODULES)
            # A package is imported with its parents.
            parts = imported.split(".")
            open_names += [".".join(parts[:length]) for length in range(1, len(parts) + 1)]
    own = [path for path in files if path.startswith(os.path.join(root, ""))]
    return {"root": root, "modules": names, "http": uses_http, "notes": copy_files(root, own, copy)}


# Files


def copy_files(root, modules, target):
    """Copies the files of a folder that its code may read while it is imported. Returns what was left out, as notes.

    Links are resolved here: the tool would follow them out of the folder, and without end around it. `modules` are the
    files of the modules, which go first.
    """
    left = {"link": [], "size": []}
    real_root = os.path.realpath(root)
    os.makedirs(target)
    files = {path: True for path in modules if is_below(os.path.realpath(path), real_root)}
    for path in walk(root, real_root, left["link"]):
        if len(files) >= FILES_MAX:
            left["size"].append(os.path.relpath(path, root))
            break
        files[path] = True
    copied = 0
    for path in files:
        size = os.path.getsize(path)
        if copied + size > COPIED_MAX:
            left["size"].append(os.path.relpath(path, root))
            continue
        copied += size
        new = os.path.join(target, os.path.relpath(path, root))
        os.makedirs(os.path.dirname(new), exist_ok=True)
        try:
            shutil.copyfile(path, new)
        except PermissionError:  # the import says so, if it is needed
            continue
    return [*link_notes(left["link"]), *size_notes(left["size"])]


def walk(root, real_root, refused):
    """The files in a folder, Python first in each. Links that leave it or lead to a folder above are in `refused`."""
    folders = [(root, (real_root,))]
    for _ in range(FILES_MAX):
        if not folders:
            return
        folder, above = folders.pop(0)
        try:
            entries = sorted(os.scandir(folder), key=lambda it: (not it.name.endswith(".py"), it.name))
        except PermissionError:
            continue
        if folder != root and any(it.name in ("pyvenv.cfg", "CACHEDIR.TAG") for it in entries):
            continue
        for entry in entries:
            if entry.name.startswith(".") or entry.name in TOOL_FOLDERS or entry.name.endswith(".wasm"):
                continue
            real = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(above[-1], entry.name)
            if entry.is_symlink() and (real in above or not is_below(real, real_root) or not os.path.exists(real)):
                refused.append(os.path.relpath(entry.path, root))
            elif os.path.isdir(real):
                folders.append((entry.path, (*above, real)))
            elif os.path.isfile(real):
                yield entry.path


def is_below(path, folder):
    """Whether a path without links is in a folder."""
    return path.startswith(os.path.join(folder, ""))


def link_notes(links):
    """What to say of links that were not followed."""
    if not links:
        return []
    what = "is a link that leaves" if len(links) == 1 else "are links that leave"
    return [f"{named(links)} {what} the folder or lead{'s' if len(links) == 1 else ''} around in it: not followed"]


def size_notes(paths):
    """What to say of files that are too large together."""
    most = f"{FILES_MAX} files or {COPIED_MAX >> 20} MiB"
    return [f"the folder has more than {most}: {named(paths)} cannot be read while building"] if paths else []


def named(paths):
    """Some paths, and how many more there are."""
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def module_of_file(file):
    """The module of a lone file."""
    name = os.path.splitext(os.path.basename(file))[0]
    if "." in name:
        raise Problem(f"{os.path.basename(file)} has a name that Python cannot import", "rename it without the dot")
    if name in ("fastworker", "fastworker_app", "wit_world"):
        raise Problem(f"{name}.py would hide a module of the SDK", "rename it, for example to tasks.py")
    return name


def project_modules(folder):
    """The root of a project's modules, and those with tasks."""
    below = os.path.join(folder, "src")
    root = below if os.path.isdir(below) and any(python_files(below)) else folder
    manifest = os.path.join(folder, "pyproject.toml")
    settings = load(manifest).get("tool", {}).get("fastworker", {}) if os.path.isfile(manifest) else {}
    listed = settings.get("modules")
    if listed:
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise Problem(f"modules in {manifest} is not a list of names", 'write modules = ["tasks"]')
        return root, listed
    users = {path: read(path) for path in python_files(root)}
    users = {path: text for path, text in users.items() if IMPORT.search(text)}
    chosen = [path for path, text in users.items() if DECORATOR.search(text)] or list(users)
    if not chosen:
        raise Problem(
            f"no .py file in {root} imports fastworker",
            "write `from fastworker import task`, and @task above a function",
        )
    names = sorted(filter(None, (module_name(path, root) for path in chosen)))
    return root, names


def module_name(path, root):
    """The module of a file below the root; none if its folders have names that Python cannot import."""
    parts = os.path.splitext(os.path.relpath(path, root))[0].split(os.sep)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts) if parts and not any("." in part for part in parts) else None


def python_files(root):
    """The files of Python in a folder that may be modules of the project."""
    count = 0
    for folder, folders, files in os.walk(root):
        is_environment = "pyvenv.cfg" in files and folder != root
        folders[:] = sorted(
            it for it in folders if not it.startswith(".") and it not in OTHER_FOLDERS and not is_environment
        )
        for name in sorted(files):
            if name.endswith(".py") and name not in OTHER_FILES and not name.startswith("test_") and not is_environment:
                count += 1
                if count > FILES_MAX:
                    raise Problem(f"{root} has more than {FILES_MAX} files of Python", "give a folder with less in it")
                yield os.path.join(folder, name)


def find(name, roots):
    """The file of a module."""
    for root in roots:
        path = os.path.join(root, *name.split("."))
        for candidate in (os.path.join(path, "__init__.py"), path + ".py"):
            if os.path.isfile(candidate):
                return candidate
    return None


def imports(path, name):
    """The modules that a file imports, anywhere in it. None if this Python cannot read it: the build shows why."""
    try:
        tree = ast.parse(read(path))
    except (SyntaxError, ValueError, RecursionError):
        return
    package = name.split(".") if os.path.basename(path) == "__init__.py" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*start, *(node.module or "").split(".")]).strip(".")
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["requirements", "modules"])
    parser.add_argument("folder")
    parser.add_argument("file", nargs="?")
    parser.add_argument("--packages", action="append", default=[])
    parser.add_argument("--copy")
    options = parser.parse_args()
    try:
        if options.command == "requirements":
            plan = requirements(options.folder, options.file)
        else:
            plan = modules(options.folder, options.file, options.packages, options.copy)
    except Problem as problem:
        plan = {"error": str(problem), "hint": problem.hint}
    except OSError as error:
        plan = {"error": str(error), "hint": "check that it can be read"}
    json.dump(plan, sys.stdout)


if __name__ == "__main__":
    main()
