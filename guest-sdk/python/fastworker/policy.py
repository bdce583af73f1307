"""The policy of a task, or options of a follow-up, as JSON values."""

import enum
import math
import re
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tzinfo):
        return getattr(value, "key", None) or str(value)
    return value


def of(**values: Any) -> dict[str, Any]:
    """The values that are set, as JSON."""
    return {key: _plain(value) for key, value in values.items() if value is not None}


DEFAULTS = ("priority", "timeout", "max_retries", "retry_delay", "retry_backoff", "retry_backoff_max")
_PRIORITIES = ("critical", "high", "normal", "low")


def default(key: str, value: Any) -> dict[str, Any]:
    """One default of a task; empty if it is not set. Raises `ValueError` or `TypeError` for what it cannot be."""
    value = _plain(value)
    if value is None:
        return {}
    if key == "priority":
        if not isinstance(value, str) or value.lower() not in _PRIORITIES:
            raise ValueError(f"priority: {value!r} is none of {', '.join(_PRIORITIES)}")
    elif key in ("max_retries", "retry_backoff"):
        kinds, least = (int, 0) if key == "max_retries" else ((int, float), 1)
        if not isinstance(value, kinds) or isinstance(value, bool) or not least <= value < math.inf:
            noun = "a whole number from 0 up" if key == "max_retries" else "a factor from 1 up"
            raise ValueError(f"{key} is {noun}, and not {value!r}")
    else:
        _span(key, value)
    return {key: value}


def _span(key: str, value: Any) -> None:
    """Checks a time that may be zero."""
    is_zero = value == 0 and not isinstance(value, bool) and key != "timeout"
    if not is_zero and not (isinstance(value, str) and _SPAN.fullmatch(value.strip())):
        _time(key, value)


def until(value: str | datetime, zone: Any = None) -> str:
    """The end of a schedule in RFC 3339. A time without an offset is in the task's time zone, or in UTC."""
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(value)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=_zone(zone))
    return moment.isoformat()


def _zone(zone: Any) -> tzinfo:
    if isinstance(zone, tzinfo):
        return zone
    if zone is None or zone.upper() in ("UTC", "ETC/UTC", "Z"):
        return timezone.utc
    from zoneinfo import ZoneInfo

    return ZoneInfo(zone)


def schedule(
    *, every: Any, cron: str | None, count: int | None, end: str | datetime | None, tz: Any, overlap: str | None
) -> dict[str, Any]:
    """The keys of a schedule; empty if there is none, as in the Python FastWorker."""
    if not every and not cron:
        return {}
    if every and cron:
        raise ValueError("Cannot specify both cron_expression and repeat_interval")
    interval = _plain(every)
    if isinstance(interval, (int, float)) and interval < 0:
        raise ValueError("repeat_interval must be positive")
    return of(
        every=every or None,
        cron=cron or None,
        count=count,
        until=until(end, tz) if end else None,
        tz=tz if cron else None,
        overlap=overlap,
    )


_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|TiB)\s*")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*")
_SPAN = re.compile(r"\d+(?:\.\d+)?|(?:\d+(?:\.\d+)?(?:ms|s|min|m|h|d)\s*)+")
_TIMES = ("max_cpu_time", "max_host_time")
_KINDS = ("env", "secret", "dir", "http", "tcp")
NEEDS_MAX = 100
CONNECTIONS_MAX = 2**32 - 1


def limits(**values: Any) -> dict[str, Any]:
    """The limits that are set, in bytes and seconds.

    Raises TypeError for a value of another type, and ValueError for one that is no limit.
    """
    read = {"max_connections": _count} | dict.fromkeys(_TIMES, _time)
    return {key: read.get(key, _size)(key, value) for key, value in values.items() if value is not None}


def _size(key: str, value: Any) -> int:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        if not found:
            raise ValueError(f"{key}: {value!r} is not a size; write bytes, such as 1024, or text such as '64 MiB'")
        number, unit = found.groups()
        value = int(number) * _UNITS[unit] if number.isdigit() else int(float(number) * _UNITS[unit])
    elif not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{key} is bytes, such as 1024, or text such as '64 MiB', and not {type(value).__name__}")
    return _above_zero(key, value)


def _time(key: str, value: Any) -> float:
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, str):
        parts = _TIME.findall(value)
        if not parts or _TIME.sub("", value):
            raise ValueError(f"{key}: {value!r} is not a time; write seconds, such as 1.5, or text such as '500ms'")
        value = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    elif not isinstance(value, (int, float)) or isinstance(value, bool):
        raise TypeError(f"{key} is seconds, a timedelta, or text such as '500ms', and not {type(value).__name__}")
    return _above_zero(key, value)


def _count(key: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{key} is a number, such as 4, and not {type(value).__name__}")
    if value > CONNECTIONS_MAX:
        raise ValueError(f"{key}: {value} is more than {CONNECTIONS_MAX}")
    return _above_zero(key, value)


def _above_zero(key: str, value: Any) -> Any:
    if not 0 < value < math.inf:
        raise ValueError(f"{key}: a limit must be more than zero; without it, the limit is that of the operator")
    return value


def needs(names: Iterable[str] | None) -> dict[str, list[str]]:
    """The names of the grants that a task requires. Raises as `limits` does."""
    if names is None:
        return {}
    if isinstance(names, (str, bytes, dict)) or not isinstance(names, Iterable):
        raise TypeError(f"needs is a list of grants, such as ['http:api.example.com', 'secret:KEY'], and not {names!r}")
    listed = list(names)
    if len(listed) > NEEDS_MAX:
        raise ValueError(f"a task has at most {NEEDS_MAX} needs")
    for name in listed:
        kind, _, rest = name.partition(":") if isinstance(name, str) else ("", "", "")
        if kind not in _KINDS or not rest:
            raise (ValueError if isinstance(name, str) else TypeError)(
                f"needs: {name!r} names no grant; write it like 'env:NAME', 'secret:NAME', 'dir:/data:ro', "
                "'http:api.example.com' or 'tcp:db:5432'"
            )
    return {"needs": listed} if listed else {}
