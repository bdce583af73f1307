"""The scripts of `fastworker build`: what is found in the sources, and what is refused."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile
import unittest
from typing import Any
from unittest import mock

import build_packages
import build_plan

TASK = "from fastworker import task\n\n@task\ndef add(): ...\n"


class Plan(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name).resolve()

    def write(self, files: dict[str, str]) -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def plan(self, command: str, *arguments: str) -> dict[str, Any]:
        printed = io.StringIO()
        with (
            tempfile.TemporaryDirectory() as copy,
            mock.patch.object(
                sys,
                "argv",
                ["build_plan.py", command, str(self.folder), *arguments, "--copy", f"{copy}/files"],
            ),
            contextlib.redirect_stdout(printed),
        ):
            build_plan.main()
            self.copied = sorted(
                str(it.relative_to(f"{copy}/files")) for it in pathlib.Path(copy).rglob("*") if it.is_file()
            )
        return json.loads(printed.getvalue())

    def modules(self) -> list[str]:
        return self.plan("modules")["modules"]

    def test_the_modules_of_a_project_are_those_with_tasks(self):
        self.write(
            {
                "orders.py": TASK,
                "shop/__init__.py": "",
                "shop/mail.py": "import fastworker as fw\n@fw.task\ndef send(): ...\n",
                "deep/er/__init__.py": TASK,
                "client.py": "from fastworker import Client\n",
                "helper.py": "x = 1\n",
                "tests/test_orders.py": TASK,
                "venv/pyvenv.cfg": "",
                "venv/lib/other.py": TASK,
                "environment/pyvenv.cfg": "",
                "environment/lib/other.py": TASK,
                ".hidden/other.py": TASK,
                "__main__.py": TASK,
                "odd.name/other.py": TASK,
            }
        )
        self.assertEqual(self.modules(), ["deep.er", "orders", "shop.mail"])
        self.write({"pyproject.toml": '[tool.fastworker]\nmodules = ["shop.mail"]\n'})
        self.assertEqual(self.modules(), ["shop.mail"])

    def test_a_src_folder_is_the_root(self):
        self.write({"src/shop/tasks.py": TASK, "setup.py": TASK, "gen.py": TASK})
        plan = self.plan("modules")
        self.assertEqual((plan["root"], plan["modules"]), (str(self.folder / "src"), ["shop.tasks"]))

    def test_a_lone_file_is_its_own_module(self):
        self.write({"my-tasks.py": TASK, "other.py": TASK})
        file = str(self.folder / "my-tasks.py")
        expected = {"root": str(self.folder), "modules": ["my-tasks"], "http": False, "notes": []}
        self.assertEqual(self.plan("modules", file), expected)
        for name in ("fastworker.py", "a.b.py"):
            with self.subTest(name):
                self.assertIn("error", self.plan("modules", str(self.folder / name)))

    def test_a_folder_without_tasks_is_refused(self):
        self.write({"a.py": "x = 1\n"})
        self.assertIn("no .py file", self.plan("modules")["error"])

    def test_http_is_found_in_what_is_imported(self):
        uses = ["import urllib.request", "from http import client", "def f():\n    from urllib import request as r"]
        uses += ["import requests.sessions", "from fastworker import (\n    http,\n    task,\n)", "from . import web"]
        uses += ["from shop.web import get", "import nested.client"]
        self.write(
            {
                "shop/__init__.py": "",
                "shop/web.py": "import http.client\n",
                "packages/nested/__init__.py": "from . import client",
                "packages/nested/client.py": "from urllib.request import urlopen",
                "packages/six.py": 'names = ["urllib.request"]',
            }
        )
        packages = ["--packages", str(self.folder / "packages")]
        for use in uses:
            with self.subTest(use):
                self.write({"shop/tasks.py": f"{use}\n{TASK}"})
                self.assertIs(self.plan("modules", *packages)["http"], True)
        for use in ("import urllib.parse", "import http", "import six", "import unknown", "x = ("):
            with self.subTest(use):
                self.write({"shop/tasks.py": f"{use}\n{TASK}"})
                self.assertIs(self.plan("modules", *packages)["http"], False)

    def test_requirements_come_from_all_usual_places(self):
        self.write(
            {
                "requirements.txt": "-r more/base.txt\n# none\nfastworker>=0.3\n-e .\nrequests \\\n  >=2  # pinned\n",
                "more/base.txt": "-c limits.txt\njinja2\n",
                "more/limits.txt": "jinja2<4\n",
                "pyproject.toml": '[project]\ndependencies = ["pg8000>=1", "FastWorker[fastapi]"]\n',
                "script.py": '# /// script\n# dependencies = ["tzdata"]\n# ///\n' + TASK,
            }
        )
        limits = self.folder / "more" / "limits.txt"
        expected = ["pg8000>=1", f"-c {limits}", "jinja2", "requests    >=2"]
        self.assertEqual(self.plan("requirements")["requirements"], expected)
        script = str(self.folder / "script.py")
        self.assertEqual(self.plan("requirements", script)["requirements"], ["tzdata"])

    def test_links_are_not_followed_out_of_the_folder_or_around_in_it(self):
        self.write({"tasks.py": TASK, "lib/near.py": "", "lib/data.csv": "1", "node_modules/a.js": ""})
        with tempfile.TemporaryDirectory() as outside:
            pathlib.Path(outside, "secret").touch()
            for name, target in [
                ("target", "."),
                ("lib/up", ".."),
                ("out", outside),
                ("key.txt", f"{outside}/secret"),
                ("broken", "missing"),
                ("again", "lib"),
                ("copy.csv", "lib/data.csv"),
            ]:
                (self.folder / name).symlink_to(target)
            (note,) = self.plan("modules")["notes"]
        self.assertEqual(
            self.copied,
            ["again/data.csv", "again/near.py", "copy.csv", "lib/data.csv", "lib/near.py", "tasks.py"],
        )
        self.assertEqual(
            note, "broken, key.txt, out and 3 more are links that leave the folder or lead around in it: not followed"
        )

    def test_links_that_lead_into_each_other_end(self):
        self.write({"tasks.py": TASK, "a/x.py": "", "b/y.py": ""})
        for name in "abcdefgh":
            (self.folder / "a" / name).symlink_to("../b")
            (self.folder / "b" / name).symlink_to("../a")
        self.plan("modules")
        self.assertIn("tasks.py", self.copied)

    def test_what_is_too_large_is_left_out_and_named(self):
        self.write({"tasks.py": TASK, "data/large.csv": "x" * 1000})
        with mock.patch.object(build_plan, "COPIED_MAX", 900):
            (note,) = self.plan("modules")["notes"]
        self.assertEqual(self.copied, ["tasks.py"])
        self.assertIn("data/large.csv cannot be read while building", note)

    def test_mistakes_in_requirements_are_named(self):
        self.write({"requirements.txt": "-r missing.txt\n"})
        self.assertIn("missing.txt, which does not exist", self.plan("requirements")["error"])
        self.write({"requirements.txt": "-r requirements.txt\n"})
        self.assertIn("too deeply", self.plan("requirements")["error"])
        self.write({"pyproject.toml": "[project\n"})
        self.assertIn("is not TOML", self.plan("requirements")["error"])


def package(name: str, version: str, *requires: str, wheel: str = "cp314-cp314-any") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "version": version, "requires_dist": list(requires)},
        "wheel": f"{name}-{version}-{wheel}.whl",
    }


class Packages(unittest.TestCase):
    FOUND = (
        package("pydantic", "2.1", "pydantic_core==2.5"),
        package("pydantic_core", "2.5"),
        package("fast.parser", "1"),
    )

    def install(self, *answers: tuple[str | None, str]) -> dict[str, Any]:
        with (
            mock.patch.object(build_packages, "resolve", return_value=list(self.FOUND)),
            mock.patch.object(build_packages, "pip", side_effect=answers) as self.pip,
        ):
            return build_packages.install("folder", "requirements.txt")

    def test_compiled_code_is_refused_with_who_needs_it(self):
        with self.assertRaises(build_packages.Problem) as caught:
            self.install((None, "ERROR: No matching distribution found for pydantic_core==2.5\n"))
        self.assertEqual(
            str(caught.exception),
            "pydantic_core 2.5, which pydantic needs, has compiled code: pydantic_core-2.5-cp314-cp314-any.whl",
        )

    def test_optional_compiled_code_is_left_out(self):
        installed = self.install(
            (None, "ERROR: No matching distribution found for fast-parser==1\n"), ("", ""), ("", "")
        )
        self.assertEqual(installed["without_compiled"], ["fast.parser 1"])
        self.assertEqual(len(installed["packages"]), 3)
        self.assertIn("fast.parser==1", self.pip.call_args_list[2].args)
        self.assertNotIn("fast.parser==1", self.pip.call_args_list[1].args)

    def test_other_errors_of_pip_are_passed_on(self):
        with self.assertRaisesRegex(build_packages.Problem, "no space left"):
            self.install((None, "ERROR: no space left\n"))

    def test_compiled_files_are_removed(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("a/x.cpython-314.so", "a/y.py", "z.pyd", "lib.so.1"):
                path = pathlib.Path(folder, name)
                path.parent.mkdir(exist_ok=True)
                path.touch()
            build_packages.remove_compiled(folder)
            self.assertEqual([it.name for it in pathlib.Path(folder).rglob("*.*")], ["y.py"])
