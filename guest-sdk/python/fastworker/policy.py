"""The policy of a task, or options of a follow-up, as JSON values."""

import enum
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
