"""The names of `fastworker.tasks` in the Python FastWorker."""

from .models import CallbackInfo, Task, TaskPriority, TaskResult, TaskStatus
from .registry import task, task_registry

__all__ = ["CallbackInfo", "Task", "TaskPriority", "TaskResult", "TaskStatus", "task", "task_registry"]
