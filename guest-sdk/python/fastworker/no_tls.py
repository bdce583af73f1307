"""Instead of the module `ssl`, which CPython in WebAssembly does not have.

For packages that import it and can do without, such as pg8000 with a server that does not offer TLS. Others look
whether it exists: it is installed only after an import has failed without it.
"""

import sys
import types
from typing import Any, NoReturn

_ADVICE = "Python in WebAssembly has no TLS: use fastworker.http, urllib or requests for https, and plain TCP else"


class SSLError(OSError):
    """What the real module raises."""


def _refuse(*args: Any, **kwargs: Any) -> NoReturn:
    raise SSLError(_ADVICE)


class SSLContext:
    """Settings that nothing uses."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _refuse if name.startswith("wrap_") else lambda *args, **kwargs: None


def install() -> None:
    """Makes `import ssl` succeed. Whatever is done with it fails with the advice what to do instead."""
    module = types.ModuleType("ssl", "A stand-in: there is no TLS.")
    module.SSLError = module.SSLCertVerificationError = SSLError  # type: ignore[attr-defined]
    module.SSLContext = module.create_default_context = SSLContext  # type: ignore[attr-defined]

    def missing(name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name.isupper() or name.startswith(("OP_", "PROTOCOL_", "CERT_", "VERIFY_")):
            return 0
        if name[0].isupper():
            kind = type(name, (), {"__init__": _refuse})
            setattr(module, name, kind)
            return kind
        return _refuse

    module.__getattr__ = missing  # type: ignore[method-assign]
    sys.modules["ssl"] = module
