"""The exports of the component, over the checked-in bindings, whose functions are replaced by a recorder."""

import hashlib
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from typing import Any

import fastworker
from fastworker import host, task
from tests.support import Case

FOLDER = pathlib.Path(__file__).parent.parent
BINDINGS = FOLDER / "bindings"
WIT = FOLDER / "wit"
SOURCE = BINDINGS / "SOURCE"
TOOL, TOOL_VERSION = "componentize-py", "0.25.1"


class Module(Case):
    """`fastworker.module` as the component has it."""

    def setUp(self) -> None:
        super().setUp()
        sys.path.insert(0, str(BINDINGS))
        self.addCleanup(sys.path.remove, str(BINDINGS))
        backend = host.backend
        self.addCleanup(lambda: setattr(host, "backend", backend))

    def load(self) -> Any:
        sys.modules.pop("fastworker.module", None)
        module = importlib.import_module("fastworker.module")
        self.calls: list[Any] = []
        imports = module.imports
        imports.log = lambda level, message: self.calls.append((level.name, message))
        imports.progress = lambda *values: self.calls.append(values)
        imports.is_cancelled = lambda: True
        imports.submit = self.submit
        module.environment.get_environment = lambda: [("TOKEN", "secret")]
        return module

    def submit(self, follow_up: Any) -> str:
        if follow_up.name == "bad":
            raise sys.modules["componentize_py_types"].Err("too many follow-ups")
        self.calls.append(follow_up)
        return "id"

    def run_task(self, module: Any, name: str, args: str = "[]") -> str:
        call = module.contract.Invocation("task", name, 2, 2**63, args, "{}", '{"priority":"high"}')
        return module.Tasks().run(call)

    def failure(self, module: Any, name: str, args: str = "[]") -> Any:
        with self.assertRaises(module.Err) as caught:
            self.run_task(module, name, args)
        return caught.exception.value

    def test_tasks_are_registered_as_the_contract_says(self):
        @task(max_retries=2)
        def add(x: int) -> int:
            """Adds."""

        (described,) = self.load().Tasks().register()
        self.assertEqual((described.name, described.documentation), ("add", "Adds."))
        self.assertEqual(json.loads(described.policy), {"max_retries": 2})
        self.assertEqual(json.loads(described.schema)["parameters"][0]["type"], "int")

    def test_an_attempt_reaches_the_imports_of_the_component(self):
        @task
        def work(x: int) -> Any:
            fastworker.log("warn", "hm")
            fastworker.progress(1, 2, "half")
            return [fastworker.submit("next", x), fastworker.is_cancelled(), fastworker.current().priority]

        module = self.load()
        self.assertEqual(self.run_task(module, "work", "[1]"), '["id",true,"high"]')
        follow_up = module.imports.FollowUp("next", "[1]", "{}", "{}")
        self.assertEqual(self.calls, [("WARN", "hm"), (1, 2, "half"), follow_up])

    def test_the_environment_is_that_of_the_attempt(self):
        task("read")(lambda: [os.environ.get("TOKEN"), os.getenv("HOME")])
        with unittest.mock.patch.dict(os.environ, {"HOME": "/of/the/build"}):
            self.assertEqual(self.run_task(self.load(), "read"), '["secret",null]')

    def test_a_follow_up_that_the_host_refuses_is_an_exception(self):
        task("work")(lambda: fastworker.submit("bad"))
        failure = self.failure(self.load(), "work")
        self.assertIn("the follow-up 'bad' cannot be submitted: too many follow-ups", failure.value.message)

    def test_each_failure_is_a_case_of_the_contract(self):
        @task
        def fail(how: str):
            raise {
                "retry": fastworker.Retry("later", 1.5),
                "far": fastworker.Retry("much later", 1e300),
                "give up": fastworker.GiveUp("no", kind="closed", details=[1]),
                "arguments": fastworker.BadArguments("odd"),
                "other": ValueError("bad"),
            }[how]

        module = self.load()
        contract = module.contract
        retry = self.failure(module, "fail", '["retry"]')
        self.assertEqual(
            retry, contract.Failure_TryAgainAfter(contract.Retry(contract.TaskError("later", "Retry", ""), 1500))
        )
        self.assertEqual(self.failure(module, "fail", '["far"]').value.delay_ms, 2**63 - 1)
        gave_up = self.failure(module, "fail", '["give up"]')
        self.assertEqual(gave_up, contract.Failure_GiveUp(contract.TaskError("no", "closed", "[1]")))
        self.assertIsInstance(self.failure(module, "fail", '["arguments"]'), contract.Failure_BadArguments)
        self.assertIsInstance(self.failure(module, "fail"), contract.Failure_BadArguments)
        failed = self.failure(module, "fail", '["other"]')
        self.assertIsInstance(failed, contract.Failure_Failed)
        self.assertEqual(failed.value.kind, "ValueError")
        self.assertIn("Traceback", self.calls[-1][1])


def source() -> str:
    """What the bindings are made of."""
    files = [WIT / "world.wit", WIT / "deps" / "task" / "task.wit", *sorted((WIT / "deps").glob("*.wit"))]
    texts = b"".join(path.read_bytes() for path in files)
    return f"{TOOL} {TOOL_VERSION}, sha256 of the WIT {hashlib.sha256(texts).hexdigest()}\n"


class Bindings(unittest.TestCase):
    def test_the_bindings_are_those_of_the_contract(self):
        advice = "bindings/ is out of date: run guest-sdk/python/make-bindings"
        self.assertEqual(SOURCE.read_text(), source(), advice)

    @unittest.skipUnless(shutil.which(TOOL), f"{TOOL} is not on PATH: the hash of the WIT is compared")
    def test_the_tool_makes_the_same_bindings(self):
        with tempfile.TemporaryDirectory() as folder:
            command = [TOOL, "-q", "-d", WIT, "-w", "module-with-http", "bindings", folder]
            subprocess.run(command, check=True)
            for path in BINDINGS.rglob("*.py"):
                made = pathlib.Path(folder) / path.relative_to(BINDINGS)
                self.assertEqual(path.read_text(), made.read_text(), path)


if __name__ == "__main__":
    print(source(), end="")
