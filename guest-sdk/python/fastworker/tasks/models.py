"""The models of the Python FastWorker, as hooks see them."""

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any


class TaskPriority(str, Enum):
    """Task priority levels."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class TaskStatus(str, Enum):
    """Task status. A running task is STARTED; RUNNING, QUEUED and ASSIGNED are other names in older files."""

    PENDING = "pending"
    SCHEDULED = "scheduled"
    STARTED = "started"
    RETRYING = "retrying"
    SUCCESS = "success"
    FAILURE = "failure"
    CANCELLED = "cancelled"
    QUEUED = PENDING
    ASSIGNED = PENDING
    RUNNING = STARTED


class _Model:
    """The methods of pydantic's models that hooks use."""

    def model_dump(self) -> dict[str, Any]:
        """The fields as a dict."""
        return asdict(self)  # type: ignore[call-overload]

    def model_dump_json(self) -> str:
        """The fields as JSON."""
        return json.dumps(self.model_dump(), default=str)

    dict = model_dump
    json = model_dump_json


@dataclass
class CallbackInfo(_Model):
    """The address that is called when a task has finished."""

    address: str
    data: Any = None


@dataclass
class Task(_Model):
    """The running task, which `before` and `after` hooks receive."""

    name: str
    id: str = ""
    args: tuple[Any, ...] = ()
    kwargs: Any = field(default_factory=lambda: {})
    priority: TaskPriority = TaskPriority.NORMAL
    created_at: datetime = field(default_factory=datetime.now)
    started_at: datetime | None = None
    completed_at: datetime | None = None
    status: TaskStatus = TaskStatus.PENDING
    result: Any = None
    error: str | None = None
    callback: CallbackInfo | None = None
    retry_count: int = 0
    max_retries: int = 0
    retry_delay: float = 60.0
    retry_backoff: float = 2.0
    retry_backoff_max: float = 3600.0
    timeout: float | None = None
    eta: datetime | None = None
    assigned_worker: str | None = None


@dataclass
class TaskResult(_Model):
    """The result of a task."""

    task_id: str
    status: TaskStatus
    result: Any = None
    error: str | None = None
    started_at: datetime | None = None
    completed_at: datetime | None = None
    callback: CallbackInfo | None = None
