"""A period of usage, as a query names it: RFC 3339 times or dates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.runtime.errors import InvalidRequest

USUAL = timedelta(days=30)
"""How long a period is whose beginning is not said."""
_DAY = timedelta(days=1, microseconds=-1)  # to its last moment, so that the next day begins after it
_DATE = re.compile(r"[12]\d{3}-\d\d-\d\d", re.ASCII)  # a year that no time zone moves out of what a datetime holds
_TIME = re.compile(rf"{_DATE.pattern}[Tt]\d\d:\d\d:\d\d(\.\d{{1,9}})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True)
class Period:
    """Whole hours, UTC: those from `begin` on that begin before `end`."""

    begin: datetime
    end: datetime


def period_of(begin: str, end: str, *, now: datetime) -> Period:
    """The period from `begin` to `end`; empty, they are `USUAL` before `end`, and `now`. A date is the beginning of its
    day (UTC), as an end the end of it. An hour that is cut is counted whole. Raises `InvalidRequest`."""
    until = _moment(end, "to", into_day=_DAY) if end else now
    since = _moment(begin, "from", into_day=timedelta()) if begin else until - USUAL
    if since > until:
        raise InvalidRequest("Parameter 'from' must not be later than 'to'", param="from")
    return Period(since.replace(minute=0, second=0, microsecond=0), until)


def _moment(text: str, param: str, *, into_day: timedelta) -> datetime:
    """A time as it is; a date so far into its day."""
    try:
        if _DATE.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC) + into_day
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except ValueError:  # the 30th of February, 25 o'clock
        pass
    raise InvalidRequest(
        f"Parameter '{param}' must be a date such as 2026-11-20, or a time such as 2026-11-20T08:00:00Z", param=param
    )
