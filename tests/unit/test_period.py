"""Periods of usage as queries name them."""

from datetime import UTC, datetime

import pytest

from services.llm.accounting.period import USUAL, Period, period_of
from services.runtime.errors import InvalidRequest

NOW = datetime(2026, 11, 20, 20, 30, 15, tzinfo=UTC)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]  # year, month, day and so on


def period(begin: str = "", end: str = "") -> Period:
    return period_of(begin, end, now=NOW)


def refused(begin: str = "", end: str = "") -> str | None:
    with pytest.raises(InvalidRequest) as error:
        period(begin, end)
    return error.value.param


def test_it_is_the_last_thirty_days_unless_said_otherwise() -> None:
    assert period() == Period(utc(2026, 10, 21, 20), NOW)


def test_an_end_alone_has_thirty_days_before_it() -> None:
    end = utc(2026, 3, 31, 12)
    assert period(end="2026-03-31T12:00:00Z") == Period(end - USUAL, end)


def test_a_beginning_alone_lasts_until_now() -> None:
    assert period("2026-11-01") == Period(utc(2026, 11, 1), NOW)


def test_days_are_whole_and_in_utc() -> None:
    assert period("2026-11-01", "2026-11-02") == Period(utc(2026, 11, 1), utc(2026, 11, 2, 23, 59, 59, 999_999))
    assert period("2026-11-01", "2026-11-01") == Period(utc(2026, 11, 1), utc(2026, 11, 1, 23, 59, 59, 999_999))


def test_a_cut_hour_is_counted_whole() -> None:
    cut = period("2026-11-01T10:20:30.5Z", "2026-11-01T10:40:00Z")
    assert cut == Period(utc(2026, 11, 1, 10), utc(2026, 11, 1, 10, 40))


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01T10:00:00Z",
        "2026-11-01t10:00:00z",
        "2026-11-01T12:30:00+02:30",
        "2026-10-31T21:00:00-13:00",
        "2026-11-01T10:00:00.000000000Z",
    ],
)
def test_a_time_may_be_written_in_every_way_of_rfc_3339(text: str) -> None:
    assert period(text).begin == utc(2026, 11, 1, 10)


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "1762000000",
        "2026-11",
        "2026-11-1",
        "2026-02-30",
        "2026-13-01",
        "20261101",
        "2026-W01-1",
        "2026-11-01T10:00:00",
        "2026-11-01 10:00:00Z",
        "2026-11-01T10:00Z",
        "2026-11-01T25:00:00Z",
        "2026-11-01T10:00:00+25:00",
        "2026-11-01T10:00:00.Z",
        "2026-11-01T10:00:00 02:00",
        "2026-11-01T10:00:00Z ",
        "2026-11-01\n",
        "2\u066026-11-01",
        "2026-11-01T1\u0660:00:00Z",
        "0001-01-01",
        "9999-12-31",
        "0001-01-01T00:00:00+14:00",
        "2026-11-01\0",
        "9" * 10_000,
    ],
)
def test_anything_else_is_refused_by_its_name(text: str) -> None:
    assert refused(begin=text) == "from"
    assert refused(end=text) == "to"


@pytest.mark.parametrize("year", ["1000", "2999"])
def test_the_first_and_the_last_year_are_periods_too(year: str) -> None:
    assert period(f"{year}-01-01", f"{year}-12-31").end.year == int(year)
    assert period(end=f"{year}-01-01T00:00:00+14:00").begin.year == int(year) - 1


def test_a_beginning_after_the_end_is_refused() -> None:
    assert refused("2026-11-02", "2026-11-01") == "from"
    assert refused("2026-11-21") == "from"
    assert refused("2026-11-01T10:00:01Z", "2026-11-01T10:00:00Z") == "from"


def test_a_beginning_at_the_end_is_a_period() -> None:
    assert period("2026-11-01T10:30:00Z", "2026-11-01T10:30:00Z").begin == utc(2026, 11, 1, 10)
