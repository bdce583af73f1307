"""Write fastworker tasks in Python: `from fastworker import task`.

A file written for the Python FastWorker works unchanged. `fastworker build FILE` makes a WebAssembly task module of it;
plain Python can import it too, so that tests call tasks as functions, or through `fastworker.testing`.
"""

from . import outside
from .context import Context, current, is_cancelled, log, progress
from .errors import BadArguments, GiveUp, Retry, TaskError
from .follow_up import options, submit
from .tasks.models import CallbackInfo, Task, TaskPriority, TaskResult, TaskStatus
from .tasks.registry import task, task_registry

__version__ = "0.3.0"  # of the Python FastWorker whose files it runs

__all__ = [
    "BadArguments",
    "CallbackInfo",
    "Client",
    "Context",
    "ControlPlaneWorker",
    "GiveUp",
    "Retry",
    "SubWorker",
    "Task",
    "TaskError",
    "TaskPriority",
    "TaskResult",
    "TaskStatus",
    "Worker",
    "__version__",
    "current",
    "is_cancelled",
    "log",
    "options",
    "progress",
    "submit",
    "task",
    "task_registry",
]

outside.install()
from .clients import Client, ServiceDiscovery  # noqa: E402, F401 (the stand-ins that `install` makes)
from .tasks.serializer import SerializationFormat, TaskSerializer  # noqa: E402, F401
from .workers import ControlPlaneWorker, SubWorker, Worker  # noqa: E402
