"""Stand-ins for the parts of the Python FastWorker that run outside of the sandbox: clients, workers, web server.

A file often holds tasks and the code that submits them. It must import as a task module too, so these names exist and
can be instantiated; the first use raises `OutsideSandbox`.
"""

import enum
import sys
import types
from typing import Any, NoReturn


class OutsideSandbox(RuntimeError):
    """Code that runs outside of the sandbox was called in it."""


class SerializationFormat(enum.Enum):
    """The formats of messages."""

    JSON = "json"
    PICKLE = "pickle"


class TaskContext:
    """What `TaskHook` methods receive."""

    def __init__(self, task_id: str, task_name: str, args: tuple, kwargs: dict, worker_id: str | None = None):
        self.task_id = task_id
        self.task_name = task_name
        self.args = args
        self.kwargs = kwargs
        self.worker_id = worker_id
        self.started_at = self.completed_at = self.status = self.result = self.error = None


class TaskHook:
    """The protocol of hooks: any class with these methods."""

    async def before(self, ctx: TaskContext) -> None: ...

    async def after(self, ctx: TaskContext) -> None: ...

    async def on_error(self, ctx: TaskContext, error: Exception) -> None: ...


def _refuse(name: str) -> NoReturn:
    raise OutsideSandbox(
        f"{name} runs outside of the sandbox, and this is a task: in a task, use fastworker.submit() to start another "
        "task; run clients and workers as programs of their own"
    )


class StandIn:
    """An object whose every use raises `OutsideSandbox`."""

    _name = "this"

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        name = f"{self._name}.{attribute}()"

        def method(*args: Any, **kwargs: Any) -> NoReturn:
            _refuse(name)

        return method

    def __enter__(self) -> NoReturn:
        _refuse(self._name)

    async def __aenter__(self) -> NoReturn:
        _refuse(self._name)

    def __exit__(self, *exception: object) -> None: ...

    async def __aexit__(self, *exception: object) -> None: ...

    def __call__(self, *args: Any, **kwargs: Any) -> NoReturn:
        _refuse(self._name)


def stand_in(name: str) -> type:
    """Returns a class that can be instantiated, and not used."""
    return type(name, (StandIn,), {"_name": name, "__doc__": f"{name} runs outside of the sandbox."})


# The modules of fastworker 0.3.0 that are stand-ins, with their classes and functions.
_MODULES = {
    "cli": "main load_tasks",
    "clients": "Client ServiceDiscovery",
    "clients.client": "Client",
    "clients.discovery": "ServiceDiscovery",
    "gui": "GUIServer ManagementGUI",
    "gui.server": "GUIServer ManagementGUI",
    "integration": "",
    "integration.fastapi": "FastWorker",
    "main": "main",
    "patterns": "NNGPattern PairPattern ReqRepPattern PubSubPattern SurveyorRespondentPattern BusPattern",
    "patterns.nng_patterns": "NNGPattern PairPattern ReqRepPattern PubSubPattern SurveyorRespondentPattern BusPattern",
    "tasks.serializer": "TaskSerializer",
    "tasks.state": "TaskStateMachine",
    "telemetry": "configure_telemetry trace_operation record_task_metric",
    "telemetry.metrics": "record_task_metric",
    "telemetry.tracer": "configure_telemetry trace_operation",
    "utils": "",
    "utils.event_bus": "EventBus",
    "utils.hooks": "",
    "utils.state_machine": "StateMachine",
    "workers": "Worker ControlPlaneWorker SubWorker",
    "workers.control_plane": "ControlPlaneWorker",
    "workers.state": "WorkerState WorkerLifecycle",
    "workers.subworker": "SubWorker",
    "workers.worker": "Worker",
}


def _module(name: str, names: str, known: dict[str, type]) -> types.ModuleType:
    module = types.ModuleType(f"fastworker.{name}", "A stand-in: this part of fastworker runs outside of the sandbox.")
    module.__path__ = []
    for item in names.split():
        known.setdefault(item, stand_in(item))
        setattr(module, item, known[item] if item[0].isupper() else known[item]())

    def missing(item: str) -> type:
        if item.startswith("__"):
            raise AttributeError(item)
        return known.setdefault(item, stand_in(item))

    module.__getattr__ = missing
    return module


def install() -> None:
    """Makes the stand-ins importable."""
    known: dict[str, type] = {
        "SerializationFormat": SerializationFormat,
        "TaskContext": TaskContext,
        "TaskHook": TaskHook,
    }
    for name, names in _MODULES.items():
        module = _module(name, names, known)
        sys.modules[module.__name__] = module
        parent, _, child = module.__name__.rpartition(".")
        setattr(sys.modules[parent], child, module)
