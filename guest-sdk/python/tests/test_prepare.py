"""What the build does in the component, as far as plain Python can do it."""

import importlib
import sys
import types
from unittest import mock

from fastworker import no_tls, prepare
from tests.support import Case


class Imports(Case):
    def found(self, source: str, package: str = "shop.orders") -> set[str]:
        module = types.ModuleType("m")
        module.__package__ = package
        exec(compile(source, "m.py", "exec"), module.__dict__)
        return set(prepare._imports(module.f, set()))

    def test_imports_in_functions_are_found(self):
        found = self.found(
            "def f():\n import csv, os.path as p\n from urllib import parse\n from . import near\n from ..up import x\n"
            " def g():\n  from json import decoder as d\n return lambda: __import__\n"
        )
        expected = {
            "csv",
            "os.path",
            "urllib",
            "urllib.parse",
            "shop.orders.near",
            "shop.up",
            "shop.up.x",
            "json.decoder",
        }
        self.assertLessEqual(expected, found)

    def test_what_no_task_needs_is_not_followed(self):
        self.assertTrue(prepare._is_never("unittest.mock"))
        self.assertFalse(prepare._is_never("csv"))

    def test_a_module_that_fails_later_is_left_out(self):
        with mock.patch.object(importlib, "import_module", side_effect=RuntimeError):
            prepare._import_all(["no_such_module"])


class NoTls(Case):
    def test_it_can_be_imported_and_not_used(self):
        with mock.patch.dict(sys.modules):
            no_tls.install()
            import ssl

            context = ssl.create_default_context()
            context.verify_mode = ssl.CERT_NONE
            context.load_default_certs()
            for use in (context.wrap_socket, ssl.SSLSocket, ssl.get_server_certificate):
                with self.subTest(use), self.assertRaisesRegex(ssl.SSLError, "has no TLS"):
                    use()
            self.assertFalse(isinstance("x", ssl.SSLObject))
            self.assertTrue(issubclass(ssl.SSLError, OSError))

    def test_it_is_installed_for_modules_that_need_it(self):
        missing = ModuleNotFoundError("No module named '_ssl'", name="_ssl")
        with (
            mock.patch.dict(sys.modules),
            mock.patch.object(importlib, "import_module", side_effect=[missing, None]) as imported,
        ):
            prepare._import_users(("orders",))
            self.assertEqual(imported.call_count, 2)
            self.assertEqual(sys.modules["ssl"].OP_ALL, 0)
        with (
            mock.patch.object(importlib, "import_module", side_effect=ModuleNotFoundError("x", name="x")),
            self.assertRaises(ModuleNotFoundError),
        ):
            prepare._import_users(("orders",))
