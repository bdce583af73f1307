"""Installs the packages of a module: `fastworker build` runs it with a Python that has pip.

    build_packages.py FOLDER REQUIREMENTS

Installs what the file REQUIREMENTS lists into FOLDER, as for Python 3.14 in WebAssembly: wheels in pure Python, in the
versions that any other computer would get. Packages whose compiled code is optional lose it. Prints one JSON object,
with `error` and `hint` if that is not possible.
"""

import json
import os
import re
import subprocess
import sys

# The platform that decides on the versions: one for which almost everything has wheels.
COMMON = ["--platform", "manylinux_2_28_x86_64", "--platform", "manylinux2014_x86_64", "--platform", "any"]
COMMON += ["--implementation", "cp", "--abi", "cp314", "--abi", "abi3", "--abi", "none"]
PURE = ["--platform", "any", "--implementation", "py", "--abi", "none"]
PYTHON = "3.14"
NOT_FOUND = re.compile(r"^ERROR: No matching distribution found for (.+)$", re.MULTILINE)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
PURE_HINT = (
    "a module takes packages in pure Python only, as wheels: those with compiled code, such as pydantic 2 or numpy, do "
    "not run in it"
)
# Packages that are nothing without their compiled code.
ALWAYS_COMPILED = frozenset(
    """
    bcrypt cffi cryptography duckdb grpcio h5py lxml matplotlib numpy onnxruntime opencv-python orjson pandas
    pillow polars psycopg-binary psycopg2 psycopg2-binary pyarrow pydantic-core pynng rpds-py scikit-learn scipy
    tiktoken tokenizers torch ujson uvloop xgboost
    """.split()
)


class Problem(Exception):
    """Why the packages cannot be installed, and what to do."""

    def __init__(self, message, hint):
        super().__init__(message)
        self.hint = hint


def pip(folder, *arguments):
    """Runs pip and returns its output, or None and its errors."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--disable-pip-version-check",
        "--no-input",
        "--no-compile",
        "-q",
    ]
    command += ["--only-binary", ":all:", "--python-version", PYTHON, "--target", folder, "--progress-bar", "off"]
    done = subprocess.run([*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return (done.stdout, "") if done.returncode == 0 else (None, done.stderr)


def resolve(folder, requirements):
    """The versions that are installed elsewhere: each package with its metadata and the name of its wheel."""
    output, errors = pip(folder, *COMMON, "--dry-run", "--ignore-installed", "--report", "-", "-r", requirements)
    if output is None:
        missing = NOT_FOUND.search(errors)
        if missing:
            raise Problem(f"there is no wheel of {missing[1]} for Python {PYTHON}", PURE_HINT)
        raise Problem(
            f"pip cannot find the packages: {errors.strip()}", "pip 22.2 or newer and its registry are needed"
        )
    return [
        {"metadata": it["metadata"], "wheel": it["download_info"]["url"].rpartition("/")[2]}
        for it in json.loads(output)["install"]
    ]


def canonical(name):
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed_by(name, found):
    """The packages that need another one."""
    users = []
    for package in found:
        needs = [NAME.match(line) for line in package["metadata"].get("requires_dist", [])]
        if any(need and canonical(need[0]) == canonical(name) for need in needs):
            users.append(package["metadata"]["name"])
    return users


def refusal(package, found):
    """The problem of a package that does nothing without its compiled code."""
    users = needed_by(package["metadata"]["name"], found)
    by = f", which {' and '.join(users)} {'needs' if len(users) == 1 else 'need'}," if users else ""
    return Problem(f"{title(package)}{by} has compiled code: {package['wheel']}", PURE_HINT)


def title(package):
    """The name and version of a package."""
    return f"{package['metadata']['name']} {package['metadata']['version']}"


def install(folder, requirements):
    """Installs the packages, and returns their names with their versions, and those that lost their compiled code."""
    found = resolve(folder, requirements)
    pure = {canonical(it["metadata"]["name"]): it for it in found}
    mixed = {}
    while pure:
        output, errors = pip(folder, *PURE, "--no-deps", *map(pin, pure.values()))
        if output is not None:
            break
        missing = NOT_FOUND.search(errors)
        name = canonical(NAME.match(missing[1])[0]) if missing else None
        if name not in pure:
            raise Problem(errors.strip(), PURE_HINT)
        if name in ALWAYS_COMPILED:
            raise refusal(pure[name], found)
        mixed[name] = pure.pop(name)
    if mixed:
        output, errors = pip(folder, *COMMON, "--no-deps", *map(pin, mixed.values()))
        if output is None:
            raise Problem(errors.strip(), PURE_HINT)
        remove_compiled(folder)
    return {"packages": sorted(map(title, found)), "without_compiled": sorted(map(title, mixed.values()))}


def pin(package):
    """The requirement of exactly this version."""
    return f"{package['metadata']['name']}=={package['metadata']['version']}"


def remove_compiled(folder):
    """Removes compiled code: many packages have the same in Python, and use it where the other is missing."""
    for below, _, files in os.walk(folder):
        for name in files:
            if name.endswith((".so", ".pyd", ".dylib", ".dll")) or ".so." in name:
                os.remove(os.path.join(below, name))


def main():
    folder, requirements = sys.argv[1:]
    try:
        result = install(folder, requirements)
    except Problem as problem:
        result = {"error": str(problem), "hint": problem.hint}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
